"""The world of ``world.py`` on real files: LMDB logs, feeds, checkpoints, a catalogue.

Without Ray: calls are made in this process. So it can be backed up as a store is, and opened from a
directory that a backup was restored to.
"""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from threading import Lock
from typing import Any

from msgspec import structs

from profile_actors.actors.actor_status import CoordinatorPlace
from profile_actors.actors.coordinator import CoordinatorActor
from profile_actors.actors.logs.enlisted_log import EnlistedLog
from profile_actors.actors.logs.log_steps import log_step
from profile_actors.driver.shipping.backing_up import Backup, backed_up
from profile_actors.engine.identity.ledger import Ledger
from profile_actors.engine.identity.mailbox import Post
from profile_actors.engine.identity.messages import LEDGER
from profile_actors.engine.partition.partition import Partition
from profile_actors.storage.checkpoint_files import FileCheckpoints
from profile_actors.storage.files.layout import LEDGER as LEDGER_LOG
from profile_actors.storage.files.layout import StoreLayout
from profile_actors.storage.lmdb_feed import LmdbFeed
from profile_actors.storage.shipping.depot import Depot
from profile_actors.storage.store_settings import StoreSettings
from tests.sim.world import BASE, CONFIG, SEED, NoRest, Scenario, World

SMALL = structs.replace(CONFIG, log_segment_bytes=60_000, log_map_bytes=4_000_000)
"""Logs of several segments."""


def no_hook(_: str) -> None:
    pass


class Here:
    """An actor's stand-in: calls are made at once, by one thread at a time."""

    def __init__(self, actor: Any, lock: Any, between: Callable[[], None]) -> None:
        self._actor, self._lock, self._between = actor, lock, between

    def call(self, method: str, *args: Any, timeout_s: float | None = None) -> Any:
        with self._lock:
            self._between()
            return getattr(self._actor, method)(*args)


class Sequencer:
    """What answers ``log_step`` for a log of a world, whatever object has it open by now."""

    def __init__(self, world: DiskWorld, name: str) -> None:
        self._world, self._name = world, name

    def log_step(self, step: str, *args: Any) -> Any:
        enlisted = self._world.enlisted[self._name]
        self._world.asked.append(step)
        return log_step(enlisted, lambda: None, self._world.hook, step, *args)


class DiskWorld(World):
    """See the module. A directory that has a store is opened, and goes on where its logs end."""

    def __init__(self, path: Path, scenario: Scenario, partitions: int, rng: random.Random) -> None:
        self.path, self.layout = path, StoreLayout(path)
        is_new = not self.layout.settings.exists()
        new = StoreSettings(partitions=partitions, clock="event", hash_seed=SEED, created=BASE)
        self.hook: Callable[[str], None] = no_hook
        place = CoordinatorPlace(str(path), new, SMALL)
        self.coordinator = CoordinatorActor(place, lambda name: self.hook(name))
        self.here = Here(self.coordinator, Lock(), lambda: None)
        self.nodes: dict[str, Any] = {}
        self.enlisted: dict[str, EnlistedLog] = {}
        self.asked: list[str] = []
        super().__init__(scenario, partitions, rng, 0.0, self._link_at_once)
        if is_new:
            self.coordinator.recall(0, scenario.catalogue)
        else:
            self._tell_who_is_there()

    def _link_at_once(self, _: World) -> None:
        self.is_linking = True

    def _tell_who_is_there(self) -> None:
        """A feed that begins at a checkpoint says nothing of those who were members before."""
        for index, partition in enumerate(self.partitions):
            self.fed[index] = partition.changes(-1, 1 << 30)[1]
            told: dict[tuple[str, str], set[Any]] = defaultdict(set)
            for name in self.scenario.catalogue.segments:
                members = partition.members(name)[0]
                told["membership", name] = {(i.namespace, i.value) for i in members}
            self.told[index] = told

    def directory(self, name: str) -> Path:
        layout = self.layout
        return layout.ledger if name == LEDGER else layout.partition(int(name)).directory

    def _enlisted(self, name: str) -> EnlistedLog:
        if name in self.nodes:
            self.nodes[name].close()
        index = LEDGER_LOG if name == LEDGER else int(name)
        here: Any = self.here
        found = EnlistedLog(here, index, str(self.directory(name)), SMALL, no_hook)
        found.tell()
        self.enlisted[name] = found
        return found

    def opened(self, index: int) -> Partition:
        found = self._enlisted(str(index))
        directory = self.directory(str(index))
        self.nodes[str(index)] = node = Partition(
            found.log, LmdbFeed(directory, SMALL), FileCheckpoints(directory), SMALL,
            index=index, epoch=found.known.epoch,
            post=Post(str(index), self.owner_of if self.is_linking else None, SEED),
        )  # fmt: skip
        return node

    def opened_ledger(self) -> Ledger:
        found = self._enlisted(LEDGER)
        self.nodes[LEDGER] = node = Ledger(found.log, self.assignment, epoch=found.known.epoch)
        return node

    def sequencers(self, between: Callable[[], None], apart: str) -> Mapping[str, Any]:
        lock = Lock()
        return {
            name: Here(Sequencer(self, name), lock, between) for name in self.nodes if name != apart
        }

    def backup(
        self,
        place: Path,
        between: Callable[[], None] = lambda: None,
        hook: Callable[[str], None] = no_hook,
        apart: str = "",
    ) -> Backup:
        """Back it up; between: called before each step of a sequencer; hook: around each write;
        apart: one that is not found."""
        self.hook = hook
        depot = Depot(str(place), hook)
        return backed_up(self.here, lambda: self.sequencers(between, apart), depot, 60.0, 1)

    def run_steps(self, count: int) -> None:
        """Some steps of everything, whether it comes to rest or not."""
        with suppress(NoRest):
            self.run(count, lambda: False)

    def close(self) -> None:
        for node in self.nodes.values():
            node.close()
        self.coordinator.stop()
