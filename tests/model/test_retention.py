"""Rows that leave by retention: a partition says what one says that never had them.

Drawn rows, late ones among them, some older than the cutoff already; cutoffs that move in between;
rules of every way of being kept up to date. What is compared is pure state, against a partition
that got the remaining rows alone, and against the reference evaluator (``verify``).
"""

from __future__ import annotations

import random
from typing import Any

import pytest
from msgspec import structs

from profile_actors.definitions.declared import Catalogue, ComputedAttribute, SegmentDefinition
from profile_actors.definitions.retention import expired
from profile_actors.engine.erasure.eraser import Eraser
from profile_actors.engine.fold.touches import position_of
from profile_actors.engine.log.entry import encode, read_envelope
from profile_actors.engine.log.in_memory import MemoryCheckpoints, MemoryFeed, MemoryLog
from profile_actors.engine.partition.partition import Partition
from profile_actors.engine.refold.backfill import text_of
from profile_actors.ingest.identity_keys import key_of
from tests.model.hub import BASE, CATALOGUE, DAY, HOUR, SEED, WHO, Hub

PEOPLE = [f"p{number}" for number in range(6)]
RULES = {
    "history": 'xEvent[eventType = "buy"].head().place = "b"',
    "series": 'CHAIN(xEvent, timestamp, [A: WHAT(eventType = "buy"), B: WHAT(place = A.place)])',
    "nobody": "xEvent.count() = 0",
}
RESCANNED = {
    "keyed": "xEvent.groupBy(n).map((K, G) => mapEntry(K, if(G.count() > 1, now, today)))",
    "each": "xEvent.map(E => if(E.n > 0, now, E.timestamp))",
}


def with_retention(days: int | None, rules: dict[str, str]) -> Catalogue:
    datasets = dict(CATALOGUE.datasets)
    datasets["hits"] = structs.replace(datasets["hits"], retention_days=days)
    segments = {name: SegmentDefinition(name, rule) for name, rule in rules.items()}
    computed = {name: ComputedAttribute(name, rule) for name, rule in RESCANNED.items() if rules}
    return structs.replace(
        CATALOGUE,
        datasets=datasets,
        segments=CATALOGUE.segments | segments,
        computed=CATALOGUE.computed | computed,
    )


def drawn(draw: random.Random, number: int, now: int) -> tuple[str, dict[str, Any]]:
    at = now - draw.choice([0, 0, HOUR, 30 * HOUR, 5 * DAY])
    row = {"who": draw.choice(PEOPLE), "at": at, "n": draw.randrange(5), "x": 0.1 * number}
    row["place"] = draw.choice("abc")
    if draw.random() < 0.3:
        return "calls", row
    return "hits", {**row, "kind": draw.choice(["buy", "look"]), "_id": f"e{number}"}


def pages(partition: Partition, who: str) -> list[Any]:
    """Somebody's events, page by page, from the newest one on."""
    out: list[Any] = []
    cursor: str | None = ""
    while cursor is not None:
        key = key_of(WHO, who, SEED)
        page = partition.events(key, order="desc", limit=3, cursor=cursor or None)
        out += page.events
        cursor = page.next
    return out


def told(partition: Partition) -> dict[str, set[str]]:
    """Who is in each segment, by the feed."""
    inside: dict[str, set[str]] = {}
    for change in partition.changes(limit_bytes=1 << 24)[0]:
        if change.kind == "membership":
            known = inside.setdefault(change.name, set())
            (known.add if change.new == "realized" else known.discard)(change.identity.value)
    return inside


def settled(hub: Hub) -> Partition:
    """The hub's partition when no rescans are owed any more."""
    (partition,) = hub.partitions
    while partition.work(1 << 10):
        pass
    return partition


