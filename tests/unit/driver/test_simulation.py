"""``pf.simulate``: forms of links, what is passed over, errors that say which link is wrong."""

from __future__ import annotations

import datetime as dt
from typing import Any

import pytest

import profile_actors as pf

SPACES = [
    pf.Namespace("CRMID", "cross_device", unique=True, priority=1),
    pf.Namespace("Email", "email", priority=2, normalize=("trim", "lower")),
    pf.Namespace("Shop", "non_people"),
]
ANN = pf.Identity("CRMID", "ann")
MAIL = pf.Identity("Email", "ann@home.org")


def test_links_have_several_forms_and_values_are_normalised() -> None:
    when = dt.datetime(2026, 1, 1)
    forms: list[Any] = [
        (when, [("CRMID", "ann"), ("Email", " Ann@home.org")]),
        {"at": "2026-01-01", "identities": [["CRMID", "ann"], ["Email", "ANN@HOME.ORG"]]},
        (1_767_225_600_000, [ANN, MAIL]),
    ]
    for form in forms:
        found = pf.simulate([form], namespaces=SPACES)
        assert found.people == [(ANN, MAIL)]
        assert found.person("Email", "ann@home.org") == (ANN, MAIL)
        assert found.person("Email", "nobody") == ()
        assert [(link.at, link.verdict) for link in found.links] == [(1_767_225_600_000, "used")]


def test_what_is_nobodys_and_placeholders_link_nobody() -> None:
    rows = [(n, [("CRMID", f"c{n}"), ("Shop", "oslo"), ("Email", "Null ")]) for n in range(3)]
    found = pf.simulate(rows, namespaces=SPACES)
    assert [len(person) for person in found.people] == [1, 1, 1]
    assert found.placeholders == {pf.Identity("Email", "null"): 3}
    none = pf.simulate([(1, [("Email", "null")])], namespaces=SPACES)
    assert (none.people, none.links) == ([], [])
    mine = pf.simulate(rows, pf.LinkingRules(max_people=2, placeholders=()), SPACES)
    assert {link.verdict for link in mine.links} == {"void"}


def test_namespaces_that_nobody_declared_are_neither_unique_nor_first() -> None:
    rows = [(n, [("CRMID", "ann"), ("Own", value)]) for n, value in enumerate("xy")]
    found = pf.simulate(rows, namespaces=SPACES)
    ((first, *others),) = found.people
    assert first == ANN
    assert {identity.value for identity in others} == {"x", "y"}


@pytest.mark.parametrize(
    ("link", "word"),
    [
        ("ann", "expected (when"),
        ((1,), "expected (when"),
        ((1, "CRMID"), "expected (when"),
        ((1, ["CRMID", "ann"]), "an identity (namespace, value)"),
        ((1, [("CRMID", 7)]), "an identity (namespace, value)"),
        (("soon", [("CRMID", "ann")]), "an instant"),
        ({"identities": [("CRMID", "ann")]}, "expected (when"),
        ({"at": 1, "unlink": []}, "one identity or two"),
        ({"at": 1, "unlink": [("CRMID", text) for text in "abc"]}, "one identity or two"),
    ],
)
def test_what_is_no_link_is_said(link: Any, word: str) -> None:
    with pytest.raises(pf.CallerError) as error:
        pf.simulate([(1, [("CRMID", "good")]), link], namespaces=SPACES)
    assert word in str(error.value)
    assert "link 1" in str(error.value)


@pytest.mark.parametrize("rules", [{"max_size": 1}, {"max_people": 0}])
def test_rules_that_allow_nobody_are_refused(rules: dict[str, Any]) -> None:
    with pytest.raises(pf.DefinitionError, match=r"expected max_.* at linking rules"):
        pf.simulate([], pf.LinkingRules(**rules))
