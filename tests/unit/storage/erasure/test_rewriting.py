"""A log's entries are put through a function: what it was, or what it is to be, after any crash."""

from __future__ import annotations

from pathlib import Path

import pytest

from profile_actors.config import Config
from profile_actors.engine.identity.messages import Named
from profile_actors.storage.erasure.erasure_record import (
    Erasing,
    ErasureRecord,
    load_record,
    save_record,
)
from profile_actors.storage.erasure.rewriting import rewrite
from profile_actors.storage.lmdb_log import LmdbLog

CONFIG = Config(log_segment_bytes=30_000, log_map_bytes=1_500_000)
MARK = b"of one person"
HERS = (3, 17, 34)
POINTS = (
    "erase.derived_gone",
    "erase.segment_begun",
    "erase.segment_written",
    "log.rotate.manifest_aside",
    "log.rotate.manifest_renamed",
    "erase.manifest_replaced",
)


class Killed(BaseException):
    pass


def value(position: int) -> bytes:
    return position.to_bytes(4, "big") * 300 + (MARK if position in HERS else b"")


def left(data: bytes, _: str) -> list[bytes] | None:
    return [data.replace(MARK, b"")] if MARK in data else None


def filled(directory: Path) -> None:
    log = LmdbLog(directory, CONFIG, epoch=4, lock_wait_s=0.0)
    for position in range(40):
        log.append_at(position, [value(position)], 4)
    log.close()
    for name in ("feed", "checkpoints", "runs"):
        (directory / name).mkdir()
        (directory / name / "file").write_bytes(MARK)


def stored(directory: Path) -> bytes:
    return b"".join(path.read_bytes() for path in sorted(directory.rglob("*")) if path.is_file())


@pytest.mark.parametrize("point", POINTS)
def test_after_a_crash_at_any_step_it_is_done_again(tmp_path: Path, point: str) -> None:
    filled(tmp_path)

    def crash(name: str) -> None:
        if name == point:
            raise Killed

    with pytest.raises(Killed):
        rewrite(tmp_path, CONFIG.log_map_bytes, left, crash)
    rewrite(tmp_path, CONFIG.log_map_bytes, left)
    assert rewrite(tmp_path, CONFIG.log_map_bytes, left) == []
    assert MARK not in stored(tmp_path)
    log = LmdbLog(tmp_path, CONFIG, epoch=5, lock_wait_s=0.0)
    assert log.head() == 40
    assert list(log.verify()) == []
    for position in range(40):
        with log.view(position) as view:
            assert bytes(view) == value(position).replace(MARK, b"")
    log.append_at(40, [b"next"], 5)
    log.close()


def test_segments_without_a_change_stay_as_they_are(tmp_path: Path) -> None:
    filled(tmp_path)
    before = {path.name for path in (tmp_path / "log").glob("segment-*")}
    assert rewrite(tmp_path, CONFIG.log_map_bytes, lambda *_: None) == []
    fresh = rewrite(tmp_path, CONFIG.log_map_bytes, left)
    after = {path.name for path in (tmp_path / "log").glob("segment-*")}
    assert len(fresh) == len(after - before) == len(before - after) == 3 < len(before)
    again = rewrite(tmp_path, CONFIG.log_map_bytes, lambda data, _: [data + b"!"])
    assert len(again) == len(before)
    assert any(path.parent.name.endswith("-2") for path in again)


def test_the_record_of_an_erasure_is_read_as_it_was_written(tmp_path: Path) -> None:
    assert load_record(tmp_path) == ErasureRecord()
    record = ErasureRecord(3, Erasing(3, (Named(1, 2, "Email", "ann@home.org"),), ("0", "L")))
    save_record(tmp_path, record)
    (tmp_path / "erasures.json.aside").write_bytes(b"ann@home.org, half written")
    assert load_record(tmp_path) == record
    save_record(tmp_path, ErasureRecord(3))
    assert b"ann" not in stored(tmp_path)


def test_a_directory_without_a_log_has_nothing_to_erase(tmp_path: Path) -> None:
    assert rewrite(tmp_path / "none", CONFIG.log_map_bytes, left) == []
