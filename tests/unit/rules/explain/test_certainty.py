"""Conditions with one outcome are known as such, and never wrongly."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from profile_actors.rules.catalogue.on_documents import evaluate
from profile_actors.rules.explain.certainty import certain
from profile_actors.rules.language.parser import parse

DAY = 86_400_000

ALWAYS_FALSE = (
    "false",
    "false and a",
    "not true",
    "a and not a",
    'eventType = "a" and eventType = "b"',
    'xEvent[eventType = "a" and eventType = "b"]',
    'xEvent[eventType = "a"][eventType in ["b", "c"]].count() > 0',
    'xEvent[n in ["a"] and n notIn ["a", "b"]]',
    "x > 5 and x < 3",
    "x > 5 and x <= 5",
    "x >= 5 and (y or z) and 5 > x",
    "x = 3 and x > 4",
    "x in [1, 2] and x > 2",
    "x = 1 and isNull(x)",
    "xEvent[x > 5 and x < 3].sum(x) > 1",
    "xEvent[false].max(x) >= 0",
    "xEvent.count() < 0",
    "xEvent.count() = 1.5",
    "0 > xEvent.count()",
    "isNull(xEvent.count())",
    "exists E from xEvent where E.x = 1 and E.x = 2",
    "exists E from xEvent where E.x, I from E.items where I.n < 1 and I.n > 1",
    "xEvent[timestamp occurs <= 1 day before now and timestamp occurs > 2 days before now]",
    "xEvent[timestamp occurs < 0 days before now]",
    "xEvent[timestamp occurs between date(2024, 2, 1) and date(2024, 1, 1)]",
    "t occurs before date(2024, 1, 1) and t occurs after date(2024, 1, 1)",
    'CHAIN(xEvent, timestamp, [A: WHAT(n = 1), B: WHAT(n = 2 and n = 3)])',
    'CHAIN(xEvent[n = 1], timestamp, [A: WHAT(n = 2)])',
    "(select V from xEvent where V.n = 1 and V.n = 2).count() > 0",
    "[]",
    "if(true, false, a)",
    "let S = (1) in a and not a",
)  # fmt: skip
ALWAYS_TRUE = (
    "true",
    "a or true",
    "a or not a",
    "not (x > 5 and x < 3)",
    "xEvent.count() >= 0",
    "xEvent.count() > -1",
    "xEvent.count() != -2",
    "xEvent[false].count() = 0",
    "xEvent[false].sum(x) < 1",
    "isNotNull(xEvent.count())",
    "forall E from xEvent[false] where E.n = 1",
    "forall E from xEvent where true",
    "if(a, true, 1 = 1 or true)",
)
OPEN = (
    "a",
    "x > 3 and x < 5",
    "x >= 5 and x <= 5",
    "x != 1 and x != 2",
    "x > 9007199254740992 and x <= 9007199254740993",
    'a = "x" or a = "y"',
    "x > 5 or x <= 5",
    "xEvent.count() > 0",
    "xEvent[timestamp occurs <= 2 days before now and timestamp occurs > 1 day before now]",
    "xEvent[n = 1].count() > 0 and xEvent[n = 2].count() > 0",
    "xEvent[n = 1 and ^.n = 2]",
    "exists E from xEvent where E.n = 1, F from xEvent where F.n = 2",
    "not CHAIN(xEvent, timestamp, [A: WHAT(n = 1), B: WHAT(n = 2)])",
)


@pytest.mark.parametrize("rule", ALWAYS_FALSE)
def test_always_false(rule: str) -> None:
    assert certain(parse(rule)) is False


@pytest.mark.parametrize("rule", ALWAYS_TRUE)
def test_always_true(rule: str) -> None:
    assert certain(parse(rule)) is True


@pytest.mark.parametrize("rule", OPEN)
def test_not_known(rule: str) -> None:
    assert certain(parse(rule)) is None


def test_segments_are_looked_into() -> None:
    trees = {"no": parse("false"), "deep": parse('inSegment("no") or false')}
    assert certain(parse('not inSegment("deep")'), trees) is True
    assert certain(parse('inSegment("other")'), trees) is None


def condition(rng: random.Random, depth: int) -> str:
    """A condition on an element with fields n, x, p, t, made to meet its own contradiction."""
    pick = rng.random()
    if depth and pick < 0.45:
        return f" {rng.choice(('and', 'and', 'or'))} ".join(
            f"({condition(rng, depth - 1)})" for _ in range(rng.randint(2, 3))
        )
    if depth and pick < 0.55:
        return f"not ({condition(rng, depth - 1)})"
    if depth and pick < 0.65:
        fold = rng.choice(("count()", "sum(n)", "max(x)"))
        events = f"xEvent[{condition(rng, depth - 1)}]"
        return f"{events}.{fold} {rng.choice('<>=')} {rng.choice((0, 1))}"
    operator = rng.choice(("=", "!=", "<", "<=", ">", ">="))
    span = rng.choice(("1 day", "24 hours", "2 days", "0 days"))
    return rng.choice((
        f"{rng.choice('nx')} {operator} {rng.choice((0, 1, 2, 1.0, 0.5))}",
        f"n {rng.choice(('in', 'notIn'))} [{rng.choice(('0, 1', '1', '2, 0.0', ''))}]",
        f'p {rng.choice(("=", "!="))} "{rng.choice("ab")}"',
        f"isNull({rng.choice('nxp')})",
        f"timestamp occurs {rng.choice(('<', '<=', '>', '>='))} {span} before"
        f" {rng.choice(('now', 'today'))}",
        f"timestamp occurs {rng.choice(('before', 'after'))} date(1970, 1, {rng.choice((2, 3))})",
        f"timestamp occurs between date(1970, 1, {rng.choice((2, 3))}) and date(1970, 1, 3)",
    ))  # fmt: skip


@given(st.integers(0, 1 << 40))
def test_no_certainty_is_wrong(seed: int) -> None:
    rng = random.Random(seed)
    rule = condition(rng, 3)
    outcome = certain(parse(rule))
    for _ in range(6 if outcome is not None else 0):
        documents = [
            {
                "n": rng.choice((None, 0, 1, 2)),
                "x": rng.choice((None, 0.0, 0.5, 1.0, 3)),
                "p": rng.choice((None, "a", "b")),
                "timestamp": rng.choice((0, DAY, DAY + 1, 2 * DAY, 3 * DAY - 1)),
            }
            for _ in range(3)
        ]
        # The profile's timestamp is a plain document's, hence given as a time.
        profile = documents[0] | {"timestamp": None}
        value, until = evaluate(rule, profile, documents[1:], now=3 * DAY)
        assert (value is True) == outcome, (rule, documents)
        assert until is None
