"""The same rows in any order, cut into any batches, over 1 to 5 partitions: one final hash."""

from __future__ import annotations

import hashlib
import os
import random
from typing import Any

import pytest

from profile_actors.ingest.record_deletions import Deletion, DeletionDoor
from profile_actors.ingest.route import split
from tests.sim.world import (
    BASE,
    CONFIG,
    DAY,
    HOUR,
    SEED,
    Identity,
    Scenario,
    World,
    drawn,
    identities_of,
)

FIRST = int(os.environ.get("SIM_SEED", "0"))
COUNT = int(os.environ.get("SIM_N", "1"))
NOBODY = "0000-0000"  # a placeholder: it links nobody


def of_people(row: dict[str, Any]) -> list[Identity]:
    return [one for one in identities_of(row) if one[1] != NOBODY]


class ShuffledWorld(World):
    """A world in which records are taken back, too, and devices may have no name."""

    def _routed(self) -> list[list[Any]]:
        rows = [step for step in self.scenario.steps if step[0] != "gone"]
        gone = [what for kind, what in self.scenario.steps if kind == "gone"]
        steps, self.scenario.steps = self.scenario.steps, rows
        queues = super()._routed()
        self.scenario.steps = steps
        door = DeletionDoor(self.scenario.catalogue, "facts", SEED, CONFIG)
        for (space, value), at in gone:
            table = door.prepare([Deletion(space, value, at)], 0, self.scenario.horizon + DAY).table
            for queue, part in zip(queues, split(table, self.assignment, self.count), strict=True):
                if part is not None and part.num_rows:
                    queue.insert(self.rng.randint(0, len(queue)), ("facts", part))
        return queues

    def look(self, row: dict[str, Any]) -> None:
        """What is shown on the way is looked at in ``test_people``."""

    def final(self) -> dict[Identity, str]:
        self.run()
        self.faults = 0
        assert self.settle_clocks() == self.scenario.horizon
        found = {one: repr(self.answers_of(one)) for one in self.everybody()}
        return {one: hashlib.sha256(said.encode()).hexdigest() for one, said in found.items()}

    def everybody(self) -> list[Identity]:
        return sorted({one for _, row in self.scenario.rows for one in of_people(row)})

    def answers_of(self, one: Identity) -> Any:
        profile, events = self.profile(one)
        if profile is None:
            return None
        return (
            profile.identities,
            sorted((n, m.status, m.valid_until) for n, m in profile.segments.items() if is_in(m)),
            sorted(profile.computed.items()),
            sorted(profile.attributes.items()),
            sorted(map(repr, events)),
        )


def is_in(membership: Any) -> bool:
    return bool(membership.status == "realized")


def varied(seed: int) -> Scenario:
    """A drawn scenario with deletions and devices without a name among its rows."""
    draw = random.Random(f"permuted {seed}")
    scenario = drawn(seed)
    steps: list[tuple[str, Any]] = []
    for kind, what in scenario.steps:
        if kind == "row" and "device" in what[1] and len(what[1]) > 2 and draw.random() < 0.2:
            other = {**what[1], "device": NOBODY}
            what = (what[0], other) if of_people(other) else what
        steps.append((kind, what))
        if kind == "row" and draw.random() < 0.15:
            one = draw.choice(of_people(what[1]))
            steps.append(("gone", (one, BASE + draw.randrange(6) * HOUR)))
    scenario.steps = steps
    return scenario


@pytest.mark.parametrize("seed", range(FIRST, FIRST + COUNT))
def test_neither_order_nor_partitions_show(seed: int) -> None:
    scenario = varied(seed)
    found: dict[int, dict[Identity, str]] = {}
    for partitions in range(1, 6):
        rng = random.Random(seed * 31 + partitions)
        steps = rng.sample(scenario.steps, len(scenario.steps))
        mixed = Scenario(steps, scenario.catalogue, scenario.horizon)
        faults = (0.0, 1.0)[partitions % 2]
        found[partitions] = ShuffledWorld(mixed, partitions, rng, faults).final()
    for partitions, answers in found.items():
        assert answers == found[1], f"{partitions} partitions"
