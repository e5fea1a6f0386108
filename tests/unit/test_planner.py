"""Planning: what becomes an aggregate, what it shares, what is refused and where."""

from __future__ import annotations

import msgspec
import pytest

from profile_actors.definitions import (
    Catalogue,
    ComputedAttribute,
    FieldType,
    Schema,
    SegmentDefinition,
)
from profile_actors.errors import RuleError
from profile_actors.rules.check import check_all
from profile_actors.rules.plan import Aggregate, AggregateLeaf, AttributeLeaf, Plan
from profile_actors.rules.planner import plan, plan_trees, walk
from profile_actors.rules.syntax import parse
from profile_actors.rules.tree import Call, Literal, Occurs
from profile_actors.rules.unparse import unparse, unparse_aggregate


def planned(**rules: str) -> Plan:
    """Segments by name, planned without a schema; ``c_name`` is a computed attribute."""
    texts = {
        ("computed" if name.startswith("c_") else "segment", name): text
        for name, text in rules.items()
    }
    return plan_trees({key: parse(text) for key, text in texts.items()}, texts)


def only(rule: str) -> Aggregate:
    (aggregate,) = planned(s=rule).aggregates
    return aggregate


@pytest.mark.parametrize(
    ("rule", "aggregate"),
    [
        ('xEvent[eventType = "buy"].count() > 1', 'xEvent[eventType = "buy"].count()'),
        ('xEvent[eventType = "buy"].sum(price) > 1', 'xEvent[eventType = "buy"].sum(price)'),
        ("xEvent.sum(E => E.price * 2) > 1", "xEvent.sum(2 * price)"),
        ("xEvent[a = 1][b = 2].min(price) > 1", "xEvent[a = 1 and b = 2].min(price)"),
        ("xEvent.filter(E => E.a = 1).count() > 1", "xEvent[a = 1].count()"),
        ("xEvent[a = 1]", "xEvent[a = 1].count()"),
        (
            "xEvent.price.filter(E => E > 3).count() > 1",
            "xEvent[isNotNull(price) and price > 3].map(price).count()",
        ),
        ("xEvent.price.count() > 1", "xEvent.map(price).count()"),
        ("xEvent.timestamp.count() > 1", "xEvent.count()"),
        ("xEvent.price.max() > 1", "xEvent.max(price)"),
        ("xEvent.commerce.order.sum(total) > 1", "xEvent.sum(commerce.order.total)"),
        ("xEvent.map(price + 1).sum() > 1", "xEvent.sum(1 + price)"),
        ("xEvent[a = 1].f.distinct().count() > 1", "xEvent[a = 1].map(f).distinct().count()"),
        ("exists V from xEvent where V.a = 1", "xEvent[a = 1].count()"),
        ("exists V from xEvent[b = 2] : V.a = 1", "xEvent[a = 1 and b = 2].count()"),
        ("forall V from xEvent where V.a = 1", "xEvent[not a = 1].count()"),
        ("max V.p over V from xEvent where V.a = 1", "xEvent[a = 1].max(p)"),
        (
            "(select V from xEvent where V.a = 1).f.distinct().count() > 2",
            "xEvent[a = 1].map(f).distinct().count()",
        ),
        ("(select V from xEvent where V.a = 1).f.count() > 2", "xEvent[a = 1].map(f).count()"),
        ("let S = (xEvent[a = 1]) in S.count() > 2", "xEvent[a = 1].count()"),
        ('xEvent.f.includes("x")', 'xEvent[f = "x"].map(f).count()'),
    ],
)
def test_a_fold_over_events_is_one_aggregate(rule: str, aggregate: str) -> None:
    assert unparse_aggregate(only(rule)) == aggregate


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("xEvent[a = 1 and b = 2].count() > 3", "xEvent[b = 2 and a = 1].count() > 3"),
        ("xEvent[a = 1 and b = 2].count() > 3", "xEvent[b = 2].filter(a = 1).count() > 3"),
        ("xEvent[a = 1].count() > 3", "3 < xEvent[1 = a].count()"),
        ("xEvent[a = 1 and a = 1].count() > 3", "xEvent[a = 1].count() > 3"),
        ('xEvent[a in ["x", "y"]].count() > 3', 'xEvent[a in ["y", "x", "y"]].count() > 3'),
        ('xEvent[a = "x"].count() > 3', 'xEvent[a.equals("x", true)].count() > 3'),
        ('xEvent[a = "x"].count() > 3', 'xEvent[a in ["x"]].count() > 3'),
        ("xEvent[not (a = 1 or b = 2)].count() > 3", "xEvent[!b = 2 and !a = 1].count() > 3"),
        (
            "xEvent[timestamp occurs <= 24 hours before now].count() > 3",
            "xEvent[timestamp occurs <= 1 day before now].count() > 3",
        ),
        (
            "xEvent[not timestamp occurs > 7 days before now].count() > 3",
            "xEvent[timestamp occurs <= 1 week before now].count() > 3",
        ),
        (
            "xEvent[now occurs >= 7 days after timestamp].count() > 3",
            "xEvent[timestamp occurs >= 7 days before now].count() > 3",
        ),
        (
            "xEvent[timestamp < today].count() > 3",
            "xEvent[timestamp occurs before today].count() > 3",
        ),
        ("xEvent[a = 1].count() > 0", "xEvent[a = 1]"),
    ],
)
def test_rules_that_say_the_same_share_everything(one: str, other: str) -> None:
    plan = planned(one=one, other=other)
    assert plan.rules[0].root == plan.rules[1].root
    assert plan.rules[0].root is plan.rules[1].root
    assert len(plan.aggregates) == 1


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("xEvent[not a = 1].count() > 3", "xEvent[a != 1].count() > 3"),
        ("xEvent[a = 1].count() > 3", 'xEvent[a = "1"].count() > 3'),
        ("xEvent[a - b > 1].count() > 3", "xEvent[b - a > 1].count() > 3"),
        (
            "xEvent[timestamp occurs <= 1 month before now].count() > 3",
            "xEvent[timestamp occurs <= 30 days before now].count() > 3",
        ),
        (
            "xEvent[timestamp occurs = 24 hours before now].count() > 3",
            "xEvent[timestamp occurs = 1 day before now].count() > 3",
        ),
    ],
)
def test_rules_that_differ_share_nothing(one: str, other: str) -> None:
    assert len(planned(one=one, other=other).aggregates) == 2


