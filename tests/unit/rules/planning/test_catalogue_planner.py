"""Planning: what becomes an aggregate, what it shares, what is refused and where."""

from __future__ import annotations

import msgspec
import pytest

from profile_actors.definitions.declared import (
    Catalogue,
    ComputedAttribute,
    Schema,
    SegmentDefinition,
)
from profile_actors.definitions.field_types import FieldType
from profile_actors.errors import RuleError
from profile_actors.rules.catalogue.catalogue_plan import plan
from profile_actors.rules.catalogue.typed_rules import check_all
from profile_actors.rules.evaluation.trial import Trial
from profile_actors.rules.language.parser import parse
from profile_actors.rules.language.unparse import unparse, unparse_aggregate, unparse_filter
from profile_actors.rules.planning.catalogue_planner import plan_trees
from profile_actors.rules.tree.nodes import Call, Each, Literal, Occurs
from profile_actors.rules.tree.plan import Aggregate, AggregateLeaf, AttributeLeaf, Kept, Plan
from profile_actors.rules.tree.walks import walk


def planned(**rules: str) -> Plan:
    """Segments by name, planned without a schema; ``c_name`` is a computed attribute."""
    texts = {
        ("computed" if name.startswith("c_") else "segment", name): text
        for name, text in rules.items()
    }
    return plan_trees({key: parse(text) for key, text in texts.items()}, texts, Trial().failure)


def shapes(*rules: str) -> Catalogue:
    """Segments over schemas with every kind of field, named s, s1, s2, …"""
    event = {
        "n": "integer",
        "price": "double",
        "sku": "string",
        "ok": "boolean",
        "at": "timestamp",
        "o.p": "integer",
        "m": "map<string>",
        "items[].sku": "string",
        "items[].qty": "integer",
    }
    person = {
        "home.city": "string",
        "n2": "integer",
        "tags": "string[]",
        "limits": "map<integer>",
    }
    names = ["s", *(f"s{place}" for place in range(1, len(rules)))]
    return Catalogue(
        schemas={"e": Schema("e", "event", dict(event)), "p": Schema("p", "record", dict(person))},
        segments={
            name: SegmentDefinition(name, rule) for name, rule in zip(names, rules, strict=True)
        },
    )


def typed(*rules: str) -> Plan:
    return plan(shapes(*rules))


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
        "timestamp occurs != 3 days before now",
        "n = 1 or timestamp occurs before today",
        "at occurs <= 3 days before now",
    ],
)
def test_what_is_not_one_interval_is_no_window(condition: str) -> None:
    """Then the events are kept whatever the clock says, and the condition asked of each."""
    made = typed(f'xEvent[({condition}) and eventType = "buy"].count() > 1')
    (history,) = made.histories
    assert unparse_filter(history.filter) == 'xEvent[eventType = "buy"]'
    assert (history.filter.window, made.aggregates) == ((), ())
    (rule,) = made.rules
    assert rule.timed
    filters = [node for node in walk(rule.root) if isinstance(node, Each)]
    assert [node.function for node in filters] == ["filter"]


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
        ("tags.count() > 1", "type array of the profile", "tags"),
        ('exists T from tags where T = "a"', "type array of the profile", "tags"),
        ("xEvent[sku in ^.tags].count() > 1", "type array of the profile", "^.tags"),
        ('limits.get("a") > 1', "type map of the profile", "limits"),
        ("isNull(home)", "type object of the profile", "home"),
        ("$1.isNull()", "the whole profile", "$1"),
        ("xEvent[items[qty = 1]].count() > 1", "type array of an event", "items"),
        ("xEvent.items.sku.count() > 1", "type array of each event", "xEvent.items"),
        ("xEvent.o[p > 1].count() > 1", "type object of each event", "xEvent.o"),
        ("xEvent.distinct().count() > 3", "whole events", "xEvent"),
        ('["a", "b"].count() > 1', "a list literal as a list", '["a"'),
        ("[home.city].subsetOf(xEvent.sku)", "a list of computed values", "[home"),
        ("if(n2 > 1, xEvent[n = 1], xEvent).count() > 1", "if() of lists", "if("),
        ("xEvent.topN(n, n2).count() > 1", "a computed number", "xEvent.topN"),
        (
            "xEvent.groupBy(n).map((K, G) => mapEntry(K, G.groupBy(sku))).keys().count() > 1",
            "a map of maps",
            "G.groupBy",
        ),
        ("now occurs after now", "every millisecond", "now occurs"),
        ("xEvent.max(n) > 1 and now = now", "every millisecond", "xEvent.max"),
        (
            "CHAIN(xEvent, timestamp, [A: WHAT(n = 1),"
            " B: WHAT(n = A.n or timestamp occurs before today)])",
            "a CHAIN condition that reads an earlier step and moves with the clock",
            "n = A.n",
        ),
        (
            "CHAIN(xEvent, timestamp, [A: WHAT(n = 1), B: WHAT(A.at occurs before today)])",
            "a CHAIN condition that reads an earlier step and moves with the clock",
            "A.at",
        ),
    ],
)
def test_what_cannot_run_incrementally_is_refused(rule: str, reason: str, marked: str) -> None:
    trees = check_all(shapes(rule))
    with pytest.raises(RuleError, match="parsed, but not evaluated incrementally yet") as error:
        plan_trees(trees, {("segment", "s"): rule}, Trial().failure)
    assert reason in str(error.value)
    assert rule[error.value.column - 1 :].startswith(marked)
    (rescan,) = typed(rule).rescans
    assert reason in rescan.reason


