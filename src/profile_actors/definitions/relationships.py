"""Relationships: fields that name an entity of a lookup schema, checked and made ready for use.

Theory: rules read the union of all schemas of a behaviour, and a document does not say of which
schema it is. So a relationship is of a *path* of all events, or of the profile, whichever schema
declares it. Which entity a value names is said by the namespace of the target's datasets: rows of
theirs are found by it, so there can be one only.
"""

from __future__ import annotations

from dataclasses import dataclass

from profile_actors.definitions.declared import (
    Behavior,
    Catalogue,
    Namespace,
    Relationship,
    Schema,
    label_of,
)
from profile_actors.definitions.field_types import MAX_NAME_CHARS, FieldType
from profile_actors.definitions.reserved_names import naming_problems
from profile_actors.definitions.schema_paths import tree_of, union_tree
from profile_actors.errors import DefinitionError

KEY_KINDS = ("string", "integer")
"""What an identity can be of."""


@dataclass(frozen=True, slots=True)
class Join:
    """A relationship, resolved. parents: names of the objects around the key, outermost first;
    those of arrays look like others. column, inner: the payload column that has the key, and the
    names below it. namespace: of the target's entities; None while it has no dataset.
    single: who names them is one identity, whoever it is linked with."""

    name: str
    behavior: Behavior
    parents: tuple[str, ...]
    key: str
    column: str
    inner: tuple[str, ...]
    target: str
    namespace: Namespace | None
    single: bool = False


def join_of(relationship: Relationship, behavior: Behavior, namespace: Namespace | None) -> Join:
    """A relationship, resolved. behavior: of its schema."""
    steps = relationship.field.split(".")
    names = tuple(step.removesuffix("[]") for step in steps)
    arrays = [place for place, step in enumerate(steps) if step.endswith("[]")]
    width = arrays[0] + 1 if arrays else len(steps)
    return Join(
        relationship.name, behavior, names[:-1], names[-1], ".".join(names[:width]), names[width:],
        relationship.target, namespace,
    )  # fmt: skip


def joins_of(catalogue: Catalogue) -> tuple[Join, ...]:
    """All relationships of a catalogue, in its order."""
    return tuple(
        join_of(
            one,
            catalogue.schemas[one.schema].behavior,
            next(iter(_namespaces(catalogue, one.target)), None),
        )
        for one in catalogue.relationships.values()
    )


def _namespaces(catalogue: Catalogue, target: str) -> list[Namespace]:
    """Those that rows of a schema's datasets name their entities by."""
    datasets = [one for one in catalogue.datasets.values() if one.schema == target]
    codes = dict.fromkeys(code for one in datasets for code in one.identities.values())
    return [catalogue.namespaces[code] for code in codes]


def check_relationships(catalogue: Catalogue) -> None:
    """Whether each fits the schemas it names. Raises DefinitionError."""
    for one in catalogue.relationships.values():
        problem = _problem(one, catalogue)
        if problem:
            raise DefinitionError(f"{problem} - at {label_of(one)}")


def _problem(one: Relationship, catalogue: Catalogue) -> str | None:
    """What is wrong with a relationship, or None."""
    schemas = catalogue.schemas
    for role, name in (("schema", one.schema), ("target", one.target)):
        if name not in schemas:
            known = ", ".join(sorted(schemas)) or "none"
            return f"expected a defined schema as {role}, got {name!r}; defined are {known}"
    source, target = schemas[one.schema], schemas[one.target]
    if target.behavior != "lookup":
        return f"expected a lookup schema as target, got {one.target!r} of {target.behavior}s"
    if source.behavior == "lookup":
        return f"expected a schema of events or records, got {one.schema!r} of lookup entities"
    problem = _field_problem(one, source) or _name_problem(one, source, catalogue)
    if problem:
        return problem
    if any(d.schema == one.target and d.identity_map for d in catalogue.datasets.values()):
        return f"expected datasets of {one.target!r} without an identity_map, got one with"
    spaces = _namespaces(catalogue, one.target)
    if len(spaces) > 1:
        codes = ", ".join(repr(space.code) for space in spaces)
        return (
            f"expected the entities of {one.target!r} to be named by one namespace, got {codes};"
            " give each kind of name a schema and a relationship of its own"
        )
    return None


def _field_problem(one: Relationship, source: Schema) -> str | None:
    """What is wrong with the field that names the entity, or None."""
    if one.field not in source.fields:
        known = ", ".join(sorted(source.fields)) or "none"
        return f"expected a field of schema {one.schema!r}, got {one.field!r}; it has {known}"
    kind: FieldType | None = tree_of(source)
    for step in one.field.split("."):
        assert kind is not None
        kind = dict(kind.fields)[step.removesuffix("[]")]
        kind = kind.item if step.endswith("[]") else kind
    if kind is not None and kind.kind == "array":
        kind = kind.item
    if kind is None or kind.kind not in KEY_KINDS:
        got = "nothing" if kind is None else kind.kind
        return (
            f"expected a field of texts or integers, which can name an entity, got {one.field!r} of"
            f" {got}"
        )
    return None


def _name_problem(one: Relationship, source: Schema, catalogue: Catalogue) -> str | None:
    """What is wrong with the name that the entity is to stand under, or None."""
    name = one.name
    if not 0 < len(name) <= MAX_NAME_CHARS or name[0] == "@" or any(c in ".[]`" for c in name):
        return f"expected a name without dots, brackets, back-ticks or '@' in front, got {name!r}"
    outer = one.field.rpartition(".")[0]
    path = f"{outer}.{name}" if outer else name
    pseudo = Schema(one.schema, source.behavior, {path: "map<string>"})
    if problem := next(naming_problems(pseudo), None):
        if problem.startswith("expected a name"):
            return problem
        return (  # it speaks of fields that rows have by themselves, and of how to say them
            f"expected a name that means nothing else in a row, got {path!r}; give the relationship"
            " another name"
        )
    kind = union_tree(catalogue, source.behavior)
    for step in outer.split(".") if outer else ():
        inner = dict(kind.fields)[step.removesuffix("[]")]
        kind = inner.item if step.endswith("[]") and inner.item is not None else inner
    if name in dict(kind.fields):
        return (
            f"expected a name that no {source.behavior} schema has a field of, got {path!r}; give"
            " the relationship another name"
        )
    return None
