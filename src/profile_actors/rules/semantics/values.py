"""The values of the rule language at run time, and how plain documents become them and back.

Theory: str, bool, int (int64), float (finite), Decimal, list and None are themselves; times and
maps need classes of their own, because a plain int or dict does not say what it is. Objects stay
plain dicts and are read lazily: a child becomes a value when a path reaches it, with its schema
type if one is known. Nulls vanish from arrays and maps on reading (RULES §2).
"""

from __future__ import annotations

import datetime
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from typing import Any

from profile_actors.columnar.time_units import DAY_MS
from profile_actors.definitions.field_types import FieldType
from profile_actors.rules.semantics.calendar import in_range
from profile_actors.rules.tree.faults import Fault

Value = Any
"""None, bool, int, float, str, Decimal, Instant, list, dict or MapValue."""


PASSING: Any = object()
"""What ``now`` is within a value where its moving on is no difference."""


INT64_MIN, INT64_MAX = -(2**63), 2**63 - 1


_EPOCH = datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)


_MS = datetime.timedelta(milliseconds=1)


@dataclass(frozen=True, slots=True)
class Instant:
    """A point of time. ms: UTC milliseconds since 1970, in the years 1 to 9999."""

    ms: int

    def read_as(self, kind: str) -> Instant:
        """As a 'timestamp' or a 'date'."""
        return Day(self.ms - self.ms % DAY_MS) if kind == "date" else Instant(self.ms)


@dataclass(frozen=True, slots=True)
class Day(Instant):
    """A date: its midnight, and under ``on`` the whole day."""


class ExactNumber(float):
    """A number literal with a point: a double that is an exact decimal beside a decimal."""

    __slots__ = ()


class MapValue:
    """A map; keys are strings, integers, booleans or times, equal keys are one (``=``)."""

    __slots__ = ("pairs",)

    def __init__(self) -> None:
        self.pairs: dict[tuple[str, Any], tuple[Value, Value]] = {}

    def put(self, key: Value, value: Value) -> None:
        """Set a key; null keys and values are left out, the last of equal keys wins."""
        if key is not None and value is not None:
            self.pairs[map_key(key)] = (key, value)

    def get(self, key: Value) -> Value:
        found = None if key is None else self.pairs.get(map_key(key))
        return None if found is None else found[1]

    def items(self) -> Iterator[tuple[Value, Value]]:
        """Pairs by key: booleans, numbers, strings, times, each in its own order."""
        for key in sorted(self.pairs):
            yield self.pairs[key]


class Joined(dict[str, Any]):
    """An object with the entities that its fields name beside it. They are reached by name and are
    no part of it: it equals, and is shown as, the object without them."""

    __slots__ = ("entities",)

    def __init__(self, fields: Mapping[str, Any], entities: Mapping[str, Any]) -> None:
        super().__init__(fields)
        known = fields.entities if isinstance(fields, Joined) else {}
        self.entities: dict[str, Any] = {**known, **entities}


def copied(document: Mapping[str, Any]) -> dict[str, Any]:
    """A document of its own, with the entities beside it."""
    return Joined(document, {}) if isinstance(document, Joined) else dict(document)


def held(document: dict[str, Any], name: str) -> Any:
    """The raw value that stands in an object under a name, or beside it."""
    raw = document.get(name)
    if raw is None and isinstance(document, Joined):
        return document.entities.get(name)
    return raw


def map_key(key: Value) -> tuple[str, Any]:
    """What equal keys share; also their order."""
    if isinstance(key, bool):
        return "0", key
    if isinstance(key, Instant):
        return "3", key.ms
    if isinstance(key, str):
        return "2", key
    return "1", key


