"""Attribute columns: the scalar leaves of records that rules read, newest source time first.

Theory: a record row states leaves at its source time. Per (dataset, leaf) a column keeps the newest
stated value and its time; the union view takes the newest among the datasets, ties by dataset
name. At equal times within a dataset the larger value wins: any rule free of arrival order would
do, and this one needs no look at the log. What hides older statements, a null of a dataset that
replaces or the deletion of a record, is a statement too. Where a profile's rows are of several
identities each has cells of its own (``identity_cells``), and the column has the newest of them.
All are pure functions of the set of rows.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from profile_actors.columnar.hash_table import encoded_texts
from profile_actors.columnar.runs import find, last_of_runs
from profile_actors.columnar.state_columns import Saving, reserve
from profile_actors.columnar.vectors import (
    Array,
    Vector,
    buffer_of,
    column,
    differ,
    may_forget,
    one_array,
)
from profile_actors.engine.log.entry import Block
from profile_actors.engine.merge.identity_cells import IdentityCells, Stated, Statement
from profile_actors.ingest.hidden_columns import DELETED as DELETES
from profile_actors.ingest.hidden_columns import K0, K1
from profile_actors.rules.tree.plan import AttributeLeaf

ABSENT, STATED, STATED_NULL, DELETED = range(4)


STRENGTH = np.array([0, 2, 1, 3])
"""Which of one identity's statements at one time counts: a deletion hides all of its instant."""


NEVER = np.iinfo(np.int64).min


@dataclass(slots=True)
class AttributeTrack:
    """slots: who was touched; values: the union's value there. stores: per dataset; apart: of cells
    of single identities, likewise."""

    slots: Array
    values: Vector
    changed: Array
    stores: list[tuple[str, Stated]]
    apart: list[tuple[str, Stated]]


