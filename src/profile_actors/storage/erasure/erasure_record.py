"""What a store knows of the erasure under way, and of how many there were, in one file.

Theory: the file is written whole before anything is erased, and at each step; it is the one place
that names the person until everything else is done, and names nobody afterwards.
"""

from __future__ import annotations

from pathlib import Path

import msgspec

from profile_actors.engine.identity.messages import Named
from profile_actors.errors import UNDECODED, CorruptLog
from profile_actors.storage.files.atomic_files import aside_of, failed_write, write_whole

NAME = "erasures.json"


class ErasedPart(msgspec.Struct, frozen=True):
    """What was done at one place. rows: taken out of its log; identities: that it had named, books
    among them; files: written anew."""

    rows: int = 0
    identities: int = 0
    files: tuple[str, ...] = ()


class Erasing(msgspec.Struct, frozen=True):
    """An erasure under way. number: counts the store's. standing: sequencers whose files nobody has
    open. parts: what each found, told before its files change. done: who has finished. copies:
    generations of edges from before, by their paths in the store. cutoffs: older rows of these
    datasets go as well (``Catalogue.expired``)."""

    number: int
    ones: tuple[Named, ...]
    standing: tuple[str, ...] = ()
    parts: dict[str, ErasedPart] = {}
    done: tuple[str, ...] = ()
    copies: tuple[str, ...] = ()
    cutoffs: dict[str, int] = {}


class Erased(msgspec.Struct, frozen=True):
    """What an erasure did. parts: by sequencer; rejected: rows of the quarantine; copies: as of
    ``Erasing``."""

    number: int
    identities: int
    parts: dict[str, ErasedPart] = {}
    rejected: int = 0
    copies: tuple[str, ...] = ()


class ErasureRecord(msgspec.Struct, frozen=True):
    """count: erasures ever begun. last: the newest that is finished. renewed: per sequencer, the
    newest by which its log became another one."""

    count: int = 0
    pending: Erasing | None = None
    last: Erased | None = None
    renewed: dict[str, int] = {}


_RECORD = msgspec.json.Decoder(ErasureRecord)


def load_record(data: Path) -> ErasureRecord:
    """What the store in a directory knows. For its one writer: what a crash left half-written may
    name somebody, and is deleted. Raises CorruptLog."""
    path = data / NAME
    aside_of(path).unlink(missing_ok=True)
    try:
        return _RECORD.decode(path.read_bytes())
    except FileNotFoundError:
        return ErasureRecord()
    except UNDECODED as error:
        raise _unreadable(error, path) from error


def load_count(data: Path) -> tuple[int, bool]:
    """How many erasures there were, and whether one goes on; for who is not the record's writer.
    Raises CorruptLog."""
    try:
        record = _RECORD.decode((data / NAME).read_bytes())
    except FileNotFoundError:
        return 0, False
    except UNDECODED as error:
        raise _unreadable(error, data / NAME) from error
    return record.count, record.pending is not None


def _unreadable(error: Exception, path: Path) -> CorruptLog:
    return CorruptLog(
        f"expected what is known of erasures, got '{error}' - at {path}; restore the file from"
        " a replica or backup"
    )


def save_record(data: Path, record: ErasureRecord) -> None:
    """Replace it durably. Raises StorageFull."""
    path = data / NAME
    try:
        write_whole(path, (msgspec.json.format(msgspec.json.encode(record)), b"\n"))
    except OSError as error:
        raise failed_write(error, str(path)) from error
