"""Connections without a producer's name leave no cursor behind; what comes late is refused (L5)."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Literal

import pytest

import profile_actors as pf
from profile_actors.actors.calls import call_all
from tests.cluster.shop import orders, shop

pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("ray_runtime")]

# Connects, sends and closes again and again; prints the name of each connection's stream.
CALLER = """
import sys
import profile_actors as pf
from tests.cluster.shop import orders
for n in range(int(sys.argv[2])):
    with pf.start(sys.argv[1]) as store:
        assert store.submit("orders", orders(20, first=20 * n)).accepted == 20
        assert store.submit("orders", orders(5, first=20 * n)).duplicate == 5
        print(store._sender._anonymous.producer, flush=True)
"""


@pytest.mark.parametrize("clock", ["event", "wall"])
def test_connections_that_closed_have_no_cursor(
    tmp_path: Path, clock: Literal["event", "wall"]
) -> None:
    import ray

    with pf.start(tmp_path / "s", 2, clock) as store:
        store.apply(*shop())
        said = subprocess.run(
            [sys.executable, "-c", CALLER, str(tmp_path / "s"), "5"],
            env=os.environ | {"RAY_ADDRESS": ray.get_runtime_context().gcs_address},
            cwd=Path(__file__).resolve().parents[2],
            capture_output=True,
            text=True,
            check=True,
        )
        names = said.stdout.split()
        assert len(set(names)) == 5
        ways = store._connection.partitions
        for name in names:
            assert call_all(ways, "cursor", name) == [None, None]
        assert store.submit("orders", orders(20, first=500)).accepted == 20
        mine = store._sender._anonymous
        assert mine is not None
        assert None not in call_all(ways, "cursor", mine.producer)
        # What comes late to one that has closed is not taken for the first of a new one.
        mine.producer, mine.sent, mine.next_offset = names[0], [None, None], 0
        with pytest.raises(pf.StoreUnavailable, match="may or may not be there"):
            store.submit("orders", orders(20, first=700))
        assert store.status().events == 120
        # The connection goes on by itself.
        assert store.submit("orders", orders(20, first=700)).accepted == 20
        assert store._sender._anonymous is not mine
        assert store.verify() == []
    with pf.start(tmp_path / "s") as store:
        assert store.status().events == 140
        for name in names:
            assert call_all(store._connection.partitions, "cursor", name) == [None, None]
