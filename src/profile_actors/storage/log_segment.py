"""One LMDB environment that holds framed values by position: a piece of the log or of the feed.

Theory: two named databases. ``values``: 8-byte big-endian position -> framed value
(``framing.py``). ``meta``: the epoch of the writer that owns it, the id of its log,
and of how many entries the catalogue was told (``log_ages.py``). How values are read is
``files/segment_values``.
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
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import lmdb

from profile_actors.errors import CorruptLog, FencedOut
from profile_actors.storage.environment import (
    DATA,
    create_environment,
    open_databases,
    open_environment,
)
from profile_actors.storage.files.atomic_files import failed_read
from profile_actors.storage.files.framing import frame
from profile_actors.storage.files.segment_values import KEY, SegmentValues

EPOCH = b"epoch"


LOG = b"log"


TOLD = b"told"


GROUPED = b"grouped"
"""How many more entries there are than values, where some values are groups of entries."""


DATABASES = ("values", "meta")


class Stamp(NamedTuple):
    """epoch: of the writer that came last. told: of how many entries it had told the catalogue."""

    epoch: int
    told: int


class LogSegment(SegmentValues):
    """Values of positions >= first, in one directory. One writer; any number of reading threads."""

    def __init__(self, path: Path, first: int, env: lmdb.Environment, *, writable: bool) -> None:
        self.path = path
        self._told = 0
        try:
            opened = open_databases(env, DATABASES, writable=writable)
            super().__init__(path / DATA, first, env, opened["values"])
            self._meta = opened["meta"]
            with env.begin() as transaction:
                self._grouped = self._number(transaction, GROUPED)
        except (lmdb.Error, struct.error) as error:
            env.close()
            raise failed_read(error, str(path / DATA)) from error

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
        group = self.group(position) if position < self.end() else None
        left = range(position if group is None else group.first, position)
        with (
            self._env.begin(write=True, db=self._values) as transaction,
            transaction.cursor() as cursor,
        ):
            kept = [] if group is None else [(at, bytes(group.entry(at))) for at in left]
            found = cursor.set_range(KEY.pack(position))
            while found:
                found = cursor.delete()
            for at, content in kept:  # of a group that is cut
                transaction.put(KEY.pack(at), frame(at, (content,)), append=True)
            if self._grouped:
                values = int(transaction.stat(self._values)["entries"])
                self._grouped = position - self.first - values
                transaction.put(GROUPED, KEY.pack(self._grouped), db=self._meta)
        self._groups = {}
        del self._verified[max(0, position - self.first) :]
        if self.data.stat().st_size < self.used_bytes():
            os.truncate(self.data, self.used_bytes())

    def put(self, position: int, value: bytes) -> None:
        """Put or overwrite one framed value. Raises lmdb.Error."""
        with self._env.begin(write=True, db=self._values) as transaction:
            transaction.put(KEY.pack(position), value)

    def fill(self, values: Iterable[tuple[int, bytes]], grouped: int = 0) -> None:
        """Put framed values after all others, in one transaction. A group of entries has the
        position of its last one; grouped: how many more entries there are than values.

        Raises lmdb.Error.
        """
        with self._env.begin(write=True, db=self._values) as transaction:
            for position, value in values:
                transaction.put(KEY.pack(position), value, append=True)
            if grouped:
                fresh = self._grouped + grouped
                transaction.put(GROUPED, KEY.pack(fresh), db=self._meta)
        self._grouped += grouped

    def discard(self) -> None:
        """Close a log segment of which no view was ever handed out (an opening that failed)."""
        self._env.close()

    def sync(self) -> None:
        """Make everything committed durable. Raises lmdb.Error."""
        self._env.sync(True)
