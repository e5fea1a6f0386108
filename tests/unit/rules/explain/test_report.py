"""Explain: the plan per sub-expression as data and as text; what is shared and what is refused."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from profile_actors.definitions.declared import (
    Catalogue,
    ComputedAttribute,
    Schema,
    SegmentDefinition,
)
from profile_actors.errors import RuleError
from profile_actors.rules.explain.report import explain
from profile_actors.rules.explain.wording import render

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


def test_a_definition_is_not_the_same_as_itself() -> None:
    text = CATALOGUE.segments["big"].rule
    report = explain(f"  {text} // as it stands", CATALOGUE)
    assert (report["defined_as"], report["same_as"]) == (["segment big"], [])
    assert all(
        "segment big" not in part.get("shared_with", []) for part in parts_of(report["plan"])
    )
    assert "rule of   segment big" in render(report)
    assert "same as" not in render(report)


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
    assert [line.split("─ ")[1] for line in text.splitlines() if "─ " in line] == [
        "home.city",
        "xEvent.count()",
    ]


def test_a_wrong_rule_raises() -> None:
    with pytest.raises(RuleError):
        explain("xEvent.sum(nothing) > 3", CATALOGUE)
    with pytest.raises(RuleError):
        explain("xEvent[", CATALOGUE)


VIEWS = 'V from xEvent where V.eventType = "view"'
LATER = 'X.eventType = "explore" and X.campaign = V.campaign'
WITHIN = "X.timestamp occurs <= 30 minutes after V.timestamp"
LISTS = Catalogue(
    schemas={
        "visit": Schema(
            "visit",
            "event",
            {"campaign": "string", "price": "double", "n": "integer", "cost": "decimal(2)"},
        ),
        "person": Schema("person", "record", {"age": "integer", "tags": "string[]"}),
    },
    segments={
        "joined": SegmentDefinition(
            "joined", f"exists {VIEWS} and exists X from xEvent where {LATER} and {WITHIN}"
        ),
        "last": SegmentDefinition("last", 'xEvent[eventType = "view"].head().n = 1'),
    },
    computed={
        "by_type": ComputedAttribute(
            "by_type", "xEvent.groupBy(eventType).map((K, G) => mapEntry(K, G.count()))"
        )
    },
)


def parts_of(report: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """The parts of a plan, parents first."""
    yield report
    for part in report.get("parts", ()):
        yield from parts_of(part)


def part_that(rule: str, words: str) -> dict[str, Any]:
    """The first part of the rule's plan whose ``how`` begins with the words."""
    plan = explain(rule, LISTS)["plan"]
    return next(part for part in parts_of(plan) if part["how"].startswith(words))


@pytest.mark.parametrize(
    ("rule", "runs", "cost"),
    [
        ("1 + 1 = 2", "folded", "constant"),
        ('xEvent[eventType = "a" and eventType = "b"].count() > 0', "folded", "constant"),
        ("age > 3", "folded", "O(1) per record row that sets it"),
        ("xEvent.sum(price) > 1 or age > 3", "folded", "O(1) per event"),
        (
            "xEvent[timestamp occurs <= 1 day before now].count() > 1",
            "folded",
            "O(log n) per event, into the window and out of it",
        ),
        (
            "xEvent[timestamp occurs <= 1 day before now].max(price) > 1",
            "folded",
            "O(log n) per event; window contents re-read when the extreme leaves",
        ),
        (
            "xEvent[n > ^.age].count() > 1",
            "over kept events",
            "O(kept events of the touched profile) per entry",
        ),
        (
            "xEvent.topN(n, 2).count() > 1",
            "over kept events",
            "O(k log k) per entry, k kept events of the touched profile",
        ),
        (
            f"exists {VIEWS} and exists X from xEvent where {LATER}",
            "over kept events",
            "O(a log b) join, a and b the elements of either side",
        ),
        (
            f"exists {VIEWS} and exists X from xEvent where {LATER} and X.n > V.n",
            "over kept events",
            "O(a log b) join, then every pair that it leaves",
        ),
        (
            f"exists {VIEWS} and exists X from xEvent where X.n > V.n",
            "over kept events",
            "O(a b): every pair of the touched profile",
        ),
        (
            "CHAIN(xEvent, timestamp, [A: WHAT(n = 1), B: WHAT(n = A.n)])",
            "over kept events",
            "O(p log k) per step, p partial choices, k kept events of the touched profile",
        ),
        ("tags.count() > 1", "by rescan", "O(history) per touched profile"),
    ],
)
def test_a_rule_costs_its_worst_part(rule: str, runs: str, cost: str) -> None:
    report = explain(rule, LISTS)
    assert (report["runs"], report["cost"]) == (runs, cost)
    assert report["incremental"] == (runs != "by rescan")
    assert f"cost      {cost}\n" in render(report)
    assert all("cost" in part for part in parts_of(report["plan"]))


def test_kept_events_show_their_columns_and_who_else_reads_them() -> None:
    rule = 'xEvent[eventType = "view" and timestamp occurs <= 1 day before now].max(campaign) = "x"'
    kept = part_that(rule, "kept events")
    assert kept["text"] == 'xEvent[eventType = "view" and timestamp occurs <= 1 day before now]'
    assert kept["event_types"] == ["view"]
    assert kept["window"] == ["timestamp occurs <= 1 day before now"]
    assert kept["columns"] == ["timestamp", "campaign", "when it leaves"]
    assert "shared_with" not in kept
    kept = part_that('xEvent[eventType = "view"].topN(price, 1).head().n = 1', "kept events")
    assert kept["shared_with"] == ["segment joined", "segment last"]
    assert kept["columns"] == [
        "timestamp",
        "campaign",
        "n",
        "price",
        "its order among equal timestamps",
    ]


