"""Cells of single identities, of an attribute of profiles that have several.

Theory: a profile's own column has one cell per dataset. Where its rows are of several identities
each needs one of its own: a record that is deleted, or replaced, hides what the same identity said
there before, and nothing else. So each pair (slot, identity) that is met has a number, and columns
by that number. Nobody pays who has no such rows. 17 bytes a pair and dataset, and 60 a pair.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import chain
from typing import NamedTuple

import numpy as np

from profile_actors.columnar.hash_table import KeyTable
from profile_actors.columnar.vectors import Array, Vector

Columns = tuple[Array, Array, Array]
NAMES = ("values", "times", "state")
"""Of the three columns."""


class Statement(NamedTuple):
    """What a block states of an attribute: n rows. deletes: bool[n], the rows that delete; None:
    none. whose: uint64[n, 2], their primary identities, where they are of several; None: each is
    the profile's own."""

    slots: Array
    times: Array
    values: Vector
    deletes: Array | None = None
    whose: Array | None = None


@dataclass(slots=True)
class Stated:
    """One entry's winners of one dataset: slots (or cells) ascending, unique."""

    slots: Array
    values: Array
    times: Array
    state: Array


class IdentityCells:
    """Columns by pair, per dataset. dtype: of values. For the writer's thread: profiles have the
    outcome in their own columns."""

    def __init__(self, dtype: np.dtype) -> None:
        self._dtype = dtype
        self._people = KeyTable(16)
        self._pairs = KeyTable(16)
        self._of_slot: dict[int, list[int]] = {}
        self._columns: dict[str, Columns] = {}

    @property
    def size_bytes(self) -> int:
        """Bytes of the columns and of what numbers the pairs."""
        columns = sum(one.nbytes for one in chain.from_iterable(self._columns.values()))
        return columns + 60 * self._pairs.count

    def placed(self, part: Statement) -> Statement:
        """The same with the rows' cells in place of their slots."""
        assert part.whose is not None
        people = self._people.number(part.whose[:, 0], part.whose[:, 1])[0].astype(np.uint64)
        known = self._pairs.count
        cells, first = self._pairs.number(part.slots.astype(np.uint64), people)
        for number, slot in enumerate(part.slots[first].tolist(), known):
            self._of_slot.setdefault(slot, []).append(number)
        return part._replace(slots=cells.astype(np.int64))

    def beside(self, cells: Array) -> tuple[Array, Array]:
        """All cells of the profiles that have these: (slot, cell)."""
        slots = np.unique(self._pairs.keys_of(cells)[:, 0]).astype(np.int64)
        found = [self._of_slot[slot] for slot in slots.tolist()]
        return np.repeat(slots, [len(one) for one in found]), np.array([*chain(*found)], np.int64)

    def columns(self, dataset: str) -> Columns:
        """The dataset's columns, with room for every pair."""
        kinds = (self._dtype, np.int64, np.uint8)
        known = self._columns.get(dataset)
        if known is None or len(known[0]) < self._pairs.count:
            room = max(16, 2 * self._pairs.count)
            longer = tuple(np.zeros(room, kind) for kind in kinds)
            for new, old in zip(longer, known or (), strict=False):
                new[: len(old)] = old
            known = self._columns[dataset] = longer[0], longer[1], longer[2]
        return known

    def store(self, dataset: str, stated: Stated) -> None:
        """Write a fold's winners."""
        values, times, state = self.columns(dataset)
        values[stated.slots], times[stated.slots] = stated.values, stated.times
        state[stated.slots] = stated.state

    def values_in_use(self, stated: int) -> Array:
        """The values of cells of this state, with repeats."""
        used = [values[state == stated] for values, _, state in self._columns.values()]
        return np.concatenate([np.zeros(0, self._dtype), *used])

    def recode(self, table: Array, stated: int) -> None:
        """Put the table's numbers in place of the values of cells of this state."""
        for values, _, state in self._columns.values():
            used = (state == stated).nonzero()[0]
            values[used] = table[values[used]]

    def saved(self) -> dict[str, Array]:
        """Copies of everything, for a checkpoint; nothing where there are no pairs."""
        if not self._pairs.count:
            return {}
        (slot, person), (k0, k1) = self._pairs.keys(), self._people.keys()
        out = {"apart/slot": slot, "apart/person": person, "apart/k0": k0, "apart/k1": k1}
        for dataset in self._columns:
            for name, column in zip(
                ("values", "times", "state"), self.columns(dataset), strict=True
            ):
                out[f"apart/{name}/{dataset}"] = column[: self._pairs.count].copy()
        return out

    def restore(self, arrays: dict[str, Array]) -> None:
        """Cells from a checkpoint."""
        if "apart/slot" not in arrays:
            return
        self._people.number(arrays["apart/k0"], arrays["apart/k1"])
        self._pairs.number(arrays["apart/slot"], arrays["apart/person"])
        for number, slot in enumerate(arrays["apart/slot"].tolist()):
            self._of_slot.setdefault(slot, []).append(number)
        for name in arrays:
            if name.startswith("apart/values/"):
                dataset = name.removeprefix("apart/values/")
                for part, column in zip(
                    ("values", "times", "state"), self.columns(dataset), strict=True
                ):
                    column[: self._pairs.count] = arrays[f"apart/{part}/{dataset}"]
