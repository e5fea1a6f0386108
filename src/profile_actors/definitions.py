"""What a user declares: namespaces, schemas, datasets, rules, as msgspec structs.

Theory: these structs are the catalogue's format. They are plain data; whoever reads them decides.
``FieldType`` is the parsed form of a schema's type text. ``merge`` is the only way a catalogue
changes: additive, idempotent, all or nothing; what rows in the log were written under stays
valid. ``tree_of``, ``columns_of`` and ``union_tree`` say what a schema's paths spell.

Limits: rules are text here; whoever compiles them checks them. A dataset's schema, id and mode,
and a namespace's kind and normalisation, never change.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Literal

import msgspec
import re2
from msgspec import structs

from profile_actors.errors import DefinitionError, SchemaError

NamespaceKind = Literal[
    "cookie", "device", "cross_device", "email", "phone", "non_people", "partner"
]
Behavior = Literal["event", "record", "lookup"]
State = Literal["published", "draft", "inactive"]
SCALARS = ("string", "integer", "double", "decimal", "boolean", "timestamp", "date")
MAX_NAME_CHARS = 256  # of any name; names travel in every envelope
RESERVED = ("xEvent", "computed")  # first steps of a path that rules read as something else


class FieldType(msgspec.Struct, frozen=True):
    """A schema field's type. kind: one of SCALARS, 'array', 'map' or 'object'.

    item: the element type of an array or a map's values. scale: digits after the point (decimal).
    fields: an object's (name, type) pairs, in declared order.
    """

    kind: str
    item: FieldType | None = None
    scale: int = 0
    fields: tuple[tuple[str, FieldType], ...] = ()


def parse_type(text: str) -> FieldType:
    """Parse 'string', 'decimal(2)', 'T[]' or 'map<T>'. Raises SchemaError."""
    word = text.strip() if len(text) <= MAX_NAME_CHARS else ""
    if word.endswith("[]"):
        return FieldType("array", item=parse_type(word[:-2]))
    if word.startswith("map<") and word.endswith(">"):
        return FieldType("map", item=parse_type(word[4:-1]))
    if word.startswith("decimal(") and word.endswith(")") and word[8:-1].isdigit():
        scale = int(word[8:-1])
        if scale <= 15:
            return FieldType("decimal", scale=scale)
    elif word in SCALARS and word != "decimal":
        return FieldType(word)
    raise SchemaError(
        f"expected a field type (string, integer, double, decimal(0..15), boolean, timestamp, date,"
        f" T[] or map<T>), got {text!r}"
    )


class Namespace(msgspec.Struct, frozen=True, tag="namespace", forbid_unknown_fields=True):
    """The kind of an identity. Priority 1 is the highest; None comes after all numbered ones."""

    code: str
    kind: NamespaceKind
    unique: bool = False
    priority: int | None = None
    normalize: Literal["lower", "digits"] | None = None


class Field(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A schema field with constraints. pattern: RE2, found anywhere in the text."""

    type: str
    required: bool = False
    enum: tuple[str | int | float, ...] | None = None
    minimum: int | float | None = None
    maximum: int | float | None = None
    pattern: str | None = None
    max_length: int | None = None
    labels: tuple[str, ...] = ()


class Schema(msgspec.Struct, frozen=True, tag="schema", forbid_unknown_fields=True):
    """A typed shape. fields: dotted path (``a.b``, ``items[].sku``) to type text or Field."""

    name: str
    behavior: Behavior
    fields: dict[str, str | Field]


class Dataset(msgspec.Struct, frozen=True, tag="dataset", forbid_unknown_fields=True):
    """A named source of rows of one schema, and which of its columns mean what."""

    name: str
    schema: str
    identities: dict[str, str] = {}
    identity_map: str | None = None
    primary: str | None = None
    timestamp: str | None = None
    id: str | None = None
    event_type: str | None = None
    event_type_field: str | None = None
    mode: Literal["upsert", "replace"] = "upsert"


class SegmentDefinition(msgspec.Struct, frozen=True, tag="segment", forbid_unknown_fields=True):
    """A boolean rule; the profiles for which it is true are the segment's members.

    state: a draft is checked, but neither evaluated nor served; an inactive one keeps its last
    memberships and serves none. version: given by the catalogue, 1 at first, one more at each
    change of rule or description; what is passed to ``apply`` is not looked at.
    """

    name: str
    rule: str
    description: str = ""
    state: State = "published"
    version: int = 1


