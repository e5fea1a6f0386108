"""Where a store's actors live, who keeps them running, and who ends them.

Theory: a store is a data directory; what may never change about it (the number of partitions, the
clock, the seed of identity keys) is in its catalogue, which the coordinator opens first. Its actors
are named inside a Ray namespace made from the directory's path, so several stores share a cluster
and a restarted driver finds them.

One keeper at a time: whoever starts a store holds ``keeper.lock`` in its directory, from before Ray
is started until the store is stopped. That is the starting process where the store ends with it,
and the coordinator on a cluster, where the store stays up. Who finds the store running on the same
Ray just uses it; other processes attach to a starter's own Ray by what it has written (``attach``).

Security: whoever reaches a Ray port can run code. A local Ray gets a random token, which its own
processes and the owner of the data directory know, and no dashboard; a cluster's own settings are
left alone.

On several machines actors go where their disk is (``actors/replicas/disk_labels.py``): coordinator
and ledger to the one with the catalogue, where a store is started; partitions where dealt to.
"""

from __future__ import annotations

import contextlib
import os
import time
from pathlib import Path
from typing import Any

import numpy as np
import ray
import xxhash

from profile_actors.actors.calls import COORDINATOR, Remote, Session
from profile_actors.actors.mail.peers import LEDGER_ACTOR
from profile_actors.actors.shell import begun
from profile_actors.config import Config
from profile_actors.driver.keeping.attach import (
    Attachment,
    found_running,
    running,
    withdraw,
)
from profile_actors.driver.keeping.edge_processes import PREFIX, named_actors
from profile_actors.driver.keeping.runtime import RUNTIME, address_here, wanted_address
from profile_actors.driver.keeping.standby_processes import STANDBY
from profile_actors.driver.keeping.wanted_store import (
    check_agreed,
    check_config,
    unclaim,
)
from profile_actors.errors import ProfileActorsError, StoreUnavailable
from profile_actors.storage.files.lock import DirectoryLock
from profile_actors.storage.store_settings import StoreSettings

STOP_TIMEOUT_S = 30.0
"""For what is queued to be committed, and a checkpoint under way to be finished."""

END_PAUSE_S = 0.005
"""Between two looks whether Ray has ended an actor."""


APART = (PREFIX, STANDBY)
"""What the names begin with of actors that come and go while a store runs."""


