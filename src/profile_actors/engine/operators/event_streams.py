"""A stream: the events that one filter lets through, the delay lines of its window, its aggregates.

Theory: all aggregates over one filter share the matching, the grouping and the delay lines. A
contribution enters at ``enter`` (its own timestamp at the earliest) and leaves at ``leave``; what
enters later than now waits in the *enter* line, what is in and will leave stands in the *leave*
line. One step of a stream moves now from one instant to a later one and takes in the rows of one
entry; it reads state and lines and returns a ``StreamDelta``; ``publish`` writes it. A
*look-ahead* is the same step for one slot, over what the lines hold for it, never published: that
is how valid_until is known.

What is due when an entry comes at ``now``::

                 last now         due            now
    p, has rows     |---------------+-------------|    counts at now, together with the rows
    q, has none     |---------------+-------------|    counts at due: a virtual row, by the clock

What enters and leaves again between the two never counts for p, and makes two virtual rows of q.

Law: steps a→b→c publish the same state as a→c (pure state; the virtual rows between differ).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

import numpy as np

from profile_actors.columnar.state_columns import UNSET
from profile_actors.columnar.vectors import FOREVER, Array
from profile_actors.engine.operators.aggregates import (
    Count,
    Operator,
    Silent,
    Track,
)
from profile_actors.engine.operators.contributions import (
    ENTERED,
    ClockGroups,
    RowGroups,
    by_slot,
    by_slot_and_instant,
    concat,
    take,
)
from profile_actors.engine.operators.delay_lines import DelayLine, Payload
from profile_actors.engine.operators.distinct_values import Distinct
from profile_actors.engine.operators.extremes import Extreme
from profile_actors.engine.operators.long_sums import sum_of
from profile_actors.engine.operators.step_scope import StepScope
from profile_actors.rules.evaluation.windows import interval
from profile_actors.rules.tree.plan import Aggregate, EventFilter


@dataclass(frozen=True, slots=True)
class Arrivals:
    """Rows that the filter lets through. slot: uint32[n] ascending; timestamp: int64[n] ms.

    in_time: the same rows by ascending timestamp, where that order is to be had without a sort.
    failed: operators, by index, whose value raised; their columns are zeros.
    """

    slot: Array
    timestamp: Array
    columns: Payload
    in_time: Callable[[], Arrivals] | None = None
    failed: Mapping[int, Exception] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class _Push:
    due: Array
    slot: Array
    columns: Payload


@dataclass(slots=True)
class StreamDelta:
    """What one step did, beside the state. tracks: by aggregate, in the stream's order; None of one
    that is silent or failed. failed: what the operators raised, by index. cuts: whether all that
    was due by now is done."""

    now: int
    tracks: list[Track | None]
    enter: list[_Push]
    leave: list[_Push]
    drops_due: bool = True
    failed: dict[int, Exception] = field(default_factory=dict)


@dataclass(slots=True)
class _Step:
    rows: RowGroups | None
    clock: ClockGroups | None
    line: DelayLine
    now: int
    is_windowed: bool

    def best_of_staying(self, slots: Array, name: str, is_max: bool, none: np.generic) -> Array:
        return self.line.best_of(slots, self.now, name, is_max, none)


_Rows = tuple[Array, Array, Payload]


def _within(rows: _Rows, after: int, now: int) -> _Rows:
    """The rows, in due order, that are due later than ``after`` and by ``now``."""
    due, slot, columns = rows
    low, high = np.searchsorted(due, (after, now), side="right")
    part = np.arange(low, high)
    return due[part], slot[part], take(columns, part)


def _of_slots(rows: _Rows, slots: Array, span: tuple[int, int]) -> _Rows:
    """The rows of a range of slots without those of slots that were left out."""
    low, high = span
    if len(slots) == high - low:
        return rows
    inside = np.zeros(high - low, np.bool_)
    inside[slots - low] = True
    due, slot, columns = rows
    part = np.flatnonzero(inside[slot - low])
    return due[part], slot[part], take(columns, part)


def operator(aggregate: Aggregate, name: str | None, capacity: int) -> Operator:
    """The operator that keeps an aggregate up to date."""
    if aggregate.function == "count":
        return Count(aggregate, name, capacity)
    if aggregate.function == "sum":
        return sum_of(aggregate)(aggregate, name, capacity)
    if aggregate.function == "distinct":
        return Distinct(aggregate, name, capacity)
    assert aggregate.function in ("min", "max"), aggregate.function
    return Extreme(aggregate, name, capacity)


class Stream:
    """One filter with its aggregates. Not thread-safe: the partition's lock covers ``publish``."""

    def __init__(
        self, event_filter: EventFilter, aggregates: Iterable[Aggregate], capacity: int
    ) -> None:
        self.filter = event_filter
        self.operators: list[Operator] = [
            operator(a, None if a.value is None else f"v{i}", capacity)
            for i, a in enumerate(aggregates)
        ]
        columns = [name for o in self.operators for name in (o.name, o.presence)]
        names = tuple(name for name in columns if name is not None)
        self.names = names
        self.enter = DelayLine((*names, "leave"))
        self.leave = DelayLine(names)
        # An extreme re-reads its window from the leave line, so what never leaves must
        # stand there too.
        self._keeps_all = bool(event_filter.window) and any(
            isinstance(o, Extreme) for o in self.operators
        )

    @property
    def is_silent(self) -> bool:
        """Whether all its operators have failed: then it takes nothing in."""
        return all(isinstance(op, Silent) for op in self.operators)

    @property
    def is_sound(self) -> bool:
        """Whether none of its operators has failed."""
        return not any(isinstance(op, Silent) for op in self.operators)

    def silence(self, index: int) -> None:
        """Ask an operator no more: it failed, and its state means nothing."""
        if not isinstance(self.operators[index], Silent):
            self.operators[index] = Silent(self.operators[index])

    def next_due(self) -> int:
        """The next instant at which a contribution enters or leaves; FOREVER if none."""
        return min(self.enter.next_due(), self.leave.next_due())

    def step(
        self,
        arrivals: Arrivals | None,
        scope: StepScope,
    ) -> StreamDelta | None:
        """Move to the scope's now with the entry's rows, of all slots.

        None when nothing happens. Cost: sorts of what arrived and what is due, nothing else.
        """
        now = scope.now
        delta = StreamDelta(now, [], [], [], drops_due=not scope.is_held)
        if arrivals is not None:
            delta.failed.update(arrivals.failed)
        row_slots: list[Array] = []
        row_columns: list[Payload] = []
        arrived_slots = None
        if arrivals is not None and len(arrivals.slot):
            inside = self._place(arrivals, now, delta)
            if len(inside.slot):
                arrived_slots = inside.slot
                row_slots.append(arrived_slots)
                row_columns.append(inside.columns)
        row_signs = [np.ones(len(s), np.int8) for s in row_slots]
        clock, was_due = None, False
        if not scope.is_held:
            entering, leaving = self.enter.due_rows(now), self.leave.due_rows(now)
            was_due = len(entering[0]) + len(leaving[0]) > 0
            clock = self._due(
                entering, leaving, now, delta, scope.has_rows, row_slots, row_columns, row_signs
            )
        arrived = len(row_slots) == 1 and row_slots[0] is arrived_slots
        rows = self._row_groups(row_slots, row_columns, row_signs, arrived)
        # What was due is cut off the lines also where all of it cancels out.
        moved = delta.enter or delta.leave or was_due or delta.failed
        if rows is None and clock is None and not moved:
            return None
        self._fold(rows, clock, delta)
        return delta

    def look_ahead(self, slots: Array, now: int, after: int) -> StreamDelta | None:
        """A move from ``after`` to ``now`` for these sorted slots alone, not to be published; None
        if nothing is due."""
        lines = (self.enter, self.leave)
        if not any(line.chunks for line in lines):
            return None
        entering, leaving = (_within(line.gather(slots), after, now) for line in lines)
        if not len(entering[0]) and not len(leaving[0]):
            return None
        return self._stepped(entering, leaving, now)

    def slice(self, slots: Array, span: tuple[int, int] | None, now: int) -> StreamDelta | None:
        """The move to ``now`` of these sorted slots alone, to be published; None if nothing is due.

        span: they are those of a range (low, high), but for some.
        """
        parts = []
        for line in (self.enter, self.leave):
            if span is None:
                parts.append(_within(line.gather(slots), UNSET - 1, now))
            else:
                parts.append(_of_slots(line.due_between(*span, now), slots, span))
        return self._stepped(parts[0], parts[1], now) if any(len(p[0]) for p in parts) else None

    def _stepped(self, entering: _Rows, leaving: _Rows, now: int) -> StreamDelta:
        delta = StreamDelta(now, [], [], [], drops_due=False)
        clock = self._due(entering, leaving, now, delta, None, [], [], [])
        self._fold(None, clock, delta)
        return delta

    def upcoming(self, slots: Array, after: int) -> bool:
        """Whether the lines hold anything of these sorted slots that is due later."""
        dues = (self.enter.gather(slots)[0], self.leave.gather(slots)[0])
        return any(((due > after) & (due < FOREVER)).any() for due in dues)

    def publish(self, delta: StreamDelta) -> None:
        """Write a step. The caller holds the partition's lock."""
        for op, track in zip(self.operators, delta.tracks, strict=True):
            for slots, lanes in () if track is None else track.stores:
                op.store(slots, lanes)
        if delta.drops_due:
            self.enter.drop_due(delta.now)
            self.leave.drop_due(delta.now)
        for push in delta.enter:
            self.enter.push(push.due, push.slot, push.columns)
        for push in delta.leave:
            self.leave.push(push.due, push.slot, push.columns)

    def _fold(self, rows: RowGroups | None, clock: ClockGroups | None, delta: StreamDelta) -> None:
        """The operators' tracks. One that raises has none; its neighbours never know."""
        step = _Step(rows, clock, self.leave, delta.now, bool(self.filter.window))
        for index, op in enumerate(self.operators):
            track = None
            if index not in delta.failed and not isinstance(op, Silent):
                try:
                    track = op.fold(step)
                except Exception as error:
                    delta.failed[index] = error
            delta.tracks.append(track)

    def _place(self, arrivals: Arrivals, now: int, delta: StreamDelta) -> Arrivals:
        """Send rows that enter later to the enter line, note when the others leave."""
        times = arrivals.timestamp
        if not self.filter.window:
            if int(times.max()) <= now:
                return arrivals
            enter, leave = times, np.full(len(times), FOREVER)
        else:
            enter, leave = interval(self.filter.window, times)
        later = np.flatnonzero((enter > now) & (leave > enter))
        if len(later):
            columns = take(arrivals.columns, later)
            columns["leave"] = leave[later]
            delta.enter.append(_Push(enter[later], arrivals.slot[later], columns))
        if self.filter.window and arrivals.in_time is not None:
            # Delay lines are sorted by due, which is the order of time: rather take the rows in it.
            timed = arrivals.in_time()
            delta.failed.update(timed.failed)
            begin, end = interval(self.filter.window, timed.timestamp)
            rows = np.flatnonzero((begin <= now) & (end > now))
            self._note_leaving(end[rows], timed.slot[rows], take(timed.columns, rows), delta)
        inside = (enter <= now) & (leave > now)
        if not inside.all():
            rows = np.flatnonzero(inside)
            columns = take(arrivals.columns, rows)
            arrivals = Arrivals(
                arrivals.slot[rows], times[rows], columns, arrivals.in_time, arrivals.failed
            )
            leave = leave[rows]
        if self.filter.window and arrivals.in_time is None:
            self._note_leaving(leave, arrivals.slot, arrivals.columns, delta)
        return arrivals

    def _note_leaving(
        self, leave: Array, slot: Array, columns: Payload, delta: StreamDelta
    ) -> None:
        if not self._keeps_all and len(leave) and int(leave.max()) == FOREVER:
            rows = np.flatnonzero(leave < FOREVER)
            leave, slot, columns = leave[rows], slot[rows], take(columns, rows)
        if len(leave):
            delta.leave.append(_Push(leave, slot, {name: columns[name] for name in self.names}))

    def _due(
        self,
        entering: tuple[Array, Array, Payload],
        leaving: tuple[Array, Array, Payload],
        now: int,
        delta: StreamDelta,
        has_rows: Array | None,
        row_slots: list[Array],
        row_columns: list[Payload],
        row_signs: list[Array],
    ) -> ClockGroups | None:
        """Turn what is due into signed contributions; rows' profiles to ``row_*``."""
        parts: list[
            tuple[Array, Array, Array, Array, Payload]
        ] = []  # at, slot, sign, leave, columns
        at, slot, columns = entering
        if len(at):
            leave = columns["leave"]
            values = {name: columns[name] for name in self.names}
            parts.append((at, slot, np.ones(len(at), np.int8), leave, values))
            gone = np.flatnonzero(leave <= now)
            if len(gone):
                again = np.full(len(gone), ENTERED, np.int64)
                parts.append((
                    leave[gone], slot[gone], np.full(len(gone), -1, np.int8), again, take(values,
                    gone), ))  # fmt: skip
            stays = np.flatnonzero(leave > now)
            if len(stays) and self.filter.window:
                self._note_leaving(leave[stays], slot[stays], take(values, stays), delta)
        at, slot, columns = leaving
        if len(at):
            parts.append(
                (at, slot, np.full(len(at), -1, np.int8), np.zeros(len(at), np.int64), columns)
            )
        if not parts:
            return None
        if has_rows is not None:
            parts = [
                _without_rows(p, now, has_rows, row_slots, row_columns, row_signs) for p in parts
            ]
            parts = [p for p in parts if len(p[0])]
            if not parts:
                return None
        at = np.concatenate([p[0] for p in parts])
        slot = np.concatenate([p[1] for p in parts])
        sign = np.concatenate([p[2] for p in parts])
        leave = np.concatenate([p[3] for p in parts])
        columns = concat([p[4] for p in parts])
        if len(parts) > 1:
            order = np.argsort(at, kind="stable")
            at, slot, sign, leave = at[order], slot[order], sign[order], leave[order]
            columns = take(columns, order)
        return by_slot_and_instant(slot, at, sign, leave, columns)

    @staticmethod
    def _row_groups(
        slots: list[Array], columns: list[Payload], signs: list[Array], arrived: bool
    ) -> RowGroups | None:
        if not slots:
            return None
        if arrived:
            return by_slot(slots[0], None, columns[0], is_sorted=True)
        return by_slot(
            np.concatenate(slots), np.concatenate(signs), concat(columns), is_sorted=False
        )


def _without_rows(
    part: tuple[Array, Array, Array, Array, Payload],
    now: int,
    has_rows: Array,
    row_slots: list[Array],
    row_columns: list[Payload],
    row_signs: list[Array],
) -> tuple[Array, Array, Array, Array, Payload]:
    """Split off the contributions of profiles with rows in the entry; they take effect at its now.

    What both entered and left since the last step had no instant at which it counted for them.
    """
    at, slot, sign, leave, columns = part
    mine = has_rows[slot]
    if not mine.any():
        return part
    passed = np.where(sign > 0, leave <= now, leave == ENTERED)
    rows = np.flatnonzero(mine & ~passed)
    if len(rows):
        row_slots.append(slot[rows])
        row_columns.append(take(columns, rows))
        row_signs.append(sign[rows])
    rest = np.flatnonzero(~mine)
    return at[rest], slot[rest], sign[rest], leave[rest], take(columns, rest)
