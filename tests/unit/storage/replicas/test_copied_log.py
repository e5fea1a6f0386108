"""A standby's log: promises that hold, and an end that is taken away."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest
import xxhash

from profile_actors.config import Config
from profile_actors.errors import FencedOut
from profile_actors.storage.lmdb_log import LmdbLog
from profile_actors.storage.log_id import LogClaim, LogId
from profile_actors.storage.replicas.copied_log import CopiedLog

CONFIG = Config(log_map_bytes=1 << 24, log_segment_bytes=1 << 16)
CLAIM = LogClaim(id=LogId(store="s", partition=0, log="l"), state="promised")
BIG = b"x" * 9_000


def entry(epoch: int, position: int) -> bytes:
    return b"%d:%d:" % (epoch, position) + BIG


def opened(path: Path, **options: object) -> CopiedLog:
    return CopiedLog(path, CONFIG, CLAIM, **options)  # type: ignore[arg-type]


def content(log: LmdbLog) -> list[bytes]:
    out = []
    for position in range(log.head()):
        with log.view(position) as view:
            out.append(bytes(view))
    return out


def filled(log: CopiedLog, epoch: int, count: int) -> None:
    log.promise(epoch)
    for position in range(log.head(), log.head() + count):
        log.append_at(position, (entry(epoch, position),), epoch)


def test_opening_promises_nothing_and_a_promise_holds(tmp_path: Path) -> None:
    log = opened(tmp_path)
    assert (log.epoch, log.head()) == (0, 0)
    log.promise(7)
    with pytest.raises(FencedOut):
        log.append_at(0, (b"late",), 6)
    with pytest.raises(FencedOut):
        log.promise(6)
    log.close()
    log = opened(tmp_path)
    assert log.epoch == 7
    log.append_at(0, (b"now",), 7)
    assert content(log) == [b"now"]
    log.close()


def test_no_file_is_closed_that_is_just_being_read(tmp_path: Path) -> None:
    """A pass over the disk reads while a new primary takes the log's end away."""
    listed, reading = threading.Event(), threading.Event()

    def hook(point: str) -> None:
        if point == "log.trim.listed":  # the files are closed next
            assert not reading.is_set()
            listed.set()

    log = opened(tmp_path, crash_point=hook)
    filled(log, 1, 3)
    segment, errors = log._log_segments[-1], list[BaseException]()
    read = segment.checked

    def slow(position: int) -> tuple[int, str | None]:
        reading.set()
        listed.wait(0.5)  # which is to come later
        found = read(position)
        reading.clear()
        return found

    def trim() -> None:
        try:
            log.trim(1)
        except AssertionError as error:
            errors.append(error)

    segment.checked = slow  # type: ignore[method-assign]
    reader = threading.Thread(target=log.checked, args=(2,))
    reader.start()
    assert reading.wait(60)
    trimmer = threading.Thread(target=trim)
    trimmer.start()
    for thread in (reader, trimmer):
        thread.join(60)
    assert errors == []
    assert (listed.is_set(), log.head()) == (True, 1)
    log.close()


@pytest.mark.parametrize("head", [0, 3, 4, 9, 12])
def test_what_is_taken_away_is_gone_and_other_entries_come_in_its_place(
    tmp_path: Path, head: int
) -> None:
    """12 entries are several log segments; a head before, at and behind their ends."""
    log = opened(tmp_path)
    filled(log, 1, 12)
    before = content(log)
    assert len(list((tmp_path / "log").glob("segment-*"))) > 2
    log.trim(head)
    assert content(log) == before[:head]
    filled(log, 3, 2)
    wanted = before[:head] + [entry(3, at) for at in range(head, head + 2)]
    assert content(log) == wanted
    assert [log.digest(at) for at in range(log.head())] == [
        xxhash.xxh3_64_intdigest(one) for one in wanted
    ]
    log.close()
    log = opened(tmp_path)
    assert (log.epoch, content(log)) == (3, wanted)
    assert list(log.verify()) == []
    log.close()
    # A partition's own log opens it as it opens any other.
    primary = LmdbLog(tmp_path, CONFIG, epoch=4, claim=CLAIM)
    assert content(primary) == wanted
    primary.close()


class Crash(Exception):
    pass


@pytest.mark.parametrize("point", ["log.rotate.manifest_aside", "log.trim.listed"])
def test_a_crash_while_the_end_is_taken_away_leaves_a_whole_log(tmp_path: Path, point: str) -> None:
    armed: list[str] = []

    def crash(name: str) -> None:
        if name in armed:
            raise Crash(name)

    log = opened(tmp_path, crash_point=crash)
    filled(log, 2, 10)
    before = content(log)
    armed.append(point)
    with pytest.raises(Crash):
        log.trim(3)
    armed.clear()
    log._discard()  # as the end of the process does
    log._lock.release()
    log = opened(tmp_path)
    left = content(log)
    assert left == before[: len(left)]
    assert len(left) >= 3
    assert log.epoch == 2
    log.trim(3)
    assert content(log) == before[:3]
    log.close()
