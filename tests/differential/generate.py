"""Random worlds for the differential harness: rules, rows and steps, all from one seed.

Theory: times lie on a coarse grid so that ties, boundaries to the millisecond and equal sums are
common rather than rare; values come from small sets for the same reason.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from typing import Any

from profile_actors.definitions.declared import (
    Catalogue,
    ComputedAttribute,
    Dataset,
    Field,
    MergePolicy,
    Namespace,
    Schema,
    SegmentDefinition,
)

HOUR = 3_600_000
DAY = 24 * HOUR
BASE = 1_709_100_000_000 // HOUR * HOUR  # the days around 2024-02-29
KINDS = ("view", "cart", "buy")
PLACES = ("oslo", "rome", "Rome", "")
WHOLE = (0, 1, 2, 3, -1, 2**62)
PARTS = (0.1, 0.2, 0.3, -0.1, 1e-9, 1e15, 0.7, 3.0)
TIERS = ("gold", "silver")
PEOPLE = ("p1", "p2", "p3")


def namespaces() -> dict[str, Namespace]:
    """One person namespace."""
    return {"CRMID": Namespace("CRMID", "cross_device")}


SCHEMAS = {
    "hit": Schema(
        "hit",
        "event",
        {
            "place": "string",
            "n": "integer",
            "x": "double",
            "cost.net": "decimal(2)",
            # The lists and maps are filled in wide worlds only (``wide``).
            "items[].sku": "string",
            "items[].qty": "integer",
            "marks": "string[]",
            "m": "map<double>",
        },
    ),
    "person": Schema(
        "person",
        "record",
        {
            "tier": "string",
            "score": "integer",
            "born": "date",
            "labels": "string[]",
            "limits": "map<integer>",
        },
    ),
}
DATASETS = {
    "hits": Dataset(
        "hits", "hit", {"who": "CRMID"}, timestamp="at", id="_id", event_type_field="kind"
    ),
    "calls": Dataset("calls", "hit", {"who": "CRMID"}, timestamp="at", event_type="call"),
    "crm": Dataset("crm", "person", {"who": "CRMID"}, timestamp="at"),
    "web": Dataset("web", "person", {"who": "CRMID"}, timestamp="at", mode="replace"),
}


def drawn_schemas(rng: random.Random) -> dict[str, Schema]:
    """The fixed schemas with other types, constraints and further fields; the rows satisfy them."""
    changes: dict[str, list[str | Field]] = {
        "n": ["integer", "double", Field("integer", minimum=-5), Field("double", maximum=1e19)],
        "x": ["double", Field("double", minimum=-1.0)],
        "place": ["string", Field("string", max_length=9), Field("string", enum=PLACES)],
        "cost.net": ["decimal(2)", "double", Field("decimal(2)", minimum=1)],
        "tier": ["string", Field("string", pattern="^[a-z]+$")],
        "score": ["integer", "double"],
        "born": ["date", "timestamp"],
    }
    out = {}
    for name, schema in SCHEMAS.items():
        fields = {
            p: rng.choice(changes[p]) if p in changes else t for p, t in schema.fields.items()
        }
        for i in range(rng.randint(0, 3)):
            fields[f"more{i}"] = rng.choice(("string", "boolean", "double[]", "map<string>"))
        items = list(fields.items())
        rng.shuffle(items)
        out[name] = Schema(name, schema.behavior, dict(items))
    return out


@dataclass
class Rules:
    """Rule texts: name -> (kind, text)."""

    segments: dict[str, str]
    computed: dict[str, str]
    schemas: dict[str, Schema] = field(default_factory=lambda: SCHEMAS)
    datasets: dict[str, Dataset] = field(default_factory=lambda: DATASETS)

    def catalogue(self, version: int) -> Catalogue:
        """A catalogue of these rules over the world's schemas and datasets."""
        return Catalogue(
            version,
            namespaces(),
            self.schemas,
            self.datasets,
            {name: SegmentDefinition(name, rule) for name, rule in self.segments.items()},
            {name: ComputedAttribute(name, rule) for name, rule in self.computed.items()},
            merge_policies=drawn_policies(self.segments, self.datasets),
        )


