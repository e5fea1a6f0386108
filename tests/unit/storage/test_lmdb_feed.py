"""LmdbFeed: order, overwriting, limits of a read, retention, reopening."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from profile_actors.config import Config
from profile_actors.engine.log.in_memory import MemoryFeed
from profile_actors.engine.log.ports import Feed
from profile_actors.errors import CorruptLog
from profile_actors.storage.files.layout import PartitionLayout, reset_derived
from profile_actors.storage.lmdb_feed import LmdbFeed

CONFIG = Config(log_map_bytes=4_000_000)
SMALL = Config(log_map_bytes=4_000_000, feed_retention_bytes=800_000)


def block(position: int) -> bytes:
    return bytes([position % 256]) * (1 + position * 97 % 6_000)


@pytest.fixture(params=["memory", "lmdb"])
def feed(request: pytest.FixtureRequest, tmp_path: Path) -> Feed:
    return MemoryFeed() if request.param == "memory" else LmdbFeed(tmp_path, CONFIG)


def test_blocks_come_back_in_order_after_a_position(feed: Feed) -> None:
    positions = [0, 1, 5, 6, 40, 41]
    for position in positions:
        feed.append(position, block(position))
    for after in (-1, 0, 3, 6, 40, 41, 99):
        wanted = [(p, block(p)) for p in positions if p > after]
        assert feed.read(after, 1 << 30) == wanted
    assert feed.get(5) == block(5)
    assert feed.get(4) is None
    assert feed.get(0) == block(0)


def test_read_stops_after_its_limit_and_gives_at_least_one(feed: Feed) -> None:
    for position in range(5):
        feed.append(position, bytes(100))
    for limit, count in ((0, 1), (99, 1), (100, 2), (199, 2), (200, 3), (5_000, 5)):
        assert len(feed.read(-1, limit)) == count


def test_same_position_is_overwritten(feed: Feed) -> None:
    for position in range(10):
        feed.append(position, block(position))
    feed.append(3, b"again")
    assert feed.get(3) == b"again"
    assert [p for p, _ in feed.read(-1, 1 << 30)] == list(range(10))


def test_feed_is_there_again_and_says_if_it_is_new(tmp_path: Path) -> None:
    feed = LmdbFeed(tmp_path, CONFIG)
    assert feed.is_new
    feed.append(0, b"zero")
    feed.close()
    feed = LmdbFeed(tmp_path, CONFIG)
    assert not feed.is_new
    assert feed.read(-1, 10) == [(0, b"zero")]
    feed.close()
    reset_derived(tmp_path)
    assert not PartitionLayout(tmp_path).feed.exists()
    feed = LmdbFeed(tmp_path, CONFIG)
    assert feed.is_new
    assert feed.read(-1, 10) == []
    feed.close()


def test_retention_drops_the_oldest_and_remembers_it(tmp_path: Path) -> None:
    feed = LmdbFeed(tmp_path, SMALL)
    assert feed.first_kept() == 0
    for position in range(600):
        feed.append(position, block(position))
    first = feed.first_kept()
    assert 0 < first < 599
    assert feed.size_bytes() <= SMALL.feed_retention_bytes * 1.25
    wanted = [(p, block(p)) for p in range(first, 600)]
    assert feed.read(-1, 1 << 30) == wanted
    assert feed.get(first - 1) is None
    with pytest.raises(CorruptLog, match="retention"):
        feed.append(first - 1, b"late")
    feed.close()
    feed = LmdbFeed(tmp_path, SMALL)
    assert feed.first_kept() == first
    assert feed.read(-1, 1 << 30) == wanted
    # What a crash lost comes again, from some way back, across segments.
    for position in range(560, 620):
        feed.append(position, block(position))
    assert [p for p, _ in feed.read(first - 1, 1 << 30)] == list(range(feed.first_kept(), 620))
    feed.close()


def test_damaged_block_is_not_served(tmp_path: Path) -> None:
    feed = LmdbFeed(tmp_path, CONFIG)
    for position in range(4):
        feed.append(position, bytes([position]) * 6_000)
    feed.close()
    path = next((tmp_path / "feed").glob("*/data.mdb"))
    stored = bytearray(path.read_bytes())
    stored[stored.find(bytes([2]) * 6_000) + 9] ^= 1
    path.write_bytes(stored)
    feed = LmdbFeed(tmp_path, CONFIG)
    assert feed.read(-1, 7_000) == [(p, bytes([p]) * 6_000) for p in (0, 1)]
    with pytest.raises(CorruptLog, match="position 2"):
        feed.get(2)
    feed.close()


def test_reading_beside_the_writer_and_retention(tmp_path: Path) -> None:
    feed = LmdbFeed(tmp_path, SMALL)
    wrong: list[object] = []
    done = threading.Event()

    def read() -> None:
        try:
            while not done.is_set():
                for position, found in feed.read(feed.first_kept() - 1, 200_000):
                    if found != block(position):
                        wrong.append(position)
        except Exception as error:
            wrong.append(error)

    reader = threading.Thread(target=read)
    reader.start()
    for position in range(400):
        feed.append(position, block(position))
    done.set()
    reader.join()
    feed.close()
    assert wrong == []
