"""An LMDB environment as of one moment, copied to a place while others read and write it.

Theory: LMDB's own copy reads one snapshot and leaves free pages out, so nothing that was deleted
comes along. It goes to a file without a name, which a crash leaves nothing of, since what is kept
by content must be read before it has its name.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from pathlib import Path

import lmdb

from profile_actors.engine.shipping.pieces import Stored
from profile_actors.storage.files.atomic_files import failed_read
from profile_actors.storage.shipping.depot import Depot, parts_of, stored_file


def shipped(copy_to: Callable[[int], None], directory: Path, depot: Depot) -> tuple[Stored, int]:
    """Copy an environment into a depot; its name there, and the bytes that were new.

    copy_to: writes it to a handle. directory: where the nameless file goes. Cost: the environment
    written once beside, then read twice. Raises CorruptLog, OSError.
    """
    with tempfile.TemporaryFile(dir=directory) as file:
        try:
            copy_to(file.fileno())
        except lmdb.Error as error:
            raise failed_read(error, str(directory)) from error
        path = Path(f"/proc/self/fd/{file.fileno()}")
        os.lseek(file.fileno(), 0, os.SEEK_SET)
        stored = stored_file(path, _no_pause)
        if stored.name in depot.whole():
            return stored, 0
        depot.put(stored, parts_of(path, _no_pause))
    return stored, stored.bytes


def _no_pause() -> None:
    """Nobody waits for this process's interpreter."""
