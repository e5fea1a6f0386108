"""Policies that do not stitch, beside people: each identity is a profile of its own rows alone,
under faults, joins, withdrawn links and restarts, and when a policy comes to stitch, or ceases
to."""

from __future__ import annotations

import os
import random
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from msgspec import structs

from profile_actors.definitions.catalogue_changes import extended
from profile_actors.definitions.declared import (
    Catalogue,
    ComputedAttribute,
    MergePolicy,
    SegmentDefinition,
)
from profile_actors.engine.fold import entry_fold
from profile_actors.engine.identity import listing
from profile_actors.engine.log.in_memory import MemoryCheckpoints, MemoryFeed, MemoryLog
from profile_actors.engine.log.sub_batch import SubBatch
from profile_actors.engine.partition.partition import Partition
from profile_actors.engine.reading.fields import EVERYTHING, under
from profile_actors.engine.trials.rule_trials import try_rules
from profile_actors.ingest.door import Door
from profile_actors.rules.catalogue.one_rule import reached
from tests.sim.world import (
    BASE,
    CONFIG,
    DATASETS,
    DAY,
    RULES,
    SEED,
    VALUES,
    WHO,
    Identity,
    Scenario,
    World,
    check,
    drawn,
    expected,
    identities_of,
    member_of,
    named,
    pure,
)

FIRST = int(os.environ.get("SIM_SEED", "0"))
COUNT = int(os.environ.get("SIM_N", "3"))
RESCANNED = "[tier].subsetOf(xEvent.place) or xEvent.head().n > 4"
EACH = MergePolicy("each", stitching="none")


def rules_of(draw: random.Random, policy: str | None) -> list[Any]:
    """Some rules under a policy, named after it; one of them is rescanned."""
    segments = [*draw.sample(sorted(RULES), 3), "rescanned"]
    texts = RULES | {"rescanned": RESCANNED}
    values = draw.sample(sorted(VALUES), 2)
    return [
        *(SegmentDefinition(f"{n} {policy}", texts[n], merge_policy=policy) for n in segments),
        *(ComputedAttribute(f"{n} {policy}", VALUES[n], merge_policy=policy) for n in values),
    ]


def with_policy(catalogue: Catalogue, draw: random.Random, policy: MergePolicy) -> Catalogue:
    return extended(catalogue, [policy, *rules_of(draw, "each"), *rules_of(draw, None)])


def own(world: World, catalogue: Catalogue) -> dict[Identity, Any]:
    """What the policy's look-ups say of each identity, at its owner."""
    every = {one for _, row in world.scenario.rows for one in identities_of(row)}
    fields = under(EVERYTHING, "each", catalogue)
    out: dict[Identity, Any] = {}
    for one in sorted(every):
        at = world.partitions[int(world.owner_of(named(one)))]
        answer = at.look_up(np.array([named(one).key], np.uint64), None, fields)
        assert not answer.elsewhere
        out[one] = pure(answer.profiles()[0], [])
    return out


def expected_own(world: World, catalogue: Catalogue, now: int) -> dict[Identity, Any]:
    """The same of one partition that knows of no links, by the identity that each row is of."""
    each = structs.replace(catalogue.merge_policies["each"], stitching="graph")
    plain = structs.replace(catalogue, merge_policies={"each": each})
    alone = Partition(MemoryLog(), MemoryFeed(), MemoryCheckpoints(), CONFIG)
    alone.define(plain, None)
    doors = {name: Door(plain, name, SEED, CONFIG) for name in DATASETS}
    column_of = {space: column for column, space in WHO.items()}
    every = {one for _, row in world.scenario.rows for one in identities_of(row)}
    for offset, (dataset, row) in enumerate(world.scenario.rows):
        ones = identities_of(row)
        primary = min(ones, key=member_of) if dataset == "hits" else ones[0]
        said = {key: value for key, value in row.items() if key not in WHO}
        said[column_of[primary[0]]] = primary[1]
        table = doors[dataset].prepare([said], offset, now + DAY).table
        alone.commit([SubBatch(dataset, "d", offset, offset + 1, 1, BASE, table)], None)
    alone.advance(now)
    while alone.work(1 << 10):
        pass
    fields = under(EVERYTHING, "each", plain)
    keys = {one: np.array([named(one).key], np.uint64) for one in sorted(every)}
    found = {one: alone.look_up(key, None, fields).profiles()[0] for one, key in keys.items()}
    return {one: pure(profile, []) for one, profile in found.items()}


