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
from collections.abc import Callable, Hashable, Iterable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

from profile_actors.columnar.time_units import DAY_MS
from profile_actors.rules.reference.moving_numbers import (
    MovingNumber,
    Part,
    Recipe,
    is_never_null,
    joined,
    next_turn,
    part_of,
    standing,
    with_recipe,
)
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


OFFSETS = {"now": 0, "today": 0, "yesterday": -DAY_MS, "tomorrow": DAY_MS}


class Bound(NamedTuple):
    """Until when a value holds: up to ``first``; up to ``other`` if it is the same through a day
    from now on; up to ``rest`` if it is the same on each date, in every year. None: for ever."""

    first: int | None
    other: int | None
    rest: int | None


FOR_EVER = Bound(None, None, None)


Turns = dict[Hashable, tuple[int, int | None]]
"""Of recipes of numbers: between which two instants they are the same; None: for ever."""


class Horizon:
    """Collects candidate instants of one evaluation. limit: none later is of interest. turns: of
    its run, which looks for the next change; without it a number that is computed of parts of the
    date counts as changed at their next step, which is quick to say."""

    def __init__(self, now: int, limit: int, turns: Turns | None = None) -> None:
        self.now = now
        self.limit = limit
        self.turns = turns
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
            self._ordered(moving, other)

    def _two_words(self, a: Moving, b: Moving) -> None:
        # Day words keep their distances; now keeps its order to yesterday and tomorrow.
        if {a.word, b.word} == {"now", "today"}:
            midnight = self.now - self.now % DAY_MS
            for turn in (midnight + 1, midnight + DAY_MS):
                self.join(Bound(turn, None, None))

    def computed(self, name: str, function: Callable[..., Value], values: list[Value]) -> Value:
        """``function(*values)``; it moves if one of them does. name: of the function."""
        if self.turns is None or not any(isinstance(value, MovingNumber) for value in values):
            return function(*map(self.fix, values))
        value = function(*map(standing, values))
        if value is None or not is_never_null(name, values):
            return function(*map(self.fix, values))
        return with_recipe(value, joined(name, function, values))

    def _turn(self, parts: Iterable[Part], instant: int | None) -> None:
        """Months and days of the month come again on the same dates, years do not."""
        has_year = any(part == "year" for part, _ in parts)
        self.join(Bound(instant, instant, instant if has_year else None))

    def _ordered(self, number: MovingNumber, other: Value) -> None:
        """A number is compared, and stands in some order to another value."""
        if other is None or order(number, other) is None:
            return
        if number.only is not None and not isinstance(other, MovingNumber):
            self._turn([number.only], self._differs(number, *number.only, other))
        elif self.turns is None:
            self.fix(number)
            self.fix(other)
        else:
            self._follow(self.turns, joined("order", order, [number, other]))

    def _follow(self, turns: Turns, recipe: Recipe) -> None:
        """Register when the recipe's value is next another."""
        since, until = turns.get(recipe.key, (self.now + 1, None))
        if not since <= self.now or (until is not None and until <= self.now):
            until = next_turn(recipe, self.now, self.limit)
            turns[recipe.key] = self.now, until
        self._turn(recipe.parts, until)

    def _differs(self, number: MovingNumber, part: str, offset: int, other: Value) -> int | None:
        """The next instant at which a part of a date compares differently with ``other``."""
        present = order(number, other)
        if part == "year":
            years = (int(other), int(other) + 1) if abs(other) < 10_000 else ()
            starts = (calendar.from_civil(year, 1, 1) for year in years)
            later = [s - offset for s in starts if s is not None]
            return min((s for s in later if s > self.now), default=None)
        for start in _turns(part, self.now + offset, other):
            at = start - offset
            if at > self.now and order(part_of(part, start), other) != present:
                return at
        return None

    def fix(self, value: Value) -> Value:
        """``value`` where its own size matters: it counts as changed at its next step."""
        for leaf in _leaves(value):
            if isinstance(leaf, MovingNumber):
                self._fix_number(leaf)
            elif isinstance(leaf, Moving):
                step = 1 if leaf.word == "now" else DAY_MS - self.now % DAY_MS
                self.add(self.now + step)
        return standing(value)

    def _fix_number(self, number: MovingNumber) -> None:
        if number.only is None and self.turns is not None:
            self._follow(self.turns, number.recipe)
            return
        for part, offset in number.recipe.parts:
            span = calendar.interval(self.now + offset, part)
            self._turn([(part, offset)], None if span is None else span[1] + 1 - offset)


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
