"""What every Log owes the engine, run on MemoryLog, LmdbLog and FaultyLog."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from profile_actors.config import Config
from profile_actors.engine.log.in_memory import MemoryLog
from profile_actors.engine.log.ports import Log
from profile_actors.errors import CorruptLog, FencedOut
from profile_actors.storage.files.framing import frame
from profile_actors.storage.lmdb_log import LmdbLog
from tests.sim.faulty_log import Crashed, FaultyDisk, FaultyLog

# Small enough that a few dozen entries rotate several times.
CONFIG = Config(log_segment_bytes=150_000, log_map_bytes=1_500_000)


def entry(position: int) -> bytes:
    """Sizes on both sides of a page and of a tree leaf's limit, and zero."""
    size = (0, 1, 40, 1_900, 2_030, 4_080, 4_096, 9_000)[position % 8]
    return bytes((position * 31 + i) % 251 for i in range(size))


def fill(log: Log, count: int, epoch: int = 1) -> None:
    for position in range(log.head(), log.head() + count):
        log.append_at(position, [entry(position)], epoch)


def contents(log: Log) -> list[bytes]:
    out = []
    for position in range(log.head()):
        with log.view(position) as view:
            out.append(bytes(view))
    return out


class LogContract:
    """Holds for a log in memory as well."""

    def new(self, directory: Path) -> Log:
        raise NotImplementedError

    @pytest.fixture
    def log(self, tmp_path: Path) -> Log:
        return self.new(tmp_path)

    def test_new_log_is_empty(self, log: Log) -> None:
        assert log.head() == 0
        with pytest.raises(IndexError), log.view(0):
            pass

    def test_entries_come_back_in_order(self, log: Log) -> None:
        fill(log, 60)
        assert log.head() == 60
        assert contents(log) == [entry(position) for position in range(60)]

    def test_parts_are_joined_and_not_kept(self, log: Log) -> None:
        part = bytearray(b"-later changed-")
        log.append_at(0, [b"ab", memoryview(part), memoryview(b"xcdx")[1:3]], 1)
        part[:] = b"***************"
        with log.view(0) as view:
            assert bytes(view) == b"ab-later changed-cd"

    def test_position_other_than_head_changes_nothing(self, log: Log) -> None:
        fill(log, 3)
        for position in (0, 2, 4, 1_000):
            # In memory it is an assert: there it can only be the engine's own fault.
            with pytest.raises((CorruptLog, AssertionError)):
                log.append_at(position, [b"wrong"], 1)
        assert contents(log) == [entry(position) for position in range(3)]

    def test_view_is_read_only(self, log: Log) -> None:
        fill(log, 8)
        for position in range(8):
            with log.view(position) as view:
                assert view.readonly

    def test_size_grows(self, log: Log) -> None:
        fill(log, 1)
        before = log.size_bytes()
        log.append_at(1, [bytes(50_000)], 1)
        assert log.size_bytes() >= before + 50_000

    def test_verify_of_a_whole_log_says_nothing(self, log: Log) -> None:
        fill(log, 20)
        assert list(log.verify()) == []

    def test_reader_sees_only_whole_entries_while_writer_appends(self, log: Log) -> None:
        wrong: list[int] = []
        done = threading.Event()

        def read() -> None:
            while not done.is_set():
                for position in range(log.head()):
                    with log.view(position) as view:
                        if view != entry(position):
                            wrong.append(position)

        readers = [threading.Thread(target=read) for _ in range(2)]
        for reader in readers:
            reader.start()
        fill(log, 40)
        done.set()
        for reader in readers:
            reader.join()
        assert wrong == []


