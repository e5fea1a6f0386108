"""What ``explain`` says of a join is what the join does: searched, asked before, or tried."""

from __future__ import annotations

import json
import random
from typing import Any

import pytest
from hypothesis import given, reject
from hypothesis import strategies as st

import profile_actors as pf
from profile_actors.columnar.vectors import Array
from profile_actors.rules.catalogue.one_rule import plan_alone
from profile_actors.rules.evaluation.joins import Found, Join
from profile_actors.rules.evaluation.planned_values import vector_of
from profile_actors.rules.explain.costs import Cost, Ways, ways_of_filter, ways_of_stage
from profile_actors.rules.explain.report import explain
from profile_actors.rules.explain.wording import render
from profile_actors.rules.language.unparse import unparse
from profile_actors.rules.tree.clock_reads import varies
from profile_actors.rules.tree.nodes import Each, Node
from profile_actors.rules.tree.plan import Sequence
from profile_actors.rules.tree.walks import conjuncts, walk
from tests.property.array_rules import ArrayRules
from tests.property.test_arrays_equal_reference import CATALOGUE, World

Told = tuple[list[str], list[str]]
Key = tuple[str, tuple[str, ...]]


def texts(claims: list[Node]) -> list[str]:
    return sorted(map(unparse, claims))


def key_of(name: str, claims: list[Node]) -> Key:
    return name, tuple(map(unparse, claims))


class Watched:
    """Joins as they happen: per join the conditions asked before the search, and after it."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.seen: dict[Key, Told] = {}
        self.asked: list[Node] = []
        found, spans = Join.found, Join._spans

        def watched_found(join: Join, conditions: list[Node], after: Array | None = None) -> Found:
            self.asked = list(conditions)
            return found(join, conditions, after)

        def watched_spans(join: Join, kept: Array, conditions: list[Node], *rest: Any) -> Any:
            asked = self.asked
            result = spans(join, kept, conditions, *rest)
            alone = [claim for claim in asked if claim not in conditions]
            self.seen[key_of(join.name, asked)] = (texts(alone), texts(result[3]))
            return result

        monkeypatch.setattr(Join, "found", watched_found)
        monkeypatch.setattr(Join, "_spans", watched_spans)


def told(root: Node) -> dict[Key, Ways]:
    """How explain says that each join of a plan goes."""
    ways: dict[Key, Ways] = {}
    for node in walk(root):
        if isinstance(node, Each) and node.function == "filter":
            claims = [claim for claim in conjuncts(node.body) if not varies(claim)]
            found = ways_of_filter(node)
            if found is not None:
                ways[key_of(node.variables[0], claims)] = found
        elif isinstance(node, Sequence):
            for stage in node.stages:
                claims = [] if stage.condition is None else conjuncts(stage.condition)
                ways[key_of(stage.name, claims)] = ways_of_stage(stage)
    return ways


def test_joins_go_as_they_are_explained(monkeypatch: pytest.MonkeyPatch) -> None:
    watched = Watched(monkeypatch)
    compared = tried = searched = 0
    for seed in range(400):
        rule = ArrayRules(random.Random(seed)).rule()
        try:
            plan = plan_alone(rule, CATALOGUE)
        except pf.RuleError:
            continue
        if plan.rescans:
            continue
        watched.seen.clear()
        world = World(seed)
        root = plan.rules[0].root
        vector_of(root, world.leaf, len(world.nows), world.nows)
        for key, ways in told(root).items():
            if key in watched.seen:  # else no profile came that far
                assert watched.seen[key] == (texts(ways.alone), texts(ways.tried)), (rule, key)
                compared += 1
                tried += bool(ways.tried)
                searched += bool(ways.equal or ways.between)
    assert compared > 150
    assert min(tried, searched) > 30


@given(st.integers(0, 1 << 40))
def test_any_rule_is_explained(seed: int) -> None:
    rule = ArrayRules(random.Random(seed)).rule()
    try:
        report = explain(rule, CATALOGUE)
    except pf.RuleError:
        reject()
    assert json.loads(json.dumps(report)) == report
    classes = [cost.words for cost in Cost]
    pending, worst = [report["plan"]], 0
    while pending:
        part = pending.pop()
        assert part["text"]
        assert part["how"]
        worst = max(worst, classes.index(part["cost"]))
        pending += part.get("parts", [])
    # Of parts told by their list's part, the cost shows in the whole only.
    assert classes.index(report["cost"]) >= worst or report["constant"] is not None
    assert all(len(line) < 200 for line in render(report).splitlines()[1:])
