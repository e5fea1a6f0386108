"""Connections without a producer's name leave no cursor behind; what comes late is refused (L5)."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any, Literal

import pytest

import profile_actors as pf
from profile_actors.actors.calls import Lost, Patience, Remote, call_all
from profile_actors.driver.courier import OWN_STREAM_S, ProducerRows
from profile_actors.driver.sender import Sender
from profile_actors.engine.log.connections import KEPT_MS, born_of, name_of
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


class Losing(Remote):
    """A way to a partition that loses the first answer."""

    def __init__(self, way: Remote) -> None:
        super().__init__(way.handle, way.name, way.timeout_s, way.session)
        self._has_lost = False

    def finish(self, answer: Any, patience: Patience) -> Any:
        found = super().finish(answer, patience)
        if not self._has_lost:
            self._has_lost = True
            raise Lost
        return found


def forgotten(own: ProducerRows) -> ProducerRows:
    """A stream as partitions take it for after an hour of silence."""
    own.producer = name_of(born_of(own.producer) - KEPT_MS - 60_000, "slept")
    own.sent = [None] * len(own.sent)
    return own


def test_a_connection_takes_a_new_name_in_time_and_when_it_was_forgotten(tmp_path: Path) -> None:
    with pf.start(tmp_path / "s", 2, "event") as store:
        store.apply(*shop())
        now_s = 5_000.0
        sender = Sender(store._connection, lambda: now_s)
        names, sent = [], 0

        def send() -> ProducerRows:
            nonlocal sent
            done = sender.submit("orders", orders(20, first=sent), later=False).result()
            assert (done.accepted, done.duplicate) == (20, 0)
            sent += 20
            own = sender._anonymous
            assert own is not None
            names.append(own.producer)
            return own

        for now_s in (5_000.0, 5_000.0 + OWN_STREAM_S - 1, 5_000.0 + OWN_STREAM_S):  # noqa: B007
            send()
        assert names[0] == names[1] != names[2]
        # As after a jump of the partitions' clock by more than an hour: born too long ago, unknown.
        own = forgotten(send())
        send()
        assert own.broken
        own = forgotten(send())
        sender._courier._partitions = [Losing(way) for way in store._connection.partitions]
        with pytest.raises(pf.StoreUnavailable, match="may or may not be there"):
            send()
        assert send() is not own
        assert store.status().events == sent
        sender.close()
        sender.end()
        assert store.verify() == []


@pytest.mark.parametrize("clock", [pytest.param("event", marks=pytest.mark.slow), "wall"])
def test_connections_that_closed_have_no_cursor(
    tmp_path: Path, clock: Literal["event", "wall"]
) -> None:
    import ray

    with pf.start(tmp_path / "s", 1, clock) as store:
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
            assert call_all(ways, "cursor", name) == [None]
        assert store.submit("orders", orders(20, first=500)).accepted == 20
        mine = store._sender._anonymous
        assert mine is not None
        assert None not in call_all(ways, "cursor", mine.producer)
        # What comes again to one that has closed is not taken for the first of a new one.
        mine.producer, mine.sent, mine.next_offset = names[0], [None], 0
        store._sender._courier._partitions = [Losing(way) for way in ways]
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
            assert call_all(store._connection.partitions, "cursor", name) == [None]
