"""State columns over reserved address space, and the small array idioms that every fold uses.

Theory: a column is one NumPy array of the partition's whole capacity, mapped without being
committed: memory is used page by page as slots are filled, and a column never moves, so that
readers may hold it while the writer grows the partition. Untouched cells read as zero; every
column's "nothing yet" is therefore encoded as zero, or filled when slots are given out.

An ``Image`` is what the state was at one moment, copied in slices while the state goes on changing:
whoever changes rows says which beforehand, and those that were not copied yet are copied then. What
never changes in place (chunks, arenas, what is only added to) is not copied but held.

Law: an image is of the moment at which it was begun, whatever changed between its slices.
"""

from __future__ import annotations

import mmap
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from threading import Condition
from typing import Protocol

import numpy as np

from profile_actors.columnar.vectors import Array

MAP_NORESERVE = 0x4000  # Linux; not exported by every Python of 3.11


UNSET = -62_135_596_800_000  # 0001-01-01T00:00Z in ms: before every event; a partition's first now


RELEASE_BYTES = 1 << 20  # of rows that were given up, before the system has their memory back


def reserve(capacity: int, dtype: np.dtype | type | str) -> np.ndarray:
    """A zeroed array of ``capacity`` cells that uses memory only where it is written."""
    kind = np.dtype(dtype)
    size = max(1, capacity * kind.itemsize)
    flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | MAP_NORESERVE
    return np.frombuffer(mmap.mmap(-1, size, flags=flags), dtype=kind, count=capacity)


class DenseRows:
    """Rows for some of the slots, close together. parts: arrays by name, [capacity, width] each,
    and ``owner``, uint32[capacity], the slot of each row. Rows from ``count`` on are zero."""

    def __init__(self, capacity: int, widths: Mapping[str, tuple[int, type]]) -> None:
        self.count = 0
        self._touched = 0
        self.parts = {
            name: reserve(capacity * width, kind).reshape(capacity, width)
            for name, (width, kind) in widths.items()
        }
        self.owner = self.parts["owner"] = reserve(capacity, np.uint32)
        self.row_bytes = sum(part.strides[0] for part in self.parts.values() if part.size)

    def add(self, slots: Array) -> Array:
        """Rows of zeros for the slots. int64[n]"""
        first, self.count = self.count, self.count + len(slots)
        self.owner[first : self.count] = slots
        return np.arange(first, self.count)

    def drop(self, rows: Array) -> tuple[Array, Array]:
        """Take rows away; the last ones fill their holes: (slots of the moved, their rows)."""
        self._touched = max(self._touched, self.count)
        end = self.count - len(rows)
        stays = np.ones(len(rows), np.bool_)
        stays[rows[rows >= end] - end] = False
        last, holes = stays.nonzero()[0] + end, rows[rows < end]
        for part in self.parts.values():
            part[holes] = part[last]
            part[end : self.count] = 0
        self.count = end
        if (self._touched - end) * self.row_bytes > RELEASE_BYTES:
            for part in self.parts.values():
                give_back(part, end, self._touched)
            self._touched = end
        return self.owner[holes], holes


