"""Which disk is mounted at a directory, and which copy of a log is there.

Theory: ``<disk>/disk.json`` names the disk, whatever path it is mounted at; ``copy.json`` in a
standby's directory says the id that the catalogue gave it.
"""

from __future__ import annotations

from pathlib import Path

import msgspec

from profile_actors.errors import UNDECODED, ConfigError
from profile_actors.storage.files.atomic_files import make_directory, write_whole
from profile_actors.storage.files.layout import StoreLayout
from profile_actors.storage.store_settings import load_settings_file

COPY = "copy.json"


class Disk(msgspec.Struct, frozen=True):
    """What ``disk.json`` says. store: whose files are there, "" before there are any."""

    disk: str
    store: str


class CopyId(msgspec.Struct, frozen=True):
    """What ``copy.json`` says."""

    copy: str


_DISK = msgspec.json.Decoder(Disk)


_COPY = msgspec.json.Decoder(CopyId)


def found_disk(directory: Path) -> Disk | None:
    """What ``disk.json`` at a directory says; None where there is none that can be read."""
    try:
        return _DISK.decode(StoreLayout(directory).disk.read_bytes())
    except (OSError, msgspec.MsgspecError):
        return None


def disk_at(directory: Path, store: str, fresh: str) -> str:
    """The id of the disk at a directory; one that has none is named ``fresh``. Raises ConfigError
    for one of another store, or that cannot be written."""
    path = StoreLayout(directory).disk
    try:
        make_directory(directory)
        if not path.is_file():
            found = Disk(fresh, store)
            write_whole(path, (msgspec.json.encode(found), b"\n"))
    except OSError as error:
        raise ConfigError(
            f"expected a directory to keep copies in, got {error.strerror} - at {directory}; make"
            " it, or name another"
        ) from error
    try:
        found = _DISK.decode(path.read_bytes())
    except UNDECODED as error:
        raise ConfigError(
            f"expected a disk's id, got '{error}' - at {path}; restore the file, or name another"
            " directory"
        ) from error
    if not found.store:  # named before the store was made, for a node's label
        found = Disk(found.disk, store)
        write_whole(path, (msgspec.json.encode(found), b"\n"))
    if found.store != store:
        raise ConfigError(
            f"expected a disk of store {store}, got one of store {found.store} - at {path}; name"
            " another directory"
        )
    return found.disk


def named_disk(directory: Path, fresh: str) -> str:
    """The id of the disk at a directory, of whatever store; one that has none is named ``fresh``,
    and is the first store's that finds it. Raises ConfigError."""
    found = found_disk(directory)
    if found is not None:
        return found.disk
    settings = load_settings_file(StoreLayout(directory).settings)
    return disk_at(directory, "" if settings is None else settings.id, fresh)


def copy_at(directory: Path) -> str:
    """The id of the copy in a standby's directory; "" where there is none that can be read."""
    try:
        return _COPY.decode((directory / COPY).read_bytes()).copy
    except (OSError, *UNDECODED):
        return ""


def name_copy(directory: Path, copy: str) -> None:
    """Write the id of the copy in a standby's directory, durably. Raises OSError."""
    make_directory(directory)
    write_whole(directory / COPY, (msgspec.json.encode(CopyId(copy)), b"\n"))
