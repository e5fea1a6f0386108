"""The coordinator as a Ray actor: catalogue, quarantine, epochs, the assignment of buckets.

Theory: it is asked when definitions change, rows are rejected, or a partition (re)starts; never on
the path of accepted rows or of time. Writing version v of the catalogue is the commit point of
``apply``; telling the partitions is the driver's part, and any driver's, since every batch and read
carries its version and a partition behind is given what it lacks.

Like a partition's, its constructor never raises: it stands and answers with the reason.
"""

from __future__ import annotations

import os
import time
import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import ray

from profile_actors.actors.actor_status import CoordinatorPlace
from profile_actors.actors.calls import Stopped
from profile_actors.actors.hooks import Hook, no_hook
from profile_actors.actors.logs.backup_steps import Backups
from profile_actors.actors.logs.erasures import Erasures
from profile_actors.actors.logs.opening import refusal_of
from profile_actors.actors.replicas.copies_registry import COPIES, CopiesRegistry
from profile_actors.actors.replicas.log_processes import Begin, Places
from profile_actors.actors.wall_clock import wall_ms
from profile_actors.config import Config
from profile_actors.definitions.catalogue_changes import decode, encode, extended
from profile_actors.definitions.declared import Catalogue, Dataset, Definition
from profile_actors.definitions.retention import expired
from profile_actors.engine.edges.projections import check_projections
from profile_actors.engine.erasure.rejected_rows import naming
from profile_actors.engine.shipping.replication import Copies
from profile_actors.errors import (
    ConfigError,
    DefinitionError,
    FencedOut,
    LostLog,
    ProfileActorsError,
)
from profile_actors.ingest.files.file_contents import FileContent
from profile_actors.ingest.rejects import QuarantineRecord
from profile_actors.ingest.route import default_assignment
from profile_actors.rules.catalogue.change_check import check_change, find, removed
from profile_actors.storage.catalogue_store import CatalogueStore
from profile_actors.storage.erasure.erasure_record import Erasing
from profile_actors.storage.files.atomic_files import Room, remove_tree
from profile_actors.storage.files.layout import LEDGER, StoreLayout, sequencer_of
from profile_actors.storage.files.lock import KEEPER_WAIT_S, DirectoryLock
from profile_actors.storage.log_ages import check_ages
from profile_actors.storage.log_id import LogClaim
from profile_actors.storage.rejects.quarantine import Quarantine
from profile_actors.storage.rejects.quarantine_loss import lost_note
from profile_actors.storage.store_settings import StoreSettings

OLD_CATALOGUE = (
    "the catalogue is older than the logs, probably from a backup: files that were loaded since and"
    " have grown count anew where rows have no id, rows that were rejected since are not in"
    " quarantine, and whether each log has all of its entries cannot be checked"
)

ALONE = (
    "the log of partition {} says no more than the catalogue, which is older than other logs: it"
    " was taken for the newest there is, since its feed and checkpoints were deleted"
)


ERASURES = frozenset({"begin", "stand", "note", "done", "result", "progress"})
"""What ``erasures`` may ask."""


class Enlistment(msgspec.Struct, frozen=True):
    """What a partition or the ledger opens with. claim: what is known of its log. seed: of identity
    keys. assignment: uint16[4096], the partition of each bucket. erasures: how many there were;
    erasing: the one that is to be done before the log is opened. copies: where the log is, if that
    was ever changed, data: of the disk with the one in force. renewed: see ``Erasures``. home: see
    ``Places``."""

    epoch: int
    clock: str
    catalogue: Catalogue
    claim: LogClaim
    seed: int
    assignment: np.ndarray
    erasures: int = 0
    erasing: Erasing | None = None
    copies: Copies | None = None
    data: str = ""
    renewed: int = 0
    home: str = ""


