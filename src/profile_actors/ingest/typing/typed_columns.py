"""Whole columns to their schema types, with the verdicts of ``verdicts.judge``, vectorised.

Theory: a kernel is used only where what it accepts is provably what ``judge`` accepts, with the
same value; every other cell is *suspect* and is judged by itself. Arrow's parsers take ``nan``,
``inf``, ``0x10`` and blanks, so a text column is parsed in one go only if its bytes are digits,
signs, points (and ``e`` for doubles): one pass over the buffer, cheaper than the parse. If that
fails, a regular expression picks the rows that may be parsed. A clean column never reaches Python
per cell.

Limits: arrays, maps and objects inside arrays are judged cell by cell (about 2 us each).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import ROUND_CEILING, ROUND_FLOOR, Context, Decimal
from itertools import accumulate
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from profile_actors.ingest.typing.arrow_types import Way, arrow_type
from profile_actors.ingest.typing.cells import Typed, bounds_of, mask, none, python_cells, valid
from profile_actors.ingest.typing.field_checks import Check
from profile_actors.ingest.typing.text_columns import _DOUBLE_BYTES, _OF_TEXT, _infinite, _text_date
from profile_actors.ingest.typing.time_columns import TIMESTAMP, as_days, as_times, times_of_arrow
from profile_actors.ingest.typing.time_readings import TIME_MAX_MS, TIME_MIN_MS
from profile_actors.ingest.typing.verdicts import DECIMAL_DIGITS, Refused, judge

_DECIMAL_LIMIT = Decimal(10) ** (DECIMAL_DIGITS + 1)


_WIDE = Context(prec=50)


_DOUBLE_BYTES[list(b"0123456789+-.eE")] = True


@dataclass(frozen=True, slots=True)
class Converted:
    """A typed column, and the rows whose value was refused (null there): row -> (path, reason)."""

    values: pa.Array
    refused: dict[int, tuple[str, str]]


def convert(check: Check, cells: pa.Array | Sequence[Any], is_text: bool = False) -> Converted:
    """Judge n cells. cells: an Arrow array (of strings if is_text) or Python values.

    Cost: 5-25 ns per clean scalar cell of an Arrow array, about 30 more from Python values, a few
    microseconds per suspect one.
    """
    if isinstance(cells, pa.Array):
        array = cells
    else:
        array = _plain_array(cells)
        own = None if array is None else _own(check, array)
        if own is not None:
            return Converted(own, {})
    typed = None if array is None else _typed(check, array, is_text)
    if typed is None:
        present = np.array([cell is not None for cell in _python(cells)], bool)
        values, suspect = pa.nulls(len(cells), arrow_type(check)), present
    else:
        values, suspect = typed
    suspect = suspect | _beyond_limits(check, values)
    refused: dict[int, tuple[str, str]] = {}
    if suspect.any():
        values = _judged(check, values, cells, suspect, is_text, refused)
    if check.required and values.null_count:
        _require(check, values, refused)
    return Converted(values, refused)


def _python(cells: pa.Array | Sequence[Any]) -> Sequence[Any]:
    return python_cells(cells) if isinstance(cells, pa.Array) else cells


def _judged(
    check: Check,
    values: pa.Array,
    cells: pa.Array | Sequence[Any],
    suspect: np.ndarray,
    is_text: bool,
    refused: dict[int, tuple[str, str]],
) -> pa.Array:
    """The column with its suspect cells judged one by one; equal texts are judged once."""
    rows = np.flatnonzero(suspect)
    found = _python(cells.take(pa.array(rows))) if isinstance(cells, pa.Array) else None
    known: dict[str, Any] = {}
    patches = []
    for i, row in enumerate(rows.tolist()):
        cell = cells[row] if found is None else found[i]
        verdict = known.get(cell) if isinstance(cell, str) else None
        if verdict is None:
            try:
                verdict = judge(check, cell, is_text)
            except Refused as refusal:
                verdict = refusal
            if isinstance(cell, str):
                known[cell] = verdict
        if isinstance(verdict, Refused):
            refused[row] = (verdict.path, verdict.reason)
            verdict = None
        patches.append(verdict)
    patch = pa.array(patches, values.type)
    if len(rows) == len(values):
        return patch
    if pa.types.is_nested(values.type):
        order = np.arange(len(values))
        order[rows] = len(values) + np.arange(len(rows))
        return pa.concat_arrays([values, patch]).take(pa.array(order))
    return pc.replace_with_mask(values, pa.array(suspect), patch)


def _require(check: Check, values: pa.Array, refused: dict[int, tuple[str, str]]) -> None:
    """Refuse the rows without a value, unless they are refused already."""
    missing = np.flatnonzero(pc.is_null(values).to_numpy(zero_copy_only=False)).tolist()
    if missing:
        try:
            judge(check, None)
        except Refused as refusal:
            for row in missing:
                refused.setdefault(row, (refusal.path, refusal.reason))


_PLAIN = {str: pa.string(), int: pa.int64(), bool: pa.bool_(), float: pa.float64()}


FEW_CELLS = 32
"""So few Python values become an array by way of NumPy: Arrow's own way costs 3 us a call more."""


