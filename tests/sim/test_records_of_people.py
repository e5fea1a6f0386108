"""Records of people with several identities: at rest what all their fragments come to, whoever came
first, under faults, joins, withdrawn links, deletions and two merge policies."""

from __future__ import annotations

import os
import random
from dataclasses import dataclass, field
from typing import Any

import pytest

from profile_actors.definitions.declared import (
    Catalogue,
    ComputedAttribute,
    Dataset,
    Field,
    MergePolicy,
    Schema,
    SegmentDefinition,
)
from profile_actors.engine.merge.documents import Row
from profile_actors.engine.merge.record_union import Merging, union_of
from profile_actors.ingest.record_deletions import Deletion, DeletionDoor
from profile_actors.ingest.route import split
from tests.sim import world as worlds
from tests.sim.world import (
    BASE,
    CONFIG,
    DAY,
    HOUR,
    SEED,
    SPACES,
    WHO,
    Identity,
    Scenario,
    World,
    identities_of,
    named,
)

FIRST = int(os.environ.get("SIM_SEED", "0"))
COUNT = int(os.environ.get("SIM_N", "4"))
FIELDS: dict[str, str | Field] = {
    "tier": "string", "score": "integer", "tags": "string[]", "limits": "map<integer>",
}  # fmt: skip
MODES = {"facts": False, "cards": True}
DATASETS = {
    "facts": Dataset("facts", "person", WHO, timestamp="at"),
    "cards": Dataset("cards", "person", WHO, timestamp="at", mode="replace"),
}
ORDER = ("cards", "facts")
CATALOGUE = Catalogue(
    1, SPACES, {"person": Schema("person", "record", FIELDS)}, DATASETS,
    {
        "gold": SegmentDefinition("gold", 'tier = "gold"'),
        "tea": SegmentDefinition("tea", 'tags.includes("tea")'),
    },
    {
        "tier": ComputedAttribute("tier", "tier"),
        "score": ComputedAttribute("score", "score"),
        "tier cards": ComputedAttribute("tier cards", "tier", merge_policy="cards"),
        "score cards": ComputedAttribute("score cards", "score", merge_policy="cards"),
    },
    merge_policies={"cards": MergePolicy("cards", "dataset_precedence", ORDER)},
)  # fmt: skip

Gone = tuple[str, Identity, int]


@dataclass
class RecordScenario(Scenario):
    """gone: deletions, as (dataset, identity, time)."""

    gone: list[Gone] = field(default_factory=list)


def drawn(seed: int) -> RecordScenario:
    rng = random.Random(seed)
    pool = {"crm": ["c0", "c1"], "mail": ["m0@x.org", "m1@x.org"], "device": ["d0", "d1"]}
    steps: list[tuple[str, Any]] = []
    gone: list[Gone] = []
    for _ in range(rng.randint(6, 30)):
        columns = rng.sample(sorted(WHO), rng.choice((1, 1, 2, 2, 3)))
        row: dict[str, Any] = {column: rng.choice(pool[column]) for column in columns}
        row["at"] = BASE + rng.randrange(12) * HOUR
        if rng.random() < 0.15:
            one = rng.choice(identities_of(row))
            gone.append((rng.choice(sorted(DATASETS)), one, row["at"]))
            continue
        if rng.random() < 0.1:
            ones = identities_of(row)
            steps.append(("cut", (ones[0], ones[1] if len(ones) > 1 else None, row["at"])))
            continue
        tags = rng.choice((None, ["tea"], ["rum"], {"append": ["tea"]}, {"append": ["ale"]}))
        row |= {
            "tier": rng.choice((None, "gold", "tin")), "score": rng.choice((None, 1, 2)),
            "tags": tags, "limits": rng.choice((None, {"sms": rng.randrange(3)}, {"mail": 1})),
        }  # fmt: skip
        steps.append(("row", (rng.choice(sorted(DATASETS)), row)))
    if not any(kind == "row" for kind, _ in steps):
        return drawn(seed + 10_000)
    return RecordScenario(steps, CATALOGUE, BASE + 12 * HOUR, gone)


class RecordWorld(World):
    """A world in which records are taken back, too."""

    scenario: RecordScenario

    def _routed(self) -> list[list[Any]]:
        queues = super()._routed()
        for dataset, (space, value), at in self.scenario.gone:
            door = DeletionDoor(CATALOGUE, dataset, SEED, CONFIG)
            table = door.prepare([Deletion(space, value, at)], 0, BASE + DAY).table
            for queue, part in zip(queues, split(table, self.assignment, self.count), strict=True):
                if part is not None and part.num_rows:
                    queue.insert(self.rng.randint(0, len(queue)), (dataset, part))
        return queues


def fragments(scenario: RecordScenario) -> dict[Identity, list[Row]]:
    """What every identity's rows say, by the first that each names."""
    out: dict[Identity, list[Row]] = {}
    for dataset, row in scenario.rows:
        one = identities_of(row)[0]
        said = {name: row[name] for name in FIELDS if row[name] is not None}
        is_added = isinstance(said.get("tags"), dict)
        if is_added:
            said["tags"] = said["tags"]["append"]
        appends = ("tags",) if is_added else ()
        out.setdefault(one, []).append(
            Row(dataset, row["at"], said, named(one).key, False, appends)
        )
    for dataset, one, at in scenario.gone:
        out.setdefault(one, []).append(Row(dataset, at, {}, named(one).key, True))
    return out


@pytest.mark.parametrize("seed", range(FIRST, FIRST + COUNT))
def test_people_have_what_their_fragments_come_to(
    seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worlds, "DATASETS", DATASETS)
    scenario = drawn(seed)
    store = RecordWorld(scenario, 1 + seed % 3, random.Random(seed), faults=seed % 2)
    store.run()
    store.faults = 0
    store.settle_clocks()
    rows, alone = fragments(scenario), {one: frozenset([one]) for _, one, _ in scenario.gone}
    for one, block in (alone | store.truth()).items():
        mine = [row for other in block for row in rows.get(other, [])]
        profile, _ = store.profile(one)
        if profile is None:
            assert not mine, one
            continue
        view = union_of(mine, Merging(MODES))
        trusted = union_of(mine, Merging(MODES, ORDER))
        assert profile.attributes == view, one
        assert profile.computed == {
            "tier": view.get("tier"), "score": view.get("score"),
            "tier cards": trusted.get("tier"), "score cards": trusted.get("score"),
        }, one  # fmt: skip
        inside = {name for name, of in profile.segments.items() if of.status == "realized"}
        wanted = {"gold"} if view.get("tier") == "gold" else set()
        assert inside == wanted | ({"tea"} if "tea" in view.get("tags", []) else set()), one
    for partition in store.partitions:
        assert partition.verify(20) == []
