"""Merge policies over the same data: each rule sees its own, all are kept up to date."""

from __future__ import annotations

import random
from collections.abc import Iterable
from typing import Any

import numpy as np
import pytest
from msgspec import structs

from profile_actors.definitions.catalogue_changes import extended
from profile_actors.definitions.declared import (
    Catalogue,
    ComputedAttribute,
    Definition,
    EdgeDestination,
    MergePolicy,
    ProjectionConfiguration,
    SegmentDefinition,
)
from profile_actors.engine.edges.projections import check_projections
from profile_actors.engine.identity.identity import Identity
from profile_actors.engine.reading.answers import Profile, Source
from profile_actors.engine.reading.fields import EVERYTHING, Fields, check_kind, fields_of, under
from profile_actors.errors import DefinitionError
from profile_actors.ingest.identity_keys import key_of
from profile_actors.rules.catalogue.change_check import check_change, removed
from profile_actors.rules.catalogue.merge_views import view_of, views_of
from profile_actors.rules.tree.sights import View
from tests.model.copies import Copy
from tests.model.hub import BASE, CATALOGUE, DAY, HOUR, SEED, WHO, Hub

PLAIN = structs.replace(CATALOGUE, segments={}, computed={})
RULES = {
    "golden": 'tier = "gold" and score >= 2',
    "some": "score > 1",
    "buyers": 'xEvent[eventType = "buy"].count() >= 2',
    "lately": "xEvent[timestamp occurs <= 1 day before now].count() >= 1",
    "rescanned": "[tier].subsetOf(xEvent.place)",
}
VALUES = {"points": "score", "events": "xEvent.count()", "first": "xEvent.head().place"}
TRUST = MergePolicy("trust", "dataset_precedence", ("web", "crm"))
CRM = MergePolicy("crm", "dataset_precedence", ("crm",), events=("calls",))
POLICIES: list[MergePolicy] = [TRUST, CRM]


def rules(policy: str | None) -> list[Definition]:
    """All rules under a policy, named after it."""
    made: list[Definition] = [
        SegmentDefinition(f"{name} {policy}", rule, merge_policy=policy)
        for name, rule in RULES.items()
    ]
    made += [
        ComputedAttribute(f"{name} {policy}", rule, merge_policy=policy)
        for name, rule in VALUES.items()
    ]
    return made


def catalogue(*more: Definition) -> Catalogue:
    named = {one.name for one in more if isinstance(one, MergePolicy)}
    policies = [policy for policy in POLICIES if policy.name not in named]
    every: Iterable[Definition] = [
        *policies, *rules(None), *rules("trust"), *rules("crm"), *more,
    ]  # fmt: skip
    made = extended(PLAIN, every)
    check_change(PLAIN, made)
    return structs.replace(made, version=1)


def entries(seed: int) -> list[tuple[list[tuple[str, str, list[dict[str, Any]]]], int]]:
    """Entries of records and events of four people, and the clock of each."""
    draw = random.Random(seed)
    out, clock = [], BASE
    for number in range(25):
        clock += draw.choice([0, HOUR, 7 * HOUR])
        groups = []
        for dataset in draw.sample(["hits", "calls", "crm", "web"], draw.randint(1, 3)):
            made = []
            for _ in range(draw.randint(1, 4)):
                row: dict[str, Any] = {
                    "who": f"p{draw.randint(0, 3)}", "at": clock - draw.randint(0, 3) * HOUR
                }  # fmt: skip
                if dataset in ("crm", "web"):
                    row |= {"tier": draw.choice([None, "gold", "iron"])}
                    row |= {"score": draw.choice([None, 0, 2, 5])}
                else:
                    row |= {"x": draw.choice([1.0, 3.0]), "place": draw.choice(["a", "gold"])}
                if dataset == "hits":
                    row |= {"kind": draw.choice(["buy", "look"]), "_id": f"{number}"}
                made.append(row)
            groups.append((dataset, dataset, made))
        out.append((groups, clock))
    return out


