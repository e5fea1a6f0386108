"""Whatever the umask: directories 0700, files 0600, those of older stores too."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from profile_actors.config import Config
from profile_actors.storage.catalogue_store import CatalogueStore
from profile_actors.storage.checkpoint_files import FileCheckpoints
from profile_actors.storage.files.layout import StoreLayout
from profile_actors.storage.lmdb_feed import LmdbFeed
from profile_actors.storage.lmdb_log import LmdbLog
from profile_actors.storage.rejects.quarantine import Quarantine, QuarantinedRow
from profile_actors.storage.store_settings import StoreSettings

CONFIG = Config(log_segment_bytes=1 << 14, log_map_bytes=1 << 20, feed_retention_bytes=1 << 17)
SETTINGS = StoreSettings(partitions=1, clock="event", hash_seed=1, created=1)


@contextmanager
def umask(mask: int) -> Iterator[None]:
    before = os.umask(mask)
    try:
        yield
    finally:
        os.umask(before)


def write(data: Path) -> None:
    """Everything that storage writes, several segments and a second checkpoint included."""
    paths = StoreLayout(data)
    catalogue = CatalogueStore(data, lock_wait_s=0.0)
    catalogue.set_settings(SETTINGS)
    catalogue.identify("store")
    directory = paths.partition(0).directory
    log = LmdbLog(
        directory, CONFIG, epoch=catalogue.next_epoch("0"), claim=catalogue.claim(0, "log")
    )
    catalogue.tell(0, log.id, log.head(), 1, str(directory))
    feed, checkpoints = LmdbFeed(directory, CONFIG), FileCheckpoints(directory)
    for position in range(log.head(), log.head() + 12):
        log.append_at(position, [bytes(9_000)], log.epoch)
        feed.append(position, bytes(9_000))
        checkpoints.save(position, b"meta", {"n": np.arange(9)})
        checkpoints.save_run(f"run-{position}", {"n": np.arange(9)})
    quarantine = Quarantine(paths.quarantine, CONFIG, QuarantinedRow)
    quarantine.add("orders", [QuarantinedRow("a.csv", 1, "x", "bad", "1")])
    for part in (quarantine, feed, log, catalogue):
        part.close()


def modes(data: Path) -> dict[str, int]:
    paths = (data, *sorted(data.rglob("*")))
    return {str(path.relative_to(data)): path.stat().st_mode & 0o777 for path in paths}


def wanted(data: Path) -> dict[str, int]:
    paths = (data, *sorted(data.rglob("*")))
    return {str(path.relative_to(data)): 0o700 if path.is_dir() else 0o600 for path in paths}


@pytest.mark.parametrize("mask", [0o000, 0o022, 0o077, 0o777])
def test_only_the_owner_may_read_a_store(tmp_path: Path, mask: int) -> None:
    data = tmp_path / "s"
    with umask(mask):
        write(data)
    assert len(modes(data)) > 30
    assert modes(data) == wanted(data)


def test_an_older_store_is_made_private_when_it_is_opened(tmp_path: Path) -> None:
    write(tmp_path)
    mine = tmp_path / "mine.csv"
    for path in (tmp_path, *tmp_path.rglob("*")):
        path.chmod(0o755 if path.is_dir() else 0o644)
    mine.write_text("not of the store")
    mine.chmod(0o644)
    with umask(0o022):
        write(tmp_path)
    assert modes(tmp_path) == {**wanted(tmp_path), "mine.csv": 0o644}