def _plain_array(cells: Sequence[Any]) -> pa.Array | None:
    """Python cells as an Arrow array of their own type, or None if they are not all of one."""
    kinds = set(map(type, cells))
    if len(kinds) == 1 and len(cells) <= FEW_CELLS:
        few = _few(kinds, cells)
        if few is not None:
            return few
    kinds.discard(type(None))
    if not kinds:
        return pa.nulls(len(cells), pa.string())
    arrow = _PLAIN.get(kinds.pop()) if len(kinds) == 1 else None
    if arrow is None:
        return None
    try:
        return pa.array(cells, arrow)
    except (pa.ArrowException, OverflowError, UnicodeEncodeError):
        return None


def _few(kinds: set[type], cells: Sequence[Any]) -> pa.Array | None:
    """A few cells of one type without nulls as an array; None where Arrow has to look."""
    count = len(cells)
    if str in kinds:
        text = "".join(cells)
        if not text.isascii():
            return None
        ends = np.array([0, *accumulate(map(len, cells))], np.int32)
        return pa.StringArray.from_buffers(count, pa.py_buffer(ends), pa.py_buffer(text.encode()))
    dtype = np.int64 if int in kinds else np.float64 if float in kinds else None
    if dtype is None:
        return None
    try:
        values = np.array(cells, dtype)
    except OverflowError:
        return None
    kind = _PLAIN[int if dtype is np.int64 else float]
    return pa.Array.from_buffers(kind, count, [None, pa.py_buffer(values)])


def _own(check: Check, array: pa.Array) -> pa.Array | None:
    """The array as the check's type if it surely holds nothing else: what was made of Python values
    of that very type, all there, of a check that takes all of them. None: look closer."""
    if not check.is_free or check.item is not None or array.null_count:
        return None
    if array.type == _OWN.get(check.kind):
        if check.kind == "double" and not np.isfinite(array.to_numpy()).all():
            return None
        return array
    if check.kind == "timestamp" and check.reading is None and array.type == _INT64:
        low, high = bounds_of(array)
        if low is not None and low >= TIME_MIN_MS and high <= TIME_MAX_MS:
            return array.view(TIMESTAMP)
    return None


_INT64 = pa.int64()


_OWN = {
    "string": pa.string(),
    "key": pa.string(),
    "integer": _INT64,
    "double": pa.float64(),
    "boolean": pa.bool_(),
}


def _typed(check: Check, array: pa.Array, is_text: bool) -> Typed | None:
    """The array as the check's type with the suspect rows (null there); None: all are suspect."""
    if pa.types.is_dictionary(array.type):
        array = array.dictionary_decode()
    if pa.types.is_large_string(array.type) or pa.types.is_string_view(array.type):
        try:
            array = array.cast(pa.string())
        except pa.ArrowException:
            return None
    if pa.types.is_null(array.type) or array.null_count == len(array):
        return pa.nulls(len(array), arrow_type(check)), np.zeros(len(array), bool)
    ways = _OF_TEXT if is_text else _OF_ARROW
    way = ways.get(check.kind)
    return None if way is None else way(check, array)


