"""A store's home made of a disk that has copies of its logs, and of its catalogue."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from msgspec import structs

from profile_actors.actors.replicas.copies_registry import CopiesRegistry
from profile_actors.config import Config
from profile_actors.driver.replicas.recovering import recover
from profile_actors.engine.shipping.replication import Request
from profile_actors.errors import ConfigError, Halt, LostLog
from profile_actors.storage.catalogue_store import CatalogueStore
from profile_actors.storage.files.layout import LEDGER, StoreLayout, sequencer_of, whose
from profile_actors.storage.lmdb_log import LmdbLog
from profile_actors.storage.log_ages import check_ages
from profile_actors.storage.replicas.copied_log import CopiedLog
from profile_actors.storage.replicas.standby_files import name_copy
from profile_actors.storage.shipping import home_copies as homes
from profile_actors.storage.shipping.home_copies import OLD
from profile_actors.storage.store_settings import StoreSettings

CONFIG = Config(log_map_bytes=1 << 24)
PARTITIONS = 3


class Store:
    """A store of two disks, as its processes make it: logs in force on a, standbys on b. logs: one
    of LEDGER is begun once there are replicas, as it is in a store that links people later."""

    def __init__(self, path: Path, logs: Sequence[int] = range(PARTITIONS)) -> None:
        self.a, self.b = path / "a", path / "b"
        self.known = CatalogueStore(self.a)
        new = StoreSettings(partitions=PARTITIONS, clock="event", hash_seed=7, created=1)
        self.settings = self.known.set_settings(new)
        self.known.put(1, b"{}")
        self.copies = CopiesRegistry(
            self.a, self.settings.id, PARTITIONS, self.known, lambda _: False
        )
        self.copies.add_disk(str(self.b))
        self.copies.keep(1, False)
        for index in logs:
            self.log(index, 5)

    def log(self, index: int, count: int) -> None:
        claim = self.known.claim(index, f"log-{index}")
        epoch = self.known.next_epoch(sequencer_of(index))
        copies, _ = self.copies.opened(index, epoch)
        assert copies is not None
        paths = StoreLayout(self.a).partition(index)
        log = LmdbLog(paths.directory, CONFIG, epoch=epoch, claim=claim)
        self.known.tell(index, log.id, 0, 1, str(paths.directory), epoch)
        directory = StoreLayout(self.b).standby(index).directory
        name_copy(directory, copies.copy)
        self.copies.standby(index, copies.copy)
        standby = CopiedLog(directory, CONFIG, structs.replace(claim, state="promised"))
        standby.promise(epoch)
        for position in range(count):
            for one in (log, standby):
                one.append_at(position, (b"%d" % position,), epoch)
        log.close()
        standby.close()
        self.known.tell(index, log.id, count, 2, str(paths.directory), epoch)
        self.note(index, "enter")

    def note(self, index: int, wish: str) -> None:
        now = self.copies.all()[index]
        request = Request(now.epoch, now.copy, now.asked + 1, wish)  # type: ignore[arg-type]
        assert self.copies.note(index, request)[0]

    def lose(self) -> None:
        self.known.close()
        shutil.rmtree(self.a)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    made = Store(tmp_path)
    yield made
    if made.a.exists():
        made.known.close()


@pytest.fixture
def linked(tmp_path: Path) -> Iterator[Store]:
    """One that has a ledger."""
    made = Store(tmp_path, (*range(PARTITIONS), LEDGER))
    yield made
    if made.a.exists():
        made.known.close()


def test_a_ledger_goes_on_from_the_other_disk(linked: Store) -> None:
    linked.lose()
    assert recover(linked.b).entries == {0: 5, 1: 5, 2: 5, "ledger": 5}
    known = CatalogueStore(linked.b)
    copies, claim, epoch = known.copies.of(LEDGER), known.log(LEDGER), known.next_epoch("L")
    known.close()
    assert copies is not None
    assert claim is not None
    assert (copies.standby, epoch > max(homes.ABOVE, claim.epoch)) == ("", True)
    paths = StoreLayout(linked.b).partition(LEDGER)
    assert not paths.feed.exists()
    log = LmdbLog(paths.directory, CONFIG, epoch=epoch, claim=claim)
    assert log.head() == 5
    log.close()


@pytest.mark.parametrize("index", [*range(PARTITIONS), LEDGER])
def test_each_log_of_linked_people_that_is_on_no_disk_is_named(linked: Store, index: int) -> None:
    shutil.rmtree(StoreLayout(linked.b).standby(index).directory)
    linked.lose()
    with pytest.raises(ConfigError, match=f"none of {whose(index)} - at"):
        recover(linked.b, accept_loss=True)
    assert not (linked.b / "catalogue").exists()


@pytest.mark.parametrize("index", [0, LEDGER])
def test_no_log_of_linked_people_goes_on_without_its_end(linked: Store, index: int) -> None:
    """Others know the messages that stood in it, and would take the next ones for those."""
    linked.note(index, "leave")
    linked.lose()
    with pytest.raises(ConfigError, match=f"{whose(index)} - at .* restore a backup"):
        recover(linked.b, accept_loss=True)


def test_a_ledger_is_not_forgotten_that_began_when_the_disk_was_lost(store: Store) -> None:
    """It may have told partitions something before the catalogue was copied again."""
    store.known.claim(LEDGER, "ledger")
    store.copies.opened(LEDGER, store.known.next_epoch("L"))
    store.lose()
    with pytest.raises(ConfigError, match="none of the ledger - at"):
        recover(store.b, accept_loss=True)


def test_a_store_goes_on_from_its_other_disk(store: Store) -> None:
    store.known.put(2, b'{"newer": 1}')
    store.copies.keep_home()  # as standbys ask for every few seconds
    store.lose()
    made = recover(store.b)
    assert (made.store, made.entries, made.lost) == (store.settings.id, {0: 5, 1: 5, 2: 5}, [])
    known = CatalogueStore(store.b)
    assert known.settings() == store.settings
    assert known.newest_version() == 2
    assert check_ages(known, StoreLayout(store.b), CONFIG.log_map_bytes).newer == []
    assert list(known.copies.disks().values()) == [str(store.b)]
    for index in range(PARTITIONS):
        copies, claim = known.copies.of(index), known.log(index)
        assert copies is not None
        assert claim is not None
        assert (copies.standby, copies.in_sync) == ("", False)
        epoch = known.next_epoch(str(index))
        assert epoch > homes.ABOVE
        log = LmdbLog(
            StoreLayout(store.b).partition(index).directory, CONFIG, epoch=epoch, claim=claim
        )
        assert log.head() == 5
        log.close()
    known.close()
    assert not (StoreLayout(store.b).home).exists()
    with pytest.raises(ConfigError, match="a store's own"):
        recover(store.b)


def test_what_was_in_force_before_is_not_taken_for_the_copy_beside_it(store: Store) -> None:
    """A disk that came back has both: its log of before, and what it got as a standby since."""
    claim = store.known.log(1)
    assert claim is not None
    old = StoreLayout(store.b).partition(1).directory
    bare = structs.replace(claim, state="promised", entries=0, epoch=0)
    LmdbLog(old, CONFIG, epoch=0, claim=bare).close()
    store.lose()
    assert recover(store.b).entries == {0: 5, 1: 5, 2: 5}


def test_a_standby_that_left_is_known_to_have_left(store: Store) -> None:
    """Before its partition may go on alone."""
    store.note(1, "leave")
    store.lose()
    with pytest.raises(ConfigError, match=r"partition 1 - at .* nothing was changed"):
        recover(store.b)
    made = recover(store.b, accept_loss=True)
    assert [one.partition for one in made.lost] == [1]


def test_a_copy_that_could_not_be_renewed_is_an_old_one(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The disk is full, which is why the standby left: what its copy says is not believed."""

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(homes, "make_file", full)
        store.note(1, "leave")
    assert (StoreLayout(store.b).home / "catalogue" / OLD).is_file()
    with monkeypatch.context() as patch:
        patch.setattr(homes, "make_file", full)
        with pytest.raises(Halt):
            homes.save_home(store.b, store.known.beside()[0], StoreLayout(store.a).settings)
    store.lose()
    with pytest.raises(ConfigError, match="partition 0, partition 1, partition 2"):
        recover(store.b)
    assert len(recover(store.b, accept_loss=True).lost) == PARTITIONS


