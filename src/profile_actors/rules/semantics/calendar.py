"""UTC calendar arithmetic on integer milliseconds, and what each form of ``occurs`` means.

Theory: an instant is an int, milliseconds since 1970-01-01T00:00Z, in the proleptic Gregorian years
1 to 9999; outside them every function answers None (a rule's null). Exact units (millisecond to
week) are durations; month and longer move by months, and a day that the target month lacks becomes
that month's last millisecond, so ``shift`` never moves back as its argument grows. ``floor`` is
monotone too. Hence every form of ``occurs`` is membership in one closed span of milliseconds whose
ends are monotone functions of its TIME: that is what both evaluators rely on to find the instants
at which it changes.

Rules for editors: pure integer functions, no floats, no clock. ``evaluation.windows`` holds the
vectorised versions; its tests compare them with these.
"""

from __future__ import annotations

import datetime
from dataclasses import dataclass

from profile_actors.columnar.time_units import (
    DAY_MS,
    EXACT_MS,
    HOUR_MS,
    MINUTE_MS,
    MONTHS,
    SECOND_MS,
    WEEK_MS,
)
from profile_actors.rules.tree.nodes import Occurs

UNITS = (*EXACT_MS, *MONTHS)


_IRREGULAR = {"centuries": "century", "millennia": "millennium"}


_EPOCH = datetime.date(1970, 1, 1).toordinal()


MIN_MS = (1 - _EPOCH) * DAY_MS


MAX_MS = (datetime.date(9999, 12, 31).toordinal() - _EPOCH + 1) * DAY_MS - 1


_FIRST_MONTH = 12  # months since year 0 of 0001-01


_LAST_MONTH = 12 * 10_000 - 1


Span = tuple[int, int]
"""First and last millisecond of a closed span."""


def unit_of(word: str) -> str | None:
    """The singular lower-case unit that ``word`` names in any case, singular or plural, or None."""
    lower = word.lower()
    if lower in UNITS:
        return lower
    if lower in _IRREGULAR:
        return _IRREGULAR[lower]
    if lower.endswith("s") and lower[:-1] in UNITS and lower != "centurys":
        return lower[:-1]
    return None


def in_range(t: int) -> int | None:
    """``t`` itself, or None outside the years 1 to 9999."""
    return t if MIN_MS <= t <= MAX_MS else None


def from_civil(
    year: int, month: int, day: int, hour: int = 0, minute: int = 0, second: int = 0
) -> int | None:
    """The instant of a UTC calendar reading, or None if there is no such day or time."""
    if not (0 <= hour <= 23 and 0 <= minute <= 59 and 0 <= second <= 59):
        return None
    try:
        ordinal = datetime.date(year, month, day).toordinal()
    except (ValueError, OverflowError):
        return None
    return (ordinal - _EPOCH) * DAY_MS + hour * HOUR_MS + minute * MINUTE_MS + second * SECOND_MS


