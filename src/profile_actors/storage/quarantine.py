"""Rejected rows, kept per dataset, readable and bounded.

Theory: a row is known by (dataset, source, row number in that source), so a file that is sent
again overwrites what it left before instead of doubling it. Rows keep the order of their first
arrival; when a dataset has more than ``Config.max_quarantine_rows`` the oldest leave. One LMDB
environment:

    datasets   name -> DatasetCounts (JSON) rows       dataset number (4 bytes) + arrival number
    (8), big-endian -> key (16) + row (msgpack) keys       dataset number (4) + xxh3-128 of
    (source, row) -> arrival number (8)

One ``add`` is one synced transaction. LMDB serialises several processes' transactions, and nothing
is kept in memory, so any process of the machine may write and read.

Limits: local disk only. A key is a 128-bit hash: two rows share one with a chance below 1e-26 at a
million rows. Deleted rows' pages are reused, but the file does not shrink.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from pathlib import Path
from typing import Generic, Protocol, TypeVar

import lmdb
import msgspec
import xxhash

from profile_actors.config import Config
from profile_actors.storage.environment import (
    DATA,
    create_environment,
    open_databases,
    open_environment,
)
from profile_actors.storage.files import failed_read, failed_write, make_directory

MAP_BYTES = 64 << 30
DATASET = struct.Struct(">I")
ROW = struct.Struct(">IQ")
ARRIVAL = struct.Struct(">Q")
KEY_BYTES = 16
DATABASES = ("datasets", "rows", "keys")


class Rejected(Protocol):
    """What a rejected row must have; the rest of its fields is kept as it is."""

    @property
    def source(self) -> str: ...

    @property
    def row(self) -> int: ...


class QuarantinedRow(msgspec.Struct, frozen=True):
    """A rejected row as it is kept. row: its offset in its source. raw: its text, maybe cut."""

    source: str
    row: int
    path: str
    reason: str
    raw: str


class DatasetCounts(msgspec.Struct):
    """total: distinct rows ever added (a resent row that is still kept counts once).

    kept: rows here now. first, next: arrival numbers of the oldest kept row and of the next new
    one.
    """

    number: int
    total: int = 0
    kept: int = 0
    first: int = 0
    next: int = 0


R = TypeVar("R", bound=Rejected)


class Quarantine(Generic[R]):
    """The quarantine in ``directory`` (``<data>/quarantine``).

    record_type: what ``read`` returns: QuarantinedRow, or a struct with the same fields.
    """

    def __init__(self, directory: Path | str, config: Config, record_type: type[R]) -> None:
        self._directory = Path(directory)
        self._limit = config.max_quarantine_rows
        self._decoder = msgspec.msgpack.Decoder(record_type)
        self._encoder = msgspec.msgpack.Encoder()
        make_directory(self._directory)
        data = self._directory / DATA
        is_new = not data.is_file() or data.stat().st_size == 0
        try:
            self._env = (
                create_environment(self._directory, MAP_BYTES, 3, sync=True)
                if is_new
                else open_environment(self._directory, MAP_BYTES, 3, sync=True, may_be_short=True)
            )
            opened = open_databases(self._env, DATABASES)
            self._datasets, self._rows, self._keys = (opened[name] for name in DATABASES)
        except (lmdb.Error, OSError) as error:
            raise failed_write(error, str(data)) from error

    def _counts(self, transaction: lmdb.Transaction, dataset: str) -> DatasetCounts | None:
        value = transaction.get(dataset.encode(), db=self._datasets)
        return None if value is None else msgspec.json.decode(value, type=DatasetCounts)

    def add(self, dataset: str, rows: Sequence[R]) -> None:
        """Keep rejected rows durably; of a row known already the new verdict replaces the old.

        Cost: ~10 us per row and one synced commit. Raises StorageFull.
        """
        if not rows:
            return
        try:
            with self._env.begin(write=True) as transaction:
                counts = self._counts(transaction, dataset)
                if counts is None:
                    counts = DatasetCounts(transaction.stat(self._datasets)["entries"])
                for row in rows:
                    self._add_row(transaction, counts, row)
                self._evict(transaction, counts)
                transaction.put(dataset.encode(), msgspec.json.encode(counts), db=self._datasets)
        except (lmdb.Error, OSError) as error:
            raise failed_write(error, f"{self._directory / DATA} dataset {dataset}") from error

    def _add_row(self, transaction: lmdb.Transaction, counts: DatasetCounts, row: R) -> None:
        digest = xxhash.xxh3_128_digest(f"{row.row}:{row.source}".encode())
        key = DATASET.pack(counts.number) + digest
        known = transaction.get(key, db=self._keys)
        if known is None:
            arrival = counts.next
            transaction.put(key, ARRIVAL.pack(arrival), db=self._keys)
            counts.next += 1
            counts.total += 1
            counts.kept += 1
        else:
            arrival = ARRIVAL.unpack(known)[0]
        value = digest + self._encoder.encode(row)
        transaction.put(ROW.pack(counts.number, arrival), value, db=self._rows)

    def _evict(self, transaction: lmdb.Transaction, counts: DatasetCounts) -> None:
        while counts.kept > self._limit:
            row_key = ROW.pack(counts.number, counts.first)
            value = transaction.get(row_key, db=self._rows)
            assert value is not None, (counts.number, counts.first)
            transaction.delete(row_key, db=self._rows)
            key = DATASET.pack(counts.number) + value[:KEY_BYTES]
            transaction.delete(key, db=self._keys)
            counts.first += 1
            counts.kept -= 1

    def read(self, dataset: str, limit: int) -> list[R]:
        """The oldest kept rows, at most limit, in order of first arrival."""
        out: list[R] = []
        try:
            with self._env.begin() as transaction:
                counts = self._counts(transaction, dataset)
                if counts is None:
                    return out
                with transaction.cursor(self._rows) as cursor:
                    found = cursor.set_range(ROW.pack(counts.number, 0))
                    while found and len(out) < limit:
                        if ROW.unpack(cursor.key())[0] != counts.number:
                            break
                        out.append(self._decoder.decode(cursor.value()[KEY_BYTES:]))
                        found = cursor.next()
        except (lmdb.Error, msgspec.MsgspecError, struct.error) as error:
            where = f"{self._directory / DATA} dataset {dataset}"
            raise failed_read(error, where) from error
        return out

    def count(self, dataset: str) -> tuple[int, int]:
        """(distinct rows ever added, rows kept)."""
        with self._env.begin() as transaction:
            counts = self._counts(transaction, dataset)
        return (0, 0) if counts is None else (counts.total, counts.kept)

    def datasets(self) -> list[str]:
        """Names of the datasets that have rejected rows, sorted."""
        with self._env.begin() as transaction, transaction.cursor(self._datasets) as cursor:
            return [key.decode() for key in cursor.iternext(keys=True, values=False)]

    def close(self) -> None:
        self._env.close()
