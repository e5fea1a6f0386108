"""Sets of slots, and of (slot, instant) pairs, as sorted arrays; cells of (slot, column)."""

from __future__ import annotations

import numpy as np

from profile_actors.columnar.vectors import Array

_SPAN_BITS = 31


Part = tuple[Array | int, Array, Array | int]
"""Columns, slots, and their codes, of each or one of all. Columns of each ascend."""


SPARSE = 64
"""Where slots are further apart than this, they are sorted: a mark for each that there is would
make a small entry's cost grow with the store."""


def slots_of_all(parts: list[Array]) -> Array:
    """The slots of all parts, ascending, each once."""
    parts = [part for part in parts if len(part)]
    if not parts:
        return np.zeros(0, np.uint32)
    if len(parts) == 1 and bool((parts[0][1:] > parts[0][:-1]).all()):
        return parts[0]
    most = max(int(part.max()) for part in parts) + 1
    if most > SPARSE * sum(map(len, parts)):
        return np.unique(np.concatenate(parts))
    # A mark per slot takes a fifth of the time of a sort or a hash of them.
    mark = np.zeros(most, np.bool_)
    for part in parts:
        mark[part] = True
    return mark.nonzero()[0]


def pair_order(slots: Array, at: Array) -> Array:
    """The permutation that puts pairs in the order (slot, at), equal ones as they stand. int64[n]

    Cost: one stable sort of 64-bit keys, which merges runs that are sorted already; two sorts where
    the instants are too far apart for a key.
    """
    if len(at) == 0:
        return np.zeros(0, np.int64)
    least = int(at.min())
    if int(at.max()) - least >= 1 << _SPAN_BITS:
        return np.lexsort((at, slots))
    keys: Array = (slots.astype(np.int64) << _SPAN_BITS) | (at - least)
    return keys.argsort(kind="stable")


def distinct_pairs(slots: Array, at: Array) -> tuple[Array, Array]:
    """Distinct (slot, instant) pairs, ascending."""
    order = pair_order(slots, at)
    slots, at = slots[order], at[order]
    keep = np.ones(len(slots), np.bool_)
    keep[1:] = (slots[1:] != slots[:-1]) | (at[1:] != at[:-1])
    return slots[keep], at[keep]


def following(slots: Array, at: Array, of: Array, when: Array, end: int) -> Array:
    """The next instant of the same slot among ascending pairs, or ``end``."""
    index = upto(slots, at, of, when)
    inside = np.minimum(index, len(slots) - 1)
    same = (index < len(slots)) & (slots[inside] == of)
    return np.where(same, at[inside], end)


def upto(slots: Array, at: Array, of: Array, when: Array) -> Array:
    """How many of the ascending pairs (slots, at) are at or before each (of, when). int64[n]

    Cost: a binary search each; a sort of the instants besides where they are far apart.
    """
    if len(at) == 0 or len(when) == 0:
        return np.zeros(len(when), np.int64)
    least = min(int(at.min()), int(when.min()))
    if max(int(at.max()), int(when.max())) - least < 1 << _SPAN_BITS:
        keys = (slots.astype(np.int64) << _SPAN_BITS) | (at - least)
        wanted = (of.astype(np.int64) << _SPAN_BITS) | (when - least)
        return np.asarray(keys.searchsorted(wanted, side="right"))
    times = np.sort(np.concatenate([at, when]))
    width = np.int64(len(times))
    keys = slots.astype(np.int64) * width + times.searchsorted(at)
    wanted = of.astype(np.int64) * width + times.searchsorted(when)
    return np.asarray(keys.searchsorted(wanted, side="right"))


def together(parts: list[Part], limit: int) -> list[Part]:
    """The parts as one, with a column for each slot, unless they have more cells than ``limit``.

    Either all have one and the same code, or all have one for each slot.
    """
    if len(parts) < 2 or sum([len(slots) for _, slots, _ in parts]) > limit:
        return parts
    columns, slots, codes = zip(*parts, strict=True)
    shapes = zip(columns, map(len, slots), strict=True)
    every = [np.full(n, one) if isinstance(one, int) else one for one, n in shapes]
    at = codes[0] if isinstance(codes[0], int) else np.concatenate(codes)
    return [(np.concatenate(every), np.concatenate(slots), at)]
