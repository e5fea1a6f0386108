"""Joins and sequences over kept events at their edges, by hand: gaps to the millisecond, equal
times, which choice goes on. Each case also has the reference evaluator's answer."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

import profile_actors as pf
from profile_actors.definitions.declared import SegmentDefinition
from tests.model.hub import BASE, CATALOGUE, Hub

GAP = 30 * 60_000
VIEW, BUY = 'V from xEvent[eventType = "view"]', 'B from xEvent[eventType = "buy"]'
WITHIN = "B.timestamp occurs <= 30 minutes {} V.timestamp"
CHAIN = "CHAIN(xEvent, timestamp, [{}])"
Line = list[tuple[int, str, str]]


def join(condition: str) -> str:
    """Some view and some buy of one place that meet the condition."""
    return f"exists {VIEW}, {BUY} where B.place = V.place and {condition}"


def pair(gap: int) -> Line:
    """A view, and a buy of the same place so many ms later; beside them another, of elsewhere."""
    return [(GAP, "view", "oslo"), (GAP + gap, "buy", "oslo"), (GAP, "buy", "rome")]


def edges(condition: str, inside: list[int], outside: list[int]) -> list[Any]:
    rows = [(gap, True) for gap in inside] + [(gap, False) for gap in outside]
    return [(join(condition), pair(gap), expected) for gap, expected in rows]


FIRST_OF_TWO = CHAIN.format(
    'A: WHAT(eventType = "view"), B: WHAT(eventType = "buy" and place = A.place),'
    ' C: WHAT(eventType = "call")'
)
TWICE = CHAIN.format('A: WHAT(eventType = "view") COUNT(2), B: WHAT(eventType = "buy")')
NAMED_TWICE = CHAIN.format(
    'A: WHAT(eventType = "view") COUNT(2), B: WHAT(eventType = "buy" and place = A.place)'
)
CASES = [
    *edges(WITHIN.format("after"), [0, 1, GAP], [-1, GAP + 1]),
    *edges(WITHIN.format("before"), [0, -1, -GAP], [1, -GAP - 1]),
    *edges("B.timestamp <= V.timestamp", [0, -1], [1]),
    *edges("B.timestamp < V.timestamp", [-1], [0, 1]),
    *edges("B.timestamp >= V.timestamp", [0, 1], [-1]),
    *edges("B.timestamp > V.timestamp", [1], [0, -1]),
    *edges("B.timestamp = V.timestamp", [0], [1, -1]),
    *edges("V.timestamp < B.timestamp", [1], [0, -1]),
    # The buy of rome comes first; only after it is there still a call.
    (
        FIRST_OF_TWO,
        [(0, "view", "oslo"), (1, "view", "rome"), (2, "buy", "rome"), (5, "call", ""),
         (10, "buy", "oslo")],
        True,
    ),
    (
        FIRST_OF_TWO,
        [(0, "view", "oslo"), (1, "view", "rome"), (5, "call", ""), (6, "buy", "rome"),
         (10, "buy", "oslo")],
        False,
    ),
    (TWICE, [(0, "view", "oslo"), (1, "buy", "oslo"), (2, "view", "oslo")], False),
    (TWICE, [(0, "view", "oslo"), (1, "view", "oslo"), (2, "buy", "oslo")], True),
    (TWICE, [(0, "view", "oslo"), (1, "view", "oslo"), (1, "buy", "oslo")], False),
    # Any earlier view may be the first of the two: the second is the one that has the name.
    (NAMED_TWICE, [(0, "view", "oslo"), (1, "view", "rome"), (2, "buy", "oslo")], False),
    (
        NAMED_TWICE,
        [(0, "view", "rome"), (1, "view", "rome"), (2, "view", "oslo"), (3, "buy", "oslo")],
        True,
    ),
]  # fmt: skip


@pytest.mark.parametrize(("rule", "line", "expected"), CASES)
def test_edges(rule: str, line: Line, expected: bool) -> None:
    catalogue = msgspec.structs.replace(
        CATALOGUE, segments={"it": SegmentDefinition("it", rule)}, computed={}
    )
    hub = Hub(1, catalogue)
    (partition,) = hub.partitions
    assert not partition.state.book.rescans, "the test is of kept events"
    events = [
        {"who": "a", "_id": f"{n}", "at": BASE + at, "kind": kind, "place": place}
        for n, (at, kind, place) in enumerate(line)
    ]
    hub.submit([("hits", "p", events)], BASE + 2 * GAP + 10)
    documents = [
        {"eventType": kind, "timestamp": BASE + at, "place": place} for at, kind, place in line
    ]
    assert pf.evaluate(rule, events=documents, now=BASE + 2 * GAP + 10)[0] is expected
    assert (partition.count("it") == 1) is expected
    assert partition.verify() == []
