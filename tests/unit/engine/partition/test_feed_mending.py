"""A damaged change feed is made anew: beside the writer block by block, or at the next opening."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from profile_actors.actors.logs.mender import Mender
from profile_actors.config import Config
from profile_actors.engine.partition import feed_mending
from profile_actors.engine.partition.feed_mending import mend
from profile_actors.engine.partition.partition import Partition
from profile_actors.engine.reading.answers import Change
from profile_actors.errors import FeedDamaged, Pending
from profile_actors.storage.checkpoint_files import FileCheckpoints
from profile_actors.storage.lmdb_feed import LmdbFeed
from profile_actors.storage.lmdb_log import LmdbLog
from tests.memory import scratch
from tests.model.hub import CATALOGUE
from tests.unit.engine.partition.test_recovery import submit, told

# A feed segment is left after 32 kB: a few dozen entries begin several.
CONFIG = Config(
    max_profiles=4096, max_ahead_ms=1 << 50, log_map_bytes=1 << 24, feed_retention_bytes=1 << 18
)
ENTRIES = 60


def opened(directory: Path) -> Partition:
    log = LmdbLog(directory, CONFIG, epoch=1, lock_wait_s=0.1)
    return Partition(log, LmdbFeed(directory, CONFIG), FileCheckpoints(directory), CONFIG, epoch=1)


def save(partition: Partition) -> None:
    job = partition.checkpoint_job(force=True)
    assert job is not None
    job()


def go_on() -> bool:
    return True


@pytest.fixture
def tmp_path() -> Iterator[Path]:
    with scratch() as directory:
        yield Path(directory)


@pytest.fixture(scope="module")
def written() -> Iterator[tuple[Path, tuple[Any, ...]]]:
    with scratch() as directory:
        yield Path(directory), write(Path(directory))


def write(directory: Path) -> tuple[Any, ...]:
    """Make a partition's files, a checkpoint at the end; returns what it says."""
    partition = opened(directory)
    partition.define(CATALOGUE, None)
    for number in range(ENTRIES):
        submit(partition, number)
        while partition.work(1000):
            pass
    answers = told(partition)
    save(partition)
    partition.close()
    assert len(list((directory / "feed").glob("segment-*"))) > 2
    return answers


@pytest.fixture
def copied(written: tuple[Path, tuple[Any, ...]], tmp_path: Path) -> tuple[Path, tuple[Any, ...]]:
    directory = tmp_path / "partition"
    shutil.copytree(written[0], directory)
    return directory, written[1]


