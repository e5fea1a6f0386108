"""What a promotion takes away that accepts a loss, as read from the other copy's files."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from profile_actors.cli.copy_verbs import _loss
from profile_actors.config import Config
from profile_actors.engine.log.entry import BatchNote, encode
from profile_actors.storage.lmdb_log import LmdbLog
from profile_actors.storage.log_id import LogClaim, LogId
from profile_actors.storage.replicas.copied_log import CopiedLog
from profile_actors.storage.replicas.lost_end import LostEnd, lost_end

CONFIG = Config(log_map_bytes=1 << 24, log_segment_bytes=1 << 14)
CLAIM = LogClaim(id=LogId(store="s", partition=0, log="l"), state="promised")


def entry(position: int, epoch: int = 1) -> bytes:
    note = BatchNote("orders", "", None, 1, accepted=2, duplicate=5, late=0)
    other = BatchNote("visits" * (position % 2), "p" * 4_000, None, 1, position % 2, 0, 0)
    return b"".join(encode("rows", epoch, position, 1, batches=(note, other)))


def pair(path: Path, own: int, other: int) -> tuple[CopiedLog, Path]:
    """A standby with so many entries, and the directory of the other copy, that has so many."""
    primary = LmdbLog(path / "other", CONFIG, epoch=1, claim=CLAIM)
    standby = CopiedLog(path / "own", CONFIG, CLAIM)
    standby.promise(1)
    for log, count in ((primary, other), (standby, own)):
        for position in range(count):
            log.append_at(position, (entry(position),), 1)
    primary.close()
    return standby, path / "other"


@pytest.mark.parametrize("own", [0, 3, 8, 9])
def test_lost_is_what_the_other_copy_has_alone(tmp_path: Path, own: int) -> None:
    standby, other = pair(tmp_path, own, 9)
    found = lost_end(standby, other, 4, CONFIG.log_map_bytes)
    odd = sum(position % 2 for position in range(own, 9))
    rows = {"orders": 2 * (9 - own)} | ({"visits": odd} if odd else {})
    assert found == LostEnd(own, 9, rows if own < 9 else {})
    assert found.entries == 9 - own


def test_entries_in_which_the_copies_part_are_lost_too(tmp_path: Path) -> None:
    """What the standby has at those positions is another thing, which nobody had acknowledged."""
    standby, other = pair(tmp_path, 5, 7)
    standby.trim(3)
    standby.promise(2)
    for position in (3, 4):
        standby.append_at(position, (entry(position, epoch=2),), 2)
    found = lost_end(standby, other, 0, CONFIG.log_map_bytes)
    assert (found.first, found.end, found.rows) == (3, 7, {"orders": 8, "visits": 2})


def test_of_a_copy_that_cannot_be_read_is_said_what_the_catalogue_knew(tmp_path: Path) -> None:
    standby, other = pair(tmp_path, 5, 7)
    shutil.rmtree(other)
    found = lost_end(standby, other, 6, CONFIG.log_map_bytes)
    assert found == LostEnd(5, 6, {}, is_whole=False)
    assert lost_end(standby, other, 4, CONFIG.log_map_bytes).entries == 0
    assert "1 at least" in _loss("partition 0", found)


def test_what_the_command_line_says() -> None:
    lost = LostEnd(120, 131, {"orders": 1_055, "visits": 3})
    assert _loss("partition 2", lost).startswith(
        "partition 2: log entries 120 to 130 are lost, with 1,055 of orders, 3 of visits rows"
    )
    assert "nothing is lost" in _loss("partition 2", LostEnd(7, 7, {}))
