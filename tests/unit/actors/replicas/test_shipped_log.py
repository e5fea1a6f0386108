"""A log that keeps a standby: real logs on two directories, threads, and a line that breaks."""

from __future__ import annotations

import shutil
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from msgspec import structs

from profile_actors.actors.replicas.shipped_log import ShippedLog
from profile_actors.config import Config
from profile_actors.engine.shipping import replication
from profile_actors.engine.shipping.replication import Copies, Refused, Request
from profile_actors.engine.shipping.shipper import Arrival, Shipment
from profile_actors.engine.shipping.standby_copy import StandbyCopy
from profile_actors.errors import FencedOut, Halt, StoreUnavailable
from profile_actors.storage.files.atomic_files import Room
from profile_actors.storage.files.layout import PartitionLayout
from profile_actors.storage.lmdb_log import LmdbLog
from profile_actors.storage.log_id import LogClaim, LogId
from profile_actors.storage.replicas.copied_log import CopiedLog
from tests.waiting import PATIENCE_S, until

CONFIG = Config(log_map_bytes=1 << 24, standby_timeout_ms=150, lease_ms=300)
CLAIM = LogClaim(id=LogId(store="s", partition=0, log="l"), state="promised")


class Pair:
    """Two disks, the catalogue's record, and the lines between them."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.copies = Copies(primary="a", standby="b", copy="b0")
        self.openings = 0
        self.is_cut = self.has_catalogue = False
        self.has_catalogue = True
        self.standby: StandbyCopy | None = None
        self.primary: ShippedLog | None = None
        self.lock = threading.Lock()
        self.free_bytes = 1 << 30

    def open_standby(self, disk: str = "b") -> CopiedLog:
        self.openings += 1
        room = Room(self.path, CONFIG.min_free_bytes, lambda _: self.free_bytes)
        log = CopiedLog(self.path / disk, CONFIG, CLAIM, lack=room.lack)
        self.standby = StandbyCopy(log, self.copies.copy, self.openings)
        return log

    def open_primary(
        self, epoch: int, disk: str = "a", end: Callable[[], None] = lambda: None
    ) -> ShippedLog:
        self.copies = replication.opened(self.copies, disk, epoch)
        log = LmdbLog(self.path / disk, CONFIG, epoch=epoch, claim=CLAIM)
        there = PartitionLayout(self.path / disk).log_id
        self.primary = ShippedLog(log, CONFIG, end, there.is_file)
        self.primary.follow(self.copies, self.send, self.note)
        return self.primary

    def send(self, shipment: Shipment) -> Arrival:
        with self.lock:
            if self.is_cut or self.standby is None:
                raise StoreUnavailable("no line")
            return self.standby.take(shipment)

    def note(self, request: Request) -> tuple[bool, Copies]:
        if not self.has_catalogue:
            raise StoreUnavailable("no coordinator")
        try:
            self.copies = replication.asked(self.copies, request)
        except Refused:
            return False, self.copies
        return True, self.copies

    def rows(self, log: object) -> list[bytes]:
        out = []
        for position in range(log.head()):  # type: ignore[attr-defined]
            with log.view(position) as view:  # type: ignore[attr-defined]
                out.append(bytes(view))
        return out


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[Pair]:
    made = Pair(tmp_path)
    yield made
    if made.primary is not None:
        made.primary.close()
    if made.standby is not None:
        made.standby.log.close()


def append(log: ShippedLog, text: str) -> None:
    log.append_at(log.head(), (text.encode(),), log.epoch)


def is_in_sync(log: ShippedLog) -> bool:
    standing = log.standing()
    return standing is not None and standing.state == "in sync"


def test_without_a_standby_it_is_the_log_itself(pair: Pair) -> None:
    pair.copies = structs.replace(pair.copies, standby="", copy="")
    log = pair.open_primary(1)
    append(log, "one")
    assert (pair.rows(log), log.standing()) == ([b"one"], None)
    log.check_lease()


def test_what_is_acknowledged_is_on_both_disks(pair: Pair) -> None:
    standby = pair.open_standby()
    log = pair.open_primary(1)
    for number in range(30):  # before it is in sync, meanwhile and after
        append(log, f"row {number}")
        if pair.copies.in_sync:
            assert pair.rows(standby) == pair.rows(log)
    until(lambda: is_in_sync(log) and pair.copies.in_sync)
    append(log, "last")
    # A disk that is slow for a moment is a silent standby, which is left behind once that is noted.
    assert not pair.copies.in_sync or pair.rows(standby) == pair.rows(log)


def test_a_silent_standby_is_left_behind_once_that_is_noted(pair: Pair) -> None:
    standby = pair.open_standby()
    log = pair.open_primary(1)
    append(log, "both")
    until(lambda: pair.copies.in_sync)
    pair.is_cut, pair.has_catalogue = True, False
    late = threading.Thread(target=append, args=(log, "alone"))
    late.start()
    late.join(0.6)
    assert late.is_alive(), "it was acknowledged, and a promotion would lose it"
    assert log.head() == 1
    with pytest.raises(StoreUnavailable, match="standby may be in force"):
        log.check_lease()
    pair.has_catalogue = True
    late.join(PATIENCE_S)
    assert not late.is_alive()
    assert (pair.copies.in_sync, log.head()) == (False, 2)
    log.check_lease()
    pair.is_cut = False
    until(lambda: pair.copies.in_sync)
    assert pair.rows(standby) == [b"both", b"alone"]


def test_a_standby_without_room_is_left_behind_and_catches_up_when_there_is(pair: Pair) -> None:
    standby = pair.open_standby()
    log = pair.open_primary(1)
    append(log, "both")
    until(lambda: pair.copies.in_sync)
    assert standby.refusal is None
    pair.free_bytes = CONFIG.min_free_bytes - 1
    append(log, "alone")
    assert not pair.copies.in_sync
    assert pair.rows(standby) == [b"both"]
    assert "min_free_bytes" in str(standby.refusal)
    standby.promise(1)  # what takes no room of an entry goes on
    pair.free_bytes = CONFIG.min_free_bytes
    until(lambda: pair.copies.in_sync)
    assert pair.rows(standby) == [b"both", b"alone"]
    assert standby.refusal is None


def test_a_copy_whose_files_are_gone_leaves_no_standby_behind(pair: Pair) -> None:
    """It would acknowledge into files without a name, and the standby, that has all, be refused."""
    pair.open_standby()
    ended = threading.Event()
    log = pair.open_primary(1, end=ended.set)
    log.append_at(0, (b"first",), 1)
    until(lambda: pair.copies.in_sync)
    shutil.rmtree(pair.path / "a")
    pair.is_cut = True
    writing = threading.Thread(target=lambda: refused(log, 1))
    writing.start()
    assert ended.wait(60)
    assert log.head() == 1
    assert pair.copies.in_sync
    log.close()
    writing.join(60)
    assert not writing.is_alive()
    assert pair.copies.in_sync


def refused(log: ShippedLog, position: int) -> None:
    with pytest.raises(Halt):
        log.append_at(position, (b"lost",), 1)


def test_a_promoted_standby_refuses_the_old_one_whose_end_is_taken_away(pair: Pair) -> None:
    standby = pair.open_standby()
    old = pair.open_primary(1)
    append(old, "both")
    until(lambda: pair.copies.in_sync)
    # It is cut off in the midst of an entry, and its standby is promoted.
    pair.is_cut, pair.has_catalogue = True, False
    result: list[BaseException] = []

    def late() -> None:
        try:
            append(old, "never acknowledged")
        except FencedOut as error:
            result.append(error)

    thread = threading.Thread(target=late)
    thread.start()
    pair.copies = replication.promised(pair.copies, 5)
    assert pair.standby is not None
    assert pair.standby.fence(5).epoch == 5
    pair.has_catalogue, pair.is_cut = True, False
    thread.join(PATIENCE_S)
    assert len(result) == 1
    assert old.is_fenced
    with pytest.raises(FencedOut):
        old.check_lease()
    pair.copies = replication.promoted(pair.copies, 5, "a1")
    standby.close()
    old.close()
    # They change places: the old one has an entry that nobody was told of.
    demoted = pair.open_standby("a")
    assert demoted.head() == 2
    new = pair.open_primary(6, "b")
    append(new, "after")
    until(lambda: pair.copies.in_sync)
    assert pair.rows(demoted) == pair.rows(new) == [b"both", b"after"]


def test_what_the_standby_may_lack_is_nobodys_when_the_log_is_opened_again(pair: Pair) -> None:
    """The process ended between the two disks' writes: nobody is told of the entry before both have
    it, or the standby was left behind."""
    standby = pair.open_standby()
    log = pair.open_primary(1)
    append(log, "both")
    until(lambda: pair.copies.in_sync)
    log.close()
    alone = LmdbLog(pair.path / "a", CONFIG, epoch=1, claim=CLAIM)
    alone.append_at(1, (b"one disk",), 1)
    alone.close()
    pair.is_cut, pair.has_catalogue = True, False
    again = pair.open_primary(2)
    opening = threading.Thread(target=again.settle)
    opening.start()
    opening.join(0.6)
    assert opening.is_alive(), "it is told of, and a promotion would lose it"
    pair.is_cut = False
    opening.join(PATIENCE_S)
    assert not opening.is_alive()
    assert pair.rows(standby) == [b"both", b"one disk"]


def test_an_emptied_standby_gets_everything_again(pair: Pair) -> None:
    pair.open_standby()
    log = pair.open_primary(1)
    for number in range(5):
        append(log, f"row {number}")
    until(lambda: pair.copies.in_sync)
    with pair.lock:
        assert pair.standby is not None
        pair.standby.log.close()
        pair.standby = None
    until(lambda: not pair.copies.in_sync)
    append(log, "alone")
    pair.copies = replication.placed(pair.copies, "c", "c1")
    with pair.lock:
        standby = pair.open_standby("c")
    until(lambda: pair.copies.in_sync)
    assert pair.rows(standby) == pair.rows(log)
    assert len(pair.rows(standby)) == 6


def test_letting_go_is_noted_first(pair: Pair) -> None:
    pair.open_standby()
    log = pair.open_primary(1)
    append(log, "both")
    until(lambda: pair.copies.in_sync)
    log.let_go()
    assert not pair.copies.in_sync
    time.sleep(0.4)
    assert not pair.copies.in_sync, "it came back by itself"


def test_who_was_let_go_of_and_is_kept_after_all_comes_back(pair: Pair) -> None:
    pair.open_standby()
    log = pair.open_primary(1)
    append(log, "both")
    until(lambda: pair.copies.in_sync)
    log.let_go()
    log.follow(pair.copies, pair.send, pair.note)  # who asked was killed, and asks for one again
    append(log, "again")
    until(lambda: pair.copies.in_sync)


def test_letting_go_that_was_not_noted_is_no_success(pair: Pair) -> None:
    pair.open_standby()
    log = pair.open_primary(1)
    append(log, "both")
    until(lambda: pair.copies.in_sync)
    pair.has_catalogue = False
    threading.Timer(0.3, log.close).start()
    with pytest.raises(Halt):
        log.let_go()


def test_an_asynchronous_standby_is_waited_for_by_nobody(pair: Pair) -> None:
    pair.copies = structs.replace(pair.copies, is_async=True)
    log = pair.open_primary(1)
    append(log, "alone")
    standby = pair.open_standby()
    until(lambda: standby.head() == 1)
    assert not pair.copies.in_sync
    log.check_lease()
