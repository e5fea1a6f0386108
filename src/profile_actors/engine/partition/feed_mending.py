"""Damaged blocks of the change feed, made again beside the writer by a second fold of the log.

Theory: the feed is history, and history is a fold of the log in log order. So a block that the
disk changed is no loss: the same fold over the log up to its position makes a block that says the
same, if its changes may be grouped otherwise. It is the recovery of a partition, into a state that
is thrown away and a feed that keeps only what is wanted; the partition itself goes on meanwhile.

Limits: memory for a second state; time for one fold of the log up to the newest damaged block
(paced by ``go_on``). A feed whose tables cannot be walked is condemned: the next opening makes all
of it anew.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager

from profile_actors.engine.log.in_memory import MemoryCheckpoints, MemoryFeed
from profile_actors.engine.log.ports import Buffer, Log, RowGroup
from profile_actors.engine.partition.partition import Partition
from profile_actors.errors import CorruptLog

DRAIN = 1 << 10
"""Rescan evaluations between two questions whether to go on."""


class _Stopped(Exception):
    """The partition is being stopped."""


class _Beginning(Log):
    """The first ``end`` entries of another's log, read only; closing it closes nothing."""

    def __init__(self, log: Log, end: int, go_on: Callable[[], bool]) -> None:
        self._log, self._end, self._go_on = log, end, go_on

    def head(self) -> int:
        return self._end

    def append_at(self, position: int, parts: Sequence[Buffer], epoch: int) -> None:
        raise AssertionError("a replay writes nothing")

    def view(self, position: int) -> AbstractContextManager[memoryview]:
        if not self._go_on():
            raise _Stopped
        return self._log.view(position)

    def group(self, position: int) -> RowGroup | None:
        return self._log.group(position)

    def size_bytes(self) -> int:
        return self._log.size_bytes()

    def verify(self) -> Iterator[str]:
        return iter(())

    def close(self) -> None:
        pass


class _Wanted(MemoryFeed):
    """A feed that keeps the blocks of some positions only."""

    def __init__(self, wanted: set[int]) -> None:
        super().__init__()
        self._wanted = wanted

    def append(self, position: int, block: bytes) -> None:
        if position in self._wanted:
            super().append(position, block)


def mend(partition: Partition, go_on: Callable[[], bool]) -> int | None:
    """Make the damaged blocks of a partition's feed anew; returns how many there were.

    For one thread at a time, not the writer's. go_on: asked before each entry; None is returned
    when it says no. Cost: a hash pass over the feed, then see the module. Raises FeedDamaged if
    that cannot be done while the feed is open (it is condemned then), CorruptLog, StorageFull.
    """
    feed = partition.feed
    wanted = set(feed.faults())
    if not wanted:
        return 0
    again = _Wanted(wanted)
    head = partition.position
    if max(wanted) < head:
        log = _Beginning(partition.log, max(wanted) + 1, go_on)
        try:
            fold = Partition(log, again, MemoryCheckpoints(), partition.config, post=partition.post)
            while fold.work(DRAIN):
                if not go_on():
                    return None
            fold.close()
        except _Stopped:
            return None
    try:
        missing = wanted - set(again.blocks)
        if missing:
            raise CorruptLog(f"expected no block at {min(missing)}, as the log says, got one")
        for position, block in sorted(again.blocks.items()):
            if position >= feed.first_kept():
                feed.append(position, block)
        feed.flush()
    except CorruptLog as error:
        raise feed.condemn(str(error)) from error
    return len(wanted)