class Attribute:
    """One leaf. datasets: names of the record datasets that may state it, and whether they
    replace; where the leaf has an order, in that."""

    def __init__(self, leaf: AttributeLeaf, datasets: dict[str, bool], capacity: int) -> None:
        self.leaf = leaf
        self.datasets = datasets if leaf.order is not None else dict(sorted(datasets.items()))
        self.kind = leaf.type.kind if leaf.type is not None else "string"
        dtype = {"double": np.float64, "boolean": np.bool_}.get(self.kind, np.int64)
        self.dtype = np.dtype(dtype)
        self.values = {name: reserve(capacity, dtype) for name in self.datasets}
        self.times = {name: reserve(capacity, np.int64) for name in self.datasets}
        self.state = {name: reserve(capacity, np.uint8) for name in self.datasets}
        self.apart = IdentityCells(self.dtype)
        self.texts: list[str] = []
        self.codes: dict[str, int] = {}
        self._settled = 0  # texts that were in use when that was last looked at

    def fold(self, stated: dict[str, list[Statement]]) -> AttributeTrack | None:
        """Fold rows. stated: dataset -> what each block states; reads only."""
        stores: list[tuple[str, Stated]] = []
        apart: list[tuple[str, Stated]] = []
        for dataset, parts in stated.items():
            own = [part for part in parts if part.whose is None]
            columns = self.values[dataset], self.times[dataset], self.state[dataset]
            winners = self._winners(dataset, own, columns)
            if winners is not None:
                stores.append((dataset, winners))
            cells = [self.apart.placed(part) for part in parts if part.whose is not None]
            winners = self._winners(dataset, cells, self.apart.columns(dataset))
            if winners is not None:
                apart.append((dataset, winners))
                stores.append((dataset, self._newest(dataset, winners)))
        if not stores:
            return None
        slots = np.unique(np.concatenate([s.slots for _, s in stores]))
        before = self.current(slots)
        values = self._vector(*self._union(slots, stores))
        return AttributeTrack(slots, values, differ(before, values), stores, apart)

    def publish(self, track: AttributeTrack) -> None:
        """Write a fold's winners."""
        for name, stated in track.stores:
            self.values[name][stated.slots] = stated.values
            self.times[name][stated.slots] = stated.times
            self.state[name][stated.slots] = stated.state
        for name, stated in track.apart:
            self.apart.store(name, stated)

    def current(self, slots: Array) -> Vector:
        """The union's values of the slots."""
        return self._vector(*self._union(slots, []))

    def _winners(
        self, dataset: str, parts: list[Statement], columns: tuple[Array, Array, Array]
    ) -> Stated | None:
        """The newest statement of each slot, or cell, beside what its columns have."""
        if not parts:
            return None
        slots = np.concatenate([part.slots for part in parts])
        times = np.concatenate([part.times for part in parts])
        values = np.concatenate([self._interned(part.values) for part in parts])
        state = np.concatenate([_states(part) for part in parts])
        if not self.datasets[dataset]:
            keep = (state != STATED_NULL).nonzero()[0]
            slots, times, values, state = slots[keep], times[keep], values[keep], state[keep]
        if len(slots) == 0:
            return None
        kept = np.unique(slots)
        old = kept[columns[2][kept] != ABSENT]
        slots = np.concatenate([slots, old])
        values = np.concatenate([values, columns[0][old]])
        times = np.concatenate([times, columns[1][old]])
        state = np.concatenate([state, columns[2][old]])
        rows = self._last(slots, values, times, state)
        return Stated(slots[rows], values[rows], times[rows], state[rows])

    def _last(self, slots: Array, values: Array, times: Array, state: Array) -> Array:
        """The row of each slot that counts, by ascending slot."""
        order = np.lexsort((self._rank(values), STRENGTH[state], times, slots))
        return np.asarray(order[last_of_runs(slots[order])])

    def _newest(self, dataset: str, winners: Stated) -> Stated:
        """What the profiles of these cells state in all: the newest that an identity of theirs
        still states."""
        slots, cells = self.apart.beside(winners.slots)
        values, times, state = (column[cells] for column in self.apart.columns(dataset))
        index, hit = find(winners.slots, cells)
        values = np.where(hit, winners.values[index], values)
        times = np.where(hit, winners.times[index], times)
        state = np.where(hit, winners.state[index], state)
        hidden = state != STATED
        state = np.where(hidden, STATED_NULL, STATED).astype(np.uint8)
        rows = self._last(slots, values, np.where(hidden, NEVER, times), state)
        return Stated(slots[rows], values[rows], times[rows], state[rows])

    def _rank(self, values: Array) -> Array:
        """A sort key that orders values as their type does."""
        if self.kind != "string":
            return values
        codes, inverse = np.unique(values, return_inverse=True)
        texts = [self.texts[code] if code < len(self.texts) else "" for code in codes.tolist()]
        rank = np.empty(len(codes), np.int64)
        rank[sorted(range(len(texts)), key=texts.__getitem__)] = np.arange(len(texts))
        return rank[inverse]

    def _interned(self, vector: Vector) -> Array:
        if vector.dictionary is None:
            return vector.values.astype(self.dtype)
        table = np.zeros(len(vector.dictionary), np.int64)
        for code in np.unique(vector.values).tolist():
            text = vector.dictionary[code]
            number = self.codes.setdefault(text, len(self.codes))
            if number == len(self.texts):
                self.texts.append(text)
            table[code] = number
        return table[vector.values]

    def _union(self, slots: Array, stores: list[tuple[str, Stated]]) -> tuple[Array, Array]:
        values = np.zeros(len(slots), self.dtype)
        times = np.full(len(slots), np.iinfo(np.int64).min)
        valid = np.zeros(len(slots), np.bool_)
        for name in self.datasets:
            value = self.values[name][slots]
            time = self.times[name][slots]
            state = self.state[name][slots]
            for patch in (stated for of, stated in stores if of == name):
                index, hit = find(patch.slots, slots)
                value = np.where(hit, patch.values[index], value)
                time = np.where(hit, patch.times[index], time)
                state = np.where(hit, patch.state[index], state)
            better = (state == STATED) & ~valid
            if self.leaf.order is None:
                better |= (state == STATED) & (time > times)
            values = np.where(better, value, values)
            times = np.where(better, time, times)
            valid |= better
        return values, valid

    def _vector(self, values: Array, valid: Array) -> Vector:
        mask = None if bool(valid.all()) else valid
        if self.kind != "string":
            return Vector(values, mask)
        codes, inverse = np.unique(values, return_inverse=True)
        texts = tuple(self.texts[code] if code < len(self.texts) else "" for code in codes.tolist())
        return Vector(inverse.astype(np.int32), mask, texts or ("",))

    def may_forget(self, profiles: int) -> bool:
        """Whether so many texts have come that a pass over the columns pays."""
        return may_forget(len(self.texts), self._settled, profiles * len(self.datasets))

    def forget(self, profiles: int) -> Callable[[], None]:
        """Leave out the texts that no profile has; to be called under the partition's lock."""
        used = {}
        live = np.zeros(len(self.texts), np.bool_)
        for name in self.datasets:
            used[name] = (self.state[name][:profiles] == STATED).nonzero()[0]
            live[self.values[name][used[name]]] = True
        live[self.apart.values_in_use(STATED)] = True
        codes = live.nonzero()[0]
        table = np.zeros(len(live), np.int64)
        table[codes] = np.arange(len(codes))
        values = {name: table[self.values[name][slots]] for name, slots in used.items()}
        texts = [self.texts[code] for code in codes.tolist()]

        def swap() -> None:
            for name, slots in used.items():
                self.values[name][slots] = values[name]
            self.apart.recode(table, STATED)
            self.texts, self.codes = texts, {text: code for code, text in enumerate(texts)}
            self._settled = len(texts)

        return swap

    def size_bytes(self, profiles: int) -> int:
        """Bytes of the columns in use; texts apart."""
        columns = (
            column[:profiles]
            for of in (self.values, self.times, self.state)
            for column in of.values()
        )
        return sum(column.nbytes for column in columns) + self.apart.size_bytes

    def saving(self, profiles: int) -> Saving:
        """For a checkpoint."""
        columns: dict[str, Array] = {}
        for name in self.datasets:
            columns[f"values/{name}"] = self.values[name]
            columns[f"times/{name}"] = self.times[name]
            columns[f"state/{name}"] = self.state[name]
        texts, count, apart = self.texts, len(self.texts), self.apart.saved()
        return Saving.of(columns, profiles, lambda: encoded_texts(texts, count) | apart)

    def restore(self, arrays: dict[str, Array]) -> None:
        """Columns from a checkpoint."""
        for name in self.datasets:
            for columns, key in (
                (self.values, "values"),
                (self.times, "times"),
                (self.state, "state"),
            ):
                stored = arrays[f"{key}/{name}"]
                columns[name][: len(stored)] = stored
        self.apart.restore(arrays)
        blob, start = arrays["texts"].tobytes(), 0
        for size in arrays["text_sizes"].tolist():
            text = blob[start : start + size].decode("utf-8", "surrogatepass")
            self.codes[text] = len(self.texts)
            self.texts.append(text)
            start += size


