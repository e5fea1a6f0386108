"""The change feed is delivered whole: reads of any size, at any time, come to the same changes.

Theory: a reader keeps the position that its last read reached, and what the reads gave, put
together, must be the feed as one read gives it in the end. Reads come between entries, slices of
rescans, clock moves and new definitions, and between any two lines of the writer that does them.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from profile_actors.definitions.declared import (
    Catalogue,
    ComputedAttribute,
    Dataset,
    Schema,
    SegmentDefinition,
)
from profile_actors.engine.partition import (
    entry_writer,
    feed_writer,
    partition,
    partition_clock,
)
from profile_actors.engine.partition.partition import Partition
from profile_actors.engine.reading.answers import Change
from profile_actors.engine.refold import rescans
from profile_actors.errors import Pending
from tests.model.beside import beside
from tests.model.hub import BASE, HOUR, WHO, Hub

SEGMENTS = {
    "seen": "xEvent.count() > 0",
    "busy": "xEvent[timestamp occurs <= 3 hours before now].count() > 1",
    "tagged": 'tags.includes("a")',
    "asked": 'tags.includes("b") and xEvent[timestamp occurs <= 2 hours before now].count() > 0',
}
COMPUTED = {
    "count": "xEvent.count()",
    "first tag": "tags.head()",
    "label": 'if(tags.includes("a"), 1, 2)',
}
MORE = {"seen": "xEvent.count() > 1", "untagged": 'not(tags.includes("a"))'}
PEOPLE = ("u", "v", "w", "x")


def catalogue(version: int = 1, **more: str) -> Catalogue:
    """Events and records of people, rules by operators and rules that are evaluated again."""
    segments = {**SEGMENTS, **more}
    return Catalogue(
        version,
        {"CRMID": WHO},
        {
            "hit": Schema("hit", "event", {"n": "integer"}),
            "person": Schema("person", "record", {"tags": "string[]"}),
        },
        {
            "hits": Dataset("hits", "hit", {"who": "CRMID"}, timestamp="at", event_type="hit"),
            "crm": Dataset("crm", "person", {"who": "CRMID"}, timestamp="at"),
        },
        {name: SegmentDefinition(name, rule) for name, rule in segments.items()},
        {name: ComputedAttribute(name, rule) for name, rule in COMPUTED.items()},
    )


def kept(changes: list[Change]) -> list[tuple[Any, ...]]:
    """Changes without the values of computed attributes, which are those at delivery."""
    return [
        (c.position, c.at, c.kind, c.name, c.identity, c.old, c.cause)
        + ((c.new,) if c.kind == "membership" else ())
        for c in changes
    ]


class Follower:
    """A reader of one partition's feed, and all that it was told."""

    def __init__(self, hub: Hub) -> None:
        self.partition = hub.partitions[0]
        self.told: list[Change] = []
        self.cursor = -1

    def read(self, limit_bytes: int) -> bool:
        """One read from where the last one ended; whether it came any further."""
        found, reached = self.partition.changes(self.cursor, limit_bytes)
        assert reached >= self.cursor
        assert all(self.cursor < change.position <= reached for change in found)
        self.told += found
        self.cursor, before = reached, self.cursor
        return reached > before

    def check(self) -> None:
        """Read to the end; then what was told is the whole feed, of all entries."""
        while self.partition.work(1000):
            pass
        while self.read(200):
            pass
        whole, reached = self.partition.changes(-1, 1 << 40)
        assert reached == self.cursor == self.partition.position - 1
        assert kept(self.told) == kept(whole)


def rows_of(rng: random.Random, now: int) -> tuple[str, list[dict[str, Any]]]:
    """A few rows of one dataset, some of them late."""
    count = rng.choice((1, 1, 2, 8))
    if rng.random() < 0.5:
        return "hits", [
            {"who": rng.choice(PEOPLE), "at": now - rng.choice((0, 0, HOUR, 9 * HOUR)), "n": i}
            for i in range(count)
        ]
    return "crm", [
        {"who": rng.choice(PEOPLE), "at": now, "tags": rng.choice((["a"], ["b", "a"], ["c"]))}
        for _ in range(count)
    ]


def write(rng: random.Random, hub: Hub, now: int) -> None:
    """One step of the writer: rows, time, a slice of the rescans, or other rules."""
    one = hub.partitions[0]
    pick = rng.random()
    if pick < 0.55:
        dataset, rows = rows_of(rng, now)
        hub.submit([(dataset, "p", rows)], now)
    elif pick < 0.7:
        one.advance(max(now, one.now or 0))
    elif pick < 0.95:
        one.work(rng.choice((1, 2, 7)))
    else:
        version = one.catalogue.version + 1
        one.define(catalogue(version, **(MORE if version % 2 == 0 else {})), None)


