"""A partition whose log is compacted now and then says what one says whose log stays as it came.

Late rows, repeated rows, records and pages of events read rows by their places in the log, whatever
form that has; so do refolds and an opening without checkpoints.
"""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest
from msgspec import structs

from profile_actors.engine.log.in_memory import MemoryCheckpoints, MemoryFeed
from profile_actors.engine.partition.partition import Partition
from profile_actors.ingest.identity_keys import key_of
from profile_actors.storage.compaction.compacting import compact, due
from profile_actors.storage.scrub.mendable_log import MendableLog
from tests.memory import scratch
from tests.model.hub import BASE, CONFIG, DAY, HOUR, SEED, WHO, Hub

SMALL = structs.replace(CONFIG, log_segment_bytes=1 << 16, log_map_bytes=1 << 22)
CLOCK = BASE + 2 * DAY
PEOPLE = [f"p{number}" for number in range(5)]


def compacted(log: MendableLog) -> None:
    while entries := due(log, log.head(), 1 << 20):
        compact(log, entries, SMALL.log_map_bytes, lambda: True)


def rows(draw: random.Random, number: int) -> list[tuple[str, str, list[dict[str, Any]]]]:
    """One entry's: an event mostly, late at times, or one that was there; at times a record."""
    who = draw.choice(PEOPLE)
    at = BASE + number * 60_000 - draw.choice([0, 0, 0, HOUR, 30 * HOUR])
    if draw.random() < 0.2:
        return [("crm", "crm", [{"who": who, "at": at, "tier": draw.choice(["gold", None])}])]
    if draw.random() < 0.2:
        return [("calls", "calls", [{"who": who, "at": at, "n": draw.randrange(3)}] * 2)]
    again = draw.randrange(12)
    hit = {"who": who, "at": BASE + again * HOUR, "kind": "buy", "_id": f"again {again}"}
    if draw.random() < 0.6:
        hit = {"who": who, "at": at, "kind": "buy", "x": 0.1 * number, "_id": f"e{number}"}
    return [("hits", "hits", [hit])]


def pages(partition: Partition, who: str) -> list[Any]:
    """All of a person's events, in pages, both ways."""
    out: list[Any] = []
    for order in ("asc", "desc"):
        cursor: str | None = ""
        while cursor is not None:
            key = key_of(WHO, who, SEED)
            page = partition.events(key, order=order, limit=7, cursor=cursor or None)
            out += [*page.events, order]
            cursor = page.next
    return out


@pytest.mark.parametrize("seed", range(2))
def test_it_says_the_same_in_every_form(seed: int) -> None:
    draw = random.Random(seed)
    plain, other = Hub(), Hub()
    with scratch() as directory:
        log = MendableLog(Path(directory), SMALL, epoch=0)
        other.stores[0] = (log, MemoryFeed(), MemoryCheckpoints())  # type: ignore[assignment]
        other.partitions[0] = other.opened(0)
        other.partitions[0].define(other.catalogue, None)
        for number in range(110):
            entry = rows(draw, number)
            clock = BASE + number * 60_000
            for hub in (plain, other):
                hub.submit(entry, clock)
            if number % 40 == 33:
                compacted(log)
        compacted(log)
        assert sum(one.format == 2 for one in log.listed) > 0

        def is_alike() -> None:
            mine, theirs = plain.partitions[0], other.partitions[0]
            assert mine.position == theirs.position
            for position in range(mine.position):
                with mine.log.view(position) as one, theirs.log.view(position) as same:
                    assert bytes(one) == bytes(same)
            assert plain.pure(PEOPLE, CLOCK) == other.pure(PEOPLE, CLOCK)
            for who in PEOPLE:
                assert pages(mine, who) == pages(theirs, who)
            assert theirs.verify() == []

        is_alike()
        counts = (plain.partitions[0].status(), other.partitions[0].status())
        assert counts[0].duplicate == counts[1].duplicate > 0
        assert counts[0].late == counts[1].late > 0
        other.partitions[0].close()
        log = MendableLog(Path(directory), SMALL, epoch=1)
        other.stores[0] = (log, other.stores[0][1], MemoryCheckpoints())  # type: ignore[assignment]
        other.partitions[0] = other.opened(0)
        is_alike()
        other.partitions[0].close()
