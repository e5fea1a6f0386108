"""Values that move with the clock, and the instants at which a comparison of them changes.

Theory: only ``now``, the day words, ``this|last|next UNIT`` and the date parts of these move. While
one evaluation runs, every comparison that involves a moving value registers with a ``Horizon`` the
first later instant at which its own outcome differs; the earliest of all is a candidate for
``valid_until``: nothing that was evaluated can differ before it. A moving value that is compared
with nothing registers nothing, unless it is the result.

Some comparisons repeat day by day for ever (``now > today``), and some year by year
(``currentDayOfMonth() % 7 = x``). They are registered apart from those that do not, so that whoever
looks for a change need not look at every day of a century: what is the same through a whole day,
or on each date of a year, is the same until something comes that does not repeat.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

from profile_actors.columnar.time_units import DAY_MS
from profile_actors.rules.semantics import calendar
from profile_actors.rules.semantics.calendar import word_instant
from profile_actors.rules.semantics.scalar_operators import compare, order
from profile_actors.rules.semantics.values import PASSING, Instant, MapValue, Value


@dataclass(frozen=True, slots=True)
class Moving(Instant):
    """``now`` or a day word, with its value at this evaluation's now."""

    word: str

    def read_as(self, kind: str) -> Instant:
        """Itself: read through another rule, a word of the clock moves on."""
        return self


class MovingNumber(int):
    """A date part of a moving instant. part: year, month or day; offset: ms from now to the
    instant whose part it is, to the day."""

    part: str
    offset: int

    @classmethod
    def of(cls, part: str, now: int, offset: int) -> MovingNumber | None:
        moment = calendar.in_range(now + offset)
        if moment is None:
            return None
        made = cls(_PARTS[part](moment))
        made.part, made.offset = part, offset
        return made


_PARTS: dict[str, Callable[[int], int]] = {
    "year": calendar.year,
    "month": calendar.month,
    "day": calendar.day_of_month,
}


OFFSETS = {"now": 0, "today": 0, "yesterday": -DAY_MS, "tomorrow": DAY_MS}


class Bound(NamedTuple):
    """Until when a value holds: up to ``first``; up to ``other`` if it is the same through a day
    from now on; up to ``rest`` if it is the same on each date, in every year. None: for ever."""

    first: int | None
    other: int | None
    rest: int | None


FOR_EVER = Bound(None, None, None)