def test_a_refusal_names_the_rule_it_stands_in() -> None:
    with pytest.raises(RuleError) as error:
        planned(s="computed.c_bad > 1", c_bad="1 + tags.count()")
    assert "1 + tags.count()" in str(error.value)
    assert error.value.column == 5


@pytest.mark.parametrize(
    ("rule", "root", "kept"),
    [
        (  # An aggregate of text is no column; the list of the texts is.
            'xEvent[n = 1].min(sku) = "x"',
            'xEvent[n = 1].map(e1 => e1.sku).min() = "x"',
            {"xEvent[n = 1]": ["sku"]},
        ),
        (
            'xEvent[eventType = "buy"].head().price > 1',
            'xEvent[eventType = "buy"].head().price > 1',
            {'xEvent[eventType = "buy"]': ["price"]},
        ),
        (
            'xEvent[eventType = "buy" and timestamp occurs <= 7 days before now]'
            ".topN(price, 2).sum(n) > 1",
            'xEvent[eventType = "buy" and timestamp occurs <= 7 days before now]'
            ".topN(e1 => e1.price, 2).map(e1 => e1.n).sum() > 1",
            {
                'xEvent[eventType = "buy" and timestamp occurs <= 7 days before now]': [
                    "n",
                    "price",
                ]
            },
        ),
        (  # What reads the profile stays, what reads the event alone is pushed down.
            'xEvent[n > ^.n2 and eventType = "buy"].count() > 1',
            'xEvent[eventType = "buy"].filter(e1 => e1.n > n2).count() > 1',
            {'xEvent[eventType = "buy"]': ["n"]},
        ),
        (
            'exists V from xEvent where V.eventType = "a" and'
            ' exists X from xEvent where X.eventType = "b" and X.n = V.n',
            'xEvent[eventType = "a"].filter(e1 => xEvent[eventType = "b"]'
            ".filter(e2 => e1.n = e2.n).count() > 0).count() > 0",
            {'xEvent[eventType = "a"]': ["n"], 'xEvent[eventType = "b"]': ["n"]},
        ),
        (
            "forall E from xEvent where E.n > 0, F from xEvent where F.n = E.n",
            "not xEvent.filter(e1 => not (e1.n > 0 and not xEvent"
            ".filter(e2 => not e1.n = e2.n).count() > 0)).count() > 0",
            {"xEvent": ["n"]},
        ),
        (
            "CHAIN(xEvent[price > 1], timestamp, [A: WHAT(n = 1) WHEN(<= 1 day before now),"
            " B: WHAT(n = A.n and o.p = 2) COUNT(2)])",
            "CHAIN(xEvent, timestamp, [e1: WHAT(n = 1 and price > 1 and timestamp occurs <= 1 day"
            " before now), e2: WHAT(o.p = 2 and price > 1 and e1.n = n) COUNT(2)])",
            {
                "xEvent[n = 1 and price > 1 and timestamp occurs <= 1 day before now]": ["n"],
                "xEvent[o.p = 2 and price > 1]": ["n"],
            },
        ),
        (
            "xEvent.groupBy(sku).map((K, G) => mapEntry(K, G.sum(n))).values().max() > 3",
            "xEvent.groupBy(e1 => e1.sku)"
            ".map((e1, e2) => mapEntry(e1, e2.map(e3 => e3.n).sum())).values().max() > 3",
            {"xEvent": ["n", "sku"]},
        ),
        (
            "xEvent.sum(if(timestamp occurs before today, 1, 0)) > 1",
            "xEvent.map(e1 => if(e1.timestamp occurs before today, 1, 0)).sum() > 1",
            {"xEvent": []},
        ),
        (
            'xEvent[sku in ["a", "b"] or n = ^.n2].count() > 1',
            'xEvent.filter(e1 => e1.n = n2 or e1.sku in ["a", "b"]).count() > 1',
            {"xEvent": ["n", "sku"]},
        ),
        (  # Folds stay folds beside what needs the events.
            "xEvent.count() > 1 and xEvent.head().n = 1",
            "xEvent.count() > 1 and xEvent.head().n = 1",
            {"xEvent": ["n"]},
        ),
    ],
)
def test_what_needs_the_events_keeps_the_ones_that_matter(
    rule: str, root: str, kept: dict[str, list[str]]
) -> None:
    made = typed(rule)
    assert made.rescans == ()
    assert unparse(made.rules[0].root) == root
    assert {
        unparse_filter(history.filter): [path for path, _ in history.fields]
        for history in made.histories
    } == kept


