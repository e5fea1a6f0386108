"""Law L3 for the planner: aggregates, windows and what is left of a rule mean what the rule means.

A plan is run here in the most obvious way (every aggregate recomputed from the events at every
instant, through ``windows.interval`` and the vectorised predicate) and compared with the reference
evaluator at instants around every boundary.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pyarrow as pa
from hypothesis import given, settings
from hypothesis import strategies as st

from profile_actors.columnar.time_units import DAY_MS
from profile_actors.columnar.vectors import Vector, column, truth
from profile_actors.definitions.declared import Schema
from profile_actors.rules.evaluation.horizons import next_boundary
from profile_actors.rules.evaluation.planned_values import vector_of
from profile_actors.rules.evaluation.scalars import Leaf
from profile_actors.rules.evaluation.trial import Trial
from profile_actors.rules.evaluation.windows import interval
from profile_actors.rules.language.checker import check
from profile_actors.rules.language.parser import parse
from profile_actors.rules.language.types import union_scope
from profile_actors.rules.planning.catalogue_planner import plan_trees
from profile_actors.rules.reference.validity import value_at as reference
from profile_actors.rules.semantics import calendar
from profile_actors.rules.tree.kinds import path
from profile_actors.rules.tree.nodes import Node
from profile_actors.rules.tree.plan import Aggregate, AggregateLeaf, AttributeLeaf, Plan

DAY = DAY_MS
BASE = calendar.from_civil(2024, 2, 29, 12) or 0
ARROW = {
    "eventType": pa.string(),
    "timestamp": pa.timestamp("ms"),
    "f": pa.string(),
    "p": pa.float64(),
    "q": pa.int64(),
    "o.r": pa.int64(),
}

timestamps = st.builds(
    lambda days, ms: BASE + days * DAY + ms, st.integers(-70, 10), st.sampled_from([-1, 0, 1, 5])
)
events = st.fixed_dictionaries(
    {
        "eventType": st.sampled_from(["buy", "view"]),
        "timestamp": timestamps,
        "f": st.none() | st.sampled_from(["x", "y", "z"]),
        "p": st.none() | st.sampled_from([0.1, 0.2, 0.3, -1.0, 7.5]),
        "q": st.none() | st.integers(-2, 3),
        "o.r": st.none() | st.integers(0, 2),
    }
)
comparisons = st.sampled_from(["=", "!=", "<", "<=", ">", ">="])
units = st.sampled_from(["day", "week", "month", "hour", "year", "quarter"])
times = st.one_of(
    st.sampled_from(["now", "today", "yesterday", "tomorrow", "date(2024, 2, 10)"]),
    st.builds("{} {}".format, st.sampled_from(["this", "last", "next"]), units),
)
fixed = st.one_of(
    st.sampled_from(
        [
            'eventType = "buy"',
            '"view" = eventType',
            'eventType in ["buy", "other"]',
            'eventType.equals("buy")',
            "not (p > 0.15)",
            "isNull(f)",
            'f != "x" and q > 0',
            "q = 1 or o.r = 1",
            'not (q = 1 or f = "y")',
            "timestamp occurs after date(2024, 2, 1)",
            "p + q > 1",
        ]
    ),
    st.builds("q {} {}".format, comparisons, st.integers(0, 2)),
)
windows = st.one_of(
    st.builds(
        "timestamp occurs {} {} {} {} {}".format,
        st.sampled_from(["<", "<=", ">", ">=", "="]),
        st.integers(0, 9),
        units,
        st.sampled_from(["before", "after"]),
        times,
    ),
    st.builds("timestamp occurs {} {}".format, st.sampled_from(["on", "before", "after"]), times),
    st.builds("timestamp occurs between {} and {}".format, times, times),
    st.builds(
        "not (timestamp occurs {} {} {} before now)".format,
        st.sampled_from(["<", "<=", ">", ">="]),
        st.integers(0, 9),
        units,
    ),
    st.builds(
        "now occurs {} {} {} after timestamp".format,
        st.sampled_from(["<", "<=", ">", ">="]),
        st.integers(0, 9),
        st.sampled_from(["day", "week", "hour"]),
    ),
    st.builds(
        "timestamp {} {}".format, comparisons.filter("!=".__ne__), st.sampled_from(["now", "today"])
    ),
)
conditions = st.lists(st.one_of(fixed, windows), min_size=1, max_size=3).map(
    lambda found: " and ".join(f"({c})" for c in found)
)
sources = st.one_of(
    st.just("xEvent"),
    conditions.map("xEvent[{}]".format),
    st.tuples(conditions, fixed).map(lambda c: f"xEvent[{c[0]}].filter({c[1]})"),
)
numbers = st.one_of(
    sources.map("{}.count()".format),
    st.builds(
        "{}.{}({})".format,
        sources,
        st.sampled_from(["sum", "average", "min", "max"]),
        st.sampled_from(["p", "q", "E => E.p", "q + 1", "if(q > 0, p, q)", "o.r"]),
    ),
    st.builds("{}.{}.count()".format, sources, st.sampled_from(["f", "p", "o.r"])),
    st.builds(
        "{}.{}.distinct().count()".format, sources, st.sampled_from(["f", "q", "eventType", "o.r"])
    ),
    st.builds("{}.q.filter(Q => Q > 0).sum()".format, sources),
    st.builds("max V.p over V from {} where V.q > 0".format, sources),
    st.builds("(select V from {} where V.q > 0).f.distinct().count()".format, sources),
)
latest = sources.map("{}.max(timestamp)".format)
claims = st.one_of(
    st.builds("({}) {} {}".format, numbers, comparisons, st.sampled_from(["0", "1", "0.3", "2"])),
    st.builds(
        "{} occurs {} {} {} before {}".format,
        latest,
        st.sampled_from(["<", "<=", ">", ">=", "=", "!="]),
        st.integers(0, 9),
        units,
        times,
    ),
    st.builds("{} occurs {} {}".format, latest, st.sampled_from(["on", "before", "after"]), times),
    sources,
    st.builds("(exists V from {} where V.q > 0)".format, sources),
    st.builds("(forall V from {} where V.q > 0 or V.p < 0)".format, sources),
    st.builds('{}.f.includes("x")'.format, sources),
    st.builds("isNull(({}))".format, numbers),
    st.sampled_from(['a.b = "x"', "age > 3", "not (age > 3)"]),
)
rules = st.lists(claims, min_size=1, max_size=3).flatmap(
    lambda found: st.sampled_from([" and ", " or "]).map(lambda word: word.join(found))
)
profiles = st.fixed_dictionaries(
    {"a.b": st.none() | st.sampled_from(["x", "y"]), "age": st.none() | st.integers(2, 5)}
)


def document(flat: dict[str, Any]) -> dict[str, Any]:
    """Dotted keys as nested objects, nulls left out."""
    made: dict[str, Any] = {}
    for key, value in flat.items():
        *outer, name = key.split(".")
        into = made
        for step in outer:
            into = into.setdefault(step, {})
        if value is not None:
            into[name] = value
    return made


class PlanRunner:
    """One profile's events and attributes, every aggregate recomputed on demand."""

    def __init__(self, rows: list[dict[str, Any]], profile: dict[str, Any]) -> None:
        self.rows, self.profile = rows, profile
        self.columns = {
            name: column(pa.array([row[name] for row in rows], kind))
            for name, kind in ARROW.items()
        }

    def leaf(self, node: Node) -> Vector:
        name = path(node)
        assert name is not None
        return self.columns[name]

    def leaf_at(self, now: int) -> Leaf:
        def leaf(node: Node) -> Vector:
            if isinstance(node, AggregateLeaf):
                return self.aggregate(node.aggregate, now)
            assert isinstance(node, AttributeLeaf)
            kind = pa.string() if node.path == "a.b" else pa.int64()
            return column(pa.array([self.profile.get(node.path)], kind))

        return leaf

    def at(self, root: Node, now: int) -> Vector:
        return vector_of(root, self.leaf_at(now), 1, now)

    def aggregate(self, aggregate: Aggregate, now: int) -> Vector:
        count = len(self.rows)
        chosen = np.ones(count, np.bool_)
        if aggregate.filter.predicate is not None:
            chosen &= truth(vector_of(aggregate.filter.predicate, self.leaf, count, 0))
        if aggregate.filter.types is not None:
            named = [row["eventType"] in aggregate.filter.types for row in self.rows]
            assert not (chosen & ~np.array(named, np.bool_)).any(), (
                "types follow from the predicate"
            )
        enter, leave = interval(aggregate.filter.window, self.columns["timestamp"].values)
        chosen &= (enter <= now) & (now < leave)
        values: list[Any] = [1] * int(chosen.sum())
        if aggregate.value is not None:
            vector = vector_of(aggregate.value, self.leaf, count, 0)
            chosen &= True if vector.valid is None else vector.valid
            values = vector.values[chosen].tolist()
            if vector.dictionary is not None:
                values = [vector.dictionary[code] for code in values]
        return folded(aggregate, values)


