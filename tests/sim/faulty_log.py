"""A Log whose disk outlives it, with the crash points of the real one, for tests and the simulator.

Theory: ``FaultyDisk`` is what survives; ``FaultyLog`` is one opening of it. The hook is called at
the same names as ``LmdbLog`` calls it; raising there is a crash: the entry is on the disk exactly
if the commit was passed. ``flip`` damages one stored byte.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import xxhash

from profile_actors.engine.log.ports import Buffer, RowGroup
from profile_actors.errors import CorruptLog, FencedOut


class Crashed(Exception):
    """The process died here."""


@dataclass
class FaultyDisk:
    entries: list[tuple[int, bytearray]] = field(default_factory=list)
    epoch: int = 0

    def flip(self, position: int, offset: int) -> None:
        self.entries[position][1][offset] ^= 0x40


class FaultyLog:
    """One opening of a FaultyDisk by the owner of an epoch."""

    def __init__(
        self, disk: FaultyDisk, *, epoch: int, crash_point: Callable[[str], None] = lambda _: None
    ) -> None:
        if disk.epoch > epoch:
            raise FencedOut(f"expected epoch {disk.epoch} or higher, got {epoch} - at a disk")
        disk.epoch = epoch
        self._disk = disk
        self._epoch = epoch
        self._crash_point = crash_point

    def head(self) -> int:
        return len(self._disk.entries)

    def append_at(self, position: int, parts: Sequence[Buffer], epoch: int) -> None:
        if epoch != self._epoch or epoch != self._disk.epoch:
            raise FencedOut(f"expected epoch {self._disk.epoch}, got {epoch} - at a disk")
        if position != self.head():
            raise CorruptLog(f"expected position {self.head()}, got {position} - at a disk")
        value = bytearray(b"".join(parts))
        self._crash_point("log.before_put")
        self._crash_point("log.before_commit")
        self._disk.entries.append((xxhash.xxh3_64_intdigest(bytes(value)), value))
        self._crash_point("log.after_commit")

    def _fault(self, position: int) -> str | None:
        stored, value = self._disk.entries[position]
        found = xxhash.xxh3_64_intdigest(bytes(value))
        if found == stored:
            return None
        return f"expected checksum {stored:x}, got {found:x} - at a disk position {position}"

    @contextmanager
    def view(self, position: int) -> Iterator[memoryview]:
        if not 0 <= position < self.head():
            raise IndexError(position)
        fault = self._fault(position)
        if fault is not None:
            raise CorruptLog(fault)
        with memoryview(bytes(self._disk.entries[position][1])) as view:
            yield view

    def group(self, position: int) -> RowGroup | None:
        return None

    def size_bytes(self) -> int:
        return sum(len(value) for _, value in self._disk.entries)

    def verify(self) -> Iterator[str]:
        faults = (self._fault(position) for position in range(self.head()))
        return (fault for fault in faults if fault is not None)

    def close(self) -> None:
        pass
