"""Sets of row offsets: sorted ranges in one growing array, so that a run of them costs 16 bytes.

Theory: offsets that are rejected come in ascending order and mostly in runs; they are added above
all that are there, and taken out again anywhere. A *ranges* array is int64[k, 2]: [start, stop),
ascending, apart from each other, none empty; as bytes it is little-endian, which is a format.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from profile_actors.columnar.vectors import Array

NONE = np.zeros((0, 2), np.int64)


def ranges_of(offsets: Array) -> Array:
    """The ranges of distinct offsets, which need not be sorted."""
    offsets = np.unique(np.asarray(offsets, np.int64))
    if len(offsets) == 0:
        return NONE
    breaks = (np.diff(offsets) != 1).nonzero()[0]
    starts = offsets[np.concatenate([[0], breaks + 1])]
    stops = offsets[np.concatenate([breaks, [len(offsets) - 1]])] + 1
    return np.stack([starts, stops], axis=1)


def offsets_of(ranges: Array) -> Array:
    """Every offset of the ranges. int64[n]."""
    lengths = ranges[:, 1] - ranges[:, 0]
    ends = np.cumsum(lengths)
    return np.asarray(
        np.arange(lengths.sum()) + np.repeat(ranges[:, 0] - (ends - lengths), lengths)
    )


def contains(ranges: Array, offsets: Array) -> Array:
    """Which offsets are in the ranges. bool[n]."""
    if len(ranges) == 0:
        return np.zeros(len(offsets), np.bool_)
    at = ranges[:, 0].searchsorted(offsets, side="right") - 1
    return np.asarray((at >= 0) & (offsets < ranges[np.maximum(at, 0), 1]))


def union(one: Array, other: Array) -> Array:
    return _combined(one, other, np.logical_or)


def without(one: Array, other: Array) -> Array:
    """The offsets of one that are not in the other."""
    return _combined(one, other, lambda mine, others: mine & ~others)


def common(one: Array, other: Array) -> Array:
    """The offsets of both."""
    return _combined(one, other, np.logical_and)


def _combined(one: Array, other: Array, keep: Callable[[Array, Array], Array]) -> Array:
    points = np.concatenate([one.ravel(), other.ravel()])
    bounds = np.unique(points)
    if len(bounds) == 0:
        return NONE
    inside = keep(contains(one, bounds), contains(other, bounds))
    turns = np.diff(inside, prepend=False).nonzero()[0]
    return bounds[turns].reshape(-1, 2)


def packed(ranges: Array) -> bytes:
    return np.ascontiguousarray(ranges, "<i8").tobytes()


def unpacked(content: bytes) -> Array:
    return np.frombuffer(content, "<i8").astype(np.int64).reshape(-1, 2)


class OffsetSet:
    """A set that grows at its upper end in amortised constant time."""

    def __init__(self, ranges: Array = NONE) -> None:
        self._room = ranges
        self._used = len(ranges)

    @property
    def ranges(self) -> Array:
        """A view, valid until the next change."""
        return self._room[: self._used]

    def __len__(self) -> int:
        return int((self.ranges[:, 1] - self.ranges[:, 0]).sum())

    def within(self, low: int, high: int) -> Array:
        """The ranges' parts in [low, high), copied. Cost: those, and two binary searches."""
        ranges = self.ranges
        first = int(ranges[:, 1].searchsorted(low, side="right"))
        last = int(ranges[:, 0].searchsorted(high))
        return np.clip(ranges[first:last], low, high)

    def add(self, ranges: Array) -> None:
        """Add ranges. Cost: amortised theirs when all are above what is there, else a copy."""
        if len(ranges) == 0:
            return
        if self._used and ranges[0, 0] <= self._room[self._used - 1, 1]:
            if ranges[0, 0] < self._room[self._used - 1, 1]:
                self.replace(union(self.ranges, ranges))
                return
            joined = self._room[self._used - 1 : self._used].copy()
            joined[0, 1] = ranges[0, 1]
            self._used -= 1
            ranges = np.concatenate([joined, ranges[1:]])
        wanted = self._used + len(ranges)
        if wanted > len(self._room) or not self._room.flags.writeable:
            room = np.zeros((max(4, 2 * wanted), 2), np.int64)
            room[: self._used] = self.ranges
            self._room = room
        self._room[self._used : wanted] = ranges
        self._used = wanted

    def remove(self, ranges: Array) -> None:
        """Take offsets out. Cost: a copy, if any is there."""
        if self._used and len(ranges):
            self.replace(without(self.ranges, ranges))

    def replace(self, ranges: Array) -> None:
        self._room, self._used = ranges, len(ranges)
