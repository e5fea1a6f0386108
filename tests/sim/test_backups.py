"""A store is backed up while it works, and what is restored comes to the same rest."""

from __future__ import annotations

import random
from contextlib import closing
from pathlib import Path

import pytest

from profile_actors.driver.shipping.restored_stores import restore
from tests.sim.disk_world import DiskWorld
from tests.sim.world import check, drawn, expected


def world_at(path: Path, seed: int, partitions: int = 3) -> DiskWorld:
    return DiskWorld(path, drawn(seed), partitions, random.Random(seed))


def settle(world: DiskWorld) -> None:
    world.run()
    now = world.settle_clocks()
    check(world.answers(), expected(world, now))


@pytest.mark.parametrize("seed", [3, 8])
def test_a_store_restored_from_a_busy_one_comes_to_the_same_rest(tmp_path: Path, seed: int) -> None:
    with closing(world_at(tmp_path / "data", seed)) as world:
        world.run_steps(60)
        first = world.backup(tmp_path / "backups", lambda: world.run_steps(5))
        second = world.backup(tmp_path / "backups", lambda: world.run_steps(5))
        assert second.new_bytes < second.bytes
        settle(world)
    for made in (first, second):
        path = tmp_path / made.id
        told = restore(tmp_path / "backups", path, made.id)
        assert told.positions == made.positions
        with closing(world_at(path, seed)) as again:
            heads = {name: node.log.head() for name, node in again.nodes.items()}
            # Opening writes nothing but what the ledger and definitions say again.
            assert all(made.positions[name] <= heads[name] for name in heads), (heads, made)
            settle(again)
            assert [f for node in again.partitions for f in node.verify(None)] == []


def test_what_is_restored_at_rest_answers_the_same(tmp_path: Path) -> None:
    with closing(world_at(tmp_path / "data", 3)) as world:
        settle(world)
        for index in range(3):
            world.checkpoint(index)
        made = world.backup(tmp_path / "backups")
        before, heads = world.answers(), {n: node.log.head() for n, node in world.nodes.items()}
        assert made.positions == heads
    told = restore(tmp_path / "backups", tmp_path / "again")
    assert told.store != made.store
    with closing(world_at(tmp_path / "again", 3)) as again:
        assert again.answers() == before
        assert [f for node in again.partitions for f in node.verify(None)] == []
        assert [p.feed.first_kept() for p in again.partitions] == [made.positions[n] for n in "012"]
