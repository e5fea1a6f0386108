"""Whole columns of times: ISO-8601 texts, numbers in any unit, texts in declared formats.

Theory: as in ``typed_columns``: what a kernel accepts is provably what ``judge`` accepts, with the
same value; every other cell is suspect. A format's groups are extracted by RE2 from the distinct
texts, and its arithmetic is done on whole arrays. Fractions of seconds and of days are computed as
doubles only where rounding cannot decide; what is near a boundary is suspect.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from profile_actors.columnar.time_units import DAY_MS
from profile_actors.definitions.time_formats import FIRST_SHORT_YEAR, MONTHS, TimeFormat, offset_ms
from profile_actors.ingest.typing.cells import (
    Typed,
    bounds_of,
    has_only,
    mask,
    none,
    sure_rows,
    valid,
)
from profile_actors.ingest.typing.time_readings import (
    DIVISORS,
    EXCEL_1970,
    FIRST_EXCEL_DAY,
    FRACTIONAL,
    TIME_MAX_MS,
    TIME_MIN_MS,
    TimeReading,
)

TIMESTAMP = pa.timestamp("ms", "UTC")


Numbers = tuple[np.ndarray, np.ndarray]  # ms int64[n], and where they are to be trusted, bool[n]


# What the kernels surely parse as judge does, and never beyond the type's range.
_SURE_INTEGER = r"^-?[0-9]{1,18}$"


_SURE_FRACTION = r"^[0-9]{1,11}(\.[0-9]{1,12})?$"


_LONG_FRACTION = r"\.[0-9]{5,}$"  # more digits than a double surely gives back


_SURE_NAIVE = r"^[0-9]{4}-[0-9]{2}-[0-9]{2}([T ][0-9]{2}:[0-9]{2}(:[0-9]{2}(\.[0-9]{1,6})?)?)?$"


_ISO_CHARS = {10, 16, 19, 23, 26}  # lengths of the common forms without a zone


_ZONED_CHARS = {20, 24, 25, 27, 29, 32}  # and with one; "…T10" has 13 characters, "…T10Z" 14


_NUMBER = r"^[0-9]{5,19}(\.[0-9]{0,12})?$"


_TOO_FAR = 1e30


_NEAR_MS = 0.01  # doubles of times are this exact up to _FAR_S


_FAR_S = 10**10  # the year 2286


_LAST_EXCEL_DAY = 2_958_465  # 9999-12-31


def floored(array: pa.Array, divisor: int) -> pa.Array:
    """Whole division that rounds down, as judge does before 1970 too. int64[n], nulls kept."""
    valid = array.is_valid()
    numbers = pc.fill_null(array, 0).to_numpy() // divisor
    return pc.if_else(valid, pa.array(numbers), pa.scalar(None, pa.int64()))


def as_times(ms: pa.Array) -> Typed:
    """int64 ms as timestamps; outside the years 1 to 9999 suspect."""
    low, high = bounds_of(ms)
    if low is None or (low >= TIME_MIN_MS and high <= TIME_MAX_MS):
        return pc.cast(ms, TIMESTAMP), none(ms)
    inside = pc.and_(pc.greater_equal(ms, TIME_MIN_MS), pc.less_equal(ms, TIME_MAX_MS))
    kept = pc.if_else(inside, ms, pa.scalar(None, pa.int64()))
    return pc.cast(kept, TIMESTAMP), ~mask(inside) & valid(ms)


def times_of_texts(reading: TimeReading | None, array: pa.Array, is_text: bool) -> Typed | None:
    """A string column as timestamps. is_text: digits are numbers, as in a text file."""
    if reading is None:
        if is_text and has_only(array, 48, 57):
            try:
                return as_times(pc.cast(array, pa.int64()))
            except pa.ArrowException:
                pass
        return _iso(array)
    if reading.formats:
        ms, found = _by_formats(reading.formats, array)
    else:
        ms, found = np.zeros(len(array), np.int64), np.zeros(len(array), bool)
    unit = reading.number_unit
    if is_text and unit is not None:
        ms, found = _filled(ms, found, array, lambda rest: _numbers_of_texts(unit, rest))
    if not reading.formats:
        ms, found = _filled(ms, found, array, _iso_numbers)
    return _times_found(ms, found, array)


def times_of_numbers(reading: TimeReading | None, array: pa.Array) -> Typed | None:
    """A column of integers or floats as timestamps."""
    if array.type == pa.uint64():
        return None
    if pa.types.is_integer(array.type):
        ints = pc.cast(array, pa.int64())
        if reading is None:
            return as_times(ints)
        ms, found = np.zeros(len(array), np.int64), np.zeros(len(array), bool)
        if reading.formats:
            ms, found = _by_formats(reading.formats, pc.cast(ints, pa.string()))
        whole_unit = reading.number_unit
        if whole_unit is not None:
            ms, found = _filled(ms, found, ints, lambda rest: _of_integers(whole_unit, rest))
        return _times_found(ms, found, array)
    unit = None if reading is None else reading.number_unit
    if unit not in FRACTIONAL:
        return None
    floats = pc.cast(array, pa.float64())
    return _times_found(*_of_fractions(unit, floats, none(array)), array)


def _times_found(ms: np.ndarray, found: np.ndarray, array: pa.Array) -> Typed:
    """Timestamps where they were found; suspect where there is a cell without one."""
    values, out = as_times(pa.array(ms, mask=~found))
    return values, out | (valid(array) & ~found)


def _filled(
    ms: np.ndarray, found: np.ndarray, array: pa.Array, way: Callable[[pa.Array], Numbers]
) -> Numbers:
    """What was found, and what another way finds among the other cells."""
    if bool((found | ~valid(array)).all()):
        return ms, found
    rest = pc.if_else(pa.array(found), pa.scalar(None, array.type), array) if found.any() else array
    more, more_found = way(rest)
    return np.where(more_found & ~found, more, ms), found | more_found


def _numbers_of_texts(unit: str, array: pa.Array) -> Numbers:
    if has_only(array, 48, 57):
        try:
            return _of_integers(unit, pc.cast(array, pa.int64()))
        except pa.ArrowException:
            pass
    if unit in FRACTIONAL:
        sure = sure_rows(array, _SURE_FRACTION, lambda a: pc.cast(a, pa.float64()))
        is_long = mask(pc.match_substring_regex(array, _LONG_FRACTION))
        return _of_fractions(unit, sure[0], is_long) if sure else _nothing(array)
    sure = sure_rows(array, _SURE_INTEGER, lambda a: pc.cast(a, pa.int64()))
    return _of_integers(unit, sure[0]) if sure else _nothing(array)


def _nothing(array: pa.Array) -> Numbers:
    return np.zeros(len(array), np.int64), np.zeros(len(array), bool)


def _of_integers(unit: str, array: pa.Array) -> Numbers:
    """int64 in a unit as ms."""
    present = valid(array)
    numbers = pc.fill_null(array, 0).to_numpy()
    if unit in DIVISORS:
        return numbers // DIVISORS[unit], present
    low, high = (-_FAR_S, _FAR_S) if unit == "s" else (FIRST_EXCEL_DAY, _LAST_EXCEL_DAY)
    found = present & (numbers >= low) & (numbers <= high)
    kept = np.where(found, numbers, 0)
    return (kept * 1000 if unit == "s" else (kept - EXCEL_1970) * DAY_MS), found


def _of_fractions(unit: str, array: pa.Array, is_long: np.ndarray) -> Numbers:
    """Doubles in seconds or days as ms. is_long: rows whose text may have said more than the
    double keeps. A double is the time of its shortest digits (as a decimal field takes it)."""
    numbers = pc.fill_null(array, 0.0).to_numpy()
    present = valid(array)
    if unit == "s":
        found = present & (np.abs(numbers) <= _FAR_S)
        kept = np.where(found, numbers, 0.0)
        near = np.rint(kept * 1000)
        # The double nearest to a number of 13 digits has these as its shortest digits.
        whole = (near / 1000 == kept) & ~is_long
        found &= whole | (np.abs(kept * 1000 - near) > _NEAR_MS)
        return np.where(whole, near, np.floor(kept * 1000)).astype(np.int64), found
    found = present & (numbers >= FIRST_EXCEL_DAY) & (numbers <= _LAST_EXCEL_DAY)
    ms = (np.where(found, numbers, EXCEL_1970) - EXCEL_1970) * DAY_MS
    found &= np.abs(ms - np.floor(ms) - 0.5) > _NEAR_MS
    return np.rint(ms).astype(np.int64), found


def numbers_of(cells: pa.Array | Sequence[Any], rows: np.ndarray, is_text: bool) -> np.ndarray:
    """The numbers among some cells, as float64. is_text: a text of digits is a number."""
    if not isinstance(cells, pa.Array):
        found = [cells[row] for row in rows.tolist()]
        plain = (n for n in found if isinstance(n, int | float) and not isinstance(n, bool))
        return np.array([n for n in plain if abs(n) < _TOO_FAR], np.float64)
    array = cells.take(pa.array(rows))
    if is_text:
        array = sure_rows(array, _NUMBER, lambda a: pc.cast(a, pa.float64()))
        array = None if array is None else array[0]
    if array is None or not (pa.types.is_integer(array.type) or pa.types.is_floating(array.type)):
        return np.zeros(0)
    numbers: np.ndarray = array.drop_null().cast(pa.float64(), safe=False).to_numpy()
    return numbers


# ---- formats -----------------------------------------------------------------------------------


def _by_formats(formats: Sequence[TimeFormat], array: pa.Array) -> Numbers:
    """Each text by the first format that fits; distinct texts are read once."""
    coded = array.dictionary_encode()
    texts = coded.dictionary
    ms, found = _nothing(texts)
    for form in formats:
        ms, found = _filled(ms, found, texts, lambda rest, form=form: _by_format(form, rest))  # type: ignore[misc]
    rows = pc.fill_null(coded.indices, 0).to_numpy()
    if not len(texts):
        return _nothing(array)
    return ms[rows], found[rows] & valid(array)


def _by_format(form: TimeFormat, texts: pa.Array) -> Numbers:
    """Texts of one format as ms, as ``TimeFormat.read`` has them. Cost: about 1 us a text."""
    fields = pc.extract_regex(texts, pattern=f"^(?:{form.pattern})$")
    found = valid(fields)
    part = {fields.type.field(i).name: fields.field(i) for i in range(fields.type.num_fields)}

    def number(name: str, default: int = 0) -> np.ndarray:
        if name not in part:
            return np.full(len(texts), default, np.int64)
        digits = pc.if_else(pa.array(found), part[name], pa.scalar("0"))
        found_numbers: np.ndarray = pc.cast(digits, pa.int64()).to_numpy()
        return found_numbers

    day, is_day = _days(part, number)
    hour, minute, second = number("H"), number("M"), number("S")
    found &= is_day & (hour <= 23) & (minute <= 59) & (second <= 59)
    if "I" in part:
        half = number("I")
        found &= (half >= 1) & (half <= 12)
        hour = half % 12 + 12 * mask(pc.equal(pc.ascii_upper(part["p"]), "PM"))
    ms = day * DAY_MS + (hour * 3600 + minute * 60 + second) * 1000
    if "f" in part:
        padded = pc.ascii_rpad(part["f"], 9, "0")
        thousandths = pc.utf8_slice_codeunits(padded, 0, 3)
        ms += pc.cast(pc.if_else(pa.array(found), thousandths, "0"), pa.int64()).to_numpy()
    if "z" in part:
        zones = part["z"].dictionary_encode()
        offsets = [_offset(zone) for zone in zones.dictionary.to_pylist()]
        known = np.array([ms is not None for ms in offsets], bool)
        codes = pc.fill_null(zones.indices, 0).to_numpy()
        found &= known[codes]
        ms -= np.array([ms or 0 for ms in offsets], np.int64)[codes]
    return np.where(found, ms, 0), found


def _days(part: dict[str, pa.Array], number: Callable[..., np.ndarray]) -> Numbers:
    """Days since 1970, and whether there is such a day."""
    short = number("y")
    year = number("Y")
    if "y" in part:
        year = short + np.where(short >= FIRST_SHORT_YEAR, 1900, 2000)
    is_day = year >= 1
    year = np.where(is_day, year, 1970)
    if "j" in part:
        first = _first_of((year - 1970) * 12)
        place, size = number("j"), _first_of((year - 1969) * 12) - first
    else:
        name = part.get("b", part.get("B"))
        if name is None:
            month = number("m")
        else:
            short_name = pc.utf8_slice_codeunits(pc.ascii_lower(name), 0, 3)
            names = pa.array([month[:3].lower() for month in MONTHS])
            month = pc.fill_null(pc.index_in(short_name, names), 0).to_numpy() + 1
        is_day &= (month >= 1) & (month <= 12)
        months = (year - 1970) * 12 + np.where(is_day, month, 1) - 1
        first = _first_of(months)
        place, size = number("d"), _first_of(months + 1) - first
    return first + place - 1, is_day & (place >= 1) & (place <= size)


def _first_of(months: np.ndarray) -> np.ndarray:
    """The day, counted from 1970, on which a month begins, counted from January 1970."""
    days: np.ndarray = months.astype("M8[M]").astype("M8[D]").astype(np.int64)
    return days


def _offset(zone: str | None) -> int | None:
    try:
        return offset_ms(zone or "Z")
    except ValueError:
        return None


# ---- ISO-8601 and Arrow's own times ------------------------------------------------------------


def _iso_numbers(array: pa.Array) -> Numbers:
    typed = _iso(array)
    if typed is None:
        return _nothing(array)
    ms = pc.cast(typed[0], pa.int64())
    return pc.fill_null(ms, 0).to_numpy(), valid(ms)


def _iso(array: pa.Array) -> Typed | None:
    """ISO-8601 texts; the parser is let at forms whose length rules out what judge refuses."""
    lengths = set(pc.unique(pc.utf8_length(array)).drop_null().to_pylist())
    for allowed, kind in (
        (_ISO_CHARS, pa.timestamp("us")),
        (_ZONED_CHARS, pa.timestamp("us", "UTC")),
    ):
        if lengths <= allowed:
            try:
                return as_times(floored(pc.cast(pc.cast(array, kind), pa.int64()), 1000))
            except pa.ArrowException:
                break
    sure = sure_rows(
        array, _SURE_NAIVE, lambda a: pc.cast(pc.cast(a, pa.timestamp("us")), pa.int64())
    )
    if sure is None:
        return None
    values, out = as_times(floored(sure[0], 1000))
    return values, out | sure[1]


def times_of_arrow(reading: TimeReading | None, array: pa.Array) -> Typed | None:
    """A typed column as timestamps. reading: how strings and numbers are read."""
    kind = array.type
    if pa.types.is_string(kind):
        return times_of_texts(reading, array, is_text=False)
    if pa.types.is_date(kind):
        return as_times(pc.cast(pc.cast(array, pa.date64()), pa.int64()))
    if pa.types.is_integer(kind) or pa.types.is_floating(kind):
        return times_of_numbers(reading, array)
    if not pa.types.is_timestamp(kind):
        return None
    units = pc.cast(array, pa.int64())
    if kind.unit == "s":
        try:
            return as_times(pc.multiply_checked(units, 1000))
        except pa.ArrowException:
            return None
    return as_times(floored(units, DIVISORS[kind.unit]))


def as_days(typed: Typed | None) -> Typed | None:
    """Timestamps as dates; what is no whole day is suspect."""
    if typed is None:
        return None
    ms = pc.cast(typed[0], pa.int64())
    days = floored(ms, DAY_MS)
    whole = pc.equal(pc.multiply(days, DAY_MS), ms)
    kept = pc.if_else(whole, days, pa.scalar(None, pa.int64()))
    dates = pc.cast(pc.cast(kept, pa.int32()), pa.date32())
    return dates, typed[1] | (~mask(whole) & valid(ms))
