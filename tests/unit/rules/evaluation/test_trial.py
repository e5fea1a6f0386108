"""Rules that their operators would not bear are rescanned from the first, with the reason."""

from __future__ import annotations

import pytest

from profile_actors.columnar import kernels
from profile_actors.definitions.catalogue_changes import extended
from profile_actors.definitions.declared import ComputedAttribute, SegmentDefinition
from profile_actors.rules.catalogue.catalogue_plan import plan
from profile_actors.rules.explain.report import explain
from profile_actors.rules.tree.plan import Plan
from tests.model.hub import BASE, CATALOGUE, Hub

RULE = "xEvent.sum(n % 3)"


def planned(rule: str) -> Plan:
    """The plan of a catalogue with one more computed attribute."""
    return plan(extended(CATALOGUE, [ComputedAttribute("more", rule)]))


def test_what_raises_on_a_trial_is_rescanned(monkeypatch: pytest.MonkeyPatch) -> None:
    def raises(operator: str, *_: object) -> None:
        raise ZeroDivisionError(f"planted at {object()!r}")

    sound = planned(RULE)
    assert sound.rescans == ()
    monkeypatch.setattr(kernels, "arithmetic", raises)
    found, again = planned(RULE), planned(RULE)
    mean = next(rescan for rescan in found.rescans if rescan.name == "mean")  # sum / count
    more = next(rescan for rescan in found.rescans if rescan.name == "more")
    assert {rescan.name for rescan in found.rescans} == {mean.name, more.name}
    assert "fail on a trial (ZeroDivisionError: planted at" in more.reason
    assert found == again, "a plan is a function of the catalogue"
    report = explain(RULE, CATALOGUE)
    assert report["runs"] == "by rescan"
    assert "ZeroDivisionError" in report["reason"]


def test_a_value_that_cannot_be_folded_leaves_the_rules_beside_it_alone() -> None:
    """The operator of a list literal's set functions is for whole lists, not for events."""
    nasty = "xEvent.sum(if([1].supersetOf([n]), n, x))"
    catalogue = extended(
        CATALOGUE,
        [ComputedAttribute("nasty", nasty), SegmentDefinition("rich", "xEvent.sum(x) > 1")],
    )
    hub = Hub(1, catalogue)
    rows = [{"who": "a", "at": BASE, "_id": "1", "kind": "buy", "n": 1, "x": 2.0, "place": ""}]
    hub.submit([("hits", "p", rows)], BASE)
    (partition,) = hub.partitions
    while partition.work(100):
        pass
    assert partition.status().degraded == {}
    (inside, computed, _, _) = hub.pure(["a"])["a"]
    assert "rich" in inside
    assert computed["count"] == ("1", None)
    assert computed["nasty"] == ("1.0", None)
    assert partition.verify() == []
