"""Arrow types of the schema's types, and how a column says which rows it refuses."""

from __future__ import annotations

from collections.abc import Callable

import pyarrow as pa

from profile_actors.definitions.field_types import FieldType
from profile_actors.ingest.typing.cells import Typed
from profile_actors.ingest.typing.field_checks import Check
from profile_actors.ingest.typing.time_columns import TIMESTAMP
from profile_actors.ingest.typing.verdicts import DECIMAL_DIGITS

_SCALARS = {
    "string": pa.string(),
    "key": pa.string(),
    "integer": pa.int64(),
    "double": pa.float64(),
    "boolean": pa.bool_(),
    "timestamp": TIMESTAMP,
    "date": pa.date32(),
}


def arrow_type(kind: FieldType | Check) -> pa.DataType:
    """The Arrow type that a field's payload column has."""
    if kind.kind == "decimal":
        return pa.decimal128(DECIMAL_DIGITS, kind.scale)
    if kind.kind == "object":
        pairs = kind.fields.items() if isinstance(kind, Check) else kind.fields
        return pa.struct([(name, arrow_type(inner)) for name, inner in pairs])
    if kind.item is not None:
        item = arrow_type(kind.item)
        return pa.list_(item) if kind.kind == "array" else pa.map_(pa.string(), item)
    return _SCALARS[kind.kind]


Way = Callable[[Check, pa.Array], Typed | None]
