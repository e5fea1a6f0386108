"""The coordinator's store: definitions by version, settings, assignment of buckets, epochs.

Theory: one small LMDB environment, every change one synced transaction. Writing version v is the
commit point of ``apply``: all or nothing. Settings are set once; every later opening compares. An
epoch is a counter per sequencer id ("0", "1", … for partitions, "L"): a new owner takes the next
one, so of two owners the log knows the newer. Values are framed with a checksum (``framing.py``),
seeded with their version.

Which logs there are is recorded here too (``log_id.py``), beside the settings: of a partition that
was ever told to be there, an empty place is a lost log. The same holds for the catalogue itself:
one that is missing beside ``store.json`` or a partition's log is not begun anew.

A catalogue from an older backup knows less than the logs: an epoch that a log has recorded and
definitions that a partition has taken are taken over from there (``next_epoch``, ``adopt``).

Limits: one process at a time (``flock``); versions are kept for ever (they are what the log's
entries refer to), each at most MAP_BYTES in sum.
"""

from __future__ import annotations

import struct
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path

import lmdb
import msgspec
import numpy as np

from profile_actors.errors import ConfigError, CorruptLog, FencedOut, LostLog
from profile_actors.storage.environment import (
    DATA,
    create_environment,
    open_databases,
    open_environment,
)
from profile_actors.storage.files.atomic_files import (
    failed_read,
    failed_write,
    make_directory,
    make_private,
    remove_asides,
    write_whole,
)
from profile_actors.storage.files.copies_table import CopiesTable
from profile_actors.storage.files.framing import HEADER_BYTES, damage, frame
from profile_actors.storage.files.known_files import KnownFiles
from profile_actors.storage.files.layout import StoreLayout
from profile_actors.storage.files.lock import DirectoryLock
from profile_actors.storage.log_id import LogClaim, LogId
from profile_actors.storage.log_segment import Stamp
from profile_actors.storage.store_settings import (
    FORMAT,
    SETTINGS,
    StoreSettings,
    load_settings_file,
)

MAP_BYTES = 1 << 30

NUMBER = struct.Struct(">Q")


LOG_KEY = b"log:"
"""In ``settings``, before a partition's number: what is known of its log."""


DATABASES = ("versions", "assignments", "settings", "epochs")


ADDED = ("files", "backups", "erased")
"""Databases that came later: made where an older release wrote the others."""


_CLAIM = msgspec.json.Decoder(LogClaim)


