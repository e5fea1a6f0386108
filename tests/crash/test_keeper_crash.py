"""SIGKILL of what holds a store up: nothing is left running, and the next start has everything."""

from __future__ import annotations

import json
import os
import pty
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.cluster.keeping import (
    command,
    left_running,
    own_ray,
    processes_of,
    program,
    said,
    told,
)
from tests.waiting import PATIENCE_S

pytestmark = pytest.mark.ray

# Stays attached until it is told that the store is up again; the rows are acknowledged.
DRIVER = """
import json, sys
import profile_actors as pf
from tests.cluster.shop import orders, shop
first = int(sys.argv[2])
with pf.connect(sys.argv[1]) as store:
    edge = pf.EdgeDestination("e"), pf.ProjectionConfiguration("p", "e", segments="all")
    store.apply(*shop(), *edge)
    assert store.submit("orders", orders(100, first=first)).accepted == 100
    print("acknowledged", flush=True)
    sys.stdin.readline()
    count = store.status().events
    accepted = store.submit("orders", orders(1, first=first + 500)).accepted
    store.edge("e").wait()
    print(json.dumps([count, accepted, store.verify(), store.status().edges["e"].trouble]))
"""

# What a program that opened the store by itself sees, and whom it lets attach.
OWNER = """
import json, os, subprocess, sys
import profile_actors as pf
with pf.start(sys.argv[1]) as store:
    beside = "import sys, profile_actors as pf; print(pf.connect(sys.argv[1]).status().events)"
    there = subprocess.run(
        [sys.executable, "-c", beside, sys.argv[1]], stdout=subprocess.PIPE, text=True, check=True
    )
    words = [sys.executable, "-m", "profile_actors", "stop", sys.argv[1]]
    stop = subprocess.run(words, capture_output=True, text=True)
    print(json.dumps([store.status().events, store.verify(), int(there.stdout), stop.stderr]))
"""


@pytest.fixture(scope="module")
def env() -> Iterator[dict[str, str]]:
    with own_ray() as found:
        yield found


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("killed") / "s"


@pytest.fixture(scope="module")
def events() -> list[int]:
    """How many rows were acknowledged so far."""
    return [0]


def head_process(folder: str, word: str) -> int:
    (found,) = [line for line in processes_of(folder) if word in line.split()[1]]
    return int(found.split()[0])


@pytest.mark.parametrize(
    "victim",
    ["keeper"]
    + [pytest.param(one, marks=pytest.mark.slow) for one in ("gcs_server", "raylet/raylet")],
)
def test_a_kill_leaves_nothing_running_and_loses_nothing(
    place: Path, env: dict[str, str], events: list[int], victim: str
) -> None:
    folder = env["RAY_TMPDIR"]
    keeper = told("start", place, "--partitions", 1, "--clock", "event", env=env)["pid"]
    with program(DRIVER, place, 1000 * events[0], env=env) as driver:
        assert driver.stdout is not None
        assert driver.stdout.readline() == "acknowledged\n"
        os.kill(keeper if victim == "keeper" else head_process(folder, victim), signal.SIGKILL)
        left = left_running(folder, PATIENCE_S, {driver.pid})
        assert left == [], left
        # What was left behind is not believed.
        refused = command("stop", place, env=env)
        assert (refused.returncode, refused.stderr) == (0, "")
        assert told("start", place, env=env)["pid"] != keeper
        # The driver that was attached all the time goes on with what was acknowledged.
        # and so does the store's edge, which says what the store says.
        assert said(driver, "go on\n") == [events[0] + 100, 1, [], ""]
        events[0] += 101
    assert told("stop", place, env=env)["stopped"]


@pytest.mark.slow
def test_a_program_that_opens_the_store_has_all_and_lets_others_attach(
    place: Path, env: dict[str, str], events: list[int]
) -> None:
    count, differences, beside, refusal = said(program(OWNER, place, env=env))
    assert (count, differences, beside) == (events[0], [], events[0])
    assert refusal.startswith("ConfigError: expected a store that `profile-actors start` runs")


@pytest.mark.slow
def test_a_terminal_that_goes_takes_a_store_in_its_foreground_along(
    place: Path, env: dict[str, str], events: list[int]
) -> None:
    ours, theirs = pty.openpty()
    words = [sys.executable, "-m", "profile_actors", "start", "--foreground", "--data", str(place)]
    words += ["--partitions", "1", "--clock", "event"]  # the first test here has made it, if it ran
    with subprocess.Popen(
        words, env=env, stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True,
        preexec_fn=_take_terminal,
    ) as keeper:  # fmt: skip
        os.close(theirs)
        said = os.read(ours, 1000)
        os.close(ours)  # the terminal is killed
        assert left_running(env["RAY_TMPDIR"], PATIENCE_S) == []
        assert re.match(rb"ready: process \d+, 1 partitions", said), said
        assert keeper.wait(PATIENCE_S) is not None
    found: dict[str, Any] = json.loads(command("status", "--data", place, "--json", env=env).stdout)
    assert found["events"] == events[0]


def _take_terminal() -> None:
    import fcntl
    import termios

    fcntl.ioctl(0, termios.TIOCSCTTY, 0)
