"""evaluate's door: forms of now, documents, schemas, computed values, segments."""

from __future__ import annotations

import datetime
from decimal import Decimal
from typing import Any

import pytest

from profile_actors.definitions.declared import Namespace, Relationship, Schema
from profile_actors.errors import DefinitionError, RuleError
from profile_actors.rules.catalogue.on_documents import evaluate
from profile_actors.rules.language.parser import parse
from profile_actors.rules.reference.event_order import order_events
from profile_actors.rules.reference.validity import evaluate_with_validity

DAY = 86_400_000
NOON = datetime.datetime(2020, 6, 15, 12, tzinfo=datetime.UTC)
ORDER = Schema(
    "order", "event", {"amount": "decimal(2)", "at": "timestamp", "items[].n": "integer"}
)
PERSON = Schema("person", "record", {"born": "date", "visits": "integer"})


@pytest.mark.parametrize(
    "now",
    [
        NOON,
        NOON.replace(tzinfo=None),
        1_592_222_400_000,
        "2020-06-15T12:00:00Z",
        "2020-06-15 12:00",
    ],
)
def test_forms_of_now(now: Any) -> None:
    assert evaluate("now", now=now) == (1_592_222_400_000, 1_592_222_400_001)


@pytest.mark.parametrize("now", [True, "soon", None, 2**62, 1.5])
def test_other_nows_are_refused(now: Any) -> None:
    with pytest.raises(RuleError, match="expected now"):
        evaluate("1", now=now)


@pytest.mark.parametrize("timestamp", [0, "1970-01-01", datetime.datetime(1970, 1, 1)])
def test_event_times(timestamp: Any) -> None:
    assert evaluate("xEvent.max(timestamp)", events=[{"timestamp": timestamp}], now=5) == (0, None)


@pytest.mark.parametrize("event", [{}, {"timestamp": "soon"}, {"timestamp": True}])
def test_events_without_a_time_are_refused(event: Any) -> None:
    with pytest.raises(RuleError, match="every event's timestamp"):
        evaluate("1", events=[event], now=5)


def test_events_are_ordered_by_time_then_id_whatever_their_arrival() -> None:
    events = [
        {"timestamp": 2, "_id": "a"},
        {"timestamp": 1, "_id": "c"},
        {"timestamp": 1, "_id": "b"},
    ]
    nameless = [{"timestamp": 1, "v": n} for n in range(6)]
    assert [event["_id"] for event in order_events(events)] == ["b", "c", "a"]
    assert order_events(nameless) == order_events(nameless[::-1])
    kept = [{"timestamp": 1, "_id": "b"}, {"timestamp": 1, "_id": "a"}]
    assert [event["_id"] for event in order_events(kept, in_order=True)] == ["b", "a"]
    head = evaluate_with_validity(parse("xEvent._id.head()"), {}, kept, 5, in_order=True)
    assert head == ("b", None)
    assert events[0] == {"timestamp": 2, "_id": "a"}  # the caller's documents stay as they are


def test_a_schema_types_documents_and_rules() -> None:
    events = [{"timestamp": 1, "amount": "1.10", "at": 5, "items": [{"n": 1}, {"n": 2}]}]
    schema = [ORDER, PERSON]
    assert evaluate("xEvent.sum(amount)", events=events, now=9, schema=schema)[0] == Decimal("1.10")
    assert evaluate("xEvent.at.max() occurs before now", events=events, now=9, schema=schema)[0]
    assert evaluate("xEvent.items.n", events=events, now=9, schema=schema)[0] == [1, 2]
    assert evaluate("born.getYear()", {"born": "1980-02-03"}, now=9, schema=PERSON)[0] == 1980
    with pytest.raises(RuleError, match="unknown field"):
        evaluate("visit", now=9, schema=schema)
    with pytest.raises(RuleError, match="expected integer as the schema says"):
        evaluate("visits", {"visits": "many"}, now=9, schema=schema)


def test_computed_values_and_segments() -> None:
    computed = {"spend": 7.5, "last": NOON}
    assert evaluate("computed.spend * 2", computed=computed, now=NOON)[0] == 15.0
    assert evaluate("computed.last = now", computed=computed, now=NOON)[0] is True
    assert evaluate("computed.other", computed=computed, now=NOON)[0] is None
    assert evaluate('inSegment("a") and not inSegment("b")', segments=["a"], now=NOON)[0] is True


def test_errors_mark_the_rule() -> None:
    with pytest.raises(RuleError) as caught:
        evaluate('1 +\n  ("a" + 2)', now=NOON)
    assert (caught.value.line, caught.value.column) == (2, 4)
    assert "expected a number, got the string 'a'" in str(caught.value)


