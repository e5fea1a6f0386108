"""The actors of logs that are in force: how they are begun, on the node that has the disk."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import ray

from profile_actors.actors.actor_status import LedgerPlace, PartitionPlace
from profile_actors.actors.hooks import Hook
from profile_actors.actors.mail.ledger_actor import MAIL_THREADS, ledger_class
from profile_actors.actors.mail.peers import LEDGER_ACTOR
from profile_actors.actors.partition_actor import READ_THREADS, PartitionActor
from profile_actors.actors.replicas.disk_labels import pinned
from profile_actors.actors.replicas.standby_line import primary_name
from profile_actors.actors.shell import begun, shell_of

EXTRA_SUBMIT_THREADS = 8
"""Callers beyond a full queue, whom the actor can tell 'busy' at once."""


def partition_at(place: PartitionPlace, disk: str, hook: Hook) -> Callable[[bool], Any]:
    """What begins a partition's actor, or finds it if it may exist, on the node with a disk ("":
    anywhere)."""
    groups = {
        "submit": place.config.max_queue_batches + EXTRA_SUBMIT_THREADS,
        "read": READ_THREADS,
        "mail": MAIL_THREADS,
        "preview": 1,
        "define": 1,
        "edges": 2 * place.config.max_edges,  # each follows, and asks for single profiles
        "backups": 1,
    }
    options: dict[str, Any] = {"num_cpus": 0, "concurrency_groups": groups}
    actor: Any = ray.remote(**options)(shell_of(PartitionActor))
    name, namespace = primary_name(place.index), place.namespace
    return lambda may_exist: begun(actor, name, namespace, may_exist, place, hook, **pinned(disk))


def ledger_at(place: LedgerPlace, disk: str) -> Callable[[bool], Any]:
    """What begins the ledger's actor, as ``partition_at``."""
    name, namespace = LEDGER_ACTOR, place.namespace
    return lambda may_exist: begun(
        ledger_class(), name, namespace, may_exist, place, **pinned(disk)
    )
