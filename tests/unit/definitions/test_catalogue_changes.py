"""The catalogue: merge, compatibility, references, and what schema paths spell."""

from __future__ import annotations

from typing import Any

import pytest

from profile_actors.definitions.catalogue_changes import decode, encode, extended
from profile_actors.definitions.declared import (
    Catalogue,
    ComputedAttribute,
    Dataset,
    Definition,
    Field,
    Namespace,
    Schema,
    SegmentDefinition,
)
from profile_actors.definitions.field_types import FieldType, parse_type
from profile_actors.definitions.schema_paths import columns_of, fields_of, tree_of, union_tree
from profile_actors.errors import DefinitionError, SchemaError

CRM = Namespace("CRMID", kind="cross_device", unique=True, priority=1)
ORDER = Schema("order", behavior="event", fields={"cds": "integer", "value": Field("double")})
ORDERS = Dataset(
    "orders", schema="order", identities={"who": "CRMID"}, timestamp="date", event_type="purchase"
)
SHOP = (CRM, ORDER, ORDERS)


def event(**fields: Any) -> Schema:
    return Schema("order", behavior="event", fields=fields)


def test_merge_is_additive_and_idempotent() -> None:
    first = extended(Catalogue(), SHOP)
    assert first.version == 1
    assert extended(first, SHOP) is first
    assert extended(first, [event(value="double", cds=" integer ")]) is first
    second = extended(first, [SegmentDefinition("big", "true"), ComputedAttribute("big", "1")])
    assert second.version == 2
    assert set(second.datasets) == {"orders"}
    assert extended(second, [SegmentDefinition("big", "false")]).segments["big"].rule == "false"


def test_merge_keeps_nothing_of_a_refused_change() -> None:
    first = extended(Catalogue(), SHOP)
    before = encode(first)
    with pytest.raises(DefinitionError):
        extended(first, [SegmentDefinition("ok", "true"), Dataset("bad", schema="nope")])
    assert encode(first) == before


def test_a_catalogue_survives_its_bytes() -> None:
    tablet = Namespace("TAB", kind="device")
    two = Dataset("two", schema="order", identities={"z": "TAB", "a": "CRMID"}, timestamp="t")
    catalogue = extended(extended(Catalogue(), SHOP), [tablet, two])
    again = decode(encode(catalogue))
    assert again == catalogue
    assert list(again.datasets["two"].identities) == ["z", "a"]
    assert encode(again) == encode(catalogue)
    with pytest.raises(DefinitionError, match="expected a catalogue as JSON"):
        decode(b'{"version": "x"}')


def test_the_order_of_identities_is_content() -> None:
    tablet = Namespace("TAB", kind="device")
    base = extended(Catalogue(), [CRM, tablet, ORDER])
    one = extended(
        base, [Dataset("d", schema="order", identities={"a": "TAB", "b": "CRMID"}, timestamp="t")]
    )
    turned = Dataset("d", schema="order", identities={"b": "CRMID", "a": "TAB"}, timestamp="t")
    two = extended(one, [turned])
    assert two.version == one.version + 1
    assert list(two.datasets["d"].identities) == ["b", "a"]


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        (Namespace("CRMID", kind="email"), "kind to stay 'cross_device'"),
        (Namespace("CRMID", kind="cross_device", normalize="lower"), "normalize to stay None"),
        (Schema("order", behavior="record", fields=ORDER.fields), "behavior 'event' to stay"),
        (event(cds="integer"), "field 'value' to stay, got none"),
        (event(cds="double", value="double"), "field 'cds' to stay 'integer', got 'double'"),
        (event(cds=Field("integer", required=True), value="double"), "required of field 'cds'"),
        (event(cds=Field("integer", minimum=0), value="double"), "minimum of field 'cds'"),
        (event(cds=Field("integer", maximum=9), value="double"), "maximum of field 'cds'"),
        (event(cds=Field("integer", enum=(1,)), value="double"), "enum of field 'cds'"),
        (
            event(cds="integer", value="double", new=Field("string", required=True)),
            "new field 'new' to be optional",
        ),
        (
            Dataset(
                "orders", schema="order", identities={"who": "CRMID"}, timestamp="date", id="i"
            ),
            "id to stay None",
        ),
    ],
)
def test_incompatible_changes_are_refused(changed: Definition, words: str) -> None:
    with pytest.raises((DefinitionError, SchemaError), match=words):
        extended(extended(Catalogue(), SHOP), [changed])


def test_the_advice_for_a_type_that_changes_can_be_followed() -> None:
    """What came as whole numbers comes with a fraction: the name that the refusal gives works."""
    first = extended(Catalogue(), SHOP)
    taken = extended(first, [event(cds="integer", value="double", cds_double="string")])
    for catalogue, name in ((first, "cds_double"), (taken, "cds_double2")):
        fields = {**catalogue.schemas["order"].fields}
        with pytest.raises(SchemaError, match=f"such as '{name}'"):
            extended(catalogue, [event(**(fields | {"cds": "double"}))])
        grown = extended(catalogue, [event(**fields, **{name: "double"})])
        assert list(grown.schemas["order"].fields) == [*fields, name]
    with pytest.raises(SchemaError, match="one type of a path"):
        extended(first, [Schema("order_2", behavior="event", fields={"cds": "double"})])


