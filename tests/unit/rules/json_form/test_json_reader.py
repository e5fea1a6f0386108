"""Conversion between rule text and JSON trees: the documented forms, and errors that say where."""

from __future__ import annotations

from typing import Any

import pytest

from profile_actors.errors import RuleError
from profile_actors.rules.json_form.json_writer import format_rule, rule_from_json, rule_to_json

PROFILE = {"nodeType": "parameterReference", "position": 1}
COUNTRY = {
    "nodeType": "fieldLookup",
    "fieldName": "country",
    "object": {"nodeType": "fieldLookup", "fieldName": "workAddress", "object": PROFILE},
}
US = {"nodeType": "literal", "literalType": "String", "value": "US"}
EQUAL = {"nodeType": "fnApply", "fnName": "=", "params": [COUNTRY, US]}


def test_the_trees_of_the_fields_tools() -> None:
    assert rule_to_json('workAddress.country = "US"') == EQUAL
    assert rule_from_json(EQUAL) == 'workAddress.country = "US"'
    # What other tools write for a profile, a list, a variable and a select is read as well.
    profile = {"nodeType": "literal", "literalType": "XDMObject", "value": "profile"}
    events = {"nodeType": "fieldLookup", "fieldName": "xEvent", "object": profile}
    kind = {
        "nodeType": "fieldLookup",
        "fieldName": "eventType",
        "object": {"nodeType": "varRef", "varName": "E"},
    }
    kinds = {"nodeType": "literal", "literalType": "List", "value": ["a", "b"]}
    where = {"nodeType": "fnApply", "fnName": "in", "params": [kind, kinds]}
    variable = {"nodeType": "varDecl", "varName": "E", "from": events, "where": where}
    tree = {"nodeType": "select", "variables": [variable]}
    assert rule_from_json(tree) == 'select E from xEvent where E.eventType in ["a", "b"]'


@pytest.mark.parametrize(
    ("text", "canonical"),
    [
        ("(P) => P.a.b=1", "a.b = 1"),
        ("NOT (a) AND ((b or c))", "not a and (b or c)"),
        ("xEvent.filter(a) // all\n", "xEvent[a]"),
        ("a.isNull() or b", "isNull(a) or b"),
        ("xEvent[^.a = 1 or ^.computed.c = 2]", "xEvent[$1.a = 1 or $1.computed.c = 2]"),
        ("xEvent[items[^.n = 1]]", "xEvent[items[^.n = 1]]"),
        ("let a = (1) in a = $1.a", "let a = (1) in a = $1.a"),
        ("`in` = `a-b` and `a` = 1", "`in` = `a-b` and a = 1"),
        ("t occurs < 1 WEEKS from now", "t occurs < 1 week after now"),
        ("t occurs = 2 centuries before today", "t occurs = 2 centuries before today"),
        ("t occurs today", "t occurs on today"),
        ("t occurs on (-x)", "t occurs on (-x)"),
        ("exists E from xEvent : E.a", "exists E from xEvent where E.a"),
        (
            "exists E from xEvent where (exists F from xEvent), G from E.b",
            "exists E from xEvent where (exists F from xEvent), G from E.b",
        ),
        ("a = 100000000000000000000000.0", "a = 100000000000000000000000.0"),
        ('a = "\\u0041\\u0007"', 'a = "A\\u0007"'),
        ("a - (b - c) - d", "a - (b - c) - d"),
        ("A => A.x", "x"),
        ("xEvent.map(`my v` => `my v`.a)", "xEvent.map(`my v` => `my v`.a)"),
    ],
)
def test_canonical_text(text: str, canonical: str) -> None:
    assert format_rule(text) == canonical


def node(function: str, *params: Any, **more: Any) -> dict[str, Any]:
    """An application."""
    return {"nodeType": "fnApply", "fnName": function, "params": list(params), **more}


def literal(kind: str, value: Any) -> dict[str, Any]:
    """A literal."""
    return {"nodeType": "literal", "literalType": kind, "value": value}


@pytest.mark.parametrize(
    ("tree", "words"),
    [
        (None, r"nodeType, got NoneType - at \$"),
        ({"nodeType": "fnAply"}, r"did you mean 'fnApply'\? - at \$"),
        ({"nodeType": "fnApply", "fnName": "="}, r"the key 'params'"),
        (EQUAL | {"parms": []}, r"'parms'.* - at \$"),
        (node("=", US), r"2 parameter\(s\) for =, got 1 - at \$\.params"),
        (node("and", US), r"at least 2"),
        (node("startWith", US, US), r"did you mean 'startsWith'"),
        (node("not", node("=", US, 3)), r"got 3 - at \$\.params\[0\]\.params\[1\]"),
        (literal("Integer", "1"), r"type Integer, got '1' - at \$\.value"),
        (literal("Integer", 1 << 63), r"64 bits"),
        (literal("Double", float("nan")), r"finite"),
        (literal("Colour", "red"), r"literalType"),
        (literal("Date", "2020-02-30"), r"YYYY-MM-DD"),
        (literal("Timestamp", "2020-02-01T00:00:00.001Z"), r"whole seconds"),
        (literal("List", [1, None]), r"at \$\.value\[1\]"),
        ({"nodeType": "parameterReference", "position": 2}, r"position 1"),
        ({"nodeType": "parameterReference", "level": 1}, r"from 0 to 0"),
        ({"nodeType": "parameterReference", "varName": "V"}, r"variable in scope, got 'V'"),
        ({"nodeType": "fieldLookup", "fieldName": "a`b", "object": PROFILE}, r"back-ticks"),
        ({"nodeType": "fieldLookup", "fieldName": "", "object": PROFILE}, r"\$\.fieldName"),
        (node("occurs", US, US, form="at"), r"form distance.*\$\.form"),
        (node("occurs", US, US, form="distance"), r"the key 'amount'"),
        (node("occurs", US, US, form="on", unit="day"), r"'unit'"),
        (node("exists", variables=[{"varName": "E"}]), r"'from'.*variables\[0\]"),
        (node("exists", variables=3), r"\$\.variables"),
        (node("CHAIN", PROFILE, US), r"`step`, got dict - at \$\.params\[1\]"),
        (node("matches", COUNTRY, literal("String", "(")), r"that a rule text can say"),
        (node("filter", COUNTRY, {"nodeType": "parameterReference", "level": 0}), r"can say"),
        (node("inSegment", COUNTRY), r"segment's name"),
    ],
)
def test_wrong_trees_say_where(tree: Any, words: str) -> None:
    with pytest.raises(RuleError, match=words):
        rule_from_json(tree)


def test_a_field_hidden_by_a_variable_is_refused() -> None:
    field = {
        "nodeType": "fieldLookup",
        "fieldName": "a",
        "object": {"nodeType": "parameterReference", "level": 0},
    }
    inner = node("filter", {"nodeType": "parameterReference", "varName": "a"}, field)
    with pytest.raises(RuleError, match=r"\$\.params\[0\]\.params\[1\]"):
        rule_from_json(node("let", inner, variables=[{"varName": "a", "from": COUNTRY}]))
