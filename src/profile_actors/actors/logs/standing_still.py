"""A sequencer's part in an erasure: its process ends, and the next one changes the files first.

Theory: whoever is to forget must not be told again by somebody who still knows. So all sequencers
stand still before the first file changes: each process ends, as in a crash, which costs nothing
that was acknowledged, and the one that Ray starts in its place says that it stands before it opens
anything. When all do, each takes the person out of its log, and opens what is left: it folds that
as after any loss of its checkpoints. What was on its way between them is made from logs, so it goes
out without her. A crash at any step is one more start.
"""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

from profile_actors.actors.calls import Remote
from profile_actors.actors.hooks import Hook
from profile_actors.config import Config
from profile_actors.engine.erasure.eraser import Eraser
from profile_actors.errors import StoreUnavailable
from profile_actors.storage.erasure.erasure_record import ErasedPart, Erasing
from profile_actors.storage.erasure.rewriting import rewrite
from profile_actors.storage.files.atomic_files import make_directory
from profile_actors.storage.files.layout import PartitionLayout, sequencer_of
from profile_actors.storage.files.lock import DirectoryLock

LOOK_S = 0.05
"""How often is asked whether all stand still."""


LOCK_WAIT_S = 5.0


def leave(enlisted: int | None, number: int) -> None:
    """End this process, unless it was begun for the erasure of this number or a later one.

    enlisted: how many there were when it opened its log, None if it has none open.
    """
    if enlisted is None or enlisted < number:
        os.kill(os.getpid(), signal.SIGKILL)


def erase_here(
    coordinator: Remote, index: int, erasing: Erasing, path: str, config: Config, hook: Hook
) -> None:
    """Stand still until all do, then take the person out of the log. Raises FencedOut while a
    predecessor lives, StoreUnavailable, CorruptLog, StorageFull."""
    name, paths = sequencer_of(index), PartitionLayout(Path(path))
    make_directory(paths.directory)
    lock = DirectoryLock(paths.lock, LOCK_WAIT_S)
    try:
        deadline = time.monotonic() + config.call_timeout_s
        while not coordinator.call("erasures", "stand", name):
            if time.monotonic() > deadline:
                raise StoreUnavailable(
                    f"expected all partitions to stand still for an erasure, got some that do not"
                    f" within {config.call_timeout_s:g} s - at {path}; it goes on by itself"
                )
            time.sleep(LOOK_S)
        hook("erase.standing")
        eraser = Eraser(erasing.ones, erasing.cutoffs)

        def note(files: list[Path]) -> None:
            told = tuple(str(file.relative_to(paths.directory)) for file in files)
            part = ErasedPart(eraser.rows, eraser.identities, told)
            coordinator.call("erasures", "note", name, part)

        rewrite(paths.directory, config.log_map_bytes, eraser.erased, hook, note)
        coordinator.call("copies", "renew", index)
        hook("erase.done")
        coordinator.call("erasures", "done", name)
    finally:
        lock.release()
