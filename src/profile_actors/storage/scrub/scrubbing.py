"""Everything a sequencer has on its disk, read again and compared with its checksum, in slices.

Theory: what nobody reads nobody misses until it is needed, and by then the other copy may be gone
too. So all of it is read now and then, whatever was compared before: log entries in order, then the
files of checkpoints and runs, then the blocks of the change feed. A slice says where the next one
goes on; a mark holds for another process as well, so a pass is not begun anew by a restart.

Nothing is locked: log entries below the head and saved files do not change, and what is deleted
meanwhile is not damaged.

Limits: what the page cache still has is compared as it is there. LMDB's tree pages have no
checksums: damage of them shows as an entry that is not found.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Literal, Protocol

import msgspec

from profile_actors.errors import CorruptLog
from profile_actors.storage.checkpoint_files import SUFFIX
from profile_actors.storage.files.array_files import map_arrays
from profile_actors.storage.files.layout import PartitionLayout
from profile_actors.storage.lmdb_log import LmdbLog


class Mark(msgspec.Struct, frozen=True, array_like=True):
    """Where a pass goes on: at this log entry, after the file of this name, or at this block."""

    stage: Literal["log", "files", "feed"] = "log"
    next: int = 0
    name: str = ""


class Fault(msgspec.Struct, frozen=True):
    """Something damaged. at: a log entry's position, or the name of a derived file."""

    at: Mark
    text: str


class Slice(msgspec.Struct, frozen=True):
    """What was read at a time. mark: where to go on, None at the end of a pass. read: log entries,
    files, or blocks."""

    mark: Mark | None
    read: int
    bytes: int
    faults: tuple[Fault, ...] = ()


class Blocks(Protocol):
    """The change feed. read: see ``LmdbFeed``; it may have damaged blocks made anew."""

    def read(self, after: int, limit_bytes: int) -> list[tuple[int, bytes]]: ...


def scrub_slice(
    log: LmdbLog,
    directory: Path,
    blocks: Blocks | None,
    mark: Mark,
    limit_bytes: int,
    go_on: Callable[[], bool],
) -> Slice:
    """Read on from a mark until ``limit_bytes`` are passed, or ``go_on`` says no between two reads.

    directory: the sequencer's. Cost: one hash pass over what is read, nothing is copied but small
    entries and blocks. Raises FencedOut once the log is closed.
    """
    if mark.stage == "log":
        return _entries(log, mark, limit_bytes, go_on)
    if mark.stage == "files":
        return _file(directory, mark, blocks is not None)
    assert blocks is not None, mark
    return _blocks(blocks, mark, limit_bytes)


def _entries(log: LmdbLog, mark: Mark, limit_bytes: int, go_on: Callable[[], bool]) -> Slice:
    position, size = mark.next, 0
    faults: list[Fault] = []
    while position < log.head() and size < limit_bytes:
        found, fault = log.checked(position)
        size += found
        if fault is not None:
            faults.append(Fault(Mark("log", position), fault))
        position += 1
        if not go_on():
            break
    done = position >= log.head()
    following = Mark("files") if done else Mark("log", position)
    return Slice(following, position - mark.next, size, tuple(faults))


def _file(directory: Path, mark: Mark, has_blocks: bool) -> Slice:
    """The next checkpoint or run by its name; each is one slice."""
    paths = PartitionLayout(directory)
    found = {path.name: path for folder in (paths.checkpoints, paths.runs)
             for path in folder.glob(f"*{SUFFIX}")}  # fmt: skip
    name = min((name for name in found if name > mark.name), default=None)
    if name is None:
        return Slice(Mark("feed") if has_blocks else None, 0, 0)
    following, path = Mark("files", 0, name), found[name]
    try:
        size = path.stat().st_size
        map_arrays(path, verify=True)
    except (CorruptLog, OSError) as error:
        if not path.exists():  # a newer one has replaced it
            return Slice(following, 0, 0)
        fault = str(error).split(";")[0]
        told = Fault(following, f"{fault}; {_what_to_do(path, paths)}")
        return Slice(following, 1, 0, (told,))
    return Slice(following, 1, size)


def _what_to_do(path: Path, paths: PartitionLayout) -> str:
    if path.parent == paths.runs:
        return "it is derived: stop the store, delete it, and start: it is made anew from the log"
    return "it is derived: the next checkpoint takes its place, until then an opening replays more"


def _blocks(blocks: Blocks, mark: Mark, limit_bytes: int) -> Slice:
    try:
        found = blocks.read(mark.next - 1, limit_bytes)
    except CorruptLog as error:
        return Slice(None, 0, 0, (Fault(mark, str(error)),))
    if not found:
        return Slice(None, 0, 0)
    size = sum(len(block) for _, block in found)
    return Slice(Mark("feed", found[-1][0] + 1), len(found), size)
