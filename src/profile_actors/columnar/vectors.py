"""Typed columns of values with nulls: what vectorised evaluation reads and returns.

Theory: one row per event or per profile. Strings are codes into a small dictionary of distinct
texts, so a string test costs one call per distinct text and one ``take`` per row. Times and dates
are int64 ms UTC, decimals int64 unscaled (the scale is the node's type's).

What is kept over many entries shares one growing dictionary, ``Texts``. It is not small, so who
walks a dictionary first takes ``compact``; equal codes of one ``Texts`` are equal texts.

Inside an evaluation a constant is a vector of shape (); only who asked for the values widens it.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any, NamedTuple, overload

import numpy as np
import pyarrow as pa

from profile_actors.columnar.hash_table import encoded_texts
from profile_actors.columnar.time_units import DAY_MS

FOREVER = int(np.iinfo(np.int64).max)


FEW_NAMES = 1024
"""So many texts or values more than are in use are not worth looking for."""


CELLS_PER_NAME = 8
"""To look at so many stored codes is charged to one text."""


Array = np.ndarray[Any, np.dtype[Any]]
"""Shapes and dtypes are said where they matter."""


class Vector(NamedTuple):
    """values: int64, float64, bool or (strings) int32 codes, one per row; anything where not valid.

    valid: bool per row, None = no nulls. dictionary: the texts of the codes, never empty when set;
    a tuple may repeat a text, ``Texts`` never does.
    """

    values: Array
    valid: Array | None = None
    dictionary: Sequence[str] | None = None


class Texts(Sequence[str]):
    """Dense codes for texts, given once and never reused: the dictionary of all that is kept.

    Code 0 is the empty text, which also stands where a row is null. One thread may give codes while
    others read: a code is handed out only when its text is there. Texts that no event has any more
    are left out by ``restricted``, in a new dictionary with codes of its own. Cost: some 150 bytes
    and the text itself for each text.
    """

    def __init__(self) -> None:
        self._codes = {"": 0}
        self._texts = [""]
        self._settled = 0  # texts that were in use when that was last looked at
        self._lock = threading.Lock()

    def codes(self, vector: Vector) -> Array:
        """int32, as many as there are values: the codes of a vector's texts, 0 where null.

        Cost: one pass, and one dict probe per distinct text in use.
        """
        dictionary = vector.dictionary
        if dictionary is self:
            return vector.values
        if dictionary is None:  # a column of nothing but nulls has no texts
            return np.zeros(vector.values.shape, np.int32)
        values = vector.values
        used = _used(values if vector.valid is None else values[vector.valid], len(dictionary))
        wanted = [dictionary[code] for code in used.tolist()]
        known = self._codes.get
        found = [known(text, -1) for text in wanted]
        if -1 in found:
            with self._lock:
                found = [self._number(text) for text in wanted]
        table = np.zeros(len(dictionary), np.int32)
        table[used] = found
        codes = np.asarray(table[values])
        return codes if vector.valid is None else np.where(vector.valid, codes, np.int32(0))

    def _number(self, text: str) -> int:
        code = self._codes.get(text)
        if code is None:
            code = len(self._texts)
            self._texts.append(text)
            self._codes[text] = code
        return code

    def __len__(self) -> int:
        return len(self._texts)

    @overload
    def __getitem__(self, index: int) -> str: ...
    @overload
    def __getitem__(self, index: slice) -> list[str]: ...
    def __getitem__(self, index: int | slice) -> str | list[str]:
        return self._texts[index]

    def __iter__(self) -> Iterator[str]:
        return iter(self._texts)

    def __contains__(self, text: object) -> bool:
        return text in self._codes

    def count(self, value: Any) -> int:
        """1 if the text has a code, else 0. Cost: one dict probe."""
        return int(value in self._codes)

    def index(self, value: Any, start: int = 0, stop: int | None = None) -> int:
        """The code of a text. Cost: one dict probe. Raises ValueError for an unknown one."""
        code = self._codes.get(value, -1)
        if not start <= code < (len(self._texts) if stop is None else stop):
            raise ValueError(f"expected a text with a code in [{start}, {stop}), got {value!r}")
        return code

    def may_forget(self, cells: int) -> bool:
        """Whether so many texts have come that a pass over them and ``cells`` codes pays."""
        return may_forget(len(self), self._settled, cells)

    def restricted(self, live: Array) -> tuple[Texts, Array]:
        """The texts whose codes are marked, in their order, under new codes.

        live: bool per code. Returns (them, int32 per old code: its new one, 0 if it has none).
        """
        live[0] = True
        codes = live.nonzero()[0]
        out = Texts()
        out._texts = [self._texts[code] for code in codes.tolist()]
        out._codes = {text: code for code, text in enumerate(out._texts)}
        out._settled = len(codes)
        table = np.zeros(len(live), np.int32)
        table[codes] = np.arange(len(codes), dtype=np.int32)
        return out, table

    @property
    def size_bytes(self) -> int:
        """About how much memory the texts take. Cost: one pass over them."""
        return sum(map(len, self._texts)) + 150 * len(self._texts)

    def later(self) -> Callable[[], dict[str, Array]]:
        """All texts of now in the order of their codes, for a checkpoint, whenever it is called."""
        return partial(encoded_texts, self._texts, len(self._texts))

    def restore(self, arrays: dict[str, Array]) -> None:
        """Take the texts of a checkpoint instead of what is here."""
        blob, ends = arrays["texts"].tobytes(), np.cumsum(arrays["text_sizes"]).tolist()
        starts = [0, *ends[:-1]]
        pieces = [blob[start:end] for start, end in zip(starts, ends, strict=True)]
        texts = [piece.decode("utf-8", "surrogatepass") for piece in pieces]
        with self._lock:
            self._texts = texts
            self._codes = {text: code for code, text in enumerate(texts)}


def may_forget(named: int, settled: int, cells: int = 0) -> bool:
    """Whether to look which of the texts or values that have codes are still in use: when there are
    twice as many as at the last look, and so many that a pass over ``cells`` codes pays."""
    return named > 2 * settled + cells // CELLS_PER_NAME + FEW_NAMES


def _used(values: Array, texts: int) -> Array:
    """The distinct codes among ``values``, ascending. Cost: one pass, or one sort if few."""
    if values.size < texts // 64:
        return np.unique(values)
    seen = np.zeros(texts, np.bool_)
    seen[values] = True
    return seen.nonzero()[0]


def compact(vector: Vector) -> Vector:
    """The same vector over the texts in use, if its dictionary is a ``Texts``; else itself.

    Cost: one pass over the rows and one step per distinct text among them.
    """
    texts = vector.dictionary
    if not isinstance(texts, Texts):
        return vector
    used = _used(vector.values, len(texts))
    if not len(used):
        return Vector(vector.values, vector.valid, ("",))
    if vector.values.size < len(texts) // 64:
        codes = used.searchsorted(vector.values).astype(np.int32)
    else:
        table = np.empty(len(texts), np.int32)
        table[used] = np.arange(len(used), dtype=np.int32)
        codes = table[vector.values]
    return Vector(np.asarray(codes), vector.valid, tuple(texts[code] for code in used.tolist()))


def joined(a: Vector, b: Vector) -> tuple[Array, Array, Sequence[str] | None]:
    """Values of two vectors as they can stand in one: (of a, of b, their dictionary)."""
    if a.dictionary is None or b.dictionary is None:
        return a.values, b.values, None
    if a.dictionary is b.dictionary:
        return a.values, b.values, a.dictionary
    a, b = compact(a), compact(b)
    assert a.dictionary is not None
    assert b.dictionary is not None
    shifted = np.asarray(b.values + np.int32(len(a.dictionary)))
    return a.values, shifted, (*a.dictionary, *b.dictionary)


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


def same_texts(a: Vector, b: Vector) -> bool:
    """Whether equal codes mean equal texts, and unequal ones unequal texts."""
    return a.dictionary is b.dictionary and isinstance(a.dictionary, Texts)


def differ(a: Vector, b: Vector) -> Array:
    """Where two vectors of the same rows have different values (two nulls are the same)."""
    if a.dictionary is not None and b.dictionary is not None and not same_texts(a, b):
        a, b = compact(a), compact(b)
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
        array = one_array(array)
    kind = array.type
    # By number: asking a type what it is, one kind after the other, costs a call each.
    read = _READERS.get(kind.id)
    if read is None:
        raise TypeError(
            f"expected a scalar column, got Arrow type {kind}; read its children instead"
        )
    return read(array, _valid(array))


def one_array(chunked: pa.ChunkedArray) -> pa.Array:
    """The column in one piece. Cost: nothing where it is one already, else a copy."""
    if chunked.num_chunks == 1:
        return chunked.chunk(0)
    if pa.types.is_dictionary(chunked.type):
        chunked = chunked.unify_dictionaries()
    joined = chunked.combine_chunks()
    # Some types combine to chunks again.
    return pa.concat_arrays(joined.chunks) if isinstance(joined, pa.ChunkedArray) else joined


def _valid(array: pa.Array) -> Array | None:
    if array.null_count == 0:
        return None
    return np.asarray(array.is_valid().to_numpy(zero_copy_only=False))


def buffer_of(array: pa.Array, dtype: Any) -> Array:
    """The values of an array of fixed width, anything where null; no copy."""
    data = array.buffers()[1]
    if data is None:
        return np.zeros(len(array), dtype)
    return np.frombuffer(data, dtype)[array.offset : array.offset + len(array)]


def _nulls(array: pa.Array, _: Array | None) -> Vector:
    return Vector(np.zeros(len(array), np.int64), np.zeros(len(array), np.bool_))


def _booleans(array: pa.Array, valid: Array | None) -> Vector:
    filled = array if valid is None else array.fill_null(False)
    return Vector(filled.to_numpy(zero_copy_only=False), valid)


def _timestamps(array: pa.Array, valid: Array | None) -> Vector:
    array = array if array.type.unit == "ms" else array.cast(pa.timestamp("ms"), safe=False)
    return Vector(buffer_of(array, np.int64), valid)


def _dates(array: pa.Array, valid: Array | None) -> Vector:
    return Vector(buffer_of(array, np.int32).astype(np.int64) * DAY_MS, valid)


def _integers(array: pa.Array, valid: Array | None) -> Vector:
    return Vector(buffer_of(array.cast(pa.int64()), np.int64), valid)


def _longs(array: pa.Array, valid: Array | None) -> Vector:
    return Vector(buffer_of(array, np.int64), valid)


def _doubles(array: pa.Array, valid: Array | None) -> Vector:
    array = array if array.type.bit_width == 64 else array.cast(pa.float64())
    return Vector(buffer_of(array, np.float64), valid)


def _strings(array: pa.Array, _: Array | None) -> Vector:
    array = array.dictionary_encode()
    return _texts(array, _valid(array))


def _texts(array: pa.DictionaryArray, valid: Array | None) -> Vector:
    dictionary, codes = array.dictionary, array.indices
    if not len(dictionary):
        return Vector(np.zeros(len(array), np.int32), np.zeros(len(array), np.bool_), ("",))
    values = buffer_of(codes, codes.type.to_pandas_dtype()).astype(np.int32, copy=False)
    if valid is not None:
        values = np.where(valid, values, np.int32(0))  # what lies under a null may be anything
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


_READERS: dict[int, Callable[[Any, Array | None], Vector]] = {
    pa.null().id: _nulls,
    pa.bool_().id: _booleans,
    pa.string().id: _strings,
    pa.large_string().id: _strings,
    pa.dictionary(pa.int32(), pa.string()).id: _texts,
    pa.decimal128(1).id: _decimals,
    pa.timestamp("ms").id: _timestamps,
    pa.date32().id: _dates,
    pa.date64().id: _longs,
    pa.int64().id: _longs,
    **dict.fromkeys((pa.float64().id, pa.float32().id, pa.float16().id), _doubles),
    **{
        kind.id: _integers
        for kind in (
            pa.int8(), pa.int16(), pa.int32(), pa.uint8(), pa.uint16(), pa.uint32(), pa.uint64()
        )
    },
}  # fmt: skip
"""By the number of an Arrow type."""
