"""A store of which something is missing refuses at once, with what to do, and harms nothing."""

from __future__ import annotations

import shutil
import time
from pathlib import Path

import pytest

import profile_actors as pf
from profile_actors.storage.files.layout import StoreLayout
from profile_actors.storage.lmdb_feed import LmdbFeed
from tests.cluster.shop import answers, orders, shop
from tests.waiting import PATIENCE_S, until

pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("ray_runtime")]

PATIENT = pf.Config(call_timeout_s=600)


def test_a_store_that_lost_a_log_or_its_catalogue_is_refused(tmp_path: Path) -> None:
    data = tmp_path / "s"
    with pf.start(data, partitions=2, clock="event") as store:
        store.apply(*shop())
        store.submit("orders", orders(100))
        store.submit("orders", orders(100, first=100))
        before = answers(store)
    for path in (data, *data.rglob("*")):  # what the actors and the driver made
        assert path.stat().st_mode & 0o777 == (0o700 if path.is_dir() else 0o600), path
    for piece, word in (
        ("partitions/0", "of partition 0"),
        ("catalogue", "the catalogue"),
    ):
        shutil.move(data / piece, tmp_path / "aside")
        began = time.monotonic()
        with pytest.raises(pf.LostLog, match=word):
            pf.start(data, config=PATIENT)
        assert time.monotonic() - began < PATIENCE_S  # far below that of its calls
        assert not (data / piece).exists()
        shutil.move(tmp_path / "aside", data / piece)
    flipped = flip_feed_blocks(data)
    with pf.start(data) as store:
        assert answers(store) == before
        assert store.verify() == []
        accounts = [actor.feed for actor in store.status().partitions]
        assert accounts == [
            f"{n} damaged blocks of the change feed were made anew" for n in flipped
        ]


@pytest.mark.slow
def test_a_catalogue_from_an_older_backup_heals_from_the_logs(tmp_path: Path) -> None:
    data, backup = tmp_path / "s", tmp_path / "backup"
    with pf.start(data, partitions=2, clock="event") as store:
        store.apply(*shop())
        store.submit("orders", orders(100))
    shutil.copytree(data / "partitions" / "0", tmp_path / "backup-0")
    shutil.copytree(data / "catalogue", backup)
    with pf.start(data) as store:
        assert store.status().notes == []
        store.apply(pf.SegmentDefinition("since", "xEvent.count() >= 1"))
        version = store.apply(pf.SegmentDefinition("later", "xEvent.count() >= 2"))
        store.submit("orders", orders(100, first=100))
    with pf.start(data) as store:
        before = answers(store)
        definitions = store.definitions()
    shutil.rmtree(data / "catalogue")
    shutil.copytree(backup, data / "catalogue")
    # A part of the backup more, and nobody knows what is missing of that part.
    shutil.move(data / "partitions" / "0", tmp_path / "aside")
    shutil.copytree(tmp_path / "backup-0", data / "partitions" / "0")
    with pytest.raises(pf.LostLog, match="the log of partition 0 as they were together"):
        pf.start(data, config=PATIENT)
    shutil.rmtree(data / "partitions" / "0")
    shutil.move(tmp_path / "aside", data / "partitions" / "0")
    with pf.start(data) as store:
        notes = store.status().notes
        assert len(notes) == 2
        assert f"version {version} were taken over from the log of partition" in " ".join(notes)
        assert answers(store) == before
        assert store.definitions() == definitions
        assert store.submit("orders", orders(50, first=150)).duplicate == 50
        # What is applied now is newer than what the partitions have, and so is taken by them.
        assert store.apply(pf.SegmentDefinition("newest", "xEvent.count() >= 1")) == version + 1
        assert len(list(store.members("newest"))) == len(list(store.members("since"))) > 0
        assert store.verify() == []
        before = answers(store)
    with pf.start(data) as store:
        assert store.status().notes == []
        assert answers(store) == before


def flip_feed_blocks(data: Path) -> list[int]:
    """Change a byte of some blocks of each partition's feed but the newest; returns how many."""
    flipped = []
    for index in range(2):
        directory = StoreLayout(data).partition(index).directory
        feed = LmdbFeed(directory, pf.Config())
        blocks = [block for _, block in feed.read(-1, 1 << 30)][:-1]
        feed.close()
        (file,) = (directory / "feed").rglob("data.mdb")
        stored = bytearray(file.read_bytes())
        for block in blocks:
            at = stored.find(block)
            while at >= 0:
                stored[at + len(block) // 2] ^= 1
                at = stored.find(block)
        file.write_bytes(stored)
        assert blocks
        flipped.append(len(blocks))
    return flipped


def test_the_catalogue_is_told_how_long_the_logs_are_while_they_grow(tmp_path: Path) -> None:
    """What is lost of a log that was never closed is missed as well."""
    data, copy = tmp_path / "s", tmp_path / "copy"
    config = pf.Config(tell_position_ms=100)
    with pf.start(data, partitions=1, clock="event", config=config) as store:
        store.apply(*shop())
        store.submit("orders", orders(10))
        shutil.copytree(data / "partitions", copy)
        for first in range(10, 100, 10):
            store.submit("orders", orders(10, first=first))
        catalogue = StoreLayout(data).catalogue / "data.mdb"
        until(lambda: b'"entries":11' in catalogue.read_bytes(), "nobody told the catalogue")
        store._placement.coordinator.call("stop")  # the last word at closing is not heard
    shutil.rmtree(data / "partitions")
    shutil.copytree(copy, data / "partitions")
    with pytest.raises(pf.LostLog, match="last seen with 11 entries"):
        pf.start(data)
