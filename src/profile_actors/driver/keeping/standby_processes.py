"""The actors of standbys: who begins them, and who finds them."""

from __future__ import annotations

from contextlib import suppress
from typing import Any, Protocol

import ray

from profile_actors.actors.actor_status import StandbyPlace
from profile_actors.actors.calls import Remote
from profile_actors.actors.replicas.placed_standby import standby_at
from profile_actors.actors.replicas.standby_line import primary_name, standby_name
from profile_actors.actors.shell import ended
from profile_actors.driver.keeping.edge_processes import Host
from profile_actors.engine.shipping.replication import Copies

STANDBY = "standby-"


class Keeper(Host, Protocol):
    """What of a store's placement is used here."""

    def remote(self, handle: Any, name: str) -> Remote:
        """An actor of the store, to be called."""
        ...


def begin_standbys(host: Keeper) -> list[Remote]:
    """Start, or find, the standbys that the store's logs are to have."""
    records: dict[int, Copies] = host.coordinator.call("copies", "all")
    return [begun(host, index, copies) for index, copies in records.items() if copies.standby]


def begun(host: Keeper, index: int, copies: Copies) -> Remote:
    """The standby that the record of a log names."""
    home: str = host.coordinator.call("copies", "labelled")
    place = StandbyPlace(host.namespace, str(host.path), index, host.config, home)
    begin = standby_at(place, copies.standby if home else "")
    return host.remote(begin(True), standby_name(index))


def end_standby(host: Host, index: int) -> None:
    """End a log's standby, where one runs, and wait until its name is free."""
    ended(standby_name(index), host.namespace)


def restart_primary(namespace: str, index: int) -> None:
    """Have a log's process begin anew, where one runs: it asks where its log is."""
    with suppress(ValueError):
        ray.kill(ray.get_actor(primary_name(index), namespace=namespace), no_restart=False)
