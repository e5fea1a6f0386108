"""Which backups a store has made, and whom it has erased, in the catalogue's environment.

Theory: a backup is noted before its first file is written, since from then on the place may have
what a store no longer has, and again when it is whole. A backup goes on from the newest one that
its store remembers: a store that was put back remembers none that was made after what it was put
back from, whose files may say otherwise of the same positions.

Of an erased person marks of her identities are kept (``engine/erasure/marks``), and no name: who
has an older copy of the store can find her there and erase her again, and who has not learns
nothing.

Limits: some 100 bytes a backup, until it is seen to be gone, and 36 bytes an identity erased.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from typing import Literal

import lmdb
import msgspec
import xxhash

from profile_actors.errors import CorruptLog
from profile_actors.storage.files.atomic_files import failed_read, failed_write
from profile_actors.storage.files.framing import HEADER_BYTES, damage, frame

NUMBER = struct.Struct(">Q")


class KnownBackup(msgspec.Struct, frozen=True):
    """A backup that was begun. at: ms UTC. store: whose it is."""

    id: str
    uri: str
    at: int
    store: str
    state: Literal["begun", "whole"] = "begun"


class ErasedMarks(msgspec.Struct, frozen=True):
    """An erasure: its number in the store, ms UTC, and the marks of the person's identities."""

    number: int
    at: int
    marks: tuple[str, ...]


_BACKUP = msgspec.json.Decoder(KnownBackup)
_ERASED = msgspec.json.Decoder(ErasedMarks)


class KnownBackups:
    """What is kept in databases ``backups`` and ``erased`` of ``env``; any thread reads and writes.

    where: what errors name. All writing is durable, and raises StorageFull.
    """

    def __init__(
        self, env: lmdb.Environment, backups: lmdb._Database, erased: lmdb._Database, where: str
    ) -> None:
        self._env = env
        self._backups = backups
        self._erased = erased
        self._where = where

    def note(self, backup: KnownBackup) -> None:
        """Remember a backup, or that it is whole now."""
        self._put(self._backups, f"{backup.id} {backup.uri}".encode(), msgspec.json.encode(backup))

    def forget(self, backup: KnownBackup) -> None:
        """A backup is gone from its place."""
        try:
            with self._env.begin(write=True, db=self._backups) as transaction:
                transaction.delete(f"{backup.id} {backup.uri}".encode())
        except lmdb.Error as error:
            raise failed_write(error, self._where) from error

    def all(self) -> list[KnownBackup]:
        """All that are remembered, oldest first. Raises CorruptLog."""
        return [_BACKUP.decode(value) for value in self._values(self._backups)]

    def note_erased(self, erased: ErasedMarks) -> None:
        """Remember an erasure. Idempotent: whom it took out is what it is known by, since a store
        that was put back gives a number again."""
        known = {(one.number, one.marks) for one in self.erased()}
        if (erased.number, erased.marks) not in known:
            whom = xxhash.xxh3_64_digest("\n".join(erased.marks).encode())
            self._put(self._erased, NUMBER.pack(erased.number) + whom, msgspec.json.encode(erased))

    def erased(self) -> list[ErasedMarks]:
        """All erasures that are remembered, oldest first. Raises CorruptLog."""
        return [_ERASED.decode(value) for value in self._values(self._erased)]

    def _put(self, db: lmdb._Database, key: bytes, content: bytes) -> None:
        try:
            with self._env.begin(write=True, db=db) as transaction:
                transaction.put(key, frame(0, (content,)))
        except lmdb.Error as error:
            raise failed_write(error, self._where) from error

    def _values(self, db: lmdb._Database) -> Iterable[bytes]:
        try:
            with self._env.begin(db=db) as transaction, transaction.cursor() as cursor:
                values = [bytes(value) for value in cursor.iternext(keys=False, values=True)]
        except lmdb.Error as error:
            raise failed_read(error, self._where) from error
        for value in values:
            fault = damage(0, value)
            if fault is not None:
                raise CorruptLog(f"{fault} - at {self._where}; restore the file from a backup")
        return [value[HEADER_BYTES:] for value in values]
