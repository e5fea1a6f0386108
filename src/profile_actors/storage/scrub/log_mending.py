"""A damaged log segment written anew, its damaged entries as another copy of the log has them.

Theory: a sealed log segment never changes, so it is written once more beside the old one, under
another name, compared, and takes its place by the replacement of the manifest, as after an erasure.
Positions stay, and whoever still reads the old one keeps it mapped. The one that is being written
is sealed first. A crash before the manifest is replaced leaves a nameless directory, deleted at the
next mending; after it, the same for the old one.

An entry of another copy is believed if it is what was written here: the stored checksum says so,
or, where that is what was damaged, the content. Of an entry of which nothing is left the caller
says that the other copy has the same log up to there.

Limits: one log segment at a time, which takes its bytes of free space meanwhile.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import lmdb

from profile_actors.errors import CorruptLog
from profile_actors.storage.erasure.rewriting import begun_beside, next_name
from profile_actors.storage.files.atomic_files import (
    CrashPoint,
    failed_write,
    no_crash,
    remove_tree,
)
from profile_actors.storage.files.framing import HEADER, HEADER_BYTES, frame
from profile_actors.storage.log_segment import LogSegment
from profile_actors.storage.scrub.mendable_log import MendableLog, Sealed

FILL_BYTES = 32 << 20
"""Written in one transaction, whose pages LMDB keeps in memory."""


def mend_segment(
    log: MendableLog,
    position: int,
    fetch: Callable[[int], bytes],
    map_bytes: int,
    crash_point: CrashPoint = no_crash,
) -> list[int]:
    """Write the log segment with a damaged entry anew; the positions that were damaged.

    fetch: an entry as the other copy has it; what it raises goes through, and nothing is changed
    then. map_bytes: see ``Config.log_map_bytes``. May run beside appends and reads. Cost: two
    passes over the log segment. Raises CorruptLog if the other copy has another entry, StorageFull.
    """
    with log.rewriting():
        return _mended(log, log.sealed_with(position), fetch, map_bytes, crash_point)


def _mended(
    log: MendableLog,
    old: Sealed,
    fetch: Callable[[int], bytes],
    map_bytes: int,
    crash_point: CrashPoint,
) -> list[int]:
    name = next_name(old.entry)
    path = log.directory / name
    new: LogSegment | None = None
    try:
        remove_tree(path)
        new = begun_beside(path, old.segment, map_bytes)
        mended: list[int] = []
        positions = range(old.entry.first, old.entry.first + (old.entry.entries or 0))
        crash_point("mend.begun")
        for values in _in_pieces(_values(old.segment, positions, fetch, mended)):
            new.fill(values)
        new.sync()
        if new.positions() != list(positions) or any(map(new.fault, positions)):
            raise CorruptLog(
                f"expected the {len(positions)} entries that were written, got others - at"
                f" {new.data}; check the disk: it is not to be trusted"
            )
        crash_point("mend.written")
        new.discard()
        new = None
        log.replace([old.entry], name)
        crash_point("mend.replaced")
    except (OSError, lmdb.Error) as error:
        raise failed_write(error, f"{path} (mending a log segment)") from error
    finally:
        if new is not None:
            new.discard()
    return mended


def _values(
    segment: LogSegment, positions: range, fetch: Callable[[int], bytes], mended: list[int]
) -> Iterator[tuple[int, bytes]]:
    for position in positions:
        _, fault = segment.checked(position)
        if fault is None:
            yield position, frame(position, (segment.view(position),))
            continue
        value = frame(position, (fetch(position),))
        found = segment.raw(position)
        if found is not None and not _is_of(found, value):
            raise CorruptLog(
                f"expected the entry that was written, got another one from the other copy - at"
                f" {segment.where(position)}; nothing was changed: promote the standby, or restore"
                " a backup"
            )
        mended.append(position)
        yield position, value


def _is_of(found: bytes, value: bytes) -> bool:
    """Whether a damaged value was this one, by its checksum or by its content."""
    if len(found) < HEADER_BYTES:
        return True
    return HEADER.unpack_from(found)[3] == HEADER.unpack_from(value)[3] or (
        found[HEADER_BYTES:] == value[HEADER_BYTES:]
    )


def _in_pieces(
    values: Iterator[tuple[int, bytes]],
) -> Iterator[list[tuple[int, bytes]]]:
    piece: list[tuple[int, bytes]] = []
    size = 0
    for position, value in values:
        piece.append((position, value))
        size += len(value)
        if size >= FILL_BYTES:
            yield piece
            piece, size = [], 0
    if piece:
        yield piece
