"""A disk that came back has a log in force of before beside the copy that was promoted since."""

from __future__ import annotations

from pathlib import Path

import pytest

from profile_actors.config import Config
from profile_actors.storage.files.layout import LEDGER, StoreLayout
from profile_actors.storage.lmdb_log import LmdbLog
from profile_actors.storage.log_id import LogClaim, LogId
from profile_actors.storage.replicas.roles import as_partition, as_standby, newest_at

CONFIG = Config(log_map_bytes=1 << 24)


def log_at(directory: Path, index: int, epoch: int, text: bytes) -> None:
    claim = LogClaim(id=LogId(store="s", partition=index, log="l"), state="promised")
    log = LmdbLog(directory, CONFIG, epoch=epoch, claim=claim)
    log.append_at(log.head(), (text,), epoch)
    log.close()


def read(directory: Path) -> bytes:
    log = LmdbLog(directory, CONFIG, epoch=9)
    with log.view(0) as view:
        found = bytes(view)
    log.close()
    return found


@pytest.mark.parametrize("index", [0, LEDGER])
@pytest.mark.parametrize(("standby", "wanted"), [(5, b"promoted"), (2, b"in force")])
def test_of_two_copies_on_a_disk_the_newer_one_is_in_force(
    tmp_path: Path, index: int, standby: int, wanted: bytes
) -> None:
    layout = StoreLayout(tmp_path)
    log_at(layout.partition(index).directory, index, 3, b"in force")
    log_at(layout.standby(index).directory, index, standby, b"promoted")
    own = layout.partition(index).directory
    assert as_partition(tmp_path, index) == as_partition(tmp_path, index) == own
    assert read(own) == wanted
    assert newest_at(tmp_path, index).directory == own


@pytest.mark.parametrize("index", [0, LEDGER])
def test_a_role_changes_by_renaming(tmp_path: Path, index: int) -> None:
    layout = StoreLayout(tmp_path)
    own, standby = layout.partition(index).directory, layout.standby(index).directory
    log_at(own, index, 3, b"row")
    assert as_standby(tmp_path, index) == standby
    assert not own.exists()
    assert newest_at(tmp_path, index).directory == standby
    assert as_partition(tmp_path, index) == own
    assert not standby.exists()