class CoordinatorActor:
    """The shell; see the module."""

    def __init__(
        self, place: CoordinatorPlace, hook: Hook = no_hook, begin: Begin | None = None
    ) -> None:
        """hook: called at named points; crash tests kill the process there. begin: how a log's
        actors are begun in other places."""
        self._places = Places(place, hook, begin)
        self._place = place
        self._hook = hook
        self._refusal: ProfileActorsError | None = None
        self._notes: dict[str, str] = {}
        self._keeper: DirectoryLock | None = None
        self._try_to_open()

    def _try_to_open(self) -> None:
        self._refusal = refusal_of(self._open, "the coordinator", self._place.path)

    def _open(self) -> None:
        place = self._place
        if place.is_keeper and self._keeper is None:
            self._keeper = DirectoryLock(StoreLayout(Path(place.path)).keeper, KEEPER_WAIT_S)
        self._store = CatalogueStore(place.path)
        self._room = Room(Path(place.path), place.config.min_free_bytes)
        if self._store.settings() is None:
            self._store.set_settings(msgspec.structs.replace(place.new, id=uuid.uuid4().hex))
        self._settings = self._store.identify(uuid.uuid4().hex)
        # What a restore that was ended at its last step left would let another begin this one anew.
        remove_tree(StoreLayout(Path(place.path)).restoring)
        self._compare_ages()
        assigned = self._store.assignment()
        if assigned is None:
            self._store.put_assignment(1, default_assignment(self._settings.partitions))
            assigned = self._store.assignment()
        assert assigned is not None
        self._assignment = assigned[1]
        directory = StoreLayout(Path(place.path)).quarantine
        lost = lost_note(directory) if self._store.newest_version() else ""
        self._notes |= {"quarantine": lost} if lost else {}
        self._quarantine = Quarantine(directory, place.config, QuarantineRecord)
        self._backups = Backups(self._store, self._quarantine, Path(place.path), self._hook)
        version = self._store.newest_version()
        content = self._store.get(version) if version else None
        self._catalogue = Catalogue() if content is None else decode(content)
        self._copies = CopiesRegistry(
            Path(place.path), self._settings.id, self._settings.partitions, self._store,
            lambda index: self._erasures.of(sequencer_of(index)) is not None, self._places,
        )  # fmt: skip
        self._erasures = Erasures(
            Path(place.path), place.namespace, self._settings.partitions, self._copies.has_ledger,
            lambda ones: self._backups.forget_rejected(naming(ones, self._catalogue)),
        )  # fmt: skip

    def _compare_ages(self) -> None:
        place = self._place
        try:
            layout = StoreLayout(Path(place.path))
            ages = check_ages(self._store, layout, place.config.log_map_bytes)
        except BaseException:
            self._store.close()
            raise
        if ages.newer:
            self._notes["epochs"] = OLD_CATALOGUE
        if ages.accepted:
            self._notes["accepted"] = ALONE.format(", ".join(map(str, ages.accepted)))

    def _check(self) -> None:
        # A predecessor that Ray wrongly thinks dead holds the lock until it is, and files that were
        # missing may be back: try again.
        if isinstance(self._refusal, FencedOut | LostLog):
            self._try_to_open()
        if self._refusal is not None:
            raise self._refusal

    def hello(self) -> tuple[StoreSettings, np.ndarray]:
        """The settings, and uint16[4096]: the partition of each bucket."""
        self._check()
        return self._settings, self._assignment

    def config(self) -> Config:
        """What the store was started with, which holds for all of its drivers."""
        self._check()
        return self._place.config

    def pid(self) -> int:
        return os.getpid()

    def enlist(self, index: int, above: int = 0) -> Enlistment:
        """For a partition, or the ledger (``LEDGER``), that (re)starts: a new epoch, the store's
        clock, the definitions, and what is known of its log. above: an epoch that its log has.

        Raises ConfigError for a partition that the store has not.
        """
        self._check()
        if index != LEDGER and index >= self._settings.partitions:
            raise ConfigError(
                f"expected a partition below {self._settings.partitions}, got {index} - at"
                f" {self._place.path}"
            )
        claim = self._store.claim(index, uuid.uuid4().hex)
        sequencer = sequencer_of(index)
        if above > self._store.epoch(sequencer):
            self._notes["epochs"] = OLD_CATALOGUE
        epoch = self._store.next_epoch(sequencer, above)
        settings, erasures = self._settings, self._erasures
        copies, data = self._copies.opened(index, epoch)
        return Enlistment(
            epoch, settings.clock, self._catalogue, claim, settings.hash_seed, self._assignment,
            erasures.count, erasures.of(sequencer), copies, data, erasures.renewed(sequencer),
            self._places.home,
        )  # fmt: skip

    def copies(self, name: str, *args: Any) -> Any:
        """One of COPIES (``CopiesRegistry``)."""
        self._check()
        assert name in COPIES, name
        return getattr(self._copies, name)(*args)

    @ray.method(concurrency_group="backups")
    def backup(self, step: str, *args: Any) -> Any:
        self._check()
        return self._backups.step(step, *args)

    def erasures(self, name: str, *args: Any) -> Any:
        """One of ERASURES (``Erasures``)."""
        self._check()
        assert name in ERASURES, name
        found = getattr(self._erasures, name)(*args)
        if name == "begin" and found and args[0]:
            self._backups.note_erasure(found, args[0])
        return found

    def tell(self, index: int, log_id: str, entries: int, directory: str, epoch: int) -> None:
        """A partition's log is there, and durably has so many entries and this epoch.

        Raises LostLog.
        """
        self._check()
        self._store.tell(index, log_id, entries, time.time_ns() // 1_000_000, directory, epoch)

    def recall(self, index: int, catalogue: Catalogue) -> None:
        """A partition has definitions that are newer than those it was enlisted with: take them.

        They were committed once, so the catalogue is an older one, from a backup. Idempotent.
        """
        self._check()
        ours = self._catalogue.version
        if catalogue.version > ours:
            self._store.adopt(catalogue.version, encode(catalogue))
            self._catalogue = catalogue
            self._notes["definitions"] = (
                f"definitions of version {catalogue.version} were taken over from the log of"
                f" partition {index}, since the catalogue had version {ours}: {OLD_CATALOGUE}"
            )

    def notes(self) -> list[str]:
        """What an operator should know of this start, in sentences."""
        self._check()
        return [*self._notes.values(), *self._quarantine.notes()]

    def catalogue(self, version: int | None = None) -> Catalogue:
        """The definitions of a version, or of the newest kept before it; None: the newest."""
        self._check()
        if version is None or version >= self._catalogue.version:
            return self._catalogue
        while version and self._store.get(version) is None:
            version -= 1
        content = self._store.get(version) if version else None
        return Catalogue() if content is None else decode(content)

    def apply(self, definitions: Sequence[Definition]) -> Catalogue:
        """Merge, check every rule, commit the next version; the same again changes nothing.

        Raises DefinitionError, SchemaError, RuleError: nothing was applied then.
        """
        self._check()
        wanted = extended(self._catalogue, definitions)
        if wanted is not self._catalogue:
            check_change(self._catalogue, wanted)
            check_projections(wanted)
            self._check_edges(wanted)
            self._commit(wanted)
        return self._catalogue

    def _check_edges(self, wanted: Catalogue) -> None:
        most = self._place.config.max_edges
        if len(wanted.destinations) > most:
            raise DefinitionError(
                f"expected at most {most} edge destinations, got {len(wanted.destinations)} - at"
                " apply; start the store with a larger Config.max_edges"
            )

    def delete(self, name: str, kind: str | None, version: int) -> Catalogue:
        """Commit the next version without one definition, which version still had.

        That no rows need it is the caller's to ask before. Raises DefinitionError: nothing was
        deleted then. Again it changes nothing: a name that is gone since was deleted.
        """
        self._check()
        try:
            item = find(self._catalogue, name, kind)
        except DefinitionError:
            if self._catalogue.version > version:
                return self._catalogue
            raise
        if isinstance(item, Dataset) and self._quarantine.count(name)[0]:
            raise DefinitionError(
                f"expected a dataset that no rows came for, got {name!r}, which has rejected rows"
                " in quarantine - at delete"
            )
        wanted = removed(self._catalogue, item)
        check_projections(wanted)
        self._commit(wanted)
        return self._catalogue

    def expire(self, now: int) -> Catalogue:
        """Commit the cutoffs of an instant (ms), if any of them is later than before. On the wall
        clock it is no later than here: a partition's may have jumped."""
        self._check()
        if self._settings.clock == "wall":
            now = min(now, wall_ms())
        wanted = expired(self._catalogue, now)
        if wanted is not self._catalogue:
            self._commit(wanted)
        return self._catalogue

    def _commit(self, wanted: Catalogue) -> None:
        self._room.check()
        self._hook("catalogue.before_commit")
        self._store.put(wanted.version, encode(wanted))
        self._hook("catalogue.after_commit")
        self._catalogue = wanted

    def reject(
        self, dataset: str, rows: Sequence[QuarantineRecord], appended: bool = False
    ) -> None:
        """Keep rejected rows. Idempotent by (source, row); if appended, by the whole row.

        Where there is no room they are counted alone: the rows beside them must not wait for it.
        """
        self._check()
        self._quarantine.keep(dataset, rows, self._room.lack(), appended=appended)

    def attempt(self, dataset: str, least: int) -> int:
        """The number of an attempt at a repair: above least and all before. Durable."""
        self._check()
        return self._quarantine.next_attempt(dataset, least)

    def kept(self, dataset: str, source: str, rows: Sequence[int]) -> list[bool]:
        """Which rejected rows of a source are in the quarantine."""
        self._check()
        return self._quarantine.kept(dataset, source, rows)

    def repaired(self, dataset: str, source: str, rows: Sequence[int]) -> None:
        """Rejected rows of a source are stored now. Idempotent."""
        self._check()
        self._quarantine.close_rows(dataset, source, rows)

    def quarantine(self, dataset: str, limit: int) -> list[QuarantineRecord]:
        self._check()
        return self._quarantine.read(dataset, limit)

    def quarantine_page(
        self, dataset: str, start: int, limit: int
    ) -> tuple[list[QuarantineRecord], int]:
        """Rejected rows from an arrival number on, and the number to go on from."""
        self._check()
        return self._quarantine.page(dataset, start, limit)

    def rejected(self) -> dict[str, tuple[int, int, int]]:
        """Per dataset: rows ever rejected, of them in the quarantine, of them repaired."""
        self._check()
        q = self._quarantine
        return {name: (*q.count(name), q.repaired(name)) for name in q.datasets()}

    def files_of_name(self, dataset: str, name: str) -> list[FileContent]:
        """The contents of files that were read under a base name."""
        self._check()
        return self._store.files.of_name(dataset, name)

    def file_of_bytes(self, dataset: str, digest: str) -> FileContent | None:
        """The content with these bytes that was read under any name."""
        self._check()
        return self._store.files.of_bytes(dataset, digest)

    def keep_file(self, dataset: str, content: FileContent) -> None:
        """Keep the content of a file before its rows are sent, and again when they are counted."""
        self._check()
        self._store.files.keep(dataset, content)

    def stop(self) -> None:
        """Close the files. The actor can be killed then."""
        if self._refusal is not None:
            return
        self._refusal = Stopped(
            "expected a running coordinator, got a stopped one - start the store"
        )
        self._quarantine.close()
        self._store.close()
        if self._keeper is not None:
            self._keeper.release()
