"""Where the processes of a log and of its copy are: on the node that has the disk.

Theory: Ray makes an actor again wherever its label is (``disk_labels``), and its label never
changes. So when a log's copies change places, or a copy goes to another disk, the actors are ended
and begun anew under their names, by the coordinator, which has the record that says where. Whoever
finds itself on a node whose disk it has nothing on asks for that; so a crash at any step is one
more start. Drivers find the new one by its name (``calls.Remote``).

Where nothing is placed by labels, processes change places by asking for their role at a start.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import ray

from profile_actors.actors.actor_status import (
    CoordinatorPlace,
    LedgerPlace,
    PartitionPlace,
    StandbyPlace,
)
from profile_actors.actors.hooks import Hook
from profile_actors.actors.replicas.disk_labels import labelled_nodes, own_label
from profile_actors.actors.replicas.node_sweeps import NodeSweeps
from profile_actors.actors.replicas.standby_line import primary_name, standby_name
from profile_actors.actors.shell import END_S, ended
from profile_actors.engine.shipping.replication import Copies
from profile_actors.errors import ConfigError
from profile_actors.storage.files.layout import LEDGER, StoreLayout
from profile_actors.storage.replicas.standby_files import found_disk


class Begin(NamedTuple):
    """How a log's actor is begun, and its standby's: what the coordinator is given. Each imports
    what the actor is made of, and gives what begins it; see ``placed_logs``."""

    partition: Callable[[PartitionPlace, str, Hook], Callable[[bool], Any]]
    ledger: Callable[[LedgerPlace, str], Callable[[bool], Any]]
    standby: Callable[[StandbyPlace, str], Callable[[bool], Any]]


class Places:
    """The coordinator's part; see the module. home: the disk with the catalogue, "" for a store
    that is not placed by labels, of which nothing else may be asked."""

    def __init__(self, place: CoordinatorPlace, hook: Hook, begin: Begin | None) -> None:
        self._place = place
        self._hook = hook
        self._begin = begin
        found = found_disk(Path(place.path))
        is_labelled = begin is not None and found is not None and found.disk == own_label()
        self.home = found.disk if found is not None and is_labelled else ""
        self.sweeps = NodeSweeps(place.namespace, self.home)

    def is_there(self, disk: str) -> bool:
        """Whether a node has the disk just now."""
        try:
            return disk in labelled_nodes()
        except ConfigError:  # two say so: one of them is being forgotten
            return True

    def is_of(self, name: str, actor: str) -> bool:
        """Whether the actor of a name is the one with this id."""
        try:
            found: Any = ray.get_actor(name, namespace=self._place.namespace)
        except ValueError:
            return False
        return bool(found._actor_id.hex() == actor)

    def settle(self, index: int, copies: Copies, *, standby_alone: bool = False) -> None:
        """Have the processes of a log where its record says. Cost: a few of Ray's calls."""
        own, config, begin = self._place, self._place.config, self._begin
        assert begin is not None, index
        namespace = own.namespace
        if not standby_alone:
            path = str(StoreLayout(Path(own.path)).partition(index).directory)
            self._anew(primary_name(index), self._primary(index, path, copies.primary))
        if copies.standby:
            standby = StandbyPlace(namespace, own.path, index, config, self.home)
            self._anew(standby_name(index), begin.standby(standby, copies.standby))
        else:
            ended(standby_name(index), namespace)

    def _primary(self, index: int, path: str, disk: str) -> Callable[[bool], Any]:
        own, config, begin = self._place, self._place.config, self._begin
        assert begin is not None, index
        if index == LEDGER:
            return begin.ledger(LedgerPlace(own.namespace, path, config, self.home), disk)
        place = PartitionPlace(own.namespace, path, index, config, self.home)
        return begin.partition(place, disk, self._hook)

    def _anew(self, name: str, begin: Callable[[bool], Any]) -> None:
        """Begin an actor in place of the one that has its name. A driver that looks for it just
        then may begin one by an older record: that one ends, too."""
        end = time.monotonic() + END_S
        while True:
            ended(name, self._place.namespace)
            try:
                begin(False)
            except ValueError:
                if time.monotonic() > end:
                    raise
            else:
                return