@pytest.mark.parametrize(
    ("conditions", "told"),
    [
        (f"{LATER} and {WITHIN}", {"joined_by": ["e1.campaign = e2.campaign", "e2.timestamp"]}),
        ("X.campaign = V.campaign", {"joined_by": ["e1.campaign = e2.campaign"]}),
        ("X.n = V.n + 1 and V.n != X.n", {"joined_by": ["1 + e1.n = e2.n"], "tried": ["e1.n != "]}),
        ("X.timestamp > V.timestamp", {"joined_by": ["e1.timestamp < e2.timestamp"]}),
        ("V.timestamp occurs < 1 day before X.timestamp", {"tried": ["e1.timestamp occurs"]}),
        ("X.timestamp occurs != 1 day after V.timestamp", {"tried": ["e2.timestamp occurs"]}),
        ("X.cost = V.cost", {"tried": ["e1.cost = e2.cost"]}),
        ("X.n > V.n", {"tried": ["e1.n < e2.n"]}),
        (
            "X.n = V.n and (X.price > V.price or X.timestamp occurs before today)",
            {"joined_by": ["e1.n = e2.n"], "tried_when_due": ["e1.price < e2.price or"]},
        ),
    ],
)
def test_a_join_tells_what_is_searched_and_what_is_tried(
    conditions: str, told: dict[str, list[str]]
) -> None:
    join = part_that(f"exists {VIEWS} and exists X from xEvent where {conditions}", "a join")
    keys = ("joined_by", "asked_before", "tried", "tried_when_due")
    assert {key: len(join[key]) for key in keys if key in join} == {
        key: len(claims) for key, claims in told.items()
    }
    for key, claims in told.items():
        for found, claim in zip(join[key], claims, strict=True):
            assert found.startswith(claim)


def test_the_steps_of_a_sequence_tell_their_open_choices() -> None:
    rule = (
        'CHAIN(xEvent, timestamp, [A: WHAT(eventType = "view"),'
        " B: WHAT(campaign = A.campaign) WHEN(<= 1 day after A), C: WHAT(n > A.n) COUNT(2),"
        " D: WHAT(n = 1)])"
    )
    sequence = explain(rule, LISTS)["plan"]
    assert sequence["how"].startswith("a search for 4 steps")
    first, second, third, fourth = sequence["parts"]
    assert first["text"] == 'e1: WHAT(eventType = "view")'
    assert "joined_by" not in first
    assert second["joined_by"] == [
        "e1.campaign = e2.campaign",
        "e2.timestamp occurs <= 1 day after e1.timestamp",
    ]
    assert third["text"] == "e3: WHAT(e1.n < n) COUNT(2)"
    assert third["tried"] == ["e1.n < e3.n"]
    assert [step["choices"] for step in sequence["parts"]] == [
        "one per profile and event of e1",
        "one per profile and event of e1",
        "one per profile",
        "one per profile",
    ]
    assert fourth["how"] == "an event later than the step before"
    assert fourth["parts"][0]["text"] == "xEvent[n = 1]"


def test_a_larger_expression_names_the_rules_that_it_stands_in() -> None:
    rule = f"age > 3 and exists {VIEWS} and exists X from xEvent where {LATER} and {WITHIN}"
    _, join = explain(rule, LISTS)["plan"]["parts"]
    assert join["also_in"] == ["segment joined"]
    # Told once, where the shared part begins.
    assert ["also_in" in part for part in parts_of(join)].count(True) == 1
    read = explain("computed.by_type.view > 3", LISTS)["plan"]
    assert [p["also_in"] for p in parts_of(read) if "also_in" in p] == [["computed by_type"]]
    assert explain("computed.by_type", LISTS)["same_as"] == ["computed by_type"]


def test_a_rescan_says_whom_it_looks_at() -> None:
    def looked_at(rule: str) -> str:
        found = explain(rule, LISTS)["rescanned_for"]
        assert isinstance(found, str)
        return found

    assert looked_at("tags.count() > 1") == "profiles whose records changed"
    assert looked_at('xEvent[eventType = "a"].distinct().count() > 1') == (
        "profiles with new events of type a"
    )
    both = looked_at("tags.count() > xEvent.count()")
    assert both == "profiles with new events and profiles whose records changed"
    assert f"looks at  {both}\n" in render(explain("tags.count() > xEvent.count()", LISTS))


def test_a_refused_part_below_a_condition_is_named() -> None:
    report = explain("xEvent[campaign in ^.tags].count() > 1 and xEvent[n = 1]", LISTS)
    refused = next(part for part in parts_of(report["plan"]) if "reason" in part)
    assert refused["text"] == "xEvent[campaign in $1.tags]"
    assert refused["refused"] == "tags"
    planned = report["plan"]["parts"][1]
    assert (planned["text"], planned["how"]) == ("xEvent[n = 1]", "a count per profile")


def test_long_texts_name_their_parts_by_number() -> None:
    text = render(explain(f"not exists {VIEWS} and exists X from xEvent where {LATER}", LISTS))
    lines = [line.strip(" │├└─") for line in text.split("plan\n")[1].splitlines()]
    heads = [line for line in lines if not line.startswith("·")]
    assert heads == [
        "not ‹1›.count() > 0",
        "‹1› = ‹2›.filter(e1 => ‹3›.count() > 0)",
        '‹2› = xEvent[eventType = "view"]',
        '‹3› = xEvent[eventType = "explore"].filter(e2 => e1.campaign = e2.campaign)',
        'xEvent[eventType = "explore"]',
    ]


def test_kept_events_alone_are_no_clock() -> None:
    assert explain("xEvent.head().n = 1", LISTS)["timed"] is False
    assert explain("xEvent.head().timestamp occurs <= 1 day before now", LISTS)["timed"] is True
