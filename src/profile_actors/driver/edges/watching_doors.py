"""The doors through which a program looks after a store, and at its edges."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import msgspec
import ray

from profile_actors.actors.actor_status import ActorStatus, ErasureProgress
from profile_actors.actors.calls import Lost, Patience, Remote, call_all
from profile_actors.actors.edges.edge_accounts import EdgeStatus
from profile_actors.definitions.declared import Catalogue, EdgeDestination
from profile_actors.driver.arguments import text_name, whole_number
from profile_actors.driver.connection import Connection
from profile_actors.driver.keeping.edge_processes import actor_name, begun, directory_of
from profile_actors.driver.keeping.ledger_process import begun_account, running_ledger
from profile_actors.driver.receipts import StoreStatus, store_status
from profile_actors.engine.shipping.replication import Copies
from profile_actors.errors import DefinitionError, StoreUnavailable

if TYPE_CHECKING:
    from profile_actors.driver.edges.remote_edge import Edge
    from profile_actors.driver.keeping.placement import Placement

STATUS_PATIENCE_S = 2.0
"""How long an edge is waited for by ``status``, or a partition whose disk may be away."""


def accounts(
    partitions: Sequence[Remote], records: dict[int, Copies], erasing: ErasureProgress | None = None
) -> list[ActorStatus]:
    """Each partition's account of itself. records: of those whose log is on a disk that may be
    away: such a one that does not answer is told, not waited for; nor is any during an erasure,
    for which they all stand still."""
    if not records and erasing is None:
        return call_all(list(partitions), "status")
    asked = [remote.begin("status") for remote in partitions]
    out: list[ActorStatus] = []
    for index, remote in enumerate(partitions):
        if index not in records and erasing is None:
            out.append(remote.call("status"))
            continue
        patience = Patience(STATUS_PATIENCE_S)
        try:
            found: ActorStatus = remote.finish(asked[index], patience)
        except (Lost, StoreUnavailable):
            if erasing is None:
                why = f"waiting for disk {records[index].primary}: no node with it answers"
            else:
                why = f"stands still for erasure {erasing.number}"
            found = ActorStatus(None, why, 0, "", 0, node="", since=0)
        if index in records:
            found = msgspec.structs.replace(found, disk=records[index].primary)
        out.append(found)
    return out


class WatchingDoors:
    """The part of ``Store`` that says how it is, and knows its edges."""

    _connection: Connection
    _placement: Placement

    def _check_open(self) -> None:
        raise NotImplementedError

    def edge(self, name: str) -> Edge:
        """An edge: copies of profiles that are kept near whoever looks them up.

        name: of its EdgeDestination. Raises DefinitionError if there is none.
        """
        self._check_open()
        text_name(name, "name", "edge")
        known = self._destinations()
        if name not in known:
            raise DefinitionError(
                f"expected the name of an edge destination, got {name!r} - at edge; known:"
                f" {', '.join(sorted(known)) or 'none yet'}"
            )
        found = self._running(known[name])
        return found or self._edge(name, begun(self._placement, known[name]))

    def _destinations(self) -> dict[str, EdgeDestination]:
        """The newest: another driver may have applied or deleted some since this one did."""
        catalogue: Catalogue = self._connection.coordinator.call("catalogue")
        return catalogue.destinations

    def _running(self, destination: EdgeDestination) -> Edge | None:
        called, placement = actor_name(destination), self._placement
        try:
            handle = ray.get_actor(called, namespace=placement.namespace)
        except ValueError:
            return None
        timeout_s = self._connection.config.call_timeout_s
        remote = Remote(handle, called, timeout_s, placement.session)
        return self._edge(destination.name, remote)

    def _edge(self, name: str, remote: Remote) -> Edge:
        from profile_actors.driver.edges.remote_edge import Edge

        own = self._connection
        return Edge(name, remote, own.keys, lambda: own.read_all("head"), own.lines_to(remote))

    def status(self) -> StoreStatus:
        """The store's account of itself, a partition or edge that is in trouble included."""
        self._check_open()
        coordinator = self._connection.coordinator
        rejected: dict[str, tuple[int, int, int]] = coordinator.call("rejected")
        notes: list[str] = coordinator.call("notes")
        account = begun_account(self._placement.namespace, self._placement.session)
        records: dict[int, Copies] = coordinator.call("copies", "all")
        erasing: ErasureProgress | None = coordinator.call("erasures", "progress")
        actors = accounts(self._connection.partitions, records, erasing)
        version = self._connection.catalogue.version
        path, clock = str(self._placement.path), self._connection.clock
        found = store_status(path, clock, version, rejected, actors, notes, account())
        heads = [0 if one.partition is None else one.partition.position for one in actors]
        edges = {
            name: self._edge_status(destination, heads)
            for name, destination in sorted(self._destinations().items())
        }
        return msgspec.structs.replace(found, edges=edges, erasure=erasing)

    def _edge_status(self, destination: EdgeDestination, heads: list[int]) -> EdgeStatus:
        """An edge that does not run is told, not begun."""
        name = destination.name
        try:
            edge = self._running(destination)
            if edge is None:
                raise StoreUnavailable(
                    f"expected a process of edge {name!r}, got none; edge({name!r}) begins it, or"
                    " says why it cannot"
                )
            found = edge.status(STATUS_PATIENCE_S)
        except StoreUnavailable as error:
            path = str(directory_of(self._placement.path, name))
            return EdgeStatus(0, 0, False, 0.0, 0, [], 0, 0, str(error), 0, path)
        behind = sum(max(0, head - at) for head, at in zip(heads, found.positions, strict=True))
        return msgspec.structs.replace(found, lag_entries=behind)

    def verify(self, sample: int | None = None) -> list[str]:
        """Re-read every log entry, refold (sample) profiles and all links, and compare each edge
        with the hub, profile by profile; the differences, [] when none."""
        self._check_open()
        if sample is not None:
            sample = whole_number(sample, "sample", "verify", 0)
        patience = self._connection.long_timeout_s
        found = call_all(self._connection.partitions, "verify", sample, timeout_s=patience)
        out = [f"partition {i}: {line}" for i, lines in enumerate(found) for line in lines]
        place = self._placement
        ledger = running_ledger(place.namespace, place.session, patience)
        if ledger is not None:
            out += [f"ledger: {line}" for line in ledger.call("verify")]
        from profile_actors.driver.edges.comparison import differences

        for name in sorted(self._destinations()):
            out += differences(self._connection, self.edge(name))
        return out
