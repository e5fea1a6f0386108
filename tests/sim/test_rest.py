"""The barrier of the event clock: it ends when nothing is on its way any more, whatever definitions
say by then, and asks partitions once where nobody was ever told anything."""

from __future__ import annotations

import random
from types import SimpleNamespace
from typing import Any

import pytest

from profile_actors.actors.mail.mail_room import look
from profile_actors.config import Config
from profile_actors.driver import identity_graphs
from profile_actors.driver.identity_graphs import rest
from tests.sim.world import Scenario, World, drawn


class Near:
    """A partition or the ledger of a world, called as an actor is; each call lets time pass."""

    timeout_s = 1.0

    def __init__(self, world: World, name: str) -> None:
        self.world, self.name, self.calls = world, name, 0

    def begin(self, method: str) -> Any:
        assert method == "rest"
        self.calls += 1
        for _ in range(3):
            self.world.send(self.world.rng.choice([*map(str, range(self.world.count)), "L"]))
            if self.world.net:
                self.world.deliver()
        node = self.world.node(self.name)
        return (node.position, node.mailbox.waiting()) if self.name == "L" else look(node)

    def finish(self, answer: Any, patience: Any) -> Any:
        return answer

    def call(self, method: str) -> Any:
        return self.begin(method)


def waited(world: World) -> tuple[list[Near], list[int | None]]:
    near = [Near(world, str(index)) for index in range(world.count)]
    connection: Any = SimpleNamespace(partitions=near, config=Config(), catalogue=None)
    ledger: Any = Near(world, "L")
    return near, rest(connection, lambda: ledger)


@pytest.mark.parametrize("seed", [2, 5])
def test_it_ends_at_rest(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(identity_graphs, "REST_PAUSE_S", 0.0)
    world = World(drawn(seed), 2, random.Random(seed), faults=0)
    world.link()
    while any((world.partitions[i].cursor("d") or 0) < len(q) for i, q in enumerate(world.queues)):
        world.submit(world.rng.randrange(2))
    assert not world.is_quiet()
    _, clocks = waited(world)
    assert world.is_quiet()
    assert clocks == [partition.now for partition in world.partitions]


def test_who_tells_nobody_is_asked_once() -> None:
    plain = drawn(3)
    rows = [(kind, what) for kind, what in plain.steps if kind == "row"]
    alone = [(kind, (name, {**row, "crm": "x", "mail": None, "device": None}))
             for kind, (name, row) in rows]  # fmt: skip
    world = World(Scenario(alone, plain.catalogue, plain.horizon), 2, random.Random(0), faults=0)
    world.link()
    world.run()
    near, _ = waited(world)
    assert [one.calls for one in near] == [1, 1]
