"""Repeated rows where a profile has very many in a second: known, and read once (L11)."""

from __future__ import annotations

import random
from typing import Any

import pytest
from msgspec import structs

from profile_actors.engine.exchange import admission
from profile_actors.engine.log import crowds
from profile_actors.engine.log.in_memory import MemoryCheckpoints, MemoryFeed
from profile_actors.engine.partition.partition import Partition
from tests.model.hub import BASE, CATALOGUE, CONFIG, Hub, Rows

ENTRIES, PER_ENTRY = 60, 10


@pytest.fixture(autouse=True)
def small_crowds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(admission, "CROWD_ROWS", 12)


def rows_of(rng: random.Random) -> Rows:
    """Rows of two people within three seconds, of few ids: many came before, some twice at once."""
    return [
        {
            "who": rng.choice(("hot", "hot", "hot", "other")),
            "at": BASE + rng.choice((0, 0, 0, 1, 1000, 2000)),
            "_id": f"e{rng.randrange(200)}",
            "kind": "v",
        }
        for _ in range(PER_ENTRY)
    ]


def views(partition: Partition) -> list[int]:
    """Positions that are read from the log from here on."""
    read: list[int] = []
    plain = partition.log.view

    def counted(position: int) -> Any:
        read.append(position)
        return plain(position)

    partition.log.view = counted  # type: ignore[method-assign]
    return read


def test_a_crowd_is_read_once_and_every_repeated_row_is_known() -> None:
    hub, rng = Hub(), random.Random(3)
    partition = hub.partitions[0]
    read = views(partition)
    known: set[tuple[str, int, str]] = set()
    for number in range(ENTRIES):
        rows = rows_of(rng)
        before = len(known)
        known |= {(row["who"], row["at"], row["_id"]) for row in rows}
        accepted = hub.submit([("hits", "p", rows)], BASE + 3000)
        assert accepted == len(known) - before, number
    assert partition.status().events == len(known)
    # Six keys, each reads an entry once; but for the first few rows, which are read again.
    assert len(read) <= 6 * ENTRIES + 6 * 12 * 2, len(read)
    # After a restart, and where other crowds take the room.
    for config in (CONFIG, structs.replace(CONFIG, max_crowded_rows=20)):
        again = Partition(partition.log, MemoryFeed(), MemoryCheckpoints(), config)
        first = hub.sent["p", 0]
        everything = [
            {"who": who, "at": at, "_id": name, "kind": "v"} for who, at, name in sorted(known)
        ]
        new = {"who": "hot", "at": BASE, "_id": "never seen", "kind": "v"}
        for part in (everything[0::2], everything[1::2], everything):
            batch = hub.sub_batch("hits", "p", first, part, clock=BASE + 3000)
            (reply,) = again.commit([batch], None)
            assert (reply.accepted, reply.duplicate) == (0, len(part))
            first += len(part)
        hub.sent["p", 0] = first
        if config is not CONFIG:
            (reply,) = again.commit([hub.sub_batch("hits", "p", first, [new])], None)
            assert (reply.accepted, reply.duplicate) == (1, 0)


def test_entries_into_a_crowd_do_not_read_what_was_read_before() -> None:
    hub = Hub()
    partition = hub.partitions[0]
    read = views(partition)
    spent = []
    for number in range(ENTRIES):
        rows = [
            {"who": "hot", "at": BASE, "_id": f"{number}-{i}", "kind": "v"}
            for i in range(PER_ENTRY)
        ]
        before = len(read)
        assert hub.submit([("hits", "p", rows)], BASE) == PER_ENTRY
        spent.append(len(read) - before)
    assert max(spent[3:]) == 1, spent


def test_of_a_full_second_only_ids_of_the_same_instant_are_read(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(admission, "CROWD_ROWS", 2_000)
    taken: list[int] = []
    plain = crowds._ids

    def counted(table: Any, rows: Any) -> Any:
        taken.append(len(rows))
        return plain(table, rows)

    monkeypatch.setattr(crowds, "_ids", counted)
    buys = structs.replace(CATALOGUE.datasets["hits"], name="buys")
    hub = Hub(catalogue=structs.replace(CATALOGUE, datasets=CATALOGUE.datasets | {"buys": buys}))

    def accepted(dataset: str, rows: list[tuple[int, str]]) -> int:
        sent = [{"who": "hot", "at": BASE + ms, "_id": name, "kind": "v"} for ms, name in rows]
        taken.clear()
        return hub.submit([(dataset, "p", sent)], BASE + 3000)

    full = [(i, f"e{i}") for i in range(1000)]
    assert accepted("hits", full) == 1000
    assert accepted("hits", [(500, "new"), (501, "e501"), (501, "e500"), (501, "e501")]) == 2
    assert sum(taken) == 2  # one row of the log at each of the two instants
    assert accepted("hits", [(500, "new"), (500, "e500"), (500, "newer")]) == 1
    assert sum(taken) == 2
    # The same in another dataset is another row.
    assert accepted("buys", [(500, "new"), (500, "e500")]) == 2
    assert sum(taken) == 0
    assert accepted("buys", [(500, "new"), (500, "e500"), (499, "e499")]) == 1
    assert sum(taken) == 2
