"""What is said of an earlier instant is what was answered when the clock stood there, whatever came
since: rows, withdrawn links, other rules, other linking rules, and with faults on the way."""

from __future__ import annotations

import os
import random
from typing import Any

import numpy as np
import pytest
from msgspec import structs

from profile_actors.definitions.declared import (
    LINKING,
    ComputedAttribute,
    LinkingRules,
    SegmentDefinition,
)
from profile_actors.engine.reading.fields import EVERYTHING, Fields
from profile_actors.engine.trials.past_entries import entries_until, version_at
from profile_actors.engine.trials.past_evidence import PastEvidence
from profile_actors.engine.trials.past_profiles import past_profile
from profile_actors.engine.trials.people_trials import own_rows
from tests.sim.world import (
    BASE,
    DAY,
    HOUR,
    RULES,
    VALUES,
    Identity,
    World,
    drawn,
    identities_of,
    named,
)

FIRST = int(os.environ.get("SIM_SEED", "0"))
COUNT = int(os.environ.get("SIM_N", "5"))
WITH_SOURCES = structs.replace(EVERYTHING, sources=True)


def live(world: World, one: Identity, now: int) -> Any:
    """As a reader gets it, as of an instant that no row has come since."""
    who = named(one)
    at = world.partitions[int(world.owner_of(who))]
    answer = at.look_up(np.array([who.key], np.uint64), now, WITH_SOURCES)
    if answer.elsewhere:
        _, home, book = answer.elsewhere[0]
        at = world.partitions[int(world.assignment[home[0] >> 52])]
        answer = at.look_up(np.array([book], np.uint64), now, WITH_SOURCES)
    return plain(answer.profiles()[0])


def past(
    world: World, evidence: PastEvidence, one: Identity, at: int, fields: Fields = WITH_SOURCES
) -> Any:
    """As the driver asks: the ledger, owners, and one partition for the answer."""
    ledger = world.ledger
    asked = world.partitions[int(world.owner_of(named(one)))]
    version = version_at(asked.log, entries_until(asked.log, asked.position, at))
    entries = entries_until(ledger.log, ledger.position, at)
    members, _ = evidence.person(named(one), entries, version)
    person = []
    for member in members:
        owner = world.partitions[int(world.owner_of(member))]
        (rows,) = own_rows(owner.state, owner.log, owner.lock, [member.key], at)
        person.append((member, rows))
    home = world.partitions[int(world.owner_of(members[0]))]
    return plain(past_profile(home.state, home.log, home.lock, person, at, fields))


def plain(profile: Any) -> Any:
    if profile is None:
        return None
    inside = {n: m for n, m in profile.segments.items() if m.status == "realized"}
    return (
        profile.now,
        [(i.namespace, i.value) for i in profile.identities],
        {n: (m.valid_until, m.version) for n, m in inside.items()},
        {n: (float(v or 0), profile.computed_valid_until[n]) if isinstance(v, int | float) else v
         for n, v in profile.computed.items()},
        profile.attributes,
        profile.sources,
        profile.pending,
    )  # fmt: skip


def redefined(world: World, rng: random.Random) -> None:
    """Other rules, and maybe other linking rules, from here on."""
    old = world.scenario.catalogue
    segments = {
        name: SegmentDefinition(name, RULES[rng.choice(sorted(RULES))], version=old.version + 1)
        for name in rng.sample(sorted(RULES), 2)
    }
    computed = {
        name: ComputedAttribute(name, VALUES[name]) for name in rng.sample(sorted(VALUES), 2)
    }
    linking = LinkingRules(
        max_size=rng.choice((50_000, 50_000, 3)), max_people=rng.choice((100, 100, 1))
    )
    new = structs.replace(
        old, version=old.version + 1, segments=segments, computed=computed,
        linking_rules={LINKING: linking if rng.random() < 0.5 else old.linking},
    )  # fmt: skip
    faults, world.faults = world.faults, 0
    for index, partition in enumerate(world.partitions):
        world.work(index)
        partition.define(new, None)
    world.scenario.catalogue = new
    world.ledger.commit([], None, new)
    world.faults = faults


@pytest.mark.parametrize("seed", range(FIRST, FIRST + COUNT))
def test_the_past_is_answered_as_it_was(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = random.Random(seed)
    world = World(drawn(seed), 1 + seed % 3, rng, faults=seed % 2)
    monkeypatch.setattr(world, "look", lambda row: None)  # people are parted by other rules
    monkeypatch.setattr(world, "check_feed", world.work)
    every = sorted({one for _, row in world.scenario.rows for one in identities_of(row)})
    evidence, queues = PastEvidence(world.ledger.log), world.queues
    told: list[tuple[int, dict[Identity, Any]]] = []
    phases = 4
    for phase in range(1, phases + 1):
        if phase > 1 and rng.random() < 0.6:
            redefined(world, rng)
        world.queues = [queue[: len(queue) * phase // phases] for queue in queues]
        world.run()
        faults, world.faults = world.faults, 0
        now = max([BASE, *(p.now for p in world.partitions if p.now is not None)])
        for partition in world.partitions:
            partition.advance(now)
        for later in (0, rng.randrange(1, 9 * HOUR)):
            told.append((now + later, {one: live(world, one, now + later) for one in every}))
        evidence._log = world.ledger.log
        compare(world, evidence, *rng.choice(told))
        now += rng.randrange(9 * HOUR, 3 * DAY)
        for index, partition in enumerate(world.partitions):
            partition.advance(now)
            world.work(index)
        world.faults = faults
    for at, answers in told:
        compare(world, evidence, at, answers)
    before = past(world, evidence, every[0], BASE - 1)
    assert before is None, "nobody was known before the first row"


def compare(world: World, evidence: PastEvidence, at: int, answers: dict[Identity, Any]) -> None:
    for one, answer in answers.items():
        assert past(world, evidence, one, at) == answer, (at, one)