def test_a_new_mail_or_phone_namespace_trims_and_a_stored_one_keeps_its_keys() -> None:
    """Catalogues from before there was 'trim' say None or one word, and mean exactly that."""
    declared = [
        Namespace("M", kind="email"),
        Namespace("L", kind="email", normalize="lower"),
        Namespace("P", kind="phone", normalize=("digits",)),
        Namespace("N", kind="email", normalize=()),
        Namespace("C", kind="cross_device"),
        Namespace("D", kind="partner", normalize=["digits", "trim", "trim"]),  # type: ignore[arg-type]
    ]
    fresh = extended(Catalogue(), declared)
    assert {code: n.steps for code, n in fresh.namespaces.items()} == {
        "M": ("trim",),
        "L": ("trim", "lower"),
        "P": ("trim", "digits"),
        "N": (),
        "C": (),
        "D": ("trim", "digits"),
    }
    assert extended(fresh, declared) is fresh
    assert decode(encode(fresh)) == fresh
    old = decode(
        b'{"version":3,"namespaces":{"M":{"type":"namespace","code":"M","kind":"email"},'
        b'"L":{"type":"namespace","code":"L","kind":"email","normalize":"lower"},'
        b'"P":{"type":"namespace","code":"P","kind":"phone","normalize":"digits"}}}'
    )
    again = extended(old, declared)
    assert {c: again.namespaces[c].steps for c in "MLP"} == {
        "M": (),
        "L": ("lower",),
        "P": ("digits",),
    }
    assert extended(again, declared) is again
    assert extended(again, [Namespace("M", kind="email", priority=1)]).namespaces["M"].steps == ()
    with pytest.raises(DefinitionError, match="normalize to stay None"):
        extended(again, [Namespace("M", kind="email", normalize="trim")])
    with pytest.raises(DefinitionError, match="normalize to stay"):
        extended(fresh, [Namespace("M", kind="email", normalize=())])
    with pytest.raises(DefinitionError, match="normalize"):
        extended(fresh, [Namespace("X", kind="email", normalize=("upper",))])  # type: ignore[arg-type]


def test_compatible_changes_are_taken_and_keep_the_field_order() -> None:
    narrow = {
        "a": Field("integer", required=True, minimum=0, maximum=5, enum=(1, 2)),
        "b": Field("string", pattern="x", max_length=3),
    }
    first = extended(Catalogue(), [Schema("s", behavior="record", fields=dict(narrow))])
    wide: dict[str, str | Field] = {
        "new": "string",
        "b": Field("string", max_length=4),
        "a": Field("integer", minimum=-1, maximum=6, enum=(1, 2, 3), labels=("C1",)),
    }
    second = extended(first, [Schema("s", behavior="record", fields=wide)])
    assert second.version == 2
    assert list(second.schemas["s"].fields) == ["a", "b", "new"]
    assert fields_of(second.schemas["s"])["b"].pattern is None


@pytest.mark.parametrize(
    ("item", "words"),
    [
        (Dataset("d", schema="nope", identities={"w": "CRMID"}), "defined schema, got 'nope'"),
        (
            Dataset("d", schema="order", identities={"w": "X"}, timestamp="t"),
            "defined namespace, got 'X'; defined are CRMID",
        ),
        (Dataset("d", schema="order", identities={"w": "CRMID"}), "a timestamp column"),
        (Dataset("d", schema="order", timestamp="t"), "at least one identity"),
        (
            Dataset("d", schema="order", identities={"w": "CRMID"}, timestamp="t", primary="x"),
            "primary to be one of its identity fields",
        ),
        (
            Dataset("d", schema="order", identities={"value": "CRMID"}, timestamp="t"),
            "string or integer as identities, got field 'value' of type double",
        ),
        (
            Dataset("d", schema="order", identities={"w": "CRMID"}, timestamp="value"),
            "timestamp or date or integer as timestamp",
        ),
        (
            Dataset(
                *("d", "order"),
                identities={"w": "CRMID"},
                timestamp="t",
                event_type="a",
                event_type_field="b",
            ),
            "event_type or event_type_field, got both",
        ),
        (
            Dataset("d", schema="order", identities={"w": "CRMID"}, timestamp="t", mode="replace"),
            "mode 'upsert' of an event dataset",
        ),
        (Dataset("d", schema="person", identities={"w": "CRMID"}, event_type="x"), "no event type"),
        (Dataset("d", schema="own", identities={"w": "CRMID"}, timestamp="at"), "timestamp='time"),
        (Dataset("", schema="order"), "a name of 1 to 256 characters"),
        (Dataset("x" * 257, schema="order"), "a name of 1 to 256 characters"),
        (Namespace("a\x1f", kind="email"), "without control characters"),
        (Namespace("N", kind="nope"), "Invalid enum value 'nope' - at `\\$.kind`"),  # type: ignore[arg-type]
        (SegmentDefinition("s", 3), "Expected `str`, got `int`"),  # type: ignore[arg-type]
        (SegmentDefinition("\ud800", "true"), r"expected UTF-8 text, got '\\ud800' - at segment"),
        (SegmentDefinition("s", '"\ud800" = "x"'), "lone surrogates cannot be stored"),
        (Schema("s", behavior="record", fields={"\udfff": "string"}), "expected UTF-8 text"),
        ("text", "expected Namespace, Schema, Dataset"),
    ],
)
def test_bad_items_are_refused_with_the_place(item: Definition, words: str) -> None:
    person = Schema("person", behavior="record", fields={"name": "string"})
    own = Schema("own", behavior="event", fields={"timestamp": "timestamp"})
    base = extended(Catalogue(), [CRM, ORDER, person, own])
    with pytest.raises(DefinitionError, match=words) as caught:
        extended(base, [item])
    if not isinstance(item, str):
        assert "at " in str(caught.value)