class DurableLogContract(LogContract):
    """Holds for a log that outlives its object."""

    def reopen(
        self, directory: Path, epoch: int, crash_point: Callable[[str], None] = lambda _: None
    ) -> Log:
        raise NotImplementedError

    def flip(self, directory: Path, position: int) -> None:
        raise NotImplementedError

    def new(self, directory: Path) -> Log:
        return self.reopen(directory, 1)

    def test_negative_position(self, log: Log) -> None:
        fill(log, 2)
        with pytest.raises(IndexError), log.view(-1):
            pass

    def test_view_dies_with_its_context(self, log: Log) -> None:
        fill(log, 8)
        for position in range(8):
            with log.view(position) as view:
                pass
            with pytest.raises(ValueError, match="released"):
                bytes(view)

    def test_reopened_log_is_the_same(self, tmp_path: Path) -> None:
        for epoch in range(1, 5):
            log = self.reopen(tmp_path, epoch)
            assert contents(log) == [entry(p) for p in range((epoch - 1) * 17)]
            fill(log, 17, epoch)
            log.close()

    def test_older_epoch_cannot_open(self, tmp_path: Path) -> None:
        self.reopen(tmp_path, 7).close()
        with pytest.raises(FencedOut, match="6"):
            self.reopen(tmp_path, 6)
        self.reopen(tmp_path, 7).close()

    def test_other_epoch_cannot_append(self, log: Log) -> None:
        fill(log, 1)
        for epoch in (0, 2):
            with pytest.raises(FencedOut):
                log.append_at(1, [b"zombie"], epoch)
        fill(log, 1)
        assert contents(log) == [entry(0), entry(1)]

    @pytest.mark.parametrize("position", [1, 7, 12, 22, 39])
    def test_flipped_byte_is_named_and_never_served(self, tmp_path: Path, position: int) -> None:
        log = self.reopen(tmp_path, 1)
        fill(log, 40)
        log.close()
        self.flip(tmp_path, position)
        log = self.reopen(tmp_path, 2)
        with pytest.raises(CorruptLog, match=f"position {position}"), log.view(position):
            pass
        for other in set(range(40)) - {position}:
            with log.view(other) as view:
                assert view == entry(other)
        faults = list(log.verify())
        assert len(faults) == 1
        assert f"position {position}" in faults[0]
        log.close()

    @pytest.mark.parametrize(
        ("point", "is_kept"),
        [("log.before_put", False), ("log.before_commit", False), ("log.after_commit", True)],
    )
    @pytest.mark.parametrize("position", [0, 1, 30])
    def test_crash_point(self, tmp_path: Path, point: str, is_kept: bool, position: int) -> None:
        armed = [False]

        def crash(name: str) -> None:
            if armed[0] and name == point:
                raise Crashed(name)

        log = self.reopen(tmp_path, 1, crash)
        fill(log, position)
        armed[0] = True
        with pytest.raises(Crashed):
            fill(log, 1)
        log.close()
        log = self.reopen(tmp_path, 2)
        assert contents(log) == [entry(p) for p in range(position + is_kept)]
        fill(log, 3, 2)
        assert contents(log) == [entry(p) for p in range(position + is_kept + 3)]
        log.close()


class TestMemoryLog(LogContract):
    def new(self, directory: Path) -> Log:
        return MemoryLog()


class TestFaultyLog(DurableLogContract):
    def reopen(
        self, directory: Path, epoch: int, crash_point: Callable[[str], None] = lambda _: None
    ) -> Log:
        disks = self.__dict__.setdefault("disks", {})
        return FaultyLog(
            disks.setdefault(directory, FaultyDisk()), epoch=epoch, crash_point=crash_point
        )

    def flip(self, directory: Path, position: int) -> None:
        self.__dict__["disks"][directory].flip(position, 0)


class TestLmdbLog(DurableLogContract):
    def reopen(
        self, directory: Path, epoch: int, crash_point: Callable[[str], None] = lambda _: None
    ) -> Log:
        return LmdbLog(directory, CONFIG, epoch=epoch, lock_wait_s=0.1, crash_point=crash_point)

    def flip(self, directory: Path, position: int) -> None:
        wanted = frame(position, [entry(position)])
        for path in sorted((directory / "log").glob("segment-*/data.mdb")):
            stored = bytearray(path.read_bytes())
            # Copy-on-write leaves old copies of small values in recycled pages: flip them all.
            copies = [match.start() for match in re.finditer(re.escape(wanted), stored)]
            for start in copies:
                stored[start + len(wanted) - 1] ^= 0x10
            if copies:
                path.write_bytes(stored)
                return
        raise AssertionError(f"entry {position} is in no segment")
