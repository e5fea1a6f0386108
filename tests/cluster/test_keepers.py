"""Whose Ray, whose store: a process stops only what it started; one keeper per directory."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

import profile_actors as pf
from profile_actors.storage.files.layout import StoreLayout
from profile_actors.storage.files.lock import DirectoryLock
from tests.cluster.keeping import own_ray, processes_of
from tests.cluster.shop import orders, shop
from tests.waiting import PATIENCE_S, PROMPT_S, until

pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("ray_runtime")]

PRELUDE = """
import json, os, signal, sys, threading, time
from pathlib import Path
import ray
import profile_actors as pf
from tests.cluster.shop import orders, shop
from tests.waiting import PATIENCE_S, PROMPT_S, until
here = Path(sys.argv[1])
seen = {}
def refused(path):
    pf.start  # what it imports, Ray with it, takes as long as the machine is busy
    began = time.monotonic()
    try:
        pf.start(path)
    except pf.ProfileActorsError as error:
        return [type(error).__name__, str(error), time.monotonic() - began]
    return ["", "started", 0.0]
"""

# Everything that a process does with a Ray of its own, in one start of Ray.
ALONE = """
first = pf.start(here / "a", 1, "event")
seen["token"] = os.environ.get("RAY_AUTH_TOKEN", "") != ""
first.apply(*shop())
first.submit("orders", orders(20))
seen["again"] = refused(here / "a")
reader, writer = os.pipe()
child = os.fork()
if child == 0:
    try:
        first.close()                       # what leaving the block would do
        use = "silence"
        try:
            first.profile("CRMID", "c0001")
        except pf.StoreUnavailable as error:
            use = str(error)
        answers = [use, refused(here / "a"), refused(here / "elsewhere")]
        os.write(writer, json.dumps(answers).encode() + b"\\n")
    finally:
        os._exit(0)
seen["fork"] = json.loads(os.fdopen(reader).readline())
os.waitpid(child, 0)
got = []
threads = [threading.Thread(target=lambda: got.append(refused(here / "a"))) for _ in range(3)]
[t.start() for t in threads]; [t.join() for t in threads]
seen["threads"] = got
print("ready", flush=True)
sys.stdin.readline()
second = pf.start(here / "b", 1, "event")
first.close()
first.close()
seen["first left"] = ray.is_initialized()
seen["second goes on"] = second.apply(*shop())
second.close()
seen["both left"] = ray.is_initialized()
seen["reopened"] = "yes"
print(json.dumps(seen), flush=True)
"""

# A Ray that cannot begin, and one that fails when its first processes are there.
NO_RAY = """
def children():
    listed = Path(f"/proc/{os.getpid()}/task/{os.getpid()}/children").read_text().split()
    return [Path(f"/proc/{pid}/comm").read_text() for pid in listed]
temp = os.environ["RAY_TMPDIR"]
(here / "file").touch()
for place, room in ((here / "file", 100), (temp, 1)):
    os.environ["RAY_TMPDIR"] = str(place)
    try:
        pf.start(here / "s", config=pf.Config(object_store_mb=room))
    except pf.ProfileActorsError as error:
        seen[str(place)] = [type(error).__name__, str(error), children(), ray.is_initialized()]
print(json.dumps(seen))
"""

REFUSED = """
print(json.dumps(refused(here / "a") + [ray.is_initialized()]))
"""

LOST = """
began = time.monotonic()
try:
    pf.start(here / "s", config=pf.Config(call_timeout_s=4.0))
except pf.ProfileActorsError as error:
    print(json.dumps([type(error).__name__, str(error), time.monotonic() - began]))
"""

# A driver of the cluster that RAY_ADDRESS names.
JOINS = """
with pf.start(here / "shared", 1, "event") as store:
    store.apply(*shop())
    seen["receipt"] = store.submit("orders", orders(30)).accepted
    seen["events"] = store.status().events
seen["connected"] = ray.is_initialized()
print(json.dumps(seen))
"""

# A program that has initialised Ray by itself, at the same cluster.
JOINED_ALREADY = """
ray.init(address=os.environ.pop("RAY_ADDRESS"), log_to_driver=False, logging_level="ERROR")
with pf.start(here / "shared") as store, pf.start(here / "mine", 1, "event") as mine:
    mine.apply(*shop())
    seen["events"] = store.status().events
