"""Definition files: both shapes, both formats, and errors that name the place."""

from __future__ import annotations

import pytest

from profile_actors.definitions.catalogue_changes import extended
from profile_actors.definitions.declared import (
    Catalogue,
    ComputedAttribute,
    Dataset,
    Definition,
    EdgeDestination,
    Field,
    Namespace,
    ProjectionConfiguration,
    Schema,
    SegmentDefinition,
)
from profile_actors.errors import DefinitionError
from profile_actors.ingest.definition_files import parse_definitions

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
destinations:
  window: {labels: {region: us-west}, ttl_s: 3600}
projections:
  - {name: page, destination: window, selector: "person(name,tier)", segments: [big], computed: all}
"""
JSON = """[
  {"type": "namespace", "code": "CRMID", "kind": "cross_device", "unique": true, "priority": 1},
  {"type": "schema", "name": "order", "behavior": "event",
   "fields": {"cds": "integer", "value": {"type": "double", "minimum": 0}}},
  {"type": "dataset", "name": "orders", "schema": "order", "identities": {"who": "CRMID"},
   "timestamp": "date", "event_type": "purchase"},
  {"type": "segment", "name": "big", "rule": "xEvent.sum(value) > 500"},
  {"type": "computed", "name": "spend", "rule": "xEvent.sum(value)", "description": "all of it"},
  {"type": "edge_destination", "name": "window", "labels": {"region": "us-west"}, "ttl_s": 3600},
  {"type": "projection", "name": "page", "destination": "window",
   "selector": "person(name,tier)", "segments": ["big"], "computed": "all"}
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
    EdgeDestination("window", {"region": "us-west"}, ttl_s=3600),
    ProjectionConfiguration(
        "page", "window", "person(name,tier)", segments=("big",), computed="all"
    ),
]


def test_both_shapes_declare_the_same() -> None:
    assert parse_definitions(YAML, "shop/definitions.yaml") == ITEMS
    assert parse_definitions(JSON, ".json") == ITEMS
    assert extended(Catalogue(), ITEMS).version == 1
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


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (
            "schemas:\n  - {name: p, behavior: record,"
            " fields: {at: date, country: {type: string, enum: [SE, NO]}}}",
            "fields.country.enum[1] (line 2); YAML reads NO as true or false: quote it, 'NO'",
        ),
        (
            "schemas: {p: {behavior: record, fields: {d: {type: date, enum: [2020-01-01]}}}}",
            "YAML reads 2020-01-01 as a date: quote it, '2020-01-01'",
        ),
        ("segments:\n  no: {rule: 'true'}", "at $.segments.no (line 2); YAML reads no"),
        ("segments: {7: {rule: 'true'}}", "YAML reads 7 as a number: quote it, '7'"),
        (
            "schemas: {p: {behavior: record, fields: {yes: string}}}",
            "at $.schemas.p.fields.yes (line 1); YAML reads yes as true or false: quote it, 'yes'",
        ),
        ("segments: {a: {rule: true}}", "a rule is a text: write it in single quotes"),
        ("segments: {a: {rule: [1]}}", "a rule is a text: write it in single quotes"),
        (
            "segments:\n  - name: a\n    rule: CHAIN(xEvent, timestamp, [A: WHAT(n = 1)])",
            "a rule is a text: write it in single quotes, rule: '…', or below rule: |",
        ),
        ("segments: {a: {rule: xEvent[n = 1].count() > 2}}", "write it in single quotes"),
        ('segments:\n  a:\n    rule: "a" in [s]', "write it in single quotes"),
    ],
)
def test_what_yaml_made_of_plain_words_is_said(text: str, words: str) -> None:
    with pytest.raises(DefinitionError) as caught:
        parse_definitions(text, ".yaml")
    assert words in str(caught.value)


def test_a_broken_line_that_is_no_rule_is_not_called_one() -> None:
    with pytest.raises(DefinitionError) as caught:
        parse_definitions("segments:\n  a:\n    rule: 'n > 1'\n    description: a: b", ".yaml")
    assert "single quotes" not in str(caught.value)


def test_a_datasets_times_and_columns_are_declared_in_yaml() -> None:
    text = """
datasets:
  a: {schema: s, identities: {u: U}, timestamp: t, timestamp_unit: s, ignore: "*"}
  b: {schema: s, identities: {u: U}, timestamp: t, timestamp_format: "%d/%m/%Y", ignore: [x, y]}
  c: {schema: s, identities: {u: U}, timestamp: t, timestamp_format: ["%Y%m%d", "%d/%m/%Y"]}
"""
    a, b, c = parse_definitions(text, ".yaml")
    assert isinstance(a, Dataset)
    assert isinstance(b, Dataset)
    assert isinstance(c, Dataset)
    assert (a.timestamp_unit, a.ignore) == ("s", "*")
    assert (b.timestamp_format, b.ignore) == ("%d/%m/%Y", ("x", "y"))
    assert c.timestamp_format == ("%Y%m%d", "%d/%m/%Y")
