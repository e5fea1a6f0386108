"""One LMDB environment that holds framed values by position: a piece of the log or of the feed.

Theory: two named databases. ``values``: 8-byte big-endian position -> framed value
(``framing.py``). ``meta``: the epoch of the writer that owns it, the id of its log,
and of how many entries the catalogue was told (``log_ages.py``).
Values are added in ascending order, so MDB_APPEND fills pages densely, and a large value lies in
pages of its own which nothing moves or frees as long as it is not overwritten.

Views. A value below one page shares a tree page that later commits recycle, so it is copied. A
larger one is handed out in place, without a transaction: its pages stay. The view's exporter holds
the environment, which LMDB unmaps only when the last holder is gone; so whatever a caller derives
from a view stays readable after ``close``, and closing never pulls memory from under a reader.

Rules for editors: never call ``Environment.close`` once a view was handed out; drop the reference.
Never delete a value where views are handed out (``trim``: of a log that nobody reads).

Limits: a value overwritten while a view of it is held changes under the view (the feed copies).
"""

from __future__ import annotations

import os
import struct
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import lmdb
import numpy as np

from profile_actors.errors import CorruptLog, FencedOut
from profile_actors.storage.environment import (
    DATA,
    create_environment,
    open_databases,
    open_environment,
)
from profile_actors.storage.files.atomic_files import failed_read
from profile_actors.storage.files.framing import HEADER_BYTES, damage
from profile_actors.storage.files.manifest import LogSegmentEntry

KEY = struct.Struct(">Q")


EPOCH = b"epoch"


LOG = b"log"


TOLD = b"told"


DATABASES = ("values", "meta")


class Stamp(NamedTuple):
    """epoch: of the writer that came last. told: of how many entries it had told the catalogue."""

    epoch: int
    told: int


STRAY_BYTES = 1 << 16
"""Above what a new, empty environment takes."""


class _Mapped(np.ndarray):
    """Bytes of the map, and the environment that keeps them mapped."""

    environment: lmdb.Environment