def settled(hub: Hub) -> None:
    for partition in hub.partitions:
        while partition.work(1 << 10):
            pass


@pytest.mark.parametrize("seed", range(4))
def test_all_policies_are_kept_up_to_date_as_the_reference_says(seed: int) -> None:
    hub = Hub(catalogue=catalogue())
    assert len(hub.partitions[0].state.book.rescans) == 3
    for groups, clock in entries(seed):
        hub.submit(groups, clock)
    hub.partitions[0].advance(BASE + 30 * DAY)
    settled(hub)
    assert hub.partitions[0].verify(4) == []
    told = hub.pure([f"p{n}" for n in range(4)])
    hub.reopen()
    assert hub.pure([f"p{n}" for n in range(4)]) == told


def test_policies_see_their_own_data() -> None:
    hub = Hub(catalogue=catalogue())
    hub.submit([("web", "w", [{"who": "a", "at": BASE, "score": 1}])], BASE)
    hub.submit([("crm", "c", [{"who": "a", "at": BASE + 5, "score": 7, "tier": "gold"}])], BASE)
    hub.submit([("hits", "h", [{"who": "a", "at": BASE, "kind": "buy", "_id": "1"}])], BASE)
    hub.submit([("calls", "k", [{"who": "a", "at": BASE}])], BASE)
    settled(hub)
    _, computed, _, _ = hub.pure(["a"])["a"]
    found = {name: value for name, (value, _) in computed.items()}
    assert [found[f"points {policy}"] for policy in (None, "trust", "crm")] == ["7", "1", "7"]
    assert [found[f"events {policy}"] for policy in (None, "trust", "crm")] == ["2", "2", "1"]
    members = {name: hub.partitions[0].count(name) for name in hub.catalogue.segments}
    assert (members["golden None"], members["golden trust"], members["golden crm"]) == (1, 0, 1)


def test_a_changed_default_moves_the_rules_that_name_none_and_no_others() -> None:
    hub = Hub(catalogue=catalogue())
    for groups, clock in entries(7):
        hub.submit(groups, clock)
    settled(hub)
    people = [f"p{n}" for n in range(4)]

    def under(policy: str | None) -> Any:
        said = hub.pure(people)
        return [
            (
                {name: until for name, until in inside.items() if name.endswith(f" {policy}")},
                {name: value for name, value in computed.items() if name.endswith(f" {policy}")},
            )
            for inside, computed, _, _ in (said[who] for who in people)
        ]

    trusted, of_crm, before = under("trust"), under("crm"), under(None)
    changes, cursor = hub.partitions[0].changes(-1, 1 << 30)
    hub.catalogue = extended(hub.catalogue, [structs.replace(TRUST, default=True)])
    hub.partitions[0].define(hub.catalogue, None)
    settled(hub)
    assert (under("trust"), under("crm")) == (trusted, of_crm)
    renamed = [
        tuple({name.replace(" None", " trust"): one for name, one in of.items()} for of in part)
        for part in under(None)
    ]
    assert renamed == trusted
    assert under(None) != before
    changes, _ = hub.partitions[0].changes(cursor, 1 << 30)
    assert changes
    assert {(change.cause, change.name.endswith(" None")) for change in changes} == {
        ("definition", True)
    }
    assert hub.partitions[0].verify(4) == []


def test_policies_that_agree_about_a_leaf_share_its_column() -> None:
    made = catalogue(
        MergePolicy("same", "dataset_precedence", ("web", "crm")),
        SegmentDefinition("twin", RULES["golden"], merge_policy="same"),
    )
    hub = Hub(catalogue=made)
    assert sorted(hub.partitions[0].state.book.attributes) == [
        "score", "score by crm", "score by web, crm", "tier", "tier by crm", "tier by web, crm",
    ]  # fmt: skip


