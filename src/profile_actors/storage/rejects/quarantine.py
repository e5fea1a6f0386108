"""Rejected rows, kept per dataset, readable and bounded.

Theory: a row is known by (dataset, source, row number in that source), so a file that is sent
again overwrites what it left before instead of doubling it. (Of rows that were appended the number
is only what their sender expected: two senders' different rows of one number are kept side by
side.) Rows keep the order of their first arrival; when a dataset has more than
``Config.max_quarantine_rows``, or their bytes exceed ``Config.max_quarantine_bytes``, the oldest
leave. A row that was repaired leaves at once, and is counted. One LMDB environment:

    datasets   name -> DatasetCounts (JSON)
    rows       dataset number (4 bytes) + arrival number (8), big-endian -> key (16) + row (msgpack)
    keys       dataset number (4) + xxh3-128 of (source, row) -> arrival numbers (8 each)

One ``add`` is one synced transaction. LMDB serialises several processes' transactions, and nothing
is kept in memory, so any process of the machine may write and read.

Limits: local disk only. A key is a 128-bit hash: two rows share one with a chance below 1e-26 at a
million rows. Deleted rows' pages are reused, but the file does not shrink.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Generic, Protocol, TypeVar

import lmdb
import msgspec
import xxhash

from profile_actors.config import Config
from profile_actors.errors import UNDECODED, Halt, StorageFull
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
    remove_tree,
    sync_directory,
)

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

    kept: rows here now. first, next: arrival numbers of the oldest kept row (or below it) and of
    the next new one. repaired: rows that were stored later. attempts: the number of the newest
    attempt at a repair. bytes: of the kept rows; None in files of before, until they are measured.
    """

    number: int
    total: int = 0
    kept: int = 0
    first: int = 0
    next: int = 0
    repaired: int = 0
    attempts: int = 0
    bytes: int | None = None


_COUNTS = msgspec.json.Decoder(DatasetCounts)

R = TypeVar("R", bound=Rejected)


