"""The types that a schema's fields have, and their text."""

from __future__ import annotations

import msgspec

from profile_actors.errors import SchemaError

SCALARS = ("string", "integer", "double", "decimal", "boolean", "timestamp", "date")


MAX_NAME_CHARS = 256  # of any name; names travel in every envelope


NUMBERS = ("integer", "double", "decimal")
"""Kinds that are numbers."""


COMPOSITE = ("array", "map", "object")
"""Kinds that hold others."""


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
    if word.startswith("decimal(") and word.endswith(")") and word[8:-1].isdecimal():
        scale = int(word[8:-1])
        if scale <= 15:
            return FieldType("decimal", scale=scale)
    elif word in SCALARS and word != "decimal":
        return FieldType(word)
    raise SchemaError(
        f"expected a field type (string, integer, double, decimal(0..15), boolean, timestamp, date,"
        f" T[] or map<T>), got {text!r}"
    )


def innermost(kind: FieldType) -> FieldType:
    """The type that constraints apply to: below all arrays and maps."""
    while kind.item is not None:
        kind = kind.item
    return kind