class LogSegment:
    """Values of positions >= first, in one directory. One writer; any number of reading threads."""

    def __init__(self, path: Path, first: int, env: lmdb.Environment, *, writable: bool) -> None:
        self.path = path
        self.first = first
        self._env = env
        self._page_bytes = int(env.stat()["psize"])
        try:
            opened = open_databases(env, DATABASES, writable=writable)
            self._values, self._meta = opened["values"], opened["meta"]
        except lmdb.Error as error:
            env.close()
            raise failed_read(error, str(self.data)) from error
        self._verified = bytearray()
        self._told = 0

    @classmethod
    def create(cls, path: Path, first: int, map_bytes: int, *, sync: bool) -> LogSegment:
        """A new, empty log segment, durable. Raises StorageFull, OSError."""
        env = create_environment(path, map_bytes, len(DATABASES), sync=sync)
        log_segment = cls(path, first, env, writable=True)
        env.sync(True)
        return log_segment

    @classmethod
    def open(
        cls, path: Path, first: int, map_bytes: int, *, sync: bool, sealed: bool = False
    ) -> LogSegment:
        """An existing log segment; a sealed one read-only. Raises CorruptLog."""
        env = open_environment(path, map_bytes, len(DATABASES), sync=sync, readonly=sealed)
        return cls(path, first, env, writable=not sealed)

    @property
    def data(self) -> Path:
        return self.path / DATA

    def where(self, position: int) -> str:
        return f"{self.data} position {position}"

    def extent(self) -> tuple[int, int]:
        """One past the last position that has a value (``first`` if there is none), and how many
        have one; both of one moment. Raises CorruptLog.
        """
        try:
            with self._env.begin(db=self._values) as transaction, transaction.cursor() as cursor:
                end = int(KEY.unpack(cursor.key())[0]) + 1 if cursor.last() else self.first
                return end, int(transaction.stat(self._values)["entries"])
        except (lmdb.Error, struct.error) as error:
            raise CorruptLog(
                f"expected a last position, got '{error}' - at {self.data}; restore the file from a"
                " replica or backup"
            ) from error

    def end(self) -> int:
        """One past the last position that has a value; ``first`` if there is none."""
        return self.extent()[0]

    def count(self) -> int:
        """How many values the log segment has."""
        return self.extent()[1]

    def used_bytes(self) -> int:
        """Bytes of the file in use (its last page's end)."""
        return int((self._env.info()["last_pgno"] + 1) * self._page_bytes)

    def claim(self, epoch: int, log: str, told: int = 0) -> None:
        """Record the writer's epoch, the log's id and what the catalogue was told, durably.

        Raises FencedOut if a higher epoch is recorded.
        """
        with self._env.begin(write=True) as transaction:
            self._check_epoch(transaction, epoch)
            transaction.put(EPOCH, KEY.pack(epoch), db=self._meta)
            if log:
                transaction.put(LOG, log.encode(), db=self._meta)
            self._put_told(transaction, told)
        self._told = max(told, self._told)

    def _put_told(self, transaction: lmdb.Transaction, told: int) -> None:
        if told > self._told:
            transaction.put(TOLD, KEY.pack(told), db=self._meta)

    def stamp(self) -> Stamp:
        """What ``claim`` and ``append`` have recorded beside the values. Raises CorruptLog."""
        try:
            with self._env.begin() as transaction:
                return Stamp(self._number(transaction, EPOCH), self._number(transaction, TOLD))
        except (lmdb.Error, struct.error) as error:
            raise failed_read(error, str(self.data)) from error

    def _number(self, transaction: lmdb.Transaction, key: bytes) -> int:
        stored = transaction.get(key, db=self._meta)
        return int(KEY.unpack(stored)[0]) if stored is not None else 0

    def log(self) -> str:
        """The id of the log that the log segment belongs to; empty if it was made without one."""
        try:
            with self._env.begin() as transaction:
                return bytes(transaction.get(LOG, b"", db=self._meta)).decode()
        except (lmdb.Error, UnicodeDecodeError) as error:
            raise failed_read(error, str(self.data)) from error

    def _check_epoch(self, transaction: lmdb.Transaction, epoch: int) -> None:
        recorded = self._number(transaction, EPOCH)
        if recorded > epoch:
            raise FencedOut(
                f"expected to be the newest writer, epoch {epoch}, got epoch {recorded} recorded"
                f" - at {self.data}; another incarnation owns this log, end this one",
                epoch=recorded,
            )

    @contextmanager
    def held(self, epoch: int) -> Iterator[None]:
        """While it lasts no process writes here or records an epoch. Raises FencedOut as append."""
        with self._env.begin(write=True) as transaction:
            self._check_epoch(transaction, epoch)
            yield

    def append(
        self, position: int, value: bytes, epoch: int, before_commit: Callable[[], None], told: int
    ) -> None:
        """Put one framed value after all others: one put, one transaction, one synced commit.

        told: of how many entries the catalogue was told; noted beside the value when it changed.

        Raises FencedOut, CorruptLog if the position is not after the last, lmdb.Error.
        """
        with self._env.begin(write=True, db=self._values) as transaction:
            self._check_epoch(transaction, epoch)
            if transaction.put(KEY.pack(position), value, append=True) is not True:
                raise CorruptLog(
                    "expected a position after all stored ones, got one that is not - at"
                    f" {self.where(position)}; the log on disk and in memory differ, restart"
                )
            self._put_told(transaction, told)
            before_commit()
        self._told = max(told, self._told)

    def trim(self, position: int) -> None:
        """Delete the values from a position on. No view may be held. Raises lmdb.Error, OSError.

        LMDB counts pages that it took and gave back without writing them; the file is made as long
        as that says, since a shorter one is taken for one that lost its end.
        """
        with (
            self._env.begin(write=True, db=self._values) as transaction,
            transaction.cursor() as cursor,
        ):
            found = cursor.set_range(KEY.pack(position))
            while found:
                found = cursor.delete()
        del self._verified[max(0, position - self.first) :]
        if self.data.stat().st_size < self.used_bytes():
            os.truncate(self.data, self.used_bytes())

    def put(self, position: int, value: bytes) -> None:
        """Put or overwrite one framed value. Raises lmdb.Error."""
        with self._env.begin(write=True, db=self._values) as transaction:
            transaction.put(KEY.pack(position), value)

    def fill(self, values: Iterable[tuple[int, bytes]]) -> None:
        """Put framed values after all others, in one transaction. Raises lmdb.Error."""
        with self._env.begin(write=True, db=self._values) as transaction:
            for position, value in values:
                transaction.put(KEY.pack(position), value, append=True)

    def discard(self) -> None:
        """Close a log segment of which no view was ever handed out (an opening that failed)."""
        self._env.close()

    def sync(self) -> None:
        """Make everything committed durable. Raises lmdb.Error."""
        self._env.sync(True)

    def view(self, position: int) -> memoryview:
        """The value without its header, read-only; verified at its first reading by this object.

        Cost: a look-up (~5 us) and one touch per page; the first time one hash pass.
        Raises CorruptLog naming file and position.
        """
        value = self._find(position)
        index = position - self.first
        if not (index < len(self._verified) and self._verified[index]):
            fault = damage(position, value)
            if fault is not None:
                raise self._corrupt(position, fault)
            # Two readers may both verify and both write 1; growing is done by replacing nothing:
            # bytearray.extend and item assignment are each one step under the interpreter lock.
            if index >= len(self._verified):
                self._verified.extend(bytes(index + 1 - len(self._verified)))
            self._verified[index] = 1
        return value[HEADER_BYTES:]

    def positions(self) -> list[int]:
        """All positions that have a value, in order. Raises CorruptLog."""
        try:
            with self._env.begin(db=self._values) as transaction, transaction.cursor() as cursor:
                keys = cursor.iternext(keys=True, values=False)
                return [int(KEY.unpack(key)[0]) for key in keys]
        except (lmdb.Error, struct.error) as error:
            raise failed_read(error, str(self.data)) from error

    def checked(self, position: int) -> tuple[int, str | None]:
        """Re-read one value, whatever was verified before: its bytes, and None if it is whole, else
        one sentence. Cost: one hash pass over it."""
        try:
            value = self._find(position)
        except CorruptLog as error:
            return 0, str(error)
        found = damage(position, value)
        return len(value), None if found is None else str(self._corrupt(position, found))

    def fault(self, position: int) -> str | None:
        """What ``checked`` says is wrong with one value."""
        return self.checked(position)[1]

    def raw(self, position: int) -> bytes | None:
        """A copy of one value as it is, with its header, whatever its checksum says; None if it
        cannot be found."""
        try:
            return bytes(self._find(position))
        except CorruptLog:
            return None

    def _find(self, position: int) -> memoryview:
        try:
            with self._env.begin(buffers=True, db=self._values) as transaction:
                raw = transaction.get(KEY.pack(position))
                if raw is not None and len(raw) < self._page_bytes:
                    return memoryview(bytes(raw))
        except lmdb.Error as error:
            raise failed_read(error, self.where(position)) from error
        if raw is None:
            raise self._corrupt(position, "expected an entry, got nothing")
        mapped = np.frombuffer(raw, dtype=np.uint8).view(_Mapped)
        mapped.environment = self._env
        return mapped.data

    def _corrupt(self, position: int, fault: str) -> CorruptLog:
        return CorruptLog(
            f"{fault} - at {self.where(position)}; the disk changed it: restore the file from a"
            " replica or backup"
        )

    def range(self, after: int, limit_bytes: int) -> list[tuple[int, bytes]]:
        """Copies of the values with position > after, in order, until limit_bytes is passed."""
        out: list[tuple[int, bytes]] = []
        size = 0
        try:
            with (
                self._env.begin(buffers=True, db=self._values) as transaction,
                transaction.cursor() as cursor,
            ):
                found = cursor.set_range(KEY.pack(after + 1))
                while found and size <= limit_bytes:
                    position = int(KEY.unpack(cursor.key())[0])
                    value = bytes(cursor.value())
                    fault = damage(position, value)
                    if fault is not None:
                        raise self._corrupt(position, fault)
                    out.append((position, value[HEADER_BYTES:]))
                    size += len(value) - HEADER_BYTES
                    found = cursor.next()
        except (lmdb.Error, struct.error) as error:
            raise CorruptLog(
                f"expected readable values, got '{error}' - at {self.where(after + 1)} or later"
            ) from error
        return out

    def get(self, position: int) -> bytes | None:
        """A copy of one verified value, None if there is none. Raises CorruptLog."""
        found = self.range(position - 1, 0) if position > 0 else self.range(-1, 0)
        return found[0][1] if found and found[0][0] == position else None


def check_whole(listed: Sequence[LogSegmentEntry], log_segments: Sequence[LogSegment]) -> None:
    """Segments follow each other without a gap, and none has lost an entry. Raises CorruptLog."""
    following = [*listed[1:], None]
    for entry, log_segment, after in zip(listed, log_segments, following, strict=True):
        end, count = log_segment.extent()
        wanted = after.first if after else end
        if end != wanted or count != end - entry.first:
            raise CorruptLog(
                f"expected positions {entry.first} to {wanted - 1}, got {count} entries up to"
                f" {end - 1} - at {log_segment.data}; restore the file from a replica or backup"
            )


def entries_of_stray(path: Path, map_bytes: int) -> int:
    """How many entries a log segment has that no manifest lists, 0 for what a crash left of an
    empty one."""
    data = path / DATA
    if not data.is_file() or data.stat().st_size == 0:
        return 0
    try:
        stray = LogSegment.open(path, 0, map_bytes, sync=True)
        entries = stray.count()
        stray.discard()
    except CorruptLog:
        # Half-created files are a few pages; anything larger may be a damaged segment.
        return int(data.stat().st_size > STRAY_BYTES)
    return entries