def flip(directory: Path, positions: set[int]) -> None:
    """Change a byte in every copy of the blocks of some positions."""
    feed = LmdbFeed(directory, CONFIG)
    blocks = dict(feed.read(-1, 1 << 30))
    feed.close()
    for data in (directory / "feed").rglob("data.mdb"):
        stored = bytearray(data.read_bytes())
        for position in positions:
            at = stored.find(blocks[position])
            while at >= 0:
                stored[at + len(blocks[position]) // 2] ^= 1
                at = stored.find(blocks[position])
        data.write_bytes(stored)


def positions(directory: Path) -> list[int]:
    feed = LmdbFeed(directory, CONFIG)
    found = [position for position, _ in feed.read(-1, 1 << 30)]
    feed.close()
    return found


@given(data=st.data())
@settings(max_examples=3)
def test_any_damaged_blocks_are_made_again_while_it_is_open(
    written: tuple[Path, tuple[Any, ...]], data: Any
) -> None:
    with scratch() as place:
        directory = Path(shutil.copytree(written[0], Path(place) / "partition"))
        check_mending(directory, written[1][1], data)


def check_mending(directory: Path, before: list[Change], data: Any) -> None:
    known = positions(directory)[:-1]  # of the newest block the opening takes care
    wrong = data.draw(st.sets(st.sampled_from(known), min_size=1, max_size=5))
    flip(directory, wrong)
    partition = opened(directory)
    with pytest.raises(FeedDamaged, match="nothing is lost"):
        told(partition)
    assert sum("change feed" in line for line in partition.verify(sample=0)) == len(wrong)
    submit(partition, ENTRIES)  # it goes on meanwhile
    assert mend(partition, go_on) == len(wrong)
    assert mend(partition, go_on) == 0
    changes, _ = partition.changes(-1, 1 << 30)
    assert [(c.position, c.name, c.identity, c.at) for c in changes][: len(before)] == [
        (c.position, c.name, c.identity, c.at) for c in before
    ]
    assert partition.verify(sample=0) == []
    partition.close()
    partition = opened(directory)
    assert partition.changes(-1, 1 << 30)[0] == changes
    partition.close()


@pytest.mark.parametrize("which", [0, -1, "list", "every"])
@pytest.mark.parametrize("how", ["missing", "no data", "empty", "cut short"])
def test_missing_and_cut_segments_are_made_again_at_opening(
    copied: tuple[Path, tuple[Any, ...]], which: int | str, how: str
) -> None:
    directory, answers = copied
    names = msgspec.json.decode((directory / "feed" / "segments.json").read_bytes())
    paths = sorted((directory / "feed").glob("segment-*"))
    assert names == [path.name for path in paths]
    if which == "list":
        (directory / "feed" / "segments.json").write_bytes(b"" if how == "empty" else b"[1,")
    for path in paths if which == "every" else [] if which == "list" else [paths[int(which)]]:
        data = path / "data.mdb"
        if how == "missing":
            shutil.rmtree(path)
        elif how == "no data":
            data.unlink()
        elif how == "empty":
            data.write_bytes(b"")
        else:
            data.write_bytes(data.read_bytes()[: data.stat().st_size // 2])
    partition = opened(directory)
    assert told(partition) == answers
    partition.close()


def test_a_feed_without_a_list_is_one_of_an_older_release(
    copied: tuple[Path, tuple[Any, ...]],
) -> None:
    directory, answers = copied
    (directory / "feed" / "segments.json").unlink()
    partition = opened(directory)
    assert told(partition) == answers
    assert (directory / "feed" / "segments.json").exists()
    partition.close()


def test_what_cannot_be_mended_while_open_is_made_anew_by_a_restart(
    copied: tuple[Path, tuple[Any, ...]],
) -> None:
    """A block at a position where the log says that there is none: a damaged key."""
    directory, answers = copied
    feed = LmdbFeed(directory, CONFIG)
    feed._log_segments[-1].put(1_000_000, b"no frame at all" * 3)
    feed._log_segments = ()
    partition = Partition(
        LmdbLog(directory, CONFIG, epoch=1), LmdbFeed(directory, CONFIG),
        FileCheckpoints(directory), CONFIG, epoch=1,
    )  # fmt: skip
    assert told(partition) == answers  # the newest block is looked at when it is opened
    assert partition.feed.faults() == []
    error = partition.feed.condemn("expected a page, got noise - at a place; do this")
    assert "restart the store" in str(error)
    assert "do this" not in str(error)
    partition.close()
    partition = opened(directory)
    assert not (directory / "feed" / "condemned").exists()
    assert told(partition) == answers
    partition.close()


def test_readers_wait_for_the_mending_and_are_told_when_it_takes_longer(
    copied: tuple[Path, tuple[Any, ...]],
) -> None:
    directory, answers = copied
    known = positions(directory)
    flip(directory, {known[3]})
    partition = opened(directory)
    may_go = threading.Event()

    def slowly() -> Callable[[], bool]:
        return lambda: may_go.wait(30)

    mender = Mender(partition, 50, slowly)
    with pytest.raises(Pending, match="made anew from the log; ask again"):
        mender.mended(lambda: partition.changes(-1, 1 << 30))
    assert f"position {known[3]}" in mender.account
    may_go.set()
    mender = Mender(partition, 60_000, slowly)
    changes, _ = mender.mended(lambda: partition.changes(-1, 1 << 30))
    assert changes == answers[1]
    assert mender.account == "1 damaged blocks of the change feed were made anew"
    partition.close()


def test_a_mending_ends_when_the_partition_does(copied: tuple[Path, tuple[Any, ...]]) -> None:
    directory, _ = copied
    flip(directory, {positions(directory)[2]})
    partition = opened(directory)
    assert mend(partition, lambda: False) is None
    assert feed_mending.DRAIN > 0
    partition.close()