def check(hub: Hub, remaining: Hub, sent: list[tuple[str, dict[str, Any]]], now: int) -> None:
    partition = settled(hub)
    assert partition.verify() == []
    with_rows = sorted({row["who"] for _, row in sent})
    assert hub.pure(with_rows) == remaining.pure(with_rows)
    for who in with_rows:
        assert pages(partition, who) == pages(remaining.partitions[0], who)
    for who in set(PEOPLE) - set(with_rows):
        found = hub.pure([who])[who]
        assert found is None or (found[2], found[3]) == ({}, "[]")
    for name, inside in told(partition).items():
        assert {one.value for one in partition.members(name)[0]} == inside, name


@pytest.mark.parametrize(
    "seed", [0, *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(1, 6))]
)
def test_what_remains_is_all_that_there_ever_was(seed: int) -> None:
    draw = random.Random(seed)
    catalogue = with_retention(3, RULES)
    hub = Hub(catalogue=catalogue)
    rows: list[tuple[str, dict[str, Any]]] = []
    now = BASE
    for number in range(60):
        now += draw.choice([0, HOUR, 7 * HOUR])
        dataset, row = drawn(draw, number, now)
        rows.append((dataset, row))
        hub.submit([(dataset, dataset, [row])], now)
        if draw.random() < 0.1:
            catalogue = expired(catalogue, now)
            hub.partitions[0].define(catalogue, None)
        if draw.random() < 0.1:
            job = hub.partitions[0].checkpoint_job(force=True)
            assert job is not None
            job()
        if draw.random() < 0.1:
            hub.reopen()
        if number % 30 == 29:
            cutoff = catalogue.expired.get("hits", 0)
            sent = [one for one in rows if one[0] != "hits" or one[1]["at"] >= cutoff]
            assert number < 59 or len(sent) < len(rows)
            remaining = Hub(catalogue=structs.replace(catalogue, expired={}))
            for name, one in sent:
                remaining.submit([(name, name, [one])], now)
            check(hub, remaining, sent, now)
    before = hub.pure(PEOPLE)
    hub.stores[0] = (hub.stores[0][0], hub.stores[0][1], MemoryCheckpoints())
    assert hub.partitions[0].status().expired > 0
    count = hub.partitions[0].status().expired
    assert hub.reopen().status().expired == count
    assert hub.pure(PEOPLE) == before
    feed = settled(hub).changes(limit_bytes=1 << 24)[0]
    hub.stores[0] = (hub.stores[0][0], MemoryFeed(), MemoryCheckpoints())
    hub.reopen()
    assert settled(hub).changes(limit_bytes=1 << 24)[0] == feed
    assert hub.pure(PEOPLE) == before


def bought(hub: Hub, who: str, *times: int, now: int) -> None:
    rows = [{"who": who, "at": at, "kind": "buy", "_id": f"{who} {at}", "x": 1.0} for at in times]
    hub.submit([("hits", "hits", rows)], now)


def one_bought() -> Hub:
    """Ann bought five days ago and today, ben today; events are kept for three days."""
    hub = Hub(catalogue=with_retention(3, {}))
    bought(hub, "ann", BASE - 5 * DAY, BASE, now=BASE)
    bought(hub, "ben", BASE, now=BASE)
    return hub


def expire(hub: Hub, now: int) -> None:
    catalogue = expired(hub.partitions[0].catalogue, now)
    prepared = hub.partitions[0].backfill(catalogue, lambda: True)
    hub.partitions[0].define(catalogue, None, prepared)


def test_time_is_the_cause_of_what_changes() -> None:
    hub = one_bought()
    position = hub.partitions[0].position
    expire(hub, BASE)
    changes = [c for c in hub.partitions[0].changes()[0] if c.position == position]
    assert {(c.identity.value, c.name) for c in changes} == {
        ("ann", "buyers"), ("ann", "count"), ("ann", "sum"), ("ann", "week"),
    }  # fmt: skip
    assert {c.cause for c in changes} == {"clock"}


