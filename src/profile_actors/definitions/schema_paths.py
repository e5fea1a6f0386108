"""What a schema's dotted paths spell: a tree of types, and the columns that rows have."""

from __future__ import annotations

from profile_actors.definitions.declared import Behavior, Catalogue, Field, Schema
from profile_actors.definitions.field_types import FieldType, parse_type
from profile_actors.errors import SchemaError


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