class ComputedAttribute(msgspec.Struct, frozen=True, tag="computed", forbid_unknown_fields=True):
    """A named value computed from each profile by a rule. state, version: as of a segment."""

    name: str
    rule: str
    description: str = ""
    state: State = "published"
    version: int = 1


Definition = Namespace | Schema | Dataset | SegmentDefinition | ComputedAttribute


class Catalogue(msgspec.Struct, frozen=True):
    """All definitions of a store at one version. Names are unique within each kind;
    segments and computed attributes share nothing but the DAG of references."""

    version: int = 0
    namespaces: dict[str, Namespace] = {}
    schemas: dict[str, Schema] = {}
    datasets: dict[str, Dataset] = {}
    segments: dict[str, SegmentDefinition] = {}
    computed: dict[str, ComputedAttribute] = {}


# Where the catalogue keeps each kind, and how errors call it.
ROOMS: dict[type, tuple[str, str]] = {
    Namespace: ("namespaces", "namespace"),
    Schema: ("schemas", "schema"),
    Dataset: ("datasets", "dataset"),
    SegmentDefinition: ("segments", "segment"),
    ComputedAttribute: ("computed", "computed attribute"),
}


def fields_of(schema: Schema) -> dict[str, Field]:
    """Every declared path with its Field; a bare type text becomes a Field without constraints."""
    return {
        path: declared if isinstance(declared, Field) else Field(declared.strip())
        for path, declared in schema.fields.items()
    }


def tree_of(*schemas: Schema) -> FieldType:
    """The object type that the schemas' paths spell together, fields in declared order.

    Raises SchemaError where a path is malformed, or two paths contradict each other.
    """
    tree: _Tree = {}
    for schema in schemas:
        for path, field in fields_of(schema).items():
            where = f"schema {schema.name!r}, field {path!r}"
            try:
                leaf = parse_type(field.type)
            except SchemaError as error:
                raise SchemaError(f"{error} - at {where}") from None
            _plant(tree, path, leaf, where)
    return _object(tree)


def columns_of(schema: Schema) -> dict[str, FieldType]:
    """A schema's payload columns: dotted path to type; objects are flattened, arrays are not.

    ``a.b`` is a column of its own; ``items[].sku`` is part of the column ``items``, an array of
    objects.
    """
    return flattened(tree_of(schema))


def flattened(tree: FieldType, prefix: str = "") -> dict[str, FieldType]:
    """The columns of an object type: dotted path to the first type below that is no object."""
    columns: dict[str, FieldType] = {}
    for name, kind in tree.fields:
        if kind.kind == "object":
            columns |= flattened(kind, f"{prefix}{name}.")
        else:
            columns[prefix + name] = kind
    return columns


def union_tree(catalogue: Catalogue, behavior: Behavior) -> FieldType:
    """The union of all schemas of one behaviour: what a rule may read. Raises SchemaError."""
    return tree_of(*(s for s in catalogue.schemas.values() if s.behavior == behavior))


# A branch is (is it an array, what is below); a leaf is its type.
_Tree = dict[str, "tuple[bool, _Tree] | FieldType"]


def _plant(tree: _Tree, path: str, leaf: FieldType, where: str) -> None:
    """Put one path into the tree. Raises SchemaError when it contradicts what is there."""
    *outer, last = path.split(".")
    for step in outer:
        name = step.removesuffix("[]")
        _check_step(name, where)
        below = tree.setdefault(name, (step.endswith("[]"), {}))
        if isinstance(below, FieldType) or below[0] != step.endswith("[]"):
            raise SchemaError(
                f"expected one meaning of {name!r}, got a value and an object or array of objects"
                f" of that name - at {where}; rename one of them"
            )
        tree = below[1]
    if last.endswith("[]"):
        raise SchemaError(
            f"expected a field name, got {last!r} - at {where}; for an array of plain values write"
            f" the type as T[]"
        )
    _check_step(last, where)
    known = tree.setdefault(last, leaf)
    if known != leaf:
        raise SchemaError(
            f"expected one type of a path in all schemas of a behaviour, got another declaration"
            f" - at {where}; rename the field or declare the same type"
        )


def _check_step(name: str, where: str) -> None:
    if not name or name.startswith("@") or any(c in "[]" or ord(c) < 32 for c in name):
        raise SchemaError(
            f"expected names joined by dots, none empty, none with '@' in front, brackets or"
            f" control characters, got {name!r} - at {where}"
        )


