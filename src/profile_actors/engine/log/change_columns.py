"""Changes as columns: what a read of the feed gives, and the same as an Arrow record batch.

    partition int32 | position int64 | at timestamp[ms, UTC] | kind, name, namespace, id: texts, as
    dictionaries | old, new: 'exited' or 'realized' as dictionaries, null of computed attributes,
    and old before the first | integer int64 | double | boolean | text | cause: text, as dictionary

One of ``integer``, ``double``, ``boolean`` and ``text`` holds a computed attribute's value at
delivery: times and dates are integers (ms UTC), decimals are texts, lists and maps are JSON texts.
All are null where the value is, and of memberships.
"""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa

from profile_actors.columnar.vectors import Array
from profile_actors.engine.log.change_blocks import CAUSES, Name

KINDS = ("membership", "computed")


STATUS = ("exited", "realized")


_WORDS = pa.dictionary(pa.int8(), pa.string())
_NAMES = pa.dictionary(pa.int32(), pa.string())
SCHEMA = pa.schema([
    ("partition", pa.int32()),
    ("position", pa.int64()),
    ("at", pa.timestamp("ms", "UTC")),
    ("kind", _WORDS),
    ("name", _NAMES),
    ("namespace", _NAMES),
    ("id", _NAMES),
    ("old", _WORDS),
    ("new", _WORDS),
    ("integer", pa.int64()),
    ("double", pa.float64()),
    ("boolean", pa.bool_()),
    ("text", pa.string()),
    ("cause", _WORDS),
])  # fmt: skip


class Values(msgspec.Struct, array_like=True, gc=False):
    """A computed attribute's values. rows: int64[m], whose they are, ascending. values: int64[m],
    float64[m] or bool[m] with valid bool[m] (None: all), or a list of m plain values."""

    rows: Array
    values: Array | list[Any]
    valid: Array | None = None

    def plain(self, begin: int, end: int) -> tuple[list[int], list[Any]]:
        """(rows, plain values, None where null) of the rows from begin up to end."""
        low, high = np.searchsorted(self.rows, (begin, end)).tolist()
        found = self.values[low:high]
        values = found if isinstance(found, list) else found.tolist()
        if self.valid is not None:
            for place in np.flatnonzero(~self.valid[low:high]).tolist():
                values[place] = None
        return self.rows[low:high].tolist(), values


class People(msgspec.Struct, array_like=True, gc=False):
    """Identities. spaces: the partition's namespaces; space: their numbers; ends: int64[n], where
    each value ends in ``text``, the UTF-8 of all."""

    spaces: list[str]
    space: Array
    ends: Array
    text: bytes

    def ids(self) -> pa.StringArray:
        """Their values; nothing is copied."""
        offsets = np.zeros(len(self.ends) + 1, np.int32)
        offsets[1:] = self.ends
        buffers = pa.py_buffer(offsets), pa.py_buffer(self.text)
        return pa.StringArray.from_buffers(len(self.ends), *buffers)


