"""Which disk takes the place of one that is away, and what of it is deleted when it is back."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from msgspec import structs

from profile_actors.actors.replicas.copies_registry import CopiesRegistry
from profile_actors.config import Config
from profile_actors.engine.shipping.replication import Copies, Request
from profile_actors.errors import ConfigError, StoreUnavailable
from profile_actors.storage.catalogue_store import CatalogueStore
from profile_actors.storage.files.copies_table import WANTED
from profile_actors.storage.files.layout import LEDGER, StoreLayout
from profile_actors.storage.lmdb_log import LmdbLog
from profile_actors.storage.store_settings import StoreSettings


class Place:
    """A store of three partitions and disks b, c and d beside its own."""

    def __init__(self, place: Path) -> None:
        self.own = place / "own"
        self.known = CatalogueStore(self.own)
        new = StoreSettings(partitions=3, clock="event", hash_seed=7, created=1)
        settings = self.known.set_settings(new)
        self.registry = CopiesRegistry(self.own, settings.id, 3, self.known, lambda _: False)
        self.at = {name: str(place / name) for name in "bcd"}
        self.disk = {name: self.registry.add_disk(path) for name, path in self.at.items()}
        for index in range(3):
            self.known.claim(index, f"log-{index}")
        self.registry.keep(1, False)
        for index in range(3):
            self.registry.opened(index, self.known.next_epoch(str(index)))

    def put(self, index: int, name: str) -> None:
        self.registry.put(index, self.disk[name])
        self.registry.standby(index, self.registry.all()[index].copy)

    def enter(self, index: int) -> None:
        now = self.registry.all()[index]
        self.registry.standby(index, now.copy)
        assert self.registry.note(index, Request(now.epoch, now.copy, now.asked + 1, "enter"))[0]


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    made = Place(tmp_path)
    yield made
    made.known.close()


def test_the_disk_with_the_fewest_copies_takes_the_place_of_one_that_is_away(place: Place) -> None:
    for index, name in enumerate("bbc"):
        place.put(index, name)
    shutil.rmtree(place.at["b"])
    chosen = place.registry.replace(0, place.disk["b"])
    assert chosen == (place.disk["d"], place.at["d"])
    assert place.registry.replace(0, place.disk["b"]) == chosen  # said twice
    record = place.registry.all()[0]
    assert (record.standby, record.in_sync) == (place.disk["d"], False)
    assert record.is_anew  # whatever that disk has of an earlier time is to go
    shutil.rmtree(place.at["c"])
    shutil.rmtree(place.at["d"])
    with pytest.raises(StoreUnavailable, match=r"nor another disk .* disks --add"):
        place.registry.replace(2, place.disk["c"])


def test_a_standby_that_is_called_in_sync_stays_where_it_is(place: Place) -> None:
    """Its partition lets it go first: it may be the only copy that is left."""
    place.put(0, "b")
    place.enter(0)
    shutil.rmtree(place.at["b"])
    with pytest.raises(ConfigError, match="is in sync"):
        place.registry.replace(0, place.disk["b"])


def test_another_disk_at_the_same_directory_is_not_the_one_that_was_there(place: Place) -> None:
    place.put(0, "b")
    shutil.rmtree(place.at["b"])
    fresh = place.registry.add_disk(place.at["b"])
    for name in "cd":
        shutil.rmtree(place.at[name])
    assert place.registry.replace(0, place.disk["b"]) == (fresh, place.at["b"])
    place.registry.keep(0, False)
    place.registry.remove_disk(place.at["b"])  # both that were ever there
    assert place.at["b"] not in place.registry.disks().values()


def test_old_copies_are_deleted_once_the_new_ones_have_everything(place: Place) -> None:
    place.put(0, "c")
    old = [
        StoreLayout(Path(place.at["b"])).standby(0).directory,
        StoreLayout(Path(place.at["b"])).partition(0).directory,
    ]
    others = [
        StoreLayout(Path(place.at["c"])).standby(0).directory,
        StoreLayout(place.own).partition(0).directory,
        StoreLayout(Path(place.at["b"])).standby(1).directory,
    ]
    place.put(1, "b")
    for directory in (*old, *others):
        directory.mkdir(parents=True, exist_ok=True)
        (directory / "file").write_text("somebody")
    place.registry.sweep()
    assert all(directory.exists() for directory in (*old, *others))
    place.enter(0)
    place.enter(1)
    place.registry.sweep()
    assert not any(directory.exists() for directory in old)
    assert all(directory.exists() for directory in others)


def test_a_catalogue_from_before_deletes_no_copy_that_came_after_it(place: Place) -> None:
    """What it calls an old copy was promoted since, and is the one in force."""
    place.put(0, "b")
    place.enter(0)
    claim = place.known.log(0)
    assert claim is not None
    directory = StoreLayout(Path(place.at["c"])).partition(0).directory
    epoch = place.known.epoch("0")
    log = LmdbLog(directory, Config(log_map_bytes=1 << 24), epoch=epoch + 1, claim=claim)
    log.append_at(0, (b"row",), epoch + 1)
    log.close()
    place.registry.sweep()
    assert directory.exists()
    for _ in range(2):
        place.registry.opened(0, place.known.next_epoch("0"))
    place.registry.sweep()
    assert not directory.exists()


def test_a_disk_that_is_in_use_is_not_removed(place: Place) -> None:
    place.put(0, "b")
    with pytest.raises(ConfigError, match=r"partition 0's standby - at .*b; .* move 0 DISK"):
        place.registry.remove_disk(place.at["b"])
    for directory in (str(place.own), place.at["b"] + "x"):
        with pytest.raises(ConfigError, match="a disk that was added"):
            place.registry.remove_disk(directory)


def begun_ledger(place: Place) -> Copies | None:
    """The record of a ledger that opens."""
    place.known.claim(LEDGER, "log-ledger")
    return place.registry.opened(LEDGER, place.known.next_epoch("L"))[0]


def test_a_ledger_that_begins_later_has_what_was_asked_for_all_logs(place: Place) -> None:
    assert not place.registry.has_ledger()
    record = begun_ledger(place)
    assert record is not None
    assert (record.primary, record.epoch) == (place.registry.add_disk(str(place.own)), 1)
    assert record.standby in place.disk.values()
    assert begun_ledger(place) == structs.replace(record, epoch=2)
    assert place.registry.all()[LEDGER].epoch == 2
    place.registry.keep(0, False)
    assert place.registry.all()[LEDGER].standby == ""


def test_a_ledger_has_no_standby_where_none_was_asked_for(place: Place) -> None:
    place.registry.keep(0, False)
    assert begun_ledger(place) is None
    assert place.registry.has_ledger()


def test_a_ledger_of_a_store_that_had_replicas_before_has_a_standby_too(place: Place) -> None:
    """An earlier release remembered what it gave to partitions alone."""
    with place.known._env.begin(write=True, db=place.known._db["settings"]) as transaction:
        assert transaction.delete(WANTED)
    place.registry.put(1, "")
    assert begun_ledger(place) is None, "they have none, some are being moved"
    place.put(1, "b")
    record = begun_ledger(place)
    assert record is not None
    assert record.standby


def test_a_ledger_loses_nothing(place: Place) -> None:
    """Where partitions need not wait for their standbys it does, and one that lacks something is
    not put in force: partitions would take its next messages for those that it told them before."""
    begun_ledger(place)
    place.registry.keep(1, True)
    assert [one.is_async for one in place.registry.all().values()] == [True, True, True, False]
    with pytest.raises(ConfigError, match=r"of the ledger that has all .* restore a backup"):
        place.registry.promise(LEDGER, True, True)
    place.enter(LEDGER)
    assert place.registry.promise(LEDGER, False, True).promised == 2
