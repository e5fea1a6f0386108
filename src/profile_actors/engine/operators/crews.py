"""Streams of one shape, stepped together: their columns are rows of one matrix.

Theory: rules differ in their event types more often than in anything else, and then each has a
stream of its own with the same aggregates over the same window. So what such streams hold of one
aggregate lies in one array, one stretch a stream, and a *cell* is a place in it, of a stream and a
slot. A crew is itself a stream, whose slots are cells: one step folds the rows of all its members,
and each member is given its part of what was found. Delay lines stay the members' own.

Law: a crew's step and the steps of its members one by one publish the same. So whoever cannot go
with the others goes alone: where an operator raises, where it has failed before, and where a sum of
doubles is wide.

Limits: only aggregates whose whole state are columns.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import partial

import numpy as np

from profile_actors.columnar.runs import order_by
from profile_actors.columnar.vectors import Array, Vector
from profile_actors.engine.operators.aggregates import (
    Additive,
    Count,
    DoubleSum,
    IntegerSum,
    Lanes,
    Track,
)
from profile_actors.engine.operators.contributions import HaveRows, LineRows, concat
from profile_actors.engine.operators.delay_lines import DelayLine
from profile_actors.engine.operators.event_streams import Arrivals, Stream, StreamDelta
from profile_actors.engine.operators.extremes import Extreme
from profile_actors.engine.operators.step_scope import StepScope

MOST_CELLS = 1 << 32
"""Cells are numbers of 32 bits, as slots are."""

FEW_MEMBERS = 3
"""Two go cheaper alone: joining rows and cutting what was found costs as much as a step."""

Stepped = tuple[StreamDelta, list[StreamDelta | None]]
"""What a crew found: the columns' new values, and of each member the rest."""


class CannotGoTogether(Exception):
    """A crew's step that its members must do one by one."""


class Crew(Stream):
    """See the module. members: of one shape, and nothing in them yet.

    Not thread-safe: the partition's lock covers ``publish``. Memory: the members'.
    """

    def __init__(self, members: Sequence[Stream], capacity: int) -> None:
        first = members[0]
        aggregates = [op.aggregate for op in first.operators]
        super().__init__(first.filter, aggregates, capacity * len(members))
        self.members = list(members)
        self._capacity = capacity
        for number, member in enumerate(members):
            member.crew, member.number = self, number
            for mine, whole in zip(member.operators, self.operators, strict=True):
                assert isinstance(mine, Additive | Extreme), mine
                mine.lie_in(whole, number * capacity, capacity)

    def together(
        self, members: Sequence[Stream], arrivals: Arrivals | None, scope: StepScope
    ) -> Stepped | None:
        """The step of these members, ascending by number. arrivals: theirs, by cell.

        None when nothing happens to any. Raises CannotGoTogether.
        """
        now = scope.now
        began = np.array([member.number * self._capacity for member in members])
        due = None
        if not scope.is_held and min([member.first_due for member in members]) <= now:
            due = [self._due_of(members, "enter", now), self._due_of(members, "leave", now)]
        flat = StreamDelta(now, [], [], [])
        if not self._take_in(arrivals, due, self._who_has_rows(scope), flat):
            return None
        for op, track in zip(self.operators, flat.tracks, strict=True):
            is_wide = isinstance(op, DoubleSum) and track and max(map(_lanes, track.stores)) > 2
            if track is None or is_wide:
                raise CannotGoTogether
        parts = _Parts(flat, began, self._capacity)
        return flat, [
            parts.of(place, member, not scope.is_held) for place, member in enumerate(members)
        ]

    def best_of_staying(
        self, slots: Array, now: int, name: str, is_max: bool, none: np.generic
    ) -> Array:
        out = np.full(len(slots), none, type(none))
        number = slots // self._capacity
        for member in self.members:
            mine = (number == member.number).nonzero()[0]
            if len(mine):
                own = slots[mine] - member.number * self._capacity
                out[mine] = member.best_of_staying(own, now, name, is_max, none)
        return out

    def _who_has_rows(self, scope: StepScope) -> HaveRows | None:
        if scope.has_rows is None:
            return None
        return lambda cells: scope.have_rows(cells % self._capacity)

    def _due_of(self, members: Sequence[Stream], which: str, now: int) -> LineRows:
        """What is due of the members' lines, by cell."""
        parts = []
        for member in members:
            line: DelayLine = getattr(member, which)
            if line.first <= now:
                due, slot, columns = line.due_rows(now)
                parts.append(LineRows(due, self.cells_of(member, slot), columns))
        if len(parts) < 2:
            return parts[0] if parts else LineRows(*getattr(self, which).due_rows(now))
        due = np.concatenate([part.due for part in parts])
        slot = np.concatenate([part.slot for part in parts])
        joined = LineRows(due, slot, concat([part.columns for part in parts]))
        return joined.take(due.argsort(kind="stable"))

    def cells_of(self, member: Stream, slots: Array) -> Array:
        """Where a member's slots lie. uint32[n]"""
        return slots + np.uint32(member.number * self._capacity)