class Placement:
    """The actors of one store, created or found, and this process's part in keeping them."""

    def __init__(self, path: Path, config: Config | None) -> None:
        self.path = path
        self.config = Config() if config is None else config
        self.namespace = f"profile-actors-{xxhash.xxh3_64_hexdigest(str(path).encode())}"
        self.is_cluster = False
        self.session = Session(str(path), self.namespace)
        self.home = ""
        self._nodes: dict[str, str] = {}
        self._asked = config
        self._pid = os.getpid()
        self._keeper: DirectoryLock | None = None
        self._is_claimed = False
        self._is_joined = False
        self._is_starter = False
        self._is_published = False
        self._has_ended = False
        self._actors: list[Remote] = []
        self.settings: StoreSettings
        self.assignment: np.ndarray
        self.partitions: list[Remote]

    def attach(self) -> None:
        """Use the store where it runs: on the Ray that its keeper started, else on the one that
        this process has, or the cluster of RAY_ADDRESS. Nothing is started."""
        found = self._join()
        self._is_joined = True
        coordinator = self._found_coordinator()
        if coordinator is None:
            raise StoreUnavailable(
                f"expected the store to run on the Ray of {address_here()}, got no actors of it -"
                f" at {self.path}; start it there with pf.start, or leave that Ray (RAY_ADDRESS) to"
                " attach to the process that runs it"
            )
        self.coordinator = self._found_at(coordinator)
        self.settings, self.assignment = coordinator.call("hello")
        if found is not None and found.store != self.settings.id:
            raise StoreUnavailable(
                f"expected store {found.store}, got {self.settings.id} - at {self.path}; it is just"
                " being replaced: try again"
            )
        self._take_config()
        names = [f"partition-{index}" for index in range(self.settings.partitions)]
        self.partitions = [self.remote(self._found(name), name) for name in names]

    def _take_config(self) -> None:
        """The running store's Config holds for all. Raises ConfigError if another was asked for."""
        self.config = self.coordinator.call("config")
        check_config(self.path, self._asked, self.config)
        for actor in self._actors:
            actor.timeout_s = self.config.call_timeout_s

    def _join(self) -> Attachment | None:
        """Join the Ray that the store runs on; what its keeper has written, where there is one."""
        found = running(self.path)
        if found is None and (ray.is_initialized() or wanted_address() is not None):
            RUNTIME.join_running(wanted_address(), self.config, self.session)  # a cluster's store
            return None
        found = found_running(self.path)
        RUNTIME.attach(self.path, found, self.session, self.config.call_timeout_s)
        return found

    def _found(self, name: str) -> Any:
        try:
            return ray.get_actor(name, namespace=self.namespace)
        except ValueError:
            raise StoreUnavailable(
                f"expected {name} of the running store, got none - at {self.path}; it is just being"
                " stopped, or was not opened whole: try again"
            ) from None

    def _found_coordinator(self) -> Remote | None:
        """That of a store which runs on this Ray already."""
        try:
            handle = ray.get_actor(COORDINATOR, namespace=self.namespace)
        except ValueError:
            return None
        return self.remote(handle, COORDINATOR)

    def create(self, actor: Any, name: str, may_exist: bool, *args: Any, **options: Any) -> Remote:
        """Start a named actor of the store, or find it, if that may be."""
        return self.remote(begun(actor, name, self.namespace, may_exist, *args, **options), name)

    def _found_at(self, coordinator: Remote) -> Remote:
        """Actors that are begun anew by their names are this store's as long as this is its own."""
        self.session.coordinator = coordinator.handle
        return coordinator

    def remote(self, handle: Any, name: str) -> Remote:
        """An actor of the store, to be called."""
        remote = Remote(handle, name, self.config.call_timeout_s, self.session)
        self._actors.append(remote)
        return remote

    @property
    def is_here(self) -> bool:
        """Whether this is the process that started, and no fork of it."""
        return os.getpid() == self._pid

    def stop(self) -> None:
        """Let go of the store. One that this process started on a Ray of its own ends, flushed.

        Any other stays up: on a cluster, or started by somebody else. Ray is left alone unless it
        was started for stores, and this is the last of them. In a forked child nothing happens.
        """
        self._end(must_stop=self._is_starter and not self.is_cluster)

    def abandon(self) -> None:
        """Undo a start that failed: what it started ends, on a cluster too."""
        self._end(must_stop=self._is_starter)

    def _end(self, must_stop: bool) -> None:
        if not self.is_here or self._has_ended:
            return
        self._has_ended = True
        try:
            self.session.close()
            if self._is_published:  # before the first actor is stopped
                withdraw(self.path)
            if must_stop and ray.is_initialized():
                self._stop_actors()
        finally:
            try:
                if self._is_joined:
                    self._is_joined = False
                    RUNTIME.leave(self.session)
            finally:
                if self._keeper is not None:
                    self._keeper.release()
                if self._is_claimed:
                    unclaim(self.path)

    def _stop_actors(self) -> None:
        others = [*named_actors(self.namespace, APART), LEDGER_ACTOR]
        apart = (*APART, LEDGER_ACTOR)
        self._actors = [one for one in self._actors if not one.name.startswith(apart)]
        for name in others:  # whoever began it; those that have ended are not waited for
            with contextlib.suppress(StoreUnavailable):
                self.remote(self._found(name), name)
        for one in self._actors:  # that may have been begun anew meanwhile
            with contextlib.suppress(ValueError):
                one.handle = ray.get_actor(one.name, namespace=self.namespace)
        # In reverse order: standbys after the partitions, whose last entries they take.
        self._actors.sort(
            key=lambda one: (one.name != COORDINATOR, not one.name.startswith(STANDBY))
        )
        try:
            own = Session(str(self.path))  # the doors' is closed by now
            for actor in reversed(self._actors):
                last = Remote(actor.handle, actor.name, STOP_TIMEOUT_S, own)
                with contextlib.suppress(ProfileActorsError):  # a dead one has nothing to flush
                    last.call("stop")
        finally:
            # The coordinator last: who finds none finds no partition of the old store either.
            for actor in reversed(self._actors):
                ray.kill(actor.handle, no_restart=True)
            self._await_end()

    def _await_end(self) -> None:
        """Until no actor is found by its name: Ray kills later than it says, and whoever opens
        the store again meanwhile would talk to the dying."""
        end = time.monotonic() + STOP_TIMEOUT_S
        for actor in self._actors:
            while time.monotonic() < end and _is_named(actor, self.namespace):
                time.sleep(END_PAUSE_S)


def _is_named(actor: Remote, namespace: str) -> bool:
    """Whether Ray still hands out this very actor to who asks by name."""
    try:
        found = ray.get_actor(actor.name, namespace=namespace)
    except ValueError:
        return False
    return bool(found == actor.handle)


def attached(
    path: Path, config: Config | None, partitions: int | None = None, clock: str | None = None
) -> Placement:
    """Use a running store. Raises ConfigError, StoreUnavailable."""
    placement = Placement(path, config)
    try:
        placement.attach()
        check_agreed(path, placement.settings, partitions=partitions, clock=clock)
    except BaseException:
        placement.abandon()
        raise
    return placement
