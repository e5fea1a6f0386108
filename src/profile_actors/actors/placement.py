"""Where a store's actors live: a local Ray of its own, or the cluster of RAY_ADDRESS.

Theory: a store is a data directory; what may never change about it (the number of partitions, the
clock, the seed of identity keys) is in its catalogue, which the coordinator opens first. Its actors
are named inside a Ray namespace made from the directory's path, so several stores share a cluster
and a restarted driver finds them.

Security: whoever reaches a Ray port can run code. A local Ray gets a random token that lives in
this process and its children only, and no dashboard; a cluster's own settings are left alone.

Limits: one machine; the data directory is this one's. Placing partitions by disk label comes with
clusters of several machines.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import tempfile
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import ray
import xxhash

from profile_actors.actors.calls import LONG_CALL_FACTOR, Remote
from profile_actors.actors.coordinator import CoordinatorActor, CoordinatorPlace
from profile_actors.actors.partition_actor import PartitionActor, PartitionPlace, wall_ms
from profile_actors.actors.writer import Hook, no_hook
from profile_actors.config import Config
from profile_actors.errors import ConfigError, ProfileActorsError
from profile_actors.ingest.keys import BUCKETS
from profile_actors.storage.catalogue import StoreSettings
from profile_actors.storage.layout import StoreLayout

DEFAULT_PARTITIONS_MAX = 8
"""Partitions of a new store unless told otherwise: one per core, up to this."""
EVENT_SEED = 1
"""Seed of identity keys where replays shall be equal; elsewhere nobody can foresee a partition."""
EXTRA_SUBMIT_THREADS = 8
"""Callers beyond a full queue, whom the actor can tell 'busy' at once."""
READ_THREADS = 4
STOP_TIMEOUT_S = 30.0
"""For what is queued to be committed, and a checkpoint under way to be finished."""
LONGEST_TEMP_DIR = 40
"""Ray puts sockets below its temp directory, and a socket's path may have 107 bytes."""
_OPEN: set[str] = set()
"""Directories of the stores that this process has open."""


def wanted_place(
    path: Path, partitions: int | None, clock: str | None, config: Config
) -> CoordinatorPlace:
    """What to open, checked as far as that goes without opening it. Raises ConfigError."""
    if clock not in (None, "wall", "event"):
        raise ConfigError(f"expected clock 'wall' or 'event', got {clock!r} - at start")
    is_number = isinstance(partitions, int) and not isinstance(partitions, bool)
    if partitions is not None and not (is_number and 1 <= partitions <= BUCKETS):
        raise ConfigError(f"expected 1 to {BUCKETS} partitions, got {partitions!r} - at start")
    if not isinstance(config, Config):
        raise ConfigError(f"expected a pf.Config, got {config!r} - at start")
    kept = _kept_settings(path)
    if kept is not None:  # better said before Ray is started than after
        check_agreed(path, kept, partitions=partitions, clock=clock)
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(
            f"expected a directory, or a place for one, got {error.strerror} - at {path}; name"
            " another"
        ) from None
    new = StoreSettings(
        partitions=partitions or min(os.cpu_count() or 1, DEFAULT_PARTITIONS_MAX),
        clock="event" if clock == "event" else "wall",
        # On the event clock a replay repeats everything, the order between partitions included.
        hash_seed=EVENT_SEED if clock == "event" else secrets.randbits(63),
        created=wall_ms(),
    )
    return CoordinatorPlace(str(path), new, config)


def join_ray(config: Config) -> tuple[bool, bool]:
    """Be connected to Ray. Returns (is a cluster that outlives us, was started here)."""
    address = os.environ.get("RAY_ADDRESS")
    if ray.is_initialized():
        return bool(address), False
    quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": "ERROR"}
    if address:
        ray.init(address=address, **quiet)
        return True, False
    if "RAY_AUTH_MODE" not in os.environ:
        # Ray then turns token mode on by itself; without this it would write one into the home.
        os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_DEDUP_LOGS", "0")
    # Ray's workers run at nice 15 by default: any other program would come before the partitions.
    os.environ.setdefault("RAY_worker_niceness", "0")
    if len(tempfile.gettempdir()) > LONGEST_TEMP_DIR:
        quiet["_temp_dir"] = "/tmp/profile-actors-ray"
    ray.init(
        num_cpus=max(2, os.cpu_count() or 1),
        include_dashboard=False,
        object_store_memory=config.object_store_mb << 20,
        **quiet,
    )
    return False, True


