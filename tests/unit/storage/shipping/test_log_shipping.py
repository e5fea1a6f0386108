"""A log is copied while another thread appends to it, and while its standby comes in force."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from profile_actors.actors.logs.log_steps import log_step
from profile_actors.config import Config
from profile_actors.errors import CorruptLog, StoreUnavailable
from profile_actors.storage.files.manifest import LogSegmentEntry
from profile_actors.storage.lmdb_log import LmdbLog
from profile_actors.storage.shipping.backups import KeptLog
from profile_actors.storage.shipping.depot import Depot
from profile_actors.storage.shipping.log_shipping import LogShipping, entries_in

CONFIG = Config(log_segment_bytes=120_000, log_map_bytes=1_500_000)


class Busy(LmdbLog):
    """Seals the log segment that is written whenever it has been asked for its log segments."""

    is_busy = False

    @property
    def listed(self) -> tuple[LogSegmentEntry, ...]:
        found = super().listed
        while self.is_busy and super().listed == found:
            self.append_at(self.head(), [b"x" * 9_000], self.epoch)
        return found


class InForce:
    """An ``EnlistedLog``'s stand-in."""

    def __init__(self, log: LmdbLog, path: Path, since: int) -> None:
        self.log: Any = type("Shipped", (), {"local": log, "head": log.head})()
        self.path, self.since = str(path), since
        self.scrubber: Any = None  # no part of a backup
        self.compactor: Any = None


def filled(log: LmdbLog, count: int, content: bytes) -> LmdbLog:
    for position in range(log.head(), count):
        log.append_at(position, [content * 2_000], log.epoch)
    return log


def positions(kept: KeptLog) -> list[int]:
    return [p for piece in kept.pieces for p in range(piece.first, piece.end)]


def test_a_log_segment_that_is_sealed_meanwhile_is_not_left_out(tmp_path: Path) -> None:
    log = Busy(tmp_path / "log", CONFIG, epoch=1)
    filled(log, 30, b"abc")
    log.is_busy = True
    kept = LogShipping(log, tmp_path / "log", Depot(str(tmp_path / "place")), int).ship(
        "0", 0, 30, None
    )
    log.close()
    assert positions(kept) == list(range(30))


def test_a_log_that_has_become_shorter_is_not_copied_with_a_hole(tmp_path: Path) -> None:
    log = filled(LmdbLog(tmp_path / "log", CONFIG, epoch=1), 5, b"abc")
    shipping = LogShipping(log, tmp_path / "log", Depot(str(tmp_path / "place")), int)
    with pytest.raises(StoreUnavailable, match="back up again"):
        shipping.ship("0", 0, 6, None)
    log.close()


def test_nothing_that_another_copy_had_is_taken_for_what_the_one_in_force_has(
    tmp_path: Path,
) -> None:
    """Both call their log segments by first positions: one was made anew without an erased person,
    or lost its newest entries to the other's."""
    depot = Depot(str(tmp_path / "place"))
    old = filled(LmdbLog(tmp_path / "old", CONFIG, epoch=1), 8, b"old")
    ask = ("ship", depot.uri, "0", 0)
    base, _ = log_step(InForce(old, tmp_path / "old", 0), int, lambda _: None, *ask, 8, None)
    old.close()
    new = filled(LmdbLog(tmp_path / "new", CONFIG, epoch=3), 8, b"new")
    kept, _ = log_step(InForce(new, tmp_path / "new", 2), int, lambda _: None, *ask, 8, base)
    assert positions(kept) == list(range(8))
    values = [value for piece in kept.pieces for _, value in entries_in(depot, piece)]
    assert not any(b"old" in value for value in values)
    again, more = log_step(InForce(new, tmp_path / "new", 2), int, lambda _: None, *ask, 8, kept)
    assert (again, more) == (kept, 0)
    new.close()


@pytest.mark.parametrize("position", [2, 28])  # of a sealed log segment, and of the newest
def test_what_the_disk_has_changed_since_it_was_read_is_not_copied(
    tmp_path: Path, position: int
) -> None:
    log = LmdbLog(tmp_path / "log", CONFIG, epoch=1)
    for one in range(30):
        log.append_at(one, [b"%06d" % one * 1_500], 1)
    for one in range(30):
        with log.view(one):  # compared, and not again
            pass
    name = max(entry.name for entry in log.listed if entry.first <= position)
    path = tmp_path / "log" / "log" / name / "data.mdb"
    with open(path, "r+b") as file:
        file.seek(path.read_bytes().index(b"%06d" % position * 1_500) + 4_000)
        file.write(b"!")
    shipping = LogShipping(log, tmp_path / "log", Depot(str(tmp_path / "place")), int)
    with pytest.raises(CorruptLog, match=f"position {position}"):
        shipping.ship("0", 0, 30, None)
    log.close()