def test_operators_that_hold_nothing_of_what_leaves_are_kept() -> None:
    hub = one_bought()
    before = {stream.filter: stream for stream in hub.partitions[0].state.book.streams}
    expire(hub, BASE)
    after = hub.partitions[0].state.book.streams
    windows = [s for s in after if s.filter.window and before[s.filter] is s]
    assert windows, "windows of a day and two have lost the row long ago"
    assert [s for s in after if not s.filter.window and before[s.filter] is not s]


def test_edges_are_told_of_nobody_else() -> None:
    hub = one_bought()
    state = hub.partitions[0].state
    position = hub.partitions[0].position
    expire(hub, BASE)
    touched = [
        state.directory.identity(int(state.directory.ident_of[slot])).value
        for slot in range(state.profiles)
        if position_of(int(state.touches.column[slot])) > position
    ]
    assert touched == ["ann"]


def test_late_rows_of_who_knew_no_cutoff_are_stored_and_count_for_nothing() -> None:
    hub = one_bought()
    expire(hub, BASE)
    before = hub.pure(["ann", "ben"])
    bought(hub, "ben", BASE - 9 * DAY, now=BASE)
    assert hub.pure(["ann", "ben"]) == before
    assert hub.partitions[0].verify() == []


def test_rows_that_come_between_backfill_and_entry_leave_too() -> None:
    hub = one_bought()
    catalogue = expired(hub.partitions[0].catalogue, BASE)
    prepared = hub.partitions[0].backfill(catalogue, lambda: True)
    bought(hub, "ben", BASE - 6 * DAY, now=BASE)
    hub.partitions[0].define(catalogue, None, prepared)
    assert hub.pure(["ben"])["ben"][1]["count"][0] == "1"
    assert hub.partitions[0].verify() == []


def test_an_older_release_refuses_the_log() -> None:
    hub = one_bought()
    expire(hub, BASE)
    log = hub.stores[0][0]
    with log.view(log.head() - 1) as view:
        assert read_envelope(view, "")[0].kind == "expiry"


@pytest.mark.parametrize("is_applied", [True, False])
def test_a_crash_after_the_entry_is_no_other_history(is_applied: bool) -> None:
    """An entry is durable before anything is done about it: the next opening does it."""
    hub = one_bought()
    job = hub.partitions[0].checkpoint_job(force=True)
    assert job is not None
    job()
    catalogue = expired(hub.partitions[0].catalogue, BASE)
    if is_applied:
        hub.partitions[0].define(catalogue, None)
    else:
        parts = encode("expiry", 0, BASE, catalogue.version, definition=text_of(catalogue))
        hub.stores[0][0].append_at(hub.partitions[0].position, parts, 0)
    hub.reopen()
    assert hub.pure(["ann"])["ann"][1]["count"][0] == "1"
    assert hub.partitions[0].status().expired == 1
    assert hub.partitions[0].verify() == []


@pytest.mark.parametrize("seed", range(2))
def test_a_log_without_them_says_the_same(seed: int) -> None:
    """Purged: every byte of them is gone, positions and answers stay."""
    draw, hub, now = random.Random(seed), Hub(catalogue=with_retention(3, {})), BASE
    for number in range(40):
        now += draw.choice([0, 7 * HOUR])
        dataset, row = drawn(draw, number, now)
        hub.submit([(dataset, dataset, [row])], now)
    expire(hub, now)
    before, cutoffs = hub.pure(PEOPLE), hub.partitions[0].catalogue.expired
    fresh, eraser = MemoryLog(), Eraser([], cutoffs)
    log = hub.stores[0][0]
    for position in range(log.head()):
        with log.view(position) as view:
            value = bytes(view)
        parts = eraser.erased(value, f"position {position}")
        fresh.append_at(position, [value] if parts is None else parts, 0)
    assert eraser.rows == hub.partitions[0].status().expired > 0
    hub.stores[0] = (fresh, MemoryFeed(), MemoryCheckpoints())
    assert hub.reopen().verify() == []
    assert hub.pure(PEOPLE) == before
