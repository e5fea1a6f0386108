"""LmdbLog: damage, fencing, full maps, views that are held, closing under readers."""

from __future__ import annotations

import json
import os
import pickle
import threading
from pathlib import Path

import numpy as np
import pytest

from profile_actors.config import Config
from profile_actors.errors import CorruptLog, FencedOut, StorageFull
from profile_actors.storage.lmdb_log import LmdbLog
from tests.waiting import PATIENCE_S

CONFIG = Config(log_segment_bytes=120_000, log_map_bytes=1_500_000)


def entry(position: int) -> bytes:
    return position.to_bytes(4, "big") * (500 + 300 * (position % 7))


def open_log(directory: Path, epoch: int = 1, config: Config = CONFIG) -> LmdbLog:
    return LmdbLog(directory, config, epoch=epoch, lock_wait_s=0.0)


def fill(log: LmdbLog, count: int) -> None:
    for position in range(log.head(), log.head() + count):
        log.append_at(position, [entry(position)], log.epoch)


def segments(directory: Path) -> list[Path]:
    return sorted((directory / "log").glob("segment-*"))


def test_log_rotates_and_lists_its_segments(tmp_path: Path) -> None:
    log = open_log(tmp_path)
    fill(log, 100)
    names = [path.name for path in segments(tmp_path)]
    body = (tmp_path / "log" / "manifest.json").read_bytes().split(b"\n", 1)[1]
    listed = json.loads(body)["segments"]
    assert len(names) > 3
    assert [one["name"] for one in listed] == names
    assert [one["sealed"] for one in listed] == [True] * (len(names) - 1) + [False]
    ends = [one["first"] + one["entries"] for one in listed[:-1]]
    assert ends == [one["first"] for one in listed[1:]]
    assert all(
        path.stat().st_size < 200_000 for path in (p / "data.mdb" for p in segments(tmp_path))
    )
    log.close()


def test_second_log_of_the_same_process_is_fenced_out(tmp_path: Path) -> None:
    log = open_log(tmp_path)
    with pytest.raises(FencedOut, match=f"held by process {os.getpid()}"):
        open_log(tmp_path, 2)
    fill(log, 1)
    log.close()
    open_log(tmp_path, 2).close()


def test_lock_waits_for_a_dying_predecessor(tmp_path: Path) -> None:
    log = open_log(tmp_path)
    timer = threading.Timer(0.15, log.close)
    timer.start()
    successor = LmdbLog(tmp_path, CONFIG, epoch=2, lock_wait_s=PATIENCE_S)
    assert successor.head() == 0
    successor.close()
    timer.join()


def test_entry_larger_than_the_map_is_refused_and_the_log_goes_on(tmp_path: Path) -> None:
    log = open_log(tmp_path)
    fill(log, 2)
    with pytest.raises(StorageFull, match="log_map_bytes 1500000, got 1600016"):
        log.append_at(2, [bytes(1_600_000)], 1)
    fill(log, 5)
    log.close()
    log = open_log(tmp_path, 2)
    assert log.head() == 7
    assert list(log.verify()) == []
    log.close()


def test_map_smaller_than_the_segment_limit_rotates_instead_of_filling(tmp_path: Path) -> None:
    config = Config(log_segment_bytes=1 << 30, log_map_bytes=600_000)
    log = open_log(tmp_path, 1, config)
    for position in range(40):
        log.append_at(position, [bytes([position]) * 50_000], 1)
    assert len(segments(tmp_path)) > 3
    log.close()


def test_what_is_derived_from_a_view_outlives_close(tmp_path: Path) -> None:
    log = open_log(tmp_path)
    fill(log, 30)
    with log.view(3) as view:
        array = np.frombuffer(view, np.uint8)
    log.close()
    # Another map would be put where the first one was, had that been given up.
    fresh = open_log(tmp_path / "other")
    for position in range(10):
        fresh.append_at(position, [b"\xee" * 5_000], 1)
    assert array.tobytes() == entry(3)
    fresh.close()


def test_small_entry_outlives_the_page_it_came_from(tmp_path: Path) -> None:
    log = open_log(tmp_path)
    small = [bytes([position]) * (40 + position) for position in range(30)]
    held = []
    for position, value in enumerate(small):
        log.append_at(position, [value], 1)
        with log.view(position) as view:
            held.append(np.frombuffer(view, np.uint8))
    assert [array.tobytes() for array in held] == small
    log.close()


def test_large_entry_is_not_copied_and_is_aligned(tmp_path: Path) -> None:
    log = open_log(tmp_path)
    fill(log, 10)
    with log.view(6) as one, log.view(6) as two:
        addresses = [np.frombuffer(view, np.uint8).ctypes.data for view in (one, two)]
    assert addresses[0] == addresses[1]
    assert addresses[0] % 16 == 0
    log.close()


