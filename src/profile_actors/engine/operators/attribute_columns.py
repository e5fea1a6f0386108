"""Attribute columns: the scalar leaves of records that rules read, newest source time first.

Theory: a record row states leaves at its source time. Per (dataset, leaf) a column keeps the newest
stated value and its time; the union view takes the newest among the datasets, ties by dataset
name. At equal times within a dataset the larger value wins: any rule free of arrival order would
do, and this one needs no look at the log. Both are pure functions of the set of rows.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np

from profile_actors.columnar.hash_table import encoded_texts
from profile_actors.columnar.runs import find
from profile_actors.columnar.state_columns import Saving, reserve
from profile_actors.columnar.vectors import Array, Vector, differ, may_forget
from profile_actors.rules.tree.plan import AttributeLeaf

ABSENT, STATED, STATED_NULL = 0, 1, 2


@dataclass(slots=True)
class Stated:
    """One entry's winners of one dataset: slots ascending, unique."""

    slots: Array
    values: Array
    times: Array
    state: Array


@dataclass(slots=True)
class AttributeTrack:
    """slots: who was touched; values: the union's value there. stores: per dataset."""

    slots: Array
    values: Vector
    changed: Array
    stores: list[tuple[str, Stated]]


class Attribute:
    """One leaf. datasets: names of the record datasets that may state it, and whether they
    replace."""

    def __init__(self, leaf: AttributeLeaf, datasets: dict[str, bool], capacity: int) -> None:
        self.leaf = leaf
        self.datasets = dict(sorted(datasets.items()))
        self.kind = leaf.type.kind if leaf.type is not None else "string"
        dtype = {"double": np.float64, "boolean": np.bool_}.get(self.kind, np.int64)
        self.dtype = np.dtype(dtype)
        self.values = {name: reserve(capacity, dtype) for name in self.datasets}
        self.times = {name: reserve(capacity, np.int64) for name in self.datasets}
        self.state = {name: reserve(capacity, np.uint8) for name in self.datasets}
        self.texts: list[str] = []
        self.codes: dict[str, int] = {}
        self._settled = 0  # texts that were in use when that was last looked at

    def fold(self, stated: dict[str, list[tuple[Array, Array, Vector]]]) -> AttributeTrack | None:
        """Fold rows. stated: dataset -> (slots, times, value vector) of each block; reads only."""
        stores: list[tuple[str, Stated]] = []
        for dataset, parts in stated.items():
            winners = self._winners(dataset, parts)
            if winners is not None:
                stores.append((dataset, winners))
        if not stores:
            return None
        slots = np.unique(np.concatenate([s.slots for _, s in stores]))
        before = self.current(slots)
        values = self._vector(*self._union(slots, dict(stores)))
        return AttributeTrack(slots, values, differ(before, values), stores)

    def publish(self, track: AttributeTrack) -> None:
        """Write a fold's winners."""
        for name, stated in track.stores:
            self.values[name][stated.slots] = stated.values
            self.times[name][stated.slots] = stated.times
            self.state[name][stated.slots] = stated.state

    def current(self, slots: Array) -> Vector:
        """The union's values of the slots."""
        return self._vector(*self._union(slots, {}))

    def _winners(self, dataset: str, parts: list[tuple[Array, Array, Vector]]) -> Stated | None:
        replaces = self.datasets[dataset]
        slots = np.concatenate([p[0] for p in parts])
        times = np.concatenate([p[1] for p in parts])
        values = np.concatenate([self._interned(p[2]) for p in parts])
        valid = np.concatenate(
            [np.ones(len(p[0]), np.bool_) if p[2].valid is None else p[2].valid for p in parts]
        )
        if not replaces:
            keep = valid.nonzero()[0]
            slots, times, values, valid = slots[keep], times[keep], values[keep], valid[keep]
        if len(slots) == 0:
            return None
        state = np.where(valid, STATED, STATED_NULL).astype(np.uint8)
        kept = np.unique(slots)
        stored = self.state[dataset][kept] != ABSENT
        old = kept[stored]
        slots = np.concatenate([slots, old])
        times = np.concatenate([times, self.times[dataset][old]])
        values = np.concatenate([values, self.values[dataset][old]])
        state = np.concatenate([state, self.state[dataset][old]])
        order = np.lexsort((self._rank(values), state == STATED, times, slots))
        slots = slots[order]
        last = np.append(slots[1:] != slots[:-1], True).nonzero()[0]
        rows = order[last]
        return Stated(slots[last], values[rows], times[rows], state[rows])

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

    def _union(self, slots: Array, patches: dict[str, Stated]) -> tuple[Array, Array]:
        values = np.zeros(len(slots), self.dtype)
        times = np.full(len(slots), np.iinfo(np.int64).min)
        valid = np.zeros(len(slots), np.bool_)
        for name in self.datasets:
            value = self.values[name][slots]
            time = self.times[name][slots]
            state = self.state[name][slots]
            patch = patches.get(name)
            if patch is not None:
                index, hit = find(patch.slots, slots)
                value = np.where(hit, patch.values[index], value)
                time = np.where(hit, patch.times[index], time)
                state = np.where(hit, patch.state[index], state)
            better = (state == STATED) & ((time > times) | ~valid)
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
        codes = live.nonzero()[0]
        table = np.zeros(len(live), np.int64)
        table[codes] = np.arange(len(codes))
        values = {name: table[self.values[name][slots]] for name, slots in used.items()}
        texts = [self.texts[code] for code in codes.tolist()]

        def swap() -> None:
            for name, slots in used.items():
                self.values[name][slots] = values[name]
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
        return sum(column.nbytes for column in columns)

    def saving(self, profiles: int) -> Saving:
        """For a checkpoint."""
        columns: dict[str, Array] = {}
        for name in self.datasets:
            columns[f"values/{name}"] = self.values[name]
            columns[f"times/{name}"] = self.times[name]
            columns[f"state/{name}"] = self.state[name]
        texts = partial(encoded_texts, self.texts, len(self.texts))
        return Saving.of(columns, profiles, texts)

    def restore(self, arrays: dict[str, Array]) -> None:
        """Columns from a checkpoint."""
        for name in self.datasets:
            for column, key in (
                (self.values, "values"),
                (self.times, "times"),
                (self.state, "state"),
            ):
                stored = arrays[f"{key}/{name}"]
                column[name][: len(stored)] = stored
        blob, start = arrays["texts"].tobytes(), 0
        for size in arrays["text_sizes"].tolist():
            text = blob[start : start + size].decode("utf-8", "surrogatepass")
            self.codes[text] = len(self.texts)
            self.texts.append(text)
            start += size
