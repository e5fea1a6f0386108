"""A place where files are kept by content, on a disk or an object store.

::

    <place>/backup.json              whose backups these are
    <place>/files/<digest>-<bytes>   contents: xxh3-128 in hex
    <place>/manifests/<id>.json      what a backup is made of (``backups.py``)

Theory: a file is written once, under the name of its content, and never changed. Object stores
cannot rename, so what makes a backup one is that its manifest is there, which is written last. On a
disk files are written aside, synced and renamed; elsewhere a file appears when it is whole.
A file of the right name and size is taken for whole; ``verify`` reads it.

Limits: who may read the place reads what people did: it is for its owner alone. Nothing is
encrypted here.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from threading import get_ident
from typing import Any
from urllib.parse import urlsplit

import pyarrow as pa
import pyarrow.fs
import xxhash

from profile_actors.engine.log.ports import Buffer
from profile_actors.engine.shipping.pieces import Stored
from profile_actors.errors import CallerError, CorruptLog
from profile_actors.ingest.files.places import is_remote, local_path
from profile_actors.storage.files.atomic_files import (
    ASIDE,
    CrashPoint,
    make_directory,
    make_file,
    no_crash,
    sync_directory,
)

READ_BYTES = 8 << 20
"""Read and written at a time: what a copy takes of memory, and between two pauses."""


FLAT = ("s3", "gcs", "abfs")
"""File systems whose folders are names alone."""


FILES, MANIFESTS = "files", "manifests"


def absolute(uri: str | Path) -> str:
    """A place as any process of the machine names it. Raises CallerError."""
    is_text = isinstance(uri, str | os.PathLike) and bool(str(uri))
    if not is_text or str(uri) != str(uri).encode("utf-8", "replace").decode():
        raise CallerError(f"expected a URI or a directory, got {uri!r} - at backup")
    text = str(uri)
    if is_remote(text) and urlsplit(text).password is not None:
        raise CallerError(
            f"expected a URI without a secret, got one of {text.partition(':')[0]}:// with it - at"
            " backup; a store remembers its places and tells them: put the secret in the"
            " environment of its processes"
        )
    return text.rstrip("/") if is_remote(text) else os.path.abspath(local_path(text))


class Depot:
    """The files of a place. uri: a URI of ``pyarrow.fs``, or a directory, absolute.

    crash_point: called before and after each write (``atomic_files``). system: in which the URI is
    a path, where it is not to be found by it. Its methods raise OSError.
    """

    def __init__(
        self, uri: str, crash_point: CrashPoint = no_crash, system: Any | None = None
    ) -> None:
        self.uri = uri
        self._crash_point = crash_point
        self._is_local = system is None and not is_remote(uri)
        if system is not None:
            self._system, self._root = system, uri
            return
        if self._is_local:
            self._system, self._root = pyarrow.fs.LocalFileSystem(), uri
            return
        try:
            self._system, self._root = pyarrow.fs.FileSystem.from_uri(uri)
        except (pa.ArrowException, ValueError) as error:
            raise CallerError(
                f"expected a directory, or a URI of s3://, gs:// or abfs://, got {uri!r}: {error}"
                " - at backup"
            ) from None

    def _path(self, name: str) -> str:
        return f"{self._root}/{name}"

    def write(self, name: str, parts: Iterable[Buffer]) -> None:
        """Write a file, whole or not at all."""
        self._crash_point(f"before {name}")
        if self._is_local:
            self._write_here(Path(self._path(name)), parts)
        else:
            if self._system.type_name not in FLAT:
                self._system.create_dir(self._path(name).rpartition("/")[0], recursive=True)
            with self._system.open_output_stream(self._path(name)) as out:
                for part in parts:
                    out.write(part)
        self._crash_point(f"after {name}")

    def _write_here(self, path: Path, parts: Iterable[Buffer]) -> None:
        """As ``atomic_files.write_whole``, but two partitions may write one content at a time."""
        make_directory(path.parent)
        aside = path.with_name(f"{path.name}.{os.getpid()}-{get_ident()}{ASIDE}")
        try:
            make_file(aside)
            with open(aside, "wb") as file:
                for part in parts:
                    file.write(part)
                file.flush()
                os.fsync(file.fileno())
        except OSError:
            aside.unlink(missing_ok=True)  # a full place gets no emptier by halves of files
            raise
        self._crash_point(f"aside {path.name}")
        os.replace(aside, path)
        sync_directory(path.parent)

    def read(self, name: str) -> bytes:
        """A small file. Raises FileNotFoundError."""
        return b"".join(self.pieces_of(name))

    def pieces_of(self, name: str) -> Iterator[bytes]:
        """A file's bytes, READ_BYTES at a time."""
        with self._system.open_input_stream(self._path(name)) as stream:
            while data := stream.read(READ_BYTES):
                yield data

    def listed(self, folder: str) -> dict[str, int]:
        """The files of a folder, and their bytes; none if it is not there. Others may write."""
        if self._is_local:
            return dict(_local_files(Path(self._path(folder))))
        found = self._system.get_file_info(
            pyarrow.fs.FileSelector(self._path(folder), allow_not_found=True)
        )
        return {
            one.base_name: int(one.size) for one in found if one.type == pyarrow.fs.FileType.File
        }

    def delete(self, name: str) -> None:
        """Delete a file; nothing happens if it is not there."""
        with suppress(FileNotFoundError):
            self._system.delete_file(self._path(name))

    def drop_asides(self) -> int:
        """Delete what a crash left half-written on a disk; how many files that were."""
        found = sorted(Path(self._root).glob(f"*/*{ASIDE}")) if self._is_local else []
        for path in found:
            path.unlink(missing_ok=True)
        return len(found)

    # -- by content -------------------------------------------------------------------------------

    def whole(self) -> set[str]:
        """Names of the contents that are there, as far as their sizes say."""
        return {
            name
            for name, size in self.listed(FILES).items()
            if name.rpartition("-")[2] == str(size)
        }

    def put(self, stored: Stored, parts: Iterable[Buffer]) -> None:
        """Write a content."""
        self.write(f"{FILES}/{stored.name}", parts)

    def content(self, stored: Stored) -> Iterator[bytes]:
        """A content, checked when its last part was read. Raises CorruptLog naming the file."""
        name = f"{FILES}/{stored.name}"
        digest, size = xxhash.xxh3_128(), 0
        try:
            for data in self.pieces_of(name):
                digest.update(data)
                size += len(data)
                yield data
        except FileNotFoundError:
            raise damaged(self._path(name), "a file", "none") from None
        if (digest.hexdigest(), size) != (stored.digest, stored.bytes):
            raise damaged(
                self._path(name),
                f"{stored.bytes} bytes of checksum {stored.digest}",
                f"{size} of {digest.hexdigest()}",
            )

    def fault(self, stored: Stored) -> str | None:
        """None if a content is whole, else one sentence. Cost: reads it."""
        try:
            for _ in self.content(stored):
                pass
        except (CorruptLog, OSError) as error:
            return str(error)
        return None


