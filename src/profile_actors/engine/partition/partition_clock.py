"""The clock of a partition: ticks, advances, and their work in bounded steps."""

from __future__ import annotations

from typing import Protocol

import numpy as np

from profile_actors.columnar.state_columns import UNSET
from profile_actors.engine.exchange.admission import Admitted, nothing
from profile_actors.engine.fold.entry_fold import EntryDelta, fold_slice
from profile_actors.engine.fold.state import Drain, State
from profile_actors.engine.log.entry import BatchNote, Block
from profile_actors.engine.partition.clock_steps import (
    due_count,
    prepare,
    reach,
    slots_per_slice,
)
from profile_actors.engine.refold.owed import Owed
from profile_actors.errors import ClockError


class Writer(Protocol):
    """What the clock asks of the partition's writer."""

    def append(
        self, kind: str, now: int, catalogue: int, *, slots: tuple[int, int, int] | None = None
    ) -> None:
        """Make an entry without rows durable."""
        ...

    def write(self, admitted: Admitted, now: int) -> None:
        """An entry: durable, folded, published."""
        ...

    def publish_entry(
        self, blocks: list[Block], notes: tuple[BatchNote, ...], delta: EntryDelta
    ) -> None:
        """Publish a folded entry that is durable."""
        ...


class PartitionClock:
    """What moves a partition's clock. For the writer's thread."""

    def __init__(self, state: State, owed: Owed, writer: Writer, max_due_rows: int) -> None:
        self._state = state
        self._owed = owed
        self._writer = writer
        self._max_due_rows = max_due_rows

    def advance(self, now: int) -> None:
        """Move the clock to ``now`` ms and let what is due happen. The present instant does
        nothing. More than ``max_due_rows`` due rows take several entries.

        Raises ClockError for an earlier one.
        """
        if now < self._state.now:
            raise ClockError(
                f"expected an instant at or after now = {self._state.now} ms, got {now} ms; a clock"
                " does not go back"
            )
        self.finish_slices()
        while now > self._state.now:
            self._go_towards(now)
            self.finish_slices()

    def tick(self, now: int) -> None:
        """Wall clock: if something is due by ``now``, let it happen, or as much of it as one step
        takes; nothing due writes nothing."""
        if self._state.drain is None and now > self._state.now and self.next_due() <= now:
            self._go_towards(now)

    def next_due(self) -> int:
        """The next instant (ms) at which the clock alone changes something; FOREVER if none.

        For the writer's thread. Rescans that are under way will say when they are next due.
        """
        book = self._state.book
        rescans = [] if self._owed.rescans.pending else book.rescans
        rescans = [rule for rule in rescans if rule.rule.key not in book.pending]
        return min([book.next_due(), *(rule.timer.line.first for rule in rescans)])

    def _go_towards(self, now: int) -> None:
        """One bounded step of the clock."""
        book, limit = self._state.book, self._max_due_rows
        instant, rows = reach(book, now, limit)
        self._owed.behind = now if instant < now or rows else UNSET
        if not rows:
            self._writer.write(nothing(self._state), instant)
        elif prepare(book, instant, 4 * limit):
            self._write_slice(0, self._state.directory.slots, instant, rows)

    # -- slices ----------------------------------------------------------------------------------

    def moment_of_rows(self, moment: int, is_wall: bool) -> int:
        """The instant of an entry with rows that was to be at ``moment``.

        While the wall clock's work goes on in steps, rows come in at the instant it has reached; on
        the event clock they say how late it is, so the work is finished first.
        """
        state = self._state
        if moment <= state.now:
            return state.now
        if not is_wall:
            self.finish_slices()
            return moment
        is_far = state.drain is not None or due_count(state.book, moment) > self._max_due_rows
        return state.now if is_far else moment

    def next_slice(self) -> None:
        """The next slots of the drain under way."""
        drain = self._state.drain
        assert drain is not None
        self._write_slice(drain.next, drain.total, drain.at, due_count(self._state.book, drain.at))

    def finish_slices(self) -> None:
        """All slices that are left."""
        while self._state.drain is not None:
            self.next_slice()

    def _write_slice(self, low: int, total: int, at: int, rows: int) -> None:
        size = slots_per_slice(total, rows, self._max_due_rows)
        slots = (low, min(low + size, total), total)
        catalogue = self._state.catalogue.version
        self._writer.append("slice", at, catalogue, slots=slots)
        self.apply_slice(*slots, at)

    def apply_slice(self, low: int, high: int, total: int, at: int) -> None:
        """Let the work of ``at`` happen for the slots from low up to high, of so many."""
        drain = self._state.drain or Drain(at, total)
        slots = np.arange(low, high, dtype=np.uint32)
        slots = slots[~drain.early[low:high]]
        delta = fold_slice(self._state, slots, (low, high), at)
        delta.drain, delta.slice_end = drain, high
        self._writer.publish_entry([], (), delta)