def _arrow_string(check: Check, array: pa.Array) -> Typed | None:
    if pa.types.is_string(array.type):
        return array, none(array)
    if check.kind == "key" and pa.types.is_integer(array.type) and array.type != pa.uint64():
        return pc.cast(array, pa.string()), none(array)
    return None


def _arrow_integer(check: Check, array: pa.Array) -> Typed | None:
    if not pa.types.is_integer(array.type) or array.type == pa.uint64():
        return None
    return pc.cast(array, pa.int64()), none(array)


def _arrow_double(check: Check, array: pa.Array) -> Typed | None:
    if not pa.types.is_integer(array.type) and not pa.types.is_floating(array.type):
        return None
    values = pc.cast(array, pa.float64(), safe=False)
    return values, _infinite(values)


def _arrow_decimal(check: Check, array: pa.Array) -> Typed | None:
    if not pa.types.is_decimal(array.type):
        return None
    try:
        return pc.cast(array, arrow_type(check)), none(array)
    except pa.ArrowException:
        return None


def _arrow_boolean(check: Check, array: pa.Array) -> Typed | None:
    return (array, none(array)) if pa.types.is_boolean(array.type) else None


def _arrow_timestamp(check: Check, array: pa.Array) -> Typed | None:
    return times_of_arrow(check.reading, array)


def _arrow_date(check: Check, array: pa.Array) -> Typed | None:
    if check.reading is not None and not pa.types.is_temporal(array.type):
        return as_days(times_of_arrow(check.reading, array))
    if pa.types.is_string(array.type):
        return _text_date(check, array)
    if not pa.types.is_date(array.type):
        return None
    values, out = as_times(pc.cast(pc.cast(array, pa.date64()), pa.int64()))
    return pc.cast(values, pa.date32()), out


_OF_ARROW: dict[str, Way] = {
    "string": _arrow_string,
    "key": _arrow_string,
    "integer": _arrow_integer,
    "double": _arrow_double,
    "decimal": _arrow_decimal,
    "boolean": _arrow_boolean,
    "timestamp": _arrow_timestamp,
    "date": _arrow_date,
}


# ---- constraints -------------------------------------------------------------------------------


def _beyond_limits(check: Check, values: pa.Array) -> np.ndarray:
    """Rows whose value may break a constraint, bool[n]; nested types are judged cell by cell."""
    doubt = np.zeros(len(values), bool)
    if check.is_free or check.item is not None:
        return doubt
    if check.minimum is not None or check.maximum is not None:
        low, high = bounds_of(values)
        if check.minimum is not None and low is not None and low < check.minimum:
            doubt |= mask(pc.less(values, _scalar(check.minimum, values.type, ROUND_CEILING)))
        if check.maximum is not None and high is not None and high > check.maximum:
            doubt |= mask(pc.greater(values, _scalar(check.maximum, values.type, ROUND_FLOOR)))
    if check.enum is not None:
        known = pc.is_in(values, pa.array(sorted(check.enum), values.type))
        doubt |= ~mask(known) & valid(values)
    if check.max_length is not None:
        doubt |= mask(pc.greater(pc.utf8_length(values), check.max_length))
    if check.pattern_text is not None:
        doubt |= mask(pc.invert(pc.match_substring_regex(values, check.pattern_text)))
    return doubt


def _scalar(bound: Any, kind: pa.DataType, rounding: str) -> pa.Scalar:
    """A bound to compare a column with. A decimal's is brought to the column's own digits, away
    from what it allows, which changes no comparison and keeps the digits few."""
    if not pa.types.is_decimal(kind):
        return pa.scalar(bound, kind)
    near = max(-_DECIMAL_LIMIT, min(_DECIMAL_LIMIT, bound))
    unit = Decimal((0, (1,), -kind.scale))
    return pa.scalar(near.quantize(unit, rounding, _WIDE), pa.decimal128(38, kind.scale))