def instant_of(moment: datetime.datetime) -> int | None:
    """UTC ms of a datetime (without a zone: UTC), finer parts cut off towards the past."""
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=datetime.UTC)
    return in_range((moment - _EPOCH) // _MS)


def parse_instant(text: str) -> int | None:
    """UTC ms of ISO-8601 text (``T`` or a space; without a zone: UTC), or None if it is none."""
    try:
        return instant_of(datetime.datetime.fromisoformat(text.strip()))
    except (ValueError, OverflowError):
        return None


def lift(raw: object, type_: FieldType | None = None) -> Value:
    """The value of a document's ``raw``; with a type, as a store would have read it.

    Lists lose their nulls. NaN, infinities and integers beyond int64 are null. Raises Fault if
    ``raw`` does not fit the type or is nothing a document may hold.
    """
    if raw is None:
        return None
    if type_ is not None:
        return _lift_typed(raw, type_)
    if isinstance(raw, bool | str | Instant | MapValue | dict):
        return raw
    if isinstance(raw, int):
        return raw if INT64_MIN <= raw <= INT64_MAX else None
    if isinstance(raw, float):
        return raw if math.isfinite(raw) else None
    if isinstance(raw, Decimal):
        return raw if raw.is_finite() else None
    if isinstance(raw, datetime.datetime):
        return _instant(instant_of(raw))
    if isinstance(raw, datetime.date):
        return _day(instant_of(datetime.datetime(raw.year, raw.month, raw.day)))
    if isinstance(raw, list | tuple):
        lifted = (lift(item) for item in raw)
        return [item for item in lifted if item is not None]
    if isinstance(raw, Mapping):
        return dict(raw)
    raise Fault(f"expected plain values in documents, got {type(raw).__name__}")


def _instant(ms: int | None) -> Instant | None:
    return None if ms is None else Instant(ms)


def _day(ms: int | None) -> Day | None:
    return None if ms is None else Day(ms - ms % DAY_MS)


def _lift_typed(raw: object, type_: FieldType) -> Value:
    kind = type_.kind
    if kind == "array" and isinstance(raw, list | tuple):
        lifted = (lift(item, type_.item) for item in raw)
        return [item for item in lifted if item is not None]
    if kind == "map" and isinstance(raw, Mapping | MapValue):
        made = MapValue()
        for key, value in raw.items():
            made.put(key, lift(value, type_.item))
        return made
    value = lift(raw)
    if value is None:
        return None
    made_scalar = _convert(value, kind)
    if made_scalar is None:
        raise Fault(f"expected {kind} as the schema says, got {str(raw)[:60]!r}")
    return made_scalar


def _convert(value: Value, kind: str) -> Value:
    """``value`` as ``kind``; None if it is something else."""
    is_number = isinstance(value, int | float | Decimal) and not isinstance(value, bool)
    match kind:
        case "string":
            return value if isinstance(value, str) else None
        case "boolean":
            return value if isinstance(value, bool) else None
        case "integer":
            return value if isinstance(value, int) and is_number else None
        case "double":
            return float(value) if is_number else None
        case "decimal":
            return _decimal(value) if is_number or isinstance(value, str) else None
        case "timestamp" | "date":
            ms = _ms(value)
            if ms is None or in_range(ms) is None:
                return None
            return (value if isinstance(value, Instant) else Instant(ms)).read_as(kind)
        case "object":
            return value if isinstance(value, dict) else None
    return None


def _ms(value: Value) -> int | None:
    if isinstance(value, Instant):
        return value.ms
    if isinstance(value, str):
        return parse_instant(value)
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _decimal(value: Value) -> Decimal | None:
    try:
        made = Decimal(repr(value)) if isinstance(value, float) else Decimal(value)
    except InvalidOperation:
        return None
    return made if made.is_finite() else None


def plain(value: Value) -> Any:
    """The value as a caller sees it: times are integer ms, maps and objects dicts, no nulls."""
    if isinstance(value, Instant):
        return value.ms
    if isinstance(value, bool):
        return value
    if isinstance(value, int):
        return int(value)
    if isinstance(value, float):
        return float(value)
    if isinstance(value, list):
        return [plain(item) for item in value]
    if isinstance(value, MapValue):
        return {plain(key): plain(item) for key, item in value.items()}
    if isinstance(value, dict):
        lifted = ((key, lift(item)) for key, item in value.items())
        return {key: plain(item) for key, item in lifted if item is not None}
    return value
