"""Typed columns of values with nulls: what vectorised evaluation reads and returns.

Theory: one row per event or per profile. Strings are codes into a small dictionary of distinct
texts, so a string test costs one call per distinct text and one ``take`` per row. Times and dates
are int64 ms UTC, decimals int64 unscaled (the scale is the node's type's).

Inside an evaluation a constant is a vector of shape (); only ``vector.evaluate`` widens it.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

FOREVER = int(np.iinfo(np.int64).max)
DAY_MS = 86_400_000

Array = np.ndarray[Any, np.dtype[Any]]


class Vector(NamedTuple):
    """values: int64, float64, bool or (strings) int32 codes, one per row; anything where not valid.

    valid: bool per row, None = no nulls. dictionary: the texts of the codes, never empty when set;
    it may repeat a text.
    """

    values: Array
    valid: Array | None = None
    dictionary: tuple[str, ...] | None = None


def truth(vector: Vector) -> Array:
    """The rows that are true; null is false. bool, same shape as the values."""
    values = vector.values if vector.values.dtype == np.bool_ else vector.values.astype(np.bool_)
    return values if vector.valid is None else values & vector.valid


def constant(value: bool | int | float | str) -> Vector:
    """One value for all rows: shape ()."""
    if isinstance(value, str):
        return Vector(np.zeros((), np.int32), None, (value,))
    dtype = np.bool_ if isinstance(value, bool) else np.int64 if isinstance(value, int) else float
    return Vector(np.asarray(value, dtype))


def null(kind: str = "integer") -> Vector:
    """The null of every row, shape ()."""
    dictionary = ("",) if kind == "string" else None
    dtype = {"string": np.int32, "double": np.float64, "boolean": np.bool_}.get(kind, np.int64)
    return Vector(np.zeros((), dtype), np.zeros((), np.bool_), dictionary)


def widen(vector: Vector, rows: int) -> Vector:
    """The same vector with one value per row (constants are repeated as read-only views)."""
    values, valid, dictionary = vector
    if values.ndim == 0:
        values = np.broadcast_to(values, (rows,))
    if valid is not None and valid.ndim == 0:
        valid = None if bool(valid) else np.broadcast_to(valid, (rows,))
    return Vector(values, valid, dictionary)


def both(a: Array | None, b: Array | None) -> Array | None:
    """The rows valid in both masks."""
    if a is None:
        return b
    return a if b is None else a & b


def differ(a: Vector, b: Vector) -> Array:
    """Where two vectors of the same rows have different values (two nulls are the same)."""
    if a.dictionary is not None and b.dictionary is not None:
        known: dict[str, int] = {}
        codes = [
            np.array([known.setdefault(t, len(known)) for t in v.dictionary or ()], np.int64)[
                v.values
            ]
            for v in (a, b)
        ]
        unequal = codes[0] != codes[1]
    else:
        unequal = a.values != b.values
    if a.valid is None and b.valid is None:
        return np.asarray(unequal, np.bool_)
    valid_a = np.ones(len(a.values), np.bool_) if a.valid is None else a.valid
    valid_b = np.ones(len(b.values), np.bool_) if b.valid is None else b.valid
    return np.asarray((valid_a != valid_b) | (valid_a & valid_b & unequal), np.bool_)


def column(array: pa.Array | pa.ChunkedArray) -> Vector:
    """An Arrow column as a Vector: zero-copy for int64, float64 and ms timestamps.

    Strings become dictionary codes (nulls get code 0). date32 becomes ms. A decimal beyond 64 bits
    unscaled is null. Raises TypeError for a type that rules do not read as a scalar.
    """
    if isinstance(array, pa.ChunkedArray):
        if pa.types.is_dictionary(array.type):
            array = array.unify_dictionaries()
        array = array.chunk(0) if array.num_chunks == 1 else array.combine_chunks()
        if isinstance(array, pa.ChunkedArray):  # some types combine to chunks again
            array = pa.concat_arrays(array.chunks)
    kind = array.type
    if pa.types.is_null(kind):
        return Vector(np.zeros(len(array), np.int64), np.zeros(len(array), np.bool_))
    if pa.types.is_string(kind) or pa.types.is_large_string(kind):
        array = array.dictionary_encode()
        kind = array.type
    if pa.types.is_dictionary(kind):
        return _texts(array)
    valid = _valid(array)
    if pa.types.is_boolean(kind):
        filled = array.fill_null(False) if valid is not None else array
        return Vector(filled.to_numpy(zero_copy_only=False), valid)
    if pa.types.is_decimal128(kind):
        return _decimals(array, valid)
    if pa.types.is_timestamp(kind):
        array = array if kind.unit == "ms" else array.cast(pa.timestamp("ms"), safe=False)
        return Vector(_buffer(array, np.int64), valid)
    if pa.types.is_date32(kind):
        return Vector(_buffer(array, np.int32).astype(np.int64) * DAY_MS, valid)
    if pa.types.is_date64(kind) or pa.types.is_int64(kind):
        return Vector(_buffer(array, np.int64), valid)
    if pa.types.is_integer(kind):
        return Vector(_buffer(array.cast(pa.int64()), np.int64), valid)
    if pa.types.is_floating(kind):
        return Vector(_buffer(array.cast(pa.float64()), np.float64), valid)
    raise TypeError(f"expected a scalar column, got Arrow type {kind}; read its children instead")


def _valid(array: pa.Array) -> Array | None:
    if array.null_count == 0:
        return None
    return np.asarray(array.is_valid().to_numpy(zero_copy_only=False))


def _buffer(array: pa.Array, dtype: Any) -> Array:
    data = array.buffers()[1]
    if data is None:
        return np.zeros(len(array), dtype)
    return np.frombuffer(data, dtype)[array.offset : array.offset + len(array)]


def _texts(array: pa.DictionaryArray) -> Vector:
    dictionary = array.dictionary
    valid = _valid(array)
    codes = array.indices
    if valid is not None:
        codes = pc.fill_null(codes, 0)
    values = codes.cast(pa.int32()).to_numpy(zero_copy_only=True)
    if not len(dictionary):
        return Vector(np.zeros(len(array), np.int32), np.zeros(len(array), np.bool_), ("",))
    if dictionary.null_count:
        known = np.asarray(dictionary.is_valid().to_numpy(zero_copy_only=False))
        valid = both(valid, known.take(values))
        dictionary = dictionary.fill_null("")
    return Vector(values, valid, tuple(dictionary.to_pylist()))


def _decimals(array: pa.Array, valid: Array | None) -> Vector:
    words = np.frombuffer(array.buffers()[1], np.int64)
    words = words[2 * array.offset : 2 * (array.offset + len(array))]
    low, high = words[0::2], words[1::2]
    fits = high == (low >> 63)
    return Vector(low, valid if bool(fits.all()) else both(valid, fits))