def _states(part: Statement) -> Array:
    """What each row is. uint8[n]"""
    valid = part.values.valid
    out = np.full(len(part.slots), STATED, np.uint8)
    if valid is not None:
        out[~valid] = STATED_NULL
    if part.deletes is not None:
        out[part.deletes] = DELETED
    return out


def stated_of(
    attribute: Attribute, blocks: list[Block], slot_of: Array
) -> dict[str, list[Statement]]:
    """What record blocks state of an attribute, by dataset."""
    out: dict[str, list[Statement]] = {}
    name = attribute.leaf.path
    for block in blocks:
        if block.dataset not in attribute.datasets:
            continue
        names, rows = block.table.column_names, block.rows
        is_stated, deletes = name in names, None
        if DELETES in names:
            marks = one_array(block.table.column(DELETES)).fill_null(False)
            deletes = marks.to_numpy(zero_copy_only=False).astype(np.bool_)
        if not is_stated and deletes is None and not attribute.datasets[block.dataset]:
            continue
        slots = slot_of[block.idents].astype(np.uint32)
        if is_stated:
            value = column(block.table.column(name))
        else:
            value = Vector(np.zeros(rows, attribute.dtype), np.zeros(rows, np.bool_))
        whole = Statement(slots, block.timestamps, value, deletes)
        out.setdefault(block.dataset, []).extend(_by_person(whole, block))
    return out


def _by_person(whole: Statement, block: Block) -> list[Statement]:
    """The rows of profiles of several identities apart from the others."""
    if K0 not in block.table.column_names:
        return [whole]
    k0, k1 = (one_array(block.table.column(half)) for half in (K0, K1))
    several = k0.is_valid().to_numpy(zero_copy_only=False)
    keys = np.stack([buffer_of(half, np.uint64) for half in (k0, k1)], axis=1)
    parts = []
    for rows in ((~several).nonzero()[0], several.nonzero()[0]):
        slots, times, values, deletes, _ = whole
        valid = None if values.valid is None else values.valid[rows]
        some = Vector(values.values[rows], valid, values.dictionary)
        marks = None if deletes is None else deletes[rows]
        whose = keys[rows] if bool(several[rows].any()) else None
        if len(rows):
            parts.append(Statement(slots[rows], times[rows], some, marks, whose))
    return parts
