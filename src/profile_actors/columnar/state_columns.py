"""State columns over reserved address space, and the small array idioms that every fold uses.

Theory: a column is one NumPy array of the partition's whole capacity, mapped without being
committed: memory is used page by page as slots are filled, and a column never moves, so that
readers may hold it while the writer grows the partition. Untouched cells read as zero; every
column's "nothing yet" is therefore encoded as zero, or filled when slots are given out.
"""

from __future__ import annotations

import mmap

import numpy as np

from profile_actors.columnar.vectors import Array

MAP_NORESERVE = 0x4000  # Linux; not exported by every Python of 3.11


UNSET = -62_135_596_800_000  # 0001-01-01T00:00Z in ms: before every event; a partition's first now


def reserve(capacity: int, dtype: np.dtype | type | str) -> np.ndarray:
    """A zeroed array of ``capacity`` cells that uses memory only where it is written."""
    kind = np.dtype(dtype)
    size = max(1, capacity * kind.itemsize)
    flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | MAP_NORESERVE
    return np.frombuffer(mmap.mmap(-1, size, flags=flags), dtype=kind, count=capacity)


class Instants:
    """One instant (ms) per slot, or none: 48 bits each, since a column per segment adds up.

    Instants up to the year 8920 are kept as they are; later ones read as that.
    """

    def __init__(self, capacity: int) -> None:
        self._low = reserve(capacity, np.uint32)
        self._high = reserve(capacity, np.uint16)

    def put(self, slots: Array, at: Array | int) -> None:
        """Set the slots' instants; of equal slots the last counts."""
        if isinstance(at, int):
            code = min(at - UNSET + 1, 2**48 - 1)
            self._low[slots] = code & 0xFFFFFFFF
            self._high[slots] = code >> 32
            return
        codes = np.ascontiguousarray(np.minimum(at, 2**48 - 2 + UNSET) + (1 - UNSET), "<i8")
        self._low[slots] = codes.view("<u4")[0::2]
        self._high[slots] = codes.view("<u2")[2::4]

    def copy(self, slots: int) -> Instants:
        """The instants of the first slots, in columns of their own."""
        made = Instants(len(self._low))
        made._low[:slots], made._high[:slots] = self._low[:slots], self._high[:slots]
        return made

    def of(self, slot: int) -> int | None:
        """The slot's instant, None when it has none."""
        code = (int(self._high[slot]) << 32) | int(self._low[slot])
        return code + UNSET - 1 if code else None

    def at(self, slots: Array) -> Array:
        """The instants of the slots, in any order, each below UNSET where it has none. int64 ms"""
        codes = (self._high[slots].astype(np.int64) << 32) | self._low[slots]
        return np.asarray(codes + (UNSET - 1))

    def array(self, slots: int) -> Array:
        """The codes of the first slots, for a checkpoint. int64[slots]"""
        return np.asarray((self._high[:slots].astype(np.int64) << 32) | self._low[:slots])

    def restore(self, codes: Array) -> None:
        """Take the codes of a checkpoint."""
        self._low[: len(codes)] = codes & 0xFFFFFFFF
        self._high[: len(codes)] = codes >> 32
