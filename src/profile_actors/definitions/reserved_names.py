"""Names that mean something of the engine's own, and names that would be one and the same.

Theory: a row is one document. An event's document has its own ``_id``, ``timestamp`` and
``eventType``, a record's its time; a field of such a name would answer in one place what the other
answers elsewhere. So an event's field of such a name must be the mapped column itself, and a
record's is refused.

Limits: a catalogue from before these checks stays as it is: it is judged only where it changes.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Iterator

from profile_actors.definitions.declared import Dataset, Schema

RULE_NAMES = ("xEvent", "computed")  # first steps of a path that rules read as something else


# An event's own names: the type that a field of the name must have, and the role it must fill.
OWN_NAMES = {
    "_id": ("string", "id"),
    "timestamp": ("timestamp", "timestamp"),
    "eventType": ("string", "event_type_field"),
}


_OF_ROWS = ("_id", "timestamp")  # what a record's row is known by, and no attribute


def naming_problems(schema: Schema) -> Iterator[str]:
    """What is wrong with the names of a schema's fields."""
    for path, declared in schema.fields.items():
        first = path.split(".")[0].removesuffix("[]")
        if first in RULE_NAMES:
            yield f"expected a name that rules do not reserve, got {path!r}"
        elif "`" in path:
            yield f"expected a name that rules can write between back-ticks, got {path!r}"
        elif schema.behavior != "event" and first in _OF_ROWS:
            yield (
                f"expected a name that no row has of its own, got {path!r}; a column that is mapped"
                f" (timestamp={first!r}) need not be a field: leave it out, or give the field and"
                " its column another name"
            )
        elif schema.behavior == "event" and first in OWN_NAMES:
            kind, _ = OWN_NAMES[first]
            got = (declared if isinstance(declared, str) else declared.type).strip()
            if path != first or got != kind:
                got = got if path == first else f"an object ({path!r})"
                yield f"expected type {kind} of an event's {first}, got {got}"


def mapping_problems(dataset: Dataset, schema: Schema) -> Iterator[str]:
    """What is wrong with a mapping beside the names of its schema."""
    for name, (_, role) in OWN_NAMES.items():
        got = getattr(dataset, role)
        if schema.behavior == "event" and name in schema.fields and got != name:
            yield (
                f"expected {role}={name!r}, since the schema declares {name!r} and rules read it as"
                f" the event's own, got {got!r}; map that column, or give the field another name"
            )
    roles = {role: getattr(dataset, role) for role in ("timestamp", "identity_map")}
    others = [*dataset.identities, dataset.id, dataset.event_type_field]
    for role, path in roles.items():
        if path is not None and path not in schema.fields and path in others:
            yield f"expected a column of its own as {role}, got {path!r}, which is mapped twice"
    mapped = [path for path in [*others, *roles.values()] if path is not None]
    columns = [*schema.fields, *mapped]
    plain = sorted({path.replace("[]", "") for path in columns})
    for path in plain:
        if inner := next((other for other in plain if other.startswith(f"{path}.")), None):
            yield f"expected {path!r} to be a column or an object, got {inner!r} beside it"
    yield from twins(columns)


def twins(paths: Iterable[str]) -> Iterator[str]:
    """Names that look the same but are spelled with other code points."""
    seen: dict[str, str] = {}
    for path in paths:
        known = seen.setdefault(unicodedata.normalize("NFC", path), path)
        if known != path:
            yield (
                f"expected names that differ, got {known!r} and {path!r}, which are the same text"
                f" in two spellings of Unicode ({known!a} and {path!a}); keep one"
            )