def give_back(column: np.ndarray, first: int, end: int) -> None:
    """Give the memory of a reserved array's rows from ``first`` up to ``end`` back; whole pages of
    them read as zero from then on, and nothing else may be relied on in any."""
    owner: object = column
    while isinstance(owner, np.ndarray):
        owner = owner.base
    held = owner.obj if isinstance(owner, memoryview) else owner
    assert isinstance(held, mmap.mmap), "expected an array that reserve made"
    low = -(-first * column.strides[0] // mmap.PAGESIZE) * mmap.PAGESIZE
    size = end * column.strides[0] // mmap.PAGESIZE * mmap.PAGESIZE - low
    if size > 0:
        held.madvise(mmap.MADV_DONTNEED, low, size)


def set_nibbles(flat: Array, cells: Array, values: Array, shift: np.uint8) -> None:
    """Set one half of each of these bytes. values: uint8, of which the lower half counts; shift:
    uint8, 0 or 4."""
    old = flat.take(cells)
    old &= np.uint8(0xF0 >> int(shift))
    old |= values << shift if shift else values & np.uint8(15)
    flat[cells] = old


def nibbles(packed: Array) -> Array:
    """uint8[n, bytes] -> uint8[n, 2 * bytes]"""
    out = np.empty((len(packed), 2 * packed.shape[1]), np.uint8)
    out[:, 0::2] = packed & 15
    out[:, 1::2] = packed >> 4
    return out


def packed(halves: Array) -> Array:
    """The inverse of ``nibbles``, of any number of columns. uint8"""
    out = halves[:, 0::2].astype(np.uint8)
    odd = halves[:, 1::2].astype(np.uint8)
    out[:, : odd.shape[1]] |= odd << 4
    return out


def taken_bits(pool: int, live: Array) -> Array:
    """The first ``live`` places of each pool, and what is beyond it, as bits. uint8[n, bytes]"""
    place = np.arange((pool + 7) // 8 * 8)
    return np.packbits((place < live[:, None]) | (place >= pool), axis=1, bitorder="little")


# Images.


SLICE_BYTES = 1 << 20  # of a slice: a millisecond or two, in which whoever changes state may wait


class Copied(Protocol):
    """Rows that are copied: each by one of ``keep`` and ``take``, or before by ``keep``, which
    counts then. row_bytes: about how large one is."""

    @property
    def row_bytes(self) -> int: ...

    def keep(self, rows: Array) -> None:
        """Copy these rows before all others."""

    def take(self, part: slice, kept: Array) -> None:
        """Copy a stretch of rows. kept: bool for each, whether ``keep`` has done so."""

    def complete(self) -> None:
        """All rows were taken."""


class ColumnCopy:
    """The first rows of an array, to be copied into ``out``.

    Rows that are kept lie close together until all are taken: spread over ``out`` they would have
    the writer wait for the memory of all of it."""

    def __init__(self, column: Array, rows: int) -> None:
        self._column = column
        self.out = np.empty((rows, *column.shape[1:]), column.dtype)  # no memory before it is used
        self._kept: list[tuple[Array, Array]] = []
        self.row_bytes = max(1, self.out[:1].nbytes)

    def keep(self, rows: Array) -> None:
        self._kept.append((rows, self._column[rows]))

    def take(self, part: slice, kept: Array) -> None:
        self.out[part] = self._column[part]

    def complete(self) -> None:
        while self._kept:
            rows, values = self._kept.pop()
            self.out[rows] = values


class ShelvedCopy:
    """The first rows of some columns, and what they have on shelves. Rows of shelves move when
    others leave, so they are copied with whose they are, and stand in the order in which those
    came. columns: by name; ``row`` says where on its shelf a row's more is. found: per shelf that
    has any of the rows: which of them, and where."""

    def __init__(
        self,
        columns: Mapping[str, Array],
        rows: int,
        shelves: Sequence[DenseRows],
        found: Callable[[Array], Iterator[tuple[DenseRows, Array, Array]]],
    ) -> None:
        self._base = {name: ColumnCopy(column, rows) for name, column in columns.items()}
        self._shelves = shelves
        self._pieces = [{name: [part[:0]] for name, part in s.parts.items()} for s in shelves]
        self._counts = [0] * len(shelves)
        self._places: list[tuple[Array, Array]] = []
        self._found = found
        self.row_bytes = sum(copy.row_bytes for copy in self._base.values())

    def keep(self, rows: Array) -> None:
        for copy in self._base.values():
            copy.keep(rows)
        self._shelve(rows)

    def take(self, part: slice, kept: Array) -> None:
        for copy in self._base.values():
            copy.take(part, kept)
        self._shelve((~kept).nonzero()[0] + part.start)

    def _shelve(self, rows: Array) -> None:
        for shelf, some, places in self._found(rows):
            number = self._shelves.index(shelf)
            for name, pieces in self._pieces[number].items():
                pieces.append(shelf.parts[name][places])
            first = self._counts[number]
            self._counts[number] += len(some)
            self._places.append((rows[some], np.arange(first, first + len(some))))

    def complete(self) -> None:
        for copy in self._base.values():
            copy.complete()
        for rows, places in self._places:
            self._base["row"].out[rows] = places

    def made(self) -> dict[str, Array]:
        """The columns by name, and the parts of shelves by number and name."""
        out = {name: copy.out for name, copy in self._base.items()}
        for number, parts in enumerate(self._pieces):
            for name, pieces in parts.items():
                out[f"{number}/{name}"] = np.concatenate(pieces)
        return out


class RowsCopy:
    """Rows of some columns, as they are at this moment; copied by ``step``, and before they change
    by ``keep``, of which only one may run at a time. Memory: a byte a row beside the copies, of
    which rows that were kept are two until their column is complete."""

    def __init__(self, copies: Sequence[Copied], rows: int) -> None:
        self._left = deque(copies if rows else ())
        self._low = 0  # the first one's rows below it are copied
        self._rows = rows
        self._kept = np.zeros(rows, np.bool_)

    def keep(self, rows: Array) -> None:
        """These rows are about to change. rows: each once; those that came later do not matter.
        Cost: a random read and write per row that was not kept before, and column."""
        if not self._left:
            return
        rows = rows[rows < self._rows]
        rows = rows[~self._kept[rows]]
        if len(rows):
            self._kept[rows] = True
            begun, *others = self._left
            begun.keep(rows[rows >= self._low])
            for copy in others:
                copy.keep(rows)

    def step(self) -> bool:
        """Copy a slice; whether there was one."""
        if not self._left:
            return False
        copy, low = self._left[0], self._low
        high = min(self._rows, low + max(1, SLICE_BYTES // copy.row_bytes))
        copy.take(slice(low, high), self._kept[low:high])
        self._low = high
        if high == self._rows:
            copy.complete()
            self._left.popleft()
            self._low = 0
        return True

    def drop(self) -> None:
        """Copy no more."""
        self._left.clear()


@dataclass(frozen=True, slots=True)
class Saving:
    """What an image has of one part of the state. copies: rows by slot. made: all of it, as named
    arrays; asked when everything is copied. apart: copies of rows that are not by slot; the part
    itself tells them what changes."""

    copies: Sequence[Copied]
    made: Callable[[], dict[str, Array]]
    apart: Sequence[RowsCopy] = ()

    @classmethod
    def of(
        cls,
        columns: Mapping[str, Array],
        slots: int,
        more: Callable[[], dict[str, Array]] = dict,
        apart: Sequence[RowsCopy] = (),
    ) -> Saving:
        """Of columns that change in place, and what ``more`` adds, which must not change."""
        copies = {name: ColumnCopy(column, slots) for name, column in columns.items()}
        return cls(
            list(copies.values()),
            lambda: {**{name: copy.out for name, copy in copies.items()}, **more()},
            apart,
        )


class Image:
    """A state as it is when this is made, between two steps of its writer. savings: each with the
    prefix of its names. slots: how many are given.

    One thread asks for slices; the writer says what changes. Neither waits longer for the other
    than for a slice, or a publication. Readers of the state wait for neither.
    """

    def __init__(self, savings: Sequence[tuple[str, Saving]], slots: int) -> None:
        self._savings = savings
        self._by_slot = RowsCopy([copy for _, one in savings for copy in one.copies], slots)
        self._rows = [self._by_slot, *(rows for _, one in savings for rows in one.apart)]
        self._turn = Condition()
        self._is_wanted = False  # a lock that is let go and taken again may keep a waiter for ever

    @contextmanager
    def changing(self, slots: Array) -> Iterator[None]:
        """While these slots' rows change. slots: each once."""
        self._is_wanted = True
        with self._turn:
            try:
                self._by_slot.keep(slots)
                yield
            finally:
                self._is_wanted = False
                self._turn.notify()

    def step(self) -> bool:
        """Copy one slice, of some SLICE_BYTES; whether there was one left."""
        with self._turn:
            self._turn.wait_for(lambda: not self._is_wanted)
            return any(rows.step() for rows in self._rows)

    def drop(self) -> None:
        """It is not wanted any more: nothing is copied from here on."""
        with self._turn:
            for rows in self._rows:
                rows.drop()

    def arrays(self) -> dict[str, Array]:
        """All of the state that was, by name; the slices that are left are copied first."""
        while self.step():
            pass
        return {
            f"{prefix}{name}": array
            for prefix, one in self._savings
            for name, array in one.made().items()
        }