def test_closing_under_readers_is_safe(tmp_path: Path) -> None:
    """Readers end with FencedOut or a right entry, never with another error or a dead process."""
    for round_ in range(10):
        log = open_log(tmp_path, round_ + 1)
        fill(log, 5)
        ends: list[BaseException | None] = []
        started = threading.Barrier(4)

        def read(
            log: LmdbLog, started: threading.Barrier, ends: list[BaseException | None]
        ) -> None:
            started.wait()
            try:
                while True:
                    for position in range(log.head()):
                        with log.view(position) as view:
                            assert view == entry(position)
            except FencedOut:
                ends.append(None)
            except BaseException as error:
                ends.append(error)

        readers = [threading.Thread(target=read, args=(log, started, ends)) for _ in range(3)]
        for reader in readers:
            reader.start()
        started.wait()
        fill(log, round_ % 3)
        log.close()
        for reader in readers:
            reader.join()
        assert ends == [None, None, None]


def test_closed_log_refuses(tmp_path: Path) -> None:
    log = open_log(tmp_path)
    fill(log, 1)
    log.close()
    log.close()
    with pytest.raises(FencedOut, match="closed"):
        log.append_at(1, [b""], 1)
    with pytest.raises(FencedOut, match="closed"), log.view(0):
        pass


def test_flip_after_the_first_reading_is_found_by_verify(tmp_path: Path) -> None:
    log = open_log(tmp_path)
    fill(log, 4)
    with log.view(2) as view:
        assert view == entry(2)
    path = segments(tmp_path)[0] / "data.mdb"
    offset = path.read_bytes().find(entry(2))
    with open(path, "r+b") as file:
        file.seek(offset + 100)
        file.write(b"\xff")
    assert [f"{path} position 2" in fault for fault in log.verify()] == [True]
    log.close()


@pytest.mark.parametrize("which", [0, 1, -1])
def test_segment_cut_short_is_refused(tmp_path: Path, which: int) -> None:
    log = open_log(tmp_path)
    fill(log, 60)
    log.close()
    path = segments(tmp_path)[which] / "data.mdb"
    whole = path.read_bytes()
    for size in (0, 4_096, 8_192, len(whole) // 2, len(whole) - 4_096):
        os.truncate(path, size)
        with pytest.raises(CorruptLog, match=str(path)):
            open_log(tmp_path, 2)
        path.write_bytes(whole)
    log = open_log(tmp_path, 3)
    assert log.head() == 60
    log.close()


def test_missing_segment_is_refused(tmp_path: Path) -> None:
    log = open_log(tmp_path)
    fill(log, 60)
    log.close()
    path = segments(tmp_path)[1] / "data.mdb"
    path.rename(path.with_name("gone"))
    with pytest.raises(CorruptLog, match=str(path)):
        open_log(tmp_path, 2)


def test_swapped_segments_are_refused(tmp_path: Path) -> None:
    log = open_log(tmp_path)
    fill(log, 100)
    log.close()
    first, second = (path / "data.mdb" for path in segments(tmp_path)[:2])
    held = first.read_bytes()
    first.write_bytes(second.read_bytes())
    second.write_bytes(held)
    with pytest.raises(CorruptLog, match="expected positions 0 to"):
        open_log(tmp_path, 2)


def test_damaged_or_missing_manifest_deletes_nothing(tmp_path: Path) -> None:
    log = open_log(tmp_path)
    fill(log, 60)
    log.close()
    path = tmp_path / "log" / "manifest.json"
    whole = path.read_bytes()
    for offset in (0, 20, len(whole) // 2, len(whole) - 2):
        path.write_bytes(whole[:offset] + bytes([whole[offset] ^ 1]) + whole[offset + 1 :])
        with pytest.raises(CorruptLog, match=r"manifest\.json"):
            open_log(tmp_path, 2)
    path.unlink()
    with pytest.raises(CorruptLog, match=r"manifest\.json"):
        open_log(tmp_path, 2)
    path.write_bytes(whole)
    log = open_log(tmp_path, 2)
    assert [bytes(entry(p)) for p in range(60)] == [_read(log, p) for p in range(60)]
    log.close()


def test_old_manifest_deletes_nothing(tmp_path: Path) -> None:
    log = open_log(tmp_path)
    fill(log, 30)
    old = (tmp_path / "log" / "manifest.json").read_bytes()
    fill(log, 60)
    log.close()
    before = segments(tmp_path)
    (tmp_path / "log" / "manifest.json").write_bytes(old)
    with pytest.raises(CorruptLog, match="that is not"):
        open_log(tmp_path, 2)
    assert segments(tmp_path) == before


def _read(log: LmdbLog, position: int) -> bytes:
    with log.view(position) as view:
        return bytes(view)


def test_errors_survive_pickling(tmp_path: Path) -> None:
    log = open_log(tmp_path)
    with pytest.raises(CorruptLog) as info:
        log.append_at(5, [b""], 1)
    assert str(pickle.loads(pickle.dumps(info.value))) == str(info.value)
    log.close()
