"""One column's cells: which are null, which bytes they have, which are surely of a form."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from operator import itemgetter
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

Typed = tuple[pa.Array, np.ndarray]  # a typed column, and the rows that judge has to see


def none(array: pa.Array) -> np.ndarray:
    """No row: bool[n]."""
    return np.zeros(len(array), bool)


def bytes_of(array: pa.Array) -> np.ndarray:
    """The UTF-8 bytes of a string array, uint8, no copy."""
    _, offsets, data = array.buffers()
    if data is None:
        return np.zeros(0, np.uint8)
    ends = np.frombuffer(offsets, np.int32)
    return np.frombuffer(data, np.uint8)[ends[array.offset] : ends[array.offset + len(array)]]


def has_only(array: pa.Array, low: int, high: int) -> bool:
    """Whether all bytes of a string array lie within [low, high]. Cost: one pass."""
    data = bytes_of(array)
    return not len(data) or (int(data.min()) >= low and int(data.max()) <= high)


def mask(array: pa.Array) -> np.ndarray:
    """A boolean array as NumPy, null as false."""
    filled: np.ndarray = pc.fill_null(array, False).to_numpy(zero_copy_only=False)
    return filled


def valid(array: pa.Array) -> np.ndarray:
    """The rows that are not null: bool[n]."""
    valid: np.ndarray = pc.is_valid(array).to_numpy(zero_copy_only=False)
    return valid


def sure_rows(array: pa.Array, pattern: str, parse: Callable[[pa.Array], pa.Array]) -> Typed | None:
    """Parse the rows that match the pattern; the others are suspect."""
    sure = mask(pc.match_substring_regex(array, pattern))
    try:
        values = parse(pc.if_else(pa.array(sure), array, pa.scalar(None, array.type)))
    except pa.ArrowException:
        return None
    return values, ~sure & valid(array)


def bounds_of(values: pa.Array) -> tuple[Any, Any]:
    """The smallest and the largest of an array of numbers, NaN left out; None if it has none.

    NumPy is asked where it can, since calling a kernel costs ten times as much for a single row.
    """
    if len(values) and not values.null_count and not pa.types.is_decimal(values.type):
        numbers = values.to_numpy()
        low, high = numbers.min().item(), numbers.max().item()
        if low == low:
            return low, high
    bounds = pc.min_max(values)
    return bounds["min"].as_py(), bounds["max"].as_py()


def byte_sizes(values: pa.Array) -> np.ndarray:
    """How many bytes each text of a string column has. int32[n]; no kernel is called."""
    return np.diff(text_ends(values))


def is_ascii(values: pa.Array) -> bool:
    """Whether a string column has none but ASCII texts. Cost: one pass over its bytes."""
    data, ends = values.buffers()[2], text_ends(values)
    if data is None or ends[0] == ends[-1]:
        return True
    return int(np.frombuffer(data, np.uint8)[ends[0] : ends[-1]].max()) < 128


def text_ends(values: pa.Array) -> np.ndarray:
    """Where each text of a string column begins, and where the last one ends. int32[n + 1]"""
    ends = values.buffers()[1]
    if not len(values) or ends is None:
        return np.zeros(len(values) + 1, np.int32)
    return np.frombuffer(ends, np.int32)[values.offset : values.offset + len(values) + 1]


def one_chunk(column: pa.ChunkedArray | pa.Array) -> pa.Array:
    """A column as one array."""
    if not isinstance(column, pa.ChunkedArray):
        return column
    if column.num_chunks == 1:
        return column.chunk(0)
    array = column.combine_chunks()
    return array.chunk(0) if isinstance(array, pa.ChunkedArray) else array


class ArrowCell:
    """A cell of an Arrow column that Python has no value for: a time beyond its years, or finer
    than its microseconds. No field takes it as it is."""

    def __init__(self, kind: pa.DataType) -> None:
        self._kind = kind

    def __repr__(self) -> str:
        return f"of type {self._kind}"


def python_cells(array: pa.Array) -> list[Any]:
    """The cells as Python's values. Cost: as Arrow's own way, unless one of them has none."""
    kind = in_microseconds(array.type)
    try:
        return (array if kind == array.type else array.cast(kind)).to_pylist()  # type: ignore[no-any-return]
    except (ValueError, OverflowError, pa.ArrowException):
        if len(array) == 1:
            return [ArrowCell(array.type)]
        return [python_cell(cell) for cell in array]


def python_cell(cell: pa.Scalar) -> Any:
    """One cell as Python's value."""
    try:
        return python_cells(pa.repeat(cell, 1))[0]
    except pa.ArrowNotImplementedError:
        return ArrowCell(cell.type)


def in_microseconds(kind: pa.DataType) -> pa.DataType:
    """A type with no finer times than Python has. Of finer ones Arrow makes objects of pandas where
    that is installed, and none elsewhere: a verdict must not depend on it."""
    if pa.types.is_timestamp(kind):
        return pa.timestamp("us", kind.tz) if kind.unit == "ns" else kind
    if pa.types.is_duration(kind):
        return pa.duration("us") if kind.unit == "ns" else kind
    if pa.types.is_struct(kind):
        return pa.struct([field.with_type(in_microseconds(field.type)) for field in kind])
    if pa.types.is_map(kind):
        return pa.map_(in_microseconds(kind.key_type), in_microseconds(kind.item_type))
    if pa.types.is_fixed_size_list(kind):
        return pa.list_(in_microseconds(kind.value_type), kind.list_size)
    if pa.types.is_large_list(kind):
        return pa.large_list(in_microseconds(kind.value_type))
    return pa.list_(in_microseconds(kind.value_type)) if pa.types.is_list(kind) else kind


def missing(array: pa.Array) -> list[int]:
    """The rows that are null."""
    if not array.null_count:
        return []
    return np.flatnonzero(pc.is_null(array).to_numpy(zero_copy_only=False)).tolist()


def column_of(rows: Sequence[dict[Any, Any]], name: str) -> list[Any]:
    """One cell of each row, None where it has none."""
    try:
        return list(map(itemgetter(name), rows))
    except KeyError:
        return [row.get(name) for row in rows]
