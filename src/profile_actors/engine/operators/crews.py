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
from profile_actors.engine.operators.contributions import HaveRows, LineRows, StepScope, concat
from profile_actors.engine.operators.delay_lines import DelayLine
from profile_actors.engine.operators.event_streams import (
    AheadRows,
    Arrivals,
    Stream,
    StreamDelta,
)
from profile_actors.engine.operators.extremes import Extreme

MOST_CELLS = 1 << 32
"""Cells are numbers of 32 bits, as slots are."""

FEW_MEMBERS = 2
"""One stream goes cheaper alone: to tell cells from slots costs more calls than it saves."""


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
        self.capacity = capacity
        for number, member in enumerate(members):
            member.crew, member.number = self, number
            for mine, whole in zip(member.operators, self.operators, strict=True):
                assert isinstance(mine, Additive | Extreme), mine
                mine.lie_in(whole, number * capacity, capacity)

    def together(
        self, members: Sequence[Stream], arrivals: Arrivals | None, scope: StepScope
    ) -> CrewDelta | None:
        """The step of these members, ascending by number. arrivals: theirs, by cell.

        None when nothing happens to any. Raises CannotGoTogether.
        """
        now = scope.now
        due = None
        if not scope.is_held and min([member.first_due for member in members]) <= now:
            due = [self._due_of(members, "enter", now), self._due_of(members, "leave", now)]
        flat = StreamDelta(now, [], [], [])
        if not self._take_in(arrivals, due, self._who_has_rows(scope), flat):
            return None
        return self._whole(members, flat, not scope.is_held)

    def ahead(
        self, members: Sequence[Stream], found: Sequence[AheadRows], now: int, after: int
    ) -> CrewDelta | None:
        """The look-aheads of these members, ascending by number, from ``after`` to ``now``, not to
        be published. found: each one's rows. None if nothing is due. Raises CannotGoTogether."""
        entering, leaving = [
            self._joined(
                which,
                [
                    LineRows(part.due, self.cells_of(member, part.slot), part.columns)
                    for member, rows in zip(members, found, strict=True)
                    if rows[place]
                    for part in [
                        LineRows(*getattr(member, which).taken(rows[place])).within(after, now)
                    ]
                ],
            )
            for place, which in enumerate(("enter", "leave"))
        ]
        if not (len(entering.due) or len(leaving.due)):
            return None
        return self._whole(members, self._stepped([entering, leaving], now), False)

    def _whole(self, members: Sequence[Stream], flat: StreamDelta, drops_due: bool) -> CrewDelta:
        for op, track in zip(self.operators, flat.tracks, strict=True):
            is_wide = isinstance(op, DoubleSum) and track and max(map(_lanes, track.stores)) > 2
            if track is None or is_wide:
                raise CannotGoTogether
        return CrewDelta(self, members, flat, drops_due)

    def best_of_staying(
        self, slots: Array, now: int, name: str, is_max: bool, none: np.generic
    ) -> Array:
        out = np.full(len(slots), none, type(none))
        number = slots // self.capacity
        for member in self.members:
            mine = (number == member.number).nonzero()[0]
            if len(mine):
                own = slots[mine] - member.number * self.capacity
                out[mine] = member.best_of_staying(own, now, name, is_max, none)
        return out

    def _who_has_rows(self, scope: StepScope) -> HaveRows | None:
        if scope.has_rows is None:
            return None
        return lambda cells: scope.have_rows(cells % self.capacity)

    def _due_of(self, members: Sequence[Stream], which: str, now: int) -> LineRows:
        """What is due of the members' lines, by cell."""
        parts = []
        for member in members:
            line: DelayLine = getattr(member, which)
            if line.first <= now:
                due, slot, columns = line.due_rows(now)
                parts.append(LineRows(due, self.cells_of(member, slot), columns))
        return self._joined(which, parts)

    def _joined(self, which: str, parts: list[LineRows]) -> LineRows:
        """The rows of the members' lines, by cell, in due order."""
        if len(parts) < 2:
            return parts[0] if parts else LineRows(*getattr(self, which).due_rows(0))
        due = np.concatenate([part.due for part in parts])
        slot = np.concatenate([part.slot for part in parts])
        joined = LineRows(due, slot, concat([part.columns for part in parts]))
        return joined.take(due.argsort(kind="stable"))

    def cells_of(self, member: Stream, slots: Array) -> Array:
        """Where a member's slots lie. uint32[n]"""
        return slots + np.uint32(member.number * self.capacity)