@settings(max_examples=20)
@given(st.integers(0, 1 << 32))
def test_reads_of_any_size_at_any_time_are_the_whole_feed(seed: int) -> None:
    rng = random.Random(seed)
    hub = Hub(1, catalogue())
    followers = [Follower(hub) for _ in range(3)]
    now = BASE
    for _ in range(rng.randrange(3, 25)):
        now += rng.choice((0, 1, HOUR, HOUR, 5 * HOUR))
        write(rng, hub, now)
        for follower in followers:
            for _ in range(rng.choice((0, 0, 1, 3))):
                follower.read(rng.choice((0, 1, 30, 100, 400, 1 << 20)))
    for follower in followers:
        follower.check()


@pytest.mark.parametrize("seed", range(6))
def test_a_reader_between_two_lines_of_the_writer_misses_no_change(seed: int) -> None:
    rng = random.Random(seed)
    hub = Hub(1, catalogue())
    follower = Follower(hub)
    now = BASE
    for _ in range(12):
        now += rng.choice((0, HOUR, 5 * HOUR))
        with beside(
            hub.partitions[0], lambda: follower.read(rng.choice((0, 100))),
            (partition, partition_clock, entry_writer, feed_writer, rescans),
        ) as seen:  # fmt: skip
            write(rng, hub, now)
        assert seen
    follower.check()


def test_a_read_that_is_full_before_entries_with_rescans_outstanding_ends_before_them() -> None:
    hub = Hub(1, catalogue())
    follower = Follower(hub)
    hub.submit([("hits", "p", [{"who": "u", "at": BASE, "n": 0}])], BASE)
    hub.submit([("crm", "p", [{"who": "u", "at": BASE, "tags": ["a"]}])], BASE)
    waiting = hub.partitions[0].owed.rescans.first_pending
    for i in range(20):
        hub.submit([("hits", "p", [{"who": f"w{i}", "at": BASE + i, "n": 0}])], BASE + i)
    while follower.read(60):
        pass
    assert waiting is not None
    assert follower.cursor == waiting - 1
    follower.check()


@pytest.mark.parametrize(
    "ask",
    [lambda one: len(one.members("tagged")[0]), lambda one: one.count("tagged")],
    ids=("members", "count"),
)
def test_members_of_a_segment_that_is_evaluated_again_wait_from_its_entry_on(
    ask: Callable[[Partition], int],
) -> None:
    hub = Hub(1, catalogue())
    one = hub.partitions[0]
    while one.work(100):
        pass
    told: list[tuple[int, int | None]] = []

    def read() -> None:
        """The position and the number of members then, None for Pending."""
        try:
            members: int | None = ask(one)
        except Pending:
            members = None
        if [(one.position, members)] != told[-1:]:
            told.append((one.position, members))

    with beside(one, read, (partition, rescans)):
        hub.submit([("crm", "p", [{"who": "u", "at": BASE, "tags": ["a"]}])], BASE)
        while one.work(100):
            pass
    read()
    end = one.position
    assert told == [(end - 1, 0), (end, None), (end, 1)]


def test_the_cost_of_a_change_does_not_grow_with_the_profiles() -> None:
    costs = []
    for profiles in (100, 4_000):
        hub = Hub(1, catalogue())
        one = hub.partitions[0]
        rule = next(r for r in one.state.book.rescans if r.rule.name == "label")
        hub.submit([("crm", "p", [{"who": "u", "at": BASE, "tags": ["b"]}])], BASE)
        while one.work(1000):
            pass
        begin = one.position - 1
        for i in range(1, 41):
            tags = ["a"] if i % 2 else ["b"]
            hub.submit([("crm", "p", [{"who": "u", "at": BASE + i, "tags": tags}])], BASE + i)
        while one.work(1000):
            pass
        # As if so many profiles had been evaluated.
        rule.values.update(dict.fromkeys(range(1, profiles), 1))
        spent = []
        for _ in range(5):
            started = time.process_time()
            found, _ = one.changes(begin, 1 << 20)
            spent.append(time.process_time() - started)
        assert [c.name for c in found].count("label") == 40
        costs.append(min(spent))
    assert costs[1] < 3 * costs[0], costs