def _object(tree: _Tree) -> FieldType:
    fields = []
    for name, below in tree.items():
        if isinstance(below, tuple):
            kind = _object(below[1])
            fields.append((name, FieldType("array", item=kind) if below[0] else kind))
        else:
            fields.append((name, below))
    return FieldType("object", fields=tuple(fields))


def encode(catalogue: Catalogue) -> bytes:
    """A catalogue as JSON bytes. Order is kept: that of a dataset's identities counts."""
    return msgspec.json.encode(catalogue)


def decode(data: bytes) -> Catalogue:
    """The inverse of ``encode``. Raises DefinitionError."""
    try:
        return msgspec.json.decode(data, type=Catalogue)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise DefinitionError(f"expected a catalogue as JSON, got: {error}") from None


def merge(catalogue: Catalogue, items: Iterable[Definition]) -> Catalogue:
    """The catalogue with the items added or changed; what is not named stays. All or nothing.

    Returns the same object when nothing differs, else one with version + 1. Rules are not looked
    into here. Raises DefinitionError or SchemaError, naming the item and the part of it.
    """
    rooms = {kind: dict(getattr(catalogue, room)) for kind, (room, _) in ROOMS.items()}
    named: dict[tuple[type, str], Definition] = {}
    for raw in items:
        item = _checked(raw)
        name = name_of(item)
        item = _numbered(getattr(catalogue, ROOMS[type(item)][0]).get(name), item)
        if named.setdefault((type(item), name), item) != item:
            raise DefinitionError(
                f"expected one definition, got two that differ - at {label_of(item)}; keep one"
            )
        old = rooms[type(item)].get(name)
        if old is None or not _same(old, item):
            rooms[type(item)][name] = item if old is None else _successor(old, item)
    merged = Catalogue(
        catalogue.version + 1, **{room: rooms[kind] for kind, (room, _) in ROOMS.items()}
    )
    if encode(structs.replace(merged, version=catalogue.version)) == encode(catalogue):
        return catalogue
    for behavior in ("event", "record"):
        union_tree(merged, behavior)
    for dataset in merged.datasets.values():
        _check_dataset(dataset, merged)
    return merged


def _numbered(old: Definition | None, item: Definition) -> Definition:
    """A rule with the version that its content has; anything else as it is."""
    if not isinstance(item, SegmentDefinition | ComputedAttribute):
        return item
    if not isinstance(old, SegmentDefinition | ComputedAttribute):
        return structs.replace(item, version=1)
    same = (old.rule, old.description) == (item.rule, item.description)
    return structs.replace(item, version=old.version if same else old.version + 1)


def name_of(item: Definition) -> str:
    """What the item is called within its kind."""
    return item.code if isinstance(item, Namespace) else item.name


def label_of(item: Definition) -> str:
    """How errors call the item: its kind and name."""
    return f"{ROOMS[type(item)][1]} {name_of(item)!r}"


def _same(old: Definition, new: Definition) -> bool:
    """Equal content; the order of a dataset's identities is content, that of fields is not."""
    if isinstance(old, Dataset) and isinstance(new, Dataset):
        return old == new and list(old.identities) == list(new.identities)
    return old == new


def _checked(raw: Definition) -> Definition:
    """The item with every value's type checked, in canonical form."""
    if type(raw) not in ROOMS:
        raise DefinitionError(
            f"expected Namespace, Schema, Dataset, SegmentDefinition or ComputedAttribute, got"
            f" {type(raw).__name__}"
        )
    try:
        item: Definition = msgspec.convert(msgspec.to_builtins(raw), type(raw))
    except (msgspec.ValidationError, TypeError, ValueError) as error:
        raise DefinitionError(f"{error} - at {ROOMS[type(raw)][1]} {name_of(raw)!r}") from None
    names = [name_of(item)]
    if isinstance(item, Dataset):
        names += [*item.identities, *item.identities.values(), *_roles(item).values()]
        names += [] if item.event_type is None else [item.event_type]
    for name in names:
        if not 0 < len(name) <= MAX_NAME_CHARS or any(ord(c) < 32 for c in name):
            raise DefinitionError(
                f"expected a name of 1 to {MAX_NAME_CHARS} characters without control characters,"
                f" got {name[:MAX_NAME_CHARS]!r} - at {label_of(item)}"
            )
    return _checked_schema(item) if isinstance(item, Schema) else item


