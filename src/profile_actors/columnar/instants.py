"""Calendar arithmetic on arrays of instants: unit starts and shifts, in ms UTC.

Theory: an instant is int64 ms since 1970. Month-like units (month … millennium) go through NumPy's
proleptic month numbers; the others are exact multiples of a millisecond. Every function is
nondecreasing in its instant, which is what ``windows`` inverts.

Limits: rules know the years 1 to 9999 only; results outside are computed (saturated far beyond) and
the caller masks them with ``in_years``.
"""

from __future__ import annotations

import numpy as np

from profile_actors.columnar.time_units import DAY_MS, EXACT_MS, MONTHS
from profile_actors.columnar.vectors import Array


def unit_starts(unit: str, after: int, until: int) -> Array:
    """The starts of days or months later than ``after``, up to ``until``. int64 ms, ascending."""
    bounds = np.array([after, until], np.int64)
    if unit == "day":
        low, high = (bounds // DAY_MS).tolist()
        return np.arange(low + 1, high + 1, dtype=np.int64) * DAY_MS
    low, high = month_number(bounds).tolist()
    return month_start(np.arange(low + 1, high + 1, dtype=np.int64))


FIRST_MS = -62_135_596_800_000
"""0001-01-01T00:00:00.000Z."""


LAST_MS = 253_402_300_799_999
"""9999-12-31T23:59:59.999Z."""


FAR_MS = 10**15
"""Beyond any year that rules know, yet far from the ends of int64."""


FAR_MONTHS = 250_000


_SUNDAY_MS = 3 * DAY_MS  # 1970-01-04, the first Sunday


_MONTHS_TO_1970 = 1970 * 12


_MARCH_0000_DAYS = 719_468  # from 0000-03-01 to 1970-01-01


def in_years(instants: Array) -> Array:
    """bool: which instants lie in the years that rules know."""
    return (instants >= FIRST_MS) & (instants <= LAST_MS)


def saturate(instants: Array) -> Array:
    """Pull instants into ±FAR_MS, so that later arithmetic cannot wrap."""
    if not instants.size or (instants.min() >= -FAR_MS and instants.max() <= FAR_MS):
        return instants  # two reductions cost a tenth of a clip
    return np.asarray(np.clip(instants, -FAR_MS, FAR_MS))


def month_number(instants: Array) -> Array:
    """Months since 1970-01, int64. A third of the time of NumPy's own conversion (10 ns each).

    Source: days to civil date by 400-year eras of years that begin in March, as in H. Hinnant,
    "chrono-Compatible Low-Level Date Algorithms".
    """
    days = instants // DAY_MS + _MARCH_0000_DAYS
    era = days // 146_097
    day_of_era = days - era * 146_097
    leaps = day_of_era // 1_460 - day_of_era // 36_524 + day_of_era // 146_096
    year_of_era = (day_of_era - leaps) // 365
    day_of_year = day_of_era - (365 * year_of_era + year_of_era // 4 - year_of_era // 100)
    month_from_march = (5 * day_of_year + 2) // 153
    return np.asarray((era * 400 + year_of_era) * 12 + month_from_march + 2 - _MONTHS_TO_1970)


def month_start(months: Array) -> Array:
    """First ms of months counted since 1970-01, int64."""
    return months.astype("datetime64[M]").astype("datetime64[ms]").astype(np.int64)


def _unit_month(instants: Array, size: int) -> Array:
    months = month_number(saturate(instants))
    return months if size == 1 else np.asarray(months - (months + _MONTHS_TO_1970) % size)


def unit_start(instants: Array, unit: str) -> Array:
    """First ms of the calendar unit that contains each instant. Weeks start on Sunday."""
    if unit in MONTHS:
        return month_start(_unit_month(instants, MONTHS[unit]))
    size = EXACT_MS[unit]
    if size == 1:
        return instants
    origin = _SUNDAY_MS if unit == "week" else 0
    return np.asarray(instants - (instants - origin) % size)


def unit_next(instants: Array, unit: str, units: int = 1) -> Array:
    """First ms of the unit ``units`` after the one that contains each instant (0: its own)."""
    if unit in MONTHS:
        size = MONTHS[unit]
        return month_start(_unit_month(instants, size) + _capped(units * size, FAR_MONTHS))
    return unit_start(instants, unit) + _capped(units * EXACT_MS[unit], FAR_MS)


def unit_ceiling(instants: Array, unit: str) -> Array:
    """The first unit start that is not before each instant."""
    return unit_next(instants - 1, unit)


def shift(instants: Array, amount: int, unit: str) -> Array:
    """T + amount·unit (RULES section 4): the same day and time in the month that far away, or that
    month's last ms if it lacks the day; an exact duration for week and shorter."""
    if unit in EXACT_MS:
        return np.asarray(saturate(instants) + _capped(amount * EXACT_MS[unit], 3 * FAR_MS))
    instants = saturate(instants)
    months = month_number(instants)
    offset = instants - month_start(months)
    target = months + _capped(amount * MONTHS[unit], FAR_MONTHS)
    start = month_start(target)
    return np.asarray(np.minimum(start + offset, month_start(target + 1) - 1))


def shift_first(values: Array, amount: int, unit: str) -> Array:
    """The first instant T with shift(T, amount, unit) >= value, per value."""
    if unit in EXACT_MS:
        return np.asarray(saturate(values) - _capped(amount * EXACT_MS[unit], 3 * FAR_MS))
    values = saturate(values)
    months = month_number(values)
    offset = values - month_start(months)
    source = months - _capped(amount * MONTHS[unit], FAR_MONTHS)
    return np.asarray(np.minimum(month_start(source) + offset, month_start(source + 1)))


def _capped(amount: int, limit: int) -> int:
    return max(-limit, min(limit, amount))
