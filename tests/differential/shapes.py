"""Drawn stores for history worlds: schemas whose names and types are drawn, and rows that hit.

Theory: a *shape* gives every role a field (the key that events share, a number, a word…), so that
rule templates can be written once and run over any names and types. What makes rules over several
events true now and then: few distinct values, instants at the rules' own distances from each other
(exactly, and a millisecond to either side), ties, and two event datasets whose rows share fields
and ``_id``s.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from profile_actors.definitions.declared import Dataset, Field, Schema
from tests.differential.generate import BASE, DAY, HOUR, PEOPLE

MINUTE = 60_000
KINDS = ("view", "open", "buy")
GAPS = {
    "30 minutes": 30 * MINUTE,
    "90 minutes": 90 * MINUTE,
    "6 hours": 6 * HOUR,
    "1 day": DAY,
    "36 hours": 36 * HOUR,
    "2 days": 2 * DAY,
    "1 week": 7 * DAY,
}
IDS = ("e0", "e1", "e10", "e2", "e2 ", "é", "\uff5e", "\U0001d537", "e\x00", "e")
"""Their order is that of code points: not of UTF-16, nor of what is padded."""
WORDS = ("oslo", "rome", "Rome", "", "żar")
KEYS: dict[str, tuple[Any, ...]] = {
    "string": ("a", "b", "c"),
    "integer": (1, 2, 3),
    "double": (1.0, 2.0, 2.5),
}
AMOUNTS = (0.1, 0.2, 0.3, -0.1, 1e15, 0.7, 3.0)
EXTREMES = (1 << 62, 1 - (1 << 63), (1 << 63) - 2, (1 << 53) + 1)
"""Not the outermost int64, which min and max take for "none" (a named case of the tests)."""
EVENT_ROLES = ("key", "other", "number", "amount", "word", "flag", "moment")
RECORD_ROLES = ("tier", "limit", "home", "since", "labels", "limits")

_NAMES = {
    "key": ("campaignID", "ref", "web.ref", "`order-id`"),
    "other": ("sku", "item.sku", "`count`", "shop"),
    "number": ("n", "order.n", "last"),
    "amount": ("x", "order.total", "sum"),
    "word": ("place", "geo.place", "`today`"),
    "flag": ("ok", "order.ok"),
    "moment": ("until", "order.until", "date"),
    "tier": ("tier", "person.tier"),
    "limit": ("limit", "person.limit"),
    "home": ("home", "person.home"),
    "since": ("since", "person.since"),
    "labels": ("labels",),
    "limits": ("limits",),
}
_TYPES = {
    "key": ("string", "string", "integer", "double"),
    "other": ("string", "integer"),
    "number": ("integer", "double", "integer"),
    "amount": ("double", "double", "decimal(2)"),
    "word": ("string",),
    "flag": ("boolean",),
    "moment": ("timestamp",),
    "tier": ("string",),
    "limit": ("integer", "double"),
    "since": ("timestamp", "date"),
    "labels": ("string[]",),
    "limits": ("map<integer>",),
}


@dataclass(frozen=True)
class Shape:
    """A drawn store. paths: role -> the field as a rule writes it; types: role -> its type.

    gaps: the distances that rules and rows of this world use, as rule text.
    """

    paths: dict[str, str]
    types: dict[str, str]
    schemas: dict[str, Schema]
    datasets: dict[str, Dataset]
    gaps: tuple[str, ...]

    def __getitem__(self, role: str) -> str:
        return self.paths[role]

    @property
    def doubles(self) -> set[str]:
        """The event fields that are doubles in some schema, as a rule writes them."""
        found = {p for s in self.schemas.values() for p, t in s.fields.items() if t == "double"}
        return {path for path in self.paths.values() if path.replace("`", "") in found}

    def literal(self, rng: random.Random, role: str) -> str:
        """A constant that rows have in this role, as a rule writes it."""
        value = rng.choice(self.values(role))
        return f'"{value}"' if isinstance(value, str) else str(value)

    def values(self, role: str) -> tuple[Any, ...]:
        """What rows hold in a role of few values."""
        if role in ("word", "tier"):
            return WORDS
        if role in ("number", "limit"):
            return (0, 1, 2, 3)
        return KEYS[self.types[role]]


def shape_of(seed: int, drawn: bool) -> Shape:
    """A store's shape; drawn: names and types of a seed's own, else the first of each."""
    rng = random.Random(f"shape {seed}")

    def pick(options: tuple[str, ...]) -> str:
        return rng.choice(options) if drawn else options[0]

    paths = {role: pick(names) for role, names in _NAMES.items()}
    types = {role: pick(options) for role, options in _TYPES.items()}
    types["home"] = types["key"]
    bare = {role: path.replace("`", "") for role, path in paths.items()}
    event: dict[str, str | Field] = {bare[role]: types[role] for role in EVENT_ROLES}
    event |= {"items[].sku": "string", "items[].qty": "integer"}
    # The second schema shares some fields, a number perhaps as another kind of number.
    shared = [r for r in EVENT_ROLES if r in ("key", "number") or not drawn or rng.random() < 0.6]
    second: dict[str, str | Field] = {bare[role]: types[role] for role in shared}
    second["extra"] = "string"
    if drawn and rng.random() < 0.3:
        second[bare["number"]] = "double"
    person: dict[str, str | Field] = {bare[role]: types[role] for role in RECORD_ROLES}
    who = {"who": "CRMID"}
    datasets = {
        "hits": Dataset("hits", "hit", who, timestamp="at", id="_id", event_type_field="kind"),
        "calls": Dataset("calls", "hit", who, timestamp="at", event_type="call"),
        "taps": Dataset("taps", "tap", who, timestamp="at", id="_id", event_type_field="kind"),
        "crm": Dataset("crm", "person", who, timestamp="at"),
        "web": Dataset("web", "person", who, timestamp="at", mode="replace"),
    }
    schemas = {
        "hit": Schema("hit", "event", event),
        "tap": Schema("tap", "event", second),
        "person": Schema("person", "record", person),
    }
    gaps = tuple(rng.sample(sorted(GAPS), 2)) if drawn else ("30 minutes", "1 day")
    return Shape(paths, types, schemas, datasets, gaps)


class Stream:
    """Rows of one world: each instant stands at some distance from one that was used before."""

    def __init__(self, rng: random.Random, shape: Shape) -> None:
        self.rng = rng
        self.shape = shape
        self.anchors = [BASE]

    def instant(self, low: int, high: int) -> int:
        """An instant between two: a tie, a gap of the rules exactly or nearly, a midnight."""
        rng = self.rng
        for _ in range(4):
            anchor = rng.choice(self.anchors[-8:])
            gap = GAPS[rng.choice(self.shape.gaps)]
            step = rng.choice((0, 0, gap, gap, -gap, gap // 2, 2 * gap, MINUTE, DAY))
            at = anchor + step + rng.choice((0, 0, 0, 1, -1))
            if rng.random() < 0.1:
                at = at // DAY * DAY + rng.choice((0, -1, 1))
            if low <= at <= high:
                break
        else:
            at = rng.randint(low, high)
        self.anchors.append(at)
        return max(at, 0)

    def rows(self, dataset: str, count: int, low: int, high: int) -> list[dict[str, Any]]:
        """``count`` rows of a dataset with instants (ms) between low and high."""
        rng, shape = self.rng, self.shape
        fields = shape.schemas[shape.datasets[dataset].schema].fields
        out: list[dict[str, Any]] = []
        for _ in range(count):
            row: dict[str, Any] = {"who": rng.choice(PEOPLE), "at": self.instant(low, high)}
            is_event = dataset not in ("crm", "web")
            for role in EVENT_ROLES if is_event else RECORD_ROLES:
                path = shape[role].replace("`", "")
                # A field that every event lacks now and then, but seldom the key.
                if path in fields and rng.random() < (0.9 if role in ("key", "home") else 0.75):
                    _put(row, path, self.value(role, row["at"], path, dataset))
            if dataset in ("hits", "taps"):
                row["_id"] = rng.choice(IDS)
                row["kind"] = rng.choice(KINDS)
            if is_event and dataset != "taps" and rng.random() < 0.3:
                row["items"] = [
                    {"sku": rng.choice("abc"), "qty": rng.choice((None, 1, 2))}
                    for _ in range(rng.randint(0, 2))
                ]
            out.append(row)
        return out

    def value(self, role: str, at: int, path: str, dataset: str) -> Any:
        """A value of a role, for a row at an instant."""
        rng, shape = self.rng, self.shape
        if role == "amount":
            return rng.choice((1, 1.25, 2) if "decimal" in shape.types[role] else AMOUNTS)
        if role == "flag":
            return rng.random() < 0.5
        if role == "labels":
            return rng.choices(("a", "b", "oslo", "rome"), k=rng.randint(0, 3))
        if role == "limits":
            return {key: rng.choice((1, 2, 3)) for key in rng.sample("ab", rng.randint(1, 2))}
        if role in ("moment", "since"):
            moment = at + rng.choice((-1, 1, 0)) * GAPS[rng.choice(shape.gaps)]
            text = datetime.fromtimestamp(moment / 1000, UTC).isoformat(timespec="milliseconds")
            return text[:10] if shape.types[role] == "date" else text
        if role == "number" and rng.random() < 0.04:
            return rng.choice((1 << 62, 1 - (1 << 63), (1 << 63) - 2, (1 << 53) + 1))
        return rng.choice(shape.values(role))


def _put(row: dict[str, Any], path: str, value: Any) -> None:
    *outer, name = path.split(".")
    for part in outer:
        row = row.setdefault(part, {})
    row[name] = value
