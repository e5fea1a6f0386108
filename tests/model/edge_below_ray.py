"""An edge's actor without Ray, on real files, and a hub of one partition that it follows."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal, cast

import numpy as np
from msgspec import structs

from profile_actors.actors.edges.edge_accounts import EdgePlace, EdgeStatus
from profile_actors.actors.edges.edge_actor import EdgeActor
from profile_actors.actors.edges.edge_pulls import pull
from profile_actors.actors.wire import loads
from profile_actors.config import Config
from profile_actors.definitions.declared import EdgeDestination, ProjectionConfiguration
from profile_actors.engine.edges.edge_rows import EdgeProfile, profile_of
from profile_actors.storage.edge_files import EdgeIndex
from tests.model.hub import BASE, CATALOGUE, Hub

COPIED = structs.replace(
    CATALOGUE,
    destinations={"e": EdgeDestination("e")},
    projections={"p": ProjectionConfiguration("p", "e", segments="all", computed="all")},
)
CONFIG = Config(edge_map_bytes=1 << 24)
ABOUT = EdgeIndex(0, "a store", "", "event", 7, 1)


class RemoteHub:
    """A partition and the coordinator, as calls reach them. error: what they answer instead.
    meanwhile: called when profiles asked for by their keys are on their way."""

    def __init__(self, policy: Literal["proactive", "reactive"] = "proactive") -> None:
        destinations = {"e": EdgeDestination("e", policy=policy)}
        self.catalogue = structs.replace(COPIED, destinations=destinations)
        self.hub = hub = Hub(1, self.catalogue)
        rows = [{"who": f"w{i}", "at": BASE, "_id": f"{i}", "n": 1} for i in range(5)]
        hub.submit([("hits", "p", rows)], BASE)
        self.partition = hub.partitions[0]
        self.error: Exception | None = None
        self.calls = 0
        self.meanwhile: Callable[[], object] = lambda: None

    def submit(self, rows: list[dict[str, Any]]) -> None:
        self.hub.submit([("hits", "q", rows)], BASE)

    def call(self, method: str, *args: Any, timeout_s: float | None = None) -> Any:
        self.calls += 1
        if self.error is not None:
            raise self.error
        if method == "catalogue":
            return self.catalogue
        if method == "hello":
            return None, self.hub.assignment
        answer = pull(self.partition, lambda: None, lambda: 0, 0, *args)
        if len(args) == 4:  # some profiles by their keys; it may take its time on the way
            self.meanwhile()
        return answer


class Edge(EdgeActor):
    """The actor without Ray."""

    def __init__(
        self,
        path: Path,
        hub: RemoteHub,
        ttl_s: int | None = None,
        clock: str = "event",
        config: Config = CONFIG,
    ) -> None:
        self.hub = hub
        policy = hub.catalogue.destinations["e"].policy
        about = structs.replace(ABOUT, ttl_s=ttl_s, policy=policy, clock=clock)
        super().__init__(EdgePlace("", "e", str(path), about, config))

    def _remote(self, name: str) -> Any:
        return self.hub


def status(edge: Edge) -> EdgeStatus:
    found: EdgeStatus = cast(Any, edge).status()  # Ray's types know of calls from afar alone
    return found


class Clock:
    """The wall clock of an edge, ms."""

    def __init__(self) -> None:
        self.now = 1_000_000

    def __call__(self) -> int:
        return self.now


def key_of_profile(hub: RemoteHub, number: int) -> bytes:
    """The key of the profile that came as that one."""
    return hub.partition.state.directory.keys_of(np.array([number])).tobytes()


def looked_up(edge: Edge, keys: bytes) -> list[EdgeProfile | None]:
    """What a look-up answers."""
    now, sizes, data = loads(edge._read(keys))
    out: list[EdgeProfile | None] = []
    end = 0
    for size in sizes:
        out.append(None if size < 0 else profile_of(data[end : end + size], now))
        end += max(0, size)
    return out
