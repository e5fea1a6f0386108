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
COUNT = int(os.environ.get("SIM_N", "2"))


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


def without(world: World, cutoffs: dict[str, int]) -> int:
    """All logs without them, and everything else made anew; how many those were."""
    rows = sum(purge(disk, cutoffs) for disk in [*world.disks, world.ledger_disk])
    world.derived = [(MemoryFeed(), MemoryCheckpoints()) for _ in range(world.count)]
    world.ledger_kept = MemoryCheckpoints()
    world.net, world.edge, world.shown = [], MemoryRows(), {}
    for index in range(world.count):
        world.told[index].clear()
        world.fed[index] = -1
    world.partitions = [world.opened(index) for index in range(world.count)]
    world.ledger = world.opened_ledger()
    world.ledger.commit([], None)
    return rows


def expired(world: World) -> dict[str, int]:
    """Half of the events' times have passed, on all partitions."""
    times = sorted(row["at"] for dataset, row in world.scenario.rows if dataset == "hits")
    cutoffs = {"hits": times[len(times) // 2]}
    known = world.scenario.catalogue
    catalogue = structs.replace(known, version=known.version + 1, expired=cutoffs)
    for partition in world.partitions:
        partition.define(catalogue, None)
    world.scenario.catalogue = catalogue
    world.ledger.commit([], None, catalogue)
    return cutoffs


def remaining(world: World, now: int, cutoffs: dict[str, int]) -> dict[Identity, Any]:
    return expected(world, now, lambda dataset, row: row["at"] >= cutoffs.get(dataset, row["at"]))


def verify(world: World) -> None:
    for partition in world.partitions:
        assert partition.verify() == []


# 16: books of one identity, all of whose rows leave.
@pytest.mark.parametrize("seed", [16, *range(FIRST, FIRST + COUNT)])
def test_everybody_is_as_if_they_had_never_come(seed: int) -> None:
    rng = random.Random(seed * 131 + 5)
    world = World(drawn(seed), seed % 3 + 1, random.Random(seed), rng.choice((0.0, 1.0)))
    world.run()
    world.faults = 0
    now = world.settle_clocks()
    cutoffs = expired(world)
    verify(world)
    check(world.answers(), remaining(world, now, cutoffs))
    assert without(world, cutoffs) > 0
    world.run(until=world.is_quiet)
    verify(world)
    check(world.answers(), remaining(world, now, cutoffs))


@pytest.mark.parametrize("seed", range(FIRST, FIRST + COUNT))
def test_what_comes_after_a_purge_finds_its_people(
    seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rows, links and messages that were on the way go on."""
    rng = random.Random(seed * 17 + 3)
    world = World(drawn(seed), seed % 3 + 1, random.Random(seed), rng.choice((0.0, 1.0)))
    most = sum(map(len, world.queues))
    wanted = rng.randint(1, most)
    world.run(until=lambda: sum(p.cursor("d") or 0 for p in world.partitions) >= wanted)
    faults, world.faults = world.faults, 0
    monkeypatch.setattr(world, "look", lambda row: None)  # whose rows have left
    cutoffs = expired(world)
    without(world, cutoffs)
    world.faults = faults
    world.run()
    world.faults = 0
    now = world.settle_clocks()
    check(world.answers(), remaining(world, now, cutoffs))
    verify(world)
    assert world.ledger.verify() == []