def _checked_schema(schema: Schema) -> Schema:
    tree_of(schema)
    fields: dict[str, str | Field] = {}
    for path, field in fields_of(schema).items():
        where = f"schema {schema.name!r}, field {path!r}"
        if path.split(".")[0] in RESERVED:
            raise SchemaError(
                f"expected a name that rules do not reserve, got {path!r} - at {where}"
            )
        problem = _constraint_problem(field, innermost(parse_type(field.type)))
        if problem:
            raise SchemaError(f"{problem} - at {where}")
        plain = Field(field.type.strip())
        fields[path] = plain.type if field == plain else field
    reserved = {"timestamp": "timestamp", "eventType": "string"}
    for path, kind in reserved.items():
        if schema.behavior == "event" and path in fields:
            got = fields_of(schema)[path].type
            if got != kind:
                raise SchemaError(
                    f"expected type {kind} of an event's {path}, got {got} - at schema"
                    f" {schema.name!r}"
                )
    return structs.replace(schema, fields=fields)


def innermost(kind: FieldType) -> FieldType:
    """The type that constraints apply to: below all arrays and maps."""
    while kind.item is not None:
        kind = kind.item
    return kind


def _constraint_problem(field: Field, kind: FieldType) -> str | None:
    """What is wrong with a field's constraints, or None."""
    bounds = [b for b in (field.minimum, field.maximum) if b is not None]
    if bounds and kind.kind not in ("integer", "double", "decimal"):
        return f"expected minimum and maximum on numbers only, got a {kind.kind}"
    if (field.pattern is not None or field.max_length is not None) and kind.kind != "string":
        return f"expected pattern and max_length on strings only, got a {kind.kind}"
    if field.enum is not None and kind.kind not in ("string", "integer", "double"):
        return f"expected an enum on strings, integers and doubles only, got a {kind.kind}"
    if field.enum is not None and not field.enum:
        return "expected at least one value in enum, got none"
    words = field.enum or ()
    if kind.kind == "string" and any(not isinstance(word, str) for word in words):
        return f"expected strings in enum, got {words!r}"
    numbers = [*bounds, *words] if kind.kind != "string" else bounds
    for number in numbers:
        if isinstance(number, str) or (kind.kind == "integer" and not isinstance(number, int)):
            return f"expected {kind.kind} values in constraints, got {number!r}"
        if not math.isfinite(number) or (
            isinstance(number, int) and not -(2**63) <= number < 2**63
        ):
            return f"expected finite numbers within int64 in constraints, got {number!r}"
    if len(bounds) == 2 and bounds[0] > bounds[1]:
        return f"expected minimum <= maximum, got {bounds[0]!r} > {bounds[1]!r}"
    if field.max_length is not None and field.max_length < 1:
        return f"expected a max_length of at least 1, got {field.max_length}"
    if field.pattern is not None:
        try:
            re2.compile(field.pattern)
        except re2.error as error:
            return f"expected an RE2 pattern, got {field.pattern!r}: {error}"
    return None


def _successor(old: Definition, new: Definition) -> Definition:
    """The new version of an item, if rows stored under the old one stay readable."""
    fixed: tuple[str, ...] = ()
    if isinstance(new, Namespace):
        fixed = ("kind", "normalize")
    elif isinstance(new, Dataset):
        fixed = ("schema", "id", "mode")
    elif isinstance(new, Schema) and isinstance(old, Schema):
        return _compatible_schema(old, new)
    for name in fixed:
        was, got = getattr(old, name), getattr(new, name)
        if was != got:
            raise DefinitionError(
                f"expected {name} to stay {was!r} since stored rows depend on it, got {got!r} - at"
                f" {label_of(new)}; define another one under a new name"
            )
    return new


def _compatible_schema(old: Schema, new: Schema) -> Schema:
    """The new schema with the old field order first. Raises SchemaError if it is narrower."""
    before, after = fields_of(old), fields_of(new)
    problem = ""
    if old.behavior != new.behavior:
        problem = f"expected behavior {old.behavior!r} to stay, got {new.behavior!r}"
    for path, field in before.items():
        if path not in after:
            problem = problem or f"expected field {path!r} to stay, got none"
        elif parse_type(field.type) != parse_type(after[path].type):
            problem = problem or (
                f"expected field {path!r} to stay {field.type!r}, got {after[path].type!r}"
            )
        else:
            narrowed = _narrowed(field, after[path])
            if narrowed:
                problem = problem or f"expected {narrowed} of field {path!r} to widen only"
    for path, field in after.items():
        if path not in before and field.required:
            problem = problem or f"expected new field {path!r} to be optional, got a required one"
    if problem:
        raise SchemaError(
            f"{problem} - at schema {new.name!r}; stored rows must stay valid: add optional fields,"
            f" widen constraints, or declare a new schema"
        )
    order = [*before, *(path for path in after if path not in before)]
    return structs.replace(new, fields={path: new.fields[path] for path in order})


