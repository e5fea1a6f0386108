"""Records in a partition: look-ups read what still says something, also after a restart."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Any

from profile_actors.definitions.declared import Catalogue, Dataset, Schema, SegmentDefinition
from profile_actors.engine.log.in_memory import MemoryCheckpoints, MemoryFeed, MemoryLog
from profile_actors.engine.log.sub_batch import SubBatch
from profile_actors.ingest.identity_keys import key_of
from profile_actors.ingest.record_deletions import Deletion, DeletionDoor
from tests.model.hub import BASE, CATALOGUE, CONFIG, DAY, SEED, WHO, Hub


class CountingLog(MemoryLog):
    """Counts what is viewed."""

    views = 0

    def view(self, position: int) -> AbstractContextManager[memoryview]:
        self.views += 1
        return super().view(position)


def attributes(hub: Hub, who: str) -> dict[str, Any]:
    (profile,) = hub.partitions[0].profiles([key_of(WHO, who, SEED)])
    assert profile is not None
    return profile.attributes


def upserted(hub: Hub, count: int) -> None:
    for n in range(count):
        row = {"who": "b", "at": BASE + n} | ({"tier": "gold"} if n % 2 else {"score": n})
        hub.submit([("crm", "c", [row])], BASE + DAY)


def test_a_look_up_reads_no_old_record_rows() -> None:
    hub = Hub()
    log = CountingLog()
    hub.stores[0] = (log, MemoryFeed(), MemoryCheckpoints())
    hub.reopen().define(hub.catalogue, None)
    upserted(hub, 40)
    log.views = 0
    assert attributes(hub, "b") == {"score": 38, "tier": "gold"}
    assert log.views == 2
    assert attributes(hub, "b") == {"score": 38, "tier": "gold"}
    assert log.views == 2


def test_an_older_row_that_comes_later_changes_nothing_newer() -> None:
    hub = Hub()
    hub.submit([("crm", "c", [{"who": "a", "at": BASE + 9, "tier": "gold"}])], BASE + DAY)
    late = {"who": "a", "at": BASE + 5, "tier": "silver", "score": 1}
    hub.submit([("crm", "c", [late])], BASE + DAY)
    assert attributes(hub, "a") == {"tier": "gold", "score": 1}
    hub.submit([("web", "w", [{"who": "a", "at": BASE + 12, "score": 7}])], BASE + DAY)
    hub.submit([("web", "w", [{"who": "a", "at": BASE + 11, "tier": "none"}])], BASE + DAY)
    assert attributes(hub, "a") == {"tier": "gold", "score": 7}


def test_a_checkpoint_knows_the_living_rows_and_one_without_finds_them() -> None:
    hub = Hub()
    upserted(hub, 10)
    job = hub.partitions[0].checkpoint_job(force=True)
    assert job is not None
    job()
    upserted(hub, 3)
    told, rows = attributes(hub, "b"), len(hub.partitions[0].state.live_rows)
    hub.reopen()
    assert attributes(hub, "b") == told
    assert len(hub.partitions[0].state.live_rows) == rows
    position, meta, arrays = hub.stores[0][2].saved[-1]
    before = {name: array for name, array in arrays.items() if not name.startswith("records/")}
    assert len(before) < len(arrays)
    hub.stores[0][2].saved[-1] = position, meta, before
    hub.reopen()
    assert attributes(hub, "b") == told
    assert len(hub.partitions[0].state.live_rows) == rows


def deleted(hub: Hub, dataset: str, who: str, at: int) -> None:
    """A deletion through its door, as one entry."""
    door = DeletionDoor(hub.catalogue, dataset, SEED, CONFIG)
    table = door.prepare([Deletion("CRMID", who, at)], 0, BASE + DAY).table
    sub = SubBatch(dataset, "deletions", None, hub.partitions[0].position, 1, None, table)
    assert hub.partitions[0].commit([sub], None)[0].status == "ok"


def test_a_deleted_record_is_gone_from_look_ups_and_rules_until_something_newer_comes() -> None:
    hub = Hub()
    row = {"who": "a", "tier": "gold", "score": 5}
    hub.submit([("crm", "c", [row | {"at": BASE}])], BASE + DAY)
    hub.submit([("web", "w", [{"who": "a", "at": BASE, "score": 1}])], BASE + DAY)
    assert hub.partitions[0].count("gold") == 1
    deleted(hub, "crm", "a", BASE + 5)
    assert attributes(hub, "a") == {"score": 1}
    assert hub.partitions[0].count("gold") == 0
    hub.submit([("crm", "c", [row | {"at": BASE + 5}])], BASE + DAY)
    assert attributes(hub, "a") == {"score": 1}
    hub.submit([("crm", "c", [row | {"at": BASE + 6}])], BASE + DAY)
    assert attributes(hub, "a") == {"tier": "gold", "score": 5}
    assert hub.partitions[0].count("gold") == 1
    assert hub.partitions[0].verify() == []
    told = hub.pure(["a"])
    hub.reopen()
    assert hub.pure(["a"]) == told


def test_a_row_may_add_to_an_array_instead_of_stating_it() -> None:
    schema = Schema("fan", "record", {"tags": "string[]", "name": "string"})
    catalogue = Catalogue(
        1, CATALOGUE.namespaces, {"fan": schema},
        {"fans": Dataset("fans", "fan", {"who": "CRMID"}, timestamp="at")},
        {"tea": SegmentDefinition("tea", 'tags.includes("tea")')},
    )  # fmt: skip
    hub = Hub(catalogue=catalogue)

    def say(at: int, tags: Any) -> None:
        hub.submit([("fans", "f", [{"who": "a", "at": BASE + at, "tags": tags}])], BASE + DAY)

    say(5, {"append": ["tea"]})
    assert hub.partitions[0].work(10) or hub.partitions[0].count("tea") == 1
    say(9, {"append": ["rum", "rum"]})
    say(2, ["milk"])
    assert attributes(hub, "a") == {"tags": ["milk", "tea", "rum", "rum"]}
    say(7, ["ale"])
    assert attributes(hub, "a") == {"tags": ["ale", "rum", "rum"]}
    while hub.partitions[0].work(10):
        pass
    assert hub.partitions[0].count("tea") == 0
    assert hub.partitions[0].verify() == []
