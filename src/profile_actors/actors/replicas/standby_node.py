"""What a standby does besides where disks are on nodes of their own.

Theory: its process is on the node that has its disk, or is begun there (``log_processes``). The
node of its partition may be lost while a process that outlives it is still heard: Ray says which
nodes there are. And the catalogue is on another machine, so it is fetched.
"""

from __future__ import annotations

import time
from contextlib import suppress
from pathlib import Path

import ray

from profile_actors.actors.calls import Remote
from profile_actors.actors.replicas.disk_labels import directory_here, labelled_nodes, own_label
from profile_actors.actors.replicas.standby_line import standby_name
from profile_actors.errors import ConfigError, StoreUnavailable
from profile_actors.storage.files.atomic_files import make_directory
from profile_actors.storage.files.layout import StoreLayout
from profile_actors.storage.files.lock import DirectoryLock
from profile_actors.storage.shipping.home_copies import take_home

LOOK_S = 1.0
"""How often Ray is asked which nodes there are."""


class StandbyNode:
    """See the module. home: the disk with the catalogue; "" where disks are those of one machine,
    and nothing is done here."""

    def __init__(self, home: str, index: int, coordinator: Remote) -> None:
        self.home = home
        self._index = index
        self._coordinator = coordinator
        self._look_at, self._home_at = 0.0, -1
        self._lost_at: float | None = None

    def directory(self, disk: str, directory: str) -> Path:
        """Where the disk of this standby is here. Raises LostLog for another one, StoreUnavailable
        on another node."""
        if own_label() != disk:
            self.have_it_placed()
            raise StoreUnavailable(
                f"expected the standby of partition {self._index} on the node with disk {disk}, got"
                " this one; it is begun there by itself"
            )
        return Path(directory_here(directory, disk))

    def have_it_placed(self) -> None:
        """The processes of this log go where its disks are, this one too."""
        name, me = standby_name(self._index), ray.get_runtime_context().get_actor_id()
        self._coordinator.call("copies", "place", self._index, name, me)

    def is_lost(self, primary: str, silence_s: float) -> bool:
        """Whether the node of the primary's disk was away for so long."""
        now = time.monotonic()
        if not self.home or now < self._look_at:
            return False
        self._look_at = now + LOOK_S
        with suppress(ConfigError):  # two have the disk: one of them is being forgotten
            is_there = primary in labelled_nodes()
            self._lost_at = None if is_there else self._lost_at or now
        if self._lost_at is None or now - self._lost_at < silence_s:
            return False
        self._lost_at = now  # where it may not be promoted, the next look is later
        return True

    def take_home(self, data: Path) -> None:
        """Have the catalogue on this node's disk as it is now. Raises FencedOut while another
        standby does, OSError."""
        if not self.home or own_label() == self.home:
            return
        found = self._coordinator.call("copies", "home", self._home_at)
        if found is None:
            return
        make_directory(StoreLayout(data).home)
        lock = DirectoryLock(StoreLayout(data).home / "lock", 0.0)
        try:
            take_home(data, found[1], found[2])
            self._home_at = found[0]
        finally:
            lock.release()