def test_views() -> None:
    made = catalogue()
    assert view_of(made, None) == View()
    assert view_of(made, "crm") == View(("crm",), ("calls",))
    assert views_of(PLAIN) == {}
    with pytest.raises(DefinitionError, match="got 'none'; defined are crm, trust"):
        view_of(made, "none")


@pytest.mark.parametrize(
    ("policy", "words"),
    [
        (MergePolicy("p", "dataset_precedence"), "expected an order of datasets with"),
        (MergePolicy("p", order=("crm",)), "expected no order with 'timestamp_ordered'"),
        (MergePolicy("p", "dataset_precedence", ("crm", "crm")), "expected each dataset once"),
        (MergePolicy("p", "dataset_precedence", ("hits",)), "expected a dataset of records"),
        (MergePolicy("p", events=("crm",)), "expected a dataset of events, got 'crm'"),
        (MergePolicy("p", events=("else",)), "expected a dataset of events, got 'else'"),
    ],
)
def test_what_is_no_policy(policy: MergePolicy, words: str) -> None:
    with pytest.raises(DefinitionError, match=words):
        extended(PLAIN, [policy])


def test_policies_are_definitions_like_others() -> None:
    one = extended(PLAIN, [structs.replace(TRUST, default=True)])
    assert one.merge_policies["trust"].version == 1
    assert extended(one, [structs.replace(TRUST, default=True)]) is one
    two = extended(one, [TRUST])
    assert two.merge_policies["trust"].version == 2
    with pytest.raises(DefinitionError, match="expected one default merge policy"):
        extended(one, [MergePolicy("other", default=True)])
    with pytest.raises(DefinitionError, match="expected a defined merge policy, got 'no'"):
        extended(one, [SegmentDefinition("s", "score > 1", merge_policy="no")])
    used = extended(one, [SegmentDefinition("s", "score > 1", merge_policy="trust")])
    assert used.segments["s"].version == 1
    assert extended(used, [SegmentDefinition("s", "score > 1")]).segments["s"].version == 2
    with pytest.raises(DefinitionError, match="which segment 's' reads"):
        removed(used, used.merge_policies["trust"])
    with pytest.raises(DefinitionError, match="which merge policy 'trust' reads"):
        removed(one, one.datasets["crm"])
    assert removed(one, one.merge_policies["trust"]).merge_policies == {}


def test_rules_that_read_each_other_have_one_policy() -> None:
    first = SegmentDefinition("a", "score > 1", merge_policy="crm")
    with pytest.raises(DefinitionError, match="one merge policy, got segment 'a' of another one"):
        catalogue(first, SegmentDefinition("b", 'inSegment("a")'))
    catalogue(first, SegmentDefinition("b", 'inSegment("a")', merge_policy="crm"))


def test_look_ups_by_a_policy_show_its_attributes_and_its_rules() -> None:
    made = catalogue(structs.replace(TRUST, default=True))
    hub = Hub(catalogue=made)
    hub.submit([("web", "w", [{"who": "a", "at": BASE, "score": 1}])], BASE)
    hub.submit([("crm", "c", [{"who": "a", "at": BASE + 5, "score": 7, "tier": "gold"}])], BASE)
    key = key_of(WHO, "a", SEED)

    def look_up(fields: Fields) -> Profile:
        answer = hub.partitions[0].look_up(np.array([key], np.uint64), None, fields)
        (found,) = answer.profiles()
        assert found is not None
        return found

    assert look_up(EVERYTHING).attributes == {"score": 1, "tier": "gold"}
    assert look_up(EVERYTHING).sources == {}
    of_crm = look_up(under(structs.replace(EVERYTHING, sources=True), "crm", made))
    assert of_crm.attributes == {"score": 7, "tier": "gold"}
    assert set(of_crm.computed) == {f"{name} crm" for name in VALUES}
    own = Identity("CRMID", "a")
    assert of_crm.sources == {
        "score": Source("crm", own, BASE + 5), "tier": Source("crm", own, BASE + 5),
    }  # fmt: skip
    some = structs.replace(EVERYTHING, attributes=("tier",), sources=True)
    assert set(look_up(some).sources) == {"tier"}
    trusted = under(EVERYTHING, "trust", made)
    assert set(trusted.segments or ()) == {
        f"{name} {policy}" for name in RULES for policy in (None, "trust")
    }
    with pytest.raises(DefinitionError, match="expected the name of a merge policy, got 'no'"):
        under(EVERYTHING, "no", made)


