"""Explain: the plan per sub-expression as data and as text; what is shared and what is refused."""

from __future__ import annotations

import json

import pytest

from profile_actors.definitions import Catalogue, ComputedAttribute, Schema, SegmentDefinition
from profile_actors.errors import RuleError
from profile_actors.rules.explain import explain, render

PURCHASES = 'xEvent[eventType = "purchase"]'
CATALOGUE = Catalogue(
    schemas={
        "order": Schema("order", "event", {"value": "double", "items[].sku": "string"}),
        "person": Schema("person", "record", {"home.city": "string", "tags": "string[]"}),
    },
    segments={
        "big": SegmentDefinition("big", f"{PURCHASES}.sum(value) > 500"),
        "recent": SegmentDefinition(
            "recent",
            'xEvent[eventType = "purchase" and timestamp occurs <= 30 days before now].count() > 1',
        ),
    },
    computed={"spend": ComputedAttribute("spend", f"{PURCHASES}.sum(value)")},
)


def test_a_shared_aggregate_names_its_other_readers() -> None:
    report = explain(f"{PURCHASES}.sum(value) > 900", CATALOGUE)
    assert report["incremental"]
    assert report["type"] == "boolean"
    (total,) = report["plan"]["parts"]
    assert total["event_types"] == ["purchase"]
    assert total["value"] == "value"
    assert total["shared_with"] == ["computed spend", "segment big"]
    assert "predicate" not in total
    assert "shared with computed spend, segment big" in render(report)


def test_a_window_and_a_predicate_are_shown() -> None:
    rule = 'xEvent[timestamp occurs <= 1 week before now and value > 3 and eventType = "a"].count()'
    (count,) = explain(f"{rule} > 1", CATALOGUE)["plan"]["parts"]
    assert count["window"] == ["timestamp occurs <= 7 days before now"]
    assert count["predicate"] == 'eventType = "a" and value > 3'
    assert "by the clock" in count["how"]


def test_the_same_rule_in_other_words_is_recognised() -> None:
    assert explain(f"500 < {PURCHASES}.sum(value)", CATALOGUE)["same_as"] == ["segment big"]


def test_values_and_conditions_are_both_explained() -> None:
    assert explain("computed.spend", CATALOGUE)["same_as"] == ["computed spend"]
    assert explain("not xEvent[value > 3]", CATALOGUE)["canonical"] == (
        "not xEvent[value > 3].count() > 0"
    )
    assert explain("xEvent.average(value)", CATALOGUE)["type"] == "double"


def test_time_constants_and_impossible_filters_are_pointed_out() -> None:
    assert explain("xEvent.max(timestamp) occurs >= 7 days before now", CATALOGUE)["timed"]
    assert explain("1 + 2 > 2", CATALOGUE)["constant"] is True
    report = explain('xEvent[eventType = "a" and eventType = "b"]', CATALOGUE)
    assert "no event can match" in render(report)
    assert report["constant"] is False
    assert "constant  always false" in render(report)
    # Also where no operator holds the rule.
    report = explain("xEvent.head().value > 1 and false or tags or not tags", CATALOGUE)
    assert (report["incremental"], report["constant"]) == (False, True)
    assert explain("xEvent.count() > 1", CATALOGUE)["constant"] is None


def test_a_refusal_marks_the_smallest_part() -> None:
    report = explain("tags.count() > 1 and xEvent.count() > 1", CATALOGUE)
    assert not report["incremental"]
    assert "line 1, column 1" in report["reason"]
    refused, planned = report["plan"]["parts"]
    assert refused["parts"][0]["parts"][0]["reason"] == "a field of type array of the profile"
    assert "reason" not in refused
    assert planned["parts"][0]["how"] == "a count per profile"


def test_reports_are_json_and_render_every_part() -> None:
    rule = 'home.city = "Rome" or xEvent.count() > 1'
    report = explain(rule, CATALOGUE)
    assert json.loads(json.dumps(report)) == report
    text = render(report)
    assert text.startswith(f"rule      {rule}\n")
    assert "profile attribute, kept as a column" in text
    assert text.count("─ ") == 4


def test_a_wrong_rule_raises() -> None:
    with pytest.raises(RuleError):
        explain("xEvent.sum(nothing) > 3", CATALOGUE)
    with pytest.raises(RuleError):
        explain("xEvent[", CATALOGUE)