def test_rules_read_as_trees_bring_their_own_boundaries() -> None:
    computed = {
        "orders": parse("xEvent[timestamp occurs <= 2 days before now].count()"),
        "twice": parse("computed.orders * 2"),
    }
    segments = {"busy": parse("computed.twice >= 4"), "idle": parse('not inSegment("busy")')}
    events = [{"timestamp": 0}, {"timestamp": DAY}]
    tree = parse('inSegment("idle")')
    found = evaluate_with_validity(tree, {}, events, DAY, computed=computed, segments=segments)
    assert found == (False, 2 * DAY + 1)
    found = evaluate_with_validity(
        parse("computed.twice"), {}, events, 2 * DAY + 1, computed=computed, segments=segments
    )
    assert found == (2, 3 * DAY + 1)


def test_a_cycle_of_given_trees_is_refused() -> None:
    computed = {"a": parse("computed.b"), "b": parse("computed.a")}
    with pytest.raises(RuleError, match="cycle"):
        evaluate_with_validity(parse("computed.a"), {}, [], 0, computed=computed)


def test_a_membership_reads_null_as_false() -> None:
    tree = parse("if(now < date(1970, 1, 2), missing, false)")
    assert evaluate_with_validity(tree, {}, [], 5) == (None, DAY)
    assert evaluate_with_validity(tree, {}, [], 5, condition=True) == (False, None)


def test_long_histories_step_through_their_boundaries() -> None:
    events = [{"timestamp": n * 1_000, "_id": str(n)} for n in range(400)]
    rule = "xEvent[timestamp occurs <= 7 days before now].count() >= 2"
    assert evaluate(rule, events=events, now=400_000) == (True, 398_000 + 7 * DAY + 1)


def test_now_between_now_and_a_fixed_instant_ends_there() -> None:
    # Found by test_conditions: nothing in it jumps, and the search for a period had no units.
    noon = 1_709_208_000_000  # 2024-02-29 12:00 UTC
    rule = "now occurs between now and date(2024, 2, 29, 12, 0, 0)"
    assert evaluate(rule, now=noon - 5) == (True, noon + 1)
    assert evaluate(rule, now=noon) == (True, noon + 1)
    assert evaluate(rule, now=noon + 1) == (False, None)


def test_a_moving_subject_behind_an_end_that_stands_still_has_no_more_boundaries() -> None:
    now = datetime.datetime(2024, 3, 1, 10)
    rule = "today occurs between now and pt"
    assert evaluate(rule, {"pt": datetime.datetime(2024, 1, 1)}, [], now=now) == (False, None)
    midnight = 1_709_337_600_000  # today is now for one millisecond
    ahead = {"pt": datetime.datetime(2024, 3, 20)}
    assert evaluate(rule, ahead, [], now=now) == (False, midnight)


def test_whole_objects_have_typed_leaves_as_in_a_store() -> None:
    hit = Schema(
        "hit",
        "event",
        {"o.fee": "decimal(2)", "o.day": "date", "items[].at": "timestamp", "o.parts": "double[]"},
    )
    whole = {"fee": "1.50", "day": "2024-02-28", "parts": [1, None], "unknown": 1}
    event = {"timestamp": 0, "o": whole, "items": [{"at": "1970-01-02"}, None, {"at": None}]}
    for rule, expected in {
        "xEvent.head().o": {"fee": Decimal("1.50"), "day": 1_709_078_400_000, "parts": [1.0]},
        "xEvent.items": [{"at": 86_400_000}, {}],
        "xEvent.groupBy(o.fee > 1).map((K, G) => mapEntry(K, G.o.head().day))": {
            True: 1_709_078_400_000
        },
    }.items():
        value, until = evaluate(rule, {}, [event], now=1, schema=hit)
        assert repr((value, until)) == repr((expected, None))


def test_what_does_not_fit_its_type_is_told_by_a_rule_that_reads_it() -> None:
    hit = Schema("hit", "event", {"o.fee": "decimal(2)", "n": "integer"})
    event = {"timestamp": 0, "o": {"fee": "much"}, "n": 1}
    assert evaluate("xEvent.sum(n)", {}, [event], now=1, schema=hit) == (1, None)
    with pytest.raises(RuleError, match="expected decimal as the schema says, got 'much'"):
        evaluate("xEvent.sum(o.fee)", {}, [event], now=1, schema=hit)


def test_entities_are_named_as_a_store_would_by_their_namespace() -> None:
    named = Relationship("order", "sku", "product", "product")
    asked: dict[str, Any] = {
        "events": [{"timestamp": 0, "sku": " OOLONG"}],
        "now": NOON,
        "relationships": named,
        "lookups": {"product": {"Oolong": {"category": "tea"}}},
    }
    rule = 'xEvent[product.category = "tea"].count()'
    assert evaluate(rule, **asked)[0] == 0
    lower = Namespace("SKU", "non_people", normalize=("trim", "lower"))
    assert evaluate(rule, **asked, namespaces={"product": lower})[0] == 1


def test_a_relationship_that_is_called_as_what_every_row_has_is_told_so() -> None:
    order = Schema("order", "event", {"sku": "string"})
    product = Schema("product", "lookup", {"category": "string"})
    named = Relationship("order", "sku", "product", "timestamp")
    with pytest.raises(DefinitionError, match="another name - at relationship") as error:
        evaluate("true", now=NOON, schema=[order, product], relationships=named)
    assert "field" not in str(error.value)
