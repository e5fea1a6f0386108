"""A standby's actor: how it is begun, on the node that has its disk.

Rules for editors: whoever attaches loads this; what the actor is made of is imported where one is
begun.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import ray

from profile_actors.actors.actor_status import StandbyPlace
from profile_actors.actors.replicas.disk_labels import pinned
from profile_actors.actors.replicas.standby_line import standby_name
from profile_actors.actors.shell import begun, shell_of

STANDBY_CALLERS = 4
"""Calls that a standby takes at a time: one entry, and questions."""


def standby_at(place: StandbyPlace, disk: str) -> Callable[[bool], Any]:
    """What begins a standby's actor, or finds it if it may exist, on the node with a disk ("":
    anywhere)."""
    from profile_actors.actors.replicas.standby_actor import StandbyActor

    options: dict[str, Any] = {"num_cpus": 0, "max_concurrency": STANDBY_CALLERS}
    actor: Any = ray.remote(**options)(shell_of(StandbyActor))
    name, namespace = standby_name(place.index), place.namespace
    return lambda may_exist: begun(actor, name, namespace, may_exist, place, **pinned(disk))
