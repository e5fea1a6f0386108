"""How long a partition's changes are kept, on real files: by days, on both clocks."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import pytest
from msgspec import structs

from profile_actors.config import Config
from profile_actors.driver.connection import Connection
from profile_actors.driver.iterators import Changes
from profile_actors.engine.log.change_blocks import Group, Packed
from profile_actors.engine.partition.feed_writer import PIECES, WALL_DAYS, FeedWriter
from profile_actors.engine.partition.partition import Partition
from profile_actors.errors import CursorExpired
from profile_actors.storage.checkpoint_files import FileCheckpoints
from profile_actors.storage.lmdb_feed import LmdbFeed
from profile_actors.storage.lmdb_log import LmdbLog
from tests.model.hub import BASE, CATALOGUE, DAY, HOUR, Hub

CONFIG = Config(max_profiles=4096, max_ahead_ms=1 << 50, log_map_bytes=1 << 24)
HUB = Hub()  # its door makes the sub-batches


def opened(path: Path, days: int | None) -> Partition:
    config = structs.replace(CONFIG, feed_retention_days=days)
    log = LmdbLog(path, config, epoch=1, lock_wait_s=0.1)
    return Partition(log, LmdbFeed(path, config), FileCheckpoints(path), config, epoch=1)


def submit(partition: Partition, number: int, at: int, now: int | None = None) -> None:
    """One entry, of one person."""
    row = {"who": f"w{number}", "at": at, "kind": "buy", "_id": str(number)}
    sub = HUB.sub_batch("hits", "p", number, [row], clock=at)
    assert partition.commit([sub], now)[0].status == "ok"


def kept_since(partition: Partition) -> int:
    """When the oldest change that is kept happened."""
    return partition.changes(-1, 1 << 30)[0][0].at


def test_pieces_that_end_by_bytes_behind_entries_without_changes_go_too(tmp_path: Path) -> None:
    feed = LmdbFeed(tmp_path, structs.replace(CONFIG, feed_retention_bytes=1_600_000))
    writer = FeedWriter(feed, 0, days=16)
    group = Group(-1, ("s",), b"x" * 30_000, b"", b"", b"", 0)
    days = [0] * 15 + list(range(1, 20))
    for number, day in enumerate(days):
        writer.emit(3 * number, Packed(day * DAY, -1, [group]))
        assert feed.get(3 * number - 1) is None
        assert day or number < 14 or len(feed.firsts()) > 1  # ended by bytes
    kept = [days[position // 3] for position, _ in feed.read(-1, 1 << 30)]
    assert 1 <= kept[0] <= 19 - 16
    assert kept == list(range(kept[0], 20))
    feed.close()


def test_the_event_clock_drops_changes_by_days_only_if_it_is_told_so(tmp_path: Path) -> None:
    for days, is_dropped in ((None, False), (4, True)):
        partition = opened(tmp_path / str(days), days)
        partition.define(CATALOGUE, None)
        for day in range(20):
            submit(partition, day, BASE + day * DAY)
        age_days = (BASE + 19 * DAY - kept_since(partition)) // DAY
        assert (age_days < 7) is is_dropped
        assert age_days >= 4  # at least so long
        feed, kept = partition.feed, partition.feed.first_kept()
        assert (kept > 0) is is_dropped
        blocks = feed.read(-1, 1 << 30)
        partition.close()
        again = opened(tmp_path / str(days), days)  # from the log's start: no checkpoint
        assert again.feed.first_kept() == kept
        assert again.feed.read(-1, 1 << 30) == blocks
        again.close()


def test_a_quiet_store_on_the_wall_clock_lets_its_last_changes_go(tmp_path: Path) -> None:
    partition = opened(tmp_path, None)
    partition.define(CATALOGUE, BASE)
    for number in range(5):
        submit(partition, number, BASE, BASE + number)
    quiet_since = BASE
    for hours in range(1, 80 * 24):
        end, now = partition.feed.end(), BASE + hours * HOUR
        partition.tick(now)
        if partition.feed.end() > end:  # somebody has left a segment
            quiet_since = now
        elif not partition.feed.read(-1, 0):
            break
    head = partition.position
    assert quiet_since > BASE
    assert WALL_DAYS * DAY <= now - quiet_since <= (WALL_DAYS + WALL_DAYS / PIECES) * DAY + HOUR
    assert partition.changes(-1, 1 << 30) == ([], head - 1)
    assert partition.changes(head - 1, 1 << 30) == ([], head - 1)
    submit(partition, 5, now, now)
    assert {change.position for change in partition.changes(head - 1, 1 << 30)[0]} == {head}
    assert partition.feed.end() == head + 1
    assert partition.feed.first_kept() > 0
    partition.close()


class Direct:
    """A connection to partitions of this process, of a store that was not restored."""

    restored = ""

    def __init__(self, *partitions: Partition) -> None:
        self.partitions = partitions

    def read_all(self, name: str) -> list[Any]:
        if name == "feed_kept":
            return [(one.feed.first_kept(), 0) for one in self.partitions]
        return [one.position for one in self.partitions]

    def ahead(self, partition: int, name: str, after: int, limit: int, consumer: str) -> object:
        found = self.partitions[partition].change_columns(after, limit)
        return lambda: found


def test_an_expired_cursor_is_answered_with_the_oldest_that_is_served(tmp_path: Path) -> None:
    young, old = opened(tmp_path / "young", 4), opened(tmp_path / "old", 4)
    for partition in (young, old):
        partition.define(CATALOGUE, None)
    submit(young, 0, BASE)
    for day in range(20):
        submit(old, day, BASE + day * DAY)
    connection = cast(Connection, Direct(young, old))
    kept = old.feed.first_kept()
    with pytest.raises(CursorExpired, match=rf"the cursor '1\.0-{kept}\.0' or a later") as refusal:
        list(Changes(connection, "1.0-3.1", follow=False))
    assert "feed_retention_days" in str(refusal.value)
    assert list(Changes(connection, f"1.0-{kept}.0", follow=False)) != []
    with pytest.raises(CursorExpired):
        list(Changes(connection, f"1.0-{kept - 1}.0", follow=False))
    for partition in (young, old):
        partition.close()
