"""Relationships: what they must be, beside what, and how they change."""

from __future__ import annotations

from typing import Any

import pytest

from profile_actors.definitions.catalogue_changes import extended
from profile_actors.definitions.declared import (
    Catalogue,
    Dataset,
    Namespace,
    Relationship,
    Schema,
    SegmentDefinition,
)
from profile_actors.definitions.relationships import joins_of
from profile_actors.errors import DefinitionError
from profile_actors.ingest.definition_files import parse_definitions
from profile_actors.rules.catalogue.change_check import check_change, find, removed
from profile_actors.rules.explain.report import explain

SKU, EAN = Namespace("SKU", "non_people"), Namespace("EAN", "non_people")
ITEMS: dict[str, Any] = {
    "items[].sku": "string", "items[].inner.sku": "string", "kinds": "string[]", "at": "timestamp",
    "limits": "map<string>",
}  # fmt: skip
SCHEMAS: list[Any] = [
    Namespace("CRMID", "cross_device"), SKU, EAN,
    Schema("order", "event", ITEMS), Schema("person", "record", {"home": "integer"}),
    Schema("product", "lookup", {"category": "string"}),
    Dataset("goods", "product", {"id": "SKU"}),
]  # fmt: skip
GOOD = Relationship("order", "items[].sku", "product", "product")


def with_(*items: Any) -> Catalogue:
    return extended(extended(Catalogue(), SCHEMAS), items)


@pytest.mark.parametrize(
    ("wrong", "why"),
    [
        (("orders", "items[].sku", "product", "p"), "expected a defined schema as schema, got 'or"),
        (("order", "items[].sku", "products", "p"), "expected a defined schema as target, got 'p"),
        (("order", "items[].sku", "person", "p"), "expected a lookup schema as target, got 'pers"),
        (("product", "category", "product", "p"), "expected a schema of events or records, got"),
        (("order", "items[].no", "product", "p"), "expected a field of schema 'order', got 'items"),
        (("order", "items", "product", "p"), "expected a field of schema 'order', got 'items'"),
        (("order", "at", "product", "p"), "expected a field of texts or integers, which can name"),
        (("order", "limits", "product", "p"), "expected a field of texts or integers, which can"),
        (("order", "items[].sku", "product", "inner"), "a name that no event schema has a field"),
        (("order", "kinds", "product", "timestamp"), "a name that means nothing else in a row"),
        (("order", "kinds", "product", "xEvent"), "expected a name that rules do not reserve"),
        (("order", "kinds", "product", "a.b"), "expected a name without dots"),
        (("order", "kinds", "product", ""), "expected a name of 1 to"),
    ],
)
def test_what_is_wrong_is_said(wrong: tuple[str, str, str, str], why: str) -> None:
    with pytest.raises(DefinitionError) as refused:
        with_(Relationship(*wrong))
    assert why in str(refused.value)
    assert "at relationship" in str(refused.value)


def test_what_comes_later_must_fit_too() -> None:
    known = with_(GOOD)
    with pytest.raises(DefinitionError, match=r"no event schema has a field of, got 'items\[\]\.p"):
        extended(known, [Schema("other", "event", {"items[].product": "string"})])
    with pytest.raises(DefinitionError, match="named by one namespace, got 'SKU', 'EAN'"):
        extended(known, [Dataset("more", "product", {"code": "EAN"})])
    with pytest.raises(DefinitionError, match="without an identity_map"):
        extended(known, [Dataset("more", "product", identity_map="ids")])


def test_a_file_declares_them_and_they_have_versions() -> None:
    body = "{schema: order, field: 'items[].sku', target: product}"
    (read,) = parse_definitions(f"relationships: {{product: {body}}}", ".yaml")
    assert read == GOOD
    first = with_(GOOD)
    assert extended(first, [GOOD]) is first
    moved = Relationship("order", "items[].inner.sku", "product", "product")
    second = extended(first, [moved])
    assert second.relationships["product"].version == 2
    (join,) = joins_of(second)
    assert (join.column, join.inner, join.parents) == (
        "items",
        ("inner", "sku"),
        ("items", "inner"),
    )
    assert join.namespace == SKU


def test_what_is_read_is_not_deleted() -> None:
    rule = SegmentDefinition("tea", 'xEvent[items[product.category = "tea"]]')
    known = with_(GOOD, rule)
    check_change(known, known)
    with pytest.raises(DefinitionError, match="expected a relationship that no rule reads"):
        removed(known, find(known, "product", "relationship"))
    for schema in ("product", "order"):
        with pytest.raises(DefinitionError, match="relationship 'product'"):
            removed(known, find(known, schema, "schema"))
    alone = removed(known, rule)
    assert removed(alone, find(alone, "product", "relationship")).relationships == {}


def test_explain_says_which_way_it_runs() -> None:
    report = explain('xEvent[items[product.category = "tea"]]', with_(GOOD))
    assert report["runs"] == "by rescan"
    assert "it reads 'product' entities, which change by themselves" in report["reason"]
    assert "profiles that name a changed 'product' as 'product'" in report["rescanned_for"]
    assert explain('xEvent[items[sku = "tea"]]', with_(GOOD))["runs"] == "by rescan"
    assert "entities" not in explain('xEvent[items[sku = "tea"]]', with_(GOOD))["reason"]
