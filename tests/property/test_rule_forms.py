"""Text, canonical text and JSON tree of a rule are one rule, over rules from the whole grammar."""

from __future__ import annotations

import json
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

import profile_actors as pf
from profile_actors.rules.language.parser import parse
from tests.property.grammar import Grammar
from tests.property.test_rule_fuzz import RULES


def check_forms(text: str) -> None:
    """The laws of ``format_rule``, ``rule_to_json`` and ``rule_from_json``."""
    tree = parse(text)
    canonical = pf.format_rule(text)
    assert parse(canonical) == tree, (text, canonical)
    assert pf.format_rule(canonical) == canonical
    exchanged = json.loads(json.dumps(pf.rule_to_json(text)))
    assert pf.rule_from_json(exchanged) == canonical
    assert pf.rule_to_json(canonical) == exchanged


@given(st.integers(0, 1 << 40))
def test_generated_rules(seed: int) -> None:
    check_forms(Grammar(random.Random(seed)).rule())


def test_golden_rules() -> None:
    assert len(RULES) > 150
    for rule in RULES:
        try:
            parse(rule)
        except pf.RuleError:
            continue
        check_forms(rule)


def node_paths(node: object, path: tuple[object, ...] = ()) -> list[tuple[object, ...]]:
    """The paths of all values within a JSON tree."""
    items = node.items() if isinstance(node, dict) else []
    items = list(enumerate(node)) if isinstance(node, list) else list(items)
    return [path, *(found for key, part in items for found in node_paths(part, (*path, key)))]


BROKEN: tuple[object, ...] = (
    None,
    3,
    "x",
    [],
    {},
    {"nodeType": "fnApply"},
    {"nodeType": "literal", "value": 1},
    "delete",
)


@given(st.integers(0, 1 << 40), st.randoms(use_true_random=False), st.sampled_from(BROKEN))
def test_broken_trees_are_rule_errors(seed: int, rng: random.Random, broken: object) -> None:
    tree = json.loads(json.dumps(pf.rule_to_json(Grammar(random.Random(seed)).rule())))
    path = rng.choice(node_paths(tree))
    owner = tree
    for key in path[:-1]:
        owner = owner[key]
    if not path:
        tree = broken
    elif broken == "delete":
        del owner[path[-1]]
    else:
        owner[path[-1]] = broken
    try:
        text = pf.rule_from_json(tree)
    except pf.RuleError:
        return
    # What is still a tree means what its text means.
    assert pf.rule_from_json(pf.rule_to_json(text)) == text


def test_a_tree_without_end_is_refused() -> None:
    tree: dict[str, object] = {"nodeType": "fnApply", "fnName": "not"}
    tree["params"] = [tree]
    with pytest.raises(pf.RuleError, match="too deep"):
        pf.rule_from_json(tree)
    wide: dict[str, object] = {"nodeType": "parameterReference", "position": 1}
    for _ in range(60):
        wide = {"nodeType": "fnApply", "fnName": "and", "params": [wide, wide]}
    with pytest.raises(pf.RuleError, match="too large"):
        pf.rule_from_json(wide)
