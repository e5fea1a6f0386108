"""The definition of who is one person, by hand: devices that move on, kiosks, cuts, bad values."""

from __future__ import annotations

import pytest

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

CRM, MAIL, COOKIE = 1, 2, 3
NAMES = {CRM: "CRMID", MAIL: "Email", COOKIE: "ECID"}
ONE_PERSON = Limits(unique=frozenset({"CRMID"}))


def member(kind: int, key: int) -> Member:
    return Member(kind, key, NAMES[kind])


ANN, BEN, CAT = (member(CRM, n) for n in (1, 2, 3))
POST, OTHER_POST = member(MAIL, 1), member(MAIL, 2)
TABLET, PHONE = member(COOKIE, 1), member(COOKIE, 2)


def people(facts: list[Fact], limits: Limits = ONE_PERSON) -> set[frozenset[Member]]:
    return set(components(facts, limits).values())


def test_a_row_is_a_star_around_its_most_person_like_identity() -> None:
    assert pairs_of([TABLET, ANN, POST, ANN]) == [(ANN, POST), (ANN, TABLET)]
    # The tablet moves on to Ben: the address that once stood beside it stays Ann's.
    facts: list[Fact] = [Row(1, (ANN, POST, TABLET)), Row(2, (BEN, TABLET))]
    assert people(facts) == {frozenset({ANN, POST}), frozenset({BEN, TABLET})}


def test_a_device_is_wholly_of_whom_it_was_linked_with_last() -> None:
    early, late = Row(1, (ANN, TABLET)), Row(5, (BEN, TABLET))
    for facts in ([early, late], [late, early]):
        assert people([*facts]) == {frozenset({ANN}), frozenset({BEN, TABLET})}
    assert people([early, late, Row(9, (ANN, TABLET))]) == {
        frozenset({ANN, TABLET}),
        frozenset({BEN}),
    }


def test_equal_times_are_decided_by_the_pair_itself() -> None:
    facts: list[Fact] = [Row(1, (BEN, TABLET)), Row(1, (ANN, TABLET))]
    assert people(facts) == {frozenset({ANN, TABLET}), frozenset({BEN})}


@pytest.mark.parametrize("target", [(ANN, POST), (POST, ANN), (POST,), (ANN,)])
def test_a_cut_withdraws_evidence_up_to_its_time_and_newer_links_again(
    target: tuple[Member, ...],
) -> None:
    facts: list[Fact] = [Row(5, (ANN, POST)), Cut(5, target)]
    assert people(facts) == {frozenset({ANN}), frozenset({POST})}
    assert people([*facts, Row(4, (ANN, POST))]) == people(facts)  # whenever it arrives
    assert people([*facts, Row(6, (ANN, POST))]) == {frozenset({ANN, POST})}
    assert people([*facts, Row(6, (ANN, POST)), Cut(FOREVER, target)]) == people(facts)


def test_after_a_cut_a_device_falls_back_to_the_person_before() -> None:
    facts: list[Fact] = [Row(1, (ANN, TABLET)), Row(2, (BEN, TABLET)), Cut(2, (BEN, TABLET))]
    assert people(facts) == {frozenset({ANN, TABLET}), frozenset({BEN})}


def test_an_identity_of_too_many_people_links_nobody() -> None:
    limits = Limits(unique=frozenset({"CRMID"}), max_people=2)
    facts: list[Fact] = [Row(n, (person, POST)) for n, person in enumerate((ANN, BEN, CAT))]
    assert {frozenset({ANN}), frozenset({BEN}), frozenset({POST, CAT})} != people(facts, limits)
    assert people(facts, limits) == {frozenset({one}) for one in (ANN, BEN, CAT, POST)}
    # The third is withdrawn: two are not too many, and the newest counts.
    assert frozenset({BEN, POST}) in people([*facts, Cut(9, (CAT, POST))], limits)
    # Devices are no people: any number of them may be of one person.
    many: list[Fact] = [Row(n, (ANN, member(COOKIE, n))) for n in range(10)]
    assert len(people(many, limits)) == 1


def test_over_the_largest_size_the_oldest_link_is_left_out() -> None:
    limits = Limits(max_size=3)
    facts: list[Fact] = [Row(n, (ANN, member(COOKIE, n))) for n in (1, 2, 3)]
    together = {ANN, member(COOKIE, 3), member(COOKIE, 2)}
    assert people(facts, limits) == {frozenset(together), frozenset({member(COOKIE, 1)})}


def test_two_identities_of_one_unique_namespace_are_never_one_person() -> None:
    facts: list[Fact] = [Row(1, (ANN, BEN))]
    (link,) = judged(facts, ONE_PERSON)
    assert (link.verdict, link.by) == ("skipped", "CRMID")
    assert people(facts) == {frozenset({ANN}), frozenset({BEN})}


def test_every_link_has_a_verdict() -> None:
    limits = Limits(unique=frozenset({"CRMID"}), max_size=4, max_people=2)
    facts: list[Fact] = [
        Row(9, (ANN, TABLET)),
        Row(8, (ANN, PHONE)),
        Row(7, (PHONE, TABLET)),
        Row(6, (BEN, TABLET)),
        Row(5, (CAT, OTHER_POST)),
        Cut(5, (CAT, OTHER_POST)),
        *(Row(4, (person, POST)) for person in (ANN, BEN, CAT)),
        Row(3, (ANN, member(MAIL, 8))),
        Row(2, (ANN, member(MAIL, 9))),
    ]
    found = [(link.time, link.verdict, link.by) for link in judged(facts, limits)]
    assert found == [
        (9, "used", ""),
        (8, "used", ""),
        (7, "redundant", ""),
        (6, "skipped", "CRMID"),
        (5, "withdrawn", ""),
        *[(4, "void", "")] * 3,
        (3, "used", ""),
        (2, "skipped", "max_size"),
    ]


def test_who_is_named_alone_is_there() -> None:
    assert people([Row(1, (ANN,)), Cut(1, (TABLET,))]) == {frozenset({ANN}), frozenset({TABLET})}
