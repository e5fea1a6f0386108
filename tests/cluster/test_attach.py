"""A store that was started to stay up: other processes attach to it, and it ends when told."""

from __future__ import annotations

import json
import os
import re
import shlex
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec
import pytest

from profile_actors.storage.files.layout import StoreLayout
from profile_actors.storage.files.lock import DirectoryLock
from tests.cluster.keeping import ROOT, command, contents, own_ray, program, said, told
from tests.waiting import PROMPT_S

pytestmark = pytest.mark.ray

PRELUDE = """
import json, os, sys, threading, time
from pathlib import Path
import profile_actors as pf
from tests.cluster.shop import orders, shop
here = Path(sys.argv[1])
seen = {}
def refused(call, *words, **options):
    began = time.monotonic()
    try:
        call(*words, **options)
    except pf.ProfileActorsError as error:
        return [type(error).__name__, str(error), time.monotonic() - began]
    return ["", "", 0.0]
"""

# A second driver, which adds what the first does not know; waits to be told.
OTHER = """
with pf.connect(here) as store:
    store.apply(
        pf.Schema("person", behavior="record", fields={"city": "string"}),
        pf.Dataset("people", schema="person", identities={"customer": "CRMID"}),
    )
    store.advance_to(1_770_000_000_000)
    receipts = [store.submit_async("orders", orders(10, first=n)) for n in range(5000, 5500, 10)]
    seen["accepted"] = sum(one.result().accepted for one in receipts)
    seen["asked"] = [store.profile("CRMID", "nobody"), store.members("fresh").count() >= 0]
    seen["asked"].append([store.status().clock, store.changes().cursor != ""])
seen["rooms"] = sorted({name.rpartition(".")[0] for name in sys.modules})
print(json.dumps(seen), flush=True)
"""

# Everything that one driver process does; ``others`` runs beside it.
DRIVER = """
import subprocess
began = time.monotonic()
store = pf.connect(here)
seen["connect"] = time.monotonic() - began
store.apply(*shop())
began = time.monotonic()
again = pf.connect(here)
seen["beside"] = time.monotonic() - began
pending = [store.submit_async("orders", orders(10, first=n)) for n in range(0, 250, 10)]
other = subprocess.Popen([sys.executable, "-c", sys.argv[2], str(here)], stdout=subprocess.PIPE)
pending += [again.submit_async("orders", orders(10, first=n)) for n in range(250, 500, 10)]
seen["accepted"] = sum(one.result().accepted for one in pending)
seen["other"] = json.loads(other.communicate()[0])
# What the other one applied is found; its clock is the store's, not what this driver saw last.
seen["people"] = store.submit("people", [{"customer": "p1", "city": "Rome"}]).accepted
seen["at"] = store.profile("CRMID", "p1").last_modified
with store.stream("people") as stream:
    stream.send({"customer": "p2", "city": "Rome"})
seen["streamed"] = store.profile("CRMID", "p2").last_modified
pid = store._connection.coordinator.call("pid")
store.close()
seen["closed"] = refused(store.status)[0]
seen["beside goes on"] = again.status().events
again.close()
import ray
seen["left"] = not ray.is_initialized()
seen["environment"] = [n for n in os.environ if n.startswith("RAY_AUTH")]
with pf.connect(str(here)) as store:
    seen["same"] = store._connection.coordinator.call("pid") == pid
    seen["config"] = refused(pf.connect, here, config=pf.Config(max_in_flight=3))
    seen["own config"] = refused(pf.connect, here, config=store._connection.config)
    seen["start"] = refused(pf.start, here)
    seen["elsewhere"] = refused(pf.start, here.parent / "elsewhere")
    seen["two rays"] = refused(pf.connect, sys.argv[3])

    @ray.remote
    def in_a_task(path):
        with pf.connect(path) as inside:
            inside.submit("orders", orders(3, first=9000))
            return inside.status().events

    @ray.remote
    class InAnActor:
        def __init__(self, path):
            self.store = pf.connect(path)
        def orders(self):
            return self.store.profile("CRMID", "c0001").computed["orders"]

    seen["task"] = ray.get(in_a_task.remote(str(here)))
    seen["actor"] = ray.get(InAnActor.remote(str(here)).orders.remote())
    seen["orders"] = store.profile("CRMID", "c0001").computed["orders"]
print(json.dumps(seen), flush=True)
"""

