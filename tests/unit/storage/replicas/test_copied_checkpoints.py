"""A partition's checkpoints at its standby: whole or not there."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from profile_actors.config import Config
from profile_actors.errors import LostLog
from profile_actors.storage.checkpoint_files import FileCheckpoints
from profile_actors.storage.lmdb_feed import LmdbFeed
from profile_actors.storage.replicas import copied_checkpoints
from profile_actors.storage.replicas.copied_checkpoints import (
    SavedFile,
    begin_feed,
    copy_saved,
    drop_beyond,
    read_part,
    saved_in,
)


def save(partition: Path, position: int) -> None:
    files = FileCheckpoints(partition)
    files.save_run(f"run-{position}", {"rows": np.arange(position)})
    files.save(position, b"meta", {"x": np.arange(5_000) + position})


def copied(partition: Path, standby: Path) -> int:
    return copy_saved(standby, saved_in(partition), lambda path, at: read_part(partition, path, at))


def loaded(standby: Path) -> int:
    found = FileCheckpoints(standby).load()
    assert found is not None
    position, meta, arrays = found
    assert (meta, arrays["x"][0]) == (b"meta", position)
    FileCheckpoints(standby).load_run(f"run-{position}")
    return position


def test_the_newest_comes_and_the_oldest_goes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(copied_checkpoints, "CHUNK_BYTES", 1_000)
    a, b = tmp_path / "a", tmp_path / "b"
    assert copied(a, b) == 0
    for position in (10, 20, 30):
        save(a, position)
        assert copied(a, b) == 2
        assert copied(a, b) == 0
        assert loaded(b) == position
    assert len(list((b / "checkpoints").iterdir())) == 2


def test_one_that_is_replaced_meanwhile_leaves_the_one_before(tmp_path: Path) -> None:
    a, b = tmp_path / "a", tmp_path / "b"
    save(a, 10)
    assert copied(a, b) == 2
    save(a, 20)
    listed = saved_in(a)
    for position in (30, 40):
        save(a, position)
    with pytest.raises(LostLog):
        copy_saved(b, listed, lambda path, at: read_part(a, path, at))
    assert loaded(b) == 10
    with pytest.raises(LostLog):
        copy_saved(b, [SavedFile("checkpoints/x.arrow", 9)], lambda path, at: b"")
    assert copied(a, b) > 0
    assert loaded(b) == 40


def test_an_end_that_was_taken_away_takes_checkpoints_with_it(tmp_path: Path) -> None:
    for position in (10, 20):
        save(tmp_path, position)
    drop_beyond(tmp_path, 15)
    assert loaded(tmp_path) == 10
    begin_feed(tmp_path)
    feed = LmdbFeed(tmp_path, Config())
    assert (feed.first_kept(), feed.end()) == (10, 10)
    feed.close()
    drop_beyond(tmp_path, 9)
    assert FileCheckpoints(tmp_path).load() is None