@pytest.mark.parametrize(
    ("path", "field", "words"),
    [
        ("a", "text", "expected a field type"),
        ("a", "decimal(16)", "expected a field type"),
        ("a", "string[][" + "]" * 300, "expected a field type"),
        ("a..b", "string", "names joined by dots"),
        ("@a", "string", "names joined by dots"),
        ("a[]", "string", "write the type as T\\[\\]"),
        ("computed.a", "string", "rules do not reserve"),
        ("a", Field("string", minimum=1), "minimum and maximum on numbers only"),
        ("a", Field("integer", pattern="x"), "on strings only"),
        ("a", Field("string", pattern="("), "expected an RE2 pattern"),
        ("a", Field("string", pattern="(?=x)"), "expected an RE2 pattern"),
        ("a", Field("integer", minimum=2, maximum=1), "minimum <= maximum"),
        ("a", Field("integer", minimum=0.5), "integer values in constraints"),
        ("a", Field("double", maximum=float("inf")), "finite numbers"),
        ("a", Field("string", enum=()), "at least one value in enum"),
        ("a", Field("string", enum=(1,)), "strings in enum"),
        ("a", Field("boolean", enum=("x",)), "enum on strings, integers and doubles"),
        ("a", Field("string", max_length=0), "max_length of at least 1"),
        ("timestamp", "string", "expected type timestamp of an event's timestamp"),
    ],
)
def test_bad_fields_are_refused(path: str, field: str | Field, words: str) -> None:
    with pytest.raises(SchemaError, match=words) as caught:
        extended(Catalogue(), [Schema("s", behavior="event", fields={path: field})])
    assert "'s'" in str(caught.value)


def test_schemas_of_one_behaviour_agree_on_every_path() -> None:
    one = Schema("one", behavior="event", fields={"a": "integer", "items[].sku": "string"})
    two = Schema("two", behavior="event", fields={"a": "integer", "items[].n": "integer"})
    both = extended(Catalogue(), [one, two])
    item = FieldType("object", fields=(("sku", FieldType("string")), ("n", FieldType("integer"))))
    assert dict(union_tree(both, "event").fields)["items"] == FieldType("array", item=item)
    for clash in ({"a": "string"}, {"a.b": "string"}, {"items.sku": "string"}):
        other = Schema("other", behavior="event", fields=dict(clash))
        with pytest.raises(SchemaError, match=r"one (type|meaning)"):
            extended(both, [other])
    apart = Schema("person", behavior="record", fields={"a": "string"})
    assert "person" in extended(both, [apart]).schemas


def test_two_definitions_of_one_name_in_one_call_must_agree() -> None:
    assert extended(Catalogue(), [CRM, CRM]).version == 1
    with pytest.raises(DefinitionError, match="got two that differ - at namespace 'CRMID'"):
        extended(Catalogue(), [CRM, Namespace("CRMID", kind="email")])


def test_paths_spell_a_tree_and_columns() -> None:
    schema = Schema(
        "s",
        behavior="record",
        fields={
            "home.city": "string",
            "items[].sku": "string",
            "items[].at.x": "double[]",
            "m": "map<integer>",
        },
    )
    assert {path: kind.kind for path, kind in columns_of(schema).items()} == {
        "home.city": "string",
        "items": "array",
        "m": "map",
    }
    items = columns_of(schema)["items"].item
    assert items is not None
    assert dict(items.fields)["at"] == FieldType("object", fields=(("x", parse_type("double[]")),))
    assert [name for name, _ in tree_of(schema).fields] == ["home", "items", "m"]
