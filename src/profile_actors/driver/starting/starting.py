"""How a store's actors are begun, which only a process that starts it does.

Theory: here, and where edges, standbys and the ledger are begun, comes in what actors are made of:
the engine, the rules, LMDB. A process that attaches imports none of it (``placement``).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import ray

from profile_actors.actors.actor_status import CoordinatorPlace, PartitionPlace
from profile_actors.actors.calls import COORDINATOR, LONG_CALL_FACTOR, Remote
from profile_actors.actors.coordinator import CoordinatorActor
from profile_actors.actors.hooks import Hook, no_hook
from profile_actors.actors.replicas.disk_labels import (
    found_directories,
    labelled_nodes,
    own_disk,
    pinned,
)
from profile_actors.actors.replicas.log_processes import Begin
from profile_actors.actors.replicas.placed_logs import ledger_at, partition_at
from profile_actors.actors.replicas.placed_standby import standby_at
from profile_actors.actors.replicas.standby_line import primary_name
from profile_actors.actors.shell import shell_of
from profile_actors.config import Config
from profile_actors.driver.keeping.attach import publish, refuse_attached
from profile_actors.driver.keeping.ledger_process import begin_known
from profile_actors.driver.keeping.placement import Placement
from profile_actors.driver.keeping.runtime import RUNTIME, address_here
from profile_actors.driver.keeping.standby_processes import begin_standbys
from profile_actors.driver.keeping.wanted_store import check_agreed, claim, wanted_place
from profile_actors.errors import ConfigError
from profile_actors.storage.files.layout import StoreLayout
from profile_actors.storage.files.lock import KEEPER_WAIT_S, DirectoryLock
from profile_actors.storage.store_settings import load_settings_file


class Starting(Placement):
    """The actors of a store that this process starts, or uses on its own Ray."""

    def open(self, place: CoordinatorPlace, hook: Hook) -> None:
        """Start the store, or use it where it runs on this process's Ray."""
        claim(self.path)
        self._is_claimed = True
        refuse_attached(self.path)
        if RUNTIME.must_start():  # takes seconds: be refused before
            self._keeper = self._lock()
        self.is_cluster = RUNTIME.join(self.config, self.session)
        self._is_joined = True
        self._nodes = labelled_nodes()
        self.home = own_disk(self.path, self._nodes)
        found = self._found_coordinator()
        self.coordinator = self._found_at(found or self._new_coordinator(place, hook))
        if not self._is_starter:
            self._take_config()
        self._open_partitions(place, hook)

    def _open_partitions(self, place: CoordinatorPlace, hook: Hook) -> None:
        patience = self.config.call_timeout_s * LONG_CALL_FACTOR
        # Processes take a second to start: do not wait for the coordinator to say how many.
        likely = (load_settings_file(StoreLayout(self.path).settings) or place.new).partitions
        started = [self._partition(i, hook) for i in range(0 if self.home else likely)]
        self.settings, self.assignment = self.coordinator.call("hello", timeout_s=patience)
        count, disks = self.settings.partitions, self._disks()
        started += [self._partition(i, hook, disks.get(i, "")) for i in range(len(started), count)]
        self.partitions = started[:count]
        begin_known(self)
        begin_standbys(self)
        for partition in self.partitions:
            partition.call("hello", timeout_s=patience)

    def _disks(self) -> dict[int, str]:
        if not self.home:
            return {}
        found = found_directories(self.path, self._nodes, self.settings.id, self.home)
        return dict(self.coordinator.call("copies", "deal", found))

    def publish(self, is_keeper: bool) -> None:
        """Let other processes attach, if the store is on a Ray of its own that was started here."""
        if RUNTIME.token and self._is_starter:
            self._is_published = True
            place, who = address_here(), self._pid
            publish(self.path, self.settings.id, place, RUNTIME.token, who, is_keeper=is_keeper)

    def _lock(self) -> DirectoryLock:
        try:
            return DirectoryLock(StoreLayout(self.path).keeper, KEEPER_WAIT_S)
        except OSError as error:
            raise ConfigError(
                f"expected a directory to write in, got {error.strerror} - at {self.path}; make it"
                " yours, or name another"
            ) from None

    def _new_coordinator(self, place: CoordinatorPlace, hook: Hook) -> Remote:
        """Start the store. Raises FencedOut if it runs elsewhere."""
        if self._keeper is None:
            self._keeper = self._lock()
        place = msgspec.structs.replace(place, namespace=self.namespace)
        if self.is_cluster:  # the store outlives this process: the coordinator keeps it
            self._keeper.release()
            place = msgspec.structs.replace(place, is_keeper=True)
        beside: dict[str, Any] = {"num_cpus": 0, "concurrency_groups": {"backups": 1}}
        actor: Any = ray.remote(**beside)(shell_of(CoordinatorActor))
        try:
            how = pinned(self.home)
            begin = Begin(partition_at, ledger_at, standby_at)
            remote = self.create(actor, COORDINATOR, False, place, hook, begin, **how)
        except ValueError:  # somebody else has, a moment ago
            return self.remote(ray.get_actor(COORDINATOR, self.namespace), COORDINATOR)
        self._is_starter = True
        return remote

    def _partition(self, index: int, hook: Hook, disk: str = "") -> Remote:
        place = PartitionPlace(
            self.namespace,
            str(StoreLayout(self.path).partition(index).directory),
            index,
            self.config,
            self.home,
        )
        return self.remote(partition_at(place, disk, hook)(True), primary_name(index))


def opened(
    path: Path,
    partitions: int | None,
    clock: str | None,
    config: Config | None,
    hook: Hook = no_hook,
    *,
    publishing: bool = True,
    is_keeper: bool = False,
) -> Placement:
    """Start a store, or use it where it runs on this process's Ray.

    hook: see ``PartitionActor`` and ``CoordinatorActor``. publishing: let others attach to a Ray of
    the store's own. is_keeper: this process does nothing else (``attach``).
    Raises ConfigError, FencedOut where another process runs the store, StoreUnavailable, and what a
    partition could not open. What was begun is undone then, on a cluster too.
    """
    place = wanted_place(path, partitions, clock, Config() if config is None else config)
    placement = Starting(path, config)
    try:
        placement.open(place, hook)
        check_agreed(path, placement.settings, partitions=partitions, clock=clock)
        if publishing:
            placement.publish(is_keeper)
    except BaseException:
        placement.abandon()
        raise
    return placement
