"""The type checker: types of every construct over a schema, and the errors that teach."""

from __future__ import annotations

import pytest

from profile_actors.definitions.declared import (
    Catalogue,
    ComputedAttribute,
    Schema,
    SegmentDefinition,
)
from profile_actors.definitions.field_types import FieldType, parse_type
from profile_actors.errors import RuleError
from profile_actors.rules.catalogue.typed_rules import check_all
from profile_actors.rules.language.checker import check
from profile_actors.rules.language.parser import parse
from profile_actors.rules.language.types import Scope, union_scope
from profile_actors.rules.language.unparse import unparse
from profile_actors.rules.tree.nodes import Range, Step
from profile_actors.rules.tree.walks import descendants

ORDER = Schema(
    "order",
    "event",
    {
        "commerce.order.priceTotal": "double",
        "campaignID": "string",
        "n": "integer",
        "price": "decimal(2)",
        "items[].sku": "string",
        "items[].price": "decimal(2)",
        "items[].tags": "string[]",
        "counts": "map<integer>",
        "clash": "string",
        "mixed": "integer",
        "order-id": "string",
    },
)
OTHER = Schema("other", "event", {"clash": "boolean", "mixed": "double", "only": "timestamp"})
PERSON = Schema(
    "person",
    "record",
    {"person.gender": "string", "person.birth": "date", "score": "integer", "tags": "string[]"},
)
LOOKUP = Schema("lookup", "lookup", {"unseen": "string"})
SCOPE = union_scope(
    [ORDER, OTHER, PERSON, LOOKUP], {"spend": FieldType("double"), "unknown": None}, ["vip"]
)


@pytest.mark.parametrize(
    ("rule", "type_"),
    [
        ("score", "integer"),
        ("score + 1", "integer"),
        ("score / 2", "double"),
        ("score + 1.5", "double"),
        ("-score", "integer"),
        ("person.gender", "string"),
        ("person.birth", "date"),
        ("if(true, person.birth, now)", "timestamp"),
        ("if(true, 1, 2.5)", "double"),
        ("tags", "string[]"),
        ("tags.head()", "string"),
        ("xEvent.n", "integer[]"),
        ("xEvent.items.sku", "string[]"),
        ("xEvent.items.tags", "string[]"),
        ("xEvent.counts.k", "integer[]"),
        ("xEvent.head().counts", "map<integer>"),
        ('xEvent.head().counts.get("k")', "integer"),
        ("xEvent.head().counts.keys()", "string[]"),
        ("xEvent.mixed", "double[]"),
        ("xEvent.only.max()", "timestamp"),
        ("xEvent._id", "string[]"),
        ("xEvent.eventType.distinct()", "string[]"),
        ("xEvent.count()", "integer"),
        ("xEvent.sum(n)", "integer"),
        ("xEvent.average(n)", "double"),
        ("xEvent.sum(price)", "decimal(2)"),
        ("xEvent.max(timestamp)", "timestamp"),
        ("xEvent.sum(price) + 1", "decimal(2)"),
        ("xEvent.sum(price) * 1.125", "decimal(5)"),
        ("xEvent.sum(price) * xEvent.sum(price)", "decimal(4)"),
        ("xEvent.sum(price) * computed.spend", "double"),
        ("xEvent.sum(price) % 0.001", "decimal(3)"),
        ("xEvent.sum(price) / 2", "double"),
        ("let S = (1.5) in xEvent.sum(price) * S", "decimal(3)"),
        ("xEvent.groupBy(n).keys()", "integer[]"),
        ("xEvent.groupBy(n).map((K, G) => mapEntry(K, G.count()))", None),
        ("xEvent.groupBy(eventType).map((K, G) => mapEntry(K, G.count()))", "map<integer>"),
        ("xEvent.groupBy(eventType).get(\"x\").count()", "integer"),
        ("xEvent.topN(n, 3).n", "integer[]"),
        ("xEvent.map(items.count())", "integer[]"),
        ("(select V from xEvent where V.n > 1).n", "integer[]"),
        ("max V.n over V from xEvent", "integer"),
        ("count V.n over V from xEvent", "integer"),
        ("exists V from xEvent where V.n > 1", "boolean"),
        ("xEvent.timestamp.max() occurs before now", "boolean"),
        ("inSegment(\"vip\")", "boolean"),
        ("computed.spend", "double"),
        ("currentYear()", "integer"),
        ("person.gender.regexGroup(\"a\", 0)", "string"),
        ("[1, 2.5]", "double[]"),
        ("CHAIN(xEvent, timestamp, [A: WHAT(n = 1), B: WHAT(n = A.n) WHEN(after A)])", "boolean"),
    ],
)  # fmt: skip
def test_types(rule: str, type_: str | None) -> None:
    typed = check(parse(rule), SCOPE, None, rule)
    assert typed == parse(rule)
    if type_ is not None:
        assert typed.type == parse_type(type_)
    untyped = [
        node
        for node in descendants(typed)
        if node.type is None and not isinstance(node, Range | Step)
    ]
    assert not untyped


