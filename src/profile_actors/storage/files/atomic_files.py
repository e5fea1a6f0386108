"""Files that are there whole or not at all, and the words that storage errors use.

Theory: a file is written aside (``<name>.aside``), synced, renamed over its name, and its
directory is synced; a crash leaves the old file or the new one, and perhaps an ``.aside`` that the
next opening deletes. LMDB does not sync the directories it makes files in: whoever creates an
environment does.

Directories are made 0700 and files 0600, whatever the umask: a store holds what people did.

Crash points: storage calls ``crash_point(name)`` where a test may kill the process. The names, in
the order of a log's beginning, one append with rotation and one checkpoint, are CRASH_POINTS; in
production the hook does nothing.
"""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path

import lmdb

from profile_actors.engine.log.ports import Buffer
from profile_actors.errors import CorruptLog, Halt, StorageFull

CrashPoint = Callable[[str], None]


CRASH_POINTS = (
    "log.named",
    "log.rotate.segment_made",
    "log.rotate.manifest_aside",
    "log.rotate.manifest_renamed",
    "log.before_put",
    "log.before_commit",
    "log.after_commit",
    "feed.after_append",
    "checkpoint.half_written",
    "checkpoint.aside",
    "checkpoint.renamed",
)


ASIDE = ".aside"


DIRECTORY_MODE = 0o700


FILE_MODE = 0o600


FULL_ERRNOS = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def no_crash(name: str) -> None:
    """The crash point of production: go on."""


def sync_directory(path: Path) -> None:
    """Make the directory's entries durable. Raises OSError."""
    handle = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def make_directory(path: Path) -> None:
    """Create a directory durably, its parents too; nothing happens if it is there."""
    if path.is_dir():
        return
    make_directory(path.parent)
    path.mkdir(exist_ok=True)
    path.chmod(DIRECTORY_MODE)
    sync_directory(path.parent)


def make_file(path: Path) -> None:
    """Make an empty file that its owner alone may read and write; one that is there is emptied."""
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, FILE_MODE)
    try:
        os.fchmod(handle, FILE_MODE)
    finally:
        os.close(handle)


def make_private(paths: Iterable[Path]) -> None:
    """Take everybody else's rights from files and directories that are there (older stores gave
    some). What is not ours to change, or goes meanwhile, stays as it is. Cost: one stat each.
    """
    for path in paths:
        with suppress(OSError):
            wanted = DIRECTORY_MODE if path.is_dir() else FILE_MODE
            if not path.is_symlink() and path.stat().st_mode & 0o777 != wanted:
                path.chmod(wanted)


def aside_of(path: Path) -> Path:
    return path.with_name(path.name + ASIDE)


def publish_aside(path: Path, crash_point: CrashPoint = no_crash, label: str = "file") -> None:
    """Give a completely written and synced aside file its name, durably."""
    crash_point(f"{label}aside")
    os.replace(aside_of(path), path)
    sync_directory(path.parent)
    crash_point(f"{label}renamed")


def write_whole(
    path: Path, parts: Iterable[Buffer], crash_point: CrashPoint = no_crash, label: str = "file."
) -> None:
    """Write (or replace) a file: aside, fsync, rename, fsync of the directory. Raises OSError."""
    make_file(aside_of(path))
    with open(aside_of(path), "wb") as file:
        for part in parts:
            file.write(part)
        file.flush()
        os.fsync(file.fileno())
    publish_aside(path, crash_point, label)


def remove_asides(directory: Path) -> None:
    """Delete what a crash left half-written in a directory."""
    for path in directory.glob(f"*{ASIDE}"):
        path.unlink()


def remove_tree(path: Path) -> None:
    """Delete a directory with all in it, durably; nothing happens if it is not there."""
    if path.exists():
        shutil.rmtree(path)
        sync_directory(path.parent)


def free_bytes(path: Path) -> int:
    """Bytes that may still be written to the disk that holds an existing path. Cost: one call."""
    found = os.statvfs(path)
    return found.f_bavail * found.f_frsize


PROBE_BYTES = 1 << 20


def can_grow(path: Path, size: int) -> bool:
    """Whether PROBE_BYTES can be written durably after the first ``size`` bytes of a new file.

    path: of that file, which is deleted again; a crash leaves an aside.
    """
    probe = aside_of(path)
    try:
        make_file(probe)
        with open(probe, "wb") as file:
            file.seek(size)
            file.write(bytes(PROBE_BYTES))
            file.flush()
            os.fsync(file.fileno())
    except OSError:
        return False
    finally:
        probe.unlink(missing_ok=True)
    return True


class Room:
    """Whether there is room to write. probe: bytes free where ``path`` is, asked each time."""

    def __init__(
        self, path: Path, min_free_bytes: int, probe: Callable[[Path], int] = free_bytes
    ) -> None:
        self._path = path
        self._min_free_bytes = min_free_bytes
        self._probe = probe

    def lack(self) -> StorageFull | None:
        """The error that refuses a write before anything is written, None if there is room."""
        try:
            free = self._probe(self._path)
        except OSError:
            return None  # the write itself says what is wrong
        if free >= self._min_free_bytes:
            return None
        return StorageFull(
            f"expected {self._min_free_bytes} bytes free or more (Config.min_free_bytes), got"
            f" {free} - at {self._path}; nothing was written: free disk space, then send it again"
            " (reads go on; writing does by itself when there is room)"
        )

    def check(self) -> None:
        """Raises StorageFull if there is too little room."""
        lack = self.lack()
        if lack is not None:
            raise lack


def _says(error: OSError | lmdb.Error, numbers: tuple[int, ...]) -> bool:
    if isinstance(error, OSError):
        return error.errno in numbers
    return any(os.strerror(number) in str(error) for number in numbers)


def failed_write(error: OSError | lmdb.Error, where: str) -> Halt:
    """The error to raise for a failed write; ``where`` names file and position.

    LMDB reports a write that the disk cut short as an input/output error: there it means full, too.
    """
    is_full = isinstance(error, (lmdb.MapFullError, lmdb.DiskError)) or _says(error, FULL_ERRNOS)
    if is_full or _says(error, (errno.EIO,)):
        return StorageFull(
            f"expected room to write, got '{error}' (the disk is full, or failing) - at {where};"
            " free disk space, or check the disk; writing goes on by itself when there is room"
        )
    return CorruptLog(
        f"expected to write, got '{error}' - at {where}; check the disk and the file's permissions,"
        " then restart"
    )


def failed_read(error: Exception, where: str) -> CorruptLog:
    """The error to raise for unreadable stored bytes; ``where`` names file and position."""
    return CorruptLog(
        f"expected readable stored data, got '{error}' - at {where}; check the disk, then restore"
        " the file from a replica or backup"
    )
