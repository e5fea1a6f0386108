"""The coordinator's part in keeping logs twice: which copy is in force, and where it is.

Theory: the steps are ``engine/shipping/replication``; here each is made durable before it is
answered, and what a process needs to know comes back with it: the record, and the directory of the
disk. A store whose logs are all where it was made has no records, and is asked nothing.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable
from functools import partial
from pathlib import Path

import msgspec
from msgspec import structs

from profile_actors.actors.replicas.disks_beside import DisksBeside, is_past
from profile_actors.actors.replicas.log_processes import Places
from profile_actors.engine.shipping import replication
from profile_actors.engine.shipping.replication import Copies, Refused, Request
from profile_actors.errors import ConfigError, StoreUnavailable
from profile_actors.storage.catalogue_store import CatalogueStore
from profile_actors.storage.files.copies_table import Wanted
from profile_actors.storage.files.layout import LEDGER, StoreLayout, sequencer_of, whose
from profile_actors.storage.log_id import LogClaim

COPIES = frozenset({
    "all", "disks", "add_disk", "remove_disk", "keep", "standby_disk", "replace", "standby", "note",
    "promise", "promoted", "other_copy", "keep_home", "sweep", "abandon", "renew", "stale", "put",
    "deal", "has_ledger", "place", "home", "labelled", "is_past",
})  # fmt: skip
"""What ``copies`` of the coordinator may ask of the registry."""


class StandbyRole(msgspec.Struct, frozen=True):
    """What a standby opens with. data: the directory of its disk. claim: what its log is. opening:
    above those of all earlier openings."""

    copies: Copies
    data: str
    claim: LogClaim
    opening: int


class CopiesRegistry:
    """See the module. data: the store's own directory; store: its id. is_erasing: whether who has
    a log has a person to erase. places: None for a store that is not placed by labels. Logs are
    known by the numbers of their partitions, the ledger's by LEDGER."""

    def __init__(
        self,
        data: Path,
        store: str,
        partitions: int,
        catalogue: CatalogueStore,
        is_erasing: Callable[[int], bool],
        places: Places | None = None,
    ) -> None:
        self._places = places if places is not None and places.home else None
        self._sweeps = None if self._places is None else self._places.sweeps
        self._is_erasing = is_erasing
        self._data = data
        self._store = store
        self._partitions = partitions
        self._catalogue = catalogue
        self._beside = DisksBeside(data, catalogue)

    def keep_home(self) -> None:
        """See ``DisksBeside``."""
        self._beside.keep_home()

    def has_ledger(self) -> bool:
        """Whether the store has a ledger, on whatever disk, or has begun one."""
        return self._catalogue.log(LEDGER) is not None or StoreLayout(self._data).ledger.is_dir()

    def _logs(self) -> list[int]:
        return [*range(self._partitions), *([LEDGER] if self.has_ledger() else [])]

    def all(self) -> dict[int, Copies]:
        """What is known of logs, of those that there are records of."""
        found = {index: self._catalogue.copies.of(index) for index in self._logs()}
        return {index: copies for index, copies in found.items() if copies is not None}

    def disks(self) -> dict[str, str]:
        """The disks of the store and where they are mounted."""
        return self._beside.disks()

    def add_disk(self, directory: str) -> str:
        """See ``DisksBeside.add``."""
        return self._beside.add(directory, self._store, uuid.uuid4().hex)

    def home(self, known: int) -> tuple[int, bytes, bytes] | None:
        """See ``DisksBeside.home``."""
        return self._beside.home(known)

    def remove_disk(self, directory: str) -> None:
        """See ``DisksBeside.remove``."""
        self._beside.remove(directory, self.all())

    def keep(self, replicas: int, is_async: bool) -> dict[int, Copies]:
        """Have so many standbys of each log, 0 or 1, and of a ledger that begins later; the records
        then. The ledger's is never async (``promise``). Raises ConfigError."""
        own = self.add_disk(str(self._data))
        if replicas and len(self.disks()) < 2:
            raise ConfigError(
                f"expected a second disk for replicas, got only {self._data} - at set_replicas; add"
                " one with store.add_disk(directory), or profile-actors disks --add DIRECTORY"
            )
        self._catalogue.copies.want(Wanted(replicas, is_async))
        for place, index in enumerate(self._logs()):
            known = self._catalogue.copies.of(index)
            wanted = self._standby_of(place, known.primary if known else own) if replicas else ""
            if known is not None and known.standby and wanted:
                wanted = known.standby
            waits_not = is_async and index != LEDGER
            if known is None or (known.standby, known.is_async) != (wanted, waits_not):
                epoch = self._catalogue.epoch(sequencer_of(index))
                fresh = self._fresh(wanted)
                self._step(index, partial(_keep, own, epoch, wanted, fresh, waits_not))
        return self.all()

    def _standby_of(self, place: int, primary: str) -> str:
        """The disk for the standby of the log with this place among all; "" if there is none."""
        others = [disk for disk in sorted(self.disks()) if disk != primary]
        there = [disk for disk in others if self._is_there(disk)] or others
        return there[place % len(there)] if there else ""

    def _begun_ledger(self, epoch: int) -> Copies | None:
        """The record of a ledger that opens without one: with a standby, if all logs are to have
        one; of a store that an earlier release gave replicas, if all partitions have."""
        wanted = self._catalogue.copies.wanted()
        if wanted is None:
            wanted = Wanted(int(all(self._has_standby(i) for i in range(self._partitions))))
        disk = own = ""
        if wanted.replicas:
            own = self.add_disk(str(self._data))
            disk = self._standby_of(self._partitions, own)
        if not disk:
            return None
        return self._step(LEDGER, partial(_keep, own, epoch - 1, disk, self._fresh(disk), False))

    def _has_standby(self, index: int) -> bool:
        known = self._catalogue.copies.of(index)
        return known is not None and bool(known.standby)

    def deal(self, directories: dict[str, str]) -> dict[int, str]:
        """Know these disks, by id, and where they are; deal partitions that have no log yet to them
        evenly. The disk of each partition then. Partitions that have one stay where it is."""
        own = self.add_disk(str(self._data))
        for disk, directory in directories.items():
            if disk != own:
                self._catalogue.copies.put_disk(disk, directory)
        disks = [own, *sorted(set(directories) - {own})]
        out: dict[int, str] = {}
        for index in range(self._partitions):
            known, log = self._catalogue.copies.of(index), self._catalogue.log(index)
            if known is None and len(disks) > 1 and (log is None or log.state == "promised"):
                known = self._step(index, partial(_dealt, disks[index % len(disks)]))
            out[index] = own if known is None else known.primary
        return out

    def put(self, index: int, disk: str) -> Copies:
        """Have a log's standby on that disk, "" for none; the record then. Raises ConfigError
        for a disk that is not known, or has the log in force."""
        own = self.add_disk(str(self._data))
        known = self._catalogue.copies.of(index)
        primary = known.primary if known is not None else own
        if disk and (disk not in self.disks() or disk == primary):
            got = "the one that has the log in force" if disk == primary else "one not known"
            raise ConfigError(
                f"expected another disk of the store for {whose(index)}, got {disk}, {got} - at the"
                " coordinator; profile-actors disks shows them"
            )
        if known is None or known.standby != disk:
            epoch, fresh = self._catalogue.epoch(sequencer_of(index)), self._fresh(disk)
            is_async = known is not None and known.is_async
            known = self._step(index, partial(_keep, own, epoch, disk, fresh, is_async))
        return known

    def opened(self, index: int, epoch: int) -> tuple[Copies | None, str]:
        """A log is opened in force, under an epoch; its record, and the directory of its disk.
        While its standby is being promoted nothing changes, as the record says."""
        known = self._catalogue.copies.of(index)
        if known is None and index == LEDGER:
            known = self._begun_ledger(epoch)
        if known is None:
            return None, ""
        if not known.promised:
            disk = known.primary
            known = self._step(index, lambda c: replication.opened(c, disk, epoch))
        return known, self._directory(known.primary)

    def standby_disk(self, index: int) -> tuple[str, str]:
        """The disk that a log's standby is on, and its directory. Raises StoreUnavailable."""
        disk = self._with_standby(index).standby
        return disk, self._directory(disk)

    def replace(self, index: int, disk: str) -> tuple[str, str]:
        """That disk, which a log's standby is on, is away for good: the one that takes its
        place, and its directory. It is the one with the fewest copies. Raises StoreUnavailable if
        no other is there, ConfigError while the standby is called in sync."""
        known = self._with_standby(index)
        if known.standby == disk and not (self._places and self._is_there(disk)):
            copies = [one for each in self.all().values() for one in (each.primary, each.standby)]
            others = [
                (copies.count(one), one)
                for one in self.disks()
                if one not in (disk, known.primary) and self._is_there(one)
            ]
            if not others:
                raise StoreUnavailable(
                    f"expected disk {disk} of the standby of {whose(index)}, got none, nor"
                    f" another disk of the store to take its place - at {self._directory(disk)};"
                    " mount it, or add one: profile-actors disks --add DIRECTORY"
                )
            chosen = min(others)[1]
            fresh = self._fresh(chosen)
            known = self._step(
                index, lambda c: replication.placed(c, chosen, fresh, is_async=c.is_async)
            )
            if self._places is not None:
                self._places.settle(index, known, standby_alone=True)
        return self.standby_disk(index)

    def labelled(self) -> str:
        """The disk with the catalogue, of a store that is placed by labels; else ""."""
        return self._places.home if self._places is not None else ""

    def place(self, index: int, name: str, actor: str) -> None:
        """Have the processes of a log where its record says: so asks an actor, by its name and id,
        that is on another node. Nothing changes if another one has the name by now."""
        if self._places is not None and self._places.is_of(name, actor):
            self._places.settle(index, self._known(index))

    def _is_there(self, disk: str) -> bool:
        if self._places is not None:
            return self._places.is_there(disk)
        return self._beside.is_there(disk)

    def sweep(self) -> None:
        """Delete copies that no record names (``DisksBeside``, ``NodeSweeps``)."""
        if self._sweeps is not None:
            self._sweeps.look(self.all(), self.disks())
        else:
            self._beside.sweep(self.all)

    def is_past(self, index: int, disk: str, epoch: int) -> bool:
        """See ``node_sweeps``."""
        return is_past(self._catalogue.copies.of(index), disk, epoch)

    def standby(self, index: int, found: str) -> StandbyRole:
        """A standby opens. found: the id of the copy in its directory. Raises StoreUnavailable."""
        known = self._with_standby(index)
        data = self._directory(known.standby)
        if found != known.copy:
            if known.in_sync or known.promised:
                raise StoreUnavailable(
                    f"expected copy {known.copy} of {whose(index)}, got {found or 'none'} - at"
                    f" {data}; it is made anew once its primary goes on without it"
                )
            fresh = self._fresh(known.standby)
            known = self._step(
                index,
                lambda c: replication.placed(c, c.standby, fresh, is_async=c.is_async),
            )
        elif known.is_anew:
            known = self._step(index, lambda c: replication.begun(c, found))
        claim = self._catalogue.log(index)
        assert claim is not None, index
        bare = LogClaim(id=structs.replace(claim.id, since=0), state="promised")
        opening = self._catalogue.next_epoch(f"standby-{sequencer_of(index)}")
        return StandbyRole(known, data, bare, opening)

    def note(self, index: int, request: Request) -> tuple[bool, Copies]:
        """What a primary asks to be noted of its standby: whether it was, and the record."""
        try:
            return True, self._step(index, lambda c: replication.asked(c, request), is_raw=True)
        except Refused:
            return False, self._known(index)

    def renew(self, index: int) -> None:
        """The log in force was made anew, by an erasure: its standby is to begin with nothing."""
        known = self._catalogue.copies.of(index)
        if known is not None and not known.promised:
            fresh = self._fresh(known.standby)
            self._step(index, lambda c: replication.renewed(c, fresh))

    def stale(self) -> list[str]:
        """The directories of standbys that still have what was taken out of their logs."""
        disks = self.disks()
        return [
            str(StoreLayout(Path(disks[one.standby])).standby(index).directory)
            for index, one in self.all().items()
            if one.is_anew and one.standby
        ]

    def promise(self, index: int, accept_loss: bool, is_wanted: bool) -> Copies:
        """Begin to promote a standby: by command (is_wanted), or for its primary's silence, which
        an erasure explains. The ledger's is never one that lacks something: partitions count its
        messages, and would take the next ones for those. Raises ConfigError where it may not be,
        StoreUnavailable."""
        if index == LEDGER and accept_loss and not self._known(index).in_sync:
            raise ConfigError(
                "expected a standby of the ledger that has all that was acknowledged, got one that"
                " has not - at the coordinator; nothing was changed: partitions know what it lacks,"
                " so it cannot be left out: mount the disk that has it, or restore a backup"
            )
        self._known(index)
        if not is_wanted and self._is_erasing(index):
            raise StoreUnavailable(
                f"expected {whose(index)} to be silent for no reason, got an erasure under way - at"
                " the coordinator; its standby waits"
            )
        epoch = self._catalogue.next_epoch(sequencer_of(index))
        return self._step(index, lambda c: replication.promised(c, epoch, accept_loss=accept_loss))

    def promoted(self, index: int, epoch: int) -> Copies:
        """The standby has taken the epoch. Idempotent."""
        known = self._known(index)
        if known.epoch >= epoch and not known.promised:
            return known
        fresh = self._fresh(known.primary)
        return self._step(index, lambda c: replication.promoted(c, epoch, fresh))

    def other_copy(self, index: int) -> tuple[str, int]:
        """Where the copy in force is, the log's directory, and how many entries it is known to
        have."""
        claim = self._catalogue.log(index)
        data = self._directory(self._known(index).primary)
        entries = 0 if claim is None else claim.entries
        return str(StoreLayout(Path(data)).partition(index).directory), entries

    def abandon(self, index: int) -> Copies:
        """Take back a promotion that is not completed."""
        return self._step(index, replication.abandoned)

    def _with_standby(self, index: int) -> Copies:
        known = self._known(index)
        if not known.standby:
            raise StoreUnavailable(
                f"expected {whose(index)} to have a standby, got none - at the coordinator;"
                " set_replicas(1) gives it one"
            )
        return known

    def _known(self, index: int) -> Copies:
        known = self._catalogue.copies.of(index)
        if known is None:
            raise StoreUnavailable(
                f"expected {whose(index)} to have replicas, got none - at the coordinator;"
                " set_replicas(1) gives it one"
            )
        return known

    def _directory(self, disk: str) -> str:
        found = self.disks().get(disk)
        if found is None:
            raise StoreUnavailable(f"expected disk {disk} to be known - at the coordinator")
        return found

    def _fresh(self, disk: str) -> str:
        return f"{disk[:8]}-{uuid.uuid4().hex[:8]}" if disk else ""

    def _step(
        self, index: int, step: Callable[[Copies], Copies], *, is_raw: bool = False
    ) -> Copies:
        def checked(known: Copies | None) -> Copies:
            return step(known) if known is not None else step(Copies(primary=""))

        try:
            found = self._catalogue.copies.change(index, checked)
            self.keep_home()
            return found
        except Refused as refused:
            if is_raw:
                raise
            raise ConfigError(
                f"expected a step that may be made now, but {refused} - at the copies of"
                f" {whose(index)}; try again, or see profile-actors status"
            ) from None


def _dealt(disk: str, known: Copies) -> Copies:
    """The record of a log that is begun on a disk."""
    return structs.replace(known, primary=disk)


def _keep(own: str, epoch: int, standby: str, copy: str, is_async: bool, known: Copies) -> Copies:
    """The record with another standby; of a log that never had one, the first."""
    if not known.primary:
        known = structs.replace(known, primary=own, epoch=epoch)
    return replication.placed(known, standby, copy, is_async=is_async)
