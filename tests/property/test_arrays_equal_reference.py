"""Law L3 for rules over kept events: frames, joins and sequences mean what the rule means.

A plan is run over kept events that are made from documents in the most obvious way, for several
profiles and instants at once, and compared with the reference evaluator: the values, and that none
differs before the boundary that the plan names.
"""

from __future__ import annotations

import datetime
import random
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, reject
from hypothesis import strategies as st

import profile_actors as pf
from profile_actors.columnar.lists import KeptRows, take_vector
from profile_actors.columnar.vectors import FOREVER, Array, Vector, column, truth
from profile_actors.rules.catalogue.catalogue_plan import plan
from profile_actors.rules.catalogue.one_rule import plan_alone, with_rule
from profile_actors.rules.catalogue.typed_rules import check_all
from profile_actors.rules.evaluation.horizons import next_boundary
from profile_actors.rules.evaluation.planned_values import plain_values, vector_of
from profile_actors.rules.evaluation.scalars import scalar_vector as evaluate_flat
from profile_actors.rules.evaluation.windows import interval
from profile_actors.rules.reference.validity import evaluate_with_candidate
from profile_actors.rules.tree.kinds import path
from profile_actors.rules.tree.nodes import Node
from profile_actors.rules.tree.plan import (
    Aggregate,
    AggregateLeaf,
    AttributeLeaf,
    EventFilter,
    Kept,
    Plan,
)
from tests.property.array_rules import ArrayRules
from tests.property.test_plan_equals_reference import folded

RULES = (Path(__file__).parent / "array_rules.txt").read_text(encoding="utf-8").splitlines()
RESCANNED = ("xEvent.isNull()",)
ARROW = {
    "timestamp": pa.int64(),
    "eventType": pa.string(),
    "campaignID": pa.string(),
    "amount": pa.float64(),
    "n": pa.int64(),
    "ok": pa.bool_(),
    "at": pa.int64(),
}
EVENT = pf.Schema(
    "visit",
    "event",
    {
        "campaignID": "string",
        "amount": "double",
        "n": "integer",
        "ok": "boolean",
        "at": "timestamp",
    },
)
PERSON = pf.Schema("person", "record", {"city": "string", "score": "integer"})
CATALOGUE = pf.Catalogue(schemas={"visit": EVENT, "person": PERSON})
BASE = 1_700_000_000_000
MINUTE = 60_000
CANDIDATES = 60
"""Instants before a boundary at which the reference is asked again."""

Document = dict[str, Any]


def events_of(rng: random.Random, most: int) -> list[Document]:
    """One profile's events in order, many of them at equal times or at the edges of windows."""
    found: list[Document] = []
    for place in range(rng.randint(0, most)):
        minutes = rng.choice([0, 0, 10, 29, 30, 31, 60, 600, 1440, 3000]) + rng.randrange(3)
        event: Document = {
            "timestamp": BASE + minutes * MINUTE + rng.choice([0, 0, 1, -1]),
            "eventType": rng.choice(["view", "explore", "purchase"]),
            "_id": f"{place:03d}",
        }
        drawn = {
            "campaignID": rng.choice("abcd"),
            "amount": rng.choice([1.0, 2.5, 100.0, 0.1, 0.2, -0.0, 1e300]),
            "n": rng.choice([0, 1, 2, 3, -5]),
            "ok": rng.choice([True, False]),
            "at": BASE + rng.choice([0, 10, 30]) * MINUTE,
        }
        event |= {name: value for name, value in drawn.items() if rng.random() < 0.7}
        found.append(event)
    return sorted(found, key=lambda event: (event["timestamp"], event["_id"]))


def document(event: Document) -> Document:
    """The event as the reference takes it, its instants as datetimes."""
    start = datetime.datetime.fromtimestamp(0, datetime.UTC)
    instants = {
        name: start + datetime.timedelta(milliseconds=event[name])
        for name in ("timestamp", "at")
        if name in event
    }
    return event | instants


