"""The keeper: a process that runs a store until it is told to stop (``profile-actors start``).

Theory: it takes the store's lock, starts Ray, opens the store, writes down where it is, and waits.
SIGTERM, SIGINT and SIGHUP make it flush, write checkpoints, and end Ray. Ray's processes share its
fate by themselves, so a keeper that is killed leaves nothing running; what was acknowledged is in
the log. If a process of Ray's head dies, no call would be answered any more: the keeper ends the
others and itself, with an error in its log. It watches over nothing else; Ray restarts actors.

Whoever launches a keeper waits at a pipe: for the word that every partition has answered, or for
the error. If he is gone by then, the keeper stops: nobody knows that it runs.
"""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack, nullcontext, suppress
from pathlib import Path
from typing import Any, BinaryIO

from profile_actors import errors
from profile_actors.driver.keeping.attach import (
    Attachment,
    refuse_attached,
    running,
    withdraw,
)
from profile_actors.errors import ConfigError, FencedOut, ProfileActorsError, StoreUnavailable
from profile_actors.storage.files.atomic_files import DIRECTORY_MODE, FILE_MODE
from profile_actors.storage.files.layout import StoreLayout
from profile_actors.storage.files.lock import KEEPER_WAIT_S, RETRY_S, holder_of

LOOK_S = 10.0
"""Between two looks at the processes of Ray's head; the end of one is told at once (SIGCHLD)."""


STOP_WAIT_S = 600.0
"""How long ``stop`` waits for a keeper that writes its checkpoints."""


STOPPED = "stopped: flushed, with checkpoints"


GRACE_S = 3.0
"""What is left of a killed keeper's Ray has so long to end by itself, as nearly all of it does."""


LAST = """
import os, signal, sys, time
session, grace_s = int(sys.argv[1]), float(sys.argv[2])
sys.stdin.buffer.read()
time.sleep(grace_s)
for name in os.listdir("/proc"):
    try:
        if name.isdigit() and int(name) != os.getpid() and os.getsid(int(name)) == session:
            os.kill(int(name), signal.SIGKILL)
    except OSError:
        pass
"""
"""The program of a process that outlives the keeper by a moment. Its input ends with the keeper."""


PIPE_BYTES = 1 << 16
"""What a pipe holds: all that has come."""


SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


def launch(
    data: Path, partitions: int | None, clock: str | None, metrics_port: int | None = None
) -> Attachment:
    """Start a keeper in the background; returns when every partition has answered.

    It outlives this process and its terminal. Raises what ``start`` raises.
    """
    _refuse(data)
    command = [sys.executable, "-m", "profile_actors", "start", "--foreground", "--data", str(data)]
    command += [] if partitions is None else ["--partitions", str(partitions)]
    command += [] if clock is None else ["--clock", clock]
    command += [] if metrics_port is None else ["--metrics-port", str(metrics_port)]
    reader, writer = os.pipe()
    with os.fdopen(reader, "rb") as answer:
        try:
            with _log(data) as log:
                process = subprocess.Popen(
                    [*command, "--ready", str(writer)], stdin=subprocess.DEVNULL, stdout=log,
                    stderr=log, start_new_session=True, pass_fds=[writer],
                )  # fmt: skip
        finally:
            os.close(writer)
        try:
            told = answer.read()
        except BaseException:
            process.terminate()  # Ctrl-C: nobody wants it any more
            process.wait()
            raise
    return _launched(data, process, told)


def _refuse(data: Path) -> None:
    """Raises FencedOut at once where somebody has the store, before a process is started."""
    end = time.monotonic() + KEEPER_WAIT_S
    refuse_attached(data)
    while holder := holder_of(StoreLayout(data).keeper):
        if time.monotonic() > end:
            raise FencedOut(
                f"expected to be the only owner, got a lock held by {holder} - at {data}; stop that"
                " process, or wait until it has ended"
            )
        time.sleep(RETRY_S)


def _log(data: Path) -> BinaryIO:
    """A new log for a keeper. Raises ConfigError."""
    path = StoreLayout(data).keeper_log
    try:
        data.mkdir(DIRECTORY_MODE, parents=True, exist_ok=True)
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND, FILE_MODE)
    except OSError as error:
        raise ConfigError(
            f"expected a directory to write in, got {error.strerror} - at {data}; make it yours, or"
            " name another"
        ) from None
    return os.fdopen(handle, "wb")


def _launched(data: Path, process: subprocess.Popen[bytes], told: bytes) -> Attachment:
    """What the keeper said. Raises what it raised."""
    try:
        said: dict[str, Any] = json.loads(told)
    except ValueError:
        said = {}
    if said.get("is_ready"):
        found = running(data)
        if found is not None and found.pid == process.pid:
            # The keeper is nobody's child from now on: that it still runs is no oversight.
            process.returncode = 0
            return found
        process.terminate()
    process.wait()
    kind = getattr(errors, str(said.get("error")), None)
    if isinstance(kind, type) and issubclass(kind, ProfileActorsError):
        raise kind(said["text"])
    raise StoreUnavailable(
        f"expected a store that opens, got a keeper that ended with code {process.returncode} - at"
        f" {data}; its last words: {_last_words(data) or 'none'}"
    )


def _last_words(data: Path) -> str:
    with suppress(OSError):
        lines = StoreLayout(data).keeper_log.read_text("utf-8", "replace").split("\n")
        return next((line for line in reversed(lines) if line.strip()), "")
    return ""


