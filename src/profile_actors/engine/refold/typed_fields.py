"""Fields of a row with their times as a schema-less evaluation tells them."""

from __future__ import annotations

import datetime
from typing import Any

from profile_actors.definitions.declared import Catalogue
from profile_actors.definitions.field_types import parse_type

EPOCH = datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)


def timed(catalogue: Catalogue, dataset: str, fields: dict[str, Any]) -> dict[str, Any]:
    """Flat fields with their timestamps and dates as datetimes and dates."""
    schema = catalogue.schemas[catalogue.datasets[dataset].schema].fields
    out = dict(fields)
    for name, value in fields.items():
        field = schema.get(name)
        if field is None or not isinstance(value, int) or isinstance(value, bool):
            continue
        kind = parse_type(field if isinstance(field, str) else field.type).kind
        if kind in ("timestamp", "date"):
            moment = EPOCH + datetime.timedelta(milliseconds=value)
            out[name] = moment.date() if kind == "date" else moment
    return out