seen["connected"] = ray.is_initialized()
print(json.dumps(seen))
"""


def child(code: str, here: Path, **environment: str) -> subprocess.Popen[str]:
    own = {name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"}
    return subprocess.Popen(
        [sys.executable, "-c", PRELUDE + code, str(here)],
        env=own | environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip


def said(process: subprocess.Popen[str]) -> Any:
    """The last line that a child prints, as JSON."""
    out, _ = process.communicate(timeout=300)
    assert process.returncode == 0
    return json.loads(out.splitlines()[-1])


def address() -> str:
    import ray

    return str(ray.get_runtime_context().gcs_address)


@pytest.fixture
def short(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A short path for Ray's sockets, with the address of a cluster that somebody left there."""
    import shutil
    import tempfile

    path = Path(tempfile.mkdtemp(prefix="pk", dir="/tmp"))
    (path / "ray").mkdir()
    (path / "ray" / "ray_current_cluster").write_text("127.0.0.1:6399")
    yield path
    shutil.rmtree(path, ignore_errors=True)


def test_a_process_without_ray_starts_and_ends_its_own(tmp_path: Path, short: Path) -> None:
    with child(ALONE, tmp_path, RAY_TMPDIR=str(short)) as keeper:
        assert keeper.stdout is not None
        assert keeper.stdin is not None
        assert keeper.stdout.readline() == "ready\n"
        # Of Ray's processes only those that a store needs: a release that starts others is felt.
        text = "\n".join(line.partition(" ")[2] for line in processes_of(str(short)))
        assert "gcs_server" in text
        assert "raylet/raylet" in text
        for needless in ("monitor.py", "dashboard.py"):
            assert needless not in text
        # Another process is refused before it starts anything, with who and since when.
        kind, text, seconds, is_initialized = said(child(REFUSED, tmp_path))
        assert kind == "FencedOut"
        assert re.search(rf"process {keeper.pid} since \d{{4}}-\d\d-\d\d \d\d:\d\d:\d\d", text)
        assert seconds < PROMPT_S
        assert not is_initialized
        out, _ = keeper.communicate("go on\n", timeout=300)
    seen = json.loads(out.splitlines()[-1])
    kind, text, seconds = seen["again"]
    assert kind == "ConfigError"
    assert f"process {keeper.pid} has open since" in text
    assert seconds < PROMPT_S
    use, again, elsewhere = seen["fork"]
    assert "fork" in use
    assert again[0] == "FencedOut"
    assert f"process {keeper.pid} since" in again[1]
    assert elsewhere[0] == "ConfigError"
    assert "spawn" in elsewhere[1]
    assert [kind for kind, _, _ in seen["threads"]] == ["ConfigError"] * 3
    assert seen["token"]
    assert seen["first left"]
    assert seen["second goes on"] == 1
    assert not seen["both left"]
    with pf.start(tmp_path / "a") as store:  # nothing is held any more, and nothing was lost
        assert store.status().events == 20


def test_a_cluster_store_stays_up_whoever_leaves_it(tmp_path: Path, short: Path) -> None:
    import ray

    (short / "ray" / "ray_current_cluster").write_text(address())
    auto = {"RAY_ADDRESS": "auto", "RAY_TMPDIR": str(short)}
    place = {"RAY_ADDRESS": address()}
    seen = said(child(JOINS, tmp_path, **place))
    assert seen == {"receipt": 30, "events": 30, "connected": False}
    try:
        # The same program again finds it running; so does one that brought Ray along.
        assert said(child(JOINS, tmp_path, **auto))["receipt"] == 0
        assert said(child(JOINED_ALREADY, tmp_path, **place)) == {"events": 30, "connected": True}
        # Ray's head is in this process, but the store is not its own.
        with pf.start(tmp_path / "shared") as store:
            assert store.status().events == 30
            keeper = store._connection.coordinator.call("pid")
        with pf.start(tmp_path / "shared") as store:
            assert store._connection.coordinator.call("pid") == keeper
        # Elsewhere than on this cluster nobody may open it meanwhile.
        (tmp_path / "a").symlink_to(tmp_path / "shared")
        kind, text, seconds, is_initialized = said(child(REFUSED, tmp_path))
        assert (kind, is_initialized) == ("FencedOut", False)
        assert f"process {keeper} since" in text
        assert seconds < PROMPT_S
        # A keeper that is killed comes again, and keeps.
        os.kill(keeper, signal.SIGKILL)
        with pf.start(tmp_path / "shared") as store:
            again = store._connection.coordinator.call("pid")
        assert again != keeper
        with pytest.raises(pf.FencedOut, match=f"process {again} since"):
            DirectoryLock(StoreLayout(tmp_path / "shared").keeper, 0.1)
    finally:
        for found in ray.util.list_named_actors(all_namespaces=True):
            with suppress(ValueError):  # it has just ended
                ray.kill(ray.get_actor(**found))


