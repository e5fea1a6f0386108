"""A store put back from copies that were taken of one log after another while it worked.

Copies begin at every kind of moment; the logs are cut as ``frontiers.py`` says, opened anew, and
drivers send again what is missing: it comes to the same rest. Without the frontier it does not.
"""

from __future__ import annotations

import random
from typing import Any

import pytest

from profile_actors.engine.identity.messages import LEDGER
from profile_actors.engine.shipping.frontiers import largest_frontier, mails_of
from tests.sim.faulty_log import FaultyDisk, FaultyLog
from tests.sim.world import World, check, drawn, expected

SEEDS = (1,)


class Copied(World):
    """A world of which copies are made while it runs, an end here and an end there.

    copies: of each copy its ends, and what all logs held when the first of them was read.
    """

    def __init__(self, *args: Any) -> None:
        self.copies: list[tuple[dict[str, int], dict[str, int]]] = []
        self.reading: list[str] = []
        self.ends: dict[str, int] = {}
        self.floor: dict[str, int] = {}
        super().__init__(*args)

    def disk(self, name: str) -> FaultyDisk:
        return self.ledger_disk if name == LEDGER else self.disks[int(name)]

    def heads(self) -> dict[str, int]:
        names = [*map(str, range(self.count)), LEDGER]
        return {name: len(self.disk(name).entries) for name in names}

    def commit(self, name: str, **what: Any) -> None:
        """One entry; between two of them now and then the next end is read."""
        super().commit(name, **what)
        if self.rng.random() < 0.8:
            return
        if not self.reading:
            self.floor, self.ends = self.heads(), {}
            self.reading = self.rng.sample(sorted(self.floor), len(self.floor))
        one = self.reading.pop()
        self.ends[one] = self.heads()[one]
        if not self.reading:
            self.copies.append((self.ends, self.floor))


def copied(seed: int) -> Copied:
    world = Copied(drawn(seed), seed % 3 + 2, random.Random(seed), 0.5)
    world.run()
    return world


def frontier_of(world: Copied, ends: dict[str, int], low: dict[str, int]) -> dict[str, int]:
    return largest_frontier(
        {
            name: mails_of(FaultyLog(world.disk(name), epoch=1 << 40), low[name], end, name)
            for name, end in ends.items()
        }
    )


def restored(world: Copied, frontier: dict[str, int], seed: int) -> World:
    """Another world of the same rows whose logs begin with the entries below a frontier."""

    def put_back(new: World) -> None:
        new.is_linking = True
        for index, disk in enumerate(new.disks):
            disk.entries = list(world.disks[index].entries[: frontier[str(index)]])
        new.ledger_disk.entries = list(world.ledger_disk.entries[: frontier[LEDGER]])

    return World(world.scenario, world.count, random.Random(seed), 0.5, put_back)


def settle(world: World) -> None:
    world.run()
    world.faults = 0
    now = world.settle_clocks()
    check(world.answers(), expected(world, now))


def torn(world: Copied) -> list[tuple[dict[str, int], dict[str, int]]]:
    """The copies whose ends do not belong together: the frontier of each, and the ends."""
    found = []
    for ends, floor in world.copies:
        frontier = frontier_of(world, ends, floor)
        assert all(floor[name] <= frontier[name] <= ends[name] for name in ends), (floor, frontier)
        if frontier != ends:
            found.append((frontier, ends))
    return found


def unsent(world: World) -> list[tuple[str, str]]:
    """Who has a message that its sender has not sent."""
    names = [*map(str, range(world.count)), LEDGER]
    return [
        (name, source)
        for name in names
        for source in names
        if world.node(name).mailbox.cursor(source) > world.node(source).mailbox.newest(name)
    ]


@pytest.mark.parametrize("seed", SEEDS)
def test_a_restored_store_comes_to_the_same_rest(seed: int) -> None:
    """Cut back to the frontier; where the ends stay as they were read somebody has a message that
    nobody has sent."""
    world = copied(seed)
    found = torn(world)
    assert found
    for frontier, ends in found:
        assert unsent(restored(world, frontier, seed)) == []
        assert unsent(restored(world, ends, seed))
    settle(restored(world, found[0][0], seed))