def civil(t: int) -> datetime.date:
    """The UTC day that contains ``t``, which must be in range."""
    return datetime.date.fromordinal(t // DAY_MS + _EPOCH)


def year(t: int) -> int:
    """Year of ``t`` (UTC), 1 to 9999."""
    return civil(t).year


def month(t: int) -> int:
    """Month of ``t`` (UTC), 1 to 12."""
    return civil(t).month


def day_of_month(t: int) -> int:
    """Day of the month of ``t`` (UTC), 1 to 31."""
    return civil(t).day


def _month_start(months: int) -> int:
    """First millisecond of a month given as 12 * year + month - 1; the month after 9999-12 too."""
    if months > _LAST_MONTH:
        return MAX_MS + 1
    return (datetime.date(months // 12, months % 12 + 1, 1).toordinal() - _EPOCH) * DAY_MS


def shift(t: int, amount: int, unit: str) -> int | None:
    """``t`` moved by ``amount`` units, forward when positive; None when it leaves the calendar.

    Months and longer: the same day and time of day in the month that far away; if that month lacks
    the day, that month's last millisecond. Monotone in ``t`` and in ``amount``.
    """
    if in_range(t) is None:
        return None
    if unit in EXACT_MS:
        return in_range(t + amount * EXACT_MS[unit])
    date = civil(t)
    target = date.year * 12 + date.month - 1 + amount * MONTHS[unit]
    if not _FIRST_MONTH <= target <= _LAST_MONTH:
        return None
    shifted = _month_start(target) + (date.day - 1) * DAY_MS + t % DAY_MS
    return min(shifted, _month_start(target + 1) - 1)


def interval(t: int, unit: str) -> Span | None:
    """The calendar unit that contains ``t``, as its first and last millisecond.

    Sub-day units are aligned to UTC, weeks start on Sunday, decades and longer in years divisible
    by 10, 100, 1000. None if any of it lies outside the years 1 to 9999.
    """
    if in_range(t) is None:
        return None
    if unit in EXACT_MS:
        size = EXACT_MS[unit]
        # 1970-01-01 was a Thursday, four days after a Sunday; every other unit divides a day.
        first = t - (t + 4 * DAY_MS) % WEEK_MS if unit == "week" else t - t % size
        last = first + size - 1
    else:
        size = MONTHS[unit]
        date = civil(t)
        start = date.year * 12 + date.month - 1
        start -= start % size
        if start < _FIRST_MONTH:
            return None
        first = _month_start(start)
        last = _month_start(start + size) - 1
        if start + size - 1 > _LAST_MONTH:
            return None
    return (first, last) if first >= MIN_MS and last <= MAX_MS else None


def floor(t: int, unit: str) -> int | None:
    """First millisecond of the calendar unit that contains ``t``; None as for ``interval``."""
    span = interval(t, unit)
    return None if span is None else span[0]


def calendar_interval(now: int, unit: str, steps: int) -> Span | None:
    """``this`` (0), ``last`` (-1) or ``next`` (+1) calendar unit, seen from ``now``."""
    span = interval(now, unit)
    if span is None:
        return None
    first = shift(span[0], steps, unit)
    return None if first is None else interval(first, unit)


UNIT_SHIFTS = {"this": 0, "last": -1, "next": 1}
"""Which unit a word before one names, counted from the one that now is in."""


DAY_WORDS = {"today": 0, "yesterday": -1, "tomorrow": 1}
"""Which day a word names, counted from today."""


def word_instant(kind: str, now: int) -> int | None:
    """``now`` itself, or the midnight of today, yesterday or tomorrow."""
    if kind == "now":
        return now
    return in_range(now - now % DAY_MS + DAY_WORDS[kind] * DAY_MS)


def instant_span(t: int | None) -> Span | None:
    """A TIME that is one instant."""
    return None if t is None else (t, t)


def day_span(midnight: int | None) -> Span | None:
    """A TIME that is a day word or a date, under ``on``: the whole UTC day."""
    return None if midnight is None else (midnight, midnight + DAY_MS - 1)


@dataclass(frozen=True, slots=True)
class Bounds:
    """Which subjects an ``occurs`` accepts: those in [low, high] (None: unbounded), or with
    ``inside`` false those outside it. low > high accepts nothing when inside is true."""

    low: int | None
    high: int | None
    inside: bool = True

    def contains(self, t: int) -> bool:
        within = (self.low is None or self.low <= t) and (self.high is None or t <= self.high)
        return within == self.inside


def occurs_bounds(node: Occurs, time: Span | None, until: Span | None = None) -> Bounds | None:
    """The subjects that ``node`` accepts, given its resolved TIMEs; None (false) if one is null.

    time: ``instant_span`` of an instant, ``calendar_interval`` of this|last|next UNIT; day words
    and dates are ``instant_span(midnight)``, under ``on`` ``day_span(midnight)``. until: the second
    bound of 'between'.
    Both ends are monotone in the ends of ``time`` and ``until``.  Source: RULES §4.
    """
    if time is None:
        return None
    first, last = time
    match node.form:
        case "before":
            return Bounds(None, first - 1)
        case "after":
            return Bounds(last + 1, None)
        case "on":
            return Bounds(first, last)
        case "between":
            return None if until is None else Bounds(first, until[1])
        case "distance":
            if node.direction == "before":
                return _distance_before(node, first)
            return _distance_after(node, last)
    raise AssertionError(node.form)


def _distance_before(node: Occurs, time: int) -> Bounds | None:
    bound = shift(time, -node.amount, node.unit)
    if bound is None:
        return None
    match node.comparison:
        case "<=":
            return Bounds(bound, time)
        case "<":
            return Bounds(bound + 1, time)
        case ">":
            return Bounds(None, bound - 1)
        case ">=":
            return Bounds(None, bound)
    return _same_unit(node, bound)


def _distance_after(node: Occurs, time: int) -> Bounds | None:
    bound = shift(time, node.amount, node.unit)
    if bound is None:
        return None
    match node.comparison:
        case "<=":
            return Bounds(time, bound)
        case "<":
            return Bounds(time, bound - 1)
        case ">":
            return Bounds(bound + 1, None)
        case ">=":
            return Bounds(bound, None)
    return _same_unit(node, bound)


def _same_unit(node: Occurs, bound: int) -> Bounds | None:
    span = interval(bound, node.unit)
    return None if span is None else Bounds(span[0], span[1], inside=node.comparison == "=")
