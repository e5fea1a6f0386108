"""Moving bounds: ``occurs`` against the clock, turned into instants at which it flips.

Theory: a TIME is a nondecreasing step function of now (a day word floors now, ``- N months`` shifts
it, ``this month`` floors to the month), so an ``Instant`` is kept as the chain of those steps and
can be inverted step by step: ``first(v)`` is the first now at which the function reaches v. Every
form of ``occurs`` except ``!=`` is a conjunction of halves ``bound <= t`` and ``t <= bound``: a
fixed t satisfies it in exactly one interval of now, whose ends are such inversions. A TIME that
leaves the years 1-9999 is null and makes the form false: that too is an interval.

Limits: a form with ``!=``, a disjunction or a bound that is not a function of now alone is not an
interval; the planner keeps those out of windows.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

import numpy as np

from profile_actors.columnar.instants import (
    FIRST_MS,
    LAST_MS,
    in_years,
    saturate,
    shift,
    shift_first,
    unit_ceiling,
    unit_next,
)
from profile_actors.columnar.time_units import DAY_MS
from profile_actors.columnar.vectors import FOREVER, Array
from profile_actors.rules.semantics.calendar import DAY_WORDS
from profile_actors.rules.tree.nodes import Calendar, Literal, Node, Now, Occurs

NEVER = -FOREVER


class CalendarStep(NamedTuple):
    """kind 'next': start of the unit ``amount`` after the containing one; 'end': its last ms;
    'shift': T + amount·unit."""

    kind: str
    amount: int
    unit: str


@dataclass(frozen=True)
class Instant:
    """A time as a function of now: base (None = now itself, else a fixed time per row) and steps.

    valid: rows where the base is not null. Every intermediate time must lie in the years 1-9999,
    calendar units whole.
    """

    base: Array | None
    steps: tuple[CalendarStep, ...] = ()
    valid: Array | None = None

    def then(self, kind: str, amount: int, unit: str) -> Instant:
        """The same function with one more step."""
        return Instant(self.base, (*self.steps, CalendarStep(kind, amount, unit)), self.valid)

    @property
    def moving(self) -> bool:
        return self.base is None

    def at(self, now: Array) -> tuple[Array, Array]:
        """(values, valid) at each now; int64 and bool."""
        value = now if self.base is None else self.base
        valid = in_years(value)
        if self.valid is not None:
            valid = valid & self.valid
        for step in self.steps:
            value = _apply(step, value)
            low, high = _limits(step)
            valid = valid & (low <= value) & (value <= high)
        return value, valid

    def first(self, values: Array) -> Array:
        """The first now at which the time is >= each value; NEVER if always, FOREVER if never."""
        for step in reversed(self.steps):
            values = _invert(step, values)
        if self.base is None:
            return _open_ended(values)
        reached = self.base >= values
        return np.where(reached, np.int64(NEVER), np.int64(FOREVER))

    def known(self) -> tuple[Array, Array]:
        """The interval [from, to) of now in which no step leaves the years 1-9999."""
        if self.base is None:
            low, high = _known_of_now(self.steps)
            return np.asarray(low), np.asarray(high)
        return _known(self)


@lru_cache(maxsize=4096)
def _known_of_now(steps: tuple[CalendarStep, ...]) -> tuple[int, int]:
    low, high = _known(Instant(None, steps))
    return int(low), int(high)


def _known(instant: Instant) -> tuple[Array, Array]:
    low: Array = np.asarray(NEVER)
    high: Array = np.asarray(FOREVER)
    if instant.base is not None:
        high = np.where(in_years(instant.base), high, np.int64(NEVER))
    for count, step in enumerate(instant.steps, 1):
        part = Instant(instant.base, instant.steps[:count])
        least, most = _limits(step)
        low = np.maximum(low, part.first(np.asarray(least)))
        high = np.minimum(high, part.first(np.asarray(most + 1)))
    if instant.valid is not None:
        high = np.where(instant.valid, high, np.int64(NEVER))
    return low, high


class Half(NamedTuple):
    """``bound + offset <= t`` (lower) or ``t <= bound + offset``; t and now in ms."""

    bound: Instant
    offset: int
    lower: bool


Fixed = Callable[[Node], tuple[Array, Array | None]]
"""How a TIME that is not a clock word or calendar interval becomes (values, valid)."""


def instant(node: Node, fixed: Fixed, last: bool = False) -> Instant:
    """The TIME as one instant: an interval's first millisecond, or its last if ``last``."""
    if isinstance(node, Now):
        if node.kind == "now":
            return Instant(None)
        return Instant(None, (CalendarStep("next", DAY_WORDS[node.kind], "day"),))
    if isinstance(node, Calendar):
        this = Instant(None, (CalendarStep("next", 0, node.unit),)) if node.shift else Instant(None)
        return this.then("end" if last else "next", node.shift, node.unit)
    values, valid = fixed(node)
    return Instant(values, (), valid)


