"""LmdbLog against a list, through rotation, reopening, crashes and a lost tail."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from profile_actors.config import Config
from profile_actors.errors import CorruptLog, FencedOut
from profile_actors.storage.lmdb_log import LmdbLog
from tests.sim.faulty_log import Crashed

CONFIG = Config(log_segment_bytes=60_000, log_map_bytes=1_200_000)
POINTS = (
    "log.rotate.segment_made",
    "log.rotate.manifest_aside",
    "log.rotate.manifest_renamed",
    "log.before_put",
    "log.before_commit",
    "log.after_commit",
)


class LogMachine(RuleBasedStateMachine):
    """The log is its list, whatever happens to the process; a lost tail shortens both alike."""

    def __init__(self) -> None:
        super().__init__()
        self.root = Path(tempfile.mkdtemp(prefix="log"))
        self.crash_at: str | None = None
        self.generation = 0
        self.model: list[bytes] = []
        self.copied: tuple[Path, int] | None = None
        self.opened = 0

    @property
    def directory(self) -> Path:
        return self.root / f"partition-{self.generation}"

    @initialize()
    def start(self) -> None:
        self.open()

    def open(self) -> None:
        self.opened += 1
        self.log = LmdbLog(
            self.directory, CONFIG, epoch=self.opened, lock_wait_s=0.1, crash_point=self.hook
        )

    def hook(self, name: str) -> None:
        if name == self.crash_at:
            raise Crashed(name)

    @rule(size=st.sampled_from((0, 1, 500, 2_020, 4_079, 20_000)), seed=st.integers(0, 255))
    def append(self, size: int, seed: int) -> None:
        value = bytes([seed]) * size
        self.log.append_at(len(self.model), [value[:7], value[7:]], self.opened)
        self.model.append(value)

    @rule(count=st.integers(1, 12))
    def append_many(self, count: int) -> None:
        for _ in range(count):
            self.append(9_000, len(self.model) % 256)

    @rule()
    def reopen(self) -> None:
        self.log.close()
        self.open()

    @rule(point=st.sampled_from(POINTS), seed=st.integers(0, 255))
    def crash(self, point: str, seed: int) -> None:
        self.crash_at = point
        value = bytes([seed]) * 3_000
        try:
            self.log.append_at(len(self.model), [value], self.opened)
            self.model.append(value)  # the point was not on this append's way
        except Crashed:
            if point == "log.after_commit":
                self.model.append(value)
        self.crash_at = None
        self.log.close()
        self.open()

    @rule()
    def remember(self) -> None:
        """What a disk holds at some moment."""
        self.log.close()
        copy = self.root / "copy"
        shutil.rmtree(copy, ignore_errors=True)
        shutil.copytree(self.directory, copy)
        self.copied = (copy, len(self.model))
        self.open()

    @precondition(lambda self: self.copied is not None)
    @rule()
    def lose_tail(self) -> None:
        """A disk that lied: all that was written after a moment is gone."""
        assert self.copied is not None
        self.log.close()
        copy, count = self.copied
        self.generation += 1
        shutil.copytree(copy, self.directory)
        del self.model[count:]
        self.open()

    @rule(name=st.sampled_from(("manifest.json.aside", "segment-00000000000000999999")))
    def half_written(self, name: str) -> None:
        """What a killed rotation may leave beside the log."""
        self.log.close()
        path = self.directory / "log" / name
        if name.startswith("segment"):
            path.mkdir()
            (path / "data.mdb").write_bytes(b"\0" * 100)
        else:
            path.write_bytes(b'{"segm')
        self.open()
        assert not path.exists()

    @rule()
    def second_writer(self) -> None:
        with pytest.raises(FencedOut, match=str(os.getpid())):
            LmdbLog(self.directory, CONFIG, epoch=self.opened + 1, lock_wait_s=0.0)

    @rule(offset=st.sampled_from((-1, 1, 5)))
    def wrong_position(self, offset: int) -> None:
        position = len(self.model) + offset
        if position >= 0:
            with pytest.raises(CorruptLog):
                self.log.append_at(position, [b"wrong"], self.opened)

    @invariant()
    def is_the_list(self) -> None:
        if self.opened:
            assert self.log.head() == len(self.model)
            for position, value in enumerate(self.model):
                with self.log.view(position) as view:
                    assert view == value
            assert list(self.log.verify()) == []

    def teardown(self) -> None:
        if self.opened:
            self.log.close()
        shutil.rmtree(self.root)


LogMachine.TestCase.settings = settings(
    max_examples=30, stateful_step_count=25, deadline=None, parent=settings()
)
TestLogModel = LogMachine.TestCase
