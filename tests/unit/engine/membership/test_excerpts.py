"""Look-ups of profiles with much in their windows: folded from an excerpt, beside the writer."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
import numpy as np
import pytest

from profile_actors.columnar import vectors
from profile_actors.definitions.declared import ComputedAttribute, Schema, SegmentDefinition
from profile_actors.engine.log.in_memory import MemoryCheckpoints, MemoryFeed
from profile_actors.engine.operators.event_streams import Stream
from profile_actors.engine.partition.partition import Partition
from profile_actors.engine.reading import look_ups
from profile_actors.engine.reading.look_ups import Found
from profile_actors.engine.reading.profile_columns import made
from profile_actors.ingest.identity_keys import key_of
from tests.model.hub import BASE, CATALOGUE, CONFIG, HOUR, SEED, WHO, Hub, Rows

HOURS = "xEvent[timestamp occurs <= 3 hours before now]"
SEGMENTS = {
    "many": f"{HOURS}.count() > 160",
    "few": f"{HOURS}.count() <= 5",
    "high": f"{HOURS}.max(n) > 700",
    "varied": f"{HOURS}.place.distinct().count() > 3",
    "silent": "xEvent.max(timestamp) occurs > 4 hours before now",
    "gold": 'tier = "gold" and xEvent.sum(x) > 0.3',
    "best": f'{HOURS[:-1]} and place = "p1"].topN(n, 2).n.sum() > 3',
}
COMPUTED = {
    "places": f"{HOURS}.place.distinct().count()",
    "numbers": f"{HOURS}.n.distinct().count()",
    "least": f"{HOURS}.min(n)",
    "last": f"{HOURS}.max(timestamp)",
    "sum": f"{HOURS}.sum(x)",
    "paid": f"{HOURS}.sum(cost * rate)",
    "tier": "tier",
    "ever": "xEvent.place.distinct().count()",
}  # fmt: skip
FIELDS = {
    "place": "string", "n": "integer", "x": "double", "cost": "decimal(9)", "rate": "decimal(9)",
}  # fmt: skip
RULED = msgspec.structs.replace(
    CATALOGUE,
    schemas=CATALOGUE.schemas | {"hit": Schema("hit", "event", dict(FIELDS))},
    segments={name: SegmentDefinition(name, rule) for name, rule in SEGMENTS.items()},
    computed={name: ComputedAttribute(name, rule) for name, rule in COMPUTED.items()},
)
PEOPLE = ("bot", "ann", "bob")
KEYS = [key_of(WHO, who, SEED) for who in PEOPLE]


def rows_of(first: int, count: int, at: int) -> Rows:
    """Nearly all are the bot's, with texts and numbers that never came before."""
    return [
        {
            "who": PEOPLE[max(0, i % 100 - 97)], "at": at + i * 97 % HOUR, "_id": f"{first + i}",
            "kind": "v", "place": f"p{(first + i) % 3 if i % 2 else first + i}", "n": first + i,
            "x": 1e300 if i == 7 else 0.1, "cost": f"{i}.5", "rate": f"{10**8 + i}.25",
        }
        for i in range(count)
    ]  # fmt: skip


def said(partition: Partition, parts: list[Callable[[], Found]]) -> list[str]:
    """What a look-up says, as texts, in which a NaN is equal to itself."""
    found = [part() for part in parts]
    columns = [partition.reader.look_ups.columns(part, part.slots) for part in found]
    return [repr(profile) for part in columns for profile in made(part)]


class Beside:
    """A partition whose readers begin look-ups, and finish them when the writer has gone on."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(vectors, "FEW_NAMES", 64)
        self.hub = Hub(catalogue=RULED)
        self.monkeypatch = monkeypatch
        self.sent = 0

    def write(self, at: int, count: int = 120) -> None:
        rows = rows_of(self.sent, count, at)
        crm = [{"who": who, "at": at, "tier": "gold" if self.sent % 2 else f"t{self.sent}"}
               for who in PEOPLE]  # fmt: skip
        self.hub.submit([("hits", "p", rows), ("crm", "q", crm)], at + HOUR)
        self.sent += count

    def begun(self, at: int, rows_under_lock: int) -> list[Callable[[], Found]]:
        self.monkeypatch.setattr(look_ups, "ROWS_UNDER_LOCK", rows_under_lock)
        partition = self.hub.partitions[0]
        with partition.lock:
            return partition.reader.look_ups.begun(np.arange(len(PEOPLE)), at)


def test_a_look_up_that_began_says_what_was_so_when_it_began(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Whatever is written meanwhile: rows, checkpoints, packed arenas, forgotten texts, grown
    tables, a clock that lets everything go."""
    beside = Beside(monkeypatch)
    (partition,) = beside.hub.partitions
    assert not partition.state.book.rescans, "what is rescanned is looked up at once"
    held: list[tuple[list[str], list[Callable[[], Found]]]] = []
    for step in range(12):
        at = BASE + step * HOUR // 2
        beside.write(at)
        assert partition.state.now is not None
        instant = partition.state.now + step % 3 * HOUR
        expected = said(partition, beside.begun(instant, 1 << 40))
        later = beside.begun(instant, 0)
        held.append((expected, later))
        if step % 4 == 3:
            job = partition.checkpoint_job(force=True)
            assert job is not None
            job()
        if len(held) > 5:
            wanted, begun = held.pop(0)
            assert said(partition, begun) == wanted
    partition.advance(BASE + 100 * HOUR)
    for wanted, begun in held:
        assert said(partition, begun) == wanted


def test_what_takes_long_is_done_without_the_lock(monkeypatch: pytest.MonkeyPatch) -> None:
    """A look-up of many rows folds none of them under the lock."""
    beside = Beside(monkeypatch)
    (partition,) = beside.hub.partitions
    beside.write(BASE, 3_000)
    under_lock: list[int] = []
    ahead = Stream.look_ahead

    def look_ahead(stream: Stream, *args: Any) -> Any:
        delta = ahead(stream, *args)
        if delta is not None and partition.lock._is_owned():  # type: ignore[attr-defined]
            under_lock.append(sum(len(t.clock_slots) for t in delta.tracks if t is not None))
        return delta

    monkeypatch.setattr(Stream, "look_ahead", look_ahead)
    monkeypatch.setattr(look_ups, "ROWS_UNDER_LOCK", 500)
    (bot,) = partition.profiles(KEYS[:1])
    assert bot is not None
    assert bot.computed["numbers"] == 2_940
    assert not under_lock
    (ann,) = partition.profiles(KEYS[1:2])
    assert ann is not None
    assert ann.computed["numbers"] == 30
    assert under_lock, "what is little is done at once"


def test_an_excerpt_of_a_reopened_store_is_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    beside = Beside(monkeypatch)
    beside.write(BASE)
    (partition,) = beside.hub.partitions
    expected = said(partition, beside.begun(BASE + HOUR, 1 << 40))
    log = beside.hub.stores[0][0]
    again = Partition(log, MemoryFeed(), MemoryCheckpoints(), CONFIG)
    beside.hub.partitions[0] = again
    assert said(again, beside.begun(BASE + HOUR, 0)) == expected
