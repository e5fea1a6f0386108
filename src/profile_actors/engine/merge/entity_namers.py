"""Who names which entity: per relationship, the slots whose rows have a key of it.

Theory: an entity changes by itself, and then the profiles that name it are to be looked at again,
and no others. So whenever rows are folded, the pairs (entity, slot) in them are kept, whether the
entity is known yet or not. They are a set: of a slot that names an entity again nothing is added,
and nothing is ever taken out, for rows stay.

Pairs are sorted 64-bit keys in a few runs, each at least twice as long as the next. Cost: a binary
search per run and new pair, and each pair is merged log2(pairs) times; 8 bytes a pair, 36 an
entity. A fold reads, ``add`` writes; a run is never changed, so readers need no lock for those they
hold.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from profile_actors.columnar.hash_table import KeyTable
from profile_actors.columnar.runs import ranges
from profile_actors.columnar.state_columns import Saving
from profile_actors.columnar.vectors import Array, one_array
from profile_actors.definitions.relationships import Join
from profile_actors.engine.log.entry import Block
from profile_actors.ingest.hidden_columns import ID, TYPE
from profile_actors.ingest.identity_keys import keys_of

_HIDDEN = {"_id": ID, "eventType": TYPE}


class Named(NamedTuple):
    """Entities that rows name: keys uint64[n, 2], and the slot of each row, uint32[n]."""

    keys: Array
    slots: Array


class EntityNamers:
    """The pairs of one relationship. seed: the store's, of identity keys."""

    def __init__(self, join: Join) -> None:
        self.join = join
        self._table = KeyTable(1 << 8)
        self._runs: tuple[Array, ...] = ()

    def find(self, blocks: Sequence[Block], slot_of: Array, seed: int) -> Named:
        """The entities named by rows of events, or of records, as the relationship is of. Reads
        only the one column that has the key."""
        parts = [_named_in(block, self.join, slot_of, seed) for block in blocks]
        if len(parts) == 1:
            return parts[0]
        none = np.zeros((0, 2), np.uint64), np.zeros(0, np.uint32)
        keys, slots = zip(none, *parts, strict=True)
        return Named(np.concatenate(keys), np.concatenate(slots))

    def add(self, named: Named) -> None:
        """Keep pairs. The caller holds the partition's lock, or is alone."""
        if not len(named.slots):
            return
        numbers, _ = self._table.number(named.keys[:, 0], named.keys[:, 1])
        fresh = np.unique(numbers.astype(np.uint64) << np.uint64(32) | named.slots)
        for run in self._runs:
            place = np.minimum(run.searchsorted(fresh), len(run) - 1)
            fresh = fresh[run[place] != fresh]
        runs = [*self._runs, fresh] if len(fresh) else [*self._runs]
        while len(runs) > 1 and len(runs[-2]) < 2 * len(runs[-1]):
            last = runs.pop()
            runs[-1] = np.sort(np.concatenate([runs[-1], last]), kind="stable")
        self._runs = tuple(runs)

    def slots_of(self, keys: Array) -> Array:
        """The slots that name one of these entities, ascending. keys: uint64[n, 2]."""
        numbers = self._table.find(keys[:, 0], keys[:, 1])
        low = np.unique(numbers[numbers >= 0]).astype(np.uint64) << np.uint64(32)
        found = [np.zeros(0, np.uint32)]
        for run in self._runs:
            begin = run.searchsorted(low)
            sizes = run.searchsorted(low + np.uint64(1 << 32)) - begin
            found.append(run[ranges(begin, sizes)].astype(np.uint32))  # the lower half
        return np.unique(np.concatenate(found))

    def pairs(self) -> set[tuple[int, int, int]]:
        """All of them as (k0, k1, slot), for verification."""
        if not self._runs:
            return set()
        pairs = np.concatenate(self._runs)
        keys = self._table.keys_of((pairs >> np.uint64(32)).astype(np.int64))
        slots = pairs.astype(np.uint32).tolist()
        return {(k0, k1, slot) for (k0, k1), slot in zip(keys.tolist(), slots, strict=True)}

    @property
    def size_bytes(self) -> int:
        """Bytes of memory in use."""
        return self._table.size_bytes + sum(run.nbytes for run in self._runs)

    def saving(self) -> Saving:
        """For a checkpoint."""
        keys, runs = self._table.keys_later(), self._runs

        def made() -> dict[str, Array]:
            k0, k1 = keys()
            whole = np.concatenate([np.zeros(0, np.uint64), *runs])
            return {"k0": k0, "k1": k1, "pairs": np.sort(whole)}

        return Saving((), made)

    def restore(self, arrays: dict[str, Array]) -> None:
        """Pairs from a checkpoint."""
        self._table.number(arrays["k0"], arrays["k1"])
        self._runs = (np.asarray(arrays["pairs"]),) if len(arrays["pairs"]) else ()


def _named_in(block: Block, join: Join, slot_of: Array, seed: int) -> Named:
    """The entities that a block's rows name: per row and distinct text once or more often."""
    nobody = Named(np.zeros((0, 2), np.uint64), np.zeros(0, np.uint32))
    column = join.column
    if column not in block.table.column_names:  # an event's own name
        column = _HIDDEN.get(column, column)
    if join.namespace is None or column not in block.table.column_names:
        return nobody
    values, rows = _flat(one_array(block.table.column(column)), np.arange(block.rows))
    for name in join.inner:
        if not pa.types.is_struct(values.type) or values.type.get_field_index(name) < 0:
            return nobody  # rows from before the field was declared
        values, rows = _flat(pc.struct_field(values, name), rows)
    is_there = pc.is_valid(values).to_numpy(zero_copy_only=False)
    texts = pc.cast(values.filter(pa.array(is_there)), pa.string()).dictionary_encode()
    if not len(texts):
        return nobody
    keys = keys_of(join.namespace, texts.dictionary.to_pylist(), seed)
    slots = slot_of[block.idents[rows[is_there]]].astype(np.uint32)
    return Named(keys[texts.indices.to_numpy()], slots)


def _flat(values: pa.Array, rows: Array) -> tuple[pa.Array, Array]:
    """Arrays of any depth taken apart; the row that each element is of."""
    while pa.types.is_list(values.type) or pa.types.is_large_list(values.type):
        rows = rows[pc.list_parent_indices(values).to_numpy()]
        values = pc.list_flatten(values)
    return values, rows
