"""The lock of a directory: one owner, named with process and since when; nothing stale stops."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import threading
from datetime import UTC, datetime
from pathlib import Path

import pytest

from profile_actors.errors import FencedOut
from profile_actors.storage.files.lock import DirectoryLock

HOLD = """
import sys
from pathlib import Path
from profile_actors.storage.files.lock import DirectoryLock
lock = DirectoryLock(Path(sys.argv[1]), 0.1)
print("held", flush=True)
sys.stdin.read()
"""


def held(path: Path) -> subprocess.Popen[str]:
    """Another process that holds the lock until its input ends."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(path)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    return process


def test_a_second_owner_is_told_the_process_and_since_when(tmp_path: Path) -> None:
    path = tmp_path / "keeper.lock"
    began = datetime.now(UTC).replace(microsecond=0)
    with held(path) as other:
        with pytest.raises(FencedOut) as refusal:
            DirectoryLock(path, 0.1)
        found = re.search(r"process (\d+) since (.{19}) UTC", str(refusal.value))
        assert found is not None, str(refusal.value)
        assert int(found[1]) == other.pid
        since = datetime.strptime(found[2] + "+0000", "%Y-%m-%d %H:%M:%S%z")
        assert began <= since <= datetime.now(UTC)
        other.send_signal(signal.SIGKILL)
        other.wait(10)
        DirectoryLock(path, 1.0).release()  # what the killed one left behind stops nobody


@pytest.mark.parametrize("umask", [0o000, 0o022, 0o777])
def test_the_file_is_its_owners_alone(tmp_path: Path, umask: int) -> None:
    before = os.umask(umask)
    try:
        lock = DirectoryLock(tmp_path / "lock", 0.1)
    finally:
        os.umask(before)
    assert (tmp_path / "lock").stat().st_mode & 0o777 == 0o600
    lock.release()


@pytest.mark.parametrize(
    "left",
    [
        b"", b"12345\n", b"\xff\x00 no JSON", b'{"pid":1}',
        json.dumps({"pid": os.getpid(), "start_ticks": 7}).encode(),
        json.dumps({"pid": 2**22 + 1, "start_ticks": 7}).encode(),
    ],
    ids=["empty", "older release", "damaged", "half", "number given again", "process gone"],
)  # fmt: skip
def test_what_stands_in_a_free_file_stops_nobody_and_in_a_held_one_is_not_believed(
    tmp_path: Path, left: bytes
) -> None:
    path = tmp_path / "lock"
    path.write_bytes(left)
    lock = DirectoryLock(path, 0.1)
    path.write_bytes(left)
    with pytest.raises(FencedOut) as refusal:
        DirectoryLock(path, 0.1)
    assert f"process {os.getpid()} since" not in str(refusal.value)
    lock.release()
    DirectoryLock(path, 0.1).release()


def test_a_forked_child_neither_has_the_lock_nor_keeps_it(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    lock = DirectoryLock(path, 0.1)
    checked, tell_checked = os.pipe()
    ended, tell_ended = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            lock.release()  # what a ``with`` block would do in the child
            try:
                DirectoryLock(path, 0.1)
            except FencedOut as refusal:
                is_told = f"process {os.getppid()} since" in str(refusal)
                os.write(tell_checked, b"+" if is_told else b"-")
            else:
                os.write(tell_checked, b"!")
            os.read(ended, 1)
        finally:
            os._exit(0)
    try:
        assert os.read(checked, 1) == b"+"
        with pytest.raises(FencedOut):
            DirectoryLock(path, 0.1)
        lock.release()
        DirectoryLock(path, 1.0).release()  # while the child still lives
    finally:
        os.write(tell_ended, b"x")
        os.waitpid(child, 0)
        for handle in (checked, tell_checked, ended, tell_ended):
            os.close(handle)


def test_of_many_threads_one_gets_the_lock(tmp_path: Path) -> None:
    got: list[DirectoryLock] = []
    refused: list[FencedOut] = []

    def take() -> None:
        try:
            got.append(DirectoryLock(tmp_path / "lock", 0.1))
        except FencedOut as error:
            refused.append(error)

    threads = [threading.Thread(target=take) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (len(got), len(refused)) == (1, 7)
    got[0].release()
    got[0].release()
    DirectoryLock(tmp_path / "lock", 0.1).release()