@pytest.mark.parametrize(
    ("condition", "types"),
    [
        ('eventType = "a"', {"a"}),
        ('"a" = eventType and x = 1', {"a"}),
        ('eventType in ["a", "b"]', {"a", "b"}),
        ('eventType = "a" or (eventType = "b" and x = 1)', {"a", "b"}),
        ('eventType in ["a", "b"] and eventType in ["b", "c"]', {"b"}),
        ('eventType = "a" and eventType = "b"', set()),
        ('eventType = "a" or x = 1', None),
        ('not eventType = "a"', None),
        ('eventType != "a"', None),
    ],
)
def test_pinned_event_types(condition: str, types: set[str] | None) -> None:
    assert only(f"xEvent[{condition}].count() > 1").filter.types == types


def test_conditions_split_into_predicate_and_window() -> None:
    rule = 'xEvent[timestamp occurs <= 7 days before now and x > 1 and eventType = "a"].count() > 1'
    events = only(rule).filter
    assert events.predicate is not None
    assert unparse(events.predicate) == 'eventType = "a" and x > 1'
    assert [unparse(w) for w in events.window] == ["timestamp occurs <= 7 days before now"]
    fixed = only("xEvent[timestamp occurs after date(2020, 1, 1)].count() > 1").filter
    assert fixed.window == ()
    assert isinstance(fixed.predicate, Occurs)


@pytest.mark.parametrize(("one", "other"), [("<=", ">"), ("<", ">="), (">", "<="), (">=", "<")])
def test_a_negated_window_is_the_opposite_one(one: str, other: str) -> None:
    window = only(f"xEvent[not timestamp occurs {one} 7 days before now].count() > 1").filter.window
    assert [unparse(w) for w in window] == [f"timestamp occurs {other} 7 days before now"]


@pytest.mark.parametrize(
    "condition",
    [
        "not timestamp occurs <= 200 years before now",
        "not timestamp occurs <= 7 days before today",
        "not timestamp occurs <= 7 days after now",
        "not timestamp occurs = 7 days before now",
        "now occurs >= 1 month after timestamp",
    ],
)
def test_what_is_not_one_interval_is_no_window(condition: str) -> None:
    with pytest.raises(RuleError, match="one interval"):
        planned(s=f"xEvent[{condition}].count() > 1")


def test_average_divides_the_sum_by_the_count_of_non_nulls() -> None:
    plan = planned(s="xEvent[a = 1].average(p) > 2")
    root = plan.rules[0].root
    assert unparse(root) == "xEvent[a = 1].sum(p) / xEvent[a = 1].map(p).count() > 2"
    assert [a.function for a in plan.aggregates] == ["sum", "count"]


def test_references_are_written_out() -> None:
    plan = planned(
        s='inSegment("t") and computed.c_n > 3',
        t="a.b = 1",
        c_n="xEvent.count() + 1",
    )
    assert unparse(plan.rules[0].root) == "1 + xEvent.count() > 3 and a.b = 1"
    assert [leaf.path for leaf in plan.attributes] == ["a.b"]
    constant = planned(c_n="5", s="xEvent[a = ^.computed.c_n].count() > 1")
    assert unparse_aggregate(constant.aggregates[0]) == "xEvent[a = 5].count()"


