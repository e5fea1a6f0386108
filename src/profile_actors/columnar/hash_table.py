"""A vectorised hash table from 128-bit keys to dense numbers, given once and never reused.

Theory: open addressing with linear probing, load at most one half. A cell holds a number alone, and
the keys stand in the order of the numbers: half of the cells are empty, and cost four bytes
instead of twenty. A whole batch probes at once: each round settles the rows whose cell matches or
is empty, and the rest move one cell on; three or four rounds settle nearly all. That holds for keys
of any pattern, since both halves go through a finaliser in which every bit reaches every other:
idents, dense numbers under one slot, timestamps, doubles and multiples of powers of two alike. Keys
are compared in full, so two keys are never taken for one. Rejected: a dict per key (a Python loop),
sorted arrays (every insertion would move them).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from itertools import islice

import numpy as np

FACTORS = 0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB
_GOLDEN, _FIRST, _SECOND = map(np.uint64, FACTORS)
_WORD = 2**64 - 1
_27, _30, _31, _32 = (np.uint64(bits) for bits in (27, 30, 31, 32))


class KeyTable:
    """Numbers 0, 1, 2, … for keys, in the order in which they were first seen.

    Cost: about 60 ns a key for look-up or insertion in batches; growth rehashes everything once per
    doubling. Not thread-safe for writers; ``find`` may run beside ``number`` in another thread
    under the owner's lock, and that of a ``glimpse`` without it.
    """

    def __init__(self, cells: int = 1 << 12) -> None:
        self._number = np.full(cells, -1, np.int32)
        self._keys = np.zeros((max(1, cells // 2), 2), np.uint64)
        self.count = 0

    @property
    def size_bytes(self) -> int:
        """Bytes that cells and keys occupy; room for keys that are still to come is not touched."""
        return self._number.nbytes + 16 * self.count

    def _home(self, k0: np.ndarray, k1: np.ndarray) -> np.ndarray:
        """The first cell to look at: SplitMix64's finaliser over one half and the mixed other."""
        mixed = k1 * _GOLDEN
        mixed ^= mixed >> _32
        mixed *= _FIRST
        mixed ^= k0
        mixed ^= mixed >> _30
        mixed *= _FIRST
        mixed ^= mixed >> _27
        mixed *= _SECOND
        mixed ^= mixed >> _31
        mixed &= np.uint64(len(self._number) - 1)
        return np.asarray(mixed.view(np.int64))

    def glimpse(self) -> KeyTable:
        """The keys of now, found beside ``number`` without a lock; for ``find`` alone.

        Of keys that come later it finds some. A key of now lies before them on its way: nothing
        that was placed is ever placed elsewhere in the same array.
        """
        seen = KeyTable(2)
        seen._number, seen._keys, seen.count = self._number, self._keys, self.count
        return seen

    def find(self, k0: np.ndarray, k1: np.ndarray) -> np.ndarray:
        """Numbers of the keys, -1 where unknown. k0, k1: uint64[n] -> int32[n]."""
        if len(k0) == 1:
            return self._find_one(int(k0[0]), int(k1[0]))
        numbers, keys = self._number, self._keys
        mask = len(numbers) - 1
        cell = self._home(k0, k1)
        number = numbers.take(cell)
        found = keys.take(number, axis=0, mode="clip")  # of an empty cell, -1, whichever
        hit = (found[:, 0] == k0) & (found[:, 1] == k1) & (number >= 0)
        if hit.all():
            return number
        out = np.where(hit, number, np.int32(-1))
        todo = (~hit & (number >= 0)).nonzero()[0]
        while len(todo):
            cell[todo] = at = (cell[todo] + 1) & mask
            number = numbers.take(at)
            found = keys.take(number, axis=0, mode="clip")
            hit = (found[:, 0] == k0[todo]) & (found[:, 1] == k1[todo]) & (number >= 0)
            out[todo[hit]] = number[hit]
            todo = todo[~hit & (number >= 0)]
        return out

    def _find_one(self, k0: int, k1: int) -> np.ndarray:
        """The same of one key, a sixth of the cost: passes over one value each are calls."""
        numbers, keys = self._number, self._keys
        mask, number_of, key_of = len(numbers) - 1, numbers.item, keys.item
        golden, first, second = FACTORS
        mixed = k1 * golden & _WORD
        mixed = ((mixed ^ (mixed >> 32)) * first & _WORD) ^ k0
        mixed = (mixed ^ (mixed >> 30)) * first & _WORD
        mixed = (mixed ^ (mixed >> 27)) * second & _WORD
        cell = (mixed ^ (mixed >> 31)) & mask
        while (number := number_of(cell)) >= 0:
            if key_of(2 * number) == k0 and key_of(2 * number + 1) == k1:
                break
            cell = (cell + 1) & mask
        return np.array((number,), np.int32)

    def number(self, k0: np.ndarray, k1: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Numbers of the keys, new ones given in order of first appearance.

        Returns (int32[n], int64[new]: for each new number, the row that first carried it).
        """
        out = self.find(k0, k1)
        missing = (out < 0).nonzero()[0]
        if len(missing) == 0:
            return out, np.zeros(0, np.int64)
        first, inverse = _distinct(k0[missing], k1[missing])
        order = first.argsort(kind="stable")
        rank = np.empty(len(order), np.int64)
        rank[order] = np.arange(len(order))
        rows = missing[first[order]]
        self._insert(k0[rows], k1[rows])
        out[missing] = (self.count - len(rows) + rank[inverse]).astype(np.int32)
        return out, rows

    def keys(self) -> tuple[np.ndarray, np.ndarray]:
        """All keys in number order. uint64[count] twice."""
        return self.keys_later()()

    def keys_of(self, numbers: np.ndarray) -> np.ndarray:
        """The keys of numbers that were given. uint64[n, 2]"""
        return np.asarray(self._keys[numbers])

    def keys_later(self) -> Callable[[], tuple[np.ndarray, np.ndarray]]:
        """What ``keys`` gives now, whenever it is called."""
        keys = self._keys[: self.count]  # which stay, also when the array is replaced
        return lambda: (keys[:, 0].copy(), keys[:, 1].copy())

    def _insert(self, k0: np.ndarray, k1: np.ndarray) -> None:
        """Add distinct, absent keys; numbers follow ``count``."""
        known, self.count = self.count, self.count + len(k0)
        # Readers that hold the old arrays go on with them: they are replaced, never moved.
        if self.count > len(self._keys):
            keys = np.zeros((max(self.count, 2 * len(self._keys)), 2), np.uint64)
            keys[:known] = self._keys[:known]
            self._keys = keys
        self._keys[known : self.count, 0] = k0
        self._keys[known : self.count, 1] = k1
        cells = len(self._number)
        if self.count * 2 <= cells:
            self._place(known)
            return
        while self.count * 2 > cells:
            cells *= 2
        fresh = KeyTable(2)
        fresh._number = np.full(cells, -1, np.int32)
        fresh._keys, fresh.count = self._keys, self.count
        fresh._place(0)
        self._number = fresh._number

    def _place(self, first: int) -> None:
        """Give the keys from number ``first`` on their cells."""
        numbers = np.arange(first, self.count, dtype=np.int32)
        mask = len(self._number) - 1
        cell = self._home(self._keys[first : self.count, 0], self._keys[first : self.count, 1])
        todo = np.arange(len(numbers))
        while len(todo):
            at = cell[todo]
            free = self._number[at] < 0
            candidates, where = todo[free], at[free]
            self._number[where] = numbers[candidates]  # of rivals for one cell the last wins
            won = self._number[where] == numbers[candidates]
            todo = np.concatenate([todo[~free], candidates[~won]])
            cell[todo] = (cell[todo] + 1) & mask


def encoded_texts(texts: Iterable[str], count: int) -> dict[str, np.ndarray]:
    """The first texts, in the order of their numbers, for a checkpoint: their bytes and sizes."""
    encoded = [text.encode("utf-8", "surrogatepass") for text in islice(texts, count)]
    return {
        "texts": np.frombuffer(b"".join(encoded), np.uint8),
        "text_sizes": np.array([len(text) for text in encoded], np.int64),
    }


def _distinct(k0: np.ndarray, k1: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Distinct pairs: (row of the first of each, index of each row's pair)."""
    order = np.lexsort((k1, k0))
    s0, s1 = k0[order], k1[order]
    new = np.empty(len(order), np.bool_)
    new[:1] = True
    new[1:] = (s0[1:] != s0[:-1]) | (s1[1:] != s1[:-1])
    group = np.cumsum(new) - 1
    inverse = np.empty(len(order), np.int64)
    inverse[order] = group
    return order[new.nonzero()[0]], inverse
