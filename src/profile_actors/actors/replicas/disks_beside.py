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
from profile_actors.errors import ConfigError, Halt
from profile_actors.storage.catalogue_store import CatalogueStore
from profile_actors.storage.files.atomic_files import remove_tree
from profile_actors.storage.files.layout import (
    PartitionLayout,
    StoreLayout,
    name_of,
    whose,
)
from profile_actors.storage.log_ages import MAP_BYTES, stamp_of
from profile_actors.storage.replicas.standby_files import disk_at, found_disk
from profile_actors.storage.shipping.home_copies import copied, save_home


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

    def add(self, directory: str, store: str, fresh: str) -> str:
        """Keep copies on a disk, too; its id, which is ``fresh`` if it has none. store: the
        store's. Idempotent. Raises ConfigError, also for a directory with another catalogue: once
        this one is lost, that one would be taken for the store's."""
        catalogue = StoreLayout(Path(directory)).catalogue
        if catalogue.exists() and not catalogue.samefile(StoreLayout(self._data).catalogue):
            raise ConfigError(
                "expected a directory to keep copies in, got one with a store's own catalogue, this"
                f" one's of before or another's - at {directory}; nothing was changed: name a new"
                " directory, or delete it if that store will never run again"
            )
        disk = disk_at(Path(directory), store, fresh)
        self._catalogue.copies.put_disk(disk, directory)
        return disk

    def remove(self, named: str, records: Mapping[int, Copies]) -> None:
        """Keep no copies on a disk any more, by its id or directory. Raises ConfigError for one
        that is not known, or that a log is on."""
        disks = self.disks()
        found = [named] if named in disks else [one for one, at in disks.items() if at == named]
        if not found or any(self.is_own(one) for one in found):
            got = "the store's own" if found else "one not known"
            raise ConfigError(
                f"expected a disk that was added, got {got} - at {named}; profile-actors disks"
                " shows them"
            )
        for index, known in records.items():
            if {known.primary, known.standby} & set(found):
                role = "log" if known.primary in found else "standby"
                raise ConfigError(
                    f"expected a disk without copies, got the one of {whose(index)}'s {role} - at"
                    f" {named}; bring it elsewhere first: profile-actors move {name_of(index)}"
                    " DISK, or profile-actors replicas 0"
                )
        for disk in found:
            self._catalogue.copies.drop_disk(disk)

    def is_own(self, disk: str) -> bool:
        """Whether it is the disk with the catalogue."""
        found = found_disk(self._data)
        return found is not None and found.disk == disk

    def home(self, known: int) -> tuple[int, bytes, bytes] | None:
        """The catalogue as it is now, and the store's settings, for a disk that is not here
        (``home_copies``); None if it is still as it was at ``known``."""
        env, _ = self._catalogue.beside()
        now = int(env.info()["last_txnid"])
        if now == known:
            return None
        return now, copied(env), StoreLayout(self._data).settings.read_bytes()

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
        if not self.is_there(disk):
            return False
        stamp = stamp_of(paths, MAP_BYTES)
        return stamp is not None and is_past(known, disk, stamp.epoch)


def is_past(known: Copies | None, disk: str, epoch: int) -> bool:
    """Whether what a disk has of a log, which was last in force in that epoch, is named by no
    record and needed by nobody: the log in force is newer, and has a standby in sync."""
    if known is None or not known.in_sync or known.promised:
        return False
    return disk not in (known.primary, known.standby) and epoch <= known.epoch
