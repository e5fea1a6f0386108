"""How a catalogue changes: additive, idempotent, all or nothing; stored rows stay valid.

Theory: ``extended`` is the only way. What rows in the log were written under keeps its meaning, so
a dataset's schema, identities, timestamp, id and mode, and a namespace's kind and normalisation,
never change. How a dataset's times are read and what it leaves out may: that holds from then on.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

import msgspec
from msgspec import structs

from profile_actors.definitions.declared import (
    ROOMS,
    STEPS,
    Catalogue,
    ComputedAttribute,
    Dataset,
    Definition,
    Field,
    MergePolicy,
    Namespace,
    Relationship,
    Schema,
    SegmentDefinition,
    label_of,
    name_of,
)
from profile_actors.definitions.definition_checks import (
    check_dataset,
    check_policies,
    check_projection,
    checked,
)
from profile_actors.definitions.field_types import innermost, parse_type
from profile_actors.definitions.relationships import check_relationships
from profile_actors.definitions.reserved_names import mapping_problems, naming_problems, twins
from profile_actors.definitions.schema_paths import fields_of, union_tree
from profile_actors.errors import UNDECODED, CallerError, DefinitionError, SchemaError


def encode(catalogue: Catalogue) -> bytes:
    """A catalogue as JSON bytes. Order is kept: that of a dataset's identities counts."""
    return msgspec.json.encode(catalogue)


_CATALOGUE = msgspec.json.Decoder(Catalogue)  # made while one thread runs: types are found once


def decode(data: bytes) -> Catalogue:
    """The inverse of ``encode``. Raises DefinitionError."""
    try:
        return _CATALOGUE.decode(data)
    except UNDECODED as error:
        raise DefinitionError(f"expected a catalogue as JSON, got: {error}") from None


def extended(catalogue: Catalogue, items: Iterable[Definition]) -> Catalogue:
    """The catalogue with the items added or changed; what is not named stays. All or nothing.

    Returns the same object when nothing differs, else one with version + 1. Rules are not looked
    into here. Raises DefinitionError or SchemaError, naming the item and the part of it.
    """
    rooms = {kind: dict(getattr(catalogue, room)) for kind, (room, _) in ROOMS.items()}
    named: dict[tuple[type, str], Definition] = {}
    for raw in items:
        item = checked(raw)
        name = name_of(item)
        stored = getattr(catalogue, ROOMS[type(item)][0]).get(name)
        item = _trimming(stored, item) if isinstance(item, Namespace) else _numbered(stored, item)
        if named.setdefault((type(item), name), item) != item:
            raise DefinitionError(
                f"expected one definition, got two that differ - at {label_of(item)}; keep one"
            )
        old = rooms[type(item)].get(name)
        if old is None or not _same(old, item):
            rooms[type(item)][name] = item if old is None else _successor(old, item)
    joined = Catalogue(
        catalogue.version + 1,
        **{room: rooms[kind] for kind, (room, _) in ROOMS.items()},
        expired=catalogue.expired,
    )
    if encode(structs.replace(joined, version=catalogue.version)) == encode(catalogue):
        return catalogue
    for behavior in ("event", "record"):
        union_tree(joined, behavior)
    for dataset in joined.datasets.values():
        check_dataset(dataset, joined)
    for projection in joined.projections.values():
        check_projection(projection, joined)
    check_policies(joined)
    check_relationships(joined)
    _check_names(catalogue, joined)
    return joined


def _check_names(before: Catalogue, joined: Catalogue) -> None:
    """Raises SchemaError or DefinitionError for a name that cannot be told from another one. What
    an older version let into the catalogue stays."""
    known = set(_name_problems(before))
    for problem in _name_problems(joined):
        if problem not in known:
            kind, where, text = problem
            raise kind(f"{text} - at {where}")


def _name_problems(catalogue: Catalogue) -> Iterator[tuple[type[CallerError], str, str]]:
    """(error, where, what) of every name of a catalogue that is none to keep."""
    for schema in catalogue.schemas.values():
        for text in naming_problems(schema):
            yield SchemaError, label_of(schema), text
    for behavior in ("event", "record", "lookup"):
        schemas = [s for s in catalogue.schemas.values() if s.behavior == behavior]
        for text in twins(path for schema in schemas for path in schema.fields):
            yield SchemaError, f"the schemas of behavior {behavior!r}", text
    for dataset in catalogue.datasets.values():
        for text in mapping_problems(dataset, catalogue.schemas[dataset.schema]):
            yield DefinitionError, label_of(dataset), text


