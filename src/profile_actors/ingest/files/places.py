"""Where files are: paths, patterns, folders and URIs, as the files they name, sorted, each once.

Theory: a file that is named, by itself or by a pattern, is wanted: what cannot be read of it is an
error. A folder is asked for what is in it: what is hidden, half-written or of no known form is
passed over, and said. Hidden is what begins with ``.`` or ``_``, as Spark's ``_SUCCESS`` and
``_temporary/``; half-written is what a program calls so until it is done.
"""

from __future__ import annotations

import glob
import os
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeAlias
from urllib.parse import unquote, urlsplit

import pyarrow as pa
import pyarrow.fs

from profile_actors.errors import CallerError

TEXT_FORMS = {".csv": "csv", ".ndjson": "ndjson", ".jsonl": "ndjson", ".json": "ndjson"}


FORMS = TEXT_FORMS | {".parquet": "parquet"}


PACKED_SUFFIXES = (".gz", ".zst", ".bz2", ".lz4")


HALF_WRITTEN = (".tmp", ".temp", ".part", ".partial", ".aside", ".crdownload", ".filepart", "~")


_URI = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+://")


@dataclass(frozen=True, slots=True, order=True)
class RemoteFile:
    """A file of another file system. uri: as it is named; path: within ``system``."""

    uri: str
    path: str
    system: Any = field(compare=False, repr=False)

    def __str__(self) -> str:
        return self.uri

    @property
    def name(self) -> str:
        return self.path.rpartition("/")[2]

    def open(self, mode: Literal["rb"]) -> Any:
        """The file, for reading at any place. Raises OSError."""
        return self.system.open_input_file(self.path)


File: TypeAlias = Path | RemoteFile


@dataclass(frozen=True, slots=True)
class Found:
    """files: sorted, each once. skipped: what a folder has besides, and why it is passed over."""

    files: list[File]
    skipped: dict[str, str]


def size_of(file: File) -> int:
    """Bytes. Raises OSError."""
    if isinstance(file, Path):
        return file.stat().st_size
    info = file.system.get_file_info(file.path)
    if info.type != pa.fs.FileType.File:
        raise FileNotFoundError(f"expected a file, got none - at {file}")
    return int(info.size)


Sign: TypeAlias = tuple[int, int]
"""A file's bytes, and when it was last written: ns since 1970."""


def sign_of(file: File) -> Sign:
    """What tells whether a file was written to. Raises OSError."""
    if isinstance(file, Path):
        found = file.stat()
        return found.st_size, found.st_mtime_ns
    info = file.system.get_file_info(file.path)
    return int(info.size or 0), int(info.mtime_ns or 0)


def files_in(folder: str | Path) -> Found:
    """What is in a folder, now; nothing may be. Raises CallerError for what is no folder."""
    text = str(folder)
    if is_remote(folder):
        files, skipped = _remote(text)
    elif os.path.isdir(local_path(text)):
        files, skipped = _of_folder(local_path(text))
    else:
        raise CallerError(f"expected a folder, got {text!r} - at follow")
    return Found(sorted(files, key=lambda file: _by_parts(str(file))), skipped)


def form_of(name: str) -> str | None:
    """'csv', 'ndjson' or 'parquet' by the suffix before that of what packed the file, if any."""
    name = name.lower()
    for suffix in PACKED_SUFFIXES:
        name = name.removesuffix(suffix)
    return FORMS.get(os.path.splitext(name)[1])


def matching(patterns: Iterable[str | Path]) -> Found:
    """The files that paths, glob patterns, folders and URIs of these name.

    Raises CallerError for what names no file, and for a named file of no known form.
    """
    found: dict[str, File] = {}
    skipped: dict[str, str] = {}
    patterns = list(patterns) if isinstance(patterns, Iterable) else [patterns]
    for pattern in patterns:
        if not isinstance(pattern, str | Path):
            raise CallerError(
                f"expected paths of files or glob patterns, got {pattern!r} - at ingest"
            )
        text = str(pattern)
        files, passed = _remote(text) if is_remote(pattern) else _local(local_path(text))
        if not files:
            hint = f": {len(passed)} in the folder are passed over" if passed else ""
            raise CallerError(f"expected a file, got none that matches {text!r}{hint} - at ingest")
        found |= {str(file): file for file in files}
        skipped |= passed
    for name, file in sorted(found.items()):
        if form_of(file.name) is None:
            raise CallerError(
                f"expected files of {', '.join(FORMS)}, plain or packed"
                f" ({', '.join(PACKED_SUFFIXES)}), got {name!r} - at ingest; convert it first"
            )
    return Found(
        [found[name] for name in sorted(found, key=_by_parts)], dict(sorted(skipped.items()))
    )


def _by_parts(name: str) -> list[str]:
    """Folders sort before what only begins as they do, as paths do."""
    return name.split("/")


