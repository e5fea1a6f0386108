"""A disk is read through, by hand and in the background, and damage mended or named."""

from __future__ import annotations

from pathlib import Path

import pytest

from profile_actors.actors.logs import scrubber
from profile_actors.actors.logs.scrubber import Scrubber, ScrubPart
from profile_actors.config import Config
from profile_actors.errors import FencedOut, Pending, StoreUnavailable
from profile_actors.storage.scrub.mendable_log import MendableLog
from profile_actors.storage.scrub.scrubbing import Mark
from tests.waiting import until

CONFIG = Config(log_map_bytes=1 << 24, log_segment_bytes=1 << 16)


def entry(position: int) -> bytes:
    return b"entry %06d " % position * 700


def none(position: int) -> bytes:
    raise StoreUnavailable(f"expected a standby that has log entry {position}, got none")


def filled(path: Path) -> MendableLog:
    log = MendableLog(path, CONFIG, epoch=1)
    for position in range(20):
        log.append_at(position, (entry(position),), 1)
    return log


def flip(log: MendableLog, position: int) -> None:
    name = max(one.name for one in log.listed if one.first <= position)
    path = log.directory / name / "data.mdb"
    with open(path, "r+b") as file:
        file.seek(path.read_bytes().index(entry(position)) + 5_000)
        file.write(b"!")


def by_hand(one: Scrubber) -> list[ScrubPart]:
    parts = [one.step(None)]
    while parts[-1].mark is not None:
        parts.append(one.step(parts[-1].mark))
    return parts


def test_damage_is_named_until_it_is_mended(tmp_path: Path) -> None:
    log = filled(tmp_path)
    one = Scrubber(log, tmp_path, CONFIG, none)
    assert one.status().finished is None
    parts = by_hand(one)
    assert [sum(part.read for part in parts), one.status().damaged] == [20, 0]
    assert one.status().finished is not None
    flip(log, 7)
    flip(log, 17)
    for _ in range(2):  # each pass says it once
        faults = [fault for part in by_hand(one) for fault in part.faults]
        assert ["position 7" in faults[0], "position 17" in faults[1], len(faults)] == [1, 1, 2]
        assert "got none" in faults[0]
        assert one.status().faults == tuple(faults)
    whole = Scrubber(log, tmp_path, CONFIG, entry)
    assert sum(part.mended for part in by_hand(whole)) == 2
    assert (whole.status().damaged, whole.status().mended) == (0, 2)
    by_hand(one)
    assert one.status().faults == ()
    log.close()
    with pytest.raises(FencedOut):
        one.step(None)


def test_blocks_that_are_just_made_anew_are_waited_for(tmp_path: Path) -> None:
    log = filled(tmp_path)

    class Blocks:
        is_pending = True

        def read(self, after: int, limit_bytes: int) -> list[tuple[int, bytes]]:
            if self.is_pending:
                raise Pending("they are made anew")
            return [(5, b"block")] if after < 5 else []

    blocks = Blocks()
    one = Scrubber(log, tmp_path, CONFIG, none, blocks)
    assert one.step(Mark("feed")).mark == Mark("feed")
    blocks.is_pending = False
    assert one.step(Mark("feed")) == ScrubPart(Mark("feed", 6), 1, 5, (), 0)
    assert one.step(Mark("feed", 6)).mark is None
    log.close()


def test_the_background_mends_and_goes_on_where_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scrubber, "FIRST_S", 0.01)
    log = filled(tmp_path)
    flip(log, 17)
    one = Scrubber(log, tmp_path, CONFIG, entry)
    one.start()
    until((tmp_path / scrubber.STATE).is_file)
    told = one.status()
    assert (told.mended, told.damaged) == (1, 0)
    again = Scrubber(log, tmp_path, CONFIG, entry)
    assert again.status().finished == told.finished
    log.close()