def folded(aggregate: Aggregate, values: list[Any]) -> Vector:
    made: Any
    if aggregate.function == "count":
        made = len(values)
    elif aggregate.function == "distinct":
        made = len(set(values))
    elif aggregate.function == "sum":
        made = math.fsum(values) if aggregate.result.kind == "double" else sum(values)
    else:
        made = (min if aggregate.function == "min" else max)(values, default=None)
    kind = pa.float64() if aggregate.result.kind == "double" else pa.int64()
    return column(pa.array([made], kind))


SCOPE = union_scope(
    [
        Schema("event", "event", {"f": "string", "p": "double", "q": "integer", "o.r": "integer"}),
        Schema("person", "record", {"a.b": "string", "age": "integer"}),
    ]
)


def plan_of(text: str, kind: str = "segment") -> Plan:
    key = (kind, "r")
    return plan_trees({key: check(parse(text), SCOPE)}, {key: text}, Trial().failure)


def instants(runner: PlanRunner, plan: Plan, more: list[int]) -> list[int]:
    """Around every event, every end of every window, and the root's own boundaries."""
    found = set(more)
    times = runner.columns["timestamp"].values
    for window in [aggregate.filter.window for aggregate in plan.aggregates] or [()]:
        for ends in interval(window, times):
            found.update(end + d for end in ends.tolist() for d in (-1, 0, 1))
    root = plan.rules[0].root
    for start in sorted(found)[:8]:
        if calendar.in_range(start) is not None:
            boundary = next_boundary(root, runner.leaf_at(start), np.array([start], np.int64))
            found.update(int(boundary[0]) + d for d in (-1, 0, 1))
    return sorted(now for now in found if calendar.in_range(now) is not None)


