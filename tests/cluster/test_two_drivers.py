"""A second driver while the first one's definitions are being taken: it reads by those in force."""

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

pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("ray_runtime")]

# Answers each line it is sent with what the second driver sees.
DRIVER = """
import json, sys, time
import profile_actors as pf
with pf.start(sys.argv[1], config=pf.Config(call_timeout_s=8.0)) as store:
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
            process.wait(60)


def asked(driver: subprocess.Popen[str]) -> dict[str, Any]:
    assert driver.stdin is not None
    assert driver.stdout is not None
    driver.stdin.write("look\n")
    driver.stdin.flush()
    seen: dict[str, Any] = json.loads(driver.stdout.readline())
    return seen


def test_a_second_driver_reads_by_the_definitions_in_force(tmp_path: Path) -> None:
    hold = Hold(tmp_path / "hold")
    with pf.start(tmp_path / "s", 2, "event", hook=hold) as store:
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
                applying.join(60)
                after = asked(driver)
        finally:
            hold.path.unlink(missing_ok=True)
            applying.join(60)
        for look in seen:
            assert look.pop("seconds") < 8.0
            assert look == {
                "version": 1, "segments": ["big", "fresh"], "orders": 10, "of": ["fresh"],
                "big": 0, "newest": 1,
            }  # fmt: skip
        assert (after["version"], after["many"], after["orders"]) == (2, 50, 11)
        assert after["of"] == ["fresh", "many"]
        assert store.definitions().version == 2
        assert store.members("many").count() == 50


def test_a_definition_that_nobody_told_the_partitions_comes_into_force(tmp_path: Path) -> None:
    with pf.start(tmp_path / "s", 2, "event") as store:
        store.apply(*shop())
        store.submit("orders", orders(100))
        # As if the driver had died after the commit: the catalogue is ahead of every partition.
        many = pf.SegmentDefinition("many", "xEvent.count() >= 2")
        assert store._link.coordinator.call("apply", [many]).version == 2
        with second_driver(tmp_path / "s") as driver:
            assert asked(driver)["many"] == 50
        assert store.members("many").count() == 50
