"""The actors of standbys: who begins them, and who finds them."""

from __future__ import annotations

import time
from collections.abc import Iterable
from contextlib import suppress

import ray

from profile_actors.actors.actor_status import StandbyPlace
from profile_actors.actors.calls import Remote
from profile_actors.actors.replicas.standby_line import primary_name, standby_name
from profile_actors.driver.keeping.edge_processes import Host
from profile_actors.engine.shipping.replication import Copies

STANDBY = "standby-"


END_S = 10.0


LOOK_S = 0.02


def begin_standbys(host: Host) -> list[Remote]:
    """Start, or find, the standbys that the store's logs are to have."""
    records: dict[int, Copies] = host.coordinator.call("copies", "all")
    return begun(host, [index for index, copies in records.items() if copies.standby])


def begun(host: Host, indexes: Iterable[int]) -> list[Remote]:
    """The standbys of these partitions, or of LEDGER."""
    from profile_actors.actors.replicas.standby_actor import standby_class

    actor = standby_class()
    return [
        host.create(
            actor, standby_name(index), True,
            StandbyPlace(host.namespace, str(host.path), index, host.config),
        )
        for index in indexes
    ]  # fmt: skip


def end_standby(host: Host, index: int) -> None:
    """End a log's standby, where one runs, and wait until its name is free: Ray kills later
    than it says, and who asks for a new one by that name would get the dying one."""
    end = time.monotonic() + END_S
    with suppress(ValueError):
        ray.kill(ray.get_actor(standby_name(index), namespace=host.namespace), no_restart=True)
        while time.monotonic() < end:
            ray.get_actor(standby_name(index), namespace=host.namespace)
            time.sleep(LOOK_S)


def restart_primary(namespace: str, index: int) -> None:
    """Have a log's process begin anew, where one runs: it asks where its log is."""
    with suppress(ValueError):
        ray.kill(ray.get_actor(primary_name(index), namespace=namespace), no_restart=False)
