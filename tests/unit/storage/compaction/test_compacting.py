"""Log segments of small entries become few large ones: the same entries, whenever it ends."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from functools import cache, partial
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from msgspec import structs

from profile_actors.config import Config
from profile_actors.engine.log.entry import Block, encode
from profile_actors.errors import CorruptLog, StoreUnavailable
from profile_actors.ingest.hidden_columns import TIMESTAMP, TYPE
from profile_actors.storage.compaction.compacting import FAN, Stopped, compact, due
from profile_actors.storage.erasure.rewriting import rewrite
from profile_actors.storage.files.atomic_files import CrashPoint, no_crash
from profile_actors.storage.files.manifest import GROUPED, PLAIN
from profile_actors.storage.log_id import LogClaim, LogId
from profile_actors.storage.replicas.copied_log import CopiedLog
from profile_actors.storage.scrub.log_mending import mend_segment
from profile_actors.storage.scrub.mendable_log import MendableLog
from profile_actors.storage.scrub.scrubbing import Mark, scrub_slice
from profile_actors.storage.shipping.depot import Depot
from profile_actors.storage.shipping.log_shipping import LogShipping
from tests.memory import scratch

CONFIG = Config(log_map_bytes=1 << 24, log_segment_bytes=1 << 17)
MAP = CONFIG.log_map_bytes
ENOUGH = 1 << 40


@cache
def entry(position: int) -> bytes:
    """Mostly one event; now and then nothing, and something large."""
    rows = 0 if position % 10 == 9 else 400 if position % 50 == 31 else 1
    times = np.arange(rows) + position
    table = pa.table({
        TIMESTAMP: times,
        TYPE: pa.array(["view"] * rows, pa.string()).dictionary_encode(),
        "text": [f"entry {position:06d} " * 9] * rows,
    })  # fmt: skip
    block = Block("d", table, np.full(rows, position % 7), np.arange(rows), times)
    return b"".join(bytes(p) for p in encode("rows", 1, position, 2, blocks=[block] * bool(rows)))


def filled(path: Path, count: int = 300, crash: CrashPoint = no_crash) -> MendableLog:
    log = MendableLog(path, CONFIG, epoch=1, crash_point=crash)
    for position in range(count):
        log.append_at(position, (entry(position),), 1)
    return log


@pytest.fixture
def tmp_path() -> Iterator[Path]:
    """In memory: synced commits by the hundred."""
    with scratch() as directory:
        yield Path(directory)


def go_on() -> bool:
    return True


def goes_on(left: list[bool]) -> bool:
    """So many times."""
    return bool(left and left.pop())


def compacted(log: MendableLog, below: int = ENOUGH) -> int:
    """Do all that there is to do; how many steps that took."""
    steps = 0
    while entries := due(log, below, 1 << 30):
        compact(log, entries, MAP, go_on)
        steps += 1
    return steps


def is_whole(log: MendableLog, count: int = 300) -> bool:
    assert log.head() == count
    for position in range(count):
        with log.view(position) as view:
            assert bytes(view) == entry(position), position
    return list(log.verify()) == []


def test_entries_stay_to_the_byte_and_take_little_room(tmp_path: Path) -> None:
    log = filled(tmp_path)
    before = log.size_bytes()
    sealed = len(log.listed) - 1
    assert compacted(log) == sealed  # large ones among small ones too
    assert is_whole(log)
    assert log.size_bytes() < before * 0.8
    forms = [(one.format, one.sealed) for one in log.listed]
    assert forms == [(GROUPED, True)] * sealed + [(PLAIN, False)]
    assert sorted(os.listdir(log.directory)) == sorted(
        [*(one.name for one in log.listed), "manifest.json"]
    )
    assert log.group(0) is not None
    assert log.group(31) is None  # large
    assert log.group(299) is None  # of the log segment that is written
    log.append_at(300, (entry(300),), 1)
    log.close()
    again = MendableLog(tmp_path, CONFIG, epoch=2)
    assert is_whole(again, 301)
    assert due(again, ENOUGH, 1 << 30) == ()
    again.close()


def test_what_an_older_release_must_not_open_says_so(tmp_path: Path) -> None:
    """It takes log segments of format 1 only."""
    log = filled(tmp_path)
    assert f'"format": {GROUPED}' not in (log.directory / "manifest.json").read_text()
    compacted(log)
    assert f'"format": {GROUPED}' in (log.directory / "manifest.json").read_text()
    log.close()


def test_nothing_beyond_the_checkpoint_is_touched(tmp_path: Path) -> None:
    log = filled(tmp_path)
    second = log.listed[1]
    assert due(log, second.first - 1, 1 << 30) == ()
    assert due(log, second.first, 1 << 30) == (log.listed[0],)
    compacted(log, second.first)
    assert [one.format for one in log.listed[:2]] == [GROUPED, PLAIN]
    assert is_whole(log)
    log.close()


def test_many_of_a_size_become_one(tmp_path: Path) -> None:
    log = MendableLog(tmp_path, structs.replace(CONFIG, log_segment_bytes=1 << 16), epoch=1)
    for position in range(1_500):
        log.append_at(position, (entry(position),), 1)
    singles = len(log.listed) - 1
    assert singles > 2 * FAN
    compacted(log)
    assert len(log.listed) < singles / 2
    assert max(one.entries or 0 for one in log.listed) > 100
    assert is_whole(log, 1_500)
    large = next(one for one in log.listed if (one.entries or 0) > 100)
    bound = FAN * (log.directory / large.name / "data.mdb").stat().st_size - 1
    assert all(len(due(log, ENOUGH, size)) in (0, FAN) for size in (1, bound))
    log.close()
    log = MendableLog(tmp_path, CONFIG, epoch=2)
    assert is_whole(log, 1_500)
    log.close()


def test_a_reader_keeps_the_form_it_has_and_then_its_room_is_free(tmp_path: Path) -> None:
    log = filled(tmp_path)
    with log.view(31) as held:
        derived = np.frombuffer(held, np.uint8)
    old = log.listed[0].name

    def is_mapped() -> bool:
        return f"{old}/" in Path("/proc/self/maps").read_text()

    compacted(log)
    assert not (log.directory / old).exists()
    assert bytes(derived) == entry(31)
    assert is_mapped()
    del held, derived
    assert not is_mapped()
    log.close()


@pytest.mark.parametrize("is_merged", [False, True])
def test_a_crash_at_any_step_leaves_one_form_or_the_other(tmp_path: Path, is_merged: bool) -> None:
    """The directory as it is at each step is what a process that ends there leaves."""
    reached: dict[str, Path] = {}
    watched = False

    def crash(point: str) -> None:
        if watched and point not in reached:
            reached[point] = tmp_path / f"at {len(reached)}"
            shutil.copytree(tmp_path / "log", reached[point])

    log = filled(tmp_path / "log", 300, crash)
    entries = due(log, ENOUGH, 1 << 30)
    if is_merged:
        compacted(log)
        entries = log.listed[:3]
    watched = True
    compact(log, entries, MAP, go_on, crash)
    watched = False
    assert is_whole(log)
    log.close()
    assert {"compact.begun", "compact.written", "log.replaced", "compact.replaced"} < set(reached)
    assert len(reached) >= 6
    for point, place in reached.items():
        again = MendableLog(place, CONFIG, epoch=2)
        assert is_whole(again), point
        assert len(os.listdir(again.directory)) == len(again.listed) + 1, point
        compacted(again)
        assert is_whole(again), point
        again.close()


def test_who_is_stopped_has_changed_nothing(tmp_path: Path) -> None:
    log = filled(tmp_path)
    listed, files = log.listed, sorted(os.listdir(log.directory))
    for steps in range(4):
        with pytest.raises(Stopped):
            compact(log, listed[:1], MAP, partial(goes_on, [True] * steps))
        assert (log.listed, sorted(os.listdir(log.directory))) == (listed, files)
    assert is_whole(log)
    log.close()


def test_what_is_no_entry_is_left_as_it_is(tmp_path: Path) -> None:
    log = MendableLog(tmp_path, CONFIG, epoch=1)
    for position in range(100):
        log.append_at(position, (b"nonsense" * 400,), 1)
    with pytest.raises(CorruptLog, match="position 0"):
        compact(log, due(log, ENOUGH, 1 << 30), MAP, go_on)
    assert {one.format for one in log.listed} == {PLAIN}
    assert len(os.listdir(log.directory)) == len(log.listed) + 1
    log.close()


def test_a_form_that_says_something_else_is_not_put_in_force(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = filled(tmp_path)
    listed = log.listed
    module = "profile_actors.storage.compaction.compacting"
    of = type(log.sealed(listed[:1])[0])
    view, seen = of.view, set[tuple[str, int]]()

    def changed(self: object, position: int) -> memoryview:
        """At the second reading of an entry of the old form."""
        found = view(self, position)  # type: ignore[arg-type]
        key = (str(self.path), position)  # type: ignore[attr-defined]
        is_again = key in seen
        seen.add(key)
        if position == 7 and is_again and str(self.path).endswith(listed[0].name):  # type: ignore[attr-defined]
            return memoryview(entry(8))
        return found

    monkeypatch.setattr(f"{module}.LogSegment.view", changed)
    with pytest.raises(CorruptLog, match="another one in its compacted form"):
        compact(log, listed[:1], MAP, go_on)
    monkeypatch.undo()
    assert log.listed == listed
    assert is_whole(log)
    log.close()


def flip(log: MendableLog, position: int, at: int) -> None:
    """Change a byte of a group's value, below whoever has it mapped."""
    one = max(one.name for one in log.listed if one.first <= position)
    group = log.group(position)
    assert group is not None
    path = log.directory / one / "data.mdb"
    content = path.read_bytes()
    value = content.index(bytes(group._content[:400]))
    with open(path, "r+b") as file:
        file.seek(value + at)
        file.write(bytes([content[value + at] ^ 64]))


