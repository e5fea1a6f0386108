"""A reactive edge in a simulated store: people join, split and move while they are asked for, pages
come between question and answer, and at rest it says of everybody what the hub says."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from threading import Lock
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest

from profile_actors.actors.edges.edge_misses import Misses
from profile_actors.actors.edges.edge_pulls import KEYS_ALONE, _nothing
from profile_actors.actors.wire import dumps
from profile_actors.engine.edges import edge_copy
from profile_actors.engine.edges.edge_rows import packed_keys
from profile_actors.engine.reading.fields import EVERYTHING
from tests.sim.world import Identity, World, identities_of, named, run_one


class Asked:
    """The reactive edge of a world: its files, and the store as calls reach it."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.files = cast(
            Any, SimpleNamespace(current=self, coming=None, about=SimpleNamespace(ttl_s=None))
        )
        self.misses = Misses(
            "e", cast(Any, lambda name: SimpleNamespace(call=self.call(name))), Lock(), lambda: None
        )
        self.kept = self.is_asking = 0

    @contextlib.contextmanager
    def reading(self) -> Iterator[Any]:
        yield self.world.edge

    writing = reading

    def call(self, name: str) -> Any:
        def answer(method: str, *args: Any, timeout_s: float) -> Any:
            world = self.world
            if method == "hello":
                return None, world.assignment
            keys = np.frombuffer(args[3], np.uint64).reshape(-1, 2)
            partition = world.partitions[int(name.rpartition("-")[2])]
            data = dumps(partition.projector.of(EVERYTHING, "all", keys, None))
            if self.is_asking and world.rng.random() < 0.5:  # pages come in between
                self.is_asking = 0
                copy(world, world.rng.randrange(world.count))
            return data

        return answer

    def look(self, one: Identity) -> None:
        key = packed_keys(np.array([named(one).key], np.uint64))[0]
        if edge_copy.found(self.world.edge, key) is None:
            self.is_asking = 1
            self.misses.bring([key], self.files)
            self.is_asking = 0
            self.kept += edge_copy.found(self.world.edge, key) is not None


def edge_of(world: World) -> Asked:
    found: Asked = world.__dict__.setdefault("reactive", Asked(world))
    return found


def copy(world: World, index: int) -> bool:
    mine, partition = edge_of(world), world.partitions[index]
    place = edge_copy.standing(world.edge, index).place
    if place.form == "all":
        page = partition.project(KEYS_ALONE, "all", place)
    else:
        page = _nothing(partition, "all")
        mine.misses.note(None)
    held = mine.misses.held_of(index, page, cast(Any, mine))
    edge_copy.apply_page(world.edge, index, page, page.now, False, held)
    return page.is_complete


@pytest.mark.parametrize(
    "seed", [0, *(pytest.param(n, marks=pytest.mark.slow) for n in range(1, 8))]
)
def test_it_says_of_people_what_the_hub_says(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    look, check_edge, edges = World.look, World.check_edge, list[Asked]()

    def looked(world: World, row: dict[str, Any]) -> None:
        look(world, row)
        for _ in range(3):
            edge_of(world).look(world.rng.choice(identities_of(row)))
            copy(world, world.rng.randrange(world.count))

    def check(world: World) -> None:
        edges.append(edge_of(world))
        for index in range(world.count):
            while not copy(world, index):
                pass
        for one in {one for _, row in world.scenario.rows for one in identities_of(row)}:
            edges[-1].look(one)
        check_edge(world)

    monkeypatch.setattr(World, "look", looked)
    monkeypatch.setattr(World, "copy", copy)
    monkeypatch.setattr(World, "check_edge", check)
    run_one(seed, worlds=1, number=seed % 3)
    assert edges[0].kept > 0