class ChangeColumns(msgspec.Struct, array_like=True, gc=False):
    """n changes of one partition, in the feed's order, and the position reached by reading them.

    names: of segments and computed attributes; name: int32[n], their numbers. people: the distinct
    identities; who: int32[n], their numbers. position, at: int64[n]; new: bool[n], whether a member
    from then on; had: bool[n], whether the profile existed before; cause: uint8[n] (``CAUSES``).
    values: of computed attributes, by number of the name; None: no answer. renewed: the erasure
    that last changed the log, 0 for none.
    """

    partition: int
    reached: int
    names: list[Name]
    name: Array
    people: People
    who: Array
    position: Array
    at: Array
    new: Array
    had: Array
    cause: Array
    values: dict[int, Values]
    renewed: int = 0

    def __len__(self) -> int:
        return len(self.name)

    def batch(self, begin: int, end: int) -> pa.RecordBatch:
        """The changes from begin up to end as Arrow (``SCHEMA``)."""
        part = slice(begin, end)
        count = len(self.name[part])
        is_value = np.array([kind == "computed" for kind, _ in self.names], np.bool_)
        values = is_value[self.name[part]] if self.names else np.zeros(0, np.bool_)
        new = self.new[part]
        unknown = values | (new & ~self.had[part])
        columns = [
            pa.array(np.full(count, self.partition, np.int32)),
            pa.array(self.position[part]),
            pa.array(self.at[part]).cast(pa.timestamp("ms", "UTC")),
            _coded(values.astype(np.int8), KINDS),
            _coded(*_distinct(self.name[part], [name for _, name in self.names])),
            _coded(self.people.space.take(self.who[part]).astype(np.int32), self.people.spaces),
            _coded(*_compact(self.who[part], self.people.ids())),
            _coded((~new).astype(np.int8), STATUS, unknown),
            _coded(new.astype(np.int8), STATUS, values),
            *self._typed(begin, end),
            _coded(self.cause[part].astype(np.int8), CAUSES),
        ]
        return pa.RecordBatch.from_arrays(columns, schema=SCHEMA)

    def _typed(self, begin: int, end: int) -> Iterator[pa.Array]:
        """The columns of values, by type."""
        count = min(end, len(self)) - begin
        others: dict[type, tuple[list[int], list[Any]]] = {}
        for one in self.values.values():
            if isinstance(one.values, list):
                for row, value in zip(*one.plain(begin, end), strict=True):
                    rows, values = others.setdefault(_kind(value), ([], []))
                    rows.append(row - begin)
                    values.append(value)
        plain = [
            (one.rows, one.values, one.valid)
            for one in self.values.values()
            if isinstance(one.values, np.ndarray)
        ]
        for kind, dtype in ((int, np.int64), (float, np.float64), (bool, np.bool_)):
            mine = [one for one in plain if one[1].dtype == dtype]
            if not mine and kind not in others:
                yield pa.nulls(count, pa.from_numpy_dtype(dtype))
                continue
            out, valid = np.zeros(count, dtype), np.zeros(count, np.bool_)
            for of, cells, is_there in mine:
                low, high = np.searchsorted(of, (begin, end)).tolist()
                place = of[low:high] - begin
                out[place] = cells[low:high]
                valid[place] = True if is_there is None else is_there[low:high]
            if kind in others:
                rows, values = others[kind]
                out[rows], valid[rows] = values, True
            yield pa.array(out, mask=~valid)
        if str not in others:
            yield pa.nulls(count, pa.string())
            return
        texts: list[str | None] = [None] * count
        for row, value in zip(*others[str], strict=True):
            texts[row] = _text(value)
        yield pa.array(texts, pa.string())


def _kind(value: Any) -> type:
    """The column of a plain value: its type, str for what has no column of its own."""
    if type(value) is int and not -(1 << 63) <= value < 1 << 63:
        return str
    return type(value) if type(value) in (int, float, bool, type(None)) else str


def _coded(codes: Array, words: Any, mask: Array | None = None) -> pa.DictionaryArray:
    if not isinstance(words, pa.Array):
        words = pa.array(words, pa.string())
    return pa.DictionaryArray.from_arrays(pa.array(codes, mask=mask), words)


def _distinct(codes: Array, words: list[str]) -> tuple[Array, list[str]]:
    """Codes into words of which several may be the same: each once."""
    number = {word: place for place, word in enumerate(dict.fromkeys(words))}
    table = np.array([number[word] for word in words], np.int32)
    return (table[codes] if len(table) else codes.astype(np.int32)), list(number)


def _compact(codes: Array, words: pa.StringArray) -> tuple[Array, pa.StringArray]:
    """Codes into the words in use alone, in their order."""
    seen = np.zeros(len(words), np.bool_)
    seen[codes] = True
    used = np.flatnonzero(seen)
    place = np.zeros(len(words), np.int32)
    place[used] = np.arange(len(used), dtype=np.int32)
    every = len(used) == len(words)
    return place[codes], words if every else words.take(pa.array(used))


def _text(value: Any) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, Decimal):
        return str(value)
    return msgspec.json.encode(value, enc_hook=str).decode()
