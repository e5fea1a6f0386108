"""A stream: the events that one filter lets through, the delay lines of its window, its aggregates.

Theory: all aggregates over one filter share the matching, the grouping and the delay lines. A
contribution enters at ``enter`` (its own timestamp at the earliest) and leaves at ``leave``; what
enters later than now waits in the *enter* line, what is in and will leave stands in the *leave*
line. One step of a stream moves now from one instant to a later one and takes in the rows of one
entry; it reads state and lines and returns a ``StreamDelta``; ``publish`` writes it. A
*look-ahead* is the same step for one slot, over what the lines hold for it, never published: that
is how valid_until is known.

Law: steps a→b→c publish the same state as a→c (pure state; the virtual rows between differ).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache

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
    NO_ROWS,
    AtNow,
    ClockGroups,
    DueParts,
    HaveRows,
    LineRows,
    RowGroups,
    StepScope,
    due_parts,
    row_groups,
    take,
)
from profile_actors.engine.operators.delay_chunks import Payload
from profile_actors.engine.operators.delay_lines import DelayLine, FoundRows
from profile_actors.engine.operators.distinct_values import Distinct
from profile_actors.engine.operators.extremes import Extreme
from profile_actors.engine.operators.long_sums import sum_of
from profile_actors.rules.evaluation.windows import interval
from profile_actors.rules.tree.kinds import path
from profile_actors.rules.tree.nodes import Call
from profile_actors.rules.tree.plan import Aggregate, EventFilter


@dataclass(frozen=True, slots=True)
class Arrivals:
    """Rows that the filter lets through. slot: uint32[n] ascending; timestamp: int64[n] ms.

    bounds: when each enters and leaves the stream's window, int64[n] ms, where that is known.
    in_time: the same rows by ascending timestamp, where that order is to be had without a sort.
    failed: operators, by index, whose value raised; their columns are zeros.
    """

    slot: Array
    timestamp: Array
    columns: Payload
    bounds: tuple[Array, Array] | None = None
    in_time: Callable[[], Arrivals] | None = None
    failed: Mapping[int, Exception] = field(default_factory=dict)


@dataclass(slots=True)
class StreamDelta:
    """What one step did, beside the state. tracks: by aggregate, in the stream's order; None of one
    that is silent or failed. failed: what the operators raised, by index. drops_due: whether all
    that was due by now is done."""

    now: int
    tracks: list[Track | None]
    enter: list[LineRows]
    leave: list[LineRows]
    drops_due: bool = True
    failed: dict[int, Exception] = field(default_factory=dict)


AheadRows = tuple[FoundRows, FoundRows]
"""Rows of some slots in the two lines, enter and leave."""


@dataclass(slots=True)
class _Step:
    rows: RowGroups | None
    clock: ClockGroups | None
    stream: Stream
    now: int
    is_windowed: bool

    def best_of_staying(self, slots: Array, name: str, is_max: bool, none: np.generic) -> Array:
        return self.stream.best_of_staying(slots, self.now, name, is_max, none)


@lru_cache(maxsize=4096)
def is_of_types_alone(event_filter: EventFilter) -> bool:
    """Whether the predicate says nothing but which event types it is of."""
    predicate = event_filter.predicate
    return (
        event_filter.types is not None
        and isinstance(predicate, Call)
        and predicate.function in ("=", "in")
        and path(predicate.args[0]) == "eventType"
    )


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
    """One filter with its aggregates. Not thread-safe: the partition's lock covers ``publish``.

    is_silent: all its operators have failed, so it takes nothing in; is_sound: none has. crew,
    number: the streams that its columns lie beside, and its place among them (``crews``).
    """

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
        self.is_silent = not self.operators
        self.is_sound = True
        self.crew: Stream | None = None
        self.number = 0
        # An extreme re-reads its window from the leave line, so what never leaves must
        # stand there too.
        self._keeps_all = bool(event_filter.window) and any(
            isinstance(o, Extreme) for o in self.operators
        )

    @property
    def first_due(self) -> int:
        """The earliest due time of its lines; FOREVER without any."""
        return min(self.enter.first, self.leave.first)

    def silence(self, index: int) -> None:
        """Ask an operator no more: it failed, and its state means nothing."""
        if not isinstance(self.operators[index], Silent):
            self.operators[index] = Silent(self.operators[index])
            self.is_sound = False
        self.is_silent = all(isinstance(op, Silent) for op in self.operators)

    def step(
        self,
        arrivals: Arrivals | None,
        scope: StepScope,
    ) -> StreamDelta | None:
        """Move to the scope's now with the entry's rows, of all slots.

        None when nothing happens. Cost: sorts of what arrived and what is due, nothing else.
        """
        due = None
        if not scope.is_held and self.first_due <= scope.now:
            due = [LineRows(*line.due_rows(scope.now)) for line in self._lines()]
        delta = StreamDelta(scope.now, [], [], [], drops_due=not scope.is_held)
        mine = None if scope.has_rows is None else scope.have_rows
        return delta if self._take_in(arrivals, due, mine, delta) else None

    def _take_in(
        self,
        arrivals: Arrivals | None,
        due_rows: list[LineRows] | None,
        have_rows: HaveRows | None,
        delta: StreamDelta,
    ) -> bool:
        """Fold what arrived and what is due of the lines; whether there was anything."""
        now, arrived = delta.now, None
        if arrivals is not None:
            delta.failed.update(arrivals.failed)
            if len(arrivals.slot):
                arrived = self._place(arrivals, now, delta)
        at_now: list[AtNow] = []
        clock, was_due = None, False
        if due_rows is not None:
            due = self._due(due_rows, delta)
            was_due = bool(due.parts)
            if have_rows is not None:
                at_now = due.split(now, have_rows)
            clock = due.grouped()
        rows = row_groups(arrived, at_now)
        # What was due is cut off the lines also where all of it cancels out.
        moved = delta.enter or delta.leave or was_due or delta.failed
        if rows is None and clock is None and not moved:
            return False
        self._fold(rows, clock, delta)
        return True

    def rows_ahead(self, slots: Array, now: int) -> AheadRows:
        """Where in the lines the rows of these sorted slots are, if any of theirs is due by now."""
        found = [line.find(slots) if line.first <= now else [] for line in self._lines()]
        return found[0], found[1]

    def look_ahead(self, found: AheadRows, now: int, after: int) -> StreamDelta | None:
        """A move from ``after`` to ``now`` for the slots whose rows were found, not to be
        published; None if nothing is due."""
        entering = leaving = NO_ROWS
        if found[0]:
            entering = LineRows(*self.enter.taken(found[0])).within(after, now)
        if found[1]:
            leaving = LineRows(*self.leave.taken(found[1])).within(after, now)
        if not (len(entering.due) or len(leaving.due)):
            return None
        return self._stepped([entering, leaving], now)

    def slice(self, slots: Array, span: tuple[int, int] | None, now: int) -> StreamDelta | None:
        """The move to ``now`` of these sorted slots alone, to be published; None if nothing is due.

        span: they are those of a range (low, high), but for some.
        """
        if span is None:
            rows = [LineRows(*line.gather(slots)).within(UNSET - 1, now) for line in self._lines()]
        else:
            rows = [
                LineRows(*line.due_between(*span, now)).of_slots(slots, span)
                for line in self._lines()
            ]
        return self._stepped(rows, now) if any(len(part.due) for part in rows) else None

    def _stepped(self, rows: list[LineRows], now: int) -> StreamDelta:
        delta = StreamDelta(now, [], [], [], drops_due=False)
        self._fold(None, self._due(rows, delta).grouped(), delta)
        return delta

    def _due(self, rows: list[LineRows], delta: StreamDelta) -> DueParts:
        """What is due of the two lines; of what enters, it is noted when it leaves."""
        entering, leaving = rows
        due = due_parts(entering, leaving, self.names, delta.now)
        if self.filter.window and due.staying is not None:
            self._note_leaving(*due.staying, delta)
        return due

    def _lines(self) -> tuple[DelayLine, DelayLine]:
        return self.enter, self.leave

    def upcoming(self, slots: Array, after: int) -> bool:
        """Whether the lines hold anything of these sorted slots that is due later."""
        dues = (self.enter.gather(slots)[0], self.leave.gather(slots)[0])
        return any(((due > after) & (due < FOREVER)).any() for due in dues)

    def publish(self, delta: StreamDelta) -> None:
        """Write a step. The caller holds the partition's lock."""
        for op, track in zip(self.operators, delta.tracks, strict=True):
            for slots, lanes in () if track is None else track.stores:
                op.store(slots, lanes)
        self.publish_lines(delta.now if delta.drops_due else None, delta.enter, delta.leave)

    def publish_lines(
        self, now: int | None, enter: Iterable[LineRows], leave: Iterable[LineRows]
    ) -> None:
        """Write what a step does to the delay lines. now: what is due by then is off them; None:
        it stays. The caller holds the partition's lock."""
        for line, pushed in ((self.enter, enter), (self.leave, leave)):
            if now is not None and line.first <= now:
                line.drop_due(now)
            for rows in pushed:
                line.push(*rows)

    def _fold(self, rows: RowGroups | None, clock: ClockGroups | None, delta: StreamDelta) -> None:
        """The operators' tracks. One that raises has none; its neighbours never know."""
        step = _Step(rows, clock, self, delta.now, bool(self.filter.window))
        for index, op in enumerate(self.operators):
            track = None
            if index not in delta.failed and not isinstance(op, Silent):
                try:
                    track = op.fold(step)
                except Exception as error:
                    delta.failed[index] = error
            delta.tracks.append(track)

    def _place(self, arrivals: Arrivals, now: int, delta: StreamDelta) -> AtNow | None:
        """Send rows that enter later to the enter line, note when the others leave. Returns those
        that are in at now."""
        times, slot, columns = arrivals.timestamp, arrivals.slot, arrivals.columns
        window = self.filter.window
        if window:
            enter, leave = arrivals.bounds or interval(window, times)
            if enter.max() <= now < leave.min() and arrivals.in_time is None:
                self._note_leaving(leave, slot, columns, delta)
                return AtNow(slot, None, columns)
        elif int(times.max()) <= now:
            return AtNow(slot, None, columns)
        else:
            enter, leave = times, np.full(len(times), FOREVER)
        later = ((enter > now) & (leave > enter)).nonzero()[0]
        if len(later):
            waiting = take(columns, later) | {"leave": leave[later]}
            delta.enter.append(LineRows(enter[later], slot[later], waiting))
        if window and arrivals.in_time is not None:
            # Delay lines are sorted by due, which is the order of time: rather take the rows in it.
            timed = arrivals.in_time()
            delta.failed.update(timed.failed)
            begin, end = interval(window, timed.timestamp)
            rows = ((begin <= now) & (end > now)).nonzero()[0]
            self._note_leaving(end[rows], timed.slot[rows], take(timed.columns, rows), delta)
        inside = (enter <= now) & (leave > now)
        if not inside.all():
            rows = inside.nonzero()[0]
            leave, slot, columns = leave[rows], slot[rows], take(columns, rows)
        if window and arrivals.in_time is None:
            self._note_leaving(leave, slot, columns, delta)
        return AtNow(slot, None, columns) if len(slot) else None

    def best_of_staying(
        self, slots: Array, now: int, name: str, is_max: bool, none: np.generic
    ) -> Array:
        """What ``StepInput`` says, of a step to ``now``."""
        return self.leave.best_of(slots, now, name, is_max, none)

    def _note_leaving(
        self, leave: Array, slot: Array, columns: Payload, delta: StreamDelta
    ) -> None:
        if not self._keeps_all and len(leave) and int(leave.max()) == FOREVER:
            rows = (leave < FOREVER).nonzero()[0]
            leave, slot, columns = leave[rows], slot[rows], take(columns, rows)
        if len(leave):
            delta.leave.append(LineRows(leave, slot, {name: columns[name] for name in self.names}))
