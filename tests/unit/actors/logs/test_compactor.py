"""A log is compacted beside its writer: by itself, by hand, and not where that cannot be."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from msgspec import structs

from profile_actors.actors.logs import compactor
from profile_actors.actors.logs.compactor import Compactor
from profile_actors.errors import FencedOut
from profile_actors.storage.files.manifest import GROUPED, PLAIN
from profile_actors.storage.scrub.mendable_log import MendableLog
from tests.memory import scratch
from tests.unit.storage.compaction.test_compacting import CONFIG, entry, filled, is_whole

FREE = structs.replace(CONFIG, min_free_bytes=1)


@pytest.fixture
def tmp_path() -> Iterator[Path]:
    with scratch() as directory:
        yield Path(directory)


def until(is_so: Callable[[], bool]) -> None:
    end = time.monotonic() + 120
    while not is_so():
        assert time.monotonic() < end
        time.sleep(0.01)


def by_hand(one: Compactor) -> None:
    while not one.step().is_done:
        pass


def forms(log: MendableLog) -> set[int]:
    return {each.format for each in log.listed if each.sealed}


def test_a_log_is_sealed_and_compacted_by_itself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Below the checkpoint, once there are so many small entries; while rows come in too."""
    monkeypatch.setattr(compactor, "LOOK_S", 0.01)
    config = structs.replace(
        CONFIG, log_segment_bytes=1 << 23, compact_entries=200, min_free_bytes=1
    )
    log = MendableLog(tmp_path, config, epoch=1)
    below, swapped = 0, list[int]()
    one = Compactor(
        log, tmp_path, config, swapped=lambda: swapped.append(1), below=lambda: below
    ).start()  # fmt: skip
    for position in range(300):
        log.append_at(position, (entry(position),), 1)
    assert (forms(log), swapped) == (set(), [])
    below = 250
    until(lambda: bool(len(log.listed) > 1))
    assert forms(log) == {PLAIN}  # the checkpoint does not cover all of it
    below = 300
    until(lambda: bool(swapped))
    assert forms(log) == {GROUPED}
    status = one.status()
    assert (status.entries, status.waiting, status.error) == (300, 0, "")
    assert status.bytes_after < status.bytes_before
    assert is_whole(log)
    log.close()


def test_by_hand_it_is_done_when_that_returns(tmp_path: Path) -> None:
    config = structs.replace(FREE, compact_entries=None)
    log = filled(tmp_path, 600)
    one = Compactor(log, tmp_path, config, below=log.head).start()
    assert one.status().waiting > 400
    by_hand(one)
    assert forms(log) == {GROUPED}
    status = one.status()
    assert status.waiting < 256  # in the log segment that is written
    assert (status.entries >= 600 - 256, status.error) == (True, "")
    assert is_whole(log, 600)
    log.close()
    with pytest.raises(FencedOut):
        one.step()


def test_without_a_checkpoint_nothing_is_touched(tmp_path: Path) -> None:
    """What the directory has is asked for."""
    config = FREE
    log = filled(tmp_path)
    one = Compactor(log, tmp_path, config)
    by_hand(one)
    assert forms(log) == {PLAIN}
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints" / f"checkpoint-{300:020d}.arrow").touch()
    by_hand(one)
    assert forms(log) == {GROUPED}
    log.close()


def test_what_cannot_be_compacted_is_told_and_the_rest_goes_on(tmp_path: Path) -> None:
    log = filled(tmp_path, 100)
    for position in range(100, 130):
        log.append_at(position, (b"nonsense" * 900,), 1)
    for position in range(130, 230):
        log.append_at(position, (entry(position),), 1)
    one = Compactor(log, tmp_path, FREE, below=log.head)
    by_hand(one)
    assert "position 100" in one.status().error
    assert forms(log) == {PLAIN, GROUPED}
    assert one.status().entries > 0
    log.close()


def test_without_room_nothing_is_written(tmp_path: Path) -> None:
    log = filled(tmp_path)
    one = Compactor(log, tmp_path, structs.replace(CONFIG, min_free_bytes=1 << 60), below=log.head)
    by_hand(one)
    assert "StorageFull" in one.status().error
    assert forms(log) == {PLAIN}
    log.close()


def test_a_log_that_is_closed_can_be_opened_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is under way is left, and its files are let go of."""
    monkeypatch.setattr(compactor, "LOOK_S", 0.01)
    log = filled(tmp_path)
    for epoch in range(2, 7):
        files, opened = set(log.directory.iterdir()), log

        def is_begun(log: MendableLog = opened, before: set[Path] = files) -> bool:
            return set(log.directory.iterdir()) > before or forms(log) == {GROUPED}

        Compactor(log, tmp_path, FREE, below=log.head, queued=lambda: 1).start()
        until(is_begun)
        log.close()
        log = MendableLog(tmp_path, FREE, epoch=epoch)
    log.close()
    log = MendableLog(tmp_path, CONFIG, epoch=9)
    assert is_whole(log)
    log.close()


def anonymous_bytes() -> int:
    text = Path("/proc/self/smaps_rollup").read_text()
    return next(int(line.split()[1]) << 10 for line in text.splitlines() if "Anonymous" in line)


@pytest.mark.skipif(not os.confstr("CS_GNU_LIBC_VERSION"), reason="of glibc's allocator")
def test_what_was_freed_is_given_back_to_the_system(tmp_path: Path) -> None:
    """An allocator keeps what lies below a block that is in use, however much that is."""
    log = filled(tmp_path)
    log.sealed_with(299)
    one = Compactor(log, tmp_path, FREE, below=lambda: 300)
    blocks = [bytearray(100_000) for _ in range(2_000)]
    kept = blocks.pop()
    held = anonymous_bytes()
    blocks.clear()
    by_hand(one)
    assert one.status().entries == 300
    assert anonymous_bytes() < held - 150_000_000
    log.close()
    assert kept
