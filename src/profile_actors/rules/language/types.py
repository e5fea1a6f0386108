"""Types of the rule language: the scope that schemas give, and which types go together.

Theory: a type is a schema's FieldType; None means unknown, and goes with everything. A map's keys
are strings unless its type carries ``("key", type)`` in ``fields``, as those of groupBy do. A field
that two schemas declare with types that do not go together is refused where a rule reads it, not
where it is declared: most rules do not care.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field

from profile_actors.definitions.declared import Field, Relationship, Schema
from profile_actors.definitions.field_types import FieldType, parse_type
from profile_actors.definitions.schema_paths import tree_of
from profile_actors.rules.tree.constants import DOUBLE, INTEGER, STRING, TIMESTAMP

Type = FieldType | None


CONFLICT = FieldType("conflict")
"""A field that schemas declare with types that do not go together."""


_FAMILIES = {
    "integer": "number",
    "double": "number",
    "decimal": "number",
    "timestamp": "time",
    "date": "time",
}


_EVENT_FIELDS = {"_id": STRING, "timestamp": TIMESTAMP, "eventType": STRING}


_Children = dict[str, "FieldType | _Children"]


@dataclass(frozen=True, slots=True)
class Scope:
    """What a rule may read. profile, event: object types, None when no schema is known.

    computed: name -> type (None: unknown). segments: known names; None: any name is one.
    withheld: ('segment' | 'computed', name) -> state of the rules that must not be read.
    """

    profile: Type = None
    event: Type = None
    computed: Mapping[str, Type] = field(default_factory=dict)
    segments: Collection[str] | None = None
    withheld: Mapping[tuple[str, str], str] = field(default_factory=dict)

    @property
    def is_typed(self) -> bool:
        return self.profile is not None


def union_scope(
    schemas: Iterable[Schema],
    computed: Mapping[str, Type] | None = None,
    segments: Collection[str] | None = None,
    withheld: Mapping[tuple[str, str], str] | None = None,
    relationships: Iterable[Relationship] = (),
) -> Scope:
    """The scope of rules over these schemas: all event schemas' fields are every event's, and all
    record schemas' fields the profile's; beside a relationship's field stands the entity. Raises
    SchemaError for a wrong type text."""
    schemas = list(schemas)
    event: _Children = dict(_EVENT_FIELDS)
    profile: _Children = {}
    for schema in schemas:
        children = {"event": event, "record": profile}.get(schema.behavior)
        if children is None:
            continue
        for path, declared in schema.fields.items():
            text = declared.type if isinstance(declared, Field) else declared
            _declare(children, path.split("."), parse_type(text))
    named = {schema.name: schema for schema in schemas}
    for one in relationships:
        source = named[one.schema]
        children = event if source.behavior == "event" else profile
        declared = source.fields[one.field]
        text = declared.type if isinstance(declared, Field) else declared
        entity, is_array = tree_of(named[one.target]), parse_type(text).kind == "array"
        names = [*one.field.split(".")[:-1], one.name]
        _declare(children, names, array_of(entity) if is_array else entity)
    return Scope(_object(profile), _object(event), dict(computed or {}), segments, withheld or {})


def _declare(children: _Children, names: list[str], type_: FieldType) -> None:
    """Enter one dotted path; ``items[]`` is an array of objects, kept under its own name."""
    name, rest = names[0], names[1:]
    if not rest:
        known = children.get(name)
        known_type = _object(known) if isinstance(known, dict) else known
        children[name] = type_ if known_type is None else join(known_type, type_) or CONFLICT
        return
    deeper = children.setdefault(name, {})
    if isinstance(deeper, dict):
        _declare(deeper, rest, type_)
    else:
        children[name] = CONFLICT


def _object(children: _Children) -> FieldType:
    fields: dict[str, FieldType] = {}
    for name, child in children.items():
        made = _object(child) if isinstance(child, dict) else child
        plain = name
        while plain.endswith("[]"):
            plain, made = plain[:-2], FieldType("array", item=made)
        other = fields.get(plain)
        fields[plain] = made if other is None else join(other, made) or CONFLICT
    return FieldType("object", fields=tuple(fields.items()))


def map_of(key: Type, item: Type) -> FieldType:
    """The type of a map."""
    fields = () if key is None or key == STRING else (("key", key),)
    return FieldType("map", item=item, fields=fields)


def key_of(map_: FieldType) -> FieldType:
    """The type of a map's keys."""
    return map_.fields[0][1] if map_.fields else STRING


def array_of(item: Type) -> FieldType:
    return FieldType("array", item=item)


def family(type_: FieldType) -> str:
    """What values of the type compare with: number, time, string, boolean, array, map, object."""
    return _FAMILIES.get(type_.kind, type_.kind)


def comparable(a: Type, b: Type) -> bool:
    """Whether ``=`` between the two is meaningful."""
    if a is None or b is None:
        return True
    if family(a) != family(b):
        return False
    return a.kind != "array" or comparable(a.item, b.item)


def join(a: Type, b: Type, scale_a: int | None = None, scale_b: int | None = None) -> Type:
    """The type that holds both, or None if there is none (or both are unknown).

    scale_a, scale_b: digits after the point where the value is a number literal, which beside a
    decimal is one.
    """
    if a is None or b is None or a == b:
        return a or b
    if family(a) != family(b):
        return None
    if a.kind == "array":
        item = join(a.item, b.item)
        return None if item is None and a.item is not None else array_of(item)
    if family(a) == "time":
        return TIMESTAMP
    return numbers(a, b, scale_a, scale_b) if family(a) == "number" else None


def numbers(
    a: FieldType, b: FieldType, scale_a: int | None = None, scale_b: int | None = None
) -> FieldType:
    """What two numbers combine to: integer, decimal of the larger scale, or double."""
    if "decimal" in (a.kind, b.kind):
        scales = [decimal_scale(a, scale_a), decimal_scale(b, scale_b)]
        known = [scale for scale in scales if scale is not None]
        return FieldType("decimal", scale=max(known)) if len(known) == 2 else DOUBLE
    return INTEGER if a.kind == b.kind == "integer" else DOUBLE


def decimal_scale(type_: FieldType, literal: int | None) -> int | None:
    """Digits after the point of a number beside a decimal; None if it makes both doubles."""
    if type_.kind == "decimal":
        return type_.scale
    return 0 if type_.kind == "integer" else literal


def described(type_: Type) -> str:
    """A type for a message: ``an array of string``."""
    if type_ is None:
        return "an unknown type"
    if type_.kind in ("array", "map"):
        article = "an array of " if type_.kind == "array" else "a map of "
        item = "values" if type_.item is None else described(type_.item)
        return article + item.removeprefix("an ").removeprefix("a ")
    return ("an " if type_.kind[0] in "aio" else "a ") + type_.kind
