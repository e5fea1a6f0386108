"""``valid_until`` - 1 and + 0 against the real flip, for rules of the whole grammar (RULES §6).

Theory: worlds and rules are those of the differential harness. Each profile is asked now, and says
until when each answer holds. Asked again at an instant before that, a millisecond before, and at
it, the store and the reference evaluator must say: the same, the same, another; but for those of
which the search says that it gave up.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from profile_actors.engine.reading.answers import Profile
from profile_actors.engine.refold.dossiers import Dossiers
from profile_actors.rules.catalogue.merge_views import views_of
from profile_actors.rules.catalogue.typed_rules import check_all
from profile_actors.rules.reference.moving_values import Bound
from profile_actors.rules.reference.validity import MAX_STEPS, _Run, same, value_at
from profile_actors.rules.tree.sights import ALL
from tests.differential.generate import DAY, HOUR
from tests.differential.harness import KINDS, Kind, World
from tests.differential.worlds import CROWDED_FROM, Draws

Rule = tuple[str, str]
Answer = tuple[Any, int | None, bool]
"""Value, until when, and whether that was searched for to the end."""
ENDS, BETWEEN = 3, 2
"""How many of a world's flips are looked at, and instants before each."""


def world_of(seed: int, kind: Kind) -> World:
    """Rules, rows of both behaviours, some of them ahead of the clock, and a move of it."""
    draws = Draws(seed, kind)
    draws.define()
    draws.submit("crm", draws.rows("crm", 6, DAY, 0))
    draws.submit("hits", draws.rows("hits", 12, 3 * DAY, HOUR))
    draws.submit_early()
    draws.world.do("advance", draws.world.now + draws.rng.choice((1, HOUR, DAY)))
    draws.world.drain()
    return draws.world


def asked(world: World, at: int) -> dict[int, Profile]:
    """All profiles at an instant."""
    slots = np.arange(world.partition.state.directory.slots, dtype=np.uint32)
    return world.partition.reader.profiles_of(slots, at)


def value_of(profile: Profile, rule: Rule) -> Any:
    """What it says; of a segment whether the profile is in it."""
    kind, name = rule
    if kind == "computed":
        return profile.computed[name]
    return name in profile.segments and profile.segments[name].status == "realized"


def until_of(profile: Profile, rule: Rule, else_: int | None) -> int | None:
    """Until when. A segment that was never entered is not listed, and says nothing of that."""
    kind, name = rule
    if kind == "computed":
        return profile.computed_valid_until[name]
    return profile.segments[name].valid_until if name in profile.segments else else_


def instants(ends: list[int], now: int, rng: random.Random) -> Iterator[int]:
    """Where to look: at some flips, a millisecond before, and anywhere before them."""
    near = [end for end in ends if end - now < 40 * DAY]
    for end in {*rng.sample(near, min(len(near), ENDS)), *rng.sample(ends, min(len(ends), 1))}:
        yield from (end - 1, end)
        yield from (rng.randint(now, end - 1) for _ in range(BETWEEN))


class Search(_Run):
    """A search of the reference evaluator that knows whether it gave up."""

    evaluations = 0

    def at(self, now: int, limit: int) -> tuple[Any, Bound]:
        self.evaluations += 1
        return super().at(now, limit)

    def answer(self) -> Answer:
        value, until = self.guarded("", MAX_STEPS)
        is_whole = self.evaluations <= MAX_STEPS and self.occasions.segments > 0
        return bool(value) if self.condition else value, until, is_whole


def flips(seed: int, kind: Kind) -> int:
    """Check one world; how many answers were asked for at their flip."""
    world, rng = world_of(seed, kind), random.Random(seed)
    state = world.partition.state
    trees, now = check_all(state.catalogue), state.now
    computed = {name: tree for (of, name), tree in trees.items() if of == "computed"}
    segments = {name: tree for (of, name), tree in trees.items() if of == "segment"}
    dossiers, views = Dossiers(state, world.log), views_of(state.catalogue)
    documents: dict[tuple[int, Rule], Any] = {}
    first: dict[tuple[int, Rule], Answer] = {}
    for slot, profile in asked(world, now).items():
        for rule, tree in trees.items():
            record, events = dossiers.of(slot, state.position, views.get(rule, ALL))
            documents[slot, rule] = record, events
            run = Search(
                tree, record, events, computed, segments, now, rule[0] == "segment", in_order=True
            )
            value, until, is_whole = run.answer()
            assert same(value, value_of(profile, rule)), rule
            assert until_of(profile, rule, until) == until, rule
            first[slot, rule] = value, until, is_whole
    ends = sorted({until for _, until, _ in first.values() if until is not None})
    found = 0
    for at in sorted(set(instants(ends, now, rng))):
        there = asked(world, at)
        for (slot, rule), (value, until, is_whole) in first.items():
            got = value_of(there[slot], rule)
            record, events = documents[slot, rule]
            said = value_at(trees[rule], record, events, at, computed, segments, in_order=True)
            assert same(bool(said) if rule[0] == "segment" else said, got), (rule, at, said, got)
            if until is None or at < until:
                assert same(value, got), (rule, world.rules, at, until, value, got)
            elif at == until and is_whole:
                assert not same(value, got), (rule, world.rules, at, value)
                found += 1
    return found


@pytest.mark.parametrize("kind", KINDS)
def test_answers_hold_until_then_and_no_longer(kind: Kind) -> None:
    assert sum(flips(seed, kind) for seed in range(5_000, 5_003)) > 0


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_many_answers_hold_until_then_and_no_longer(kind: Kind) -> None:
    # Few narrow rules move with the clock: worlds with many of them.
    first, worlds = (CROWDED_FROM + 500, 100) if kind == "narrow" else (6_000, 60)
    assert sum(flips(seed, kind) for seed in range(first, first + worlds)) > 300
