"""No accepted rule is without an answer, and every answer is the reference evaluator's."""

from __future__ import annotations

from itertools import chain

import pytest

import profile_actors as pf
from profile_actors.rules.explain.report import explain
from profile_actors.rules.explain.wording import render
from profile_actors.rules.language.functions import EACH, FUNCTIONS, METHODS
from tests.enumeration.further import clock_forms
from tests.enumeration.rules import enumerated, forms, sampled
from tests.enumeration.store import CATALOGUE, Verdict, accepted, faults

NAMED = (
    # A list that is no literal, an attribute's or a field's.
    '"a" in computed.c_l_string',
    "ps notIn computed.c_l_string",
    "xEvent.count() in computed.c_l_integer",
    "xEvent[s in ^.computed.c_l_string].count() > 0",
    "xEvent[n notIn ^.computed.c_l_integer].count() > 0",
    "CHAIN(xEvent, timestamp, [A: WHAT(n notIn ^.computed.c_l_integer)])",
    "xEvent[n notIn items.qty].count() > 0",
    # List literals where a list stands.
    "[1, 2] = [1, 2]",
    "[pn, 2] = [1, 2]",
    '[ps] = ["a"]',
    'xEvent[["a"].intersects([s])].count() > 0',
    'xEvent[[s].subsetOf(["a","b"])].count() > 0',
    'xEvent[["a","b"].supersetOf([s])].count() > 0',
    'CHAIN(xEvent, timestamp, [A: WHAT(["a"].intersects([s]))])',
    "xEvent[[s]].count() > 0",
    "xEvent[[s] and b].count() > 0",
    "xEvent[not [n, 2]].count() > 0",
    "[ps]",
    "xEvent[isNull([s])].count() > 0",
    "isNull([ps])",
    'xEvent[["a"].head() = s].count() > 0',
    "[[1, 2], [pn]].count() = 2",
    "[[ps]].head() = [ps]",
    "[].head() = ps",
    "isNull([].head())",
    "[computed.c_m_integer].count()",
    "xEvent[not (xEvent.timestamp)].count() > 0",
    "xEvent.sum(if([t].supersetOf([timestamp]), n, x))",
    "xEvent.sum(if(not ([n, 2]), n, x))",
    # Nulls fall out of a list, so what is not in it is more than what is unlike its one element.
    "pn notIn [pn]",
    "1 notIn [pn]",
    '"x" notIn [ps]',
    "1 notIn [pn, 2]",
    "xEvent.count() notIn [pn]",
    "xEvent[1 notIn [n]].count() > 0",
    "xEvent[1 notIn [n, 2]].count() > 0",
    'xEvent["x" notIn [s]].count() > 0',
    "1 notIn []",
)
LONG = 41
"""The long form has every rule of so many."""
PARTS = 8


def told(found: list[Verdict]) -> str:
    """What is wrong, a line each."""
    return "\n".join(f"{one.how}: {one.rule}: {one.detail}" for one in found)


@pytest.mark.parametrize("defined_first", [True, False])
def test_named_rules_have_the_reference_answer(defined_first: bool) -> None:
    rules = accepted([("segment", rule) for rule in NAMED])
    assert len(rules) == len(NAMED)
    found, checks = faults(rules, defined_first)
    assert not found, told(found)
    assert checks >= 25 * len(NAMED)


@pytest.mark.parametrize("offset", [0, 700])
def test_rules_of_every_form_have_the_reference_answer(offset: int) -> None:
    rules = accepted(sampled(2819, offset))
    found, checks = faults(rules, defined_first=offset == 0)
    assert not found, told(found)
    assert len(rules) > 50
    assert checks > 20 * len(rules)


@pytest.mark.slow
@pytest.mark.parametrize("part", range(PARTS))
def test_thousands_of_rules_have_the_reference_answer(part: int) -> None:
    rules = accepted(sampled(LONG, 13, clock_forms()))[part::PARTS]
    for begin in range(0, len(rules), 100):
        found, _ = faults(rules[begin : begin + 100], defined_first=begin // 100 % 2 == 0)
        assert not found, told(found)


def test_nearly_all_that_is_enumerated_is_accepted() -> None:
    some = sampled(701)
    assert len(accepted(some)) > 0.98 * len(some)
    assert sum(1 for _ in enumerated()) > 40 * 4_000


def test_explaining_any_of_them_never_fails() -> None:
    rules = [*NAMED, *(rule for _, rule in sampled(8009))]
    for rule in rules:
        report = explain(rule, CATALOGUE)
        assert render(report)
        assert report["incremental"] is (report["reason"] is None), rule


def test_everyday_rules_over_lists_of_attributes_run_as_events_come() -> None:
    for rule in NAMED[:3]:
        assert explain(rule, CATALOGUE)["runs"] == "over kept events", rule


def test_pf_evaluate_says_the_same_of_a_list_of_nulls() -> None:
    found = pf.evaluate('"x" notIn [ps]', {}, now=0)
    assert found == (True, None)


def test_every_function_of_the_language_is_among_the_forms() -> None:
    texts = " ".join(text.lower() for text, _, _ in chain(forms(), clock_forms()))
    missing = [name for name in (*METHODS, *EACH, *FUNCTIONS) if f"{name}(" not in texts]
    assert not missing