# Attached while the store is stopped and started again; what is on its way then is not lost.
STAYS = """
with pf.connect(here) as store:
    for actor in [store._connection.coordinator, *store._connection.partitions]:
        actor.timeout_s = 600.0  # stopping and starting takes as long as the machine is busy
    before = store.status().events
    print("ready", flush=True)
    sys.stdin.readline()
    seen["again"] = store.submit("orders", orders(10, first=20_000)).accepted
    for number in range(21_000, 21_100):  # goes on while the store ends and comes again
        store.submit("orders", orders(1, first=number))
        time.sleep(0.02)
    sys.stdin.readline()
    seen["more"] = store.status().events - before
    seen["verify"] = store.verify()
    print("served", flush=True)
    sys.stdin.readline()
    for actor in [store._connection.coordinator, *store._connection.partitions]:
        actor.timeout_s = 1.0
    seen["stopped"] = refused(store.profile, "CRMID", "c0001")
print(json.dumps(seen), flush=True)
"""


# Reads the feed and says where it is after each change, until it is killed or at the present.
CONSUMER = """
with pf.connect(here) as store:
    feed = store.changes(sys.argv[2] or None)
    before = feed.cursor
    for one in feed:
        # The cursor says, per partition, an entry and how many of its changes were delivered.
        entry, number = map(int, before.split("-")[one.partition].split("."))
        number = number if entry == one.position else 0
        before = feed.cursor
        print(json.dumps([[one.partition, one.position, number], before]), flush=True)
        if sys.argv[3]:
            time.sleep(0.01)
"""


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with a long path, and spaces in it."""
    return tmp_path_factory.mktemp("kept") / ("a long way " + "down " * 20).strip() / "my store"


@pytest.fixture(scope="module")
def env() -> Iterator[dict[str, str]]:
    with own_ray() as found:
        yield found


@pytest.fixture(scope="module")
def started(place: Path, env: dict[str, str]) -> Iterator[dict[str, Any]]:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    began = time.monotonic()
    new = ("--partitions", 2, "--clock", "event", "--metrics-port", port)
    found = told("start", place, *new, env=env)
    found["seconds"] = time.monotonic() - began
    found["metrics"] = f"http://127.0.0.1:{port}/metrics"
    yield found
    told("stop", place, env=env)


@pytest.fixture(scope="module")
def seen(place: Path, env: dict[str, str], started: dict[str, Any], tmp_path_factory: Any) -> Any:
    """What a driver process saw; beside it there is a store that seems to run elsewhere."""
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    StoreLayout(elsewhere).settings.write_text("{}")
    lock = DirectoryLock(StoreLayout(elsewhere).keeper, 0.1)
    told_there = msgspec.json.decode(StoreLayout(place).attach.read_bytes())
    own = {"pid": os.getpid(), "start_ticks": _ticks(), "address": "127.0.0.1:1"}
    StoreLayout(elsewhere).attach.write_bytes(msgspec.json.encode(told_there | own))
    driver = program(PRELUDE + DRIVER, place, PRELUDE + OTHER, elsewhere, env=env)
    found = said(driver)
    lock.release()
    return found


def _ticks() -> int:
    return int(Path("/proc/self/stat").read_text().rpartition(")")[2].split()[19])


def test_a_second_starter_is_told_who_and_what_to_do(
    place: Path, env: dict[str, str], started: dict[str, Any]
) -> None:
    done = command("start", "--data", place, env=env)
    assert done.returncode == 1
    assert re.search(
        rf"^FencedOut: .*process {started['pid']} since .* on {started['host']}", done.stderr
    )
    assert "use pf.connect" in done.stderr
    assert done.stderr.count("\n") == 1


def test_the_token_is_in_its_file_alone(
    place: Path, env: dict[str, str], started: dict[str, Any]
) -> None:
    token = StoreLayout(place).token.read_text()
    assert len(token) == 64
    for path in (StoreLayout(place).token, StoreLayout(place).attach):
        assert path.stat().st_mode & 0o777 == 0o600
    assert token not in StoreLayout(place).attach.read_text()
    assert token not in command("status", "--data", place, "--json", env=env).stdout
    logs, with_token = 0, []
    for path, content in contents(Path(env["RAY_TMPDIR"]), place):
        logs += path.suffix in (".log", ".out", ".err")
        with_token += [path] if token.encode() in content else []
    assert logs > 3
    assert with_token == [StoreLayout(place).token]
    for arguments in Path("/proc").glob("[0-9]*/cmdline"):
        with suppress(OSError):
            assert token.encode() not in arguments.read_bytes(), arguments


def test_drivers_of_other_processes_share_the_store(seen: dict[str, Any]) -> None:
    assert (seen["accepted"], seen["other"]["accepted"]) == (500, 500)
    assert seen["closed"] == "StoreUnavailable"
    assert seen["beside goes on"] == 1000
    assert seen["left"]
    assert seen["environment"] == []  # the token leaves with the last connection
    assert seen["same"]
    assert seen["task"] == 1003
    assert seen["actor"] == seen["orders"] == 21


def test_what_another_driver_applied_is_found_and_its_clock_rules(seen: dict[str, Any]) -> None:
    assert seen["people"] == 1
    assert seen["at"] == seen["streamed"] == 1_770_000_000_000


def test_who_attaches_imports_no_engine(seen: dict[str, Any]) -> None:
    """Nor do the answers: what each is made of would come with them."""
    other = seen["other"]
    assert other["asked"] == [None, True, ["event", True]]
    loaded = {name.removeprefix("profile_actors.") for name in other["rooms"]}
    assert "engine.reading" in loaded
    for room in ("engine.fold", "engine.partition", "rules.planning", "storage.scrub", "lark"):
        assert room not in loaded


def test_what_cannot_be_is_said_at_once(seen: dict[str, Any], started: dict[str, Any]) -> None:
    kind, text, _ = seen["config"]
    assert kind == "ConfigError"
    assert "max_in_flight=8" in text
    assert "max_in_flight=3" in text
    assert seen["own config"][0] == ""
    kind, text, seconds = seen["start"]
    assert kind == "FencedOut"
    assert f"process {started['pid']} since" in text
    assert "use pf.connect" in text
    for name in ("elsewhere", "two rays"):
        kind, text, seconds = seen[name]
        assert kind == "ConfigError", text
        assert "RAY_ADDRESS" in text
        assert seconds < PROMPT_S


def test_verbs_attach_and_leave_the_store_running(
    place: Path, env: dict[str, str], seen: dict[str, Any], started: dict[str, Any]
) -> None:
    assert told("members", "fresh", "--data", place, env=env)["count"] >= 0
    file = place.parent / "more.json"
    file.write_text('{"segments": [{"name": "many", "rule": "xEvent.count() > 1"}]}')
    assert told("apply", file, "--data", place, env=env)["version"] == 3
    wrong = command("apply", file, "--data", place, "--partitions", 3, env=env)
    assert wrong.stderr.startswith("ConfigError: expected partitions=2")
    os.kill(started["pid"], 0)


def test_a_consumer_that_is_killed_resumes_and_can_tell_repeats(
    place: Path, env: dict[str, str], seen: dict[str, Any], started: dict[str, Any]
) -> None:
    def lines(cursor: str, slow: str = "") -> subprocess.Popen[str]:
        return program(PRELUDE + CONSUMER, place, cursor, slow, env=env)

    whole = [json.loads(line) for line in lines("").communicate(timeout=240)[0].splitlines()]
    with lines("", "slowly") as killed:
        assert killed.stdout is not None
        first = [json.loads(killed.stdout.readline()) for _ in range(60)]
        os.kill(killed.pid, signal.SIGKILL)
    # The cursor that it had kept is some changes old: those come again, under the same numbers.
    rest = [
        json.loads(line) for line in lines(first[-11][1]).communicate(timeout=240)[0].splitlines()
    ]
    told = [tuple(name) for name, _ in [*first, *rest]]
    everything = [tuple(name) for name, _ in whole]
    assert len(set(everything)) == len(everything) > 60
    assert len(told) == len(everything) + 10
    assert set(told) == set(everything)


def test_changes_are_printed_as_they_come_until_ctrl_c_says_where(
    place: Path, env: dict[str, str], seen: dict[str, Any], started: dict[str, Any]
) -> None:
    words = [sys.executable, "-m", "profile_actors", "changes", "--data", str(place), "--json"]
    whole = subprocess.run(words, env=env, capture_output=True, text=True, timeout=240).stdout
    with subprocess.Popen(
        [*words, "--follow"], env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as follower:
        assert follower.stdout is not None
        *changes, _ = whole.splitlines()
        assert [follower.stdout.readline().rstrip("\n") for _ in changes] == changes
        follower.send_signal(signal.SIGINT)  # it waits for more
        rest, errors = follower.communicate(timeout=240)
    assert (follower.returncode, errors) == (0, "")
    cursor = json.loads(rest)["cursor"]
    words += ["--after", cursor]
    after = subprocess.run(words, env=env, capture_output=True, text=True, timeout=240).stdout
    assert after.count("\n") == 1  # the cursor


def test_the_document_says_what_is_so(
    place: Path, env: dict[str, str], seen: dict[str, Any], started: dict[str, Any]
) -> None:
    text = (ROOT / "docs" / "DEPLOY.md").read_text(encoding="utf-8")
    (code,) = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    # Where the store runs is where its keeper says, whatever other cluster there may be.
    other = {"RAY_ADDRESS": "127.0.0.1:1"}
    with program(code.replace("data/shop", str(place)), env=env | other) as reader:
        out, _ = reader.communicate(timeout=240)
    assert out == "event ['orders', 'people']\n"
    for verb in re.findall(r"^    profile-actors (\w+)", text, re.MULTILINE):
        assert verb in ("start", "status", "stop")  # executed by this file
    page = command("metrics", "--data", place, env=env).stdout
    assert 'profile_actors_partition_writing{partition="1"} 1.0' in page.splitlines()
    with urllib.request.urlopen(started["metrics"], timeout=60) as served:
        assert _families(served.read().decode()) == _families(page)


def _families(page: str) -> list[str]:
    """What a page of metrics declares: which values there are yet, the store changes by itself."""
    return [line for line in page.splitlines() if line.startswith("#")]


def test_a_wrong_token_is_said_at_once(
    place: Path, env: dict[str, str], started: dict[str, Any]
) -> None:
    path = StoreLayout(place).token
    token = path.read_text()
    code = PRELUDE + "seen = refused(pf.connect, here)\nprint(json.dumps(seen))"
    try:
        path.write_text(token[::-1])
        kind, text, seconds = said(program(code, place, env=env))
    finally:
        path.write_text(token)
    assert kind == "ConfigError", text
    assert "attach.token" in text
    assert token not in text
    assert token[::-1] not in text
    assert seconds < PROMPT_S


def test_a_connected_store_goes_on_after_a_stop_and_a_start(
    place: Path, env: dict[str, str], seen: dict[str, Any], started: dict[str, Any]
) -> None:
    before = StoreLayout(place).token.read_text()
    with program(PRELUDE + STAYS, place, env=env) as driver:
        assert driver.stdout is not None
        assert driver.stdin is not None
        assert driver.stdout.readline() == "ready\n"
        driver.stdin.write("go on\n")
        driver.stdin.flush()
        assert told("stop", place, env=env)["stopped"]
        assert told("stop", place, env=env) == {"data": str(place), "stopped": False}
        assert not StoreLayout(place).token.exists()
        refusal = said(
            program(PRELUDE + "print(json.dumps(refused(pf.connect, here)))", place, env=env)
        )
        assert refusal[0] == "StoreUnavailable"
        assert "profile-actors start" in refusal[1]
        done = command("start", place, env=env | {"RAY_ADDRESS": "127.0.0.1:1"})
        ends = shlex.split(done.stdout.partition("end it with: ")[2])  # as a shell reads it
        assert ends == ["profile-actors", "stop", "--data", str(place.resolve())]
        found = msgspec.json.decode(StoreLayout(place).attach.read_bytes())
        assert StoreLayout(place).token.read_text() != before
        driver.stdin.write("ask\n")
        driver.stdin.flush()
        assert driver.stdout.readline() == "served\n"
        assert told("stop", place, env=env)["stopped"]
        result = said(driver, "ask\n")
    assert found["pid"] != started["pid"]
    assert (result["again"], result["more"], result["verify"]) == (10, 110, [])
    kind, text, seconds = result["stopped"]
    assert kind == "StoreUnavailable"
    assert "the store was stopped" in text
    assert seconds < PROMPT_S


def test_a_directory_that_cannot_be_written_is_a_sentence(
    tmp_path: Path, env: dict[str, str]
) -> None:
    (tmp_path / "file").touch()
    done = command("start", tmp_path / "file" / "store", env=env)
    assert done.returncode == 1
    assert done.stderr.startswith("ConfigError: expected a directory")
    assert done.stderr.count("\n") == 1
    for name, options, got in (
        ("full", "size=64k", "No space"),
        ("read only", "ro", "Read-only file system"),
    ):
        place = tmp_path / name
        place.mkdir()
        command_line = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(place)]
        if subprocess.run(command_line, capture_output=True).returncode != 0:
            continue
        try:
            with suppress(OSError):
                (place / "rest").write_bytes(bytes(1 << 20))
            data = place if options == "ro" else place / "store"
            done = command("start", data, env=env)
            assert done.returncode == 1
            text = f"ConfigError: expected a directory to write in, got {got}"
            assert done.stderr.startswith(text)
            assert done.stderr.count("\n") == 1
        finally:
            subprocess.run(["umount", "-l", str(place)], check=True)
    done = command("stop", tmp_path / "nothing", "--json", env=env)
    assert json.loads(done.stdout)["stopped"] is False


@pytest.mark.slow
def test_over_a_full_disk_nothing_stays_up_and_reads_go_on(
    tmp_path: Path, env: dict[str, str]
) -> None:
    place = tmp_path / "disk"
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=700m", "tmpfs", str(place)]
    if subprocess.run(mount, capture_output=True).returncode != 0:
        pytest.skip("this machine does not let the tests mount a file system")
    store, ballast = place / "store", place / "ballast"
    file = ROOT / "examples" / "cdnow" / "cdnow_sample.csv"
    rows = file.read_text("utf-8").splitlines(keepends=True)
    (tmp_path / "some.csv").write_text("".join(rows[:200]), "utf-8")
    definitions = ROOT / "examples" / "cdnow" / "definitions.yaml"
    try:
        at = ("--data", store)
        told("apply", definitions, *at, "--clock", "event", env=env)
        assert told("ingest", "orders", tmp_path / "some.csv", *at, env=env)["accepted"] == 199
        with suppress(OSError), ballast.open("wb", buffering=0) as out:
            while out.write(bytes(1 << 20)):
                pass
        done = command("start", *at, env=env)
        assert done.returncode == 1
        assert done.stderr.startswith("StorageFull: expected room to write")
        assert done.stderr.count("\n") == 1
        assert told("stop", *at, env=env)["stopped"] is False
        os.truncate(ballast, ballast.stat().st_size - (1 << 20))  # to open takes some kB
        assert told("profile", "CRMID", "00004", *at, env=env)["identities"]
        done = command("ingest", "orders", file, *at, env=env)
        assert done.returncode == 1
        assert "StorageFull: expected 268435456 bytes free or more" in done.stderr
        ballast.unlink()
        report = told("ingest", "orders", file, *at, env=env)
        assert report["accepted"] == len(rows) - 1
    finally:
        subprocess.run(["umount", "-l", str(place)], check=True)


def test_help_and_eval_need_no_ray() -> None:
    code = """
import sys
sys.argv = ["profile-actors", *sys.argv[1:]]
from profile_actors.cli import main
try:
    main()
finally:
    print([name for name in ("ray", "pyarrow", "numpy", "yaml") if name in sys.modules])
"""
    for words in (["--help"], ["eval", "2 + 2 = 4"], ["start", "--help"]):
        done = subprocess.run(
            [sys.executable, "-c", code, *words], capture_output=True, text=True, timeout=60
        )
        assert done.stdout.splitlines()[-1] == "[]", words
