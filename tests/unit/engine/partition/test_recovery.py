"""A partition over real files: what is derived may be lost or damaged, the log may not."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from profile_actors.config import Config
from profile_actors.engine.log.entry import decode
from profile_actors.engine.log.in_memory import MemoryCheckpoints, MemoryFeed, MemoryLog
from profile_actors.engine.log.ports import Buffer
from profile_actors.engine.partition import checkpoint_job
from profile_actors.engine.partition.entry_writer import OVERLAP_ROWS
from profile_actors.engine.partition.partition import Partition
from profile_actors.errors import CorruptLog, CursorExpired, StorageFull
from profile_actors.ingest.identity_keys import key_of
from profile_actors.storage.checkpoint_files import FileCheckpoints
from profile_actors.storage.lmdb_feed import LmdbFeed
from profile_actors.storage.lmdb_log import LmdbLog
from tests.model.hub import BASE, CATALOGUE, DAY, HOUR, SEED, WHO, Hub
from tests.waiting import PATIENCE_S

CONFIG = Config(
    max_profiles=4096, max_ahead_ms=1 << 50, log_map_bytes=1 << 24, feed_retention_bytes=1 << 22
)
HUB = Hub()  # its door makes the sub-batches
ENTRIES = 12


def opened(directory: Path, config: Config = CONFIG) -> Partition:
    """A partition as its actor opens it."""
    log = LmdbLog(directory, config, epoch=1, lock_wait_s=0.1)
    return Partition(log, LmdbFeed(directory, config), FileCheckpoints(directory), config, epoch=1)


def submit(partition: Partition, number: int, rows: int = 5) -> None:
    """One entry of new and known people."""
    batch = [
        {
            "who": f"w{(number + i) % 9}",
            "at": BASE + number * HOUR,
            "kind": "buy",
            "x": 0.5,
            "_id": "i",
        }
        for i in range(rows)
    ]
    sub = HUB.sub_batch("hits", "p", number * rows, batch, clock=BASE + number * HOUR)
    assert partition.commit([sub], None)[0].status == "ok"


def told(partition: Partition) -> tuple[Any, ...]:
    """Everything a reader can see: profiles, changes, cursor, position."""
    keys = [key_of(WHO, f"w{i}", SEED) for i in range(9)]
    changes, reached = partition.changes(-1, 1 << 30)
    return partition.profiles(keys), changes, reached, partition.cursor("p"), partition.position


@pytest.fixture
def written(tmp_path: Path) -> tuple[Path, tuple[Any, ...]]:
    """A closed partition with a checkpoint in the middle, and what it told."""
    directory = tmp_path / "0"
    partition = opened(directory)
    partition.define(CATALOGUE, None)
    for number in range(ENTRIES):
        submit(partition, number)
        if number == ENTRIES // 2:
            job = partition.checkpoint_job(force=True)
            assert job is not None
            job()
    partition.advance(BASE + 9 * DAY)
    answers = told(partition)
    assert len(answers[1]) > 20
    partition.close()
    return directory, answers


def feed_was_reset(partition: Partition) -> bool:
    """Whether the feed was made anew while opening."""
    assert isinstance(partition.feed, LmdbFeed)
    return partition.feed.is_new


def replayed(partition: Partition) -> bool:
    """Whether opening began at the log's start."""
    return partition.owed.checkpointed == 0


def test_closing_twice_is_closing_once_and_all_is_there_again(
    written: tuple[Path, tuple[Any, ...]],
) -> None:
    directory, answers = written
    partition = opened(directory)
    assert not replayed(partition)
    assert told(partition) == answers
    partition.close()
    partition.close()
    partition = opened(directory)  # the lock is free again
    submit(partition, ENTRIES)
    partition.close()


def test_a_lost_feed_beside_a_checkpoint_is_made_again(
    written: tuple[Path, tuple[Any, ...]],
) -> None:
    directory, answers = written
    shutil.rmtree(directory / "feed")
    partition = opened(directory)
    assert replayed(partition)
    assert told(partition) == answers
    partition.close()


