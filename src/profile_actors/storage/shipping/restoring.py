"""A store made from a backup, in a directory that has none.

Theory. Everything is read and compared once before anything is made, and again when it is copied.
What makes a directory a store is its catalogue, so that comes last: whatever ends a restore before,
its directory is refused as a store, and the next restore begins it anew. Until then the catalogue
stands in ``restoring/``, which tells such a directory from a store that lost its catalogue.

The logs end where the manifest says, at one consistent frontier. The catalogue was copied later and
was told more than that: it is told again, that each log has what it has and the epoch that it has,
or it would miss what was never acknowledged in this store. Of standbys and other disks it knows
nothing any more: those are the original's. Epochs given stay given: the next is
above all that were ever seen.

Sealed log segments are the very files; entries are put into a log segment anew, with the checksums
that they had. A checkpoint saves the replay; the feed begins at it, so older cursors expire.

Limits: who sent rows after the backup must send them again, from its producer's cursor.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterable, Iterator
from pathlib import Path

import lmdb
import msgspec
from msgspec import structs

from profile_actors.engine.shipping.pieces import Piece, Stored
from profile_actors.errors import ConfigError, CorruptLog
from profile_actors.storage.catalogue_store import LOG_KEY, NUMBER, CatalogueStore
from profile_actors.storage.environment import DATA
from profile_actors.storage.erasure.erasure_record import ErasureRecord, save_record
from profile_actors.storage.files.atomic_files import (
    CrashPoint,
    failed_write,
    make_directory,
    make_private,
    no_crash,
    remove_tree,
    sync_directory,
    write_whole,
)
from profile_actors.storage.files.copies_table import COPIES, DISK
from profile_actors.storage.files.framing import frame
from profile_actors.storage.files.layout import PartitionLayout, StoreLayout
from profile_actors.storage.files.manifest import (
    PLAIN,
    LogSegmentEntry,
    Manifest,
    save_manifest,
)
from profile_actors.storage.lmdb_feed import begin_at
from profile_actors.storage.lmdb_log import log_segment_name
from profile_actors.storage.log_id import LogClaim, LogId, save_log_id
from profile_actors.storage.log_segment import LogSegment
from profile_actors.storage.segment_checks import format_of
from profile_actors.storage.shipping.backups import BackupManifest, KeptLog, faults
from profile_actors.storage.shipping.depot import Depot
from profile_actors.storage.shipping.log_shipping import entries_in
from profile_actors.storage.store_settings import StoreSettings


class Restoring:
    """One restore. store: the id that the store gets; drawn: for ``StoreSettings.restored``.

    now: ms UTC."""

    def __init__(
        self,
        depot: Depot,
        manifest: BackupManifest,
        directory: Path,
        store: str,
        drawn: str,
        now: int,
        crash_point: CrashPoint = no_crash,
    ) -> None:
        self._depot = depot
        self._manifest = manifest
        self._layout = StoreLayout(directory)
        self._aside = self._layout.restoring
        self._store = store
        self._drawn = drawn
        self._now = now
        self._crash_point = crash_point

    def check_place(self) -> None:
        """Raises ConfigError for a directory that has a store, or a part of one."""
        layout = self._layout
        is_begun = self._aside.is_dir() and not layout.catalogue.exists()
        place = Path(self._depot.uri)
        if layout.data == place or place in layout.data.parents:
            raise ConfigError(
                f"expected a directory apart from the backups, got {layout.data} - at {place}; name"
                " another directory"
            )
        store = (layout.catalogue, layout.settings, layout.edges, layout.disk)
        for path in (*self._parts(), *store):
            if path.exists() and not is_begun:
                raise ConfigError(
                    f"expected a directory without a store, got {path.name} in it - at"
                    f" {layout.data}; nothing was written: name another directory"
                )

    def check_whole(self) -> None:
        """Raises CorruptLog, naming each file, for a backup that is not whole. Cost: reads it."""
        found = faults(self._depot, [self._manifest.id])[self._manifest.id]
        if found:
            raise CorruptLog("; ".join(found))

    def _parts(self) -> Iterator[Path]:
        layout = self._layout
        yield from (layout.partitions, layout.ledger, layout.quarantine)

    def logs(self) -> None:
        """Make everything but the catalogue, which ``catalogue`` makes, and ``publish`` puts in its
        place. Raises CorruptLog, StorageFull."""
        try:
            make_directory(self._aside)
            for path in self._parts():
                remove_tree(path)
            for log in self._manifest.logs:
                self._log(log, PartitionLayout(self.directory_of(log)))
                self._crash_point(f"restore.log {log.name}")
            if self._manifest.quarantine is not None:
                make_directory(self._layout.quarantine)
                self._copy(self._manifest.quarantine, self._layout.quarantine / DATA)
        except (OSError, lmdb.Error) as error:
            raise failed_write(error, str(self._layout.data)) from error

    @property
    def quarantine(self) -> Path:
        """Where rejected rows go."""
        return self._layout.quarantine

    def directory_of(self, log: KeptLog) -> Path:
        """Where a sequencer's files go."""
        layout = self._layout
        return layout.partition(log.index).directory

    def _log(self, log: KeptLog, paths: PartitionLayout) -> None:
        make_directory(paths.log)
        groups = [
            (name, list(pieces))
            for name, pieces in itertools.groupby(log.pieces, lambda piece: piece.segment)
        ]
        listed: list[LogSegmentEntry] = []
        for name, pieces in groups:
            first, end = pieces[0].first, pieces[-1].end
            is_last = end == log.end and pieces[0].form == "entries"
            form = PLAIN
            if pieces[0].form == "file":
                make_directory(paths.log / name)
                self._copy(pieces[0].stored, paths.log / name / DATA)
                form = format_of(paths.log / name, first)
            else:
                self._segment(log, paths.log / name, pieces)
            entries = None if is_last else end - first
            listed.append(LogSegmentEntry(name, first, not is_last, entries, form))
        if not listed or listed[-1].sealed:
            name = log_segment_name(log.end)
            self._segment(log, paths.log / name, [], log.end)
            listed.append(LogSegmentEntry(name, log.end))
        sync_directory(paths.log)
        save_log_id(paths, LogId(store=self._store, partition=log.index, log=log.log,
                                 since=log.since))  # fmt: skip
        save_manifest(paths.manifest, Manifest(tuple(listed)))
        checkpoint = log.with_checkpoint(log.checkpoint).checkpoint  # older releases kept all
        if checkpoint is not None:
            for name, stored in checkpoint.files.items():
                make_directory((paths.directory / name).parent)
                self._copy(stored, paths.directory / name)
            begin_at(paths.feed, checkpoint.position)

    def _segment(
        self, log: KeptLog, path: Path, pieces: Iterable[Piece], first: int | None = None
    ) -> None:
        """A log segment of entries, made anew; what its log and its writer were is in it."""
        pieces = list(pieces)
        size = sum(piece.stored.bytes for piece in pieces)
        start = pieces[0].first if first is None else first
        # Address space only: a value may take a page more than it has bytes.
        segment = LogSegment.create(path, start, 4 * size + (16 << 20), sync=False)
        try:
            segment.claim(log.epoch, log.log)
            for piece in pieces:
                segment.fill(entries_in(self._depot, piece))
                self._crash_point(f"restore.piece {log.name} {piece.first}")
            segment.sync()
        finally:
            segment.discard()

    def _copy(self, stored: Stored, path: Path) -> None:
        write_whole(path, self._depot.content(stored), self._crash_point, "restore.")

    def catalogue(self) -> CatalogueStore:
        """The catalogue, told what the logs have; to be closed. Raises CorruptLog, StorageFull."""
        place = StoreLayout(self._aside).catalogue
        try:
            remove_tree(place)
            make_directory(place)
            self._copy(self._manifest.catalogue, place / DATA)
            (self._aside / "store.json").unlink(missing_ok=True)
            known = CatalogueStore(self._aside)
            env, (settings, epochs) = known.beside("settings", "epochs")
            with env.begin(write=True) as transaction:
                was = known.settings()
                assert was is not None, place
                fresh = msgspec.json.encode(
                    structs.replace(was, id=self._store, restored=self._drawn)
                )
                transaction.put(NUMBER.pack(0), frame(0, (fresh,)), db=settings)
                for key in _of_places(transaction, settings):
                    transaction.delete(key, db=settings)
                for log in self._manifest.logs:
                    claim = self._claim(log)
                    value = frame(log.index, (msgspec.json.encode(claim),))
                    transaction.put(LOG_KEY + str(log.index).encode(), value, db=settings)
                    given = max(known.epoch(log.name), log.epoch)
                    transaction.put(log.name.encode(), NUMBER.pack(given), db=epochs)
        except (OSError, lmdb.Error) as error:
            raise failed_write(error, str(place)) from error
        return known

    def _claim(self, log: KeptLog) -> LogClaim:
        named = LogId(store=self._store, partition=log.index, log=log.log)
        return LogClaim(
            id=named, state="kept", entries=log.end, told=self._now,
            directory=str(self.directory_of(log)), epoch=log.epoch,
        )  # fmt: skip

    def publish(self, settings: StoreSettings, erasures: int) -> None:
        """Make the directory a store. The catalogue is closed. Raises StorageFull."""
        layout = self._layout
        try:
            save_record(layout.data, ErasureRecord(erasures))
            text = msgspec.json.format(msgspec.json.encode(settings))
            write_whole(layout.settings, (text, b"\n"), self._crash_point, "restore.")
            make_private(layout.existing())
            self._crash_point("restore.before_catalogue")
            os.replace(StoreLayout(self._aside).catalogue, layout.catalogue)
            sync_directory(layout.data)
            self._crash_point("restore.after_catalogue")
            remove_tree(self._aside)
        except OSError as error:
            raise failed_write(error, str(layout.data)) from error


def _of_places(transaction: lmdb.Transaction, settings: lmdb._Database) -> list[bytes]:
    """The keys of what a catalogue knows of logs, their standbys, and disks."""
    with transaction.cursor(settings) as cursor:
        keys = [bytes(key) for key in cursor.iternext(keys=True, values=False)]
    return [key for key in keys if key.startswith((LOG_KEY, COPIES, DISK))]
