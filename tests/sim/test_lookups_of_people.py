"""Rules through relationships over people of several identities: at rest each says what it says of
the events of all her identities, joined with the entities, under faults, joins and splits."""

from __future__ import annotations

import os
import random
from typing import Any

import pytest
from msgspec import structs

from profile_actors.definitions.catalogue_changes import extended
from profile_actors.definitions.declared import (
    ComputedAttribute,
    Dataset,
    Namespace,
    Relationship,
    Schema,
    SegmentDefinition,
)
from profile_actors.ingest.door import Door
from profile_actors.ingest.record_deletions import Deletion, DeletionDoor
from profile_actors.rules.catalogue.on_documents import evaluate
from tests.sim.world import BASE, CONFIG, DAY, SCHEMAS, SEED, World, drawn

FIRST = int(os.environ.get("SIM_SEED", "0"))
COUNT = int(os.environ.get("SIM_N", "3"))
SPOT = Schema("spot", "lookup", {"side": "string"})
GRADE = Schema("grade", "lookup", {"rank": "integer"})
RELATIONSHIPS = [
    Relationship("hit", "place", "spot", "spotted"),
    Relationship("person", "tier", "grade", "grade"),
]
SEGMENTS = {
    "east": 'xEvent[spotted.side = "east"].count() >= 2',
    "high": "grade.rank > 1",
}
VALUES = {"sides": "xEvent.spotted.side.distinct().count()", "nowhere": "xEvent[isNull(spotted)].n"}


class LookupWorld(World):
    """A world whose partitions are also told of entities, each at moments of its own."""

    def _routed(self) -> list[list[Any]]:
        queues = super()._routed()
        catalogue, rng = self.scenario.catalogue, random.Random(self.rng.random())
        self.said: dict[str, dict[str, dict[str, Any]]] = {"spot": {}, "grade": {}}
        parts: list[tuple[str, Any]] = []
        for at in range(rng.randint(2, 9)):  # each newer than the one before
            schema, field = rng.choice((("spot", "side"), ("grade", "rank")))
            key = rng.choice("ab" if schema == "spot" else ("gold", "tin"))
            value = rng.choice(("east", "west") if schema == "spot" else (1, 2))
            if rng.random() < 0.2:
                door: Any = DeletionDoor(catalogue, schema, SEED, CONFIG)
                rows: list[Any] = [Deletion("THING", key, BASE + at)]
                self.said[schema].pop(key, None)
            else:
                door = Door(catalogue, schema, SEED, CONFIG)
                rows = [{"id": key, "at": BASE + at, field: value}]
                self.said[schema][key] = {field: value}
            parts.append((schema, door.prepare(rows, 0, BASE + DAY).table))
        for queue in queues:
            for part in parts:
                queue.insert(rng.randint(0, len(queue)), part)
        return queues


@pytest.mark.parametrize("seed", range(FIRST, FIRST + COUNT))
def test_rules_of_people_read_entities(seed: int) -> None:
    plain = drawn(seed)
    rules = [SegmentDefinition(name, rule) for name, rule in SEGMENTS.items()]
    some = structs.replace(plain.catalogue, segments={}, computed={})
    plain.catalogue = structs.replace(extended(some, [
        Namespace("THING", "non_people"), SPOT, GRADE,
        Dataset("spot", "spot", {"id": "THING"}, timestamp="at"),
        Dataset("grade", "grade", {"id": "THING"}, timestamp="at"),
        *RELATIONSHIPS, *rules,
        *(ComputedAttribute(name, rule) for name, rule in VALUES.items()),
    ]), version=1)  # fmt: skip
    store = LookupWorld(plain, 1 + seed % 3, random.Random(seed), faults=seed % 2)
    store.run()
    store.faults = 0
    store.settle_clocks()
    for one in store.truth():
        profile, events = store.profile(one)
        if profile is None:
            continue

        def said(rule: str, of: Any = profile, mine: Any = events) -> Any:
            value, _ = evaluate(
                rule, of.attributes, mine, now=of.now, schema=[*SCHEMAS.values(), SPOT, GRADE],
                relationships=RELATIONSHIPS, lookups=store.said,
            )  # fmt: skip
            return value

        assert profile.computed == {name: said(rule) for name, rule in VALUES.items()}, one
        inside = {name for name, of in profile.segments.items() if of.status == "realized"}
        assert inside == {name for name, rule in SEGMENTS.items() if said(rule)}, one
    store.check_edge()
    for partition in store.partitions:
        assert partition.verify(20) == []