def agrees(world: World, now: int) -> None:
    """People are who they must be, and so is each identity by itself; the feed says the same."""
    catalogue = world.scenario.catalogue
    for index in range(world.count):
        world.check_feed(index)
    is_own = catalogue.merge_policies["each"].stitching == "none"
    stitched = structs.replace(
        catalogue,
        merge_policies={},
        segments={n: s for n, s in catalogue.segments.items() if s.merge_policy is None},
        computed={n: c for n, c in catalogue.computed.items() if c.merge_policy is None},
    )
    if is_own:
        check(own(world, catalogue), expected_own(world, catalogue, now))
    if is_own and not catalogue.merge_policies["each"].default:
        plain = World.__new__(World)
        plain.scenario = Scenario(world.scenario.steps, stitched, world.scenario.horizon)
        check(world.answers(), expected(plain, now))


def redefined(world: World, catalogue: Catalogue) -> None:
    keys = reached(world.scenario.catalogue, catalogue)
    tried = [
        try_rules(one.state, one.log, one.lock, catalogue, keys, None) for one in world.partitions
    ]
    before = [{name: set(of) for (_, name), of in told.items()} for told in world.told]
    world.scenario = replace(world.scenario, catalogue=catalogue)
    for segments in world.told:
        for name in catalogue.segments:
            segments.setdefault(("membership", name), set())
    for index, partition in enumerate(world.partitions):
        partition.define(catalogue, None)
        world.check_feed(index)
        for name in tried[index].entered:
            was, now = (of.get(name, set()) for of in (before[index], told_of(world, index)))
            counted = tried[index].entered[name], tried[index].left[name]
            assert counted == (len(now - was), len(was - now)), name
    world.ledger.commit([], None, catalogue)


def told_of(world: World, index: int) -> dict[str, set[Identity]]:
    return {name: of for (_, name), of in world.told[index].items()}


@pytest.mark.parametrize("seed", range(FIRST, FIRST + COUNT))
def test_identities_stand_alone_beside_people(seed: int) -> None:
    draw = random.Random(f"each {seed}")
    scenario = drawn(seed)
    # Joined from the first row on, or when people are there already; then stitching, and back.
    first = with_policy(scenario.catalogue, draw, EACH)
    is_late = draw.random() < 0.3
    stitched = extended(first, [structs.replace(EACH, stitching="graph")])
    default = extended(first, [structs.replace(EACH, default=True)])
    scenario.catalogue = scenario.catalogue if is_late else first
    world = World(scenario, 1 + seed % 3, random.Random(seed), faults=seed % 2)
    world.run()
    world.faults = 0
    now = world.settle_clocks()
    if is_late:
        redefined(world, first)
    agrees(world, now)
    version = world.scenario.catalogue.version
    changes = draw.sample([stitched, default], 2 if COUNT > 10 else 1)
    for made in changes:
        for catalogue in (made, first):
            version += 1
            redefined(world, structs.replace(catalogue, version=version))
            agrees(world, now)
            if draw.random() < 0.3:
                world.checkpoint(0)
            if draw.random() < 0.3:
                world.crash(str(draw.randrange(world.count)))
                agrees(world, now)
    for partition in world.partitions:
        found = partition.verify(20)
        assert found == [], found
        for name, segment in world.scenario.catalogue.segments.items():
            if segment.merge_policy is None:
                tried = partition.preview(segment.rule, None, 1_000)
                assert sorted(tried.sample) == sorted(partition.members(name)[0]), name


def rows_of_the_linked_are_lost(patch: pytest.MonkeyPatch) -> None:
    """What folds in a person's book is folded nowhere else."""
    real = listing.Listing.folded
    patch.setattr(
        listing.Listing, "folded", lambda self, blocks, at, single=False: real(self, blocks, at)
    )


def books_are_told_of(patch: pytest.MonkeyPatch) -> None:
    """A book is an identity to rules about identities."""
    patch.setattr(listing.Listing, "begin_book", lambda *_: None)


def people_alone_tell(patch: pytest.MonkeyPatch) -> None:
    """Changes are told of who is listed as a person, whatever the rule is about."""

    def told(state: Any, change: Any) -> Any:
        return state.listing.is_listed(change.slots, state.position)

    patch.setattr(entry_fold, "_is_listed", told)


@pytest.mark.parametrize("bug", [rows_of_the_linked_are_lost, books_are_told_of, people_alone_tell])
def test_a_planted_bug_is_found(bug: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    bug(monkeypatch)

    def worlds() -> None:
        for seed in range(20):
            test_identities_stand_alone_beside_people(seed)

    with pytest.raises(AssertionError):
        worlds()
