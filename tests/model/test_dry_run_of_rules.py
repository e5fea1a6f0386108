"""A dry run of rules and policies says what happens when they are applied, profile by profile."""

from __future__ import annotations

import random
from typing import Any

import pytest
from msgspec import structs

from profile_actors.definitions.catalogue_changes import extended
from profile_actors.definitions.declared import (
    Catalogue,
    ComputedAttribute,
    MergePolicy,
    SegmentDefinition,
)
from profile_actors.engine.trials.rule_trials import try_rules
from profile_actors.ingest.identity_keys import key_of
from profile_actors.rules.catalogue.one_rule import reached
from tests.model.hub import BASE, CATALOGUE, DAY, HOUR, SEED, WHO, Hub

PEOPLE = [f"p{n}" for n in range(24)]
TRIED: dict[str, Any] = {
    "a default policy": MergePolicy(
        "office", "dataset_precedence", order=("web",), events=("calls",), default=True
    ),
    "an edited segment that others read": SegmentDefinition("buyers", "xEvent.count() >= 3"),
    "a new segment": SegmentDefinition("new", "score >= 2"),
    "a new rescanned one": SegmentDefinition("odd", '[score, 2] = [2, 2] or tier.startsWith("g")'),
    "a segment withdrawn": SegmentDefinition("gold", 'tier = "gold"', state="draft"),
    "a computed attribute": ComputedAttribute("most", "xEvent.min(n)"),
    "nothing": SegmentDefinition("day", CATALOGUE.segments["day"].rule),
}


def filled(seed: int) -> Hub:
    rng = random.Random(seed)
    hub = Hub(1)
    for at in range(6):
        events = [
            {"who": rng.choice(PEOPLE), "at": BASE + at * DAY + n, "_id": f"{at} {n}",
             "place": rng.choice("abc"), "n": rng.randrange(5), "x": 0.5,
             "kind": rng.choice(("buy", "see"))}
            for n in range(20)
        ]  # fmt: skip
        calls = [{"who": rng.choice(PEOPLE), "at": BASE + at * DAY + n, "n": 1} for n in range(5)]
        said = [
            {"who": rng.choice(PEOPLE), "at": BASE + at * DAY + n, "score": rng.randrange(4),
             "tier": rng.choice(("gold", "tin"))}
            for n in range(8)
        ]  # fmt: skip
        groups: list[Any] = [("hits", "h", events), ("calls", "c", calls), ("crm", "r", said[:4])]
        hub.submit([*groups, ("web", "w", said[4:])], BASE + at * DAY + HOUR)
    return hub


def is_served(segment: SegmentDefinition) -> bool:
    return segment.state == "published"


def said(hub: Hub, catalogue: Catalogue) -> tuple[dict[str, set[str]], dict[str, dict[str, Any]]]:
    """Who is in which segment, and everybody's values."""
    partition = hub.partitions[0]
    while partition.work(100):
        pass
    inside = {
        name: {one.value for one in partition.members(name)[0]} if is_served(segment) else set()
        for name, segment in catalogue.segments.items()
    }
    profiles = partition.profiles([key_of(WHO, who, SEED) for who in PEOPLE])
    values = {
        name: {who: p and p.computed.get(name) for who, p in zip(PEOPLE, profiles, strict=True)}
        for name in catalogue.computed
    }
    return inside, values


@pytest.mark.parametrize("what", TRIED)
def test_what_is_said_happens(what: str) -> None:
    hub = filled(len(what))
    partition, old = hub.partitions[0], hub.catalogue
    tried = extended(old, [TRIED[what]])
    keys = reached(old, tried)
    assert bool(keys) == (what != "nothing")
    before, bytes_before = said(hub, old), partition.log.size_bytes()
    found = try_rules(partition.state, partition.log, partition.lock, tried, keys, None)
    assert said(hub, old) == before
    assert partition.log.size_bytes() == bytes_before
    partition.define(structs.replace(tried, version=2), None)
    after = said(hub, tried)
    for name, inside in after[0].items():
        was = before[0].get(name, set())
        assert found.entered.get(name, 0) == len(inside - was), name
        assert found.left.get(name, 0) == len(was - inside), name
    for name, of in after[1].items():
        moved = sum(repr(of[who]) != repr(before[1].get(name, {}).get(who)) for who in PEOPLE)
        assert found.values.get(name, 0) == moved, name
    assert found.profiles == partition.status().profiles
    if what == "a default policy":
        assert sum(found.entered.values()) > 3
        assert sum(found.left.values()) > 3
        assert {*found.values} == {*old.computed}
