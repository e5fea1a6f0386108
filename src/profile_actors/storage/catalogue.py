"""The coordinator's store: definitions by version, settings, assignment of buckets, epochs.

Theory: one small LMDB environment, every change one synced transaction. Writing version v is the
commit point of ``apply``: all or nothing. Settings are set once; every later opening compares. An
epoch is a counter per sequencer id ("0", "1", … for partitions, "L"): a new owner takes the next
one, so of two owners the log knows the newer. Values are framed with a checksum (``framing.py``),
seeded with their version.

Limits: one process at a time (``flock``); versions are kept for ever (they are what the log's
entries refer to), each at most MAP_BYTES in sum.
"""

from __future__ import annotations

import struct
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import lmdb
import msgspec
import numpy as np

from profile_actors.errors import ConfigError, CorruptLog, FencedOut
from profile_actors.storage.environment import (
    DATA,
    create_environment,
    open_databases,
    open_environment,
)
from profile_actors.storage.files import (
    failed_read,
    failed_write,
    make_directory,
    remove_asides,
    write_whole,
)
from profile_actors.storage.framing import HEADER_BYTES, damage, frame
from profile_actors.storage.layout import StoreLayout
from profile_actors.storage.lock import DirectoryLock

MAP_BYTES = 1 << 30
NUMBER = struct.Struct(">Q")
DATABASES = ("versions", "assignments", "settings", "epochs")
FORMAT = 1


class StoreSettings(msgspec.Struct, frozen=True, kw_only=True):
    """What a store is for ever. hash_seed: of identity keys. created: ms UTC."""

    partitions: int
    clock: Literal["wall", "event"]
    hash_seed: int
    created: int
    format: int = FORMAT


class CatalogueStore:
    """The catalogue of the store in directory ``data``; one writer, any thread reads.

    Raises FencedOut if another process has it open, CorruptLog.
    """

    def __init__(self, data: Path | str, *, lock_wait_s: float = 5.0) -> None:
        self._paths = StoreLayout(Path(data))
        directory = self._paths.catalogue
        make_directory(directory)
        remove_asides(self._paths.data)
        self._writing = threading.Lock()
        self._lock = DirectoryLock(directory / "lock", lock_wait_s)
        try:
            # A crash at the very first opening may leave a file without its meta pages.
            data_file = directory / DATA
            is_new = not data_file.is_file() or data_file.stat().st_size == 0
            make = create_environment if is_new else open_environment
            self._env = make(directory, MAP_BYTES, len(DATABASES), sync=True)
            self._db = open_databases(self._env, DATABASES)
            settings = self.settings()
            if settings is not None and not self._paths.settings.is_file():
                self._write_settings_file(settings)
        except (lmdb.Error, OSError) as error:
            self._lock.release()
            raise failed_write(error, str(directory)) from error
        except BaseException:
            self._lock.release()
            raise

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

    def _put_next(self, database: str, number: int, content: bytes) -> None:
        """Store a version that follows the newest; the same content again changes nothing."""
        with self._writing:
            stored = self._get(database, number)
            if stored == content:
                return
            newest = self._newest(database)
            if number != newest + 1:
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

    def get(self, version: int) -> bytes | None:
        """One version's content, None if there is none. Raises CorruptLog."""
        return self._get("versions", version)

    def settings(self) -> StoreSettings | None:
        """The store's settings, None before they are set. Raises CorruptLog."""
        content = self._get("settings", 0)
        if content is None:
            return None
        settings = msgspec.json.decode(content, type=StoreSettings)
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

    def next_epoch(self, sequencer: str) -> int:
        """A number higher than any given before for this sequencer; the first is 1. Durable."""
        with self._writing:
            try:
                with self._env.begin(write=True, db=self._db["epochs"]) as transaction:
                    epoch = self._epoch(transaction.get(sequencer.encode())) + 1
                    transaction.put(sequencer.encode(), NUMBER.pack(epoch))
            except lmdb.Error as error:
                raise failed_write(
                    error, f"{self._paths.catalogue / DATA} epoch {sequencer}"
                ) from error
        return epoch

    def epoch(self, sequencer: str) -> int:
        """The epoch given last; 0 if none was."""
        with self._env.begin(db=self._db["epochs"]) as transaction:
            return self._epoch(transaction.get(sequencer.encode()))

    @staticmethod
    def _epoch(value: bytes | None) -> int:
        return int(NUMBER.unpack(value)[0]) if value is not None else 0

    def close(self) -> None:
        """Close the environment and free the lock; no call may be under way."""
        with self._writing:
            self._env.close()
            self._lock.release()
