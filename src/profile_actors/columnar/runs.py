"""Runs of equal values and ranges of places, as arrays: the small idioms that every fold uses."""

from __future__ import annotations

import numpy as np

from profile_actors.columnar.vectors import Array

TABLE_CELLS = 16
"""A table of this many cells per look-up is cheaper than searching."""


FEW_KEYS = 64
"""So few keys are sorted by one call."""


def sizes_of(starts: np.ndarray, total: int) -> np.ndarray:
    """Lengths of the runs that begin at ``starts`` among ``total`` cells. int64[groups]."""
    sizes = np.empty(len(starts), np.int64)
    if len(starts):
        np.subtract(starts[1:], starts[:-1], out=sizes[:-1])
        sizes[-1] = total - starts[-1]
    return sizes


def order_by(keys: np.ndarray) -> np.ndarray:
    """Stable sorting permutation of non-negative integers < 2**32. int64[n].

    NumPy's stable sort of 16-bit integers is a radix sort: two passes took 17 ns a row where
    ``argsort(kind="stable")`` of the whole keys took 60, a packed (key, row) sort 40 (100 k rows).
    """
    if len(keys) <= FEW_KEYS:
        return keys.argsort(kind="stable")
    low = keys.astype(np.uint16).argsort(kind="stable")
    high = (keys >> 16).astype(np.uint16)
    if not high.any():
        return low
    return np.asarray(low[high[low].argsort(kind="stable")])


def running(deltas: np.ndarray, starts: np.ndarray, base: np.ndarray) -> np.ndarray:
    """Running totals inside groups: ``base[g] +`` the sum of the group's deltas so far.

    deltas: int64[n] or object[n]; starts: first index of each group; base: one per group.
    """
    total = deltas.cumsum()
    before = total[starts] - deltas[starts]
    sizes = sizes_of(starts, len(deltas))
    return np.asarray(total + (base - before).repeat(sizes))


def distinct(keys: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The distinct keys, ascending, and each key's number among them. keys: intp[n] >= 0.

    Cost: a table up to the largest key where keys are many, else a sort.
    """
    most = int(keys.max(initial=-1)) + 1
    if most > TABLE_CELLS * len(keys):
        used, place = np.unique(keys, return_inverse=True)
        return used, place
    seen = np.zeros(most, np.bool_)
    seen[keys] = True
    used = seen.nonzero()[0]
    number = np.zeros(most, np.intp)
    number[used] = np.arange(len(used))
    return used, number[keys]


def find(sorted_keys: np.ndarray, wanted: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Where ``wanted`` stand in unique ``sorted_keys``: (index, hit), index valid where hit.

    Cost: a table look-up each where the keys, slots, stand close together; else a binary search.
    """
    if len(sorted_keys) == 0:
        return np.zeros(len(wanted), np.int64), np.zeros(len(wanted), np.bool_)
    most = max(int(sorted_keys[-1]), int(wanted.max(initial=0)))
    if most < TABLE_CELLS * len(wanted):
        place = np.zeros(most + 1, np.int32)
        place[sorted_keys] = np.arange(1, len(sorted_keys) + 1, dtype=np.int32)
        index = place[wanted]
        hit = index > 0
        return np.maximum(index, 1) - 1, hit
    index = sorted_keys.searchsorted(wanted)
    np.minimum(index, len(sorted_keys) - 1, out=index)
    return index, sorted_keys[index] == wanted


def ranges(lows: Array, sizes: Array) -> Array:
    """Concatenated ``arange(low, low + size)`` of every pair. int64[sum(sizes)]."""
    total = int(sizes.sum())
    if total == 0:
        return np.zeros(0, np.int64)
    ends = sizes.cumsum()
    return np.asarray(np.arange(total) + (lows - (ends - sizes)).repeat(sizes))


def last_of_runs(*sorted_keys: Array) -> Array:
    """Which rows are the last of their run of equal keys. bool[n]"""
    mark = np.zeros(len(sorted_keys[0]), np.bool_)
    mark[-1:] = True
    for keys in sorted_keys:
        mark[:-1] |= keys[1:] != keys[:-1]
    return mark


def starts_of(sorted_keys: Array) -> Array:
    """First index of each run of equal keys. int64[groups]; cost O(n)."""
    if len(sorted_keys) == 0:
        return np.zeros(0, np.int64)
    mark = np.empty(len(sorted_keys), np.bool_)
    mark[0] = True
    np.not_equal(sorted_keys[1:], sorted_keys[:-1], out=mark[1:])
    return mark.nonzero()[0]


def taken_along(rows: Array, places: Array) -> Array:
    """Of each row what stands at its places. rows: [n, width]; places: intp[n, m] -> [n, m]."""
    starts = np.arange(0, rows.size, rows.shape[1])
    return np.asarray(rows.reshape(-1).take(places + starts[:, None]))
