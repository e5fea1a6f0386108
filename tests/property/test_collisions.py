"""L13: two people are never one by accident, however their keys collide."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pyarrow as pa
import pytest

from profile_actors.columnar.hash_table import KeyTable
from profile_actors.engine.log.sub_batch import SubBatch
from tests.model.hub import BASE, Hub

BIG = 1 << 63
Keys = list[tuple[int, int]]


def one_cell(count: int, spread: int = 0x1234567) -> Keys:
    """Distinct keys that all begin at one cell of a new table. spread 0: of equal second halves."""
    k0 = np.arange(1, 400_000, dtype=np.uint64)
    k1 = k0 * np.uint64(spread)
    homes = KeyTable()._home(k0, k1)
    cell = np.bincount(homes).argmax()
    rows = np.flatnonzero(homes == cell)[:count]
    assert len(rows) == count
    return [(int(k0[i]), int(k1[i])) for i in rows]


COLLIDING = {
    "first half": [(BIG + 5, n) for n in range(40)],
    "second half": [(n, BIG + 5) for n in range(40)],
    "swapped halves": [(a, b) for a in range(6) for b in range(6)],
    "zero and ones": [(0, 0), (0, 2**64 - 1), (2**64 - 1, 0), (2**64 - 1, 2**64 - 1)],
    "second half and home cell": one_cell(40, spread=0),
    "home cell": one_cell(40),
    "home cell, across growth": [*one_cell(40), *((n << 20, n) for n in range(1, 4001))],
}


def rekeyed(table: pa.Table, keys: Keys) -> pa.Table:
    """The door's table with other keys, as if the hash had collided."""
    halves = np.array(keys, np.uint64)
    for column, name in enumerate(("@k0", "@k1")):
        place = table.column_names.index(name)
        table = table.set_column(place, name, pa.array(np.ascontiguousarray(halves[:, column])))
    return table


@pytest.mark.parametrize("name", COLLIDING)
@pytest.mark.parametrize("entries", [1, 2])
def test_colliding_keys_are_different_people(name: str, entries: int) -> None:
    keys = COLLIDING[name]
    hub = Hub()
    partition = hub.partitions[0]
    # Same time and ``_id`` for all: were two one person, the second row would be a duplicate.
    rows = [{"who": f"w{i}", "at": BASE, "_id": "x", "n": i} for i in range(len(keys))]
    table = rekeyed(hub.table("hits", rows, 0), keys)
    bounds = np.linspace(0, len(keys), entries + 1).astype(int).tolist()
    for begin, end in pairwise(bounds):
        part = table.slice(begin, end - begin)
        (reply,) = partition.commit([SubBatch("hits", "p", begin, end, 1, BASE, part)], None)
        assert (reply.status, reply.accepted) == ("ok", end - begin)
    for _ in range(2):
        profiles = partition.profiles(keys)
        for i, profile in enumerate(profiles):
            assert profile is not None, i
            assert profile.identities[0].value == f"w{i}"
            assert (profile.computed["count"], profile.computed["most"]) == (1, i)
        stranger = (keys[0][0], keys[-1][1] ^ 12345)
        assert partition.profiles([stranger]) == [None]
        assert partition.events(stranger).events == []
        partition = hub.reopen()