@settings(max_examples=250, deadline=None)
@given(
    text=st.one_of(claims, rules),
    rows=st.lists(events, max_size=4),
    profile=profiles,
    more=st.lists(timestamps, min_size=1, max_size=2),
)
def test_segments(
    text: str, rows: list[dict[str, Any]], profile: dict[str, Any], more: list[int]
) -> None:
    plan = plan_of(text)
    runner = PlanRunner(rows, profile)
    documents, person = [document(row) for row in rows], document(profile)
    tree = check(parse(text), SCOPE)
    for now in instants(runner, plan, more):
        expected = bool(reference(tree, person, documents, now))
        assert truth(runner.at(plan.rules[0].root, now)).tolist() == [expected], (text, now)


@settings(max_examples=150, deadline=None)
@given(
    text=st.one_of(numbers, latest),
    rows=st.lists(events, max_size=4),
    more=st.lists(timestamps, min_size=1, max_size=2),
)
def test_computed_attributes(text: str, rows: list[dict[str, Any]], more: list[int]) -> None:
    plan = plan_of(text, "computed")
    runner = PlanRunner(rows, {})
    documents = [document(row) for row in rows]
    tree = check(parse(text), SCOPE)
    for now in instants(runner, plan, more):
        values, valid, _ = runner.at(plan.rules[0].root, now)
        found = None if valid is not None and not valid[0] else values[0].item()
        assert found == reference(tree, None, documents, now), (text, now)
