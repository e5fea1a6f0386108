"""The lock that lets one process at a time own a directory.

Theory: LMDB happily serialises two writers, so it is no fence against a process that Ray thinks
dead. ``flock`` on ``<directory>/lock`` is: the kernel frees it when its holder dies, however it
dies. It works between objects of one process too. The file names its holder's process id for the
error text.

Limits: one machine; not on network file systems. Against a holder whose lock file somebody deleted
there is still the epoch that the log keeps on disk (``log.py``).
"""

from __future__ import annotations

import fcntl
import os
import threading
from pathlib import Path

from profile_actors.errors import FencedOut

RETRY_S = 0.05
"""Between two tries; a process killed by SIGKILL frees its locks within milliseconds."""


class DirectoryLock:
    """Held from construction until ``release``.

    wait_s: how long to wait for a dying predecessor. Raises FencedOut naming who holds the lock.
    """

    def __init__(self, path: Path, wait_s: float) -> None:
        self.path = path
        pause = threading.Event()
        for _ in range(max(1, round(wait_s / RETRY_S))):
            handle = self._try()
            if handle is not None:
                self._handle = handle
                return
            pause.wait(RETRY_S)
        raise FencedOut(
            f"expected to be the only owner, got a lock held by process {self._holder()} - at"
            f" {path} (waited {wait_s} s); stop that process, or wait until it has ended"
        )

    def _try(self) -> int | None:
        handle = os.open(self.path, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # A file deleted between open and flock would lock nothing that others can see.
            if os.fstat(handle).st_ino != os.stat(self.path).st_ino:
                raise BlockingIOError
        except (BlockingIOError, FileNotFoundError):
            os.close(handle)
            return None
        os.ftruncate(handle, 0)
        os.pwrite(handle, f"{os.getpid()}\n".encode(), 0)
        return handle

    def _holder(self) -> str:
        try:
            return self.path.read_text().strip() or "unknown"
        except OSError:
            return "unknown"

    def release(self) -> None:
        """Free the lock; a second call does nothing."""
        if self._handle >= 0:
            os.close(self._handle)
            self._handle = -1