def _local_files(folder: Path) -> Iterator[tuple[str, int]]:
    """What is not just being written of a folder."""
    with suppress(FileNotFoundError), os.scandir(folder) as found:
        for one in found:
            with suppress(FileNotFoundError):  # it has its name by now, which may be listed or not
                if one.is_file() and not one.name.endswith(ASIDE):
                    yield one.name, one.stat().st_size


def damaged(where: str, expected: str, got: str) -> CorruptLog:
    """What is said of a file of a backup that is not what was written."""
    return CorruptLog(
        f"expected {expected}, got {got} - at {where}; restore from another backup that does not"
        " need it (`profile-actors backup verify` says which are whole)"
    )


def stored_file(path: Path, pause: Callable[[], object]) -> Stored:
    """The name by content of a file that does not change. pause: called between its parts."""
    digest, size = xxhash.xxh3_128(), 0
    for data in parts_of(path, pause):
        digest.update(data)
        size += len(data)
    return Stored(digest.hexdigest(), size)


def parts_of(path: Path, pause: Callable[[], object]) -> Iterator[bytes]:
    """A file's bytes, READ_BYTES at a time."""
    with open(path, "rb") as file:
        while data := file.read(READ_BYTES):
            yield data
            pause()


def stored_bytes(data: Buffer) -> Stored:
    """The name by content of bytes."""
    return Stored(xxhash.xxh3_128_hexdigest(data), len(data))