class Rows:
    """Kept events made from documents. events: per row of the frame, in order."""

    def __init__(self, events: list[list[Document]], of: EventFilter) -> None:
        flat = [(owner, event) for owner, mine in enumerate(events) for event in mine]
        self.documents = [event for _, event in flat]
        owner = np.array([owner for owner, _ in flat], np.intp)
        kept = np.ones(len(flat), np.bool_)
        if of.predicate is not None and len(flat):
            kept = truth(evaluate_flat(of.predicate, self.leaf, len(flat), 0))
        self._index = np.flatnonzero(kept)
        self.owner: Array = owner[self._index]
        self.time: Array = self.column("timestamp").values
        self.enter: Array = self.time
        self.leave: Array | None = None
        if of.window:
            self.enter, self.leave = interval(of.window, self.time)

    @property
    def max_enter(self) -> int:
        """No event enters later."""
        return int(self.enter.max()) if len(self.enter) else -FOREVER

    def leaf(self, node: Node) -> Vector:
        """A field of all events, the ones that are not kept too."""
        name = path(node)
        assert name is not None, node
        values = [event.get(name) for event in self.documents]
        return column(pa.array(values, ARROW[name]))

    def column(self, path: str) -> Vector:
        """A field of the kept events."""
        values = [event.get(path) for event in self.documents]
        return take_vector(column(pa.array(values, ARROW[path])), self._index)

    def value(self, node: Node) -> Vector:
        """An expression of each kept event."""
        return take_vector(evaluate_flat(node, self.leaf, len(self.documents), 0), self._index)


class World:
    """Several profiles, each at an instant of its own: what a plan's leaves read."""

    def __init__(self, seed: int, rows: int = 5, most: int = 8) -> None:
        rng = random.Random(seed)
        self.events = [events_of(rng, most) for _ in range(rows)]
        self.records: list[Document] = [
            {"city": rng.choice([None, *"ab"]), "score": rng.choice([None, 0, 1, 5])}
            for _ in range(rows)
        ]
        minutes = [0, 30, 31, 60, 1500, 10_000]
        drawn = [BASE + rng.choice(minutes) * MINUTE + rng.choice([-1, 0, 1]) for _ in range(rows)]
        self.nows = np.array(drawn, np.int64)

    def leaf(self, node: Node) -> Vector | KeptRows:
        """Kept events, aggregates and attributes."""
        if isinstance(node, Kept):
            return Rows(self.events, node.filter)
        if isinstance(node, AggregateLeaf):
            return self.aggregate(node.aggregate)
        assert isinstance(node, AttributeLeaf), node
        kind = pa.string() if node.path == "city" else pa.int64()
        return column(pa.array([record[node.path] for record in self.records], kind))

    def aggregate(self, aggregate: Aggregate) -> Vector:
        """Recomputed from the events that count."""
        rows = Rows(self.events, aggregate.filter)
        now = self.nows[rows.owner]
        counts = rows.enter <= now
        if rows.leave is not None:
            counts &= rows.leave > now
        values: list[Any] = [1] * len(rows.owner)
        if aggregate.value is not None and len(values):
            vector = rows.value(aggregate.value)
            values = plain_values(vector, None)
            counts &= np.array([value is not None for value in values], np.bool_)
        mine: list[list[Any]] = [[] for _ in self.events]
        for place in np.flatnonzero(counts).tolist():
            mine[rows.owner[place]].append(values[place])
        found = [folded(aggregate, some) for some in mine]
        present = np.array([part.valid is None or bool(part.valid[0]) for part in found])
        return Vector(np.concatenate([part.values for part in found]), present)

    def flips(self, made: Plan) -> Array:
        """Per row the next instant at which an event enters or leaves an aggregate."""
        first = np.full(len(self.nows), FOREVER, np.int64)
        for aggregate in made.aggregates:
            rows = Rows(self.events, aggregate.filter)
            for instants in [rows.enter] + ([] if rows.leave is None else [rows.leave]):
                later = instants > self.nows[rows.owner]
                np.minimum.at(first, rows.owner[later], instants[later])
        return first


