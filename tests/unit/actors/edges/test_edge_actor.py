"""An edge's actor below Ray, on real files: what is wrong at the hub does not touch its own copy,
and what is wrong with its files passes."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
from msgspec import structs

from profile_actors.actors.edges import edge_actor
from profile_actors.actors.edges.edge_accounts import EdgePlace, EdgeStatus
from profile_actors.actors.edges.edge_actor import EdgeActor
from profile_actors.actors.edges.edge_pulls import pull
from profile_actors.actors.wire import loads
from profile_actors.config import Config
from profile_actors.definitions.declared import EdgeDestination, ProjectionConfiguration
from profile_actors.errors import CorruptLog, StorageFull
from profile_actors.storage.edge_files import EdgeFiles, EdgeIndex
from profile_actors.storage.files.lock import DirectoryLock
from tests.model.hub import BASE, CATALOGUE, Hub

COPIED = structs.replace(
    CATALOGUE,
    destinations={"e": EdgeDestination("e")},
    projections={"p": ProjectionConfiguration("p", "e", segments="all", computed="all")},
)
ABOUT = EdgeIndex(0, "a store", "", "event", 7, 1)


class RemoteHub:
    """A partition and the coordinator, as calls reach them. error: what they answer instead."""

    def __init__(self) -> None:
        self.hub = hub = Hub(1, COPIED)
        rows = [{"who": f"w{i}", "at": BASE, "_id": f"{i}", "n": 1} for i in range(5)]
        hub.submit([("hits", "p", rows)], BASE)
        self.partition = hub.partitions[0]
        self.error: Exception | None = None
        self.calls = 0

    def submit(self, rows: list[dict[str, Any]]) -> None:
        self.hub.submit([("hits", "q", rows)], BASE)

    def call(self, method: str, *args: Any) -> Any:
        self.calls += 1
        if self.error is not None:
            raise self.error
        if method == "catalogue":
            return COPIED
        return pull(self.partition, lambda: None, lambda: 0, *args)


class Edge(EdgeActor):
    """The actor without Ray."""

    def __init__(self, path: Path, hub: RemoteHub, ttl_s: int | None = None) -> None:
        self.hub = hub
        config, about = Config(edge_map_bytes=1 << 24), structs.replace(ABOUT, ttl_s=ttl_s)
        super().__init__(EdgePlace("", "e", str(path), about, config))

    def _remote(self, name: str) -> Any:
        return self.hub


def status(edge: Edge) -> EdgeStatus:
    found: EdgeStatus = cast(Any, edge).status()  # Ray's types know of calls from afar alone
    return found


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> RemoteHub:
    monkeypatch.setattr(edge_actor, "WAIT_S", 0.02)
    return RemoteHub()


@pytest.fixture
def edge(hub: RemoteHub, tmp_path: Path) -> Iterator[Edge]:
    edge = Edge(tmp_path, hub)
    wait_for(lambda: status(edge).is_complete)
    yield edge
    edge.stop()


def wait_for(what: Callable[[], bool]) -> None:
    end = time.monotonic() + 20
    while not what():
        assert time.monotonic() < end, "it never came"
        time.sleep(0.005)


class Clock:
    """The wall clock of an edge, ms."""

    def __init__(self) -> None:
        self.now = 1_000_000

    def __call__(self) -> int:
        return self.now


def test_profiles_leave_after_their_time_unless_they_are_touched_or_looked_up(
    hub: RemoteHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = Clock()
    monkeypatch.setattr(edge_actor, "wall_ms", clock)
    monkeypatch.setattr(edge_actor, "TTL_LOOK_S", 0.01)
    edge = Edge(tmp_path, hub, ttl_s=60)
    wait_for(lambda: status(edge).profiles == 5)
    state, partition = hub.partition.state, hub.partition
    looked, touched = (state.directory.keys_of(np.array([n])).tobytes() for n in (0, 1))
    clock.now += 40_000
    assert loads(edge._read(looked))[1][0] > 0
    hub.submit([{"who": "w1", "at": BASE + 1, "_id": "again", "n": 1}])
    wait_for(lambda: status(edge).positions == [partition.position])
    wait_for(lambda: not edge._seen)
    clock.now += 40_000  # 80 s after all came, 40 s after the one was looked up, the other touched
    wait_for(lambda: status(edge).expired == 3)
    assert [size > 0 for size in loads(edge._read(looked + touched))[1]] == [True, True]
    wait_for(lambda: not edge._seen)
    clock.now += 61_000
    wait_for(lambda: status(edge).expired == 5)
    assert loads(edge._read(looked))[1] == [-1]
    hub.submit([{"who": "w0", "at": BASE + 2, "_id": "back", "n": 1}])
    wait_for(lambda: status(edge).profiles == 1)
    assert loads(edge._read(looked))[1][0] > 0
    edge.stop()


def inodes(path: Path) -> list[int]:
    return [found.stat().st_ino for found in path.glob("generation-*/data.mdb")]


def test_damage_at_the_hub_leaves_the_copy_alone(
    edge: Edge, hub: RemoteHub, tmp_path: Path
) -> None:
    before = inodes(tmp_path)
    hub.error = CorruptLog("the partition's own log")
    wait_for(lambda: "own log" in status(edge).trouble)
    called = hub.calls
    time.sleep(2.5 * edge_actor.BACK_OFF_S)
    assert hub.calls - called <= 4, "asked again and again, without a pause"
    found = status(edge)
    assert (found.profiles, found.is_complete) == (5, True)
    assert inodes(tmp_path) == before
    hub.error = None
    wait_for(lambda: status(edge).trouble == "")
    assert inodes(tmp_path) == before


def test_damage_here_is_made_anew_even_if_the_disk_is_full_at_first(
    edge: Edge, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before, begin_anew, tries = inodes(tmp_path), EdgeFiles.begin_anew, []

    def full_at_first(self: EdgeFiles) -> None:
        tries.append(1)
        if len(tries) == 1:
            raise StorageFull("expected room")
        begin_anew(self)

    monkeypatch.setattr(EdgeFiles, "begin_anew", full_at_first)
    cast(Any, edge).renew("planted")
    wait_for(lambda: len(tries) == 2 and status(edge).is_complete)
    wait_for(lambda: status(edge).trouble == "")
    assert status(edge).profiles == 5
    assert not set(inodes(tmp_path)) & set(before)


def test_files_that_another_process_is_just_leaving_are_waited_for(
    hub: RemoteHub, tmp_path: Path
) -> None:
    other = DirectoryLock(tmp_path / "edge.lock", 0.1)
    edge = Edge(tmp_path, hub)
    found = status(edge)
    assert not found.is_complete
    assert "FencedOut" in found.trouble
    other.release()
    wait_for(lambda: status(edge).is_complete)
    assert status(edge).trouble == ""
    edge.stop()