def _narrowed(old: Field, new: Field) -> str | None:
    """The name of a constraint that refuses values the old one took, or None."""
    if new.required and not old.required:
        return "required"
    if new.enum is not None and (old.enum is None or not set(old.enum) <= set(new.enum)):
        return "enum"
    if new.minimum is not None and (old.minimum is None or new.minimum > old.minimum):
        return "minimum"
    if new.maximum is not None and (old.maximum is None or new.maximum < old.maximum):
        return "maximum"
    if new.pattern is not None and new.pattern != old.pattern:
        return "pattern"
    if new.max_length is not None and (old.max_length is None or new.max_length < old.max_length):
        return "max_length"
    return None


def _roles(dataset: Dataset) -> dict[str, str]:
    """The mapped columns besides identities: role to column name."""
    names = ("identity_map", "timestamp", "id", "event_type_field")
    return {name: getattr(dataset, name) for name in names if getattr(dataset, name) is not None}


def _check_dataset(dataset: Dataset, catalogue: Catalogue) -> None:
    """References and roles of one dataset. Raises DefinitionError."""
    problem = _dataset_problem(dataset, catalogue)
    if problem:
        raise DefinitionError(f"{problem} - at {label_of(dataset)}")


def _dataset_problem(dataset: Dataset, catalogue: Catalogue) -> str | None:
    schema = catalogue.schemas.get(dataset.schema)
    if schema is None:
        return f"expected a defined schema, got {dataset.schema!r}{_known(catalogue.schemas)}"
    for code in dataset.identities.values():
        if code not in catalogue.namespaces:
            return f"expected a defined namespace, got {code!r}{_known(catalogue.namespaces)}"
    if not dataset.identities and dataset.identity_map is None:
        return "expected at least one identity field or an identity_map, got none"
    if dataset.primary is not None and dataset.primary not in dataset.identities:
        return f"expected primary to be one of its identity fields, got {dataset.primary!r}"
    is_event = schema.behavior == "event"
    if is_event and dataset.timestamp is None:
        return "expected a timestamp column, since its schema is of events, got none"
    if dataset.event_type is not None and dataset.event_type_field is not None:
        return "expected event_type or event_type_field, got both"
    if not is_event and (dataset.event_type is not None or dataset.event_type_field is not None):
        return f"expected no event type, since its schema is a {schema.behavior}, got one"
    if is_event and dataset.mode != "upsert":
        return f"expected mode 'upsert' of an event dataset, got {dataset.mode!r}"
    return _role_problem(dataset, schema, is_event)


def _role_problem(dataset: Dataset, schema: Schema, is_event: bool) -> str | None:
    """Mapped columns that are schema fields must have a type that fits; reserved names must map."""
    columns = columns_of(schema)
    tree_names = {path.split(".")[0].removesuffix("[]") for path in schema.fields}
    fits = {
        "timestamp": ("timestamp", "date", "integer"),
        "id": ("string", "integer"),
        "event_type_field": ("string",),
        "identity_map": (),
    }
    mapped = [*_roles(dataset).items(), *(("identities", path) for path in dataset.identities)]
    for role, path in mapped:
        kinds = fits.get(role, ("string", "integer"))
        got = columns[path].kind if path in columns else None
        if got is None and path in tree_names:
            got = "object"
        if got is not None and got not in kinds:
            allowed = " or ".join(kinds) or "no field of the schema"
            return f"expected {allowed} as {role}, got field {path!r} of type {got}"
    for path, role in (("timestamp", "timestamp"), ("eventType", "event_type_field")):
        if is_event and path in columns and getattr(dataset, role) != path:
            return (
                f"expected {role}={path!r}, since the schema declares {path!r} and rules read it as"
                f" the event's own, got {getattr(dataset, role)!r}"
            )
    return None


def _known(names: Iterable[str]) -> str:
    return f"; defined are {', '.join(sorted(names)) or 'none'}"