def asked(tree: Node, world: World, row: int, now: int, is_segment: bool) -> tuple[Any, int | None]:
    """The reference's value and next candidate."""
    record = {name: value for name, value in world.records[row].items() if value is not None}
    events = [document(event) for event in world.events[row]]
    value, candidate = evaluate_with_candidate(
        tree, record, events, now, {}, {}, is_segment, in_order=True
    )
    return (bool(value) if is_segment else value), candidate


def planned(text: str, as_value: bool) -> tuple[Node, Plan, bool]:
    """The rule's tree, its plan, and whether it is a segment's: if it can be one and is not asked
    for as a value."""
    if not as_value:
        trees, key = with_rule(text, CATALOGUE)
        return trees[key], plan_alone(text, CATALOGUE), key[0] == "segment"
    attribute = {"c": pf.ComputedAttribute("c", text)}
    catalogue = msgspec.structs.replace(CATALOGUE, computed=attribute)
    return check_all(catalogue)["computed", "c"], plan(catalogue), False


def check(text: str, seed: int) -> list[Any] | None:
    """The rule's values in a world, after comparing them; None where the rule is rescanned."""
    tree, made, is_segment = planned(text, seed % 2 == 1)
    if made.rescans:
        return None
    (rule,) = made.rules
    world = World(seed)
    seen: list[Any] = []
    bounds = world.nows
    for instants in ("drawn", "before", "at"):
        if instants != "drawn":
            # A boundary may be far: the year 2100 and forever are as good as any later instant.
            world.nows = np.minimum(bounds - (instants == "before"), BASE * 2)
        nows = world.nows
        values = plain_values(vector_of(rule.root, world.leaf, len(nows), nows), rule.root.type)
        if instants == "drawn":
            bounds = np.minimum(next_boundary(rule.root, world.leaf, nows), world.flips(made))
            assert (bounds > nows).all()
        for row, now in enumerate(nows.tolist()):
            expected, candidate = asked(tree, world, row, now, is_segment)
            found = bool(values[row]) if is_segment else values[row]
            where = (text, seed, row, now, world.events[row], world.records[row])
            assert found == expected, where
            seen.append(found)
            if instants != "drawn":
                continue
            for _ in range(CANDIDATES):
                if candidate is None or candidate >= bounds[row]:
                    break
                later, after = asked(tree, world, row, candidate, is_segment)
                assert later == expected, (*where, "differs before its boundary", candidate)
                candidate = after
    return seen


@pytest.mark.parametrize("rule", RULES)
def test_known_rules(rule: str) -> None:
    seen = [check(rule, seed) for seed in range(6)]
    assert (None in seen) == (rule in RESCANNED)


def test_known_rules_come_out_either_way() -> None:
    assert len(RULES) >= 66
    outcomes = [value for rule in RULES for value in check(rule, 5) or ()]
    assert {True, False} <= {value for value in outcomes if isinstance(value, bool)}
    assert any(isinstance(value, dict) and value for value in outcomes)
    assert any(isinstance(value, list) and value for value in outcomes)


@given(st.integers(0, 1 << 40))
def test_generated_rules(seed: int) -> None:
    rule = ArrayRules(random.Random(seed)).rule()
    try:
        found = check(rule, seed)
    except pf.RuleError:
        found = None
    if found is None:
        reject()


def test_generated_rules_are_mostly_planned_over_kept_events() -> None:
    whole, kept = 0, 0
    for seed in range(300):
        try:
            made = plan_alone(ArrayRules(random.Random(seed)).rule(), CATALOGUE)
        except pf.RuleError:
            continue
        whole += not made.rescans
        kept += bool(made.histories)
    assert whole > 290
    assert kept > 220