@pytest.mark.parametrize("index", range(PARTITIONS))
def test_each_partition_that_is_on_no_disk_is_named(store: Store, index: int) -> None:
    shutil.rmtree(StoreLayout(store.b).standby(index).directory)
    store.lose()
    with pytest.raises(ConfigError, match=f"none of partition {index} - at"):
        recover(store.b, accept_loss=True)
    assert (StoreLayout(store.b).home).is_dir()
    assert not (store.b / "catalogue").exists()


def test_a_ledger_that_was_lost_is_named(store: Store) -> None:
    claim = store.known.claim(LEDGER, "ledger")
    store.known.tell(LEDGER, claim.id.log, 1, 1, str(store.a / "ledger"), 1)
    store.copies.keep_home()
    store.lose()
    with pytest.raises(ConfigError, match="none of the ledger - at"):
        recover(store.b)


@pytest.mark.parametrize("step", range(4))
def test_a_crash_is_one_more_recover(
    store: Store, step: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.lose()

    class Killed(BaseException):
        pass

    calls = 0

    def dies(real: object) -> object:
        def call(*args: object) -> object:
            nonlocal calls
            calls += 1
            if calls > step:
                raise Killed
            return real(*args)  # type: ignore[operator]

        return call

    with monkeypatch.context() as patch:
        for name in ("as_partition", "make_private"):
            patch.setattr(homes, name, dies(getattr(homes, name)))
        with pytest.raises(Killed):
            recover(store.b)
    assert recover(store.b).entries == {0: 5, 1: 5, 2: 5}


def test_a_second_disk_begins_no_store_of_its_own(store: Store) -> None:
    """Who starts it by mistake is told what to do, and nothing stands in the way of that."""
    store.lose()
    with pytest.raises(LostLog, match="profile-actors recover"):
        CatalogueStore(store.b)
    assert recover(store.b).lost == []


def test_a_store_that_is_there_or_runs_is_left_alone(store: Store) -> None:
    with pytest.raises(ConfigError, match=f"got it - at {store.a}; nothing was changed"):
        recover(store.b)
    claim = store.known.log(0)
    assert claim is not None
    store.lose()
    directory = StoreLayout(store.b).standby(0).directory
    standby = CopiedLog(directory, CONFIG, structs.replace(claim, state="promised"))
    with pytest.raises(ConfigError, match="end the processes"):
        recover(store.b)
    standby.close()
    assert recover(store.b).entries[0] == 5


def test_an_old_home_that_comes_back_is_no_disk_of_copies(store: Store) -> None:
    """When the new home is lost too, its catalogue of before would be taken for the store's."""
    store.known.close()
    store.a.rename(store.a.with_name("away"))
    recover(store.b)
    store.a.with_name("away").rename(store.a)
    known = CatalogueStore(store.b)
    copies = CopiesRegistry(store.b, store.settings.id, PARTITIONS, known, lambda _: False)
    before = sorted(store.a.rglob("*"))
    with pytest.raises(ConfigError, match=f"own catalogue.* - at {store.a}; nothing was changed"):
        copies.add_disk(str(store.a))
    assert list(copies.disks().values()) == [str(store.b)]
    assert sorted(store.a.rglob("*")) == before
    copies.add_disk(str(store.b))
    known.close()


def test_a_disk_that_was_away_is_not_believed_beside_one_that_was_not(store: Store) -> None:
    """A standby left meanwhile: the older copy of the catalogue says that it has everything."""
    other = store.a.with_name("c")
    store.copies.add_disk(str(other))
    store.copies.keep_home()
    away = store.b.with_name("away")
    store.b.rename(away)
    store.note(1, "leave")
    away.rename(store.b)
    store.lose()
    home = StoreLayout(store.b).home
    before = sorted(home.rglob("*"))
    with pytest.raises(ConfigError, match=f"older one than that on the disk at {other} - at"):
        recover(store.b, accept_loss=True)
    assert sorted(home.rglob("*")) == before
    assert [one.partition for one in recover(other, accept_loss=True).lost] == [1]


def test_a_directory_that_is_no_stores_stays_as_it_is(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="got one without"):
        recover(tmp_path)
    assert list(tmp_path.iterdir()) == []
