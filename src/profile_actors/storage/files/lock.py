"""The lock that lets one process at a time own a directory.

Theory: LMDB happily serialises two writers, so it is no fence against a process that Ray thinks
dead. ``flock`` on a file of the directory is: the kernel frees it when its holder dies, however it
dies, so a file that was left behind by a kill or a reboot stops nobody. It works between objects of
one process too, and a forked child lets go of what it inherits.

The file says whose it is, for the error text alone: host, process id, and the process's start in
clock ticks since boot, by which a number that was given to another process since is recognised. Its
time of change is since when the lock is held.

Limits: one machine; not on network file systems. Against a holder whose lock file somebody deleted
there is still the epoch that the log keeps on disk (``log_segment``).
"""

from __future__ import annotations

import datetime
import fcntl
import os
import socket
import threading
import weakref
from pathlib import Path

import msgspec

from profile_actors.errors import UNDECODED, FencedOut

RETRY_S = 0.05
"""Between two tries; a process killed by SIGKILL frees its locks within milliseconds."""


KEEPER_WAIT_S = 0.5
"""For whoever keeps a store and is just ending; who comes second shall be told at once."""


FILE_MODE = 0o600


BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


class Holder(msgspec.Struct, frozen=True):
    """The content of a lock file. start_ticks: of the process, 0 where the system tells none.

    host: its name, empty in files of older releases.
    """

    pid: int
    start_ticks: int
    host: str = ""


_HOLDER = msgspec.json.Decoder(Holder)


class DirectoryLock:
    """Held from construction until ``release``.

    wait_s: how long to wait for a dying predecessor. Raises FencedOut naming who holds the lock and
    since when, OSError if there can be no such file.
    """

    def __init__(self, path: Path, wait_s: float) -> None:
        self.path = path
        self._handle = -1
        pause = threading.Event()
        for _ in range(max(1, round(wait_s / RETRY_S))):
            if self._try():
                _HELD.add(self)
                return
            pause.wait(RETRY_S)
        raise FencedOut(
            f"expected to be the only owner, got a lock held by {_holder(path)} - at {path}"
            f" (waited {wait_s} s); stop that process, or wait until it has ended"
        )

    def _try(self) -> bool:
        handle = os.open(self.path, os.O_RDWR | os.O_CREAT, FILE_MODE)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # A file deleted between open and flock would lock nothing that others can see.
            if os.fstat(handle).st_ino != os.stat(self.path).st_ino:
                raise BlockingIOError
            os.fchmod(handle, FILE_MODE)  # whatever the umask was, or an older release
            os.ftruncate(handle, 0)
            os.pwrite(handle, msgspec.json.encode(_this_process()), 0)
        except (BlockingIOError, FileNotFoundError):
            os.close(handle)
            return False
        except BaseException:
            os.close(handle)
            raise
        self._handle = handle
        return True

    def release(self) -> None:
        """Free the lock, for a child forked meanwhile too; a second call does nothing."""
        handle, self._handle = self._handle, -1
        if handle >= 0:
            fcntl.flock(handle, fcntl.LOCK_UN)
            os.close(handle)

    def forget(self) -> None:
        """In a forked child: let go of the inherited handle; the parent's lock stays."""
        handle, self._handle = self._handle, -1
        if handle >= 0:
            os.close(handle)


def holder_of(path: Path) -> str:
    """Who holds the lock of a file, for people; empty if nobody does. Takes nothing."""
    try:
        handle = os.open(path, os.O_RDONLY)
    except OSError:
        return ""
    try:
        fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return _holder(path)
    finally:
        os.close(handle)
    return ""


def _holder(path: Path) -> str:
    """Who holds a lock, and since when, as far as the file can be believed."""
    try:
        since = datetime.datetime.fromtimestamp(int(path.stat().st_mtime), datetime.UTC)
        holder = _HOLDER.decode(path.read_bytes())
    except (OSError, *UNDECODED):
        return "a process that has not said its number"
    when = f"since {since:%Y-%m-%d %H:%M:%S} UTC" + (f" on {holder.host}" if holder.host else "")
    if start_ticks(holder.pid) == holder.start_ticks:
        return f"process {holder.pid} {when}"
    return f"process {holder.pid} of another container, or one that has just begun, {when}"


def _this_process() -> Holder:
    return Holder(os.getpid(), start_ticks(os.getpid()), socket.gethostname())


def start_ticks(pid: int) -> int:
    """When a process began, in clock ticks since boot; 0 if there is none, or no /proc."""
    return _state_and_start(pid)[1]


def is_process(pid: int, ticks: int) -> bool:
    """Whether the process that began then is the one that has the number, and has not ended."""
    state, began = _state_and_start(pid)
    return bool(ticks) and began == ticks and state not in ("Z", "X")


def _state_and_start(pid: int) -> tuple[str, int]:
    try:
        # Fields are counted after the name, which may hold anything. Source: proc_pid_stat(5).
        fields = Path(f"/proc/{pid}/stat").read_text("latin-1").rpartition(")")[2].split()
        return fields[0], int(fields[19])
    except (OSError, IndexError, ValueError):
        return "", 0


def boot_id() -> str:
    """Which boot of which machine this is; empty where the system tells none."""
    try:
        return BOOT_ID.read_text("ascii").strip()
    except OSError:
        return ""


def _forget_all() -> None:
    for lock in list(_HELD):
        lock.forget()


_HELD: weakref.WeakSet[DirectoryLock] = weakref.WeakSet()


os.register_at_fork(after_in_child=_forget_all)
