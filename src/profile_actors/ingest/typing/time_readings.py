"""How a dataset's timestamp column is read: the unit of its numbers, the forms of its texts.

Theory: a whole number says nothing about its unit. Without a declaration it is milliseconds; what
is meant as seconds then lies in January 1970, and every window is wrong in silence. So a dataset
may declare ``timestamp_unit`` and ``timestamp_format``, nothing is ever guessed, and numbers that
make sense only as another unit are counted (``odd_units``), for a warning that changes nothing.

    no format    a number by the unit (ms if none is declared), any other text as ISO-8601
    formats      a text, or a whole number's digits, by the first that fits; what fits none is a
                 number by the unit if one is declared, else refused

Limits: Excel's day numbers are those of the 1900 system, from 1900-03-01 (61) on: before it that
system has a day too many.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from decimal import ROUND_FLOOR, ROUND_HALF_EVEN, Context, Decimal

import numpy as np

from profile_actors.columnar.time_units import DAY_MS
from profile_actors.definitions.declared import Dataset
from profile_actors.definitions.time_formats import TimeFormat, compile_time_format

TIME_MIN_MS = -62_135_596_800_000  # 0001-01-01


TIME_MAX_MS = 253_402_300_799_999  # 9999-12-31T23:59:59.999


EXCEL_1970 = 25_569  # Excel's number of 1970-01-01


FIRST_EXCEL_DAY = 61


DIVISORS = {"ms": 1, "us": 1_000, "ns": 1_000_000}


FRACTIONAL = ("s", "excel_days")  # units of which a number may have digits after the point


_TOO_FAR = 10**19  # no unit has a time there


_WIDE = Context(prec=60)


_MEANINGS = {
    "ms": "milliseconds since 1970",
    "s": "seconds since 1970",
    "us": "microseconds since 1970",
    "ns": "nanoseconds since 1970",
    "excel_days": "Excel day numbers",
    "yyyymmdd": "dates written YYYYMMDD",
    "yyyymmddhhmmss": "times written YYYYMMDDhhmmss",
}


_FORMATS = {"yyyymmdd": "%Y%m%d", "yyyymmddhhmmss": "%Y%m%d%H%M%S"}


PLAUSIBLE_MS = 315_532_800_000  # 1980: times of numbers from here to the present need no warning


@dataclass(frozen=True, slots=True)
class TimeReading:
    """A dataset's declaration, compiled. unit: None if none is declared."""

    unit: str | None = None
    formats: tuple[TimeFormat, ...] = ()

    @property
    def number_unit(self) -> str | None:
        """How a number is read; None if it is not."""
        return self.unit or (None if self.formats else "ms")

    @property
    def expected(self) -> str:
        """What a refused value should have been, in words."""
        forms = [repr(form.text) for form in self.formats] or ["ISO-8601"]
        words = f"timestamp as {' or '.join(forms)}"
        return words if self.unit is None else f"{words} or in {_MEANINGS[self.unit]}"

    def of_text(self, text: str) -> int | None:
        """ms by the first format that fits; None if none does."""
        return next((ms for form in self.formats if (ms := form.read(text)) is not None), None)

    def of_digits(self, number: int) -> int | None:
        """ms of a whole number whose digits fit a format; None if they fit none."""
        return self.of_text(str(number)) if self.formats and abs(number) < _TOO_FAR else None

    def of_number(self, number: int | float | Decimal) -> int | None:
        """ms of a number in the unit; None if it is none that the unit takes."""
        unit = self.number_unit
        if abs(number) >= _TOO_FAR if isinstance(number, int) else not _is_finite(number):
            return None
        if unit in DIVISORS and isinstance(number, int):
            return number // DIVISORS[unit]
        if unit not in FRACTIONAL:
            return None
        exact = Decimal(repr(number)) if isinstance(number, float) else Decimal(number)
        if abs(exact) >= _TOO_FAR:
            return None
        if unit == "s":
            return int(_WIDE.multiply(exact, 1000).to_integral_value(ROUND_FLOOR))
        if exact < FIRST_EXCEL_DAY:
            return None
        days = _WIDE.subtract(exact, EXCEL_1970)
        # Excel keeps a time as a binary fraction of a day: 8:00 is 0.3333333333333.
        return int(_WIDE.multiply(days, DAY_MS).to_integral_value(ROUND_HALF_EVEN))


def _is_finite(number: float | Decimal) -> bool:
    return number.is_finite() if isinstance(number, Decimal) else math.isfinite(number)


def reading_of(dataset: Dataset) -> TimeReading | None:
    """The dataset's reading; None if it declares neither unit nor format."""
    given = dataset.timestamp_format
    if given is None and dataset.timestamp_unit is None:
        return None
    texts = () if given is None else (given,) if isinstance(given, str) else given
    return TimeReading(dataset.timestamp_unit, tuple(map(compile_time_format, texts)))


def odd_units(numbers: np.ndarray, now_ms: int) -> dict[str, int]:
    """How many numbers are a time from 1980 to a day from now in each unit or form.

    numbers: float64[n]. The ranges do not meet, so there is never a choice. Cost: a few passes.
    """
    first, last = PLAUSIBLE_MS, now_ms + DAY_MS
    # A year of 365.2425 days: only the order of magnitude of the last date counts.
    last_year = 1970 + last / 31_556_952_000
    ranges = {
        "ms": (first, last),
        "s": (first / 1000, last / 1000),
        "us": (first * 1e3, last * 1e3),
        "ns": (first * 1e6, last * 1e6),
        "excel_days": (first / DAY_MS + EXCEL_1970, last / DAY_MS + EXCEL_1970),
        "yyyymmdd": (19_800_101, last_year * 10**4 + 1231),
        "yyyymmddhhmmss": (19_800_101 * 10**6, (last_year * 10**4 + 1231) * 10**6),
    }
    counts = {}
    for unit, (low, high) in ranges.items():
        inside = numbers[(numbers >= low) & (numbers <= high)]
        if unit in _FORMATS:
            dates = (inside // (1 if unit == "yyyymmdd" else 10**6)).astype(np.int64)
            months, days = dates // 100 % 100, dates % 100
            inside = inside[(months >= 1) & (months <= 12) & (days >= 1) & (days <= 31)]
        if len(inside):
            counts[unit] = len(inside)
    return counts


def warning_of(dataset: str, column: str, unit: str) -> str:
    """What a report says, after their number, of rows whose time looks like another unit's."""
    form = _FORMATS.get(unit)
    cure = f"timestamp_unit={unit!r}" if form is None else f"timestamp_format={form!r}"
    return (
        f"with a number in column {column!r} that looks like {_MEANINGS[unit]} but was not read so;"
        f" if that is what it is, declare {cure} on dataset {dataset!r} before loading such rows"
    )
