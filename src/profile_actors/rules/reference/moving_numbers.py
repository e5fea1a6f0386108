"""Numbers that move with the date: its parts, and what is computed of them.

Theory: a number that was made of parts of the date is a function of the date, and keeps which one.
So the date at which a comparison of it turns out otherwise is found without evaluating the rule at
each: the dates are gone through, and those with the same parts are asked once.
"""

from __future__ import annotations

import datetime
import math
from collections.abc import Callable, Hashable, Iterable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from profile_actors.columnar.time_units import DAY_MS
from profile_actors.rules.semantics import calendar
from profile_actors.rules.semantics.values import Value

_EPOCH, _LAST = datetime.date(1970, 1, 1).toordinal(), datetime.date.max.toordinal()


_LAST_YEAR = 9999.0


_NEVER_NULL = 2.0**62


Part = tuple[str, int]
"""Year, month or day, and of which date: ms from now, to the day."""


@dataclass(frozen=True, slots=True)
class Recipe:
    """How a value is made of parts of the date. key: equal for those that are always equal.
    parts: what it reads, without repeats. at: its value, given theirs. most: no value of it is
    larger in size."""

    key: Hashable
    parts: tuple[Part, ...]
    at: Callable[[Mapping[Part, int]], Value]
    most: float


class MovingNumber:
    """A number that moves with the date, with its value at this evaluation's now."""

    recipe: Recipe

    @property
    def only(self) -> Part | None:
        """The part that it is, if it is one itself."""
        return self.recipe.parts[0] if self.recipe.key == self.recipe.parts[0] else None


class _MovingInteger(MovingNumber, int): ...


class _MovingDouble(MovingNumber, float): ...


class _MovingDecimal(MovingNumber, Decimal): ...


_MADE: dict[Any, Any] = {int: _MovingInteger, float: _MovingDouble, Decimal: _MovingDecimal}


_PARTS: dict[str, Callable[[int], int]] = {
    "year": calendar.year,
    "month": calendar.month,
    "day": calendar.day_of_month,
}


def part_of(part: str, t: int) -> int:
    """The part of the date of ``t``, which must be in range."""
    return _PARTS[part](t)


def moving_part(part: str, now: int, offset: int) -> Value:
    """A part of the date so many ms from now; None outside the calendar."""
    moment = calendar.in_range(now + offset)
    if moment is None:
        return None
    key = part, offset
    return with_recipe(
        part_of(part, moment), Recipe(key, (key,), lambda parts: parts[key], _LAST_YEAR)
    )


def with_recipe(value: Value, recipe: Recipe) -> Value:
    """The number with its recipe."""
    of = next(of for kind, of in _MADE.items() if isinstance(value, kind))
    made = of(value)
    made.recipe = recipe
    return made


def standing(value: Value) -> Value:
    """The value without a recipe."""
    if isinstance(value, MovingNumber):
        return next(kind(value) for kind in _MADE if isinstance(value, kind))
    return value


def joined(name: str, function: Callable[..., Value], values: list[Value]) -> Recipe:
    """The recipe of ``function(*values)``, of which one moves at least. name: the function's."""
    made = [v.recipe if isinstance(v, MovingNumber) else None for v in values]
    keys = [(type(v), v) if r is None else r.key for v, r in zip(values, made, strict=True)]
    parts = dict.fromkeys(part for recipe in made if recipe is not None for part in recipe.parts)

    def at(there: Mapping[Part, int]) -> Value:
        return function(
            *[v if r is None else r.at(there) for v, r in zip(values, made, strict=True)]
        )

    return Recipe((name, *keys), tuple(parts), at, _most(name, values))


def is_never_null(name: str, values: list[Value]) -> bool:
    """Whether the function of numbers has a value on every date: nothing looks at nulls alone."""
    return _most(name, values) < _NEVER_NULL


def _most(name: str, values: list[Value]) -> float:
    """How large the function of these numbers may be; infinite where it may be null."""
    sizes = [v.recipe.most if isinstance(v, MovingNumber) else abs(float(v)) for v in values]
    if name in ("+", "-", "sum"):
        return sum(sizes)
    if name in ("neg", "average"):
        return max(sizes)
    if name == "*":
        return sizes[0] * sizes[1]
    if name in ("/", "%") and not isinstance(values[1], MovingNumber):
        return max(sizes[0], sizes[0] / sizes[1]) if sizes[1] else math.inf
    return math.inf


def next_turn(recipe: Recipe, now: int, limit: int) -> int | None:
    """The first midnight in (now, limit] at which the recipe's value is another than at now.

    Cost: 1 us a day, and one call of the recipe for each set of parts that occurs.
    """
    day, last, count = now // DAY_MS, limit // DAY_MS, 32
    seen: dict[tuple[int, ...], Value] = {}
    present: list[Value] = []
    while day <= last:
        end = min(day + count, last + 1)
        for at, numbers in enumerate(zip(*_numbers(recipe.parts, day, end), strict=True), day):
            if numbers not in seen:
                there = dict(zip(recipe.parts, numbers, strict=True))
                seen[numbers] = recipe.at(there) if all(numbers) else None
            value = seen[numbers]
            if not present:
                present.append(value)
            elif value != present[0] or type(value) is not type(present[0]):
                return at * DAY_MS
        day, count = end, 2 * count
    return None


def _numbers(parts: Iterable[Part], start: int, end: int) -> list[list[int]]:
    """The parts of days in [start, end), counted from 1970-01-01; 0 beyond the calendar, where
    nothing has parts."""
    columns = []
    for part, offset in parts:
        first, last = (_EPOCH + day + offset // DAY_MS for day in (start, end - 1))
        within = range(max(first, 1), min(last, _LAST) + 1)
        numbers = [getattr(date, part) for date in map(datetime.date.fromordinal, within)]
        before = [0] * (within.start - first)
        columns.append(before + numbers + [0] * (end - start - len(before) - len(numbers)))
    return columns
