"""The values of one log segment, read and compared: single entries, and groups of them.

Theory: 8-byte big-endian position -> framed value (``framing.py``). A value of a compacted log
segment may be a group of entries (``engine/log/entry_groups``), under the position of its last one,
so that the first key from a position on leads to it.

A value below one page shares a tree page that later commits recycle, so it is copied. A larger one
is handed out in place, without a transaction: its pages stay. The view's exporter holds the
environment, which LMDB unmaps only when the last holder is gone.
"""

from __future__ import annotations

import struct
from pathlib import Path

import lmdb
import numpy as np

from profile_actors.engine.log.entry_groups import MAX_BYTES, Group, is_group
from profile_actors.errors import CorruptLog
from profile_actors.storage.files.atomic_files import failed_read
from profile_actors.storage.files.framing import FORMAT, HEADER, HEADER_BYTES, MAGIC, damage

KEY = struct.Struct(">Q")


OPEN_GROUPS = 16
"""Of a log segment: their notes and indexes, some 100 kB each of what is mapped anyway."""


class _Mapped(np.ndarray):
    """Bytes of the map, and the environment that keeps them mapped."""

    environment: lmdb.Environment


class SegmentValues:
    """The reading half of ``LogSegment``. data: the file, named in errors. grouped: how many more
    entries there are than values. Any number of threads."""

    def __init__(
        self, data: Path, first: int, env: lmdb.Environment, values: lmdb._Database
    ) -> None:
        self.data = data
        self.first = first
        self._env = env
        self._values = values
        self._page_bytes = int(env.stat()["psize"])
        self._grouped = 0
        self._verified = bytearray()
        self._groups: dict[int, Group] = {}

    def where(self, position: int) -> str:
        return f"{self.data} position {position}"

    def extent(self) -> tuple[int, int]:
        """One past the last position that there is (``first`` if there is none), and how many
        entries; both of one moment. Raises CorruptLog.
        """
        try:
            with self._env.begin(db=self._values) as transaction, transaction.cursor() as cursor:
                end = int(KEY.unpack(cursor.key())[0]) + 1 if cursor.last() else self.first
                return end, int(transaction.stat(self._values)["entries"]) + self._grouped
        except (lmdb.Error, struct.error) as error:
            raise CorruptLog(
                f"expected a last position, got '{error}' - at {self.data}; restore the file from a"
                " replica or backup"
            ) from error

    def end(self) -> int:
        """One past the last position that has a value; ``first`` if there is none."""
        return self.extent()[0]

    @property
    def is_grouped(self) -> bool:
        """Whether it has groups of entries: releases before there were any must not open it."""
        return self._grouped > 0

    def view(self, position: int) -> memoryview:
        """The entry without its header, read-only; verified at its first reading by this object.

        Cost: a look-up (~5 us) and one touch per page; the first time one hash pass. In a group of
        entries as ``Group.entry``. Raises CorruptLog naming file and position.
        """
        key, value, group = self._held(position)
        if group is None:
            self._verify(key, value)
            return value[HEADER_BYTES:]
        return group.entry(position)

    def group(self, position: int) -> Group | None:
        """The group that has an entry, verified; None if it stands alone. Raises CorruptLog."""
        return self._held(position)[2] if self._grouped else None

    def _held(self, position: int) -> tuple[int, memoryview, Group | None]:
        """The value that has an entry, with its key, and its group, verified, if it is one."""
        key, value = self._find(position)
        group = self._group(key, value) if self._grouped else None
        if key != position and (group is None or position < group.first):
            raise self._corrupt(position, "expected an entry, got nothing")
        return key, value, group

    def _verify(self, key: int, value: memoryview) -> None:
        index = key - self.first
        if index < len(self._verified) and self._verified[index]:
            return
        fault = damage(key, value)
        if fault is not None:
            raise self._corrupt(key, fault)
        # Two readers may both verify and both write 1; growing is done by replacing nothing:
        # bytearray.extend and item assignment are each one step under the interpreter lock.
        if index >= len(self._verified):
            self._verified.extend(bytes(index + 1 - len(self._verified)))
        self._verified[index] = 1

    def _group(self, key: int, value: memoryview) -> Group | None:
        found = self._groups.get(key)
        if found is None and is_group(value[HEADER_BYTES:]):
            self._verify(key, value)
            found = self._groups[key] = Group(value[HEADER_BYTES:], self.where(key))
            for old in list(self._groups)[:-OPEN_GROUPS]:
                self._groups.pop(old, None)
        return found

    def map_bytes_alone(self) -> int:
        """A map that takes all entries one by one, in pages that are half full: those of groups may
        have more bytes than any log segment that is written. Cost: the notes of all groups. Raises
        CorruptLog."""
        size = 2 * (int(self._env.info()["last_pgno"]) + 1) * self._page_bytes
        position, end = self.first, self.end() if self._grouped else self.first
        while position < end:
            key, value = self._find(position)
            if key > position:
                try:
                    group = self._group(key, value)
                except CorruptLog:  # what it had is to be fetched
                    group = None
                size += 2 * (2 * MAX_BYTES if group is None else group.entry_bytes)
                size += (key + 1 - position) * self._page_bytes
            position = key + 1
        return size

    def positions(self) -> list[int]:
        """All positions that have an entry, in order. Raises CorruptLog."""
        try:
            with self._env.begin(db=self._values) as transaction, transaction.cursor() as cursor:
                keys = [int(KEY.unpack(key)[0]) for key in cursor.iternext(values=False)]
        except (lmdb.Error, struct.error) as error:
            raise failed_read(error, str(self.data)) from error
        if not self._grouped:
            return keys
        groups = [(key, self._held(key)[2]) for key in keys]
        firsts = [(key if group is None else group.first, key) for key, group in groups]
        return [at for first, last in firsts for at in range(first, last + 1)]

    def checked(self, position: int) -> tuple[int, str | None]:
        """Re-read one entry, whatever was verified before: its bytes on the disk, and None if it is
        whole, else one sentence. Cost: one hash pass over it; at a group's first entry over that.
        """
        try:
            key, value, group = self._held(position)
            if group is not None and position > group.first:
                group.entry(position)
                return 0, None
        except CorruptLog as error:
            return 0, str(error)
        found = damage(key, value)
        return len(value), None if found is None else str(self._corrupt(position, found))

    def fault(self, position: int) -> str | None:
        """What ``checked`` says is wrong with one entry."""
        return self.checked(position)[1]

    def raw(self, position: int) -> bytes | None:
        """A copy of one entry as it is, with its header, whatever its checksum says; None if
        nothing can be said of it."""
        try:
            key, value = self._find(position)
            # Who has the entry before as well is a group, whatever is left of its first bytes.
            before = self._find(position - 1)[0] if self._grouped and position > self.first else 0
            if key == position and (position == self.first or before != position):
                return bytes(value)
            digest, content = Group(value[HEADER_BYTES:], self.where(key)).stored(position)
        except (CorruptLog, ValueError, IndexError):
            return None
        return HEADER.pack(MAGIC, FORMAT, 0, digest) + content

    def _find(self, position: int) -> tuple[int, memoryview]:
        """The stored value that has an entry, and the position that it is stored under."""
        key = KEY.pack(position)
        try:
            with self._env.begin(buffers=True, db=self._values) as transaction:
                if self._grouped:
                    with transaction.cursor() as cursor:
                        raw = cursor.value() if cursor.set_range(key) else None
                        key = key if raw is None else bytes(cursor.key())
                else:
                    raw = transaction.get(key)
                at = int(KEY.unpack(key)[0])
                if raw is not None and len(raw) < self._page_bytes:
                    return at, memoryview(bytes(raw))
        except lmdb.Error as error:
            raise failed_read(error, self.where(position)) from error
        if raw is None:
            raise self._corrupt(position, "expected an entry, got nothing")
        mapped = np.frombuffer(raw, dtype=np.uint8).view(_Mapped)
        mapped.environment = self._env
        return at, mapped.data

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
        if self._grouped:
            return bytes(self.view(position))
        found = self.range(position - 1, 0) if position > 0 else self.range(-1, 0)
        return found[0][1] if found and found[0][0] == position else None
