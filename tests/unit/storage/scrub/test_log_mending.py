"""Damage that a pass over the disk finds, and what another copy of the log mends."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from profile_actors.config import Config
from profile_actors.errors import CorruptLog, FencedOut, StoreUnavailable
from profile_actors.storage.checkpoint_files import FileCheckpoints
from profile_actors.storage.lmdb_feed import LmdbFeed
from profile_actors.storage.scrub.log_mending import mend_segment
from profile_actors.storage.scrub.mendable_log import MendableLog
from profile_actors.storage.scrub.scrubbing import Mark, Slice, scrub_slice

CONFIG = Config(log_map_bytes=1 << 24, log_segment_bytes=1 << 16)
MAP = CONFIG.log_map_bytes


def entry(position: int) -> bytes:
    return b"entry %06d " % position + bytes([position]) * (9_000 if position % 3 else 100)


def filled(path: Path, count: int = 20) -> MendableLog:
    log = MendableLog(path, CONFIG, epoch=1)
    for position in range(count):
        log.append_at(position, (entry(position),), 1)
    return log


def flip(path: Path, mark: bytes, at: int = 3) -> None:
    """Change a byte at every place of a text in a file, below whoever has it mapped. (Of a small
    value there are older pages as well.)"""
    content = path.read_bytes()
    places = [found.start() + at for found in re.finditer(re.escape(mark), content)]
    assert places
    with open(path, "r+b") as file:
        for place in places:
            file.seek(place)
            file.write(bytes([content[place] ^ 1]))


def data_of(log: MendableLog, position: int) -> Path:
    name = max(one.name for one in log.listed if one.first <= position)
    return log.directory / name / "data.mdb"


def passes(log: MendableLog, directory: Path, feed: LmdbFeed | None = None) -> Iterator[Slice]:
    mark: Mark | None = Mark()
    while mark is not None:
        yield (found := scrub_slice(log, directory, feed, mark, 20_000, lambda: True))
        mark = found.mark


def content(log: MendableLog) -> list[bytes]:
    out = []
    for position in range(log.head()):
        with log.view(position) as view:
            out.append(bytes(view))
    return out


@pytest.mark.parametrize("position", [0, 7, 19])
@pytest.mark.parametrize("at", [3, -4])  # of the content, and of the checksum before it
def test_a_flipped_byte_is_found_and_mended(tmp_path: Path, position: int, at: int) -> None:
    """Whatever was read before; in a sealed log segment and in the one that is written."""
    log = filled(tmp_path)
    assert content(log) == [entry(one) for one in range(20)]
    with log.view(position) as held:
        derived = np.frombuffer(held, np.uint8)
    flip(data_of(log, position), b"entry %06d " % position, at)
    (fault,) = [one for part in passes(log, tmp_path) for one in part.faults]
    assert fault.at == Mark("log", position)
    assert f"position {position}" in fault.text
    assert mend_segment(log, position, entry, MAP) == [position]
    assert [one for part in passes(log, tmp_path) for one in part.faults] == []
    assert content(log) == [entry(one) for one in range(20)]
    assert len(derived) == len(entry(position))  # a reader of the old form still has it
    log.append_at(20, (entry(20),), 1)
    log.close()
    again = MendableLog(tmp_path, CONFIG, epoch=2)
    assert content(again) == [entry(one) for one in range(21)]
    again.close()


def test_another_entry_of_the_other_copy_is_not_believed(tmp_path: Path) -> None:
    log = filled(tmp_path)
    flip(data_of(log, 7), b"entry 000007 ")
    before = sorted(os.listdir(log.directory))
    with pytest.raises(CorruptLog, match="another one from the other copy"):
        mend_segment(log, 7, lambda position: entry(position + 1), MAP)

    def unreached(position: int) -> bytes:
        raise StoreUnavailable(f"no standby for {position}")

    with pytest.raises(StoreUnavailable):
        mend_segment(log, 7, unreached, MAP)
    assert log.checked(7)[1] is not None
    log.close()
    log = MendableLog(tmp_path, CONFIG, epoch=2)
    assert sorted(os.listdir(log.directory)) == before
    log.close()


class Killed(Exception):
    """The process ended here."""


@pytest.mark.parametrize("point", ["mend.begun", "mend.written", "log.replaced"])
def test_a_crash_leaves_one_form_or_the_other(tmp_path: Path, point: str) -> None:
    def crash(at: str) -> None:
        if at == point:
            raise Killed

    log = MendableLog(tmp_path, CONFIG, epoch=1, crash_point=crash)
    for position in range(20):
        log.append_at(position, (entry(position),), 1)
    flip(data_of(log, 7), b"entry 000007 ")
    with pytest.raises(Killed):
        mend_segment(log, 7, entry, MAP, crash)
    log.close()
    log = MendableLog(tmp_path, CONFIG, epoch=2)
    is_mended = point == "log.replaced"
    assert (log.checked(7)[1] is None) == is_mended
    assert len(os.listdir(log.directory)) == len(log.listed) + 1
    if not is_mended:
        assert mend_segment(log, 7, entry, MAP) == [7]
    assert content(log) == [entry(one) for one in range(20)]
    log.close()


def test_checkpoints_runs_and_blocks_are_read_too(tmp_path: Path) -> None:
    log = filled(tmp_path, 3)
    saved = FileCheckpoints(tmp_path)
    for position in (1, 2):
        saved.save(position, b"meta", {"numbers": np.arange(5_000)})
    saved.save_run("run-1", {"rows": np.arange(5_000)})
    feed = LmdbFeed(tmp_path, CONFIG)
    for position in range(3):
        feed.append(position, b"block %d " % position * 2_000)
    found = list(passes(log, tmp_path, feed))
    assert sum(one.read for one in found) == 3 + 3 + 3
    assert not any(one.faults for one in found)
    for path in (*tmp_path.glob("checkpoints/*1.arrow"), *tmp_path.glob("runs/*")):
        flip(path, np.arange(4_000, 4_005).tobytes())
    faults = [fault.text for one in passes(log, tmp_path, feed) for fault in one.faults]
    assert ["checkpoint-" in faults[0], "runs" in faults[1], len(faults)] == [True, True, 2]
    assert "next checkpoint" in faults[0]
    assert "stop the store, delete it" in faults[1]
    flip(tmp_path / "feed" / os.listdir(tmp_path / "feed")[0] / "data.mdb", b"block 1 " * 2_000)
    faults = [fault.text for one in passes(log, tmp_path, feed) for fault in one.faults]
    assert len(faults) == 3
    assert "change feed is derived" in faults[2]
    feed.close()
    log.close()
    with pytest.raises(FencedOut):
        scrub_slice(log, tmp_path, feed, Mark(), 1, lambda: True)
