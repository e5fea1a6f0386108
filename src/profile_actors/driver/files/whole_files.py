"""Files that are there under their name when they are whole, and never before.

Theory: a file is written aside, in the folder where it is to be, and renamed when it is whole; in
an object store, which has no renaming, copied there by the store. Closing a stream makes what there
is of an object appear, and Parquet's writer ends even a short file well: so what fails is closed
aside, and deleted.
"""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.fs

from profile_actors.errors import CallerError
from profile_actors.ingest.files.places import is_remote, local_path


def check_place(name: str, data: str | Path, at: str) -> None:
    """Refuse a place among the files of the store itself. data: its directory. Raises CallerError,
    which calls the asking verb ``at``."""
    if is_remote(name):
        return
    own, path = os.path.realpath(data), os.path.realpath(local_path(name))
    if os.path.commonpath([own, path]) == own:
        raise CallerError(
            f"expected a place outside of the store's directory, got {name!r} - at {at}; {own} is"
            " for the store's own files"
        )


def is_there(name: str) -> bool:
    """Whether something has this path or URI. Raises OSError."""
    if not is_remote(name):
        return os.path.lexists(local_path(name))
    system, place = pyarrow.fs.FileSystem.from_uri(name)
    return bool(system.get_file_info(place).type != pyarrow.fs.FileType.NotFound)


def bytes_of(name: str) -> int:
    """How long a file is. Raises OSError."""
    if not is_remote(name):
        return os.path.getsize(local_path(name))
    system, place = pyarrow.fs.FileSystem.from_uri(name)
    return int(system.get_file_info(place).size)


@contextmanager
def whole_file(name: str, codec: str | None = None) -> Iterator[Any]:
    """A stream to write to, whose file is there under its name, a path or a URI, when the block
    ends well. codec: what packs it, as pyarrow calls it. Raises OSError."""
    if is_remote(name):
        system, place = pyarrow.fs.FileSystem.from_uri(name)
        with whole_object(system, place, codec) as out:
            yield out
        return
    path = local_path(name)
    aside = _aside(path)
    try:
        with open(aside, "wb") as file:
            packed = pa.CompressedOutputStream(file, codec) if codec else nullcontext(file)
            with packed as out:
                yield out
        with open(aside, "rb") as file:
            os.fsync(file.fileno())
        os.replace(aside, path)
    except BaseException:
        if os.path.exists(aside):
            os.remove(aside)
        raise


@contextmanager
def whole_object(system: Any, place: str, codec: str | None) -> Iterator[Any]:
    """The same in a file system of pyarrow's."""
    aside = _aside(place)
    stream = system.open_output_stream(aside, compression=codec)
    try:
        yield stream
        stream.close()
        system.copy_file(aside, place)
    finally:
        with suppress(Exception):
            stream.close()
        with suppress(Exception):
            system.delete_file(aside)


def _aside(path: str) -> str:
    return f"{path}.{uuid.uuid4().hex[:8]}.aside"
