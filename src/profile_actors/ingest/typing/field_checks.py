"""What a field takes, compiled from the schema: one ``Check`` per column, with what is inside it.

Theory: whatever a schema says of a field is worked out once per dataset, so that neither the judge
of one value nor the converters of whole columns look into definitions again.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, Literal

import re2
from msgspec import structs

from profile_actors.definitions.declared import Field
from profile_actors.definitions.field_types import FieldType
from profile_actors.ingest.typing.time_readings import TimeReading

Ignored = frozenset[str] | Literal["*"]  # paths that nobody wants, or all that are not declared


@dataclass(frozen=True, slots=True)
class Check:
    """A field, compiled: its type and constraints, those of what is inside included.

    kind: as in FieldType, or 'key' for an identity or id column that no schema declares (string or
    integer, kept as text). minimum, maximum: of the kind's own Python type. reading: how the
    dataset's timestamp column is read, if it says. ignore: paths inside objects to leave out.
    """

    path: str
    kind: str
    scale: int = 0
    required: bool = False
    enum: frozenset[Any] | None = None
    minimum: Any = None
    maximum: Any = None
    pattern: Any = None
    pattern_text: str | None = None
    max_length: int | None = None
    item: Check | None = None
    fields: Mapping[str, Check] = field(default_factory=dict)
    reading: TimeReading | None = None
    ignore: Ignored = frozenset()

    is_free: bool = field(init=False)
    """True if every value of the type is taken."""

    def __post_init__(self) -> None:
        limits = (self.enum, self.minimum, self.maximum, self.pattern, self.max_length)
        object.__setattr__(self, "is_free", all(limit is None for limit in limits))


def ignores(ignore: Ignored, path: str) -> bool:
    """Whether an undeclared path, or an object that it is in, is to be left out."""
    if isinstance(ignore, str):
        return True
    steps = path.split(".") if ignore else []
    return any(".".join(steps[:n]) in ignore for n in range(1, len(steps) + 1))


def compile_check(
    path: str, kind: FieldType, declared: Mapping[str, Field], ignore: Ignored = frozenset()
) -> Check:
    """Compile a column's checks. declared: every path of the schema with its Field."""
    own = declared.get(path)
    required = own is not None and own.required
    if kind.kind == "object":
        inner = {n: compile_check(f"{path}.{n}", k, declared, ignore) for n, k in kind.fields}
        return Check(path, "object", required=required, fields=inner, ignore=ignore)
    if kind.item is not None:
        # What is inside a plain array or map has the constraints that stand at its own path.
        below = path + "[]"
        inside = dict(declared)
        if own is not None:
            inside[below] = structs.replace(own, required=False)
        item = compile_check(below, kind.item, inside, ignore)
        return Check(path, kind.kind, required=required, item=item)
    limits = own or Field(kind.kind)

    def number(limit: Any) -> Any:
        if kind.kind == "double":
            return float(limit)
        return Decimal(repr(limit)) if kind.kind == "decimal" else limit

    return Check(
        path,
        kind.kind,
        scale=kind.scale,
        required=required,
        enum=None if limits.enum is None else frozenset(map(number, limits.enum)),
        minimum=None if limits.minimum is None else number(limits.minimum),
        maximum=None if limits.maximum is None else number(limits.maximum),
        pattern=None if limits.pattern is None else re2.compile(limits.pattern),
        pattern_text=limits.pattern,
        max_length=limits.max_length,
    )