class Horizon:
    """Collects candidate instants of one evaluation. limit: none later is of interest."""

    def __init__(self, now: int, limit: int) -> None:
        self.now = now
        self.limit = limit
        self.bound = FOR_EVER

    def add(self, instant: int | None) -> None:
        """Register an instant; those not after now, or beyond the limit, do not count."""
        self.join(Bound(instant, instant, instant))

    def join(self, bound: Bound) -> None:
        """Register what another value depends on."""
        self.bound = Bound(*map(self._earlier, self.bound, bound))

    def _earlier(self, known: int | None, instant: int | None) -> int | None:
        if instant is None or not self.now < instant <= self.limit:
            return known
        return instant if known is None else min(known, instant)

    def pair(self, a: Value, b: Value) -> None:
        """Two values are compared with each other."""
        for left in _leaves(a):
            for right in _leaves(b):
                self._one(left, right)
                self._one(right, left)

    def compared(self, operator: str, a: Value, b: Value) -> None:
        """``a operator b`` was computed."""
        if isinstance(a, Moving) and isinstance(b, Moving):
            # Of two clock words only now and today change their order, at midnight and after it.
            midnight = self.now - self.now % DAY_MS
            first, second = (Instant(word_instant(w.word, midnight) or 0) for w in (a, b))
            later = [Instant(word_instant(w.word, midnight + 1) or 0) for w in (a, b)]
            if compare(operator, first, second) == compare(operator, *later):
                return
        self.pair(a, b)

    def among(self, values: list[Value]) -> None:
        """All of the values may be compared with each other."""
        leaves = [leaf for value in values for leaf in _leaves(value)]
        for moving in leaves:
            if isinstance(moving, Moving | MovingNumber):
                for other in leaves:
                    self._one(moving, other)

    def _one(self, moving: Value, other: Value) -> None:
        if isinstance(moving, Moving) and isinstance(other, Moving):
            self._two_words(moving, other)
        elif isinstance(moving, Moving) and isinstance(other, Instant):
            self.add(_reaches(moving, other.ms))
            self.add(_reaches(moving, other.ms + 1))
        elif isinstance(moving, MovingNumber) and not isinstance(other, Instant):
            self._part(moving, self._differs(moving, other))

    def _two_words(self, a: Moving, b: Moving) -> None:
        # Day words keep their distances; now keeps its order to yesterday and tomorrow.
        if {a.word, b.word} == {"now", "today"}:
            midnight = self.now - self.now % DAY_MS
            for turn in (midnight + 1, midnight + DAY_MS):
                self.join(Bound(turn, None, None))

    def _part(self, moving: MovingNumber, instant: int | None) -> None:
        """Months and days of the month come again on the same dates, years do not."""
        self.join(Bound(instant, instant, instant if moving.part == "year" else None))

    def _differs(self, moving: MovingNumber, other: Value) -> int | None:
        """The next instant at which ``moving`` compares differently with ``other``."""
        if other is None or order(moving, other) is None:
            return None
        if isinstance(other, MovingNumber):
            self.fix(other)
            return self._next_step(moving, self.now)
        present = order(int(moving), other)
        if moving.part == "year":
            years = (int(other), int(other) + 1) if abs(other) < 10_000 else ()
            starts = (calendar.from_civil(year, 1, 1) for year in years)
            later = [s - moving.offset for s in starts if s is not None]
            return min((s for s in later if s > self.now), default=None)
        for start in _turns(moving.part, self.now + moving.offset, other):
            at = start - moving.offset
            if at > self.now and order(_PARTS[moving.part](start), other) != present:
                return at
        return None

    @staticmethod
    def _next_step(moving: MovingNumber, now: int) -> int | None:
        span = calendar.interval(now + moving.offset, moving.part)
        return None if span is None else span[1] + 1 - moving.offset

    def fix(self, value: Value) -> Value:
        """``value`` where its own size matters: it counts as changed at its next step."""
        for leaf in _leaves(value):
            if isinstance(leaf, MovingNumber):
                self._part(leaf, self._next_step(leaf, self.now))
            elif isinstance(leaf, Moving):
                step = 1 if leaf.word == "now" else DAY_MS - self.now % DAY_MS
                self.add(self.now + step)
        return int(value) if isinstance(value, MovingNumber) else value


def _leaves(value: Value) -> Iterator[Value]:
    """The scalars in a value; documents hold nothing that moves."""
    if isinstance(value, list):
        for item in value:
            yield from _leaves(item)
    elif isinstance(value, MapValue):
        for key, item in value.pairs.values():
            yield from _leaves(key)
            yield from _leaves(item)
    elif not isinstance(value, dict):
        yield value


def _turns(part: str, t: int, other: Value) -> Iterator[int]:
    """From about ``t`` on, in order, the starts of the months or days whose number may stand in
    another order to ``other`` than the one before: where a year or month begins anew, and where
    ``other`` is reached and passed. No three months in a row lack a day that some month has."""
    whole = math.floor(other) if -1 < other < 32 else 0
    numbers = sorted({1, whole, whole + 1})
    date = calendar.civil(t)
    for ahead in range(3):
        if part == "month":
            days = [(date.year + ahead, number, 1) for number in numbers]
        else:
            year, month = divmod(date.year * 12 + date.month - 1 + ahead, 12)
            days = [(year, month + 1, number) for number in numbers]
        starts = (calendar.from_civil(*day) for day in days)
        yield from (start for start in starts if start is not None)


def passing(value: Value) -> Value:
    """The value with PASSING for each ``now`` in it."""
    if isinstance(value, list):
        return [passing(item) for item in value]
    if isinstance(value, MapValue):
        made = MapValue()
        for same, (key, item) in value.pairs.items():
            made.pairs[same] = (passing(key), passing(item))
        return made
    return PASSING if isinstance(value, Moving) and value.word == "now" else value


def _reaches(moving: Moving, target: int) -> int:
    """The first now at which ``moving`` is at or after ``target``."""
    if moving.word == "now":
        return target
    return -(-target // DAY_MS) * DAY_MS - OFFSETS[moving.word]
