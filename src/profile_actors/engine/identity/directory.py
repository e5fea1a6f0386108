"""Identities of a partition: key -> ident -> slot, and back to namespace and value.

Theory: an *ident* is given once, in order of first appearance, and never reused; it is what the log
stores. The *slot* is the row of the state columns that the ident's profile has today (a refold
moves it). Values are one growing blob with offsets: reading one is a slice, keeping one costs its
bytes plus 14.
"""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pyarrow as pa

from profile_actors.columnar.hash_table import KeyTable
from profile_actors.columnar.runs import ranges
from profile_actors.columnar.state_columns import UNSET, ColumnCopy, RowsCopy, Saving, reserve
from profile_actors.columnar.vectors import Array
from profile_actors.engine.identity.identity import Identity
from profile_actors.errors import StorageFull


class Directory:
    """The idents of one partition. Writers hold the partition's lock; readers too, briefly."""

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self.table = KeyTable()
        self.slot_of = reserve(capacity, np.int32)
        self.ident_of = reserve(capacity, np.int32)
        self.newest = reserve(capacity, np.int64)  # newest timestamp per ident, relative to UNSET
        self.namespace = reserve(capacity, np.uint16)
        self.namespaces: list[str] = []
        self._ends = reserve(capacity, np.int64)
        self._blob = np.zeros(1 << 12, np.uint8)
        self.slots = 0
        self._newest_copy = RowsCopy((), 0)

    @property
    def count(self) -> int:
        """Idents given so far."""
        return self.table.count

    @property
    def size_bytes(self) -> int:
        """Bytes in use."""
        used = int(self._ends[self.count - 1]) if self.count else 0
        return self.table.size_bytes + self.count * 26 + used

    def find(self, k0: Array, k1: Array) -> Array:
        """Idents of keys, -1 where unknown. int32[n]."""
        return self.table.find(k0, k1)

    def keys_of(self, idents: Array) -> Array:
        """The keys of published idents. uint64[n, 2]. Any thread."""
        return self.table.keys_of(idents)

    def admit(
        self, k0: Array, k1: Array, namespaces: pa.DictionaryArray, values: pa.Array
    ) -> tuple[Array, Array]:
        """Idents of a batch's rows, new ones given. Returns (int32[n], rows that brought new
        idents).

        Raises StorageFull when the reserved capacity is used up (nothing is changed then).
        """
        known = self.table.count
        if known + len(k0) > self.capacity:
            missing = np.flatnonzero(self.table.find(k0, k1) < 0)
            fresh = KeyTable()
            fresh.number(k0[missing], k1[missing])
            if known + fresh.count > self.capacity:
                raise StorageFull(
                    f"expected at most {self.capacity} profiles in a partition, got {known} and"
                    f" {fresh.count} more; raise Config.max_profiles or use more partitions"
                )
        idents, rows = self.table.number(k0, k1)
        if len(rows):
            codes = self._namespace_codes(namespaces, rows)
            self._describe(known, codes, values.take(pa.array(rows)))
        return idents, rows

    def restore_identities(
        self, k0: Array, k1: Array, namespaces: pa.ChunkedArray, values: pa.Array
    ) -> None:
        """Add idents in their order, as an entry's envelope lists them. Cost: array passes, and a
        Python step per namespace."""
        known = self.table.count
        self.table.number(k0, k1)
        assert self.table.count == known + len(k0), "an identity is listed twice"
        encoded = namespaces.combine_chunks()
        if not isinstance(encoded, pa.DictionaryArray):
            encoded = encoded.dictionary_encode()
        self._describe(known, self._namespace_codes(encoded, slice(None)), values)

    def _describe(self, known: int, namespaces: Array, values: pa.Array) -> None:
        """Note namespace, value, slot and newest timestamp of the idents from ``known`` on."""
        count = self.table.count
        values = values.cast(pa.large_binary())
        offsets = np.frombuffer(values.buffers()[1], np.int64)[
            values.offset : values.offset + len(values) + 1
        ]
        data = values.buffers()[2]
        text = (
            np.frombuffer(data, np.uint8)[offsets[0] : offsets[-1]]
            if data is not None
            else np.zeros(0, np.uint8)
        )
        begin = int(self._ends[known - 1]) if known else 0
        end = begin + len(text)
        if end > len(self._blob):
            blob = np.zeros(max(end, 2 * len(self._blob)), np.uint8)  # no memory before it is used
            blob[:begin] = self._blob[:begin]
            self._blob = blob
        self._blob[begin:end] = text
        self._ends[known:count] = begin + (offsets[1:] - offsets[0])
        self.namespace[known:count] = namespaces
        fresh = np.arange(self.slots, self.slots + count - known, dtype=np.int32)
        self.slot_of[known:count] = fresh
        self.ident_of[fresh] = np.arange(known, count, dtype=np.int32)
        self.slots += count - known

    def note_newest(self, idents: Array, timestamps: Array) -> None:
        """Raise the newest timestamps of the idents (each once)."""
        self._newest_copy.keep(idents)
        self.newest[idents] = np.maximum(self.newest[idents], timestamps - UNSET + 1)

    def newest_of(self, idents: Array) -> Array:
        """Newest timestamp of each ident, below UNSET where it has none. int64 ms."""
        return self.newest[idents] + (UNSET - 1)

    def identity(self, ident: int) -> Identity:
        """Namespace and value of one ident."""
        begin = int(self._ends[ident - 1]) if ident else 0
        text = self._blob[begin : int(self._ends[ident])].tobytes().decode()
        return Identity(self.namespaces[self.namespace[ident]], text)

    def identities(self, idents: Array) -> tuple[list[str], list[str]]:
        """The namespaces and the values of idents, in their order. Cost: 0.2 us each."""
        if len(idents) == 1:
            one = self.identity(int(idents[0]))
            return [one.namespace], [one.value]
        names = self.namespaces
        codes, ends_of, data = self.packed(idents)
        spaces = [names[code] for code in codes.tolist()]
        ends = [0, *ends_of.tolist()]
        if data.isascii():
            text = data.decode()
            return spaces, [text[begin:end] for begin, end in pairwise(ends)]
        return spaces, [data[begin:end].decode() for begin, end in pairwise(ends)]

    def packed(self, idents: Array) -> tuple[Array, Array, bytes]:
        """The same of many: numbers of namespaces, where each value ends among the bytes of all,
        and those."""
        begins = np.where(idents > 0, self._ends[np.maximum(idents, 1) - 1], 0)
        sizes = self._ends[idents] - begins
        data = self._blob[ranges(begins, sizes)].tobytes()
        return self.namespace[idents], sizes.cumsum(), data

    def _namespace_number(self, code: str) -> int:
        if code not in self.namespaces:
            self.namespaces = [*self.namespaces, code]
        return self.namespaces.index(code)

    def _namespace_codes(self, namespaces: pa.DictionaryArray, rows: Array | slice) -> Array:
        table = np.array(
            [self._namespace_number(code) for code in namespaces.dictionary.to_pylist()], np.uint16
        )
        return np.asarray(table[namespaces.indices.to_numpy(zero_copy_only=False)[rows]])

    def saving(self) -> Saving:
        """For a checkpoint. Only ``newest`` changes of what is there; the others are added to."""
        count, slots = self.count, self.slots
        end = int(self._ends[count - 1]) if count else 0
        newest = ColumnCopy(self.newest, count)
        self._newest_copy = RowsCopy([newest], count)
        keys, fixed = (
            self.table.keys_later(),
            {
                "ends": self._ends[:count],
                "blob": self._blob[:end],
                "namespace": self.namespace[:count],
                "slot_of": self.slot_of[:count],
                "ident_of": self.ident_of[:slots],
            },
        )

        def made() -> dict[str, Array]:
            k0, k1 = keys()
            return {"k0": k0, "k1": k1, "newest": newest.out, **fixed}

        return Saving((), made, [self._newest_copy])

    def restore(self, arrays: dict[str, Array], namespaces: list[str]) -> None:
        """Columns from a checkpoint."""
        count = len(arrays["k0"])
        self.table.number(arrays["k0"], arrays["k1"])
        self.namespaces = namespaces
        self._ends[:count] = arrays["ends"]
        self._blob = np.concatenate([arrays["blob"], np.zeros(1 << 12, np.uint8)])
        self.namespace[:count] = arrays["namespace"]
        self.newest[:count] = arrays["newest"]
        self.slot_of[:count] = arrays["slot_of"]
        self.slots = len(arrays["ident_of"])
        self.ident_of[: self.slots] = arrays["ident_of"]