def halves(occurs: Occurs, fixed: Fixed, is_day: bool) -> tuple[Half, ...]:
    """The conjunction that an ``occurs`` form means, RULES section 4. For ``!=`` that of ``=``.

    is_day: ``on`` a TIME that is a day word or a date, and so stands for the whole day.
    """
    time = occurs.time
    if occurs.form == "before":
        return (Half(instant(time, fixed), -1, False),)
    if occurs.form == "after":
        return (Half(instant(time, fixed, last=True), 1, True),)
    if occurs.form == "between":
        assert occurs.until is not None, occurs
        upper = instant(occurs.until, fixed, last=True)
        return Half(instant(time, fixed), 0, True), Half(upper, 0, False)
    if occurs.form == "on":
        if is_day:
            return _unit_of(instant(time, fixed), "day")
        upper = instant(time, fixed, last=True)
        return Half(instant(time, fixed), 0, True), Half(upper, 0, False)
    assert occurs.form == "distance", occurs.form
    return _distance(occurs, fixed)


def _distance(occurs: Occurs, fixed: Fixed) -> tuple[Half, ...]:
    before = occurs.direction == "before"
    near = instant(occurs.time, fixed, last=not before)
    far = near.then("shift", -occurs.amount if before else occurs.amount, occurs.unit)
    inward = 1 if before else -1
    match occurs.comparison:
        case "=" | "!=":
            return _unit_of(far, occurs.unit)
        case "<=":
            return Half(far, 0, before), Half(near, 0, not before)
        case "<":
            return Half(far, inward, before), Half(near, 0, not before)
        case ">":
            return (Half(far, -inward, not before),)
        case ">=":
            return (Half(far, 0, not before),)
    raise AssertionError(occurs.comparison)


def _unit_of(time: Instant, unit: str) -> tuple[Half, ...]:
    return (
        Half(time.then("next", 0, unit), 0, True),
        Half(time.then("end", 0, unit), 0, False),
    )


def holds(parts: tuple[Half, ...], times: Array, now: Array) -> Array:
    """bool: which times satisfy every half at now (broadcast); a null bound makes it false."""
    result: Array = np.ones((), np.bool_)
    for bound, offset, lower in parts:
        value, valid = bound.at(now)
        limit = value + offset if offset else value
        result = result & (limit <= times if lower else times <= limit) & valid
    return result


def known(parts: tuple[Half, ...], now: Array) -> Array:
    """bool: where every bound of the form is a time of the years 1-9999 and not null."""
    result: Array = np.ones((), np.bool_)
    for part in parts:
        result = result & part.bound.at(now)[1]
    return result


def flips(parts: tuple[Half, ...], times: Array) -> list[Array]:
    """Instants of now at which one of the halves may flip for fixed times; int64 arrays."""
    found: list[Array] = []
    for bound, offset, lower in parts:
        if bound.moving:
            found.append(bound.first(times - offset + int(lower)))
            found.extend(bound.known())
    return found


def interval(window: tuple[Occurs, ...], ts: Array) -> tuple[Array, Array]:
    """When each event counts: it does exactly while enter <= now < leave.

    window: conjuncts on the event's timestamp, each against now, day words, calendar intervals or
    constants. ts: int64 ms, any shape. Returns int64 (enter, leave) of that shape: enter >= ts,
    leave is FOREVER if it never stops; empty where leave <= enter. Cost: a few NumPy passes per
    conjunct, about 30 ns per event for exact units; of calendar windows one look-up per day of the
    events. Raises AssertionError for a conjunct that is not an interval of now.
    """
    if is_by_day(window) and ts.ndim == 1:
        return _interval_by_day(window, ts)
    return _interval(window, ts)


@lru_cache(maxsize=4096)
def is_by_day(window: tuple[Occurs, ...]) -> bool:
    """Whether the interval of an event is that of its UTC day, but for its own timestamp."""
    return bool(window) and all(_is_by_day(occurs) for occurs in window)


def _is_by_day(occurs: Occurs) -> bool:
    # Not where an upper bound is a midnight: of its day only the first millisecond is inside.
    closing = occurs.until if occurs.form == "between" else occurs.time
    if occurs.form in ("after", "between") and not isinstance(closing, Calendar):
        return False
    times = [occurs.time] if occurs.until is None else [occurs.time, occurs.until]
    return occurs.form in ("on", "before", "after", "between") and all(
        (isinstance(time, Now) and time.kind != "now")
        or (isinstance(time, Calendar) and time.unit in _OF_DAYS)
        for time in times
    )


