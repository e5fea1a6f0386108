"""Checkpoints at a standby: the files that its partition has saved; a promotion folds little then.

Theory: checkpoints and runs never change once they are there, so a copy is complete or is not
there: written aside, synced, renamed; runs first, since a checkpoint names them. All of it is
derived: what is missing, or is replaced while it is copied, costs the fold of more entries.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import NamedTuple

from profile_actors.errors import LostLog
from profile_actors.storage.checkpoint_files import CHECKPOINT_NAME, CHECKPOINTS_KEPT, SUFFIX
from profile_actors.storage.files.atomic_files import (
    aside_of,
    make_directory,
    make_file,
    publish_aside,
    remove_tree,
)
from profile_actors.storage.files.layout import PartitionLayout
from profile_actors.storage.lmdb_feed import begin_at

CHUNK_BYTES = 8 << 20
"""What of a file travels at a time."""


class SavedFile(NamedTuple):
    """A file in a partition's directory: its path there, and its bytes."""

    path: str
    size: int


def saved_in(directory: Path) -> list[SavedFile]:
    """The newest checkpoint and every run, runs first; [] before the first checkpoint."""
    paths = PartitionLayout(directory)
    newest = max(_positions(paths), default=None)
    if newest is None:
        return []
    files = [*sorted(paths.runs.glob(f"*{SUFFIX}")), _path_of(paths, newest)]
    return [SavedFile(str(file.relative_to(directory)), file.stat().st_size) for file in files]


def read_part(directory: Path, path: str, offset: int) -> bytes:
    """Up to CHUNK_BYTES of one of them. Raises LostLog for one that is not there any more."""
    if path not in {saved.path for saved in saved_in(directory)}:
        raise LostLog(f"expected {path}, got it replaced - at {directory}; ask for what is there")
    with open(directory / path, "rb") as file:
        file.seek(offset)
        return file.read(CHUNK_BYTES)


def copy_saved(
    directory: Path, saved: Iterable[SavedFile], read: Callable[[str, int], bytes]
) -> int:
    """Have those files in a standby's directory as well, and no others but one checkpoint before;
    how many came. read: a part of a file of the partition, from an offset on. Raises what that
    does, OSError."""
    wanted = list(saved)
    came = 0
    for file in wanted:
        own = directory / file.path
        if own.is_file() and own.stat().st_size == file.size:
            continue
        make_directory(own.parent)
        try:
            _copy(file, aside_of(own), read)
        except BaseException:
            aside_of(own).unlink(missing_ok=True)  # on a full disk it is the log's room
            raise
        publish_aside(own)
        came += 1
    if came:
        _drop(directory, {Path(file.path).name for file in wanted})
    return came


def _copy(file: SavedFile, to: Path, read: Callable[[str, int], bytes]) -> None:
    make_file(to)
    with open(to, "wb") as out:
        while out.tell() < file.size:
            part = read(file.path, out.tell())
            if not part:
                raise LostLog(f"expected {file.size} bytes, got {out.tell()} - at {file.path}")
            out.write(part)
        out.flush()
        os.fsync(out.fileno())


def _drop(directory: Path, kept: set[str]) -> None:
    paths = PartitionLayout(directory)
    for position in sorted(_positions(paths), reverse=True)[CHECKPOINTS_KEPT:]:
        _path_of(paths, position).unlink()
    if len(_positions(paths)) < CHECKPOINTS_KEPT:
        for run in paths.runs.glob(f"*{SUFFIX}"):
            if run.name not in kept:
                run.unlink()


def drop_beyond(directory: Path, head: int) -> None:
    """Delete checkpoints of more entries than a standby has: its end was taken away."""
    paths = PartitionLayout(directory)
    for position in _positions(paths):
        if position > head:
            _path_of(paths, position).unlink()


def begin_feed(directory: Path) -> None:
    """A standby is to be in force: what changed before its newest checkpoint is not told by it, so
    that it need not be folded."""
    paths = PartitionLayout(directory)
    newest = max(_positions(paths), default=None)
    remove_tree(paths.feed)
    if newest is not None:
        begin_at(paths.feed, newest)


def _positions(paths: PartitionLayout) -> list[int]:
    found = (CHECKPOINT_NAME.fullmatch(path.name) for path in paths.checkpoints.glob("*"))
    return [int(one.group(1)) for one in found if one is not None]


def _path_of(paths: PartitionLayout, position: int) -> Path:
    return paths.checkpoints / f"checkpoint-{position:020d}{SUFFIX}"
