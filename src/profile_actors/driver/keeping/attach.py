"""How other processes find a running store: ``attach.json``, believed only while its writer lives.

Theory: whoever runs a store on a Ray of its own writes down where that Ray is, which file has its
token, and who it is itself: host, boot of the machine, process, the process's start. A file that a
crash, a reboot or a backup left behind names a process that is no more, or another one that was
given its number since: then it is not believed, and it needs no deleting. The lock says so too: a
store that nobody keeps is not running, whatever the file says.

It also says which releases of what run there: a driver of another one is told at once, where it
would wait for answers to questions that the store's actors do not know.

The file is written when every partition has answered, and withdrawn before the first is stopped.

Security: file and token have mode 0600; the token stands in its own file and nowhere else: in no
argument list, log, status or error. Whoever may read it may do everything with the store.
"""

from __future__ import annotations

import secrets
import socket
import sys
import time
from contextlib import suppress
from importlib.metadata import version
from pathlib import Path

import msgspec

from profile_actors.driver.terminal import instant_text
from profile_actors.errors import UNDECODED, ConfigError, FencedOut, StoreUnavailable
from profile_actors.storage.files.atomic_files import failed_write, write_whole
from profile_actors.storage.files.layout import StoreLayout
from profile_actors.storage.files.lock import (
    boot_id,
    holder_of,
    is_process,
    start_ticks,
)

FORMAT = 1

PROTOCOL = 1
"""What drivers and actors tell each other. To be raised with every change after which a driver of
the release before cannot use a store of this one, or the other way round."""


class Attachment(msgspec.Struct, frozen=True, kw_only=True):
    """Where a store runs, and who runs it.

    store: its id. address: of Ray's head, host:port. start_ticks: of the process, in clock ticks
    since boot. is_keeper: a process of ``profile-actors start``, which ``stop`` may end; else a
    program that has called ``pf.start``. protocol, versions: ``PROTOCOL`` and what runs, there.
    """

    store: str
    address: str
    token_file: str
    host: str
    boot: str
    pid: int
    start_ticks: int
    since: int
    is_keeper: bool
    format: int = FORMAT
    protocol: int = 0
    versions: dict[str, str] = {}

    @property
    def keeper(self) -> str:
        """Who it is, for people."""
        return f"process {self.pid} since {instant_text(self.since)} on {self.host}"

    @property
    def is_alive(self) -> bool:
        """Whether the process that wrote this is still the one with that number."""
        return self.boot == boot_id() and is_process(self.pid, self.start_ticks)


_ATTACHMENT = msgspec.json.Decoder(Attachment)


def publish(
    data: Path, store: str, address: str, token: str, pid: int, *, is_keeper: bool
) -> Attachment:
    """Let others find the store; pid: of this process. Raises StorageFull."""
    place = StoreLayout(data)
    found = Attachment(
        store=store, address=address, token_file=str(place.token), host=socket.gethostname(),
        boot=boot_id(), pid=pid, start_ticks=start_ticks(pid), since=time.time_ns() // 1_000_000,
        is_keeper=is_keeper, protocol=PROTOCOL, versions=versions_here(),
    )  # fmt: skip
    try:
        write_whole(place.token, [token.encode()])
        write_whole(place.attach, [msgspec.json.format(msgspec.json.encode(found)), b"\n"])
    except OSError as error:
        withdraw(data)
        raise failed_write(error, str(place.attach)) from None
    return found


def withdraw(data: Path) -> None:
    """Let nobody find the store any more."""
    for path in (StoreLayout(data).attach, StoreLayout(data).token):
        with suppress(OSError):
            path.unlink()


def written(data: Path) -> Attachment | None:
    """What the file says, true or not; None if there is none that can be read."""
    try:
        content = StoreLayout(data).attach.read_bytes()
        return _ATTACHMENT.decode(content)
    except (OSError, *UNDECODED):
        return None


def running(data: Path) -> Attachment | None:
    """Where the store of a directory runs; None if it does not, or nobody else may attach to it."""
    found = written(data)
    if found is None or found.format != FORMAT or not found.is_alive:
        return None
    return found if holder_of(StoreLayout(data).keeper) else None


def found_running(data: Path) -> Attachment:
    """Where the store runs. Raises ConfigError where there is none, StoreUnavailable."""
    found = running(data)
    if found is not None:
        return found
    if not StoreLayout(data).settings.is_file():
        raise ConfigError(
            f"expected a store, got no store.json - at {data}; make one with pf.start, or name"
            " another directory"
        )
    holder = holder_of(StoreLayout(data).keeper)
    if holder:
        raise StoreUnavailable(
            f"expected a running store to attach to, got one held by {holder}, which is opening or"
            " closing it, or has it on a cluster or a Ray of its own - at"
            f" {data}; try again in a moment, or with RAY_ADDRESS as in that process"
        )
    left = written(data)
    told = "" if left is None else f" ({left.keeper} ran it, and has ended without a word)"
    raise StoreUnavailable(
        f"expected a running store, got none{told} - at {data}; start it with `profile-actors"
        " start`, or open it with pf.start"
    )


def refuse_attached(data: Path) -> None:
    """Raises FencedOut if somebody runs the store, and others can attach to it."""
    found = running(data)
    if found is not None:
        raise FencedOut(
            f"expected a store that nobody runs, got one that {found.keeper} runs - at {data}; use"
            " pf.connect to attach to it (verbs of the command line do so by themselves), or stop"
            " it first: profile-actors stop"
        )


def versions_here() -> dict[str, str]:
    """What this process runs. Of Python as far as Ray wants the same: without the last number."""
    found = {name: version(name) for name in ("profile-actors", "ray")}
    return found | {"python": "{}.{}".format(*sys.version_info)}


def check_understood(found: Attachment) -> None:
    """Raises ConfigError if what runs a store and this process do not understand each other."""
    here, there = versions_here(), found.versions
    differ = [name for name in ("ray", "python") if here[name] != there.get(name, here[name])]
    if found.protocol == PROTOCOL and not differ:
        return

    def told(versions: dict[str, str], protocol: int) -> str:
        names = ["profile-actors", *differ]
        return ", ".join(f"{n} {versions.get(n, 'of before')}" for n in names) + (
            f" (protocol {protocol})"
        )

    raise ConfigError(
        f"expected a store that is run by {told(here, PROTOCOL)}, got one that {found.keeper} runs"
        f" by {told(there, found.protocol)} - at connect; use that release here, or stop the store"
        " and start it with this one"
    )


def token_of(found: Attachment) -> str:
    """The token of a running store's Ray. Raises ConfigError at once if it cannot be read."""
    try:
        token = Path(found.token_file).read_text("ascii").strip()
        why = "" if token else "an empty file"
    except (OSError, UnicodeError) as error:
        token, why = "", getattr(error, "strerror", None) or "something else"
    if why:
        raise ConfigError(
            f"expected the token of the store that {found.keeper} runs, got {why} - at"
            f" {found.token_file}; only the user who started the store may attach (or whoever may"
            " read this file)"
        )
    return token


def new_token() -> str:
    """A token for a Ray that begins."""
    return secrets.token_hex(32)