@pytest.mark.parametrize("seed", range(2))
def test_copies_see_a_policy_that_changes_under_them(seed: int) -> None:
    """Switched to and fro between any two pages, with a restart on the way: law L7 holds."""
    draw = random.Random(f"policies {seed}")
    hub = Hub(catalogue=catalogue())
    computed = Fields(True, (), (), ("points None",))
    copies = [Copy(EVERYTHING), Copy(Fields(True, ("tier", "score"), (), ())), Copy(computed)]
    found: list[Any] = []
    for number, (groups, clock) in enumerate(entries(seed)):
        hub.submit(groups, clock)
        if number % 4 == 3:
            is_default = not hub.catalogue.merge_policies["trust"].default
            order = tuple(draw.sample(["web", "crm"], 2))
            made = structs.replace(TRUST, default=is_default, order=order)
            hub.catalogue = extended(hub.catalogue, [made])
            hub.partitions[0].define(hub.catalogue, None)
        if number == 13:
            job = hub.partitions[0].checkpoint_job(force=True)
            assert job is not None
            job()
        if number == 17:
            hub.reopen()
        for one in copies:
            for _ in range(draw.choice((0, 0, 1, 3))):
                one.pull(hub.partitions[0])
        if draw.random() < 0.3:
            hub.partitions[0].work(1)
        if draw.random() < 0.3:
            for one in copies:
                one.follow(hub.partitions[0])
                found.append(repr(one.look_up(min(one.rows.rooms["profiles"]), clock)))
    settled(hub)
    for one in copies:
        one.follow(hub.partitions[0])
        assert one.checks
    assert len(set(found)) > 3


def test_what_is_about_identities_is_asked_of_identities() -> None:
    made = catalogue(
        MergePolicy("each", stitching="none"),
        SegmentDefinition("one", "score > 1", merge_policy="each"),
        ComputedAttribute("own", "score", merge_policy="each"),
    )
    of_one = fields_of(["segments.one"], made)
    check_kind(structs.replace(of_one, policy="each"), made)
    check_kind(under(EVERYTHING, "each", made), made)
    with pytest.raises(DefinitionError, match="stitching 'graph', got segment 'one', whose is 'n"):
        check_kind(of_one, made)
    with pytest.raises(DefinitionError, match="stitching 'none', got computed attribute 'points N"):
        check_kind(structs.replace(fields_of(["computed.points None"], made), policy="each"), made)
    with pytest.raises(DefinitionError, match="expected rules that read each other to have one"):
        catalogue(
            MergePolicy("each", stitching="none"),
            SegmentDefinition("a", "score > 1", merge_policy="each"),
            SegmentDefinition("b", 'inSegment("a")'),
        )


def test_edges_have_copies_of_people() -> None:
    projected: list[Definition] = [
        EdgeDestination("web"), ProjectionConfiguration("p", "web", segments=("one",)),
    ]  # fmt: skip
    each = MergePolicy("each", stitching="none")
    one = SegmentDefinition("one", "score > 1", merge_policy="each")
    with pytest.raises(DefinitionError, match=r"segment 'one', whose is 'none'.* - at proj"):
        check_projections(catalogue(each, one, *projected))
    default = structs.replace(each, default=True)
    with pytest.raises(DefinitionError, match="edges have copies of people"):
        check_projections(catalogue(default, one, *projected))
    check_projections(catalogue(each, structs.replace(one, merge_policy="crm"), *projected))