def test_kept_events_are_dispatched_by_type_and_window() -> None:
    rule = 'xEvent[eventType in ["a", "b"] and timestamp occurs <= 7 days before now].head().n = 1'
    (history,) = typed(rule).histories
    assert history.filter.types == frozenset({"a", "b"})
    assert [unparse(w) for w in history.filter.window] == ["timestamp occurs <= 7 days before now"]
    assert history.fields == (("n", FieldType("integer")),)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("exists E from xEvent where E.n > $1.n2", "exists X from xEvent where X.n > $1.n2"),
        ("xEvent[n > ^.n2].count() > 0", "exists X from xEvent where $1.n2 < X.n"),
        ("xEvent[n > ^.n2]", "xEvent.filter(E => E.n > $1.n2).count() > 0"),
        (
            "CHAIN(xEvent, timestamp, [A: WHAT(n = 1), B: WHAT(n = A.n)])",
            "CHAIN(xEvent, timestamp, [First: WHAT(n = 1), Then: WHAT(n = First.n)])",
        ),
        (
            "xEvent.groupBy(sku).map((K, G) => mapEntry(K, G.count())).values().max() > 1",
            "xEvent.groupBy(E => E.sku).map((A, B) => mapEntry(A, B.count())).values().max() > 1",
        ),
        ("xEvent[n = 1][ok].head().n = 1", "xEvent[ok and n = 1].head().n = 1"),
        (
            "let S = (xEvent.topN(n, 2)) in S.count() > 1",
            "xEvent.topN(E => E.n, 2).count() > 1",
        ),
    ],
)
def test_rules_that_differ_in_names_only_are_one_object(one: str, other: str) -> None:
    made = typed(one, other)
    assert made.rescans == ()
    assert made.rules[0].root is made.rules[1].root


def test_rules_share_kept_events_and_the_fields_that_any_of_them_reads() -> None:
    made = typed(
        'xEvent[eventType = "buy"].head().price > 1',
        'xEvent[eventType = "buy"].topN(n, 1).sku.includes("a")',
        'xEvent[eventType = "buy" and n > 1].max(sku) = "a"',
    )
    first, second = made.histories
    assert unparse_filter(first.filter) == 'xEvent[eventType = "buy"]'
    assert [path for path, _ in first.fields] == ["n", "price", "sku"]
    assert [path for path, _ in second.fields] == ["sku"]
    kept = [node for rule in made.rules[:2] for node in walk(rule.root) if isinstance(node, Kept)]
    assert len(kept) == 2
    assert kept[0] is kept[1]


@pytest.mark.parametrize(
    ("rule", "is_ordered"),
    [
        ("xEvent.head().n = 1", True),
        ("xEvent.topN(n, 1).count() > 1", True),
        ("xEvent.bottomN(n, 1).count() > 1", True),
        ('xEvent.max(sku) = "a"', False),
        ("xEvent[n > ^.n2].count() > 1", False),
        ("CHAIN(xEvent, timestamp, [A: WHAT(n = 1), B: WHAT(n = A.n)])", False),
        ("CHAIN(xEvent, timestamp, [A: WHAT(n = 1) COUNT(2)])", True),
        ("xEvent.groupBy(sku).keys().count() > 1", False),
    ],
)
def test_the_order_of_one_timestamp_is_kept_where_it_shows(rule: str, is_ordered: bool) -> None:
    assert {history.is_ordered for history in typed(rule).histories} == {is_ordered}


def test_a_list_as_a_value_shows_its_order() -> None:
    catalogue = shapes("xEvent.max(sku) = computed.list.head()")
    lists = {"list": ComputedAttribute("list", "xEvent.map(E => E.sku)")}
    made = plan(msgspec.structs.replace(catalogue, computed=lists))
    assert [rule.kind for rule in made.rules] == ["computed", "segment"]
    (history,) = made.histories
    assert history.is_ordered
    assert made.rules[0].root.type == FieldType("array", item=FieldType("string"))
    assert made.rules[0].root in list(walk(made.rules[1].root))


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
    rule = 'xEvent[eventType = "a"].distinct().count() > 3'
    catalogue = msgspec.structs.replace(
        shop(), segments={"first": SegmentDefinition("first", rule)}, computed={}
    )
    made = plan(catalogue)
    assert made.rules == ()
    (rescan,) = made.rescans
    assert (rescan.kind, rescan.name, rescan.types) == ("segment", "first", frozenset({"a"}))
    with pytest.raises(RuleError, match="segment 'first'") as error:
        plan_trees(check_all(catalogue), {("segment", "first"): rule}, Trial().failure)
    assert rule in str(error.value)


@pytest.mark.parametrize("rule", ["a.b = 1", "$1.a.b = 1", "(P) => P.a.b = 1"])
def test_a_profile_path_in_any_spelling_is_one_leaf(rule: str) -> None:
    assert planned(s=rule).attributes == (AttributeLeaf("a.b"),)