def test_keys_of_a_map_are_known() -> None:
    rule = "xEvent.groupBy(n).map((K, G) => mapEntry(K + 1, G.count())).keys()"
    assert check(parse(rule), SCOPE).type == parse_type("integer[]")


@pytest.mark.parametrize(
    ("rule", "words", "column"),
    [
        ("xEvent.comerce.order", "unknown field `comerce.order` of an event", 1),
        ("xEvent.comerce.order", "did you mean `commerce.order`?", 1),
        ("prson.gender", "did you mean `person.gender`?", 1),
        ("xEvnt", "did you mean `xEvent`?", 1),
        ("unseen", "unknown field `unseen` of the profile", 1),
        ("xEvent[order-id = \"x\"]", "written in back-ticks: `order-id`", 8),
        ("xEvent[only-id = \"x\"]", "written in back-ticks: `order-id`", 13),
        ("score = null", "no null to compare with: write isNull(x) or isNotNull(x)", 9),
        ("score in [1, None]", "write isNull(x) or isNotNull(x)", 14),
        ("xEvent.count > 3", "a function is called with parentheses: count()", 1),
        ("tags.topn", "called with parentheses: topN()", 1),
        ("tags.count > 1", "a string has no fields; got `tags.count`; a function is called", 1),
        ("xEvent[score > 1]", "the profile's is `$1.score`", 8),
        ("xEvent[computed.spend > 1]", "^.computed.name", 8),
        ("person.gender.first", "a string has no fields", 1),
        ("xEvent.clash", "do not go together", 1),
        ("score = \"a\"", "cannot compare an integer with a string", 1),
        ("person.gender < 3", "cannot compare a string with an integer", 1),
        ("true < false", "have an order", 1),
        ("tags = \"a\"", "use includes, intersects or exists", 1),
        ("score in [\"a\"]", "cannot compare", 1),
        ("score in 3", "expected an array", 10),
        ("[1, \"a\"]", "cannot compare", 5),
        ("not score", "expected a condition, got an integer", 5),
        ("xEvent[n]", "expected a condition", 8),
        ("score + person.gender", "expected a number, got a string", 9),
        ("score.startsWith(\"a\")", "expected a string, got an integer", 1),
        ("person.gender.startsWith(\"a\", 1)", "case-sensitive", 31),
        ("person.gender.getYear()", "expected a timestamp or date", 1),
        ("score occurs before now", "expected a timestamp or date", 1),
        ("now occurs before score", "expected a timestamp or date", 19),
        ("score.count()", "expected an array", 1),
        ("xEvent.sum(eventType)", "expected a number", 12),
        ("tags.average()", "expected a number", 1),
        ("xEvent.min(n = 1)", "have an order", 12),
        ("xEvent.topN(n, \"x\")", "whole number of elements", 16),
        ("xEvent.groupBy(price)", "as a key", 16),
        ("xEvent.head().counts.get(1)", "cannot compare", 26),
        ("tags.keys()", "expected a map", 1),
        ("if(true, 1, \"a\")", "of one type", 13),
        ("computed.spnd", "unknown computed attribute 'spnd'; did you mean 'spend'?", 1),
        ("computed", "expected computed.NAME", 1),
        ("inSegment(\"vp\")", "unknown segment 'vp'; did you mean 'vip'?", 1),
        ("tags.intersects([1])", "cannot compare", 17),
        ("exists V from score", "expected an array", 15),
        ("CHAIN(xEvent, timestamp, [A: WHAT(n)])", "expected a condition", 35),
    ],
)  # fmt: skip
def test_errors_teach(rule: str, words: str, column: int) -> None:
    with pytest.raises(RuleError) as caught:
        check(parse(rule), SCOPE, None, rule)
    assert words in str(caught.value)
    assert (caught.value.line, caught.value.column) == (1, column), str(caught.value)


@pytest.mark.parametrize("rule", ["score", "xEvent.count()", "computed.spend", '"true"', "$1"])
def test_a_segment_is_boolean(rule: str) -> None:
    with pytest.raises(RuleError, match="segment's rule to be boolean"):
        check(parse(rule), SCOPE, "segment", rule)


@pytest.mark.parametrize("rule", ["xEvent[n = 1]", "tags", "select V from xEvent", "[1]"])
def test_a_segment_may_be_an_array(rule: str) -> None:
    made = check(parse(rule), SCOPE, "segment", rule)
    assert made.type == FieldType("boolean")
    assert unparse(made) == f"and({unparse(parse(rule))})"


