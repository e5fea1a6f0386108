"""A sequencer's log, copied to a place while it is written.

Theory: this is how a log comes into a backup. What there is to copy is said by
``engine/shipping/pieces``: sealed log segments as files, entries with their checksums. Before them
goes the newest checkpoint, so that who opens the copy need not fold it from its start. All of it is
read from the open log, in its own process, since LMDB may open a file once in a process, beside the
thread that appends. A standby, and a partition that changes its disk by one, take nothing from
here: they are sent entries (``engine/shipping/shipper``).

An entry is read and compared with its checksum when it is copied, in a segment too: a copy of what
the disk has damaged would hide it.

Limits: a checkpoint that is just being replaced is tried again, and then left out: it saves time.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from pathlib import Path

from profile_actors.engine.shipping.pieces import Listed, Piece, Stored, Wanted, needs
from profile_actors.errors import CorruptLog, StoreUnavailable
from profile_actors.storage.checkpoint_files import CHECKPOINT_NAME
from profile_actors.storage.environment import DATA
from profile_actors.storage.files.framing import damage, frame
from profile_actors.storage.files.layout import PartitionLayout
from profile_actors.storage.lmdb_log import LmdbLog
from profile_actors.storage.log_id import load_log_id
from profile_actors.storage.shipping.backups import KeptCheckpoint, KeptLog
from profile_actors.storage.shipping.depot import (
    Depot,
    damaged,
    parts_of,
    stored_bytes,
    stored_file,
)

ENTRY = struct.Struct("<QQ")
"""Before each entry of a piece: its position, and the bytes of its framed value."""


PIECE_BYTES = 16 << 20
"""Entries that go into one file, if it is more than one entry: held in memory once."""


LOOKS = 3
"""For a checkpoint that is replaced while it is copied."""


Pause = Callable[[], object]


class LogShipping:
    """Copies one log into a depot. directory: the sequencer's. pause: called between steps of a few
    MB or ms, for whoever writes meanwhile."""

    def __init__(self, log: LmdbLog, directory: Path, depot: Depot, pause: Pause) -> None:
        self._log = log
        self._paths = PartitionLayout(directory)
        self._depot = depot
        self._pause = pause
        self._there = depot.whole()
        self.new_bytes = 0

    def ship(
        self,
        name: str,
        index: int,
        end: int,
        base: KeptLog | None,
        is_late: Callable[[], bool] = lambda: False,
    ) -> KeptLog:
        """Copy what is below ``end`` and not in ``base``.

        is_late: asked after each piece whether to leave it at that; what is answered ends earlier
        then, and is the next call's base. Raises CorruptLog, OSError, StoreUnavailable if the log
        has become shorter than that.
        """
        if self._log.head() < end:
            raise StoreUnavailable(
                f"expected {end} entries, as the log had when this backup began, got"
                f" {self._log.head()} - at {self._paths.directory}; another copy of the log came in"
                " force meanwhile: back up again"
            )
        held = () if base is None or base.log != self._log.id else base.pieces
        *sealed, newest = self._log.listed  # asked once: it may be sealed meanwhile
        listed = [
            Listed(one.name, one.first, one.first + (one.entries or 0), True) for one in sealed
        ]
        listed.append(Listed(newest.name, newest.first, self._log.head(), False))
        found = needs(listed, end, (piece for piece in held if piece.stored.name in self._there))
        pieces, reached = [*found.kept], end
        for piece in self._copied(found.wanted):
            pieces.append(piece)
            if is_late() and piece.end < end:
                reached = piece.end
                break
        pieces = sorted((one for one in pieces if one.end <= reached), key=lambda one: one.first)
        known = load_log_id(self._paths)
        return KeptLog(
            name, index, self._log.id, 0 if known is None else known.since, self._log.epoch,
            reached, tuple(pieces),
        )  # fmt: skip

    def _copied(self, wanted: Iterable[Wanted]) -> Iterator[Piece]:
        for one in wanted:
            piece = self._file(one) if one.form == "file" else None
            if piece is not None:
                yield piece
            else:
                yield from self._entries(one)

    def _put(self, stored: Stored, parts: Iterable[bytes | memoryview]) -> None:
        if stored.name not in self._there:
            self._depot.put(stored, parts)
            self._there.add(stored.name)
            self.new_bytes += stored.bytes

    def _file(self, wanted: Wanted) -> Piece | None:
        """None if another form has taken the log segment's place meanwhile: its entries go then,
        and the other form's file with the next backup."""
        for position in range(wanted.first, wanted.end):
            _, fault = self._log.checked(position)  # it may have changed since it was read last
            if fault is not None:
                raise CorruptLog(fault)
            if position % 64 == 0:
                self._pause()
        try:
            file = (self._paths.log / wanted.segment / DATA).open("rb")
        except FileNotFoundError:
            return None
        with file:
            path = Path(f"/proc/self/fd/{file.fileno()}")  # by its handle: the name may go
            stored = stored_file(path, self._pause)
            self._put(stored, parts_of(path, self._pause))
        return Piece("file", wanted.segment, wanted.first, wanted.end, stored)

    def _entries(self, wanted: Wanted) -> Iterator[Piece]:
        first, parts, size = wanted.first, list[bytes](), 0
        for position in range(wanted.first, wanted.end):
            value = framed(self._log, position)
            parts += (ENTRY.pack(position, len(value)), value)
            size += ENTRY.size + len(value)
            if size >= PIECE_BYTES or position + 1 == wanted.end:
                data = b"".join(parts)
                stored = stored_bytes(data)
                self._put(stored, [data])
                yield Piece("entries", wanted.segment, first, position + 1, stored)
                first, parts, size = position + 1, [], 0
                self._pause()

    def checkpoint(self) -> KeptCheckpoint | None:
        """Copy the newest one, and the runs that are there, its own among them.

        To be asked before any head is read. It knows which of its messages others have taken: of
        one that was made later they may have taken more than their copies have, and who opens it
        would not send that again. Raises OSError.
        """
        for _ in range(LOOKS):
            found = [
                (int(match[1]), path)
                for path in self._paths.checkpoints.glob("*")
                if (match := CHECKPOINT_NAME.fullmatch(path.name))
            ]
            if not found:
                return None
            position, path = max(found)
            try:
                return KeptCheckpoint(position, self._held([path]))
            except FileNotFoundError:
                continue
        return None

    def _held(self, paths: list[Path]) -> dict[str, Stored]:
        """Files that may be deleted meanwhile, opened first and copied then."""
        runs = sorted(self._paths.runs.glob("*.arrow"))
        files: dict[str, Stored] = {}
        with ExitStack() as stack:
            opened = [
                (str(path.relative_to(self._paths.directory)), stack.enter_context(path.open("rb")))
                for path in (*paths, *runs)
            ]
            for name, file in opened:
                # By its handle: the name may be gone.
                path = Path(f"/proc/self/fd/{file.fileno()}")
                files[name] = stored_file(path, self._pause)
                self._put(files[name], parts_of(path, self._pause))
        return files


def framed(log: LmdbLog, position: int) -> bytes:
    """An entry as it is stored, with its checksum, compared. Raises CorruptLog."""
    return frame(position, (log.whole(position),))


def entries_in(depot: Depot, piece: Piece) -> Iterator[tuple[int, bytes]]:
    """The framed values of a piece of entries, each whole and in its place. Raises CorruptLog."""
    data = b"".join(depot.content(piece.stored))
    where = f"{depot.uri}/files/{piece.stored.name}"
    at = 0
    for position in range(piece.first, piece.end):
        found, size = ENTRY.unpack_from(data, at)
        value = data[at + ENTRY.size : at + ENTRY.size + size]
        fault = damage(position, value)
        if found != position or fault is not None:
            raise damaged(where, f"the entry of position {position}", fault or f"that of {found}")
        yield position, value
        at += ENTRY.size + size
    if at != len(data):
        raise damaged(where, f"{at} bytes", str(len(data)))
