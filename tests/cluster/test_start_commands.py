"""The commands of ``cluster.yaml`` that start nodes, run as they stand: two nodes on this machine,
a directory each, and a store on both disks."""

from __future__ import annotations

import os
import shlex
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import yaml

from tests.cluster.keeping import ROOT, own_ray, program, said
from tests.waiting import until

pytestmark = [pytest.mark.ray, pytest.mark.slow]

PROGRAM = """
import json, sys, profile_actors as pf
from tests.cluster.shop import order, shop
with pf.start(sys.argv[1], partitions=2) as store:
    store.apply(*shop())
    accepted = store.submit("orders", [order(n, n % 20) for n in range(100)]).accepted
    disks = sorted(one.disk for one in store.status().partitions)
    print(json.dumps([accepted, store.status().events, disks, store.verify()]))
"""


@contextmanager
def running(command: str, env: dict[str, str]) -> Iterator[subprocess.Popen[bytes]]:
    """A start command that stays, in a group of processes of its own, which ends with the block."""
    words = ["bash", "-c", f"{command} --block"]
    process = subprocess.Popen(words, env=env, start_new_session=True, stdout=subprocess.DEVNULL)
    try:
        yield process
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        process.wait(60)


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


def answers(port: int) -> bool:
    with socket.socket() as one:
        return one.connect_ex(("127.0.0.1", port)) == 0


def test_the_start_commands_of_the_file_make_two_nodes_of_a_store(tmp_path: Path) -> None:
    config = yaml.safe_load((ROOT / "cluster.yaml").read_text("utf-8"))
    head, worker = (config[f"{who}_start_ray_commands"][-1] for who in ("head", "worker"))
    port, places = free_port(), [tmp_path / "a", tmp_path / "b"]
    home = tmp_path / "home"
    (home / ".ray").mkdir(parents=True)
    (home / ".ray" / "auth_token").write_text("f" * 64)
    bin_ = Path(sys.executable).parent
    with own_ray() as known:
        env = known | {
            "HOME": str(home), "PATH": f"{bin_}{os.pathsep}{known['PATH']}",
            "RAY_HEAD_IP": "127.0.0.1",
        }  # fmt: skip

        def at(command: str, place: Path) -> str:
            command = command.replace("6379", str(port))
            return command.replace("/srv/profiles", shlex.quote(str(place)))

        def of(place: Path) -> dict[str, str]:
            return env | {"PROFILE_ACTORS_DATA": str(place)}

        with running(at(head, places[0]), of(places[0])) as first:
            until(lambda: first.poll() is not None or answers(port))
            with running(at(worker, places[1]), of(places[1])) as second:
                driver = env | {"RAY_ADDRESS": f"127.0.0.1:{port}", "RAY_AUTH_MODE": "token"}
                nodes = (
                    "import json, ray; ray.init(log_to_driver=False);"
                    "print(json.dumps(sum(one['Alive'] for one in ray.nodes())))"
                )
                until(lambda: said(program(nodes, env=driver)) == 2)
                found = said(program(PROGRAM, places[0], env=driver))
                assert (first.poll(), second.poll()) == (None, None)
        disks = sorted(
            subprocess.run(
                [bin_ / "profile-actors", "disk-id", place], env=env, capture_output=True,
                text=True, check=True, timeout=240,
            ).stdout.strip()
            for place in places
        )  # fmt: skip
    assert found == [100, 100, disks, []]
