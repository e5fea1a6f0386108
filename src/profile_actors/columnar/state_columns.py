"""State columns over reserved address space, and the small array idioms that every fold uses.

Theory: a column is one NumPy array of the partition's whole capacity, mapped without being
committed: memory is used page by page as slots are filled, and a column never moves, so that
readers may hold it while the writer grows the partition. Untouched cells read as zero; every
column's "nothing yet" is therefore encoded as zero, or filled when slots are given out.
"""

from __future__ import annotations

import mmap
from collections.abc import Mapping

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


def set_nibbles(
    bytes_: Array, rows: Array, byte: Array | int, values: Array, shift: np.uint8
) -> None:
    """Set one half of each byte. values: uint8 below 16; shift: uint8, 0 or 4."""
    cells, flat = rows * bytes_.shape[1] + byte, bytes_.reshape(-1)
    old = flat.take(cells)
    old &= np.uint8(0xF0 >> int(shift))
    old |= values << shift
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
