"""The planner makes of each rule what its golden file says, and the plan's answers are right."""

from __future__ import annotations

from typing import Any

import pytest

from profile_actors.definitions.declared import ComputedAttribute, SegmentDefinition
from profile_actors.errors import RuleError
from profile_actors.rules.explain.report import explain
from tests.golden.planning_pairs import Pair, catalogue, pairs, plan_text
from tests.model.hub import DAY, HOUR, Hub

PAIRS = pairs()
NOW = 1_709_812_800_000  # 2024-03-07 12:00 UTC, a Thursday


@pytest.mark.parametrize("pair", PAIRS, ids=[f"{p.file}: {p.rule}" for p in PAIRS])
def test_a_rule_is_planned_as_its_file_says(pair: Pair) -> None:
    assert plan_text(pair.rule) == pair.plan


def test_the_files_are_of_the_kind_they_say() -> None:
    """Only the rescans are rescanned, and each kind has its rules."""
    by_file: dict[str, list[Pair]] = {}
    for pair in PAIRS:
        by_file.setdefault(pair.file, []).append(pair)
    assert len(by_file) >= 14
    assert min(len(mine) for mine in by_file.values()) >= 3
    for pair in PAIRS:
        runs = explain(pair.rule, catalogue())["runs"]
        assert (runs == "by rescan") == (pair.file == "rescans"), pair.rule


def visit(who: str, ago: int, kind: str, **fields: Any) -> dict[str, Any]:
    return {"who": who, "at": NOW - ago, "_id": f"{ago}{kind}", "kind": kind, **fields}


VISITS = [
    visit("a", 40 * DAY, "view", sku="tea", price=12.0, qty=1),
    visit("a", 6 * DAY, "view", sku="cup", price=30.0, qty=2),
    visit("a", 6 * DAY - HOUR // 4, "buy", sku="cup", price=30.0, qty=2),
    visit("a", 3 * HOUR, "buy", sku="tea", price=4.5, qty=3, items=[{"sku": "tea", "qty": 3}]),
    visit("b", 9 * DAY, "view", sku="cup", price=8.0),
    visit("b", 8 * DAY, "buy", sku="tea", price=120.0, qty=1),
    visit("b", 5 * DAY, "view", sku="tea", price=21.0, qty=1),
    visit("b", 5 * DAY - HOUR // 5, "buy", sku="tea", price=21.0, qty=1),
    visit("c", 1 * DAY, "view"),
]
PEOPLE = [
    {"who": "a", "at": NOW - DAY, "city": "Oslo", "tier": "gold", "points": 12, "tags": ["vip"]},
    {"who": "b", "at": NOW - DAY, "city": "Bergen", "favourite": "tea", "limits": {"sms": 2}},
    {"who": "d", "at": NOW - DAY, "city": "Oslo", "points": 0, "joined": NOW - 31 * DAY},
]


@pytest.mark.parametrize("late", [False, True], ids=["in order", "late"])
def test_the_answers_of_all_plans_are_the_reference_evaluators(late: bool) -> None:
    """Before, at and after now, whatever the order of arrival: store.verify asks the reference."""
    segments, computed = [], []
    for i, pair in enumerate(PAIRS):
        try:
            catalogue_of_one = catalogue(pair.rule)
            explain(pair.rule, catalogue_of_one)
            Hub(1, catalogue_of_one)
            segments.append(SegmentDefinition(f"s{i}", pair.rule))
        except RuleError:  # a value and no condition
            pass
        computed.append(ComputedAttribute(f"c{i}", pair.rule))
    made = catalogue()
    made = type(made)(
        1, made.namespaces, made.schemas, made.datasets,
        made.segments | {s.name: s for s in segments},
        made.computed | {c.name: c for c in computed},
    )  # fmt: skip
    hub = Hub(1, made)
    (partition,) = hub.partitions
    visits = sorted(VISITS, key=lambda row: row["at"], reverse=late)
    for place, row in enumerate(visits):
        hub.submit([("visits", "v", [row])], NOW - 50 * DAY if not late and place == 0 else NOW)
        if place == 4:
            hub.submit([("crm", "c", PEOPLE)], NOW)
    for ahead in (0, 1, HOUR, 3 * DAY, 40 * DAY):
        hub.submit([("crm", "c", [])], NOW + ahead)
        while partition.work(1000):
            pass
        assert partition.verify() == []
        assert partition.state.book.pending == {}
