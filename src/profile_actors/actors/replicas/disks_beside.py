"""What is on a store's disks beside the logs that are in force, as the coordinator has it there.

Theory: each other disk has a copy of the catalogue (``home_copies``). And a disk that was away
until another had taken its place comes back with copies of logs that no record names: they go once
that is sure.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from threading import Lock

from profile_actors.engine.shipping.replication import Copies
from profile_actors.errors import Halt
from profile_actors.storage.catalogue_store import CatalogueStore
from profile_actors.storage.files.atomic_files import remove_tree
from profile_actors.storage.files.layout import PartitionLayout, StoreLayout
from profile_actors.storage.log_ages import MAP_BYTES, stamp_of
from profile_actors.storage.replicas.standby_files import found_disk
from profile_actors.storage.shipping.home_copies import save_home


class DisksBeside:
    """See the module. data: the store's own directory."""

    def __init__(self, data: Path, catalogue: CatalogueStore) -> None:
        self._data = data
        self._catalogue = catalogue
        self._copying = Lock()
        self._homes: dict[str, int] = {}

    def disks(self) -> dict[str, str]:
        """The disks of the store and where they are mounted."""
        return self._catalogue.copies.disks()

    def is_there(self, disk: str) -> bool:
        """Whether the disk that is mounted at its directory is that one."""
        directory = self.disks().get(disk)
        found = None if directory is None else found_disk(Path(directory))
        return found is not None and found.disk == disk

    def keep_home(self) -> None:
        """Have the catalogue as it is now on every other disk too, where that can be written. Cost:
        nothing if it has not changed, else one copy per disk."""
        with self._copying:
            env, _ = self._catalogue.beside()
            now = int(env.info()["last_txnid"])
            for disk, directory in self.disks().items():
                if directory == str(self._data) or self._homes.get(disk) == now:
                    continue
                if not self.is_there(disk):
                    continue  # it is away, and its mount point is not the disk
                with suppress(OSError, Halt):
                    save_home(Path(directory), env, StoreLayout(self._data).settings)
                    self._homes[disk] = now

    def sweep(self, records: Callable[[], Mapping[int, Copies]]) -> None:
        """Delete copies that no record names. Only where the log in force has a standby in sync,
        and is of a newer epoch: the catalogue may be an old one, and a copy that it does not name
        the one in force. records: of all logs, as they are at the moment."""
        for index in records():
            for disk, directory in self.disks().items():
                paths = StoreLayout(Path(directory))
                for old in (paths.standby(index), paths.partition(index)):
                    if old.directory.exists() and self._is_past(records()[index], disk, old):
                        remove_tree(old.directory)

    def _is_past(self, known: Copies, disk: str, paths: PartitionLayout) -> bool:
        if not known.in_sync or known.promised or disk in (known.primary, known.standby):
            return False
        if not self.is_there(disk):
            return False
        stamp = stamp_of(paths, MAP_BYTES)
        return stamp is not None and stamp.epoch <= known.epoch