def test_a_segment_read_by_another_rule_is_never_null() -> None:
    plan = planned(s='isNull(inSegment("t"))', t="vip")
    assert unparse(plan.rules[0].root) == "isNull(and(vip))"


def test_timed_means_the_clock_beside_the_windows() -> None:
    plan = planned(
        window="xEvent[timestamp occurs <= 7 days before now].count() > 1",
        since="xEvent.max(timestamp) occurs >= 7 days before now",
        month="birthday.getMonth() = currentMonth()",
        fixed="birthday occurs after date(2000, 1, 1)",
    )
    assert [rule.timed for rule in plan.rules] == [False, True, True, False]
    assert plan.aggregates[1].result.kind == "timestamp"


def test_equal_sub_expressions_are_one_object() -> None:
    plan = planned(s="xEvent[a = 1].sum(p) > 2 or b.c = 1", t="xEvent[a = 1].sum(p) > 9 or b.c = 1")
    leaves = [
        node
        for rule in plan.rules
        for node in walk(rule.root)
        if isinstance(node, AggregateLeaf | AttributeLeaf)
    ]
    assert len(leaves) == 4
    assert len({id(leaf) for leaf in leaves}) == 2
    predicates = planned(s="xEvent[a = 1].sum(p) > xEvent[a = 1].max(p)").aggregates
    assert predicates[0].filter.predicate is predicates[1].filter.predicate


@pytest.mark.parametrize(
    ("rule", "reason", "marked"),
    [
        ("xEvent[a = ^.age]", "reads the profile", "^.age"),
        ("xEvent[timestamp occurs != 3 days before now]", "one interval", "timestamp occurs"),
        ("xEvent[a = 1 or timestamp occurs before today]", "one interval", "a = 1"),
        ("xEvent[other occurs <= 3 days before now]", "one interval", "other"),
        ("xEvent.head().a = 1", "head()", "xEvent.head()"),
        ("xEvent[exists X from xEvent where X.a = 1]", "a quantifier", "exists X"),
        ("tags.count() > 1", "not made of the profile's events", "tags"),
        ("xEvent[items[a = 1]]", "a list", "items[a"),
        ("xEvent.distinct().count() > 3", "whole events", "xEvent"),
        ("now occurs after now", "every millisecond", "now occurs"),
        ("CHAIN(xEvent, timestamp, [A: WHAT(a = 1)])", "sequence", "CHAIN"),
        ('xEvent[inSegment("t")]', "another rule", "inSegment"),
        (
            "xEvent.sum(if(timestamp occurs before today, 1, 0)) > 1",
            "moves with the clock",
            "xEvent",
        ),
        ("forall A from tags where A = 1", "other than the events", "forall"),
        ("exists A from xEvent, B from xEvent where B.a = A.a", "more than one range", "exists A"),
    ],
)
def test_what_cannot_run_incrementally_is_refused(rule: str, reason: str, marked: str) -> None:
    with pytest.raises(RuleError, match="parsed, but not evaluated incrementally yet") as error:
        planned(s=rule, t="vip = 1")
    assert reason in str(error.value)
    assert rule[error.value.column - 1 :].startswith(marked)


def test_a_refusal_names_the_rule_it_stands_in() -> None:
    with pytest.raises(RuleError) as error:
        planned(s="computed.c_bad > 1", c_bad="1 + tags.count()")
    assert "1 + tags.count()" in str(error.value)
    assert error.value.column == 5


def test_cycles_and_doubling_references_end() -> None:
    with pytest.raises(RuleError, match="without a cycle"):
        planned(c_a="computed.c_b", c_b="computed.c_a")
    rules = {"c_0": "a.b"} | {
        f"c_{i}": f"computed.c_{i - 1} + computed.c_{i - 1}" for i in range(1, 40)
    }
    with pytest.raises(RuleError, match="parts with its references"):
        planned(**rules)


def test_constant_conditions_fold() -> None:
    assert only("xEvent[true and a = 1].count() > 1").filter.predicate == parse_event("a = 1")
    assert only("xEvent[true].count() > 1").filter.predicate is None
    assert planned(s="true or a = 1").rules[0].root == Literal(True, "boolean")


def parse_event(condition: str) -> Call:
    predicate = only(f"xEvent[{condition}].count() > 1").filter.predicate
    assert isinstance(predicate, Call)
    return predicate


TYPES = ("page.view", "cart.add", "email.open", "purchase")
WEEK = "timestamp occurs <= 7 days before now"