def _trimming(stored: Namespace | None, item: Namespace) -> Namespace:
    """A namespace with its normalisation spelled out: what is stored stays, since it made the keys
    of stored identities; a new one of e-mails or phone numbers trims by default."""
    is_trimmed = item.kind in ("email", "phone") and item.normalize != ()
    steps = tuple(step for step in STEPS if step in item.steps or (is_trimmed and step == "trim"))
    if stored is not None and stored.steps in (item.steps, steps):
        return structs.replace(item, normalize=stored.normalize)
    plain = steps[0] if len(steps) == 1 else steps or None
    return structs.replace(item, normalize=plain)


def _numbered(old: Definition | None, item: Definition) -> Definition:
    """A rule, policy or relationship with the version that its content has; anything else as it
    is."""
    if not isinstance(item, SegmentDefinition | ComputedAttribute | MergePolicy | Relationship):
        return item
    if not isinstance(old, type(item)):
        return structs.replace(item, version=1)
    same = structs.replace(old, version=1) == structs.replace(item, version=1)
    if isinstance(item, SegmentDefinition | ComputedAttribute):
        # Whether it is published is no part of what it says.
        same = structs.replace(old, state=item.state, version=item.version) == item
    return structs.replace(item, version=old.version if same else old.version + 1)


def _same(old: Definition, new: Definition) -> bool:
    """Equal content; the order of a dataset's identities is content, that of fields is not."""
    if isinstance(old, Dataset) and isinstance(new, Dataset):
        return old == new and list(old.identities) == list(new.identities)
    return old == new


def _successor(old: Definition, new: Definition) -> Definition:
    """The new version of an item, if rows stored under the old one stay readable."""
    fixed: tuple[str, ...] = ()
    if isinstance(new, Namespace):
        fixed = ("kind", "normalize")
    elif isinstance(new, Dataset):
        # Rows are known as repeated by identity, time and id: none of them may move.
        fixed = ("schema", "id", "mode", "timestamp", "identities")
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
    problem = next(_incompatible(old, new), None)
    if problem:
        raise SchemaError(
            f"{problem[0]} - at schema {new.name!r}; stored rows must stay valid: {problem[1]}"
        )
    order = [*before, *(path for path in after if path not in before)]
    return structs.replace(new, fields={path: new.fields[path] for path in order})


def _incompatible(old: Schema, new: Schema) -> Iterator[tuple[str, str]]:
    """What of a schema would not hold for stored rows, and what can be done instead."""
    before, after = fields_of(old), fields_of(new)
    if old.behavior != new.behavior:
        yield (
            f"expected behavior {old.behavior!r} to stay, got {new.behavior!r}",
            "declare a schema of that behavior under another name",
        )
    for path, field in before.items():
        if path not in after:
            yield (
                f"expected field {path!r} to stay, got none",
                "keep it, optional fields may be absent from every row to come",
            )
        elif parse_type(field.type) != parse_type(after[path].type):
            name = _free_name(path, after)
            yield (
                f"expected field {path!r} to stay {field.type!r}, got {after[path].type!r}",
                f"keep it, add a field such as {name!r} of the new type, and give it to the column"
                " from now on; rules can read both (no schema of this behavior may give"
                f" {path!r} another type)",
            )
        elif narrowed := _narrowed(field, after[path]):
            yield f"expected {narrowed} of field {path!r} to widen only", "widen it or let it be"
    for path, field in after.items():
        if path not in before and field.required:
            yield (
                f"expected new field {path!r} to be optional, got a required one",
                "they do not have it; leave required out",
            )


def _free_name(path: str, fields: Mapping[str, Field]) -> str:
    """A name beside a field's for values of the type that it should have had."""
    kind = innermost(parse_type(fields[path].type)).kind
    names = (f"{path}_{kind}{number}" for number in ("", *range(2, len(fields) + 3)))
    return next(name for name in names if name not in fields)


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
