"""Columns of text to their schema types: what is surely right by vectors, the rest by the judge."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from profile_actors.columnar.time_units import DAY_MS
from profile_actors.ingest.typing.arrow_types import Way, arrow_type
from profile_actors.ingest.typing.cells import (
    Typed,
    bytes_of,
    has_only,
    mask,
    none,
    sure_rows,
    valid,
)
from profile_actors.ingest.typing.field_checks import Check
from profile_actors.ingest.typing.time_columns import as_days, as_times, times_of_texts
from profile_actors.ingest.typing.verdicts import BOOLEAN_TEXTS

_DOUBLE_BYTES = np.zeros(256, bool)


# What the kernels surely parse as judge does, and never beyond the type's range.
_SURE_INTEGER = r"^-?[0-9]{1,18}$"


_SURE_DOUBLE = r"^-?[0-9]{1,100}(\.[0-9]{0,100})?([eE][+-]?[0-9]{1,2})?$"


# ---- texts -------------------------------------------------------------------------------------


def _text_string(check: Check, array: pa.Array) -> Typed | None:
    return array, none(array)


def _text_integer(check: Check, array: pa.Array) -> Typed | None:
    # '-' to '9': no letters, blanks or '+'; what else is odd fails the parse.
    if has_only(array, 45, 57):
        try:
            return pc.cast(array, pa.int64()), none(array)
        except pa.ArrowException:
            pass
    return sure_rows(array, _SURE_INTEGER, lambda a: pc.cast(a, pa.int64()))


def _text_double(check: Check, array: pa.Array) -> Typed | None:
    if has_only(array, 45, 57) or bool(_DOUBLE_BYTES[bytes_of(array)].all()):
        try:
            values = pc.cast(array, pa.float64())
        except pa.ArrowException:
            pass
        else:
            return values, _infinite(values)
    return sure_rows(array, _SURE_DOUBLE, lambda a: pc.cast(a, pa.float64()))


def _text_decimal(check: Check, array: pa.Array) -> Typed | None:
    if has_only(array, 45, 57):
        try:
            return pc.cast(array, arrow_type(check)), none(array)
        except pa.ArrowException:
            pass
    return None


def _text_boolean(check: Check, array: pa.Array) -> Typed | None:
    texts = list(BOOLEAN_TEXTS)
    at = pc.index_in(array, pa.array(texts))
    values = pa.array(list(BOOLEAN_TEXTS.values())).take(at)
    return values, ~valid(at) & valid(array)


def _text_timestamp(check: Check, array: pa.Array) -> Typed | None:
    return times_of_texts(check.reading, array, is_text=True)


def _text_date(check: Check, array: pa.Array) -> Typed | None:
    if check.reading is not None:
        return as_days(times_of_texts(check.reading, array, is_text=True))
    try:
        days = pc.cast(pc.cast(array, pa.date32()), pa.int32())
    except pa.ArrowException:
        return None
    values, out = as_times(pc.multiply(pc.cast(days, pa.int64()), DAY_MS))
    return pc.cast(values, pa.date32()), out


# ---- typed arrays ------------------------------------------------------------------------------


def _infinite(values: pa.Array) -> np.ndarray:
    if not values.null_count:
        infinite: np.ndarray = ~np.isfinite(values.to_numpy())
        return infinite
    return mask(pc.invert(pc.is_finite(values)))


_OF_TEXT: dict[str, Way] = {
    "string": _text_string,
    "key": _text_string,
    "integer": _text_integer,
    "double": _text_double,
    "decimal": _text_decimal,
    "boolean": _text_boolean,
    "timestamp": _text_timestamp,
    "date": _text_date,
}