def test_a_computed_attribute_is_no_event() -> None:
    with pytest.raises(RuleError, match="any type but an event"):
        check(parse("xEvent.head()"), SCOPE, "computed")
    assert check(parse("xEvent.n"), SCOPE, "computed").type == parse_type("integer[]")


def test_without_a_schema_everything_is_unknown() -> None:
    assert check(parse("a.b.count() + computed.x"), Scope()).type is None
    assert check(parse('a = "x" and inSegment("any")'), Scope(), "segment").type is not None
    with pytest.raises(RuleError, match="cannot compare"):
        check(parse('1 = "x"'), Scope())


def catalogue(segments: dict[str, str], computed: dict[str, str]) -> Catalogue:
    return Catalogue(
        schemas={"order": ORDER, "person": PERSON},
        segments={name: SegmentDefinition(name, rule) for name, rule in segments.items()},
        computed={name: ComputedAttribute(name, rule) for name, rule in computed.items()},
    )


def test_rules_come_after_those_they_read() -> None:
    trees = check_all(
        catalogue(
            {"a": 'inSegment("b") and computed.x > 1', "b": "computed.y"},
            {"x": "xEvent.sum(n) * 2", "y": "computed.x = 4"},
        )
    )
    order = list(trees)
    assert order.index(("computed", "x")) < order.index(("computed", "y"))
    assert order.index(("computed", "y")) < order.index(("segment", "b"))
    assert order.index(("segment", "b")) < order.index(("segment", "a"))
    assert trees["computed", "x"].type == parse_type("integer")


@pytest.mark.parametrize(
    ("segments", "computed", "words"),
    [
        ({"a": 'inSegment("a")'}, {}, "segment 'a' → segment 'a'"),
        (
            {"a": "computed.x = 1 or true"},
            {"x": "computed.y", "y": 'if(inSegment("a"), 1, 2)'},
            "attribute 'x' → computed attribute 'y' → segment 'a' → computed attribute 'x'",
        ),
        ({"a": "true and"}, {}, "in segment 'a': expected a value"),
        ({}, {"x": "nothing + 1"}, "in computed attribute 'x': unknown field `nothing`"),
        ({"a": "computed.x"}, {"x": "xEvent.sum(n)"}, "to be boolean, got an integer"),
    ],
)
def test_bad_catalogues_are_refused(
    segments: dict[str, str], computed: dict[str, str], words: str
) -> None:
    with pytest.raises(RuleError) as caught:
        check_all(catalogue(segments, computed))
    assert words in str(caught.value)


def test_many_definitions_in_a_row_do_not_recurse() -> None:
    computed = {"c0": "xEvent.count()"}
    computed.update({f"c{i}": f"computed.c{i - 1} + 1" for i in range(1, 1_500)})
    reversed_order = dict(reversed(computed.items()))
    assert next(iter(check_all(catalogue({}, reversed_order)))) == ("computed", "c0")


@pytest.mark.parametrize(
    ("rule", "words"),
    [
        ('xEvent[Sub-Category = "x"]', "written in back-ticks, `Sub-Category`"),
        ('Sub-Category = "x"', "written in back-ticks, `Sub-Category`"),
        ("xEvent.sum(price-tax)", "written in back-ticks, `price-tax`"),
        ('xEvent[name-tag-2 = "x"]', "written in back-ticks, `name-tag-2`"),
        ("xEvent[where2.y-z > 1]", "written in back-ticks, where2.`y-z`"),
        ('$1.home-town = "a"', "written in back-ticks, $1.`home-town`"),
        ("computed.my-attr > 1", "written in back-ticks, computed.`my-attr`"),
        ('xEvent[a-b = "x"]', "written in back-ticks: `a-b`"),
        ('xEvent[Order ID = "x"]', "written in back-ticks: `Order ID`"),
        ('Sub Category = "x"', "written in back-ticks: `Sub Category`"),
        ('(select V from xEvent where V.Order Date = "x").count() > 1', "`Order Date`"),
    ],
)
def test_a_name_that_no_schema_has_is_written_in_back_ticks_as_well(rule: str, words: str) -> None:
    hit = Schema("hit", "event", {"price": "double", "name": "string", "a-b": "string"})
    person = Schema("person", "record", {"Sub": "string"})
    with pytest.raises(RuleError) as caught:
        check(parse(rule), union_scope([hit, person]), "segment", rule)
    assert words in str(caught.value)


def test_what_has_blanks_around_it_is_a_subtraction_and_small_words_are_no_names() -> None:
    hit = Schema("hit", "event", {"price": "double"})
    for rule in ("xEvent[price - tax > 1]", 'city equals "x"', 'xEvent[tax = "a-b"]'):
        with pytest.raises(RuleError) as caught:
            check(parse(rule), union_scope([hit]), "segment", rule)
        assert "back-ticks" not in str(caught.value)
