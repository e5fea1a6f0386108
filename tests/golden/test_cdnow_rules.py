"""The demo's own rules, by the reference evaluator, against brute force over the file."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

import pytest
import yaml

from profile_actors.rules.catalogue.on_documents import evaluate
from tests.golden.cdnow_oracle import DAY_MS, DEFINITIONS, TABLE, at, oracle, purchases

DECLARED = yaml.safe_load(DEFINITIONS.read_text(encoding="utf-8"))
CUSTOMERS = 150


@pytest.fixture(scope="module")
def histories() -> dict[str, list[dict[str, Any]]]:
    out: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for customer, when, cds, dollars in purchases():
        out[customer].append(
            {
                "timestamp": when,
                "eventType": "purchase",
                "number_of_cds": cds,
                "dollar_value": dollars,
            }
        )
    return {name: out[name] for name in sorted(out)[:: len(out) // CUSTOMERS]}


@pytest.mark.parametrize("day", TABLE)
def test_segments(day: str, histories: dict[str, list[dict[str, Any]]]) -> None:
    expected = oracle(at(day)).members
    for segment in DECLARED["segments"]:
        for customer, events in histories.items():
            value, until = evaluate(segment["rule"], events=events, now=at(day))
            claim = f"{segment['name']} of {customer} on {day}"
            assert value == (customer in expected[segment["name"]]), claim
            assert until is None or until > at(day), claim


@pytest.mark.parametrize("day", TABLE)
def test_computed_attributes(day: str, histories: dict[str, list[dict[str, Any]]]) -> None:
    expected = oracle(at(day)).computed
    for attribute in DECLARED["computed_attributes"]:
        for customer, events in histories.items():
            value, _ = evaluate(attribute["rule"], events=events, now=at(day))
            assert value == expected[customer][attribute["name"]], (attribute["name"], customer)


def test_valid_until_is_when_brute_force_flips(
    histories: dict[str, list[dict[str, Any]]],
) -> None:
    """At its valid_until, not a millisecond before, the oracle's answer changes by time alone."""
    now = at("1998-06-30") + DAY_MS  # all purchases are in the past
    rule = next(s["rule"] for s in DECLARED["segments"] if s["name"] == "week-since")
    flips = 0
    for customer, events in histories.items():
        value, until = evaluate(rule, events=events, now=now)
        if until is None:
            assert value is True, customer
            continue
        flips += 1
        assert customer not in oracle(until - 1).members["week-since"]
        assert customer in oracle(until).members["week-since"]
    assert flips > 0
