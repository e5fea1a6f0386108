"""A hub for tests of laws: partitions over in-memory logs, fed through the real door and route.

Theory: ``pure`` is what the laws call pure state, as plain Python: who is in which segment and
until when, computed values to the last bit, and the events themselves. What depends on the order
of entries (when somebody entered, which exits were seen) is history, and left out.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pyarrow as pa

from profile_actors.config import Config
from profile_actors.definitions.declared import (
    Catalogue,
    ComputedAttribute,
    Dataset,
    Namespace,
    Schema,
    SegmentDefinition,
)
from profile_actors.engine.identity.mailbox import Post
from profile_actors.engine.log.in_memory import MemoryCheckpoints, MemoryFeed, MemoryLog
from profile_actors.engine.log.sub_batch import SubBatch
from profile_actors.engine.partition.partition import Partition
from profile_actors.ingest.door import Door
from profile_actors.ingest.identity_keys import key_of
from profile_actors.ingest.route import default_assignment, split

HOUR = 3_600_000
DAY = 24 * HOUR
BASE = 1_709_100_000_000 // HOUR * HOUR
CONFIG = Config(max_profiles=4096, max_ahead_ms=1 << 50)
SEED = 7
POST = Post("", seed=SEED)
WHO = Namespace("CRMID", "cross_device")

Rows = list[dict[str, Any]]

CATALOGUE = Catalogue(
    1,
    {"CRMID": WHO},
    {
        "hit": Schema("hit", "event", {"place": "string", "n": "integer", "x": "double"}),
        "person": Schema("person", "record", {"tier": "string", "score": "integer"}),
    },
    {
        "hits": Dataset(
            "hits", "hit", {"who": "CRMID"}, timestamp="at", id="_id", event_type_field="kind"
        ),
        "calls": Dataset("calls", "hit", {"who": "CRMID"}, timestamp="at", event_type="call"),
        "crm": Dataset("crm", "person", {"who": "CRMID"}, timestamp="at"),
        "web": Dataset("web", "person", {"who": "CRMID"}, timestamp="at", mode="replace"),
    },
    {
        name: SegmentDefinition(name, rule)
        for name, rule in {
            "buyers": 'xEvent[eventType = "buy"].count() >= 2',
            "callers": 'xEvent[eventType = "call"].count() > 0',
            "day": "xEvent[timestamp occurs <= 1 day before now].count() >= 2",
            "exactly": "xEvent.sum(x) = 0",
            "spenders": "xEvent[timestamp occurs <= 2 days before now].sum(x) > 0.3",
            "gold": 'tier = "gold" and score >= 2',
            "silent": "xEvent.max(timestamp) occurs > 36 hours before now",
            "fresh": "xEvent[timestamp occurs < 1 day before now].count() > 0",
            "both": 'inSegment("buyers") and inSegment("day")',
        }.items()
    },
    {
        name: ComputedAttribute(name, rule)
        for name, rule in {
            "count": "xEvent.count()",
            "sum": "xEvent.sum(x)",
            "week": "xEvent[timestamp occurs <= 1 week before now].sum(x)",
            "mean": "xEvent[timestamp occurs <= 2 days before now].average(x)",
            "least": "xEvent[timestamp occurs <= 1 day before now].min(n)",
            "most": "xEvent.max(n)",
            "places": "xEvent.place.distinct().count()",
            "last": "xEvent.max(timestamp)",
            "points": "score",
        }.items()
    },
)


class Hub:
    """``count`` partitions. submit: one entry in each partition per call, on the event clock."""

    def __init__(self, count: int = 1, catalogue: Catalogue = CATALOGUE) -> None:
        self.catalogue = catalogue
        self.doors = {name: Door(catalogue, name, SEED, CONFIG) for name in catalogue.datasets}
        self.assignment = default_assignment(count)
        self.stores = [(MemoryLog(), MemoryFeed(), MemoryCheckpoints()) for _ in range(count)]
        self.partitions = [self.opened(i) for i in range(count)]
        self.sent: dict[tuple[str, int], int] = {}
        for partition in self.partitions:
            partition.define(catalogue, None)

    def opened(self, index: int) -> Partition:
        """A partition, from what it stored."""
        return Partition(*self.stores[index], CONFIG, index=index, post=POST)

    def table(self, dataset: str, rows: Rows, first: int) -> pa.Table:
        """Rows through the door; none may be refused."""
        prepared = self.doors[dataset].prepare(rows, first, BASE + 400 * DAY)
        assert not prepared.rejects, prepared.rejects[:2]
        return prepared.table

    def sub_batch(
        self, dataset: str, producer: str, first: int, rows: Rows, *, resend: bool = False,
        clock: int | None = None,
    ) -> SubBatch:  # fmt: skip
        """A producer's rows [first, first + len(rows)) for a hub of one partition."""
        table = self.table(dataset, rows, first) if rows else None
        through = first + len(rows)
        return SubBatch(dataset, producer, first, through, 1, clock, table, resend)

    def submit(self, groups: Sequence[tuple[str, str, Rows]], clock: int) -> int:
        """(dataset, producer, rows) each, as one entry per partition; how many were accepted."""
        queues: list[list[SubBatch]] = [[] for _ in self.partitions]
        for dataset, producer, rows in groups:
            first = self.sent.get((producer, -1), 0)
            through = self.sent[producer, -1] = first + len(rows)
            parts = split(self.table(dataset, rows, first), self.assignment, len(self.partitions))
            for i, part in enumerate(parts):
                after = self.sent.get((producer, i), 0)
                self.sent[producer, i] = through
                queues[i].append(SubBatch(dataset, producer, after, through, 1, clock, part))
        accepted = 0
        for partition, queue in zip(self.partitions, queues, strict=True):
            for reply in partition.commit(queue, None):
                assert reply.status == "ok", reply
                accepted += reply.accepted
        return accepted

    def reopen(self, index: int = 0) -> Partition:
        """Open a partition again, from what it stored."""
        self.partitions[index].close()
        self.partitions[index] = self.opened(index)
        return self.partitions[index]

    def check_members(self, people: Sequence[str]) -> None:
        """Members by segment are those whose own look-up says so, at the partitions' now."""
        said: dict[str, set[str]] = {name: set() for name in self.catalogue.segments}
        for who, found in self.pure(people).items():
            for name in found[0] if found else ():
                said[name].add(who)
        for name, wanted in said.items():
            got = [i.value for p in self.partitions for i in p.members(name)[0]]
            assert sorted(got) == sorted(wanted), name
            assert sum(p.count(name) for p in self.partitions) == len(wanted), name

    def pure(self, people: Sequence[str], now: int | None = None) -> dict[str, Any]:
        """Pure state of each person: segments with valid_until, computed values, events."""
        out: dict[str, Any] = {}
        for who in people:
            key = key_of(WHO, who, SEED)
            partition = self.partitions[self.assignment[key[0] >> 52]]
            (profile,) = partition.profiles([key], now)
            if profile is None:
                out[who] = None
                continue
            inside = {
                name: membership.valid_until
                for name, membership in profile.segments.items()
                if membership.status == "realized"
            }
            computed = {
                name: (repr(value), profile.computed_valid_until[name])
                for name, value in profile.computed.items()
            }
            page = partition.events(key, limit=100_000)
            assert page.next is None
            out[who] = (inside, computed, profile.attributes, repr(page.events))
        return out
