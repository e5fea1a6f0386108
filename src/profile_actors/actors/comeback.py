"""A log that a full disk has stopped comes back by itself when there is room.

Theory. After a failed commit nobody knows what of it reached the disk, and only a log that is
opened anew may go on (``lmdb_log.py``). LMDB opens a file once in a process, and readers may hold
views of it: so the process ends, and Ray starts the actor again, as after any crash. Before that a
write like the log's next is tried beside it, since a quota or a limit on a file's size is not seen
in the free bytes of a disk.

Limits: a disk that takes this write and fails the log's is tried again and again, at most every
REST_S, and only when rows come.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable

from profile_actors.errors import Halt, StorageFull
from profile_actors.storage.environment import DATA
from profile_actors.storage.files.atomic_files import can_grow
from profile_actors.storage.files.layout import PartitionLayout
from profile_actors.storage.files.manifest import load_manifest

REST_S = 2.0
"""How long a log stands still after a failed write: its readers are served meanwhile."""


class Comeback:
    """Looks after one log: a partition's, or its copy. halted: why nothing is written to it any
    more. lack: the error while there is too little room."""

    def __init__(
        self,
        halted: Callable[[], BaseException | None],
        paths: PartitionLayout,
        lack: Callable[[], StorageFull | None],
    ) -> None:
        self._halted = halted
        self._paths = paths
        self._lack = lack
        self._due = 0.0

    def look(self) -> None:
        """End the process if its log was stopped by a full disk that has room again."""
        if not isinstance(self._halted(), StorageFull):
            return
        now = time.monotonic()
        self._due = self._due or now + REST_S
        if now >= self._due and self._lack() is None and self._has_room():
            os.kill(os.getpid(), signal.SIGKILL)

    def _has_room(self) -> bool:
        """Whether a file as long as the log segment that is written could be written on."""
        try:
            manifest = load_manifest(self._paths.manifest)
            assert manifest is not None, self._paths.manifest
            size = (self._paths.log / manifest.segments[-1].name / DATA).stat().st_size
        except (Halt, OSError):
            return False
        return can_grow(self._paths.log / "probe", size)
