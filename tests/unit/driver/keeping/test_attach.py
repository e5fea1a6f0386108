"""``attach.json``: believed while its writer lives and keeps the store, and never after that."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
import ray

from profile_actors.actors.calls import Session
from profile_actors.driver.keeping.attach import (
    found_running,
    publish,
    refuse_attached,
    running,
    token_of,
    withdraw,
    written,
)
from profile_actors.driver.keeping.runtime import Runtime
from profile_actors.errors import ConfigError, FencedOut, StorageFull, StoreUnavailable
from profile_actors.storage.files.layout import StoreLayout
from profile_actors.storage.files.lock import DirectoryLock, start_ticks

TOKEN = "5e" * 32


@pytest.fixture
def kept(tmp_path: Path) -> Iterator[DirectoryLock]:
    """A store that this process keeps and has published."""
    StoreLayout(tmp_path).settings.write_text("{}")
    lock = DirectoryLock(StoreLayout(tmp_path).keeper, 0.1)
    publish(tmp_path, "the-store", "127.0.0.1:1", TOKEN, os.getpid(), is_keeper=True)
    yield lock
    lock.release()


def alter(data: Path, **values: Any) -> None:
    path = StoreLayout(data).attach
    path.write_bytes(msgspec.json.encode(msgspec.json.decode(path.read_bytes()) | values))


def test_what_is_published_is_found_and_private(tmp_path: Path, kept: DirectoryLock) -> None:
    found = found_running(tmp_path)
    assert (found.store, found.address, found.pid) == ("the-store", "127.0.0.1:1", os.getpid())
    assert found.host == socket.gethostname()
    assert token_of(found) == TOKEN
    for path in (StoreLayout(tmp_path).attach, StoreLayout(tmp_path).token):
        assert path.stat().st_mode & 0o777 == 0o600
    assert TOKEN not in StoreLayout(tmp_path).attach.read_text()
    with pytest.raises(FencedOut, match=rf"process {os.getpid()} since .* use pf\.connect"):
        refuse_attached(tmp_path)
    withdraw(tmp_path)
    assert running(tmp_path) is None
    assert not StoreLayout(tmp_path).token.exists()
    refuse_attached(tmp_path)
    with pytest.raises(StoreUnavailable, match=f"held by process {os.getpid()}"):
        found_running(tmp_path)  # it is just closing


@pytest.mark.parametrize(
    "values",
    [
        {"start_ticks": 7}, {"pid": 2**22 + 1}, {"pid": 1}, {"boot": "an earlier one"},
        {"format": 2}, {"pid": "no number"}, {"start_ticks": 0, "pid": 2**22 + 1},
    ],
    ids=["number given again", "gone", "another process", "reboot", "newer", "damaged", "no /proc"],
)  # fmt: skip
def test_a_file_that_was_left_behind_is_not_believed(
    tmp_path: Path, kept: DirectoryLock, values: dict[str, Any]
) -> None:
    alter(tmp_path, **values)
    assert running(tmp_path) is None
    refuse_attached(tmp_path)
    with pytest.raises(StoreUnavailable):
        found_running(tmp_path)


def test_a_store_that_nobody_keeps_does_not_run(tmp_path: Path, kept: DirectoryLock) -> None:
    kept.release()  # the process lives, the file is there
    assert running(tmp_path) is None
    with pytest.raises(StoreUnavailable, match=rf"got none \(process {os.getpid()} since"):
        found_running(tmp_path)


def test_a_process_that_has_ended_and_that_nobody_has_waited_for_is_none(tmp_path: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as other:
        StoreLayout(tmp_path).settings.write_text("{}")
        lock = DirectoryLock(StoreLayout(tmp_path).keeper, 0.1)
        publish(tmp_path, "s", "127.0.0.1:1", TOKEN, other.pid, is_keeper=True)
        found = running(tmp_path)
        assert found is not None
        assert found.start_ticks == start_ticks(other.pid)
        other.kill()
        assert other.stdin is not None
        os.waitid(os.P_PID, other.pid, os.WEXITED | os.WNOWAIT)
        assert running(tmp_path) is None
        lock.release()


def test_a_token_that_is_missing_or_no_token_is_said_at_once(
    tmp_path: Path, kept: DirectoryLock
) -> None:
    found = found_running(tmp_path)
    token = StoreLayout(tmp_path).token
    for content in (None, b"", b"\xff\xfe"):
        token.unlink() if content is None else token.write_bytes(content)
        with pytest.raises(ConfigError, match=r"expected the token .*/attach\.token") as error:
            token_of(found)
        assert TOKEN not in str(error.value)


@pytest.mark.parametrize(
    ("values", "text"),
    [
        (
            {"protocol": 2, "versions": {"profile-actors": "7.5"}},
            "by profile-actors 7.5 (protocol 2)",
        ),
        ({"protocol": None, "versions": None}, "by profile-actors of before (protocol 0)"),
        ({"versions": {"ray": "2.61.1"}}, "ray 2.61.1 (protocol 1)"),
        ({"versions": {"ray": ray.__version__, "python": "3.99"}}, "python 3.99 (protocol 1)"),
    ],
    ids=["newer", "older", "another ray", "another python"],
)
def test_a_store_of_another_release_is_told_at_once(
    tmp_path: Path, kept: DirectoryLock, values: dict[str, Any], text: str
) -> None:
    """Before Ray is asked, which would wait; it can still be stopped."""
    path = StoreLayout(tmp_path).attach
    known = msgspec.json.decode(path.read_bytes()) | values
    path.write_bytes(
        msgspec.json.encode({name: one for name, one in known.items() if one is not None})
    )
    found = found_running(tmp_path)
    assert (found.pid, found.is_keeper) == (os.getpid(), True)
    with pytest.raises(ConfigError) as error:
        Runtime().attach(tmp_path, found, Session(str(tmp_path)), 60.0)
    assert text in str(error.value)
    assert f"process {os.getpid()} since" in str(error.value)


def test_where_there_is_no_store_nothing_runs(tmp_path: Path) -> None:
    assert running(tmp_path / "none") is None
    assert written(tmp_path) is None
    with pytest.raises(ConfigError, match=r"no store\.json"):
        found_running(tmp_path)


def test_a_full_disk_publishes_nothing(tmp_path: Path) -> None:
    place = tmp_path / "disk"
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=4k", "tmpfs", str(place)]
    try:
        subprocess.run(mount, check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("this machine does not let the tests mount a file system")
    try:
        (place / "ballast").write_bytes(bytes(4096))
        with pytest.raises(StorageFull, match=r"attach\.json"):
            publish(place, "s", "127.0.0.1:1", TOKEN, os.getpid(), is_keeper=True)
        assert sorted(path.name for path in place.iterdir() if path.suffix != ".aside") == [
            "ballast"
        ]
    finally:
        subprocess.run(["umount", "-l", str(place)], check=True)
