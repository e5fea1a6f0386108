"""SIGKILL at named points and under load: acked is in the log, the log in what was sent, in order.

Limit: SIGKILL does not lose the page cache, so this says nothing about power loss.
"""

from __future__ import annotations

import itertools
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from profile_actors.errors import FencedOut
from profile_actors.storage.checkpoint_files import FileCheckpoints
from profile_actors.storage.lmdb_log import LmdbLog
from tests.crash.log_child import CONFIG, arrays, entry
from tests.waiting import PATIENCE_S

ROOT = Path(__file__).resolve().parents[2]
ENVIRONMENT = {**os.environ, "PYTHONPATH": os.pathsep.join([*sys.path, str(ROOT)])}


def start(
    directory: Path, mode: str, epoch: int, point: str = "-", after: int = 0
) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "tests.crash.log_child"]
    return subprocess.Popen(
        [*command, str(directory), mode, str(epoch), point, str(after)],
        stdout=subprocess.PIPE,
        bufsize=0,  # a line read first takes no further lines out of sight of ``communicate``
        cwd=ROOT,
        env=ENVIRONMENT,
    )


def end(child: subprocess.Popen[bytes]) -> dict[str, list[int]]:
    """What a child said, once it is dead by SIGKILL."""
    out = child.communicate(timeout=PATIENCE_S)[0].decode()
    assert child.returncode == -signal.SIGKILL, out[-200:]
    said: dict[str, list[int]] = {"head": [], "sent": [], "acked": []}
    for line in out.splitlines():
        word, number = line.split()
        said[word].append(int(number))
    return said


def check_log(directory: Path, epoch: int, said: dict[str, list[int]], least: int) -> int:
    """Reopen, compare with what the child said, and return the head."""
    log = LmdbLog(directory, CONFIG, epoch=epoch)
    head = log.head()
    assert list(log.verify()) == []
    for position in range(head):
        with log.view(position) as view:
            assert view == entry(position)
    acked = max(said["acked"], default=least - 1) + 1
    sent = max(said["sent"], default=least - 1) + 1
    assert least <= acked <= head <= sent <= acked + 1
    log.close()
    return head


@pytest.mark.parametrize("after", [1, 8])
@pytest.mark.parametrize(
    "point",
    [
        "log.before_put",
        "log.before_commit",
        "log.after_commit",
        "log.rotate.segment_made",
        "log.rotate.manifest_aside",
        "log.rotate.manifest_renamed",
    ],
)
def test_killed_at_a_point(tmp_path: Path, point: str, after: int) -> None:
    head = 0
    # Twice: the second child starts on what the first one's death left.
    for epoch in (1, 3):
        said = end(start(tmp_path, "log", epoch, point, after))
        assert said["head"] == [head]
        reached = check_log(tmp_path, epoch + 1, said, head)
        assert reached == len(said["acked"]) + head + (point == "log.after_commit")
        head = reached


def test_killed_at_any_moment_under_load(tmp_path: Path) -> None:
    head, delays_s = 0, [0.0, 0.003, 0.011, 0.05, 0.12]
    for round_ in itertools.count():
        delay_s = delays_s[round_] if round_ < len(delays_s) else 1.0  # of a disk that is slow
        child = start(tmp_path, "log", 2 * round_ + 1)
        assert child.stdout is not None
        child.stdout.readline()  # its log is open
        time.sleep(delay_s)
        child.kill()
        said = end(child)
        head = check_log(tmp_path, 2 * round_ + 2, said, head)
        if head > 10 and round_ + 1 >= len(delays_s):
            break


@pytest.mark.parametrize("after", [1, 5])
@pytest.mark.parametrize(
    "point",
    ["checkpoint.half_written", "checkpoint.aside", "checkpoint.renamed", "run.aside"],
)
def test_killed_while_saving(tmp_path: Path, point: str, after: int) -> None:
    said = end(start(tmp_path, "checkpoint", 1, point, after))
    checkpoints = FileCheckpoints(tmp_path)
    found = checkpoints.load()
    assert found is not None
    position, meta, state = found
    last = said["acked"][-1]
    is_saved = point in ("checkpoint.renamed", "run.aside")
    assert position == last + 1 if is_saved else position == last
    assert meta == f"meta {position}".encode()
    for name, wanted in arrays(position).items():
        np.testing.assert_array_equal(state[name], wanted)
    run = checkpoints.load_run(f"run-{last}")
    np.testing.assert_array_equal(run["n"], arrays(last)["n"])
    assert not list(tmp_path.rglob("*.aside"))
    assert checkpoints.damaged == []


def test_second_process_is_fenced_out_until_the_first_dies(tmp_path: Path) -> None:
    child = start(tmp_path, "log", 1)
    assert child.stdout is not None
    child.stdout.readline()
    with pytest.raises(FencedOut, match=f"process {child.pid}"):
        LmdbLog(tmp_path, CONFIG, epoch=2, lock_wait_s=0.1)
    os.kill(child.pid, signal.SIGKILL)
    # No waiting for the child here: the retry of the lock is what waits.
    LmdbLog(tmp_path, CONFIG, epoch=2).close()
    end(child)


def test_zombie_without_its_lock_is_fenced_out_by_the_epoch(tmp_path: Path) -> None:
    child = start(tmp_path, "log", 1)
    assert child.stdout is not None
    child.stdout.readline()
    (tmp_path / "lock").unlink()  # somebody cleans up what looks stale
    log = LmdbLog(tmp_path, CONFIG, epoch=2)
    out = child.communicate(timeout=PATIENCE_S)[0].decode()
    assert child.returncode == 1
    acked = sum(line.startswith("acked") for line in out.splitlines())
    # The zombie may have written between the opening's reading of the head and its own next append
    # never: recording the epoch comes first, so nothing of the zombie's comes after it.
    assert log.head() == acked
    log.append_at(acked, [entry(acked)], 2)
    assert list(log.verify()) == []
    log.close()


def test_full_disk_halts_and_keeps_what_was_acked(tmp_path: Path) -> None:
    """A file size limit stands for the full disk: the same failing write inside the commit."""
    code = f"""
import resource, sys
from tests.crash.log_child import CONFIG, entry
from profile_actors.errors import StorageFull
from profile_actors.storage.lmdb_log import LmdbLog
log = LmdbLog({str(tmp_path)!r}, CONFIG, epoch=1)
log.append_at(0, [entry(0)], 1)
resource.setrlimit(resource.RLIMIT_FSIZE, (40_000, 40_000))
try:
    for position in range(1, 100):
        log.append_at(position, [entry(position)], 1)
except StorageFull as error:
    first = error
for _ in range(2):
    try:
        log.append_at(log.head(), [b'small'], 1)
    except StorageFull as error:
        assert error is first
    else:
        sys.exit('wrote after a failed commit')
for position in range(log.head()):
    with log.view(position) as view:
        assert view == entry(position)
print(log.head())
"""
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        cwd=ROOT,
        check=False,
        env=ENVIRONMENT,
    )
    assert done.returncode == 0, done.stderr
    head = int(done.stdout)
    log = LmdbLog(tmp_path, CONFIG, epoch=2)
    assert 1 < head <= log.head() <= head + 1
    log.append_at(log.head(), [entry(log.head())], 2)
    assert list(log.verify()) == []
    log.close()