_OF_DAYS = ("day", "week", "month", "quarter", "year", "decade", "century", "millennium")


def _interval_by_day(window: tuple[Occurs, ...], ts: Array) -> tuple[Array, Array]:
    days, place = np.unique(ts // DAY_MS, return_inverse=True)
    found = np.array([_interval_of_day(window, day) for day in days.tolist()], np.int64)
    bounds = found.reshape(len(days), 2)[place]
    return np.maximum(ts, bounds[:, 0]), np.ascontiguousarray(bounds[:, 1])


@lru_cache(maxsize=1 << 16)
def _interval_of_day(window: tuple[Occurs, ...], day: int) -> tuple[int, int]:
    """(enter, leave) of the first millisecond of a day."""
    enter, leave = _interval(window, np.array([day * DAY_MS], np.int64))
    return int(enter[0]), int(leave[0])


def _interval(window: tuple[Occurs, ...], ts: Array) -> tuple[Array, Array]:
    enter = ts
    leave = np.full(ts.shape, FOREVER, np.int64)
    for flip_of, back, lower, begin, end in _bounds(window):
        flip = flip_of(ts - back if back else ts)
        if lower:
            leave = np.minimum(leave, flip)
        else:
            enter = np.maximum(enter, flip)
        if begin is not None:
            enter = np.maximum(enter, begin)
        if end is not None:
            leave = np.minimum(leave, end)
    return np.array(enter, np.int64), leave


_Bound = tuple[Callable[[Array], Array], int, bool, Array | None, Array | None]
"""When a half flips for a time so many ms back; whether it is a lower one; where it is known."""


@lru_cache(maxsize=4096)
def _bounds(window: tuple[Occurs, ...]) -> tuple[_Bound, ...]:
    """The halves of a window's conjuncts, but for ``t <= now``, which every event satisfies."""
    found: list[_Bound] = []
    for occurs in window:
        assert occurs.comparison != "!=", "a negated window is not an interval"
        for bound, offset, lower in halves(occurs, _literal, stands_for_day(occurs.time)):
            if bound.base is None and not (bound.steps or offset or lower):
                continue
            begin, end = bound.known()
            found.append(
                (
                    bound.first,
                    offset - int(lower),
                    lower,
                    begin if begin > NEVER else None,
                    end if end < FOREVER else None,
                )
            )
    return tuple(found)


def stands_for_day(time: Node) -> bool:
    """Whether ``on`` this TIME means the whole day: a day word, or anything of type date."""
    if isinstance(time, Literal):
        return time.kind == "date"
    if isinstance(time, Now):
        return time.kind != "now"
    return time.type is not None and time.type.kind == "date"


def _literal(node: Node) -> tuple[Array, Array | None]:
    assert isinstance(node, Literal), f"expected a constant bound in a window, got {node}"
    return np.asarray(node.value, np.int64), None


def _apply(step: CalendarStep, value: Array) -> Array:
    if step.kind == "shift":
        return shift(value, step.amount, step.unit)
    if step.kind == "next":
        return unit_next(value, step.unit, step.amount)
    return unit_next(value, step.unit, step.amount + 1) - 1


@lru_cache(maxsize=4096)
def _limits(step: CalendarStep) -> tuple[int, int]:
    """The least and greatest result of a step: a whole unit inside the years 1-9999."""
    if step.kind == "shift":
        return FIRST_MS, LAST_MS
    first = unit_ceiling(np.asarray(FIRST_MS), step.unit)
    after = unit_next(np.asarray(LAST_MS + 1), step.unit, 0)
    if step.kind == "next":
        return int(first), int(unit_next(after, step.unit, -1))
    return int(unit_next(first, step.unit)) - 1, int(after) - 1


def _invert(step: CalendarStep, value: Array) -> Array:
    value = saturate(value)
    if step.kind == "shift":
        return shift_first(value, step.amount, step.unit)
    if step.kind == "next":
        return unit_next(unit_ceiling(value, step.unit), step.unit, -step.amount)
    # end(x) >= v  <=>  the start of the following unit >= v + 1
    return unit_next(unit_ceiling(value + 1, step.unit), step.unit, -step.amount - 1)


def _open_ended(values: Array) -> Array:
    """Instants of now outside the calendar become NEVER and FOREVER: now does not get there."""
    if not values.size or (values.min() >= FIRST_MS and values.max() <= LAST_MS):
        return values
    values = np.where(values > LAST_MS, np.int64(FOREVER), values)
    return np.where(values < FIRST_MS, np.int64(NEVER), values)