class RuleMaker:
    """Random rules of the incremental subset."""

    def __init__(self, rng: random.Random) -> None:
        self.rng = rng

    def predicate(self, depth: int = 2) -> str:
        """A condition on one event, free of now."""
        pick = self.rng.random()
        if depth and pick < 0.25:
            word = self.rng.choice(("and", "or"))
            return f"({self.predicate(depth - 1)} {word} {self.predicate(depth - 1)})"
        if depth and pick < 0.35:
            return f"not ({self.predicate(depth - 1)})"
        return self.rng.choice((
            f'eventType = "{self.rng.choice((*KINDS, "call"))}"',
            f'eventType in ["{self.rng.choice(KINDS)}", "call"]',
            f"n {self.comparison()} {self.rng.choice((0, 1, 2))}",
            f"x {self.comparison()} {self.rng.choice((0.1, 0.3, 1))}",
            f'place = "{self.rng.choice(PLACES)}"',
            'place != "rome"',
            f'place.startsWith("{self.rng.choice("rR")}", {self.rng.choice(("true", "false"))})',
            'place like "%o%"',
            "n.isNull()",
            "isNotNull(x)",
            "x + n > 1",
            "n % 2 = 1",
            "cost.net >= 1.50",
            f"timestamp occurs after {self.date()}",
            f"timestamp.getDayOfMonth() = {self.rng.choice((1, 28, 29))}",
        ))  # fmt: skip

    def date(self) -> str:
        """A date literal near the stream."""
        return self.rng.choice(
            ("date(2024, 2, 29)", "date(2024, 3, 1, 12, 0, 0)", "date(2024, 3, 5)")
        )

    def comparison(self) -> str:
        """A comparison operator."""
        return self.rng.choice(("=", "!=", "<", "<=", ">", ">="))

    def window(self) -> str:
        """A condition on the event's time that moves with now."""
        rng = self.rng
        amount, unit = rng.choice(
            ((6, "hours"), (1, "day"), (2, "days"), (1, "week"), (1, "month"), (36, "hours"))
        )
        return rng.choice((
            f"timestamp occurs {rng.choice(('<', '<=', '>', '>='))} {amount} {unit} before now",
            f"timestamp occurs <= {amount} {unit} before today",
            "timestamp occurs today",
            "timestamp occurs yesterday",
            "timestamp occurs on this month",
            "timestamp occurs before today",
            f"timestamp occurs = {rng.choice((0, 1, 2))} days before now",
        ))  # fmt: skip

    def events(self) -> str:
        """xEvent, filtered somehow."""
        pick = self.rng.random()
        if pick < 0.1:
            return "xEvent"
        if pick < 0.5:
            return f"xEvent[{self.predicate()}]"
        if pick < 0.7:
            return f"xEvent[{self.window()}]"
        return f"xEvent[{self.predicate(1)} and {self.window()}]"

    def number(self) -> str:
        """A numeric aggregate."""
        events = self.events()
        return self.rng.choice((
            f"{events}.count()",
            f"{events}.count()",
            f"{events}.sum(x)",
            f"{events}.sum(n)",
            f"{events}.sum(x * 2)",
            f"{events}.min(n)",
            f"{events}.max(x)",
            f"{events}.average(x)",
            f"{events}.average(n)",
            f"{events}.place.distinct().count()",
            f"{events}.n.distinct().count()",
            "score",
        ))  # fmt: skip

    def condition(self, segments: list[str], depth: int = 1) -> str:
        """A boolean rule over the profile."""
        rng = self.rng
        pick = rng.random()
        if depth and pick < 0.2:
            word = rng.choice(("and", "or"))
            left, right = self.condition(segments, depth - 1), self.condition(segments, depth - 1)
            return f"({left}) {word} ({right})"
        if depth and pick < 0.28:
            return f"not ({self.condition(segments, depth - 1)})"
        options = [
            f"{self.number()} {self.comparison()} {rng.choice((0, 1, 2, 0.3, 3, 1.5))}",
            f"{self.number()} {self.comparison()} {rng.choice((0, 1, 2, 5))}",
            f"{self.number()} > {self.number()}",
            f"{self.events()}.max(timestamp) occurs {rng.choice(('>', '>=', '<', '<='))}"
            f" {rng.choice(('1 day', '36 hours', '1 month'))} before now",
            f"{self.events()}.min(timestamp) occurs {rng.choice(('today', 'before today'))}",
            f"exists E from xEvent where E.n = 1 and E.{self.window()}",
            f"{self.events()}",
            f'tier = "{rng.choice(TIERS)}"',
            "tier.isNull()",
            "born occurs >= 1 month before now",
            "born.getMonth() = currentMonth()",
            f"score {self.comparison()} 2",
            f"{self.number()}.isNull()",
        ]
        if rng.random() < 0.25:
            return self.beyond()
        if segments:
            options.append(f'inSegment("{rng.choice(segments)}")')
        return rng.choice(options)

    def beyond(self) -> str:
        """A rule beyond the incremental subset: it is rescanned."""
        rng = self.rng
        unit = rng.choice(("6 hours", "1 day", "2 days"))
        return rng.choice((
            f'CHAIN(xEvent, timestamp, [A: WHAT(eventType = "view"),'
            f' B: WHAT({self.predicate(1)}) WHEN(<= {unit} after A)])',
            f'CHAIN(xEvent, timestamp, [A: WHAT(eventType = "buy") WHEN(<= {unit} before now)'
            f" COUNT({rng.choice((1, 2))})])",
            'exists E from xEvent where E.eventType = "view" and exists F from xEvent where'
            ' F.eventType = "buy" and F.n = E.n and'
            f' F.timestamp occurs <= {unit} after E.timestamp',
            'xEvent[eventType in ["view", "buy"] and n = ^.score].count() > 0',
            f'xEvent[eventType = "buy" and {self.window()}].topN(n, 1).head().place = "rome"',
            'xEvent[isNotNull(place)].groupBy(place).map((K, G) => mapEntry(K, G.count()))'
            ".values().max() >= 2",
            f'{self.events()}.max(place) = "rome"',
            f'forall E from xEvent where E.n {self.comparison()} 1 or E.{self.window()}',
        ))  # fmt: skip

    def rules(self, count: int) -> Rules:
        """``count`` segments and a few computed attributes."""
        segments: dict[str, str] = {}
        for i in range(count):
            segments[f"s{i}"] = self.condition(list(segments))
        computed = {f"c{i}": self.number() for i in range(count // 2)}
        if computed and self.rng.random() < 0.5:
            computed["total"] = f"computed.c0 + {self.rng.choice((1, 0.5))}"
            segments["t"] = f"computed.total {self.comparison()} 2"
        if self.rng.random() < 0.3:
            computed["places"] = f"{self.events()}.place.distinct()"
        computed["last"] = f"{self.events()}.max(timestamp)"
        return Rules(segments, computed)


def drawn_policies(
    segments: dict[str, str], datasets: dict[str, Dataset]
) -> dict[str, MergePolicy]:
    """For a third of the rules that a world has in turn, the policy that all go by. It follows from
    their texts: what a seed's world is beside it stays as it was."""
    rng = random.Random(repr(segments))
    if not segments or datasets is not DATASETS or rng.random() > 0.35:
        return {}
    order = rng.choice((("web", "crm"), ("crm", "web"), ("crm",), ("web",)))
    events = rng.choice((None, None, ("hits",), ("calls",), ("calls", "hits")))
    return {"p": MergePolicy("p", "dataset_precedence", order, events, default=True)}


def rows(rng: random.Random, dataset: str, count: int, low: int, high: int) -> list[dict[str, Any]]:
    """Rows of a dataset on the time grid between two instants (ms)."""
    out = []
    for _ in range(count):
        at = rng.randint(low // HOUR, high // HOUR) // 3 * 3 * HOUR
        row: dict[str, Any] = {"who": rng.choice(PEOPLE), "at": max(at, 0)}
        if dataset in ("crm", "web"):
            if rng.random() < 0.7:
                row["tier"] = rng.choice(TIERS)
            if rng.random() < 0.7:
                row["score"] = rng.choice((1, 2, 3))
            if rng.random() < 0.3:
                row["born"] = rng.choice(("2024-02-01", "2024-02-29", "1990-03-31"))
        else:
            if rng.random() < 0.8:
                row["place"] = rng.choice(PLACES)
            if rng.random() < 0.8:
                row["n"] = rng.choice(WHOLE)
            if rng.random() < 0.8:
                row["x"] = rng.choice(PARTS)
            if rng.random() < 0.3:
                row["cost"] = {"net": rng.choice((1, 1.25, 2))}
            if dataset == "hits":
                row["_id"] = f"e{rng.randint(0, 12)}"
                row["kind"] = rng.choice(KINDS)
        out.append(row)
    return out
