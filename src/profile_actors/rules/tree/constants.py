"""The plain types and the literals that planned and typed trees are made with."""

from __future__ import annotations

from profile_actors.definitions.field_types import FieldType
from profile_actors.rules.tree.nodes import Literal

STRING = FieldType("string")


INTEGER = FieldType("integer")


DOUBLE = FieldType("double")


BOOLEAN = FieldType("boolean")


TIMESTAMP = FieldType("timestamp")


DATE = FieldType("date")


ZERO = Literal(0, "integer", type=INTEGER)


TRUE = Literal(True, "boolean", type=BOOLEAN)


FALSE = Literal(False, "boolean", type=BOOLEAN)