def shop() -> Catalogue:
    """A hundred segments over sixteen aggregates, and the twenty computed attributes over them."""
    computed = {}
    columns = []
    for letter, fold in (("c", "count()"), ("s", "sum(price)"), ("m", "max(price)")):
        for place, name in enumerate(TYPES):
            columns.append(f'xEvent[eventType = "{name}"].{fold}')
            computed[f"{letter}{place}"] = columns[-1]
    for place, name in enumerate(TYPES):
        columns.append(f'xEvent[eventType = "{name}" and {WEEK}].count()')
        computed[f"d{place}"] = columns[-1]
        computed[f"l{place}"] = f'xEvent[eventType = "{name}"].max(timestamp)'
    segments = {f"g{k}": f"{columns[k % 16]} >= {k % 7 + 1}" for k in range(100)}
    return Catalogue(
        version=3,
        schemas={"visit": Schema("visit", "event", {"price": "decimal(2)", "n": "integer"})},
        segments={name: SegmentDefinition(name, rule) for name, rule in segments.items()},
        computed={name: ComputedAttribute(name, rule) for name, rule in computed.items()},
    )


def test_a_catalogue_shares_its_aggregates() -> None:
    found = plan(shop())
    assert found.version == 3
    assert len(found.aggregates) == 20
    assert len(found.rules) == 120
    assert [rule.kind for rule in found.rules] == ["computed"] * 20 + ["segment"] * 100
    assert sum(bool(aggregate.filter.window) for aggregate in found.aggregates) == 4
    assert all(len(aggregate.filter.types or ()) == 1 for aggregate in found.aggregates)
    sums = [aggregate for aggregate in found.aggregates if aggregate.function == "sum"]
    assert {(aggregate.result.kind, aggregate.result.scale) for aggregate in sums} == {
        ("decimal", 2)
    }
    assert plan(shop()) == found


def test_types_reach_the_plan() -> None:
    catalogue = msgspec.structs.replace(
        shop(),
        segments={},
        computed={
            name: ComputedAttribute(name, rule)
            for name, rule in {
                "scaled": "xEvent.sum(price * 0.125) * 2",
                "mean": "xEvent.average(price)",
                "last": "xEvent.max(timestamp)",
                "seen": "xEvent.n.distinct().count()",
            }.items()
        },
    )
    rules = plan(catalogue).rules
    kinds = {rule.name: rule.root.type for rule in rules}
    assert kinds == {
        "scaled": FieldType("decimal", scale=5),
        "mean": FieldType("double"),
        "last": FieldType("timestamp"),
        "seen": FieldType("integer"),
    }


def test_a_rule_of_a_catalogue_that_no_operator_holds_is_a_rescan() -> None:
    rule = 'xEvent[eventType = "a"].head().n > 3'
    catalogue = msgspec.structs.replace(
        shop(), segments={"first": SegmentDefinition("first", rule)}, computed={}
    )
    made = plan(catalogue)
    assert made.rules == ()
    (rescan,) = made.rescans
    assert (rescan.kind, rescan.name, rescan.types) == ("segment", "first", frozenset({"a"}))
    with pytest.raises(RuleError, match="segment 'first'") as error:
        plan_trees(check_all(catalogue), {("segment", "first"): rule})
    assert rule in str(error.value)


@pytest.mark.parametrize(
    ("rule", "reason"),
    [
        ('m.k = "x"', "type map of the profile"),
        ('home.tags.includes("x")', "not made of the profile's events"),
        ("isNull(home)", "type object of the profile"),
        ('xEvent[m.k = "x"].count() > 1', "type map of an event"),
        ("xEvent[isNull(o)].count() > 1", "type object of an event"),
        ("xEvent.o.count() > 1", "type object of each event"),
        ("xEvent.items.sku.distinct().count() > 1", "type array of each event"),
        ('xEvent[items[sku = "x"]].count() > 1', "a list inside"),
        ('xEvent.min(sku) = "x"', "min() of type string"),
    ],
)
def test_what_no_column_holds_is_rescanned(rule: str, reason: str) -> None:
    fields = {"m": "map<string>", "o.p": "integer", "items[].sku": "string", "sku": "string"}
    home = {"home.tags": "string[]", "home.city": "string", "m": "map<string>"}
    catalogue = Catalogue(
        schemas={"e": Schema("e", "event", dict(fields)), "p": Schema("p", "record", dict(home))},
        segments={"s": SegmentDefinition("s", rule)},
    )
    (rescan,) = plan(catalogue).rescans
    assert reason in rescan.reason


@pytest.mark.parametrize("rule", ["a.b = 1", "$1.a.b = 1", "(P) => P.a.b = 1"])
def test_a_profile_path_in_any_spelling_is_one_leaf(rule: str) -> None:
    assert planned(s=rule).attributes == (AttributeLeaf("a.b"),)
