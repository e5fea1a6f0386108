"""L7: a copy of a partition that says it is complete is equal to it, in every field.

Random worlds (``tests/differential``): rules of the whole language, late and early rows, clock
moves, definitions, rescans in slices, restarts with and without a checkpoint; pages of one to three
profiles pulled between any two steps.
"""

from __future__ import annotations

import random

import pytest
from msgspec import structs

from profile_actors.engine.partition.partition import Partition
from profile_actors.engine.reading.fields import EVERYTHING, Fields
from tests.differential.harness import CONFIG, Kind, World
from tests.differential.worlds import Draws
from tests.model.copies import Copy


class CopiedWorld(World):
    """A world whose profiles are copied, whole by one copy and in part by another."""

    def __init__(self, seed: int, kind: Kind) -> None:
        self.rng = random.Random(f"copies {seed}")
        self.epoch = 0
        super().__init__(seed, kind)
        self.copies = [Copy(EVERYTHING), Copy(Fields(True, ("tier",), (), ()))]

    def opened(self) -> Partition:
        self.epoch += 1
        config = structs.replace(CONFIG, edge_page_profiles=self.rng.choice((1, 2, 3)))
        return Partition(self.log, self.feed, self.checkpoints, config, epoch=self.epoch)

    def define(self, segments: dict[str, str], computed: dict[str, str]) -> None:
        super().define(segments, computed)
        some = tuple(sorted(segments))[::2], tuple(sorted(computed))[1::2]
        self.copies[1].fields = Fields(True, ("tier",), *some)

    def check_feed(self, since: int) -> None:
        """Not here."""

    def check(self, lookups_at: list[int]) -> None:
        for one in self.copies:
            for _ in range(self.rng.choice((0, 1, 2))):
                one.pull(self.partition)
        if self.rng.random() < 0.4:
            self.follow()

    def follow(self) -> None:
        for one in self.copies:
            one.follow(self.partition)


def run(seed: int, kind: Kind, steps: int = 10) -> CopiedWorld:
    draws = Draws(seed, kind)
    world = draws.world = CopiedWorld(seed, kind)
    draws.define()
    for _ in range(steps):
        draws.step()
    world.follow()
    world.drain()
    world.follow()
    return world


WORLDS: dict[Kind, tuple[int, ...]] = {
    "narrow": (0, 3, 4), "wide": (1, 2, 5), "odd": (1,), "history": (1, 2),
}  # fmt: skip


@pytest.mark.parametrize(("kind", "seed"), [(k, s) for k, found in WORLDS.items() for s in found])
def test_a_complete_copy_is_equal_to_its_partition(kind: Kind, seed: int) -> None:
    world = run(seed, kind)
    assert all(one.checks for one in world.copies)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(3, 9))
@pytest.mark.parametrize("kind", ["wide", "odd", "history"])
def test_a_complete_copy_is_equal_to_its_partition_in_more_worlds(kind: Kind, seed: int) -> None:
    run(seed, kind)
