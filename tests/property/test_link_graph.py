"""The incremental graph equals the definition after every fold, link by link, in any order."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from profile_actors.engine.identity.link_graph import LinkGraph
from profile_actors.engine.identity.linking import (
    FOREVER,
    Cut,
    Fact,
    Limits,
    Member,
    Row,
    components,
    judged,
    pairs_of,
)

NAMES = ("CRMID", "Email", "ECID")


def world(chance: random.Random) -> tuple[list[Fact], Limits]:
    """Some people and devices, their rows and cuts with many equal times, and rules."""
    limits = Limits(
        unique=frozenset(chance.sample(NAMES, chance.choice((0, 1, 1, 1, 2)))),
        max_size=chance.choice((50_000, 50_000, 2, 3, 5)),
        max_people=chance.choice((100, 100, 1, 2)),
    )
    people, devices = chance.randint(1, 6), chance.randint(1, 6)
    # Two namespaces may have one priority; then keys alone decide who is smaller.
    second = chance.choice((1, 2))
    pool = [Member(1, chance.randrange(99), NAMES[0]) for _ in range(people)]
    pool += [Member(second, 100 + chance.randrange(99), NAMES[1]) for _ in range(people)]
    pool += [Member(3, chance.randrange(99), NAMES[2]) for _ in range(devices)]
    horizon = chance.choice((3, 20, 1000))
    facts: list[Fact] = []
    for _ in range(chance.randint(2, 40)):
        old = chance.choice(facts) if facts else None
        if chance.random() < 0.15 and isinstance(old, Row) and len(set(old.members)) > 1:
            pair = chance.choice(pairs_of(old.members))
            target = pair if chance.random() < 0.6 else (chance.choice(pair),)
            facts.append(Cut(chance.choice((chance.randrange(horizon), FOREVER)), target))
        else:
            size = chance.choice((1, 2, 2, 2, 3, 4))
            members = tuple(chance.choice(pool) for _ in range(size))
            facts.append(Row(chance.randrange(horizon), members))
    return facts, limits


def check(graph: LinkGraph, facts: list[Fact], limits: Limits) -> None:
    truth = components(facts, limits)
    for member, together in truth.items():
        assert graph.of(member) == together
        assert graph.canonical(member) == min(together)
        found = graph.judged(member)
        wanted = [link for link in judged(facts, limits) if not together.isdisjoint(link.pair)]
        assert found == wanted
    verdicts = judged(facts, limits)
    assert graph.links == len(verdicts)
    assert graph.people == len({people for people in truth.values() if len(people) > 1})
    assert sum(graph.skipped().values()) == sum(link.verdict == "skipped" for link in verdicts)
    again = list(graph.facts())
    assert components(again, limits).items() <= truth.items()  # cuts of strangers name nobody
    assert judged(again, limits) == verdicts


@settings(max_examples=150)
@given(st.integers(min_value=0, max_value=1 << 40))
def test_graph_and_definition_agree_after_every_fold(seed: int) -> None:
    chance = random.Random(seed)
    facts, limits = world(chance)
    graph, folded = LinkGraph(limits), 0
    while folded < len(facts):
        some = facts[folded : folded + chance.choice((1, 1, 2, 5, 40))]
        folded += len(some)
        names = {member for fact in facts[:folded] for member in pairs_members(fact)}
        before = {member: graph.canonical(member) for member in names}
        # What a link between two of one person says needs no fold; half of the times it gets one.
        left = [fact for fact in some if chance.random() < 0.5 or not is_renewed(graph, fact)]
        changed = graph.fold(left)
        check(graph, facts[:folded], limits)
        assert {m for m in names if graph.canonical(m) != before[m]} <= changed


def is_renewed(graph: LinkGraph, fact: Fact) -> bool:
    pairs = pairs_of(fact.members) if isinstance(fact, Row) else ()
    return len(pairs) == 1 and graph.renew(pairs[0], fact.time)


def pairs_members(fact: Fact) -> tuple[Member, ...]:
    return fact.members if isinstance(fact, Row) else fact.target


@settings(max_examples=60)
@given(st.integers(min_value=0, max_value=1 << 40))
def test_order_of_arrival_and_repeats_change_nothing(seed: int) -> None:
    chance = random.Random(seed)
    facts, limits = world(chance)
    graph = LinkGraph(limits)
    again = chance.sample(facts, len(facts)) + chance.choices(facts, k=5)
    for begin in range(0, len(again), 3):
        graph.fold(again[begin : begin + 3])
    check(graph, facts, limits)


@settings(max_examples=100)
@given(st.integers(min_value=0, max_value=1 << 40))
def test_a_link_between_what_is_together_or_may_be_changes_no_more_than_that(seed: int) -> None:
    """The two lemmas that spare a replay, as properties of the definition."""
    chance = random.Random(seed)
    facts, limits = world(chance)
    limits = limits._replace(max_people=10**9)  # a void identity is no matter of one new link
    before = components(facts, limits)
    one, other = chance.choice(list(before)), chance.choice(list(before))
    cut_until = max((f.time for f in facts if isinstance(f, Cut)), default=0)
    if one == other or cut_until == FOREVER:
        return
    after = components([*facts, Row(chance.randrange(cut_until + 1, 2000), (one, other))], limits)
    union = before[one] | before[other]
    unique = [member.namespace for member in union if member.namespace in limits.unique]
    if before[one] == before[other]:
        assert after == before
    elif len(set(unique)) == len(unique) and len(union) <= limits.max_size:
        assert after == before | dict.fromkeys(union, union)


@pytest.mark.parametrize(
    "fault",
    ["no replay", "skipped stays skipped", "void is forgotten", "cut of one identity only"],
)
def test_a_planted_fault_is_found(fault: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if fault == "no replay":
        monkeypatch.setattr(LinkGraph, "_replay", lambda self, region: set())
    elif fault == "skipped stays skipped":
        regions = LinkGraph._regions
        monkeypatch.setattr(
            LinkGraph,
            "_regions",
            lambda self, pairs: regions(
                self, [p for p in pairs if self._group(p[0]) is self._group(p[1])]
            ),
        )
    elif fault == "void is forgotten":
        monkeypatch.setattr(LinkGraph, "_count_people", lambda self, had: set())
    else:
        note = LinkGraph._note
        monkeypatch.setattr(
            LinkGraph,
            "_note",
            lambda self, facts: note(
                self, [f for f in facts if isinstance(f, Row) or len(f.target) == 2]
            ),
        )
    with pytest.raises(AssertionError):
        many_worlds(400)


def many_worlds(count: int) -> None:
    for seed in range(count):
        facts, limits = world(random.Random(seed))
        graph = LinkGraph(limits)
        for fact in facts:
            graph.fold([fact])
        check(graph, facts, limits)


def test_a_large_component_grows_without_replays_and_a_handed_over_device_costs_one_each() -> None:
    limits = Limits(unique=frozenset({"CRMID"}))
    graph = LinkGraph(limits)
    ann, ben = Member(1, 1, "CRMID"), Member(1, 2, "CRMID")
    for n in range(3000):
        graph.fold([Row(n, (ann, Member(3, n, "ECID")))])
    assert (graph.replays, len(graph.of(ann))) == (0, 3001)
    tablet = Member(3, 99_999, "ECID")
    for n in range(20):
        graph.fold([Row(20_000 + n, ((ann, ben)[n % 2], tablet))])
        assert graph.canonical(tablet) == (ann, ben)[n % 2]
    assert graph.replays == 19
    assert (
        graph.replayed_links < 2 * 19 * 3010
    )  # each takes the large component apart, once or twice
