"""What of a log is lost when its standby is put in force though it has not everything.

Theory: two copies of a log are equal up to where they part, and what the other one has beyond is
what the promotion takes away. It is told while the other copy's files are still as they were: its
process has ended, and is the standby's from the promotion on, which cuts them back.
A copy that cannot be read tells nothing; then what the catalogue was told of it is the least.
"""

from __future__ import annotations

from collections import Counter
from contextlib import ExitStack
from pathlib import Path

import lmdb
import msgspec
from xxhash import xxh3_64_intdigest as xxh3

from profile_actors.engine.log.entry import read_envelope
from profile_actors.errors import Halt, LostLog
from profile_actors.storage.environment import open_environment
from profile_actors.storage.files.layout import PartitionLayout
from profile_actors.storage.files.manifest import load_manifest
from profile_actors.storage.lmdb_log import LmdbLog
from profile_actors.storage.log_segment import DATABASES, LogSegment
from profile_actors.storage.replicas.copied_log import digest_of


class LostEnd(msgspec.Struct, frozen=True):
    """Log entries [first, end) that a promotion took away. rows: how many accepted rows stood in
    them, by dataset. is_whole: False where the other copy could not be read: then ``end`` is as far
    as the catalogue knows of it, there may be more, and rows are not known.
    """

    first: int
    end: int
    rows: dict[str, int]
    is_whole: bool = True

    @property
    def entries(self) -> int:
        """How many log entries, or the least that is known."""
        return max(0, self.end - self.first)


def lost_end(own: LmdbLog, other: Path, told: int, map_bytes: int) -> LostEnd:
    """What the log in a directory has that ``own`` has not. told: entries that the catalogue knows
    it to have; map_bytes: see ``Config.log_map_bytes``. Cost: a hash pass over what is lost."""
    try:
        return _read(own, other, map_bytes)
    except (Halt, lmdb.Error, OSError):
        return LostEnd(own.head(), max(own.head(), told), {}, is_whole=False)


def _read(own: LmdbLog, other: Path, map_bytes: int) -> LostEnd:
    paths = PartitionLayout(other)
    manifest = load_manifest(paths.manifest)
    if manifest is None:
        raise LostLog(f"expected a log, got none - at {other}")
    rows: Counter[str] = Counter()
    with ExitStack() as stack:
        found: list[LogSegment] = []
        for entry in manifest.segments:
            path = paths.log / entry.name
            # With its lock: a process that could not be ended may be writing.
            env = open_environment(path, map_bytes, len(DATABASES), sync=True)
            found.append(LogSegment(path, entry.first, env, writable=False))
            stack.callback(found[-1].discard)
        first = end = found[-1].end()
        for segment in reversed(found):
            for position in reversed(segment.positions()):
                value = segment.get(position)
                assert value is not None, position
                if position < own.head() and digest_of(own, position) == xxh3(value):
                    return LostEnd(first, end, dict(sorted(rows.items())))
                envelope, _ = read_envelope(memoryview(value), segment.where(position))
                for note in envelope.batches:
                    if note.accepted:
                        rows[note.dataset] += note.accepted
                first = position
    return LostEnd(first, end, dict(sorted(rows.items())))
