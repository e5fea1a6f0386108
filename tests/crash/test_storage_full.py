"""A disk that fills up, for each thing that a store writes: refused, readable, whole, going on."""

from __future__ import annotations

import gc
import os
import subprocess
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest

import profile_actors as pf
from profile_actors.actors.actor_status import CoordinatorPlace
from profile_actors.actors.coordinator import CoordinatorActor
from profile_actors.actors.edges import edge_actor
from profile_actors.actors.logs.log_steps import reached
from profile_actors.config import Config
from profile_actors.driver.shipping.places_of_backups import verified
from profile_actors.errors import StorageFull
from profile_actors.ingest.rejects import QuarantineRecord
from profile_actors.storage.catalogue_store import CatalogueStore
from profile_actors.storage.checkpoint_files import FileCheckpoints
from profile_actors.storage.files.atomic_files import Room, free_bytes
from profile_actors.storage.lmdb_feed import LmdbFeed
from profile_actors.storage.lmdb_log import LmdbLog
from profile_actors.storage.rejects.quarantine import Quarantine, QuarantinedRow
from profile_actors.storage.store_settings import StoreSettings
from tests.model.edge_below_ray import Edge, RemoteHub, key_of_profile, looked_up, status
from tests.model.hub import BASE
from tests.sim.test_backups import world_at
from tests.waiting import until

CONFIG = Config(log_map_bytes=1 << 26)
DISK_BYTES = 2 << 20
SETTINGS = StoreSettings(partitions=1, clock="event", hash_seed=1, created=1)


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A real file system of 2 MB."""
    place = tmp_path / "disk"
    place.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", f"size={DISK_BYTES}", "tmpfs", str(place)]
    try:
        subprocess.run(command, check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("this machine does not let the tests mount a file system")
    try:
        yield place
    finally:
        subprocess.run(["umount", "-l", str(place)], check=True)


def until_full(write: Callable[[int], object]) -> int:
    """How many writes of 50 kB succeeded before StorageFull."""
    for number in range(200):
        try:
            write(number)
        except StorageFull:
            return number
    raise AssertionError("the disk never filled up")


def filled(directory: Path) -> int:
    """Append to a log until there is no room; returns how many entries were acknowledged."""
    log = LmdbLog(directory, CONFIG, epoch=1)
    count = until_full(lambda n: log.append_at(n, [bytes([n]) * 50_000], 1))
    with log.view(count - 1) as view:  # reads go on
        assert view == bytes([count - 1]) * 50_000
    log.close()
    return count


def test_a_full_disk_stops_the_log_and_keeps_what_was_acknowledged(disk: Path) -> None:
    ballast = disk / "ballast"
    ballast.write_bytes(bytes(500_000))
    count = filled(disk / "0")
    assert count > 5
    gc.collect()  # the error that the log kept has the segment in its frames
    ballast.unlink()
    log = LmdbLog(disk / "0", CONFIG, epoch=2)
    assert count <= log.head() <= count + 1
    assert list(log.verify()) == []
    log.append_at(log.head(), [bytes(50_000)], 2)
    log.close()


def test_what_start_opens_on_a_full_disk_says_so_and_opens_when_there_is_room(disk: Path) -> None:
    """A log refuses if it has no pages of its own to write in; the coordinator has some."""
    place = CoordinatorPlace(str(disk), SETTINGS, Config(min_free_bytes=1))
    CoordinatorActor(place).stop()
    LmdbLog(disk / "0", CONFIG, epoch=1).close()
    ballast = fill_up(disk)
    with pytest.raises(StorageFull, match=r"/0/log \(recording the epoch\); free disk space"):
        LmdbLog(disk / "0", CONFIG, epoch=2)
    CoordinatorActor(place).stop()
    gc.collect()  # the error that the log kept has the segment in its frames
    ballast.unlink()
    log = LmdbLog(disk / "0", CONFIG, epoch=3)
    log.append_at(0, [bytes(50_000)], 3)
    assert list(log.verify()) == []
    log.close()


def test_a_full_disk_stops_the_feed(disk: Path) -> None:
    ballast = disk / "ballast"
    ballast.write_bytes(bytes(500_000))
    feed = LmdbFeed(disk / "0", CONFIG)
    count = until_full(lambda n: feed.append(n, bytes([n]) * 50_000))
    assert len(feed.read(-1, 1 << 30)) == count
    ballast.unlink()
    feed.append(count, bytes(50_000))
    assert feed.faults() == []
    feed.close()


def test_a_full_disk_keeps_the_older_checkpoint(disk: Path) -> None:
    ballast = disk / "ballast"
    ballast.write_bytes(bytes(500_000))
    checkpoints = FileCheckpoints(disk / "0")
    count = until_full(
        lambda n: checkpoints.save(n, b"meta", {"x": np.arange(100_000 + 20_000 * n)})
    )
    found = checkpoints.load()
    assert found is not None
    assert found[0] == count - 1
    assert not list(disk.rglob("*.aside"))
    ballast.unlink()
    checkpoints.save(count, b"meta", {"x": np.arange(9)})
    found = checkpoints.load()
    assert found is not None
    assert found[0] == count


def test_a_full_disk_stops_quarantine_and_catalogue(disk: Path) -> None:
    quarantine = Quarantine(disk / "quarantine", CONFIG, QuarantinedRow)
    catalogue = CatalogueStore(disk)
    catalogue.set_settings(SETTINGS)
    ballast = disk / "ballast"
    ballast.write_bytes(bytes(800_000))

    def keep(number: int) -> None:
        rows = [QuarantinedRow("a.csv", number * 10 + n, "x", "bad", "y" * 5_000) for n in range(9)]
        quarantine.add("orders", rows)

    kept = until_full(keep)
    assert quarantine.count("orders") == (9 * kept, 9 * kept)
    newest = until_full(lambda n: catalogue.put(n + 1, bytes(50_000)))
    assert catalogue.newest_version() == newest
    ballast.unlink()
    keep(kept)
    catalogue.put(newest + 1, bytes(50_000))
    assert quarantine.count("orders") == (9 * kept + 9, 9 * kept + 9)
    quarantine.close()
    catalogue.close()


def fill_up(disk: Path, spare_bytes: int = 0) -> Path:
    """Leave hardly any room; the file to delete for more."""
    with suppress(OSError), (disk / "ballast").open("wb", buffering=0) as ballast:
        while True:
            ballast.write(bytes(4096))
    os.truncate(disk / "ballast", (disk / "ballast").stat().st_size - spare_bytes)
    return disk / "ballast"


def test_an_edge_on_a_full_disk_answers_says_so_and_goes_on_when_there_is_room(
    disk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What LMDB says of a write that failed is not taken for damage: the copy is not thrown away,
    not even by a new process that opens it."""
    monkeypatch.setattr(edge_actor, "WAIT_S", 0.02)
    config = Config(edge_map_bytes=1 << 24, min_free_bytes=1)
    hub = RemoteHub()
    path = disk / "edge"

    def knows(edge: Edge, most: int) -> bool:
        found = looked_up(edge, key_of_profile(hub, 0))[0]
        return found is not None and found.computed["most"] == most

    def more(number: int) -> None:
        """Of new people, so that the copy grows."""
        rows = [{"who": f"{number} {n}", "at": BASE, "_id": f"{number}", "n": 1} for n in range(99)]
        hub.submit([*rows, {"who": "w0", "at": BASE, "_id": f"{number}", "n": number}])

    def is_stuck(edge: Edge) -> None:
        said = "StorageFull: expected room to write"
        until(lambda: said in status(edge).trouble, lambda: str(status(edge)))

    def opened() -> Edge:
        """One that is not told by the free bytes, as with a quota."""
        edge = Edge(path, hub, config=config)
        edge._room = Room(path, 0)
        return edge

    edge = opened()
    until(lambda: knows(edge, 1))
    (inode,) = {one.stat().st_ino for one in path.rglob("data.mdb")}
    ballast = fill_up(disk, 1 << 14)
    for number in range(2, 40):
        more(number)
    is_stuck(edge)
    assert not knows(edge, 39)
    assert status(edge).profiles >= 5
    for _ in range(2):
        edge.stop()
        gc.collect()
        edge = opened()
        is_stuck(edge)
        assert looked_up(edge, key_of_profile(hub, 0))[0] is not None
    ballast.unlink()
    until(lambda: knows(edge, 39) and not status(edge).trouble)
    assert {one.stat().st_ino for one in path.rglob("data.mdb")} == {inode}
    edge.stop()