def test_a_feed_that_ends_before_the_checkpoint_is_made_again(
    written: tuple[Path, tuple[Any, ...]],
) -> None:
    directory, answers = written
    blocks = LmdbFeed(directory, CONFIG).read(-1, 1 << 30)
    shutil.rmtree(directory / "feed")
    feed = LmdbFeed(directory, CONFIG)
    for position, block in blocks[:3]:
        feed.append(position, block)
    feed.close()
    partition = opened(directory)
    assert replayed(partition)
    assert told(partition) == answers
    partition.close()


def test_a_feed_whose_tail_is_lost_needs_only_the_tail(
    written: tuple[Path, tuple[Any, ...]],
) -> None:
    directory, answers = written
    blocks = LmdbFeed(directory, CONFIG).read(-1, 1 << 30)
    shutil.rmtree(directory / "feed")
    feed = LmdbFeed(directory, CONFIG)
    for position, block in blocks:
        if position < ENTRIES // 2 + 3:
            feed.append(position, block)
    feed.close()
    partition = opened(directory)
    assert not replayed(partition)
    assert told(partition) == answers
    partition.close()


@pytest.mark.parametrize("how", ["no lmdb file", "cut short", "newest block"])
def test_a_damaged_feed_is_made_again(written: tuple[Path, tuple[Any, ...]], how: str) -> None:
    directory, answers = written
    feed = LmdbFeed(directory, CONFIG)
    newest = feed.read(-1, 1 << 30)[-1][1]
    feed.close()
    (data,) = (directory / "feed").rglob("data.mdb")
    stored = bytearray(data.read_bytes())
    if how == "no lmdb file":
        stored[:8192] = bytes(8192)
    elif how == "cut short":
        del stored[len(stored) // 2 :]
    else:
        at = stored.find(newest)
        while at >= 0:  # every copy: a page that was copied on write leaves its old one behind
            stored[at + 5] ^= 1
            at = stored.find(newest)
    data.write_bytes(stored)
    partition = opened(directory)
    assert replayed(partition)
    assert told(partition) == answers
    partition.close()


class BadFeed(MemoryFeed):
    """Its pages are damaged: it takes no more blocks until it is begun anew."""

    damaged = True

    def append(self, position: int, block: bytes) -> None:
        if self.damaged:
            raise CorruptLog("expected a page, got noise - at feed")
        super().append(position, block)

    def reset(self) -> None:
        super().reset()
        self.damaged = False


def test_damage_found_while_the_tail_is_replayed(written: tuple[Path, tuple[Any, ...]]) -> None:
    directory, answers = written
    feed = BadFeed()
    feed.blocks = dict(LmdbFeed(directory, CONFIG).read(-1, 1 << 30))
    log = LmdbLog(directory, CONFIG, epoch=1, lock_wait_s=0.1)
    partition = Partition(log, feed, FileCheckpoints(directory), CONFIG, epoch=1)
    assert not feed.damaged
    assert told(partition) == answers
    partition.close()


@pytest.mark.parametrize("keep", ["checkpoint", "feed"])
def test_a_log_shorter_than_what_is_derived_from_it_is_refused(tmp_path: Path, keep: str) -> None:
    whole, short = MemoryLog(), MemoryLog()
    feed, checkpoints = MemoryFeed(), MemoryCheckpoints()
    partition = Partition(whole, feed, checkpoints, CONFIG)
    partition.define(CATALOGUE, None)
    for number in range(4):
        submit(partition, number)
    job = partition.checkpoint_job(force=True)
    assert job is not None
    job()
    short.entries = whole.entries[:-1]
    kept = (MemoryFeed(), checkpoints) if keep == "checkpoint" else (feed, MemoryCheckpoints())
    with pytest.raises(CorruptLog, match="lost its newest entries"):
        Partition(short, *kept, CONFIG)
    assert len(short.entries) == 4  # nothing was written over what is missing
    # Without either there is nothing to say it by.
    assert Partition(short, MemoryFeed(), MemoryCheckpoints(), CONFIG).position == 4


def test_an_opening_that_fails_lets_go_of_the_lock(written: tuple[Path, tuple[Any, ...]]) -> None:
    directory, answers = written
    (data,) = (directory / "log").rglob("data.mdb")
    whole = data.read_bytes()
    stored = bytearray(whole)
    at = stored.find(b"PAE1")
    while at >= 0:
        stored[at + 10] ^= 1
        at = stored.find(b"PAE1", at + 1)
    data.write_bytes(stored)
    with pytest.raises(CorruptLog, match=r"data\.mdb"):
        opened(directory)
    data.write_bytes(whole)
    partition = opened(directory)
    assert told(partition) == answers
    partition.close()


def test_what_retention_dropped_stays_dropped_after_a_replay(tmp_path: Path) -> None:
    config = Config(
        max_profiles=4096, max_ahead_ms=1 << 50, log_map_bytes=1 << 24, feed_retention_bytes=200_000
    )
    partition = opened(tmp_path, config)
    partition.define(CATALOGUE, None)
    for number in range(150):
        rows = [
            {"who": f"v{number}-{i}", "at": BASE + number * HOUR, "kind": "buy", "_id": f"{i}"}
            for i in range(25)
        ]
        sub = HUB.sub_batch("hits", "p", number * 25, rows, clock=BASE + number * HOUR)
        partition.commit([sub], None)
    kept = partition.feed.first_kept()
    assert kept > 1
    blocks = partition.feed.read(kept, 1 << 30)
    # The block with the layouts of all levels is among the dropped ones.
    changes, _ = partition.changes(-1, 1 << 30)
    assert {c.name for c in changes} >= {"count", "silent"}
    with pytest.raises(CursorExpired, match="has been dropped"):
        partition.changes(kept - 2)
    partition.close()
    partition = opened(tmp_path, config)  # no checkpoint: from the log's start
    assert partition.position == 151
    assert not feed_was_reset(partition)
    assert partition.feed.first_kept() == kept
    assert partition.feed.read(kept, 1 << 30) == blocks
    assert partition.changes(-1, 1 << 30)[0] == changes
    assert partition.changes(kept - 1, 1 << 30)[0] == changes
    partition.close()


@pytest.mark.parametrize("position", [-1, 2, 99])
def test_a_memory_log_has_no_position_outside_itself(position: int) -> None:
    log = MemoryLog()
    log.append_at(0, [b"a"], 0)
    log.append_at(1, [b"b"], 0)
    with pytest.raises(IndexError):
        log.view(position)


class SlowLog(MemoryLog):
    """A disk that takes its time: nothing is durable before ``go``. full: it then refuses."""

    def __init__(self) -> None:
        super().__init__()
        self.asked, self.go = threading.Event(), threading.Event()
        self.go.set()
        self.full = False

    def append_at(self, position: int, parts: Sequence[Buffer], epoch: int) -> None:
        copied = [bytes(part) for part in parts]
        self.asked.set()
        assert self.go.wait(PATIENCE_S)
        if self.full:
            raise StorageFull("expected room, got none - at the disk")
        super().append_at(position, copied, epoch)


@pytest.mark.parametrize("rows", [3, OVERLAP_ROWS + 10])
@pytest.mark.parametrize("full", [False, True])
def test_nothing_is_answered_or_shown_before_it_is_durable(rows: int, full: bool) -> None:
    """L1 in the engine: the fold runs beside the disk, but nobody sees or hears of it before."""
    log = SlowLog()
    partition = Partition(log, MemoryFeed(), MemoryCheckpoints(), CONFIG)
    partition.define(CATALOGUE, None)
    key = key_of(WHO, "w", SEED)
    batch = [{"who": "w", "at": BASE, "_id": f"{i}", "kind": "buy"} for i in range(rows)]
    sub = HUB.sub_batch("hits", "p", 0, batch, clock=BASE)
    answers: list[Any] = []

    def commit() -> None:
        try:
            answers.extend(partition.commit([sub], None))
        except StorageFull as error:
            answers.append(error)

    log.asked.clear()
    log.go.clear()
    thread = threading.Thread(target=commit)
    thread.start()
    assert log.asked.wait(PATIENCE_S)
    thread.join(0.3)
    before = (list(answers), partition.position, partition.cursor("p"), partition.status().events)
    known_before = partition.profiles([key])
    log.full = full
    log.go.set()
    thread.join(PATIENCE_S)
    assert (before, known_before) == (([], 1, None, 0), [None])
    if full:
        assert isinstance(answers[0], StorageFull)
        assert (partition.position, partition.cursor("p"), partition.status().events) == (
            1,
            None,
            0,
        )
        assert partition.events(key).events == []
        assert partition.profiles([key]) == [None]
        return
    # Answered: durable and folded, what the driver reads next is its own write.
    assert answers[0].accepted == rows
    assert len(decode(memoryview(log.entries[1]), "here").blocks[0].idents) == rows
    (profile,) = partition.profiles([key])
    assert profile is not None
    assert profile.computed["count"] == rows
    assert profile.segments["buyers"].status == "realized"


def test_the_log_asks_the_disk_for_every_commit(tmp_path: Path) -> None:
    """A killed process cannot show a missing fsync; LMDB says whether it does them."""
    log = LmdbLog(tmp_path, CONFIG, epoch=1)
    for position in range(3):
        log.append_at(position, [b"x"], 1)
    flags = log._log_segments[-1]._env.flags()
    assert (flags["sync"], flags["metasync"]) == (True, True)
    log.close()
    log = LmdbLog(tmp_path, CONFIG, epoch=2)
    flags = log._log_segments[-1]._env.flags()
    assert (flags["sync"], flags["metasync"]) == (True, True)
    log.close()


def test_saved_runs_are_read_from_their_files_while_the_process_lives(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Their memory is given back; every checkpoint that is kept can be opened with its runs."""
    monkeypatch.setattr(checkpoint_job, "SEALED_ROWS", 20)
    directory = tmp_path / "0"
    partition = opened(directory)
    partition.define(CATALOGUE, None)

    def checkpoint() -> None:
        job = partition.checkpoint_job(force=True)
        assert job is not None
        job()

    for number in range(60):
        submit(partition, number)
        if number % 4 == 3:
            checkpoint()
    submit(partition, 60)
    runs = partition.state.locator.runs
    saved = [run for run in runs if run.name]
    assert {len(run) >= 20 for run in saved} == {True}
    assert sum(map(len, saved)) > 200
    for run in saved:
        assert (directory / "runs" / f"{run.name}.arrow").exists()
        assert not run.keys.flags.writeable, "mapped, not owned"
    answers = told(partition)
    newest, older = sorted((directory / "checkpoints").iterdir(), reverse=True)
    partition.close()
    for damaged in (newest, older):
        partition = opened(directory)
        assert not replayed(partition)
        assert told(partition) == answers
        assert [len(run) for run in partition.state.locator.runs] != []
        partition.close()
        damaged.write_bytes(b"")
    partition = opened(directory)
    assert replayed(partition)
    assert told(partition) == answers
    partition.close()


def test_many_records_of_one_time_are_read_in_a_replay_too(tmp_path: Path) -> None:
    directory, key = tmp_path / "0", [key_of(WHO, "a", SEED)]
    partition = opened(directory)
    partition.define(CATALOGUE, None)
    for number in range(60):
        row = {"who": "a", "at": BASE, "score": (number * 7) % 60, "tier": str(number % 3)}
        sub = HUB.sub_batch("crm", "c", number, [row], clock=BASE)
        assert partition.commit([sub], None)[0].status == "ok"
    living = len(partition.state.live_rows)
    (told,) = partition.profiles(key)
    assert told is not None
    assert told.attributes == {"score": 59, "tier": "2"}
    assert living < 30
    partition.close()
    again = opened(directory)
    assert again.profiles(key) == [told]
    assert len(again.state.live_rows) == living
    again.close()