def check_agreed(path: Path, settings: StoreSettings, **asked: object) -> None:
    """Raises ConfigError if a store is asked to be what it was not made as. None asks nothing."""
    for name, wanted in asked.items():
        kept = getattr(settings, name)
        if wanted is not None and wanted != kept:
            raise ConfigError(
                f"expected {name}={kept!r} as the store was made with, got {wanted!r} - at {path};"
                f" leave {name} out to open it, or start elsewhere"
            )


def _kept_settings(path: Path) -> StoreSettings | None:
    """What an existing store was made as, if its settings file tells; the catalogue decides."""
    try:
        return msgspec.json.decode(StoreLayout(path).settings.read_bytes(), type=StoreSettings)
    except (OSError, msgspec.MsgspecError):
        return None


class Placement:
    """The actors of one store, created or found."""

    def __init__(self, place: CoordinatorPlace, hook: Hook = no_hook) -> None:
        """hook: see ``PartitionActor``. Raises ConfigError, and what a partition could not open."""
        self.path = Path(place.path)
        self.config = place.config
        if place.path in _OPEN:
            raise ConfigError(
                f"expected a store that this process has not open, got one that it has - at"
                f" {place.path}; use the Store that start() returned, or close it first"
            )
        self.is_cluster, self.owns_ray = join_ray(self.config)
        _OPEN.add(place.path)
        self.namespace = f"profile-actors-{xxhash.xxh3_64_hexdigest(place.path.encode())}"
        self._actors: list[Remote] = []
        try:
            patience = self.config.call_timeout_s * LONG_CALL_FACTOR
            actor = ray.remote(num_cpus=0)(CoordinatorActor)
            self.coordinator = self._create(actor, "coordinator", place)
            # Processes take a second to start: do not wait for the coordinator to say how many.
            likely = (_kept_settings(self.path) or place.new).partitions
            started = [self._partition(index, hook) for index in range(likely)]
            self.settings: StoreSettings
            self.assignment: np.ndarray
            self.settings, self.assignment = self.coordinator.call("hello", timeout_s=patience)
            count = self.settings.partitions
            started += [self._partition(index, hook) for index in range(len(started), count)]
            self.partitions = started[:count]
            for partition in self.partitions:
                partition.call("hello", timeout_s=patience)
        except BaseException:
            self.stop()
            raise

    def _partition(self, index: int, hook: Hook) -> Remote:
        place = PartitionPlace(
            self.namespace,
            str(StoreLayout(self.path).partition(index).directory),
            index,
            self.config,
        )
        groups = {
            "submit": self.config.max_queue_batches + EXTRA_SUBMIT_THREADS,
            "read": READ_THREADS,
            "preview": 1,
            "define": 1,
        }
        options: dict[str, Any] = {"num_cpus": 0, "concurrency_groups": groups}
        actor = ray.remote(**options)(PartitionActor)
        return self._create(actor, f"partition-{index}", place, hook)

    def _create(self, actor: Any, name: str, *args: Any) -> Remote:
        handle = actor.options(
            name=name,
            namespace=self.namespace,
            lifetime="detached",
            get_if_exists=True,
            max_restarts=-1,
            max_task_retries=0,
        ).remote(*args)
        remote = Remote(handle, name, self.config.call_timeout_s)
        self._actors.append(remote)
        return remote

    def stop(self) -> None:
        """Flush and end a local store's actors, and the Ray that was started for it.

        On a cluster nothing happens: the store stays up.
        """
        _OPEN.discard(str(self.path))
        try:
            if not self.is_cluster:
                for actor in reversed(self._actors):
                    with contextlib.suppress(ProfileActorsError):  # a dead one has nothing to flush
                        actor.call("stop", timeout_s=STOP_TIMEOUT_S)
                for actor in self._actors:
                    ray.kill(actor.handle, no_restart=True)
        finally:
            if self.owns_ray:
                ray.shutdown()
