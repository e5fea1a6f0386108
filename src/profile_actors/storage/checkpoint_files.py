"""Checkpoints of the fold, and runs of the row locator, as checksummed Arrow files.

Theory: a checkpoint is written aside, synced, renamed, and its directory synced; the two newest
stay. So after a crash there is always the older one, and a damaged one costs only a longer replay.
Runs are immutable: written once, mapped read-only, dropped when no checkpoint or state names them.

Rules for editors: nothing here is the truth; every file may be deleted when no process has the
partition open, and the log gives the same answers.

Limits: one object per directory; open it after the log, whose lock keeps other processes out.
"""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np

from profile_actors.engine.log.ports import Arrays
from profile_actors.errors import CorruptLog
from profile_actors.storage.files.array_files import map_arrays, read_arrays, write_arrays
from profile_actors.storage.files.atomic_files import (
    CrashPoint,
    aside_of,
    failed_write,
    make_directory,
    no_crash,
    publish_aside,
    remove_asides,
)
from profile_actors.storage.files.layout import PartitionLayout

CHECKPOINTS_KEPT = 2


SUFFIX = ".arrow"


CHECKPOINT_NAME = re.compile(r"checkpoint-(\d{20})\.arrow")


META = "@meta"
"""Name of the array that holds a checkpoint's meta bytes; refused as a caller's name."""


def newest_position(directory: Path) -> int:
    """The position of the newest checkpoint in a sequencer's directory, 0 without one."""
    names = [path.name for path in PartitionLayout(directory).checkpoints.glob(f"*{SUFFIX}")]
    found = [CHECKPOINT_NAME.fullmatch(name) for name in names]
    return max((int(one[1]) for one in found if one is not None), default=0)


class FileCheckpoints:
    """Checkpoints (``engine/log/ports.py``) in its ``checkpoints`` and ``runs``.

    directory: the partition's. damaged: one sentence per checkpoint that ``load`` skipped.
    """

    def __init__(self, directory: Path | str, *, crash_point: CrashPoint = no_crash) -> None:
        paths = PartitionLayout(Path(directory))
        self._checkpoints = paths.checkpoints
        self._runs = paths.runs
        self._crash_point = crash_point
        self._verified_runs: set[str] = set()
        self.damaged: list[str] = []
        for path in (self._checkpoints, self._runs):
            make_directory(path)
            remove_asides(path)

    def _newest_first(self) -> list[Path]:
        return sorted(self._checkpoints.glob(f"checkpoint-*{SUFFIX}"), reverse=True)

    def save(self, position: int, meta: bytes, arrays: Arrays) -> None:
        """Write a checkpoint durably and keep the two newest.

        arrays: not to be changed until it returns. May run beside the writer thread, one save at a
        time. Cost: one hash pass, one write, one fsync. Raises StorageFull, CorruptLog.
        """
        assert META not in arrays, f"{META!r} is reserved"
        path = self._checkpoints / f"checkpoint-{position:020d}{SUFFIX}"
        held = {META: np.frombuffer(meta, np.uint8), **arrays}
        self._write(path, position, held, "checkpoint.")
        for old in self._newest_first()[CHECKPOINTS_KEPT:]:
            old.unlink()

    def _write(self, path: Path, position: int, arrays: Arrays, label: str) -> None:
        try:
            write_arrays(path, position, arrays, lambda: self._crash_point(f"{label}half_written"))
            publish_aside(path, self._crash_point, label)
        except OSError as error:
            aside_of(path).unlink(missing_ok=True)
            raise failed_write(error, str(path)) from error

    def load(self) -> tuple[int, bytes, dict[str, np.ndarray]] | None:
        """The newest whole checkpoint, arrays owned and writable; damaged ones are skipped.

        Cost: one read and one hash pass.
        """
        self.damaged = []
        for path in self._newest_first():
            try:
                position, arrays = read_arrays(path)
                meta = arrays.pop(META).tobytes()
            except (CorruptLog, KeyError) as error:
                self.damaged.append(str(error))
                continue
            return position, meta, arrays
        return None

    def _run_path(self, name: str) -> Path:
        assert re.fullmatch(r"\w[\w.-]*", name), name
        return self._runs / f"{name}{SUFFIX}"

    def save_run(self, name: str, arrays: Arrays) -> None:
        """Write an immutable run durably; the same name is never written with other arrays.

        Raises StorageFull, CorruptLog.
        """
        self._verified_runs.discard(name)
        self._write(self._run_path(name), 0, arrays, "run.")

    def load_run(self, name: str) -> dict[str, np.ndarray]:
        """Read-only arrays mapped from the file, verified at their first loading by this object.

        They stay readable after ``drop_runs``. Raises CorruptLog, also if there is no such run.
        """
        arrays = map_arrays(self._run_path(name), verify=name not in self._verified_runs)
        self._verified_runs.add(name)
        return arrays

    def drop_runs(self, keep: set[str]) -> None:
        """Delete all runs but those named."""
        for path in self._runs.glob(f"*{SUFFIX}"):
            if path.name.removesuffix(SUFFIX) not in keep:
                path.unlink()
                self._verified_runs.discard(path.name.removesuffix(SUFFIX))