class CatalogueStore:
    """The catalogue of the store in directory ``data``; one writer, any thread reads.

    files: the contents of files that were read. Raises FencedOut if another process has it open,
    CorruptLog, LostLog.
    """

    def __init__(self, data: Path | str, *, lock_wait_s: float = 5.0) -> None:
        self._paths = StoreLayout(Path(data))
        directory = self._paths.catalogue
        # A crash at the very first opening may leave a file without its meta pages.
        data_file = directory / DATA
        if not data_file.is_file() or data_file.stat().st_size == 0:
            self._check_new("none")
        make_directory(directory)
        make_private(self._paths.existing())
        remove_asides(self._paths.data)
        self._writing = threading.Lock()
        self._lock = DirectoryLock(directory / "lock", lock_wait_s)
        try:
            is_new = not data_file.is_file() or data_file.stat().st_size == 0
            make = create_environment if is_new else open_environment
            self._env = make(directory, MAP_BYTES, len(DATABASES + ADDED), sync=True)
            self._db = open_databases(self._env, DATABASES, added=ADDED)
            self.files = KnownFiles(self._env, self._db["files"], f"{directory / DATA} files")
            self.copies = CopiesTable(self._env, self._db["settings"], f"{directory / DATA} copies")
            settings = self.settings()
            if settings is None:
                self._check_new("an empty one")
            else:
                self._check_settings_file(settings)
        except (lmdb.Error, OSError) as error:
            self._lock.release()
            raise failed_write(error, str(directory)) from error
        except BaseException:
            self._lock.release()
            raise

    def _check_new(self, got: str) -> None:
        """Raises LostLog if the directory has what only a store with a catalogue has."""
        logs = self._paths.partitions.glob("*/log*")
        own = (self._paths.settings, self._paths.restoring, self._paths.home)
        traces = [path for path in (*own, *sorted(logs)) if path.exists()]
        if traces:
            raise LostLog(
                f"expected the catalogue of the store that {traces[0]} belongs to, got {got} - at"
                f" {self._paths.catalogue}; nothing was written: put the directory back, restore a"
                " backup, or `profile-actors recover` a second disk, then start again"
            )

    def _check_settings_file(self, settings: StoreSettings) -> None:
        """Raises LostLog if the settings file is another store's; writes a missing or old one."""
        kept = load_settings_file(self._paths.settings)
        if kept is not None and kept.id and settings.id and kept.id != settings.id:
            raise LostLog(
                f"expected the catalogue of store {kept.id}, got that of store {settings.id} - at"
                f" {self._paths.catalogue}; nothing was written: put the directory back (if"
                f" {self._paths.settings.name} is the wrong one, delete it), then start again"
            )
        if kept is None or kept.id != settings.id:
            self._write_settings_file(settings)

    def _where(self, database: str, number: int) -> str:
        return f"{self._paths.catalogue / DATA} {database} {number}"

    def _newest(self, database: str) -> int:
        with self._env.begin(db=self._db[database]) as transaction, transaction.cursor() as cursor:
            return int(NUMBER.unpack(cursor.key())[0]) if cursor.last() else 0

    def _get(self, database: str, number: int) -> bytes | None:
        try:
            with self._env.begin(db=self._db[database]) as transaction:
                value = transaction.get(NUMBER.pack(number))
        except lmdb.Error as error:
            raise failed_read(error, self._where(database, number)) from error
        if value is None:
            return None
        fault = damage(number, value)
        if fault is not None:
            raise CorruptLog(
                f"{fault} - at {self._where(database, number)}; restore the file from a backup"
            )
        return bytes(value[HEADER_BYTES:])

    def _put_next(self, database: str, number: int, content: bytes, may_skip: bool = False) -> None:
        """Store a version that follows the newest; the same content again changes nothing."""
        with self._writing:
            stored = self._get(database, number)
            if stored == content:
                return
            newest = self._newest(database)
            if number != newest + 1 and not (may_skip and number > newest):
                raise FencedOut(
                    f"expected {database} number {newest + 1} next, got {number} - at"
                    f" {self._paths.catalogue}; somebody else wrote it, read it again"
                )
            try:
                with self._env.begin(write=True, db=self._db[database]) as transaction:
                    transaction.put(NUMBER.pack(number), frame(number, (content,)), overwrite=False)
            except lmdb.Error as error:
                raise failed_write(error, self._where(database, number)) from error

    def newest_version(self) -> int:
        """The newest version of the definitions; 0 if there is none."""
        return self._newest("versions")

    def put(self, version: int, content: bytes) -> None:
        """Commit one version durably; numbers start at 1. Repeating the newest is harmless.

        Raises FencedOut if it does not follow the newest, StorageFull.
        """
        assert version >= 1, version
        self._put_next("versions", version, content)

    def adopt(self, version: int, content: bytes) -> None:
        """Commit a version that a log has and a catalogue from a backup has not; those between are
        gone. Repeating the newest is harmless. Raises FencedOut unless it is newer, StorageFull.
        """
        self._put_next("versions", version, content, may_skip=True)

    def get(self, version: int) -> bytes | None:
        """One version's content, None if there is none. Raises CorruptLog."""
        return self._get("versions", version)

    def settings(self) -> StoreSettings | None:
        """The store's settings, None before they are set. Raises CorruptLog."""
        content = self._get("settings", 0)
        if content is None:
            return None
        settings = SETTINGS.decode(content)
        if settings.format != FORMAT:
            raise CorruptLog(
                f"expected store format {FORMAT}, got {settings.format} - at"
                f" {self._paths.catalogue}; a newer release wrote it, use that one"
            )
        return settings

    def set_settings(self, wanted: StoreSettings) -> StoreSettings:
        """Set the settings of a new store, or check them; returns what is stored.

        Of a store that has settings partitions and clock must be the same; the seed and the time
        of creation are the stored ones. Raises ConfigError, StorageFull.
        """
        with self._writing:
            stored = self.settings()
            if stored is None:
                content = msgspec.json.encode(wanted)
                try:
                    with self._env.begin(write=True, db=self._db["settings"]) as transaction:
                        transaction.put(NUMBER.pack(0), frame(0, (content,)))
                    self._write_settings_file(wanted)
                except (lmdb.Error, OSError) as error:
                    raise failed_write(error, self._where("settings", 0)) from error
                return wanted
        for name in ("partitions", "clock"):
            if getattr(stored, name) != getattr(wanted, name):
                raise ConfigError(
                    f"expected {name}={getattr(stored, name)!r} as the store was made with, got"
                    f" {getattr(wanted, name)!r} - at {self._paths.data}; start it with the former"
                    " or make a new store"
                )
        return stored

    def identify(self, store_id: str) -> StoreSettings:
        """Give a store from before stores had ids its own, and have its logs accepted once.

        Of partitions that may hold rows (ever enlisted, in a store with definitions) the log must
        be there. A store that has an id keeps it. Raises StorageFull.
        """
        with self._writing:
            settings = self.settings()
            assert settings is not None, "settings come first"
            if settings.id:
                return settings
            kept = load_settings_file(self._paths.settings)
            marked = msgspec.structs.replace(
                settings, id=(kept.id if kept is not None else "") or store_id
            )
            has_rows = self._newest("versions") > 0
            owed = [i for i in range(settings.partitions) if has_rows and self.epoch(str(i))]
            try:
                with self._env.begin(write=True, db=self._db["settings"]) as transaction:
                    transaction.put(NUMBER.pack(0), frame(0, (msgspec.json.encode(marked),)))
                    for index in owed:
                        found = LogId(store=marked.id, partition=index, log="")
                        self._put_log(transaction, LogClaim(id=found, state="accepting"))
                self._write_settings_file(marked)
            except (lmdb.Error, OSError) as error:
                raise failed_write(error, self._where("settings", 0)) from error
        return marked

    def claim(self, index: int, log_id: str) -> LogClaim:
        """What is known of a partition's log; one never heard of is promised ``log_id``. Durable.

        Raises CorruptLog, StorageFull.
        """
        with self._writing:
            known = self.log(index)
            if known is not None and known.id.log:
                return known
            settings = self.settings()
            assert settings is not None
            named = LogId(store=settings.id, partition=index, log=log_id)
            promised = LogClaim(id=named, state="promised" if known is None else known.state)
            self._write_log(promised)
        return promised

    def tell(
        self, index: int, log_id: str, entries: int, now: int, directory: str, epoch: int = 0
    ) -> None:
        """Note that a log is there, durably: so many entries and this epoch in it, at ``now`` ms.

        Fewer than known is no news: what was told late. Raises LostLog for another log's id.
        """
        with self._writing:
            known = self.log(index)
            assert known is not None, f"partition {index} was never enlisted"
            if log_id != known.id.log and known.state == "kept":
                raise known.lost(f"log {log_id}", Path(directory))
            told = LogClaim(
                id=msgspec.structs.replace(known.id, log=log_id),
                state="kept",
                entries=max(entries, known.entries),
                told=now,
                directory=directory,
                epoch=max(epoch, known.epoch),
            )
            if told != msgspec.structs.replace(known, told=now, directory=directory):
                self._write_log(told)

    def log(self, index: int) -> LogClaim | None:
        """What is known of a partition's log, None if it was never enlisted. Raises CorruptLog."""
        where = f"{self._paths.catalogue / DATA} log of partition {index}"
        try:
            with self._env.begin(db=self._db["settings"]) as transaction:
                value = transaction.get(LOG_KEY + str(index).encode())
        except lmdb.Error as error:
            raise failed_read(error, where) from error
        if value is None:
            return None
        fault = damage(index, value)
        if fault is not None:
            raise CorruptLog(f"{fault} - at {where}; restore the file from a backup")
        return _CLAIM.decode(value[HEADER_BYTES:])

    def _put_log(self, transaction: lmdb.Transaction, claim: LogClaim) -> None:
        index = claim.id.partition
        value = frame(index, (msgspec.json.encode(claim),))
        transaction.put(LOG_KEY + str(index).encode(), value, db=self._db["settings"])

    def _write_log(self, claim: LogClaim) -> None:
        try:
            with self._env.begin(write=True, db=self._db["settings"]) as transaction:
                self._put_log(transaction, claim)
        except lmdb.Error as error:
            where = f"{self._paths.catalogue / DATA} log of partition {claim.id.partition}"
            raise failed_write(error, where) from error

    def _write_settings_file(self, settings: StoreSettings) -> None:
        text = msgspec.json.format(msgspec.json.encode(settings))
        write_whole(self._paths.settings, (text, b"\n"))

    def assignment(self) -> tuple[int, np.ndarray] | None:
        """The newest assignment: its version and uint16[buckets], the partition of each bucket."""
        version = self._newest("assignments")
        content = self._get("assignments", version) if version else None
        return None if content is None else (version, np.frombuffer(content, "<u2").copy())

    def put_assignment(self, version: int, table: Sequence[int] | np.ndarray) -> None:
        """Commit an assignment durably; versions start at 1. Raises FencedOut, StorageFull."""
        self._put_next("assignments", version, np.asarray(table).astype("<u2").tobytes())

    def next_epoch(self, sequencer: str, above: int = 0) -> int:
        """A number higher than any given before for this sequencer, and than above; the first is 1.

        above: what a log has recorded, which a catalogue from a backup does not know. Durable.
        """
        with self._writing:
            try:
                with self._env.begin(write=True, db=self._db["epochs"]) as transaction:
                    epoch = max(self._epoch(transaction.get(sequencer.encode())), above) + 1
                    transaction.put(sequencer.encode(), NUMBER.pack(epoch))
            except lmdb.Error as error:
                where = f"{self._paths.catalogue / DATA} epoch {sequencer}"
                raise failed_write(error, where) from error
        return epoch

    def epoch(self, sequencer: str) -> int:
        """The epoch given last; 0 if none was."""
        with self._env.begin(db=self._db["epochs"]) as transaction:
            return self._epoch(transaction.get(sequencer.encode()))

    def catch_up(self, stamps: Mapping[int, Stamp]) -> None:
        """Take over what logs say that a catalogue from a backup does not know: of all or of none,
        so that after a crash none of them is ahead alone. Raises StorageFull.
        """
        known = {index: self.log(index) for index in stamps}
        with self._writing:
            try:
                with self._env.begin(write=True, db=self._db["epochs"]) as transaction:
                    for index, stamp in stamps.items():
                        key, claim = str(index).encode(), known[index]
                        epoch = max(self._epoch(transaction.get(key)), stamp.epoch)
                        transaction.put(key, NUMBER.pack(epoch))
                        if claim is not None and stamp.told > claim.entries:
                            told = msgspec.structs.replace(claim, entries=stamp.told)
                            self._put_log(transaction, told)
            except lmdb.Error as error:
                raise failed_write(error, f"{self._paths.catalogue / DATA} epochs") from error

    @staticmethod
    def _epoch(value: bytes | None) -> int:
        return int(NUMBER.unpack(value)[0]) if value is not None else 0

    def beside(self, *names: str) -> tuple[lmdb.Environment, list[lmdb._Database]]:
        """The environment and databases of it, for what is kept there by others (``shipping/``)."""
        return self._env, [self._db[name] for name in names]

    def close(self) -> None:
        with self._writing:
            self._env.close()
            self._lock.release()