def keep(
    data: Path,
    partitions: int | None,
    clock: str | None,
    ready: int | None,
    beside: Callable[[], AbstractContextManager[object]] = nullcontext,
) -> int:
    """Run a store in this process until a signal; returns the exit code.

    ready: a pipe for the first word; None prints it. beside: entered before the store is opened,
    and left before it is closed.
    """
    from profile_actors.driver.keeping.head import without_addons
    from profile_actors.driver.starting.starting import opened

    without_addons()
    os.environ.pop("RAY_ADDRESS", None)  # a Ray of the store's own, beside any other
    word = _Word(ready)
    if ready is None:
        _log(data).close()
    last = _last_process()
    company = ExitStack()
    try:
        company.enter_context(beside())
        placement = opened(data, partitions, clock, None, is_keeper=True)
    except ProfileActorsError as error:
        company.close()
        if ready is None:
            raise
        word.say(error=type(error).__name__, text=str(error))
        return 1
    heard = _hear()
    if not word.say(is_ready=True, pid=os.getpid(), partitions=len(placement.partitions)):
        heard.stop_now()  # who launched this has died, and nobody knows of it
    lost = _wait(heard)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    if lost:
        _give_up(data, lost)
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)
    company.close()
    placement.stop()
    if last is not None:
        last.kill()
    print(STOPPED, flush=True)
    if ready is None:  # what is printed is not in the log
        StoreLayout(data).keeper_log.write_text(STOPPED + "\n")
    return 0


def _last_process() -> subprocess.Popen[bytes] | None:
    """A process that ends what outlives a killed keeper: Ray's agents try for a minute to report
    the death of their node to a head that is dead too. It ends processes of the keeper's session
    alone, so there is none for a keeper in a session of somebody else (a terminal's)."""
    if os.getsid(0) != os.getpid():
        return None
    words = [sys.executable, "-I", "-S", "-c", LAST, str(os.getpid()), str(GRACE_S)]
    return subprocess.Popen(
        words, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )


class _Word:
    """The way to whoever waits for the keeper to be ready."""

    def __init__(self, ready: int | None) -> None:
        self._ready = ready

    def say(self, **said: Any) -> bool:
        """Whether it was heard."""
        if self._ready is None:
            print(f"ready: process {said['pid']}, {said['partitions']} partitions", flush=True)
            return True
        handle, self._ready = self._ready, None
        with suppress(OSError):
            os.write(handle, json.dumps(said).encode())
            os.close(handle)
            return True
        return False


class Heard:
    """What signals tell: to stop, or that a child has ended.

    A signal comes in the middle of anything, also of waiting for it and of the handler of another
    one. So handlers take no lock, as setting an event of ``threading`` does: one would wait for
    ever for what it has interrupted. Python writes each signal's number into a pipe, which is
    waited at.
    """

    def __init__(self) -> None:
        self.is_told_to_stop = False
        self._reader, self._writer = os.pipe()
        os.set_blocking(self._reader, False)
        os.set_blocking(self._writer, False)
        signal.set_wakeup_fd(self._writer, warn_on_full_buffer=False)

    def stop_now(self, *_: object) -> None:
        self.is_told_to_stop = True

    def wait(self, seconds: float) -> None:
        """Until something is heard, or for so long."""
        come = select.poll()
        come.register(self._reader, select.POLLIN)
        if come.poll(seconds * 1000) and set(SIGNALS) & set(os.read(self._reader, PIPE_BYTES)):
            self.is_told_to_stop = True


def _hear() -> Heard:
    """Hear of being told to stop, and of children that end, from now on."""
    heard = Heard()
    for number in SIGNALS:
        signal.signal(number, heard.stop_now)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    return heard


def _wait(heard: Heard) -> str:
    """Until told to stop: empty then; else which process of Ray's head has died."""
    from profile_actors.driver.keeping.head import dead_processes

    while not heard.is_told_to_stop:
        lost = dead_processes()
        if lost:
            return lost
        heard.wait(LOOK_S)
    return ""


def _give_up(data: Path, lost: str) -> None:
    """End what is left of Ray, and this process: nothing would be answered any more."""
    from profile_actors.driver.keeping.head import end_at_once

    withdraw(data)
    print(
        f"expected Ray's processes to live, got {lost} ended - at {data}; what was acknowledged is"
        " in the log: start the store again",
        flush=True,
    )
    end_at_once()
    os._exit(1)


def stop(data: Path) -> Attachment | None:
    """Tell the keeper of a store to stop, and wait until it has ended; None if there was none.

    Raises ConfigError where the store is a program's own, StoreUnavailable where it is just being
    opened, or did not end as it should.
    """
    found = running(data)
    if found is None:
        holder = holder_of(StoreLayout(data).keeper)
        if holder:
            raise StoreUnavailable(
                f"expected a store that `profile-actors start` runs, got one held by {holder} - at"
                f" {data}; it is just being opened or closed, or belongs to a program: end that"
            )
        return None
    if not found.is_keeper:
        raise ConfigError(
            f"expected a store that `profile-actors start` runs, got one that the program of"
            f" {found.keeper} has opened - at {data}; it stops when that program closes it"
        )
    with suppress(ProcessLookupError):
        os.kill(found.pid, signal.SIGTERM)
    end = time.monotonic() + STOP_WAIT_S
    while found.is_alive:
        if time.monotonic() > end:
            raise StoreUnavailable(
                f"expected the store to end within {STOP_WAIT_S:g} s, got {found.keeper} still at"
                f" it - at {data}; wait, or end that process: nothing acknowledged is lost then"
            )
        time.sleep(RETRY_S)
    if _last_words(data) != STOPPED:
        raise StoreUnavailable(
            f"expected the store to say that it was flushed, got: {_last_words(data) or 'nothing'}"
            f" - at {StoreLayout(data).keeper_log}; nothing acknowledged is lost: the next start"
            " reads it from the log"
        )
    return found
