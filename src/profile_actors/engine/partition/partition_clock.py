"""The clock of a partition: ticks, advances, and their work in bounded steps (``drains``)."""

from __future__ import annotations

from abc import abstractmethod

import numpy as np

from profile_actors.columnar.state_columns import UNSET
from profile_actors.engine.fold.entry_fold import EntryDelta, fold_slice
from profile_actors.engine.fold.state import Drain
from profile_actors.engine.log.entry import BatchNote, Block, encode
from profile_actors.engine.partition.admission import Admitted, nothing
from profile_actors.engine.partition.clock_steps import (
    due_count,
    forget,
    prepare,
    reach,
    slots_per_slice,
)
from profile_actors.engine.reading.reader import Reader
from profile_actors.errors import ClockError


class Clockwork(Reader):
    """What moves a partition's clock. For the writer's thread."""

    _epoch: int

    @abstractmethod
    def _append(self, parts: list[bytes | memoryview]) -> None: ...

    @abstractmethod
    def _write(self, admitted: Admitted, now: int) -> None: ...

    @abstractmethod
    def _settle(
        self, blocks: list[Block], notes: tuple[BatchNote, ...], delta: EntryDelta
    ) -> None: ...

    def advance(self, now: int) -> None:
        """Move the clock to ``now`` ms and let what is due happen. The present instant does
        nothing. More than ``max_due_rows`` due rows take several entries.

        Raises ClockError for an earlier one.
        """
        if now < self.state.now:
            raise ClockError(
                f"expected an instant at or after now = {self.state.now} ms, got {now} ms; a clock"
                " does not go back"
            )
        self.finish_slices()
        while now > self.state.now:
            self._go_towards(now)
            self.finish_slices()

    def tick(self, now: int) -> None:
        """Wall clock: if something is due by ``now``, let it happen, or as much of it as one step
        takes; nothing due writes nothing."""
        if self.state.drain is None and now > self.state.now and self.next_due() <= now:
            self._go_towards(now)

    def next_due(self) -> int:
        """The next instant (ms) at which the clock alone changes something; FOREVER if none.

        For the writer's thread. Rescans that are under way will say when they are next due.
        """
        book = self.state.book
        rescans = [] if self.rescans.pending else book.rescans
        rescans = [rule for rule in rescans if rule.rule.key not in book.pending]
        return min([book.next_due(), *(rule.timer.line.next_due() for rule in rescans)])

    def _go_towards(self, now: int) -> None:
        """One bounded step of the clock."""
        book, limit = self.state.book, self.config.max_due_rows
        instant, rows = reach(book, now, limit)
        self.behind = now if instant < now or rows else UNSET
        if not rows:
            self._write(nothing(self.state), instant)
        elif prepare(book, instant, 4 * limit):
            self._write_slice(0, self.state.directory.slots, instant, rows)

    # -- slices ----------------------------------------------------------------------------------

    def moment_of_rows(self, moment: int, is_wall: bool) -> int:
        """The instant of an entry with rows that was to be at ``moment``.

        While the wall clock's work goes on in steps, rows come in at the instant it has reached; on
        the event clock they say how late it is, so the work is finished first.
        """
        state = self.state
        if moment <= state.now:
            return state.now
        if not is_wall:
            self.finish_slices()
            return moment
        is_far = state.drain is not None or due_count(state.book, moment) > self.config.max_due_rows
        return state.now if is_far else moment

    def next_slice(self) -> None:
        """The next slots of the drain under way."""
        drain = self.state.drain
        assert drain is not None
        self._write_slice(drain.next, drain.total, drain.at, due_count(self.state.book, drain.at))

    def finish_slices(self) -> None:
        """All slices that are left."""
        while self.state.drain is not None:
            self.next_slice()

    def verify(self, sample: int | None = None) -> list[str]:
        """As of a reader, after the slices that are left: until then columns are of two instants.

        For the writer's thread.
        """
        self.finish_slices()
        return super().verify(sample)

    def _write_slice(self, low: int, total: int, at: int, rows: int) -> None:
        size = slots_per_slice(total, rows, self.config.max_due_rows)
        slots = (low, min(low + size, total), total)
        catalogue = self.state.catalogue.version
        self._append(encode("slice", self._epoch, at, catalogue, slots=slots))
        self.apply_slice(*slots, at)

    def apply_slice(self, low: int, high: int, total: int, at: int) -> None:
        """Let the work of ``at`` happen for the slots from low up to high, of so many."""
        drain = self.state.drain or Drain(at, total)
        slots = np.arange(low, high, dtype=np.uint32)
        slots = slots[~drain.early[low:high]]
        delta = fold_slice(self.state, slots, (low, high), at)
        delta.drain, delta.slice_end = drain, high
        self._settle([], (), delta)

    def note_slice(self, delta: EntryDelta) -> None:
        """Keep how far the slices are. The caller holds the lock and has published the delta."""
        drain = delta.drain
        if drain is None:
            return
        drain.next = delta.slice_end
        is_over = drain.next >= drain.total
        self.state.drain = None if is_over else drain
        if is_over:
            forget(self.state.book, drain.at)

    def take_early(self, blocks: list[Block]) -> EntryDelta | None:
        """The part in a drain of profiles that have rows now: it goes before these rows."""
        state, drain = self.state, self.state.drain
        if drain is None or not blocks:
            return None
        slots = np.unique(np.concatenate([state.directory.slot_of[b.idents] for b in blocks]))
        slots = slots[drain.owed(slots)].astype(np.uint32)
        if len(slots) == 0:
            return None
        delta = fold_slice(state, slots, None, drain.at)
        # The instant was reached by an entry that is durable: this need not wait for the rows'.
        with self.lock:
            delta.fold.publish()
            drain.early[slots] = True
        return delta
