"""A dry run of linking rules says what happens when they are applied: who splits and joins, and
which memberships move, after a history with faults, shared devices and withdrawn links."""

from __future__ import annotations

import os
import random
from collections import Counter
from typing import Any

import pytest
from msgspec import structs

from profile_actors.definitions.declared import LINKING, LinkingRules
from profile_actors.driver.trials.dry_runs import compared
from profile_actors.engine.identity.messages import Named
from profile_actors.engine.trials import linking_trials
from profile_actors.engine.trials.linking_trials import LinkingTrial, Person, regions, try_linking
from profile_actors.engine.trials.people_trials import memberships, own_rows
from tests.sim.world import World, drawn

FIRST = int(os.environ.get("SIM_SEED", "0"))
COUNT = int(os.environ.get("SIM_N", "3"))


def members(store: World) -> set[tuple[str, tuple[str, str]]]:
    return {
        (name, (one.namespace, one.value))
        for partition in store.partitions
        for name in store.scenario.catalogue.segments
        for one in partition.members(name)[0]
    }


def inside(store: World, people: list[Person], now: int) -> list[list[str] | None]:
    """As the driver asks: rows at their owners, rules at one partition."""
    rows: dict[Named, Any] = {}
    for one in {one for person in people for one in person}:
        at = store.partitions[int(store.owner_of(one))]
        (rows[one],) = own_rows(at.state, at.log, at.lock, [one.key])
    first = store.partitions[0]
    wanted = [[rows[one] for one in person] for person in people]
    return memberships(first.state, first.log, wanted, now)


@pytest.mark.parametrize("seed", range(FIRST, FIRST + COUNT))
def test_what_is_said_happens(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(linking_trials, "FACTS_PER_STEP", 1 + seed)
    store = World(drawn(seed), 1 + seed % 3, random.Random(seed), faults=seed % 2)
    store.run()
    store.faults = 0
    now = store.settle_clocks()
    old = store.scenario.catalogue
    spaces = dict(old.namespaces)
    if seed % 2:
        spaces["CRMID"] = structs.replace(spaces["CRMID"], unique=not spaces["CRMID"].unique)
    rules = (LinkingRules(max_people=1), LinkingRules(max_size=2), LinkingRules(max_people=9))
    linking = {LINKING: rules[seed % 3]}
    tried = structs.replace(old, version=2, namespaces=spaces, linking_rules=linking)
    truth, before = set(store.truth().values()), members(store)
    trial = try_linking(store.ledger, tried, 1 << 20, lambda: None)
    said = compared(trial, lambda people: inside(store, people, now))
    assert members(store) == before

    for partition in store.partitions:
        partition.define(tried, None)
    store.ledger.commit([], None, tried)
    store.scenario.catalogue = tried
    monkeypatch.setattr(store, "look", lambda row: None)  # whoever parts was shown together
    store.run()
    store.settle_clocks()
    after, would_be = members(store), set(store.truth().values())
    assert said.entered == Counter(name for name, _ in after - before)
    assert said.left == Counter(name for name, _ in before - after)
    assert said.split == sum(not any(one <= new for new in would_be) for one in truth)
    assert said.joined == sum(not any(new <= one for one in truth) for new in would_be)


def test_regions_share_no_identity() -> None:
    a, b, c, d, e = (Named(n, 0, "X", str(n)) for n in range(5))
    before: list[Person] = [[a, b], [c], [d, e]]
    after: list[Person] = [[a], [b, c], [d], [e]]
    first, second = (
        (sorted(were, key=list), sorted(will_be, key=list))
        for were, will_be in regions(before, after)
    )
    assert first == ([[a, b], [c]], [[a], [b, c]])
    assert second == ([[d, e]], [[d], [e]])

    def nobody(people: list[Person]) -> list[list[str] | None]:
        return [["s"] for _ in people]

    found = compared(LinkingTrial(2, 1, *first), nobody)
    assert (found.split, found.joined, found.profiles) == (2, 1, 4)
    assert (found.entered, found.left) == ({"s": 1}, {"s": 1})  # b's is told by b, c's no more
