"""No text is worse than a RuleError: broken rules parsed, checked and evaluated."""

from __future__ import annotations

import contextlib
import random
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from profile_actors.definitions.declared import Schema
from profile_actors.errors import RuleError
from profile_actors.rules.catalogue.on_documents import evaluate
from profile_actors.rules.language.checker import check
from profile_actors.rules.language.parser import parse
from profile_actors.rules.language.types import union_scope

GOLDEN = Path(__file__).parents[1] / "golden" / "reference"
RULES = [
    line.rsplit(" => ", 1)[0]
    for path in sorted(GOLDEN.glob("*.txt"))
    for line in path.read_text(encoding="utf-8").splitlines()
    if " => " in line and line[0] not in "#@"
]
WORDS = sorted({word for rule in RULES for word in rule.replace("(", " ( ").split()})
SCOPE = union_scope(
    [
        Schema("e", "event", {"a": "integer", "items[].sku": "string", "m": "map<double>"}),
        Schema("r", "record", {"t": "timestamp", "s": "string", "list": "integer[]"}),
    ]
)
PROFILE = {"i": 7, "s": "text", "list": [1, 2, 3], "o": {"a": {"b": 1}}, "m": {"k": 1}}
EVENTS = [
    {
        "_id": str(n),
        "timestamp": n * 86_400_000,
        "eventType": "buy",
        "a": n,
        "items": [{"sku": "x"}],
    }
    for n in range(4)
]


def survives(rule: str) -> None:
    """Parse, check and evaluate; anything but a value or a RuleError fails the test."""
    started = time.thread_time()  # of this thread alone: the machine may be busy
    with contextlib.suppress(RuleError):
        check(parse(rule), SCOPE, "segment", rule)
    with contextlib.suppress(RuleError):
        evaluate(rule, PROFILE, EVENTS, now=5 * 86_400_000)
    took = time.thread_time() - started
    assert took < 10, f"{took:.1f} s for {rule[:200]}"


@given(st.text(max_size=60))
def test_any_text(text: str) -> None:
    survives(text)


@given(st.lists(st.sampled_from([*WORDS, "(", ")", "[", "]", ",", "."]), max_size=14))
def test_any_words(words: list[str]) -> None:
    survives(" ".join(words))


@settings(max_examples=200)
@given(st.sampled_from(RULES), st.randoms(use_true_random=False))
def test_mutated_rules(rule: str, rng: random.Random) -> None:
    for _ in range(rng.randint(1, 4)):
        at = rng.randrange(len(rule) + 1)
        end = min(len(rule), at + rng.randint(0, 6))
        other = rng.choice(RULES)
        start = rng.randrange(len(other) + 1)
        piece = rng.choice(["", other[start : start + rng.randint(0, 12)], rng.choice(WORDS)])
        rule = rule[:at] + piece + rule[end:]
    survives(rule)


@pytest.mark.parametrize(
    ("opening", "closing"),
    [("(", ")"), ("not ", ""), ("xEvent[", "]"), ("a + (", ")"), ("[", "]"), ("if(true, ", ", 1)")],
)
@pytest.mark.parametrize("depth", [20, 95, 99, 100, 101, 500])
def test_any_depth(opening: str, closing: str, depth: int) -> None:
    survives(opening * depth + "a" + closing * depth)
    survives(opening * depth)