def _is_local(text: str) -> bool:
    return text.lower().startswith("file://")


def is_remote(name: str | Path) -> bool:
    """Whether this is a URI of another file system than the machine's own."""
    return isinstance(name, str) and bool(_URI.match(name)) and not _is_local(name)


def local_path(text: str) -> str:
    """A local path, of a file:// URI too."""
    return unquote(urlsplit(text).path) if _is_local(text) else text


def _local(text: str) -> tuple[list[File], dict[str, str]]:
    # A name that no file can have is no file's: Path would raise OSError.
    if os.path.isfile(text):
        return [Path(text)], {}
    if os.path.isdir(text):
        return _of_folder(text)
    found = [name for name in glob.glob(text, recursive=True) if os.path.isfile(name)]
    return [Path(name) for name in found], {}


def _of_folder(folder: str) -> tuple[list[File], dict[str, str]]:
    files: list[File] = []
    skipped: dict[str, str] = {}
    if os.path.realpath(folder) == os.path.realpath(os.sep):
        raise CallerError(
            f"expected a folder of files, got {folder!r}, which holds all of the machine - at"
            " ingest; name a folder in it, or a pattern such as '/data/*.csv'"
        )

    def unread(error: OSError) -> None:
        skipped[str(error.filename)] = f"unreadable: {error.strerror}"

    for top, folders, names in os.walk(folder, onerror=unread):
        for name in [name for name in folders if passed_over(name, is_folder=True)]:
            skipped[os.path.join(top, name)] = "hidden"
            folders.remove(name)
        for name in names:
            path, why = os.path.join(top, name), passed_over(name)
            if why is not None:
                skipped[path] = why
            elif os.path.isfile(path):  # no pipe, no socket
                files.append(Path(path))
    return files, skipped


def passed_over(name: str, *, is_folder: bool = False) -> str | None:
    """Why a folder's file or folder of this name is passed over, if it is."""
    if name.startswith((".", "_")):
        return "hidden"
    if is_folder:
        return None
    if name.lower().endswith(HALF_WRITTEN):
        return "half-written"
    return f"none of {', '.join(FORMS)}" if form_of(name) is None else None


def _remote(uri: str) -> tuple[list[File], dict[str, str]]:
    """The files of a URI: of one, of a folder, or of a pattern. Raises CallerError, OSError."""
    star = re.search(r"[*?\[]", uri)
    plain = uri if star is None else uri[: star.start()].rpartition("/")[0]
    try:
        system, path = pyarrow.fs.FileSystem.from_uri(plain)
        info = system.get_file_info(path)
    except (pa.ArrowException, ValueError) as error:
        raise CallerError(
            f"expected a URI of s3://, gs://, abfs:// or file://, got {uri!r}: {error} - at ingest"
        ) from None
    if star is None and info.type == pyarrow.fs.FileType.File:
        return [RemoteFile(uri, path, system)], {}
    return listed(system, path, plain.rstrip("/"), None if star is None else uri)


def listed(
    system: Any, path: str, uri: str, pattern: str | None
) -> tuple[list[File], dict[str, str]]:
    """The files below a folder of a file system. pattern: of the URIs wanted; None: all, but for
    what a folder's files are passed over for."""
    files: list[File] = []
    skipped: dict[str, str] = {}
    wanted = None if pattern is None else re.compile(_regex(pattern))
    top = path.rstrip("/")
    for info in system.get_file_info(
        pyarrow.fs.FileSelector(path, recursive=True, allow_not_found=True)
    ):
        below = info.path[len(top) + 1 :]
        where = f"{uri}/{below}"
        if info.type != pyarrow.fs.FileType.File:
            continue
        if wanted is not None:
            if wanted.fullmatch(where):
                files.append(RemoteFile(where, info.path, system))
            continue
        *folders, name = below.split("/")
        why = next((w for f in folders if (w := passed_over(f, is_folder=True))), None)
        why = why or passed_over(name)
        if why is None:
            files.append(RemoteFile(where, info.path, system))
        else:
            skipped[where] = why
    return files, skipped


def _regex(pattern: str) -> str:
    """A glob pattern as a regular expression: ``**/`` stands for any folders, ``*`` for none."""
    out = ""
    for piece in re.findall(r"\*\*/|\*+|\?|\[[^\]]+\]|.", pattern, re.DOTALL):
        if piece == "**/":
            out += "(?:.*/)?"
        elif piece.startswith("*"):
            out += "[^/]*" if piece == "*" else ".*"
        elif piece == "?":
            out += "[^/]"
        elif len(piece) > 2 and piece[0] == "[":
            out += "[" + piece[1:-1].replace("\\", "\\\\").replace("!", "^", 1) + "]"
        else:
            out += re.escape(piece)
    return out