class Quarantine(Generic[R]):
    """The quarantine in ``directory`` (``<data>/quarantine``).

    record_type: what ``read`` returns: QuarantinedRow, or a struct with the same fields.
    """

    def __init__(self, directory: Path | str, config: Config, record_type: type[R]) -> None:
        self._directory = Path(directory)
        self._limit = config.max_quarantine_rows
        self._max_bytes = config.max_quarantine_bytes
        self._decoder = msgspec.msgpack.Decoder(record_type)
        self._encoder = msgspec.msgpack.Encoder()
        self._unkept: dict[str, set[bytes]] = {}
        self._trouble = ""
        make_directory(self._directory)
        self._open()

    def _open(self) -> None:
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
        return None if value is None else _COUNTS.decode(value)

    def keep(
        self, dataset: str, rows: Sequence[R], lack: Halt | None, *, appended: bool = False
    ) -> None:
        """As ``add``; where there is no room, which ``lack`` says too, they are counted alone, in
        memory, each once: rows that were sent beside them must not wait for that."""
        try:
            if lack is not None:
                raise lack
            self.add(dataset, rows, appended=appended)
        except StorageFull as error:
            unkept = self._unkept.setdefault(dataset, set())
            unkept |= {_digest(row.source, row.row) for row in rows[: self._limit - len(unkept)]}
            self._trouble = str(error)

    def notes(self) -> list[str]:
        """What an operator should know."""
        if not self._unkept:
            return []
        counts = ", ".join(f"{len(n)} of {name}" for name, n in sorted(self._unkept.items()))
        return [f"rejected rows could not be kept to be offered again ({counts}): {self._trouble}"]

    def add(self, dataset: str, rows: Sequence[R], *, appended: bool = False) -> None:
        """Keep rejected rows durably; of a row known already the new verdict replaces the old.

        appended: their numbers are not their sender's own; then only the same row is replaced.
        Cost: ~10 us per row and one synced commit. Raises StorageFull.
        """
        if rows:
            with self._change(dataset) as (transaction, counts):
                for row in rows:
                    self._add_row(transaction, counts, row, appended)
                self._evict(transaction, counts)
            unkept = self._unkept.get(dataset, set())
            unkept -= {_digest(row.source, row.row) for row in rows}
            if not unkept:
                self._unkept.pop(dataset, None)

    def close_rows(self, dataset: str, source: str, rows: Sequence[int]) -> None:
        """Rows of a source are stored now: let them go, and count them. Idempotent. As ``add``."""
        with self._change(dataset) as (transaction, counts):
            for row in rows:
                key = self._key(counts, source, row)
                for arrival in self._arrivals(transaction, key):
                    value = transaction.pop(ROW.pack(counts.number, arrival), db=self._rows)
                    counts.bytes = (counts.bytes or 0) - len(value or b"")
                    counts.kept -= 1
                    counts.repaired += 1
                transaction.delete(key, db=self._keys)

    def kept(self, dataset: str, source: str, rows: Sequence[int]) -> list[bool]:
        """Which rows of a source are here."""
        with self._env.begin() as transaction:
            counts = self._counts(transaction, dataset)
            if counts is None:
                return [False] * len(rows)
            keys = (self._key(counts, source, row) for row in rows)
            return [transaction.get(key, db=self._keys) is not None for key in keys]

    def next_attempt(self, dataset: str, least: int) -> int:
        """A number above all that were given for this dataset, and above least. As ``add``."""
        with self._change(dataset) as (_, counts):
            counts.attempts = max(counts.attempts, least) + 1
        return counts.attempts

    @contextmanager
    def _change(self, dataset: str) -> Iterator[tuple[lmdb.Transaction, DatasetCounts]]:
        """One synced transaction over a dataset's rows and counts. Raises StorageFull."""
        try:
            with self._env.begin(write=True) as transaction:
                counts = self._counts(transaction, dataset)
                if counts is None:
                    counts = DatasetCounts(transaction.stat(self._datasets)["entries"], bytes=0)
                if counts.bytes is None:
                    counts.bytes = self._measured(transaction, counts.number)
                yield transaction, counts
                transaction.put(dataset.encode(), msgspec.json.encode(counts), db=self._datasets)
        except (lmdb.Error, OSError) as error:
            raise failed_write(error, f"{self._directory / DATA} dataset {dataset}") from error

    def _measured(self, transaction: lmdb.Transaction, number: int) -> int:
        """The bytes of a dataset's rows. Cost: each is visited."""
        size = 0
        with transaction.cursor(self._rows) as cursor:
            found = cursor.set_range(ROW.pack(number, 0))
            while found and ROW.unpack(cursor.key())[0] == number:
                size += len(cursor.value())
                found = cursor.next()
        return size

    @staticmethod
    def _key(counts: DatasetCounts, source: str, row: int) -> bytes:
        return DATASET.pack(counts.number) + _digest(source, row)

    def _arrivals(self, transaction: lmdb.Transaction, key: bytes) -> list[int]:
        """Under which arrival numbers a row is here; several only if it was appended."""
        known = transaction.get(key, db=self._keys) or b""
        return [number for (number,) in ARRIVAL.iter_unpack(known)]

    def _add_row(
        self, transaction: lmdb.Transaction, counts: DatasetCounts, row: R, appended: bool
    ) -> None:
        key = self._key(counts, row.source, row.row)
        digest, content = key[DATASET.size :], self._encoder.encode(row)
        arrivals = self._arrivals(transaction, key)
        if appended:
            known = [
                n
                for n in arrivals
                if transaction.get(ROW.pack(counts.number, n), db=self._rows) == digest + content
            ]
        else:
            known = arrivals
        old = 0
        if known:
            arrival = known[0]
            old = len(transaction.get(ROW.pack(counts.number, arrival), db=self._rows) or b"")
        else:
            arrival = counts.next
            numbers = b"".join(ARRIVAL.pack(n) for n in (*arrivals, arrival))
            transaction.put(key, numbers, db=self._keys)
            counts.next += 1
            counts.total += 1
            counts.kept += 1
        transaction.put(ROW.pack(counts.number, arrival), digest + content, db=self._rows)
        counts.bytes = (counts.bytes or 0) + len(digest + content) - old

    def _evict(self, transaction: lmdb.Transaction, counts: DatasetCounts) -> None:
        with transaction.cursor(self._rows) as cursor:
            while counts.kept > self._limit or (counts.bytes or 0) > self._max_bytes:
                found = cursor.set_range(ROW.pack(counts.number, counts.first))
                number, arrival = ROW.unpack(cursor.key()) if found else (-1, -1)
                assert number == counts.number, (counts.number, counts.first)
                key = DATASET.pack(number) + cursor.value()[:KEY_BYTES]
                others = [n for n in self._arrivals(transaction, key) if n != arrival]
                counts.bytes = (counts.bytes or 0) - len(cursor.value())
                cursor.delete()
                if others:
                    numbers = b"".join(ARRIVAL.pack(n) for n in others)
                    transaction.put(key, numbers, db=self._keys)
                else:
                    transaction.delete(key, db=self._keys)
                counts.first = arrival + 1
                counts.kept -= 1

    def read(self, dataset: str, limit: int) -> list[R]:
        """The oldest kept rows, at most limit, in order of first arrival."""
        return self.page(dataset, 0, limit)[0]

    def page(self, dataset: str, start: int, limit: int) -> tuple[list[R], int]:
        """The kept rows from an arrival number on, at most limit, and the number to go on from."""
        out: list[R] = []
        following = start
        try:
            with self._env.begin() as transaction:
                counts = self._counts(transaction, dataset)
                if counts is None:
                    return out, following
                with transaction.cursor(self._rows) as cursor:
                    found = cursor.set_range(ROW.pack(counts.number, start))
                    while found and len(out) < limit:
                        number, arrival = ROW.unpack(cursor.key())
                        if number != counts.number:
                            break
                        following = arrival + 1
                        out.append(self._decoder.decode(cursor.value()[KEY_BYTES:]))
                        found = cursor.next()
        except (lmdb.Error, struct.error, *UNDECODED) as error:
            where = f"{self._directory / DATA} dataset {dataset}"
            raise failed_read(error, where) from error
        return out, following

    def without(self, is_gone: Callable[[str, R], bool]) -> int:
        """Let rows go for which it holds, of a dataset's name and a row; how many they were.

        What stays is written to new files, which take the place of these: deleted rows would leave
        their bytes behind, and those that left before have. Nobody else may have the files open.
        Cost: each row read and written once. Raises StorageFull, CorruptLog.
        """
        aside = self._directory / "without"
        remove_tree(aside)
        gone = 0
        try:
            fresh = create_environment(aside, MAP_BYTES, len(DATABASES), sync=True)
            rooms = open_databases(fresh, DATABASES)
            with self._env.begin() as old, fresh.begin(write=True) as new:
                for name, value in list(old.cursor(self._datasets)):
                    counts = _COUNTS.decode(value)
                    gone += self._copy(old, new, rooms, (name.decode(), counts), is_gone)
                    new.put(name, msgspec.json.encode(counts), db=rooms["datasets"])
            fresh.sync(True)
            fresh.close()
            self._env.close()
            os.replace(aside / DATA, self._directory / DATA)
            sync_directory(self._directory)
            remove_tree(aside)
            self._open()
        except (lmdb.Error, OSError) as error:
            raise failed_write(error, str(self._directory / DATA)) from error
        return gone

    def _copy(
        self,
        old: lmdb.Transaction,
        new: lmdb.Transaction,
        rooms: dict[str, lmdb._Database],
        dataset: tuple[str, DatasetCounts],
        is_gone: Callable[[str, R], bool],
    ) -> int:
        """One dataset's rows that stay, into new files; how many do not."""
        name, counts = dataset
        gone = 0
        arrivals: dict[bytes, list[int]] = {}
        with old.cursor(self._rows) as cursor:
            found = cursor.set_range(ROW.pack(counts.number, 0))
            while found:
                place, value = cursor.item()
                number, arrival = ROW.unpack(place)
                if number != counts.number:
                    break
                if is_gone(name, self._decoder.decode(value[KEY_BYTES:])):
                    gone += 1
                else:
                    new.put(place, value, db=rooms["rows"])
                    arrivals.setdefault(bytes(value[:KEY_BYTES]), []).append(arrival)
                found = cursor.next()
        for key, numbers in arrivals.items():
            known = b"".join(map(ARRIVAL.pack, numbers))
            new.put(DATASET.pack(counts.number) + key, known, db=rooms["keys"])
        counts.kept -= gone
        counts.bytes = None  # the next change measures it
        return gone

    def count(self, dataset: str) -> tuple[int, int]:
        """(distinct rows ever added, rows kept)."""
        with self._env.begin() as transaction:
            counts = self._counts(transaction, dataset)
        total, kept = (0, 0) if counts is None else (counts.total, counts.kept)
        return total + len(self._unkept.get(dataset, ())), kept

    def repaired(self, dataset: str) -> int:
        """Rows that were here and are stored now."""
        with self._env.begin() as transaction:
            counts = self._counts(transaction, dataset)
        return 0 if counts is None else counts.repaired

    def datasets(self) -> list[str]:
        """Names of the datasets that have rejected rows, sorted."""
        with self._env.begin() as transaction, transaction.cursor(self._datasets) as cursor:
            known = {key.decode() for key in cursor.iternext(keys=True, values=False)}
        return sorted(known | self._unkept.keys())

    def copy_to(self, handle: int) -> None:
        """Write it to a file as of one moment, without what was deleted. Raises lmdb.Error."""
        self._env.copyfd(handle, compact=True)

    def close(self) -> None:
        self._env.close()


def _digest(source: str, row: int) -> bytes:
    return xxhash.xxh3_128_digest(f"{row}:{source}".encode())