class CrewDelta:
    """What a crew's step found, beside the state: the columns' new values by cell, and of each
    member what its delay lines take in.

    places: of the members to which something happens, ascending. flat: by cell. A member's own
    tracks are cut out when they are asked for (``tracks_of``): what all members share is read from
    ``flat``.
    """

    def __init__(
        self, crew: Crew, members: Sequence[Stream], flat: StreamDelta, drops_due: bool
    ) -> None:
        self.crew, self.members, self.flat, self.drops_due = crew, members, flat, drops_due
        self._tracks = [track for track in flat.tracks if track is not None]
        self._changes: list[tuple[_Once, _Once]] = []
        some = self._tracks[0]  # a stream's tracks share their slots
        numbers = np.array([member.number for member in members])
        bounds = np.concatenate([numbers, numbers + 1]) * crew.capacity
        self._rows = some.slots.searchsorted(bounds).reshape(2, -1).T.tolist()
        self._pairs = some.clock_slots.searchsorted(bounds).reshape(2, -1).T.tolist()
        self._enter = [self._by_member(rows, numbers) for rows in flat.enter]
        self._leave = [self._by_member(rows, numbers) for rows in flat.leave]
        self.places = [place for place in range(len(members)) if self._is_moved(place)]

    @property
    def row_cells(self) -> tuple[Array, Array]:
        """(member's number, slot) of each profile with rows. intp[n]"""
        return self._split(self._tracks[0].slots)

    @property
    def pair_cells(self) -> tuple[Array, Array]:
        """The same of each virtual row."""
        return self._split(self._tracks[0].clock_slots)

    @property
    def pairs_at(self) -> Array:
        """When each virtual row is. int64[n] ms"""
        return self._tracks[0].clock_at

    def _split(self, cells: Array) -> tuple[Array, Array]:
        numbers = cells // self.crew.capacity
        return numbers, cells - numbers * self.crew.capacity

    def _is_moved(self, place: int) -> bool:
        (row, last_row), (pair, last_pair) = self._rows[place], self._pairs[place]
        if row < last_row or pair < last_pair:
            return True
        if self.drops_due and self.members[place].first_due <= self.flat.now:
            return True
        return any(len(rows[place].due) for rows in (*self._enter, *self._leave))

    def _by_member(self, rows: LineRows, wanted: Array) -> list[LineRows]:
        capacity = self.crew.capacity
        numbers = rows.slot // capacity
        if (numbers[1:] < numbers[:-1]).any():
            order = order_by(numbers)
            rows, numbers = rows.take(order), numbers[order]
        due, slot, columns = rows
        slot = (slot - numbers * capacity).astype(np.uint32)
        first, last = numbers.searchsorted(wanted), numbers.searchsorted(wanted, side="right")
        parts = [slice(low, high) for low, high in zip(first.tolist(), last.tolist(), strict=True)]
        return [
            LineRows(due[part], slot[part], {name: of[part] for name, of in columns.items()})
            for part in parts
        ]

    def slots(self) -> list[Array]:
        """The slots of the rows that ``publish`` writes, in parts."""
        return [self.row_cells[1], self.pair_cells[1]]

    def publish(self) -> None:
        """Write the step. The caller holds the partition's lock."""
        for op, track in zip(self.crew.operators, self._tracks, strict=True):
            for cells, lanes in track.stores:
                op.store(cells, lanes)
        for place in self.places:
            self.members[place].publish_lines(
                self.flat.now if self.drops_due else None,
                [rows[place] for rows in self._enter],
                [rows[place] for rows in self._leave],
            )

    def tracks_of(self, place: int) -> list[Track | None]:
        """The tracks of the member at this place, as if it had gone alone."""
        if not self._changes:
            self._changes = [(_Once(t.changed), _Once(t.clock_changed)) for t in self._tracks]
        rows, pairs = slice(*self._rows[place]), slice(*self._pairs[place])
        some, began = self._tracks[0], self.members[place].number * self.crew.capacity
        slots, clock_slots = some.slots[rows] - began, some.clock_slots[pairs] - began
        clock_at = some.clock_at[pairs]
        return [
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
    return stream.filter.window, stream.filter.single, tuple(columns)


def is_fit(stream: Stream) -> bool:
    """Whether a stream can go with a crew: what it holds is what lies there."""
    wide = [True for op in stream.operators if type(op) is DoubleSum and op.wide]
    return stream.is_sound and not wide


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