def faults(log: MendableLog, directory: Path) -> list[int]:
    mark: Mark | None = Mark()
    found: list[int] = []
    while mark is not None and mark.stage == "log":
        part = scrub_slice(log, directory, None, mark, 20_000, lambda: True)
        found += [one.at.next for one in part.faults]
        mark = part.mark
    return found


@pytest.mark.parametrize("part", [0, 1, 3, 4, 5, -1])
@pytest.mark.parametrize("is_anew", [False, True])
def test_damage_of_a_group_is_found_and_mended(tmp_path: Path, part: int, is_anew: bool) -> None:
    """In whatever part; whether it was read before or is read for the first time."""
    log = filled(tmp_path)
    compacted(log)
    assert is_whole(log)
    group = log.group(40)
    assert group is not None
    offset, size = group.note.parts[part]
    flip(log, 40, group._base + offset + size // 2)
    first = group.first
    del group
    if is_anew:
        log.close()
        log = MendableLog(tmp_path, CONFIG, epoch=2)
    found = faults(log, tmp_path)
    assert first in found
    with pytest.raises(StoreUnavailable):
        mend_segment(log, first, unreached, MAP)
    mended = mend_segment(log, first, entry, MAP)
    assert first in mended
    assert faults(log, tmp_path) == []
    assert is_whole(log)
    compacted(log)
    assert is_whole(log)
    log.close()


def unreached(position: int) -> bytes:
    raise StoreUnavailable(f"no standby for {position}")


def test_another_entry_of_the_other_copy_is_not_believed(tmp_path: Path) -> None:
    log = filled(tmp_path)
    compacted(log)
    group = log.group(40)
    assert group is not None
    offset, size = group.note.parts[-1]
    flip(log, 40, group._base + offset + size // 2)
    first = group.first
    del group
    log.close()
    log = MendableLog(tmp_path, CONFIG, epoch=2)
    with pytest.raises(CorruptLog, match="another one from the other copy"):
        mend_segment(log, first, lambda position: entry(position + 1), MAP)
    log.close()


def test_an_erasure_goes_through_groups(tmp_path: Path) -> None:
    log = filled(tmp_path)
    compacted(log)
    log.close()
    seen = list[bytes]()

    def change(value: bytes, where: str) -> list[bytes] | None:
        seen.append(value)
        return [entry(7)] if value == entry(40) else None

    (file,) = rewrite(tmp_path, MAP, change)
    assert seen == [entry(position) for position in range(300)]
    assert file.is_file()
    log = MendableLog(tmp_path, CONFIG, epoch=2)
    for position in range(300):
        with log.view(position) as view:
            assert bytes(view) == entry(7 if position == 40 else position)
    assert log.group(40) is None
    compacted(log)
    assert log.group(40) is not None
    log.close()


@pytest.mark.parametrize("way", ["erased", "mended", "mended beyond reading"])
def test_entries_that_no_map_takes_one_by_one_are_written_anew(tmp_path: Path, way: str) -> None:
    """A group has a tenth of their bytes: a log segment of groups may have more entries than a map
    of ``Config.log_map_bytes`` has room for."""
    log = MendableLog(tmp_path, structs.replace(CONFIG, log_segment_bytes=1 << 22), epoch=1)
    contents = [entry(10 * position) for position in range(1_000)]
    for position, content in enumerate(contents):
        log.append_at(position, (content,), 1)
    log.sealed_with(999)
    assert compacted(log) == 1
    small = log.sealed(log.listed[:1])[0].used_bytes()
    assert 3 * small < sum(map(len, contents))
    if way == "erased":
        log.close()
        rewrite(tmp_path, small, lambda value, _: [value] if value == contents[40] else None)
    else:
        if way == "mended beyond reading":
            flip(log, 0, 2)
            log.close()
            log = MendableLog(tmp_path, CONFIG, epoch=2)
        mended = mend_segment(log, 0, contents.__getitem__, small)
        assert mended == (list(range(1_000)) if way == "mended beyond reading" else [])
        log.close()
    log = MendableLog(tmp_path, CONFIG, epoch=3)
    assert [one.format for one in log.listed] == [PLAIN, PLAIN]
    assert list(log.verify()) == []
    for position, content in enumerate(contents):
        with log.view(position) as view:
            assert bytes(view) == content
    log.close()


def test_what_a_crash_left_of_merged_ones_goes_before_an_erasure(tmp_path: Path) -> None:
    log = filled(tmp_path / "log")
    compacted(log)
    kept = tmp_path / "kept"
    shutil.copytree(log.directory, kept)
    merged = log.listed[:3]
    compact(log, merged, MAP, go_on)
    log.close()
    for one in merged:  # as if it had ended before it deleted them
        shutil.copytree(kept / one.name, log.directory / one.name)
    rewrite(tmp_path / "log", MAP, lambda value, where: None)
    assert not any((log.directory / one.name).exists() for one in merged)
    log = MendableLog(tmp_path / "log", CONFIG, epoch=2)
    assert is_whole(log)
    log.close()


CLAIM = LogClaim(id=LogId(store="s", partition=0, log="one"), state="promised")


@pytest.mark.parametrize("head", [1, 40, 41, 60, 119])
def test_a_standby_is_cut_back_within_a_group(tmp_path: Path, head: int) -> None:
    log = CopiedLog(tmp_path, CONFIG, CLAIM)
    log.promise(1)
    for position in range(300):
        log.append_at(position, (entry(position),), 1)
    compacted(log)
    assert log.group(40) is not None
    log.trim(head)
    assert is_whole(log, head)
    for position in range(head, 300):
        log.append_at(position, (entry(position),), 1)
    assert is_whole(log)
    log.close()
    log = CopiedLog(tmp_path, CONFIG, structs.replace(CLAIM, state="kept"))
    assert is_whole(log)
    compacted(log)
    assert is_whole(log)
    log.close()


class Forgetful(MendableLog):
    """Compacts what it is asked for the list of, before that is copied."""

    is_late = False

    @property
    def listed(self) -> tuple:  # type: ignore[type-arg]
        found = super().listed
        if self.is_late:
            self.is_late = False
            compacted(self)
        return found


@pytest.mark.parametrize("is_late", [False, True])
def test_a_backup_takes_either_form(tmp_path: Path, is_late: bool) -> None:
    log = Forgetful(tmp_path / "log", CONFIG, epoch=1)
    for position in range(300):
        log.append_at(position, (entry(position),), 1)
    place = Depot(str(tmp_path / "place"))
    first = LogShipping(log, tmp_path / "log", place, int).ship("0", 0, 100, None)
    assert first.end == 100
    log.is_late = is_late
    if not is_late:
        compacted(log)
    kept = LogShipping(log, tmp_path / "log", place, int).ship("0", 0, 300, first)
    held = [p for piece in kept.pieces for p in range(piece.first, piece.end)]
    assert held == list(range(300))
    assert any(one.form == "file" and one.first > 100 for one in kept.pieces) == (not is_late)
    again = LogShipping(log, tmp_path / "log", place, int).ship("0", 0, 300, kept)
    assert sum(piece.form == "file" for piece in again.pieces) == len(log.listed) - 1
    log.close()