class _Parts:
    """What a crew's step found, cut into its members' parts. began: each one's first cell."""

    def __init__(self, flat: StreamDelta, began: Array, capacity: int) -> None:
        self._flat = flat
        self._began = began
        self._capacity = capacity
        self._tracks = [track for track in flat.tracks if track is not None]
        self._changes = [(_Once(t.changed), _Once(t.clock_changed)) for t in self._tracks]
        some = self._tracks[0]  # a stream's tracks share their slots
        bounds = np.concatenate([began, began + capacity])
        self._rows = some.slots.searchsorted(bounds).reshape(2, -1).T.tolist()
        self._pairs = some.clock_slots.searchsorted(bounds).reshape(2, -1).T.tolist()
        self._enter = [self._by_member(rows) for rows in flat.enter]
        self._leave = [self._by_member(rows) for rows in flat.leave]
        flat.enter, flat.leave, flat.drops_due = [], [], False

    def _by_member(self, rows: LineRows) -> list[LineRows]:
        numbers = rows.slot // self._capacity
        if (numbers[1:] < numbers[:-1]).any():
            order = order_by(numbers)
            rows, numbers = rows.take(order), numbers[order]
        due, slot, columns = rows
        slot = (slot - numbers * self._capacity).astype(np.uint32)
        wanted = self._began // self._capacity
        first, last = numbers.searchsorted(wanted), numbers.searchsorted(wanted, side="right")
        parts = [slice(low, high) for low, high in zip(first.tolist(), last.tolist(), strict=True)]
        return [
            LineRows(due[part], slot[part], {name: of[part] for name, of in columns.items()})
            for part in parts
        ]

    def of(self, place: int, member: Stream, drops_due: bool) -> StreamDelta | None:
        """A member's part; None where nothing happens to it."""
        now = self._flat.now
        (row, last_row), (pair, last_pair) = self._rows[place], self._pairs[place]
        enter = [rows[place] for rows in self._enter if len(rows[place].due)]
        leave = [rows[place] for rows in self._leave if len(rows[place].due)]
        was_due = drops_due and member.first_due <= now
        if row == last_row and pair == last_pair and not (enter or leave or was_due):
            return None
        rows, pairs = slice(row, last_row), slice(pair, last_pair)
        some, began = self._tracks[0], int(self._began[place])
        slots, clock_slots = some.slots[rows] - began, some.clock_slots[pairs] - began
        clock_at = some.clock_at[pairs]
        tracks: list[Track | None] = [
            Track(
                slots,
                _part(track.values, rows),
                clock_slots,
                clock_at,
                _part(track.clock_values, pairs),
                partial(changed.part, rows),
                partial(clock_changed.part, pairs),
            )
            for track, (changed, clock_changed) in zip(self._tracks, self._changes, strict=True)
        ]
        return StreamDelta(now, tracks, enter, leave, drops_due)


def _lanes(store: tuple[Array, Lanes]) -> int:
    return len(store[1])


class _Once:
    """Flags of all members, asked for when the first of them needs its part."""

    __slots__ = ("_ask", "_found")

    def __init__(self, ask: Callable[[], Array]) -> None:
        self._ask = ask
        self._found: Array | None = None

    def part(self, rows: slice) -> Array:
        if self._found is None:
            self._found = self._ask()
        return self._found[rows]


def _part(values: Vector, part: slice) -> Vector:
    valid = None if values.valid is None else values.valid[part]
    return Vector(values.values[part], valid, values.dictionary)


def _shape_of(stream: Stream) -> object:
    """What streams have in common that can go together; None for a stream that cannot."""
    columns = []
    for op in stream.operators:
        is_decimal = op.aggregate.result.kind == "decimal"  # Python's, where one of all is long
        if type(op) not in (Count, DoubleSum, Extreme, IntegerSum) or is_decimal:
            return None
        columns.append((op.aggregate.function, op.aggregate.value, op.aggregate.result.kind))
    return stream.filter.window, tuple(columns)


def is_fit(stream: Stream) -> bool:
    """Whether a stream can go with a crew: what it holds is what lies there."""
    return stream.is_sound and not any(
        isinstance(op, DoubleSum) and op.wide for op in stream.operators
    )


def make_crews(streams: Iterable[Stream], capacity: int) -> None:
    """Have streams of one shape lie together. They are new, and nothing is in them yet."""
    alike: dict[object, list[Stream]] = {}
    for stream in streams:
        shape = _shape_of(stream)
        if shape is not None:
            alike.setdefault(shape, []).append(stream)
    most = max(1, (MOST_CELLS - 1) // capacity)
    for members in alike.values():
        for first in range(0, len(members), most):
            some = members[first : first + most]
            if len(some) >= FEW_MEMBERS:
                Crew(some, capacity)
