"""A store's catalogue on every disk that has copies of its logs, and a store made from one.

Theory: the disk with the catalogue, the store's *home*, says which copy of each log is in force.
Lost with its disk, the copies of the logs would be there and nobody could say whether they have all
that was acknowledged. So the catalogue is copied to ``<disk>/home/`` of the other disks: whenever a
copy enters or leaves, before that is answered, and within seconds of any other change.

``Recovering`` makes the store's home of such a disk. What it says of copies is what the catalogue
said last; of epochs and entries the logs themselves know better, and epochs begin far above all
that were seen. A copy that is older than another disk's is refused. Definitions that are newer than
the copy come from the logs, as after any older catalogue.

Limits: the quarantine is not copied. A disk that was away when a standby left, and is then the only
one, does not know of it; ``home_told`` says when it was told last.
"""

from __future__ import annotations

import os
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import Literal

import lmdb
import msgspec
from msgspec import structs

from profile_actors.engine.shipping.replication import Copies
from profile_actors.errors import ConfigError, CorruptLog
from profile_actors.storage.catalogue_store import LOG_KEY, NUMBER, CatalogueStore
from profile_actors.storage.environment import DATA
from profile_actors.storage.erasure.erasure_record import ErasureRecord, save_record
from profile_actors.storage.files.atomic_files import (
    aside_of,
    failed_write,
    make_directory,
    make_file,
    make_private,
    publish_aside,
    remove_tree,
    sync_directory,
    write_whole,
)
from profile_actors.storage.files.copies_table import COPIES, DISK
from profile_actors.storage.files.framing import frame
from profile_actors.storage.files.layout import LEDGER, StoreLayout, name_of, sequencer_of, whose
from profile_actors.storage.files.lock import DirectoryLock
from profile_actors.storage.files.manifest import load_manifest
from profile_actors.storage.log_segment import LogSegment, Stamp
from profile_actors.storage.replicas.copied_checkpoints import begin_feed, drop_beyond
from profile_actors.storage.replicas.roles import as_partition, newest_at
from profile_actors.storage.replicas.standby_files import found_disk
from profile_actors.storage.shipping.known_backups import KnownBackups

OLD = "old.mdb"
"""What a copy is called that a newer one could not replace."""


ABOVE = 1 << 20
"""Epochs of a recovered store begin so far above those that were seen: some were given to processes
that are gone, and nobody knows of them."""


class Lost(msgspec.Struct, frozen=True):
    """A partition, or the 'ledger', that a recovered store may lack entries of, and why."""

    partition: int | Literal["ledger"]
    reason: str


class Found(msgspec.Struct, frozen=True):
    """Where the copy of a log is that will be in force. head: its entries."""

    index: int
    disk: str
    directory: Path
    head: int
    stamp: Stamp


def copied(env: lmdb.Environment) -> bytes:
    """A catalogue as it is at this moment, for a disk of another machine. Cost: in memory once."""
    with tempfile.TemporaryFile() as file:
        env.copyfd(file.fileno(), compact=True)
        file.seek(0)
        return file.read()


def take_home(disk: Path, catalogue: bytes, settings: bytes) -> None:
    """Keep a catalogue that was copied on another machine. What it says of standbys may have
    changed before this one could be told, so it is marked as an old one. Raises OSError."""
    place = StoreLayout(disk).home / "catalogue" / OLD
    make_directory(place.parent)
    write_whole(place, (catalogue,))
    write_whole(StoreLayout(disk).home / StoreLayout(disk).settings.name, (settings,))


def save_home(disk: Path, env: lmdb.Environment, settings: Path) -> None:
    """Copy a catalogue, as it is at this moment, to a disk. Where that fails, as on a full one, the
    copy that is there is marked as an old one, which needs no room. Cost: written once, and synced.
    Raises StorageFull, CorruptLog."""
    place = StoreLayout(disk).home / "catalogue" / DATA
    try:
        make_directory(place.parent)
        make_file(aside_of(place))
        with open(aside_of(place), "wb") as file:
            env.copyfd(file.fileno(), compact=True)
            os.fsync(file.fileno())
        write_whole(StoreLayout(disk).home / settings.name, (settings.read_bytes(),))
        publish_aside(place)
        place.with_name(OLD).unlink(missing_ok=True)
    except (OSError, lmdb.Error) as error:
        with suppress(OSError):
            aside_of(place).unlink(missing_ok=True)
            os.replace(place, place.with_name(OLD))
            sync_directory(place.parent)
        raise failed_write(error, str(place)) from error


def _copy_of(directory: Path) -> Path | None:
    """The newest copy of a catalogue on a disk."""
    place = StoreLayout(directory).home / "catalogue"
    return next((place / name for name in (DATA, OLD) if (place / name).is_file()), None)


