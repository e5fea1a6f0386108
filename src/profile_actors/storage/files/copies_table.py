"""Where the copies of logs are, in the catalogue's environment.

Theory: one framed record per log that is kept twice, or is not where a store of one disk has it
(``engine/shipping/replication``), and one per disk. A store that never asked for either has none.
Each change is one durable transaction.
"""

from __future__ import annotations

from collections.abc import Callable

import lmdb
import msgspec

from profile_actors.engine.shipping.replication import Copies
from profile_actors.errors import CorruptLog
from profile_actors.storage.files.atomic_files import failed_write
from profile_actors.storage.files.framing import HEADER_BYTES, damage, frame

COPIES = b"copies"


DISK = b"disk"


WANTED = COPIES + b"wanted"


class Wanted(msgspec.Struct, frozen=True):
    """How many standbys each log is to have, of those that are begun later too."""

    replicas: int
    is_async: bool = False


_COPIES = msgspec.json.Decoder(Copies)


_WANTED = msgspec.json.Decoder(Wanted)


class CopiesTable:
    """The records kept in database ``db`` of ``env``; one writer, any thread reads.

    where: what errors name.
    """

    def __init__(self, env: lmdb.Environment, db: lmdb._Database, where: str) -> None:
        self._env = env
        self._db = db
        self._where = where

    def of(self, index: int) -> Copies | None:
        """The copies of a log (a partition's number, or ``layout.LEDGER``). Raises CorruptLog."""
        value = self._get(COPIES + str(index).encode(), index)
        return None if value is None else _COPIES.decode(value)

    def change(self, index: int, step: Callable[[Copies | None], Copies]) -> Copies:
        """Make one step, durably; what is kept then. Raises what the step does, StorageFull."""
        before = self.of(index)
        after = step(before)
        if after != before:
            self._put(COPIES + str(index).encode(), index, msgspec.json.encode(after))
        return after

    def wanted(self) -> Wanted | None:
        """What was asked for last; None where nothing was, or by an earlier release."""
        value = self._get(WANTED, 0)
        return None if value is None else _WANTED.decode(value)

    def want(self, wanted: Wanted) -> None:
        """Remember what is asked for. Durable. Raises StorageFull."""
        if self.wanted() != wanted:
            self._put(WANTED, 0, msgspec.json.encode(wanted))

    def disks(self) -> dict[str, str]:
        """The directory of each disk that the store was told of, by the disk's id."""
        found: dict[str, str] = {}
        with self._env.begin(db=self._db) as transaction, transaction.cursor() as cursor:
            ready = cursor.set_range(DISK)
            while ready and cursor.key().startswith(DISK):
                found[cursor.key()[len(DISK) :].decode()] = self._content(
                    0, cursor.value()
                ).decode()
                ready = cursor.next()
        return found

    def put_disk(self, disk: str, directory: str) -> None:
        """Know a disk, and where it is mounted. Durable. Raises StorageFull."""
        if self.disks().get(disk) != directory:
            self._put(DISK + disk.encode(), 0, directory.encode())

    def drop_disk(self, disk: str) -> None:
        """Know a disk no more. Durable. Raises StorageFull."""
        try:
            with self._env.begin(write=True, db=self._db) as transaction:
                transaction.delete(DISK + disk.encode())
        except lmdb.Error as error:
            raise failed_write(error, self._where) from error

    def _get(self, key: bytes, number: int) -> bytes | None:
        with self._env.begin(db=self._db) as transaction:
            value = transaction.get(key)
        return None if value is None else self._content(number, value)

    def _content(self, number: int, value: bytes) -> bytes:
        fault = damage(number, value)
        if fault is not None:
            raise CorruptLog(f"{fault} - at {self._where}; restore the file from a backup")
        return bytes(value[HEADER_BYTES:])

    def _put(self, key: bytes, number: int, content: bytes) -> None:
        try:
            with self._env.begin(write=True, db=self._db) as transaction:
                transaction.put(key, frame(number, (content,)))
        except lmdb.Error as error:
            raise failed_write(error, self._where) from error
