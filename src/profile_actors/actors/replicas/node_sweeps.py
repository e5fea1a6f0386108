"""Copies of logs that no record names any more, on the disks of other nodes.

Theory: a disk that was away until another had taken its place comes back with what it had. One task
on its node looks, and asks the coordinator about each log that it finds, at that moment; what may
go is deleted while its lock is held, so that nobody has it open.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import ray

from profile_actors.actors.calls import COORDINATOR
from profile_actors.actors.replicas.disk_labels import DATA, labelled_nodes, pinned
from profile_actors.actors.replicas.disks_beside import is_past
from profile_actors.engine.shipping.replication import Copies
from profile_actors.errors import ConfigError, FencedOut
from profile_actors.storage.files.atomic_files import remove_tree
from profile_actors.storage.files.layout import PartitionLayout, StoreLayout
from profile_actors.storage.files.lock import DirectoryLock
from profile_actors.storage.log_ages import MAP_BYTES, stamp_of
from profile_actors.storage.replicas.standby_files import found_disk


class NodeSweeps:
    """The coordinator's part; see the module."""

    def __init__(self, namespace: str, home: str) -> None:
        self._namespace = namespace
        self._home = home
        self._swept: dict[str, object] = {}
        self._running: dict[str, Any] = {}

    def look(self, records: Mapping[int, Copies], disks: Mapping[str, str]) -> None:
        """Have nodes looked at that are new, or since records have changed. Does not wait."""
        with suppress(ConfigError):  # two have one disk: another look finds them apart
            for disk, node in labelled_nodes().items():
                is_running = disk in self._running and not _is_done(self._running[disk])
                now = (node, sorted(records.items(), key=lambda one: one[0]))
                if disk == self._home or disk not in disks or is_running:
                    continue
                if self._swept.get(disk) == now:
                    continue
                self._swept[disk] = now
                indexes = [at for at, one in records.items() if is_past(one, disk, one.epoch)]
                if indexes:
                    task = ray.remote(num_cpus=0, max_retries=0)(_sweep).options(**pinned(disk))
                    words = self._namespace, disks[disk], disk, indexes
                    self._running[disk] = task.remote(*words)


def _is_done(answer: Any) -> bool:
    return bool(ray.wait([answer], timeout=0)[0])


def _sweep(namespace: str, known: str, disk: str, indexes: list[int]) -> None:
    """On the node with the disk."""
    directory = Path(os.environ.get(DATA) or known)
    found = found_disk(directory)
    if found is None or found.disk != disk:
        return
    coordinator: Any = ray.get_actor(COORDINATOR, namespace=namespace)
    layout = StoreLayout(directory)
    for index in indexes:
        for paths in (layout.standby(index), layout.partition(index)):
            with suppress(FencedOut):
                if paths.directory.exists():
                    _drop(coordinator, index, disk, paths)


def _drop(coordinator: Any, index: int, disk: str, paths: PartitionLayout) -> None:
    lock = DirectoryLock(paths.lock, 0.0)
    try:
        stamp = stamp_of(paths, MAP_BYTES)
        if stamp is None:
            return
        if ray.get(coordinator.copies.remote("is_past", index, disk, stamp.epoch)):
            remove_tree(paths.directory)
    finally:
        lock.release()
