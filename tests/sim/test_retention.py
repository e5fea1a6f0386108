"""Rows that leave by retention where people have several identities and rows travel."""

from __future__ import annotations

import os
import random
from typing import Any

import pytest
import xxhash
from msgspec import structs

from profile_actors.engine.erasure.eraser import Eraser
from profile_actors.engine.log.in_memory import MemoryCheckpoints, MemoryFeed
from tests.model.copies import MemoryRows
from tests.sim.faulty_log import FaultyDisk
from tests.sim.world import Identity, World, drawn, expected

FIRST = int(os.environ.get("SIM_SEED", "0"))
COUNT = int(os.environ.get("SIM_N", "3"))


def check(got: dict[Identity, Any], wanted: dict[Identity, Any]) -> None:
    """Whose rows have all left is known still, without any."""
    for one, mine in got.items():
        if wanted[one] is None and mine is not None:
            assert mine[3:] == ({}, []), one
        else:
            assert mine == wanted[one], f"{one}: expected {wanted[one]}, got {mine}"


def purge(disk: FaultyDisk, cutoffs: dict[str, int]) -> int:
    eraser = Eraser([], cutoffs)
    for position, (_, value) in enumerate(disk.entries):
        parts = eraser.erased(bytes(value), f"position {position}")
        if parts is not None:
            fresh = bytearray(b"".join(bytes(part) for part in parts))
            disk.entries[position] = (xxhash.xxh3_64_intdigest(bytes(fresh)), fresh)
    return eraser.rows


@pytest.mark.parametrize("seed", range(FIRST, FIRST + COUNT))
def test_everybody_is_as_if_they_had_never_come(seed: int) -> None:
    rng = random.Random(seed * 131 + 5)
    world = World(drawn(seed), seed % 3 + 1, random.Random(seed), rng.choice((0.0, 1.0)))
    world.run()
    world.faults = 0
    now = world.settle_clocks()
    times = sorted(row["at"] for dataset, row in world.scenario.rows if dataset == "hits")
    cutoff = times[len(times) // 2]
    catalogue = world.scenario.catalogue
    catalogue = structs.replace(catalogue, version=catalogue.version + 1, expired={"hits": cutoff})
    for partition in world.partitions:
        partition.define(catalogue, None)
        assert partition.verify() == []
    wanted = expected(world, now, lambda dataset, row: dataset != "hits" or row["at"] >= cutoff)
    check(world.answers(), wanted)
    # The same when no log has them: opened from what is left of it alone.
    before = world.answers()
    assert sum(purge(disk, {"hits": cutoff}) for disk in [*world.disks, world.ledger_disk]) > 0
    world.derived = [(MemoryFeed(), MemoryCheckpoints()) for _ in range(world.count)]
    world.ledger_kept = MemoryCheckpoints()
    world.net, world.edge, world.shown = [], MemoryRows(), {}
    for index in range(world.count):
        world.told[index].clear()
        world.fed[index] = -1
    world.partitions = [world.opened(index) for index in range(world.count)]
    world.ledger = world.opened_ledger()
    world.run(until=world.is_quiet)
    for partition in world.partitions:
        assert partition.verify() == []
    assert world.answers() == before
