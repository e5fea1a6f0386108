"""Several drivers of one store: which definitions rule, one producer's name, what one deletes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

import profile_actors as pf
from tests.cluster.shop import orders, shop
from tests.waiting import PATIENCE_S, PROMPT_S

pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("ray_runtime")]

# Answers each line it is sent with what the second driver sees.
DRIVER = """
import json, sys, time
import profile_actors as pf
with pf.start(sys.argv[1]) as store:
    for line in sys.stdin:
        began = time.monotonic()
        found = store.definitions()
        profile = store.profile("CRMID", "c0007")
        seen = {"version": found.version, "segments": sorted(found.segments),
                "orders": profile.computed["orders"], "of": sorted(profile.segments),
                "big": store.members("big").count(), "newest": store.status().catalogue}
        if "many" in found.segments:
            seen["many"] = store.members("many").count()
        seen["seconds"] = time.monotonic() - began
        print(json.dumps(seen), flush=True)
"""


class Hold:
    """A hook: partitions that have folded new rules wait before they put them in force."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __call__(self, point: str) -> None:
        while point == "partition.before_switch" and self.path.exists():
            time.sleep(0.01)


@contextmanager
def second_driver(path: Path) -> Iterator[subprocess.Popen[str]]:
    """Another process with the same store, in the same Ray."""
    import ray

    address = ray.get_runtime_context().gcs_address
    process = subprocess.Popen(
        [sys.executable, "-c", DRIVER, str(path)],
        env=os.environ | {"RAY_ADDRESS": address},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    with process:
        try:
            yield process
        finally:
            assert process.stdin is not None
            process.stdin.close()
            process.wait(PATIENCE_S)


def asked(driver: subprocess.Popen[str]) -> dict[str, Any]:
    assert driver.stdin is not None
    assert driver.stdout is not None
    driver.stdin.write("look\n")
    driver.stdin.flush()
    seen: dict[str, Any] = json.loads(driver.stdout.readline())
    return seen


@pytest.mark.slow
def test_a_second_driver_reads_by_the_definitions_in_force(tmp_path: Path) -> None:
    hold = Hold(tmp_path / "hold")
    with pf.start(tmp_path / "s", 1, "event", hook=hold) as store:
        store.apply(*shop())
        store.submit("orders", orders(500))
        hold.path.touch()
        many = pf.SegmentDefinition("many", "xEvent.count() >= 10")
        applying = threading.Thread(target=store.apply, args=(many,))
        applying.start()
        try:
            # It starts, reads and asks for the definitions while both partitions are busy.
            with second_driver(tmp_path / "s") as driver:
                seen = [asked(driver), asked(driver)]
                assert applying.is_alive(), "the definitions were taken too soon for this test"
                store.submit("orders", orders(50, first=500))
                assert store.definitions().version == 1
                hold.path.unlink()
                applying.join(PATIENCE_S)
                after = asked(driver)
        finally:
            hold.path.unlink(missing_ok=True)
            applying.join(PATIENCE_S)
        for look in seen:
            assert look.pop("seconds") < PROMPT_S
            assert look == {
                "version": 1, "segments": ["big", "fresh"], "orders": 10, "of": ["fresh"],
                "big": 0, "newest": 1,
            }  # fmt: skip
        assert (after["version"], after["many"], after["orders"]) == (2, 50, 11)
        assert after["of"] == ["fresh", "many"]
        assert store.definitions().version == 2
        assert store.members("many").count() == 50


def test_a_definition_that_nobody_told_the_partitions_comes_into_force(tmp_path: Path) -> None:
    with pf.start(tmp_path / "s", 1, "event") as store:
        store.apply(*shop())
        store.submit("orders", orders(100))
        # As if the driver had died after the commit: the catalogue is ahead of every partition.
        many = pf.SegmentDefinition("many", "xEvent.count() >= 2")
        assert store._connection.coordinator.call("apply", [many]).version == 2
        with second_driver(tmp_path / "s") as driver:
            assert asked(driver)["many"] == 50
        assert store.members("many").count() == 50


# Appends rows under one producer's name, as many submissions in flight as it likes.
APPENDER = """
import sys
import profile_actors as pf
from tests.cluster.shop import orders
path, first, rounds = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
with pf.start(path) as store:
    print("ready", flush=True)
    sys.stdin.readline()
    pending = []
    for n in range(rounds):
        rows = orders(1 + n % 3, customers=7, first=first + 3 * n)
        pending.append((len(rows), store.submit_async("orders", rows, producer="feed")))
        if n % 4 == 0:
            pending[-1][1].result()
    found = [(rows, future.result()) for rows, future in pending]
    print(sum(r for r, _ in found), sum(f.accepted for _, f in found),
          sum(f.duplicate for _, f in found), flush=True)
"""


@contextmanager
def driver(code: str, *args: str) -> Iterator[subprocess.Popen[str]]:
    """Another process of the same Ray; left when it has ended."""
    import ray

    process = subprocess.Popen(
        [sys.executable, "-c", code, *args],
        env=os.environ | {"RAY_ADDRESS": ray.get_runtime_context().gcs_address},
        cwd=Path(__file__).resolve().parents[2],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    with process:
        try:
            yield process
        finally:
            assert process.stdin is not None
            process.stdin.close()
            process.wait(PATIENCE_S)


def test_two_drivers_append_under_one_name_and_lose_nothing(tmp_path: Path) -> None:
    rounds = 60
    with pf.start(tmp_path / "s", 1, "event") as store:
        store.apply(*shop())
        path = str(tmp_path / "s")
        with (
            driver(APPENDER, path, "0", str(rounds)) as one,
            driver(APPENDER, path, "1000", str(rounds)) as two,
        ):
            said = []
            for process in (one, two):
                assert process.stdout is not None
                assert process.stdout.readline() == "ready\n"
            for process in (one, two):
                assert process.stdin is not None
                process.stdin.write("go\n")
                process.stdin.flush()
            mine = [store.submit("orders", orders(2, first=5000 + 2 * n), "feed") for n in range(9)]
            for process in (one, two):
                assert process.stdout is not None
                said.append([int(word) for word in process.stdout.readline().split()])
        rows = sum(n for n, _, _ in said) + 18
        assert sum(r.accepted for r in mine) == 18
        assert [(accepted, duplicate) for _, accepted, duplicate in said] == [
            (n, 0) for n, _, _ in said
        ]
        assert (store.status().events, store.status().duplicate) == (rows, 0)
        assert store.cursor("feed") == rows
        # The stream can be numbered again by whoever is left.
        again = store.submit("orders", orders(3, first=9000), producer="feed", offset=rows)
        assert again.accepted == 3
        assert store.submit("orders", orders(1, first=9900), producer="feed").accepted == 1
        assert store.cursor("feed") == rows + 4


DELETER = """
import sys
import profile_actors as pf
with pf.start(sys.argv[1]) as store:
    store.delete("returns")
    print("done", flush=True)
"""


@pytest.mark.parametrize("producer", [None, pytest.param("feed", marks=pytest.mark.slow)])
def test_what_is_sent_after_a_submission_that_fails_does_not_wait_for_it(
    tmp_path: Path, producer: str | None
) -> None:
    with pf.start(tmp_path / "s", 1, "event") as store:
        returns = pf.Dataset(
            "returns", schema="order", identities={"customer": "CRMID"}, timestamp="at", id="_id"
        )
        store.apply(*shop(), returns)
        store.submit("orders", orders(10))
        with driver(DELETER, str(tmp_path / "s")) as process:
            assert process.stdout is not None
            assert process.stdout.readline() == "done\n"
        # This driver does not know yet, and has more on its way when it hears.
        began = time.monotonic()
        lost = store.submit_async("returns", orders(10, first=100), producer)
        later = [
            store.submit_async("orders", orders(10, first=first), producer)
            for first in (200, 300, 400)
        ]
        with pytest.raises(pf.DefinitionError, match="returns"):
            lost.result()
        assert [future.result().accepted for future in later] == [10, 10, 10]
        assert store.submit("orders", orders(10, first=500), producer).accepted == 10
        assert time.monotonic() - began < PROMPT_S  # far below the patience of a call
        assert store.status().events == 50
        assert store.verify() == []


def test_rows_numbered_by_their_caller_are_refused_at_once_behind_a_failure(
    tmp_path: Path,
) -> None:
    with pf.start(tmp_path / "s", 1, "event") as store:
        returns = pf.Dataset(
            "returns", schema="order", identities={"customer": "CRMID"}, timestamp="at", id="_id"
        )
        store.apply(*shop(), returns)
        with driver(DELETER, str(tmp_path / "s")) as process:
            assert process.stdout is not None
            assert process.stdout.readline() == "done\n"
        rows = orders(30)
        began = time.monotonic()
        first = store.submit_async("orders", rows[:10], "loader", 0)
        lost = store.submit_async("returns", rows[10:20], "loader", 10)
        third = store.submit_async("orders", rows[20:], "loader", 20)
        appended = store.submit_async("orders", orders(5, first=100), "loader")
        assert first.result().accepted == 10
        with pytest.raises(pf.DefinitionError, match="returns"):
            lost.result()
        for refused in (third, appended):
            with pytest.raises(pf.OffsetGap, match="from offset 10 on"):
                refused.result()
        assert time.monotonic() - began < PROMPT_S
        assert store.cursor("loader") == 10
        receipt = store.submit("orders", rows[10:], "loader", 10)
        assert (receipt.accepted, receipt.duplicate) == (20, 0)
        assert store.verify() == []


class Interrupted:
    """A way to a partition on which Ctrl-C is pressed before the next sub-batch is sent."""

    def __init__(self, remote: Any) -> None:
        self.remote = remote
        self.is_pressed = True

    def __getattr__(self, name: str) -> Any:
        return getattr(self.remote, name)

    def begin(self, method: str, *args: Any) -> Any:
        if method == "submit" and self.is_pressed:
            self.is_pressed = False
            raise KeyboardInterrupt
        return self.remote.begin(method, *args)


@pytest.mark.parametrize(("producer", "offset"), [(None, None), ("feed", None), ("feed", 10)])
def test_ctrl_c_between_taking_offsets_and_sending_leaves_no_hole(
    tmp_path: Path, producer: str | None, offset: int | None
) -> None:
    with pf.start(tmp_path / "s", 2, "event", pf.Config(max_in_flight=2)) as store:
        store.apply(*shop())
        store.submit("orders", orders(10), producer)
        ways = store._sender._courier._partitions
        assert isinstance(ways, list)
        began = time.monotonic()
        for _ in range(3):  # more often than there are places in flight
            before, ways[1] = ways[1], Interrupted(ways[1])
            with pytest.raises(KeyboardInterrupt):
                store.submit("orders", orders(10, first=100), producer, offset)
            ways[1] = before
        receipt = store.submit("orders", orders(10, first=100), producer, offset)
        assert receipt.accepted + receipt.duplicate == 10
        assert store.submit("orders", orders(10, first=200), producer).accepted == 10
        assert time.monotonic() - began < PROMPT_S
        assert store.status().events == 30
        assert store.verify() == []