def test_a_backup_to_a_full_place_leaves_those_from_before_and_no_half_of_a_file(
    disk: Path, tmp_path: Path
) -> None:
    world = world_at(tmp_path / "store", 5)
    world.run_steps(40)
    place = disk / "place"
    made = world.backup(place)
    world.run_steps(200)
    ballast = fill_up(disk)
    with pytest.raises(StorageFull, match="expected room for a backup"), reached(str(place)):
        world.backup(place)
    assert not list(disk.rglob("*.aside"))
    assert list(verified(place)) == [made.id]
    assert verified(place)[made.id] == []
    ballast.unlink()
    with reached(str(place)):
        again = world.backup(place)
    assert verified(place) == {made.id: [], again.id: []}
    assert sum(again.positions.values()) > sum(made.positions.values())
    world.close()


def test_room_is_asked_of_the_real_disk(disk: Path) -> None:
    assert 0 < free_bytes(disk) <= DISK_BYTES
    room = Room(disk, 1 << 20)
    room.check()
    (disk / "ballast").write_bytes(bytes(1_500_000))
    with pytest.raises(StorageFull, match=r"expected 1048576 bytes free or more"):
        room.check()
    (disk / "ballast").unlink()
    room.check()


def test_the_coordinator_refuses_before_it_writes_and_reads_go_on(tmp_path: Path) -> None:
    place = CoordinatorPlace(str(tmp_path), SETTINGS, Config(min_free_bytes=1 << 62))
    coordinator = CoordinatorActor(place)
    with pytest.raises(StorageFull, match="min_free_bytes"):
        coordinator.apply([pf.Namespace("CRMID", kind="cross_device")])
    rows = [QuarantineRecord("a.csv", n, "x", "bad", "y") for n in range(3)]
    coordinator.reject("orders", rows)  # who sent them sends good ones, too
    coordinator.reject("orders", rows)  # and again
    assert coordinator.rejected() == {"orders": (3, 0, 0)}
    assert "3 of orders" in "".join(coordinator.notes())
    assert coordinator.catalogue().version == 0
    assert coordinator.quarantine("orders", 10) == []
    coordinator._room = Room(tmp_path, 1)
    coordinator.reject("orders", rows[:2])
    assert coordinator.rejected() == {"orders": (3, 2, 0)}
    assert "1 of orders" in "".join(coordinator.notes())
    coordinator.reject("orders", rows[2:])
    assert coordinator.rejected() == {"orders": (3, 3, 0)}
    assert coordinator.notes() == []
    coordinator.stop()