def test_a_program_keeps_the_ray_it_initialised(tmp_path: Path) -> None:
    import ray

    with pf.start(tmp_path / "a", 1, "event"), pf.start(tmp_path / "b", 1, "event") as other:
        other.apply(*shop())
    assert ray.is_initialized()
    with pf.start(tmp_path / "b") as other:
        other.submit("orders", orders(5))
        with pytest.raises(pf.ConfigError, match=f"process {os.getpid()} has open since"):
            pf.start(tmp_path / "b")
    DirectoryLock(StoreLayout(tmp_path / "b").keeper, 0.1).release()


def test_a_start_that_fails_leaves_nothing_behind(tmp_path: Path) -> None:
    import ray

    with pf.start(tmp_path / "s", 1, "event") as store:
        store.apply(*shop())
        store.submit("orders", orders(5))
    catalogue = StoreLayout(tmp_path / "s").catalogue / "data.mdb"
    kept = catalogue.read_bytes()
    catalogue.write_bytes(b"\0" * len(kept))
    for place in ({}, {"RAY_ADDRESS": address()}):
        if place:
            (tmp_path / "a").symlink_to(tmp_path / "s")
            assert said(child(REFUSED, tmp_path, **place))[0] == "CorruptLog"
        else:
            with pytest.raises(pf.CorruptLog):
                pf.start(tmp_path / "s")
        until(lambda: not ray.util.list_named_actors(all_namespaces=True))
        DirectoryLock(StoreLayout(tmp_path / "s").keeper, PATIENCE_S).release()
    catalogue.write_bytes(kept)
    with pf.start(tmp_path / "s") as store:
        assert store.status().events == 5


def test_a_ray_that_does_not_start_is_one_sentence_and_leaves_no_process(
    tmp_path: Path, short: Path
) -> None:
    seen = said(child(NO_RAY, tmp_path, RAY_TMPDIR=str(short)))
    for place, why in ((tmp_path / "file", "Not a directory"), (short, "the minimum allowed")):
        kind, text, children, is_initialized = seen[str(place)]
        assert (kind, children, is_initialized) == ("StoreUnavailable", [], False)
        assert why in text
        assert f"at start with Ray's files in {place}; " in text
        assert "RAY_TMPDIR" in text
        assert "Config.object_store_mb" in text
        assert "\n" not in text
    DirectoryLock(StoreLayout(tmp_path / "s").keeper, 0.0).release()


def test_a_wrong_port_of_a_cluster_is_one_sentence(tmp_path: Path) -> None:
    import ray

    nodes: Any = ray.nodes
    (node,) = nodes()
    # It speaks gRPC, but is no head: only Ray's own question finds out.
    place = f"{node['NodeManagerAddress']}:{node['NodeManagerPort']}"
    kind, text, seconds = said(child(LOST, tmp_path, RAY_ADDRESS=place))
    assert kind == "StoreUnavailable"
    assert place in text
    assert "\n" not in text
    assert seconds < PROMPT_S


def test_the_command_line_says_a_lost_cluster_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "store.json").write_text("{}")
    done = subprocess.run(
        [sys.executable, "-c", "from profile_actors.cli import main; main()", "status",
         "--data", str(tmp_path)],
        env=os.environ | {"RAY_ADDRESS": "127.0.0.1:1"}, capture_output=True, text=True,
        timeout=PATIENCE_S,
    )  # fmt: skip
    assert done.returncode == 1
    assert done.stderr.startswith("StoreUnavailable: expected a Ray cluster")
    assert done.stderr.count("\n") == 1


def test_interrupts_while_ray_starts_end_the_call_in_order(tmp_path: Path) -> None:
    """Ray that is left in the midst of its start would crash the process at its end."""
    file = tmp_path / "definitions.yaml"
    file.write_text("namespaces: {CRMID: {kind: cross_device}}")
    words = ("apply", file, "--data", tmp_path / "s")
    with own_ray() as env:
        child = subprocess.Popen(
            [sys.executable, "-m", "profile_actors", *map(str, words)], env=env,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True,
        )  # fmt: skip
        until(lambda: len(processes_of(env["RAY_TMPDIR"])) >= 3)  # itself, and two of Ray's
        for _ in range(3):  # to all of a terminal's, as Ctrl-C goes
            os.killpg(child.pid, signal.SIGINT)
            time.sleep(0.2)
        printed, _ = child.communicate(timeout=120)
        assert child.returncode == 130, printed
