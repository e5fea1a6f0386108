"""Definition files: both shapes, both formats, and errors that name the place."""

from __future__ import annotations

import pytest

from profile_actors.definitions import (
    Catalogue,
    ComputedAttribute,
    Dataset,
    Definition,
    Field,
    Namespace,
    Schema,
    SegmentDefinition,
    merge,
)
from profile_actors.errors import DefinitionError
from profile_actors.ingest.catalogue import parse_definitions

YAML = """
namespaces:
  CRMID: {kind: cross_device, unique: true, priority: 1}
schemas:
  order:
    behavior: event
    fields:
      cds: integer
      value: {type: double, minimum: 0}
datasets:
  - {name: orders, schema: order, identities: {who: CRMID}, timestamp: date, event_type: purchase}
segments:
  big: {rule: 'xEvent.sum(value) > 500'}
computed_attributes:
  spend: {rule: xEvent.sum(value), description: all of it}
"""
JSON = """[
  {"type": "namespace", "code": "CRMID", "kind": "cross_device", "unique": true, "priority": 1},
  {"type": "schema", "name": "order", "behavior": "event",
   "fields": {"cds": "integer", "value": {"type": "double", "minimum": 0}}},
  {"type": "dataset", "name": "orders", "schema": "order", "identities": {"who": "CRMID"},
   "timestamp": "date", "event_type": "purchase"},
  {"type": "segment", "name": "big", "rule": "xEvent.sum(value) > 500"},
  {"type": "computed", "name": "spend", "rule": "xEvent.sum(value)", "description": "all of it"}
]"""
ITEMS: list[Definition] = [
    Namespace("CRMID", kind="cross_device", unique=True, priority=1),
    Schema(
        "order",
        behavior="event",
        fields={"cds": "integer", "value": Field("double", minimum=0)},
    ),
    Dataset(
        *("orders", "order"), identities={"who": "CRMID"}, timestamp="date", event_type="purchase"
    ),
    SegmentDefinition("big", "xEvent.sum(value) > 500"),
    ComputedAttribute("spend", "xEvent.sum(value)", "all of it"),
]


def test_both_shapes_declare_the_same() -> None:
    assert parse_definitions(YAML, "shop/definitions.yaml") == ITEMS
    assert parse_definitions(JSON, ".json") == ITEMS
    assert merge(Catalogue(), ITEMS).version == 1
    assert parse_definitions("", ".yml") == []
    assert parse_definitions("segments:", ".yml") == []


@pytest.mark.parametrize(
    ("text", "name", "words"),
    [
        ("a: [", ".yaml", "expected YAML text"),
        ("{", ".json", "expected JSON text"),
        ("x", ".toml", "expected a .yaml, .yml or .json file, got '.toml'"),
        ("segment: {}", ".yaml", "got \\['segment'\\]"),
        ("just text", ".yaml", "expected a list of items or a mapping"),
        ("segments: 3", ".yaml", "at \\$.segments"),
        ("segments: {a: 3}", ".yaml", "at \\$.segments.a"),
        (
            "segments: {a: {rule: no}}",
            ".yaml",
            "Expected `str`, got `bool` - at \\$.segments.a.rule",
        ),
        (
            "segments: [{name: a, rule: b, x: 1}]",
            ".yaml",
            "unknown field `x` - at \\$.segments\\[0\\]",
        ),
        (
            "segments: {a: {rule: b}, a: {rule: c}}",
            ".yaml",
            "expected each key once, got 'a' again",
        ),
        ('[{"type": "segmnet", "name": "a"}]', ".json", "at \\$\\[0\\].type"),
        (
            "schemas: {o: {behavior: event, fields: {a: {typ: x}}}}",
            ".yaml",
            "at \\$.schemas.o.fields",
        ),
    ],
)
def test_errors_name_the_place(text: str, name: str, words: str) -> None:
    with pytest.raises(DefinitionError, match=words):
        parse_definitions(text, name)
