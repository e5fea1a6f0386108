"""Records in a partition: look-ups read what still says something, also after a restart."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Any

from profile_actors.engine.log.in_memory import MemoryCheckpoints, MemoryFeed, MemoryLog
from profile_actors.ingest.identity_keys import key_of
from tests.model.hub import BASE, DAY, SEED, WHO, Hub


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
