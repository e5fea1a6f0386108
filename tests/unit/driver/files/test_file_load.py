"""Files and mended rows through the real sender, coordinator and partitions, without Ray."""

from __future__ import annotations

import gzip
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from msgspec import structs

from profile_actors.actors.actor_status import CoordinatorPlace
from profile_actors.actors.coordinator import CoordinatorActor
from profile_actors.config import Config
from profile_actors.definitions.declared import Dataset, Namespace, Schema
from profile_actors.driver.connection import Connection
from profile_actors.driver.files.file_load import FileLoad
from profile_actors.driver.files.mended_rows import resubmitted
from profile_actors.driver.receipts import IngestReport
from profile_actors.driver.sender import Sender
from profile_actors.errors import CallerError
from profile_actors.ingest.identity_keys import key_of
from profile_actors.storage.store_settings import StoreSettings
from tests.model.hub import BASE, SEED, WHO
from tests.model.test_repairs_model import Local, Way

HEAD = "who,at,n\n"


class World:
    """A store of two partitions, and one driver of it."""

    def __init__(self, folder: Path) -> None:
        config = Config(max_profiles=64, max_ahead_ms=1 << 50, ingest_block_bytes=2_000)
        new = StoreSettings(partitions=2, clock="event", hash_seed=SEED, created=0)
        self.coordinator = CoordinatorActor(CoordinatorPlace(str(folder), new, config))
        self.coordinator.apply([
            Namespace("CRMID", "cross_device"), Schema("hit", "event", {"n": "integer"}),
            Dataset("calls", "hit", {"who": "CRMID"}, timestamp="at", event_type="call"),
        ])  # fmt: skip
        self.locals = [Local(index, config) for index in range(2)]
        ways = [Way(one, f"partition {one.index}", lambda *_: "") for one in self.locals]
        settings, assignment = self.coordinator.hello()
        self.link = Connection(
            str(folder), "event", config, settings.hash_seed, assignment,
            Way(self.coordinator, "coordinator", lambda *_: ""), ways,
        )  # fmt: skip
        for index in range(2):
            self.link.deliver(index)
        self.sender = Sender(self.link)

    def load(self, path: Path, *, closed: bool) -> IngestReport:
        one = FileLoad(self.link, self.sender, "calls", path, None, closed)
        report = one.run(lambda size, rows: None)
        assert one.fault is None
        return report

    def stored(self) -> list[int]:
        found = [
            event["n"]
            for local in self.locals
            for who in ("a", "b", "c")
            for event in local.partition.events(key_of(WHO, who, SEED), limit=10_000).events
        ]
        return sorted(found)

    def close(self) -> None:
        self.sender.close()
        self.sender.end()
        for local in self.locals:
            local.partition.close()
        self.coordinator.stop()


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    opened = World(tmp_path / "store")
    yield opened
    opened.close()


def csv(numbers: range, wrong: tuple[int, ...] = ()) -> str:
    return "".join(f"{'abc'[n % 3]},{BASE},{'x' if n in wrong else n}\n" for n in numbers)


def ndjson(numbers: range) -> str:
    return "".join(f'{{"who": "{"abc"[n % 3]}", "at": {BASE}, "n": {n}}}\n' for n in numbers)


@pytest.mark.parametrize("pack", [bytes, gzip.compress], ids=["plain", "packed"])
@pytest.mark.parametrize("form", ["csv", "ndjson"])
def test_the_last_row_of_a_file_that_grew_comes_when_it_is_closed(
    world: World, tmp_path: Path, form: str, pack: Callable[[bytes], bytes]
) -> None:
    """What was left out while it might grow is no part of what is done."""
    text = HEAD + csv(range(7)) if form == "csv" else ndjson(range(7))
    path = tmp_path / f"g.{form}"
    for cut, count in ((4, 0), (len(text) - 1, 6)):
        path.write_bytes(pack(text[:cut].encode()))
        assert world.load(path, closed=False).accepted == count
        assert world.load(path, closed=False).accepted == 0
    assert world.stored() == list(range(6))
    done = world.load(path, closed=True)
    assert (done.accepted, done.duplicate, done.rejected_count) == (1, 6, 0)
    assert world.stored() == list(range(7))
    assert world.load(path, closed=True).rows == 7


def record(source: str, row: int, n: int) -> dict[str, Any]:
    return {"source": source, "row": row, "mended": {"who": "a", "at": BASE, "n": n}}


def test_a_mended_row_ahead_of_its_source_passes_over_nothing(world: World, tmp_path: Path) -> None:
    """A driver that died has written records of rows that it had not sent."""
    path, rows = tmp_path / "f.csv", csv(range(400), wrong=(10, 350))
    path.write_text(HEAD + rows)
    sent: list[int] = []

    def dies(size: int, rows: int) -> None:
        sent.append(rows)
        if sum(sent) > 100:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        FileLoad(world.link, world.sender, "calls", path, None, True).run(dies)
    world.sender.flush()
    (kept,) = world.coordinator.quarantine("calls", 100)
    # Of a submission the records are written before a row of it is sent.
    world.coordinator.reject("calls", [structs.replace(kept, row=350)])
    before = world.stored()
    assert 20 < len(before) < 300
    records = [record(kept.source, 10, 10), record(kept.source, 350, 350)]
    with pytest.raises(CallerError, match=r"row 350 of .* load the source to its end first"):
        resubmitted(world.link, world.sender, "calls", records)
    assert world.stored() == before
    assert resubmitted(world.link, world.sender, "calls", records[:1]).accepted == 1
    world.load(path, closed=True)
    assert resubmitted(world.link, world.sender, "calls", records).accepted == 1
    assert world.stored() == list(range(400))


def test_records_that_cannot_be_meant_are_refused_before_any_is_offered(
    world: World, tmp_path: Path
) -> None:
    path = tmp_path / "f.csv"
    path.write_text(HEAD + csv(range(9), wrong=(4,)))
    world.load(path, closed=True)
    (kept,) = world.coordinator.quarantine("calls", 100)
    good = record(kept.source, 4, 4)
    for wrong, words in (
        (record(kept.source, 4, 5), "row 4 of .* twice"),
        (record("f.csv#000000", 1, 1), "load the source"),
        (record("nobody", 0, 1), "load the source"),
    ):
        with pytest.raises(CallerError, match=words):
            resubmitted(world.link, world.sender, "calls", [good, wrong])
    assert world.stored() == [0, 1, 2, 3, 5, 6, 7, 8]
    assert resubmitted(world.link, world.sender, "calls", [good]).accepted == 1
