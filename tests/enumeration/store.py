"""Many rules in one in-memory partition, against the reference evaluator after every step.

Theory: rules share nothing but their inputs, so hundreds of them stand in one catalogue, over the
profiles that tell them apart: with everything, with nothing but nulls, with a record only, with
events at equal instants and in the future. Each rule must have an answer, and the answer and until
when it holds must be those of ``pf.evaluate`` over the rows as they were sent.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import numpy as np

import profile_actors as pf
from profile_actors.config import Config
from profile_actors.definitions.declared import Catalogue
from profile_actors.engine.log.in_memory import MemoryCheckpoints, MemoryFeed, MemoryLog
from profile_actors.engine.log.sub_batch import SubBatch
from profile_actors.engine.partition.partition import Partition
from profile_actors.engine.reading.answers import Profile
from profile_actors.ingest.door import Door
from profile_actors.rules.catalogue.on_documents import typed_documents
from profile_actors.rules.language.checker import check
from profile_actors.rules.language.parser import parse
from profile_actors.rules.language.types import union_scope
from profile_actors.rules.reference.validity import evaluate_with_validity, same
from profile_actors.rules.tree.nodes import Node
from tests.enumeration.further import SEGMENTS
from tests.enumeration.rules import attributes

HOUR = 3_600_000
DAY = 24 * HOUR
BASE = 1_709_121_600_000 + 12 * HOUR  # 2024-02-28 12:00
CONFIG = Config(max_profiles=64, max_ahead_ms=1 << 50)

HIT = pf.Schema(
    "hit",
    "event",
    {
        "s": "string",
        "n": "integer",
        "x": "double",
        "d": "decimal(2)",
        "b": "boolean",
        "t": "timestamp",
        "day": "date",
        "sa": "string[]",
        "m": "map<integer>",
        "items[].qty": "integer",
        "items[].fee": "decimal(2)",
        "items[].at": "timestamp",
        "o.fee": "decimal(2)",
        "o.at": "timestamp",
        "o.day": "date",
        "o.name": "string",
    },
)
MAPS = ("pm", "pms")
"""Fields of the profile that are maps."""
PERSON = pf.Schema(
    "person",
    "record",
    {
        "ps": "string",
        "ps2": "string",
        "pn": "integer",
        "px": "double",
        "pd": "decimal(2)",
        "pb": "boolean",
        "pt": "timestamp",
        "pday": "date",
        "psa": "string[]",
        "pna": "integer[]",
        "pm": "map<integer>",
        "pms": "map<string>",
        "po.fee": "decimal(2)",
        "po.day": "date",
    },
)
SCHEMAS = {"hit": HIT, "person": PERSON}
DATASETS = {
    "hits": pf.Dataset("hits", "hit", {"who": "CRMID"}, timestamp="at", id="_id"),
    "crm": pf.Dataset("crm", "person", {"who": "CRMID"}, timestamp="at"),
}
NAMESPACES = {"CRMID": pf.Namespace("CRMID", "cross_device")}
Row = dict[str, Any]


def _moment(ms: int) -> str:
    return datetime.fromtimestamp(ms / 1000, UTC).isoformat(timespec="milliseconds")


def event(who: str, number: int, at: int, names: str = "snxdbt", odd: int = 0) -> Row:
    """An event with the named fields (letters; ``l``: its lists and map)."""
    full = {
        "s": "abc"[odd % 3],
        "n": (1, 2, -1)[odd % 3],
        "x": (1.5, 1.0, -0.5)[odd % 3],
        "d": ("1.25", "2.00", "-1.00")[odd % 3],
        "b": odd % 2 == 0,
        "t": _moment(at - odd * 6 * HOUR),
    }
    row: Row = {"who": who, "_id": str(number), "at": at}
    row |= {name: value for name, value in full.items() if name in names}
    if "t" in names:
        row["day"] = _moment(at - odd * DAY)[:10]
    if "l" in names:
        row |= {"sa": ["a", "b"][: 1 + odd % 2], "m": {"a": odd, "k": 1}}
        row["items"] = [{"qty": odd, "fee": "1.50"}, {"qty": None}, {"qty": 1, "at": _moment(at)}]
        row["o"] = {
            "fee": "0.50",
            "at": _moment(at),
            "day": _moment(at)[:10],
            "name": "ab"[odd % 2],
        }
    return row


FULL = {
    "ps": "a", "ps2": "ab", "pn": 1, "px": 1.5, "pd": "1.25", "pb": True,
    "pt": _moment(BASE - DAY), "pday": "2024-02-28", "psa": ["a", "c"], "pna": [1, 2],
    "pm": {"a": 1, "k": 2}, "pms": {"a": "a"}, "po": {"fee": "1.50", "day": "2024-02-28"},
}  # fmt: skip


def first_rows() -> list[tuple[str, list[Row]]]:
    """What each profile begins with."""
    return [
        ("crm", [
            {"who": "full", "at": BASE, **FULL},
            {"who": "record", "at": BASE, **FULL, "pb": False, "ps": "b", "pn": 0},
            {"who": "nulls", "at": BASE},
            {"who": "half", "at": BASE, "ps": "b", "pna": [], "pb": True},
        ]),
        ("hits", [
            *(event("full", i, BASE - (30 - i // 2 * 6) * HOUR, "snxdbtl", i) for i in range(4)),
            event("nulls", 0, BASE - HOUR, ""),
            event("events", 0, BASE - HOUR, "snxdbtl"),
            event("half", 0, BASE - 2 * HOUR, "sx", 1),
            event("half", 1, BASE - HOUR, "nbt", 2),
            event("half", 2, BASE - HOUR, ""),
        ]),
    ]  # fmt: skip


def later_rows() -> list[tuple[str, list[Row]]]:
    """Late events, one in the future, and records that change."""
    return [
        ("hits", [
            event("full", 9, BASE - 20 * HOUR, "snxdbt", 2),
            event("nulls", 9, BASE - 20 * HOUR, "", 2),
            event("half", 9, BASE + 2 * HOUR, "snxdbtl", 0),
        ]),
        ("crm", [
            {"who": "nulls", "at": BASE + 1, "ps": "a", "pb": True},
            {"who": "record", "at": BASE + 1, "pn": 1, "psa": [], "pm": {}},
        ]),
    ]  # fmt: skip


@dataclass
class Verdict:
    """What is wrong with a rule; how: pending, value, until, or the error of planning it."""

    rule: str
    how: str
    detail: str


@dataclass
class Store:
    """One partition with many rules. rules: name -> (is a segment, text)."""

    rules: dict[str, tuple[bool, str]]
    found: dict[str, Verdict] = field(default_factory=dict)
    checks: int = 0

    def __post_init__(self) -> None:
        self.partition = Partition(MemoryLog(), MemoryFeed(), MemoryCheckpoints(), CONFIG)
        rules = self.rules.items()
        segments = {n: pf.SegmentDefinition(n, rule) for n, rule in SEGMENTS.items()}
        segments |= {n: pf.SegmentDefinition(n, text) for n, (is_one, text) in rules if is_one}
        computed = {n: pf.ComputedAttribute(n, rule) for n, rule in attributes().items()}
        computed |= {n: pf.ComputedAttribute(n, text) for n, (is_one, text) in rules if not is_one}
        self.catalogue = Catalogue(2, NAMESPACES, SCHEMAS, DATASETS, segments, computed)
        self.trees = typed(self.rules)
        self.read = {name: tree for name, tree in typed(_OTHERS).items()}
        self.inside = typed({name: (True, rule) for name, rule in SEGMENTS.items()})
        self.offset = 0
        self.sent: dict[str, tuple[Row, list[Row]]] = {}

    def run(self, defined_first: bool = True) -> None:
        """The steps, and all checks after each. Rules come before or after the first rows."""
        empty = Catalogue(1, NAMESPACES, SCHEMAS, DATASETS, {}, {})
        self.partition.define(self.catalogue if defined_first else empty, None)
        for dataset, rows in first_rows():
            self.send(dataset, rows)
        if not defined_first:
            self.partition.define(self.catalogue, None)
        self.check(0)
        for dataset, rows in later_rows():
            self.send(dataset, rows)
        self.check(0)
        for ahead in (3 * HOUR, DAY, 40 * DAY):
            self.partition.advance(BASE + ahead)
            self.check(1 if ahead == DAY else 0)

    def send(self, dataset: str, rows: list[Row]) -> None:
        """Rows by the real door, at a clock of their own."""
        door = Door(self.catalogue, dataset, 0, CONFIG)
        prepared = door.prepare(rows, self.offset, BASE + 400 * DAY)
        assert not prepared.rejects, prepared.rejects[:2]
        after, self.offset = self.offset, self.offset + len(rows)
        now = max(BASE, self.partition.now or 0)
        version = self.partition.catalogue.version
        batch = SubBatch(dataset, "p", after or None, self.offset, version, None, prepared.table)
        reply = self.partition.commit([batch], now)[0]
        assert reply.status == "ok", reply
        for row in rows:
            record, events = self.sent.setdefault(row["who"], ({}, []))
            body = {k: v for k, v in row.items() if k not in ("who", "at")}
            if dataset == "crm":
                for name, value in body.items():  # a map states its keys, each by itself
                    kept = record.get(name)
                    record[name] = {**kept, **value} if name in MAPS and kept else value
            else:
                events.append(body | {"timestamp": row["at"]})

    def check(self, ahead: int) -> None:
        """Every rule of every profile, now and (ahead ms) later."""
        while self.partition.work(1 << 20):
            pass
        state = self.partition.state
        for (_, name), reason in state.book.pending.items():
            self.wrong(name, "pending", reason)
        slots = np.arange(state.directory.slots, dtype=np.uint32)
        for profile in self.partition.reader.profiles_of(slots, state.now + ahead).values():
            documents = typed_documents(_SCOPE, *self.sent[profile.identities[0].value])
            for name, (is_segment, _) in self.rules.items():
                if name not in self.found:
                    self.compare(name, is_segment, profile, documents)

    def compare(
        self, name: str, is_segment: bool, profile: Profile, documents: tuple[Any, Any]
    ) -> None:
        """One rule of one profile, whose record and events are given as typed documents."""
        value, until = evaluate_with_validity(
            self.trees[name], *documents, profile.now, self.read, self.inside,
            condition=is_segment, in_order=True,
        )  # fmt: skip
        self.checks += 1
        if is_segment:
            membership = profile.segments.get(name)
            got: Any = membership is not None and membership.status == "realized"
            value = bool(value)
            until_got = until if membership is None else membership.valid_until
        elif name in profile.computed:
            got, until_got = profile.computed[name], profile.computed_valid_until[name]
        else:
            self.wrong(name, "pending", "no key")
            return
        who = f"{profile.identities[0].value} at {profile.now - BASE}"
        if not same(value, got):
            self.wrong(name, "value", f"{who}: expected {value!r}, got {got!r}")
        elif until != until_got:
            self.wrong(name, "until", f"{who}: {value!r} until {until}, got {until_got}")

    def wrong(self, name: str, how: str, detail: str) -> None:
        """Note the first fault of a rule."""
        if name in self.rules:
            self.found.setdefault(name, Verdict(self.rules[name][1], how, detail))


_OTHERS = {name: (False, rule) for name, rule in attributes().items()}


def scope() -> Any:
    """What the rules may read."""
    known: dict[str, Any] = {}
    for name, rule in attributes().items():
        known[name] = check(parse(rule), union_scope(SCHEMAS.values(), known), "computed").type
    return union_scope(SCHEMAS.values(), known, SEGMENTS)


_SCOPE = scope()


def typed(rules: dict[str, tuple[bool, str]]) -> dict[str, Node]:
    """The rules' trees."""
    return {
        name: check(parse(text), _SCOPE, "segment" if is_segment else "computed")
        for name, (is_segment, text) in rules.items()
    }


CATALOGUE = Catalogue(
    1,
    NAMESPACES,
    SCHEMAS,
    DATASETS,
    {n: pf.SegmentDefinition(n, rule) for n, rule in SEGMENTS.items()},
    {n: pf.ComputedAttribute(n, r) for n, (_, r) in _OTHERS.items()},
)
"""The attributes that operands read, and no rule of the enumeration."""


def accepted(rules: list[tuple[str, str]]) -> list[tuple[bool, str]]:
    """(is a segment, text) of the rules that type-check, each as what it can be."""
    out: list[tuple[bool, str]] = []
    for position, text in rules:
        is_value = position in ("attribute", "map", "let")
        for kind in ("computed",) if is_value else ("segment", "computed"):
            try:
                check(parse(text), _SCOPE, kind)
            except pf.RuleError:
                continue
            out.append((kind == "segment", text))
            break
    return out


def faults(rules: list[tuple[bool, str]], defined_first: bool = True) -> tuple[list[Verdict], int]:
    """What is wrong with rules that stand in one store together; and how many checks were made."""
    store = Store({f"q{i}": rule for i, rule in enumerate(rules)})
    store.run(defined_first)
    return list(store.found.values()), store.checks