def home_told(directory: Path) -> float | None:
    """When the catalogue was copied last to a disk, seconds since 1970; None if it never was."""
    found = _copy_of(directory)
    return None if found is None else found.stat().st_mtime


def check_place(directory: Path) -> None:
    """Raises ConfigError unless it is a disk with a copy of another one's catalogue."""
    layout = StoreLayout(directory)
    if layout.catalogue.exists() or home_told(directory) is None:
        got = "a store's own" if layout.catalogue.exists() else "one without"
        raise ConfigError(
            f"expected a store's other disk, with a copy of its catalogue, got {got} - at"
            f" {directory}; nothing was changed: start a store that is there, restore a"
            " backup where there is neither"
        )


class Recovering:
    """A store's home made of a disk that has a copy of its catalogue; see the module. The caller
    holds the directory's keeper lock. Raises ConfigError, CorruptLog."""

    def __init__(self, directory: Path, now: int) -> None:
        self._layout = StoreLayout(directory)
        self._home = self._layout.home
        self._now = now
        self._aside = self._home / "aside"
        check_place(directory)
        place, copy = StoreLayout(self._aside), _copy_of(directory)
        assert copy is not None, directory
        self._is_old = copy.name == OLD
        remove_tree(self._aside)
        make_directory(place.catalogue)
        write_whole(place.catalogue / DATA, (copy.read_bytes(),))
        write_whole(place.settings, ((self._home / place.settings.name).read_bytes(),))
        self.known = CatalogueStore(self._aside)
        settings = self.known.settings()
        assert settings is not None, self._home
        self._settings = settings

    @property
    def store(self) -> str:
        """The store's id, which it keeps."""
        return self._settings.id

    def _disks(self) -> dict[str, Path]:
        """The disks of the store that are there, by id. Raises ConfigError if its home is."""
        found: dict[str, Path] = {}
        for disk, directory in self.known.copies.disks().items():
            path = Path(directory)
            one = found_disk(path)
            if one is not None and (one.disk, one.store) == (disk, self.store):
                found[disk] = path
                if path != self._layout.data and StoreLayout(path).catalogue.exists():
                    raise ConfigError(
                        f"expected the catalogue of store {self.store} to be lost, got it - at"
                        f" {path}; nothing was changed: start the store there"
                    )
        own = found_disk(self._layout.data)
        if own is not None:
            found[own.disk] = self._layout.data  # wherever it is mounted now
        return found

    def _is_behind(self, disk: Path) -> bool:
        """Whether another disk's copy of the catalogue is newer, as where this one was away: what
        the older says of standbys is not so any more."""
        copy, beside = _copy_of(disk), StoreLayout(self._home / "beside")
        if copy is None:
            return False
        try:
            remove_tree(beside.data)
            make_directory(beside.catalogue)
            write_whole(beside.catalogue / DATA, (copy.read_bytes(),))
            other = CatalogueStore(beside.data)
            try:
                return any(
                    _age(other.copies.of(index)) > _age(self.known.copies.of(index))
                    for index in (*range(self._settings.partitions), LEDGER)
                )
            finally:
                other.close()
        finally:
            remove_tree(beside.data)

    @property
    def has_ledger(self) -> bool:
        """Whether a ledger may have had entries: one with a record is heard of before its first."""
        ledger = self.known.log(LEDGER)
        has_record = self.known.copies.of(LEDGER) is not None
        return ledger is not None and (ledger.state == "kept" or has_record)

    def survey(self) -> tuple[list[Found], list[Lost]]:
        """The copies that will be in force, and those that may lack entries. Raises ConfigError if
        there is no copy of a log."""
        disks, found, lost = self._disks(), list[Found](), list[Lost]()
        for path in disks.values():
            if path != self._layout.data and self._is_behind(path):
                raise ConfigError(
                    f"expected the newest copy of the catalogue of store {self.store}, got an older"
                    f" one than that on the disk at {path} - at {self._layout.data}; nothing was"
                    " changed: recover that one"
                )
        missing: list[str] = []
        for index in (*range(self._settings.partitions), *([LEDGER] if self.has_ledger else [])):
            copies = self.known.copies.of(index)
            one = None if copies is None else self._one(index, copies, disks, lost)
            if one is None:
                missing.append(whose(index))
            else:
                found.append(one)
        if missing:
            raise ConfigError(
                f"expected copies of all logs of store {self.store}, got none of"
                f" {', '.join(missing)} - at {', '.join(map(str, disks.values()))}; nothing was"
                " changed: mount the disk that has it, or restore a backup"
            )
        return found, lost

    def _one(
        self, index: int, copies: Copies, disks: dict[str, Path], lost: list[Lost]
    ) -> Found | None:
        if copies.primary in disks and self._is_there(index, disks[copies.primary]):
            return self._found(index, copies.primary, disks[copies.primary])
        if copies.standby not in disks or copies.is_anew:
            return None
        if not self._is_there(index, disks[copies.standby]):
            return None
        if self._is_old:
            lost.append(Lost(name_of(index), "newer copies of the catalogue could not be written"))
        elif not copies.in_sync:
            lost.append(Lost(name_of(index), "its standby had not all that was acknowledged"))
        return self._found(index, copies.standby, disks[copies.standby])

    def _is_there(self, index: int, data: Path) -> bool:
        layout = StoreLayout(data)
        return any(one.log_id.is_file() for one in (layout.partition(index), layout.standby(index)))

    def _found(self, index: int, disk: str, data: Path) -> Found:
        paths = newest_at(data, index)
        DirectoryLock(paths.lock, 0.0).release()  # raises FencedOut while somebody has it open
        manifest = load_manifest(paths.manifest)
        if manifest is None:
            raise CorruptLog(f"expected a log, got none - at {paths.log}")
        newest = manifest.segments[-1]
        path = paths.log / newest.name
        size = max((path / DATA).stat().st_size, 1 << 20) if (path / DATA).is_file() else 1 << 20
        segment = LogSegment.open(path, newest.first, size, sync=True, sealed=True)
        try:
            return Found(index, disk, data, segment.end(), segment.stamp())
        finally:
            segment.discard()

    def publish(self, found: list[Found]) -> None:
        """Put those copies in force, and make the directory the store's home."""
        try:
            for one in found:
                self._in_force(one)
            self._rewrite(found)
            known = self.known
            env, (backups, erased) = known.beside("backups", "erased")
            marks = KnownBackups(env, backups, erased, str(self._home)).erased()
            known.close()
            layout = self._layout
            save_record(layout.data, ErasureRecord(max((mark.number for mark in marks), default=0)))
            text = msgspec.json.format(msgspec.json.encode(self._settings))
            write_whole(layout.settings, (text, b"\n"))
            make_private(layout.existing())
            os.replace(StoreLayout(self._aside).catalogue, layout.catalogue)
            sync_directory(layout.data)
            remove_tree(self._home)
        except (OSError, lmdb.Error) as error:
            raise failed_write(error, str(self._layout.data)) from error

    def _in_force(self, one: Found) -> None:
        directory = newest_at(one.directory, one.index).directory
        if directory != StoreLayout(one.directory).standby(one.index).directory:
            return
        drop_beyond(directory, one.head)
        if one.index != LEDGER:  # which tells nobody of changes
            begin_feed(directory)
        as_partition(one.directory, one.index)

    def _rewrite(self, found: list[Found]) -> None:
        """What the catalogue says of logs, copies and disks, in one transaction."""
        known = self.known
        env, (settings, epochs) = known.beside("settings", "epochs")
        claims = {one.index: known.log(one.index) for one in found}
        given = {one.index: known.epoch(sequencer_of(one.index)) for one in found}
        with env.begin(write=True) as transaction:
            for key in _of_disks(transaction, settings):
                transaction.delete(key, db=settings)
            for disk, directory in {(one.disk, one.directory) for one in found}:
                value = frame(0, (str(directory).encode(),))
                transaction.put(DISK + disk.encode(), value, db=settings)
            for one in found:
                claim, key = claims[one.index], str(one.index).encode()
                assert claim is not None, one
                epoch = max(given[one.index], one.stamp.epoch) + ABOVE
                copies = Copies(primary=one.disk, epoch=epoch, since=epoch)
                told = structs.replace(
                    claim, entries=one.head, told=self._now, epoch=one.stamp.epoch,
                    directory=str(StoreLayout(one.directory).partition(one.index).directory),
                )  # fmt: skip
                for name, record in ((LOG_KEY + key, told), (COPIES + key, copies)):
                    content = frame(one.index, (msgspec.json.encode(record),))
                    transaction.put(name, content, db=settings)
                sequencer = sequencer_of(one.index).encode()
                transaction.put(sequencer, NUMBER.pack(epoch), db=epochs)

    def close(self) -> None:
        """Let go of the copy, if it was not published."""
        if self._aside.exists():
            self.known.close()
            remove_tree(self._aside)


def _age(copies: Copies | None) -> tuple[int, int]:
    """Of two records of a log's copies the newer has more."""
    return (0, 0) if copies is None else (copies.epoch, copies.asked)


def _of_disks(transaction: lmdb.Transaction, settings: lmdb._Database) -> list[bytes]:
    with transaction.cursor(settings) as cursor:
        keys = [bytes(key) for key in cursor.iternext(keys=True, values=False)]
    return [key for key in keys if key.startswith((COPIES, DISK))]
