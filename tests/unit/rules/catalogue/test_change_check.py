"""States and versions of rules, and what may be withheld or deleted: on the catalogue alone."""

from __future__ import annotations

import pytest

from profile_actors.definitions.catalogue_changes import decode, encode, extended
from profile_actors.definitions.declared import (
    Catalogue,
    ComputedAttribute,
    Dataset,
    Definition,
    Namespace,
    Schema,
    SegmentDefinition,
)
from profile_actors.errors import DefinitionError, RuleError
from profile_actors.rules.catalogue.catalogue_plan import plan
from profile_actors.rules.catalogue.change_check import check_change, find, removed

SHOP: tuple[Definition, ...] = (
    Namespace("CRMID", kind="cross_device"),
    Namespace("ECID", kind="cookie"),
    Schema("order", behavior="event", fields={"price": "double"}),
    Schema("visit", behavior="event", fields={"page": "string"}),
    Dataset("orders", schema="order", identities={"who": "CRMID"}, timestamp="at"),
)
SPENT = ComputedAttribute("spent", "xEvent.sum(price)")
RICH = SegmentDefinition("rich", "computed.spent > 100")
RICHER = SegmentDefinition("richer", 'inSegment("rich") and computed.spent > 1000')


def applied(catalogue: Catalogue, *items: Definition) -> Catalogue:
    """What the coordinator does with them."""
    wanted = extended(catalogue, items)
    check_change(catalogue, wanted)
    return wanted


def store(*items: Definition) -> Catalogue:
    return applied(Catalogue(), *SHOP, *items)


def with_state(rule: SegmentDefinition, state: str) -> SegmentDefinition:
    return SegmentDefinition(rule.name, rule.rule, state=state)  # type: ignore[arg-type]


def test_versions_start_at_one_and_count_changes_of_content() -> None:
    first = store(SPENT, SegmentDefinition("rich", "computed.spent > 100", version=7))
    assert (first.segments["rich"].version, first.computed["spent"].version) == (1, 1)
    assert applied(first, RICH) is first
    second = applied(first, SegmentDefinition("rich", "computed.spent > 200"))
    assert (second.segments["rich"].version, second.computed["spent"].version) == (2, 1)
    third = applied(second, SegmentDefinition("rich", "computed.spent > 200", "of money"))
    assert third.segments["rich"].version == 3
    quiet = SegmentDefinition("rich", "computed.spent > 200", "of money", state="inactive")
    fourth = applied(third, quiet)
    assert fourth.version == third.version + 1
    assert fourth.segments["rich"].version == 3, "a state is no content"
    assert decode(encode(fourth)) == fourth


def test_a_catalogue_from_before_states_reads_as_published() -> None:
    old = decode(b'{"segments": {"a": {"type": "segment", "name": "a", "rule": "true"}}}')
    assert (old.segments["a"].state, old.segments["a"].version) == ("published", 1)


def test_drafts_and_inactive_rules_are_checked_but_not_planned() -> None:
    catalogue = store(SPENT, with_state(RICH, "draft"), SegmentDefinition("x", "true"))
    assert [rule.name for rule in plan(catalogue).rules] == ["spent", "x"]
    for state in ("draft", "inactive"):
        wrong = with_state(SegmentDefinition("wrong", "xEvent.sum(prise) > 1"), state)
        with pytest.raises(RuleError, match="prise"):
            applied(catalogue, wrong)


@pytest.mark.parametrize("state", ["draft", "inactive"])
@pytest.mark.parametrize("reader", ["published", "draft"])
def test_nobody_reads_what_is_not_published(state: str, reader: str) -> None:
    base = store(SPENT, with_state(RICH, state))
    with pytest.raises(RuleError, match=f"'rich', which is .*{state}") as caught:
        applied(base, with_state(RICHER, reader))
    assert caught.value.line == 1, "the place is marked"
    hidden = ComputedAttribute("spent", SPENT.rule, state=state)  # type: ignore[arg-type]
    with pytest.raises(RuleError, match="'spent', which is"):
        store(hidden, with_state(RICH, reader))


def test_what_is_read_is_not_made_inactive_and_a_chain_is_from_its_end() -> None:
    base = store(SPENT, RICH, RICHER)
    with pytest.raises(DefinitionError, match=r"segment 'rich' to stay published.*'richer'"):
        applied(base, with_state(RICH, "inactive"))
    with pytest.raises(DefinitionError, match="'rich' and segment 'richer' reads"):
        applied(base, ComputedAttribute("spent", SPENT.rule, state="inactive"))
    both = applied(base, with_state(RICH, "inactive"), with_state(RICHER, "inactive"))
    with pytest.raises(RuleError, match="'rich', which is inactive"):
        applied(both, RICHER)
    with pytest.raises(DefinitionError, match="'rich'"):
        removed(both, both.segments["rich"])
    again = applied(both, RICH, RICHER)
    assert len(plan(again).rules) == 3


def test_deleting_refuses_while_something_refers_to_it() -> None:
    base = store(SPENT, RICH)
    for name, user in (("spent", "segment 'rich'"), ("CRMID", "dataset 'orders'")):
        with pytest.raises(DefinitionError, match=user):
            removed(base, find(base, name))
    with pytest.raises(DefinitionError, match="dataset 'orders'"):
        removed(base, find(base, "order"))
    one = removed(base, find(base, "rich"))
    assert one.version == base.version + 1
    two = removed(one, find(one, "spent"))
    three = removed(two, find(two, "orders"))
    four = removed(removed(three, find(three, "order")), find(three, "CRMID"))
    assert (four.segments, four.computed, four.datasets) == ({}, {}, {})
    assert set(four.schemas) == {"visit"}
    assert set(four.namespaces) == {"ECID"}


def test_a_schema_whose_fields_a_rule_reads_is_not_deleted() -> None:
    base = store(SegmentDefinition("visitors", 'xEvent.filter(page = "x").count() > 0'))
    with pytest.raises(DefinitionError, match="visitors"):
        removed(base, find(base, "visit"))


def test_names_are_found_or_asked_about() -> None:
    base = store(SPENT, SegmentDefinition("order", "true"))
    with pytest.raises(DefinitionError, match=r"'nobody'; defined are .*spent"):
        find(base, "nobody")
    with pytest.raises(DefinitionError, match="schema and segment"):
        find(base, "order")
    assert find(base, "order", "schema") == base.schemas["order"]
    with pytest.raises(DefinitionError, match="kind"):
        find(base, "order", "thing")
