"""Which of a file's rows were read before: a file is known by what it holds, not by its path.

Theory: a file's rows are a producer's, named by dataset, base name and *first* content, and its
offsets are row numbers. Of each content that was read the store keeps how many bytes it had and
their digest. A file that begins with exactly those bytes is the same one, grown: it goes on under
the same producer, so only its new rows are new. The same bytes under another name are the same
rows. One of which only rejected rows were altered is the same one, mended (``mended_files``).
Anything else is new content, whatever it is called, and its rows all count.

One pass reads the file and takes the digest at every length that matters, so recognising costs
what hashing costs. The length is taken once: what a writer appends meanwhile is left for later.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from pathlib import Path

import msgspec
import xxhash

from profile_actors.ingest.files.places import File

_PIECE_BYTES = 1 << 20


class Rest(msgspec.Struct, frozen=True):
    """What stays the same of a content while its rejected rows are put right (``mended_files``).

    rows: how many it had. rejected: which of them, ``offsets`` as bytes. digest: XXH3-128 of the
    other rows, "" if there were none.
    """

    rows: int
    rejected: bytes
    digest: str


class FileContent(msgspec.Struct, frozen=True):
    """A content of a file as it was last read.

    producer: of its rows. name: the file's base name. bytes: how much of it was read, rows: how
    many rows those held, -1 while that is not known. digest: XXH3-128 of the bytes, in hex.
    is_open: the last row had no line end. is_first: no shorter content of this version was read
    before. path: where it was. version: how often it had been mended in place. rest: of rejected
    rows.
    """

    producer: str
    name: str
    bytes: int
    digest: str
    rows: int
    is_open: bool
    is_first: bool
    path: str
    version: int = 0
    rest: Rest | None = None


class Recognised(msgspec.Struct, frozen=True):
    """What a file is to the store.

    content: to be kept before a row is sent. known: what was kept of it, None for new content.
    warnings: what the user should know.
    """

    content: FileContent
    known: FileContent | None
    warnings: tuple[str, ...]


class Digests:
    """One pass over the first ``size`` bytes of a file.

    producer: of the rows if the content is new: dataset, base name and all of the bytes.
    at: digest of the first n bytes, for each n in sizes (those beyond size are left out) and for
    size itself. is_open: the last byte ends no line.
    """

    def __init__(self, dataset: str, path: File, size: int, sizes: Iterable[int]) -> None:
        named, plain = xxhash.xxh3_128(), xxhash.xxh3_128()
        for text in (dataset, path.name):
            named.update(len(text.encode()).to_bytes(8, "big") + text.encode())
        self.at: dict[int, str] = {}
        place, last = 0, b"\n"
        with path.open("rb") as file:
            for stop in sorted({n for n in sizes if 0 < n < size} | {size}):
                while piece := file.read(min(_PIECE_BYTES, stop - place)):
                    named.update(piece)
                    plain.update(piece)
                    place, last = place + len(piece), piece[-1:]
                if place == stop:
                    self.at[stop] = plain.hexdigest()
        self.size = place
        self.at[place] = plain.hexdigest()
        self.is_open = last != b"\n"
        self.producer = named.hexdigest()


def complete_bytes(path: File, size: int) -> int:
    """How many of the first ``size`` bytes are whole lines; 0 if there is no line end."""
    with path.open("rb") as file:
        stop = size
        while stop > 0:
            start = max(0, stop - _PIECE_BYTES)
            file.seek(start)
            found = file.read(stop - start).rfind(b"\n")
            if found >= 0:
                return start + found + 1
            stop = start
    return 0


def grown_from(digests: Digests, contents: Sequence[FileContent]) -> FileContent | None:
    """The longest of the contents of a name with which the file begins."""
    fitting = [c for c in contents if digests.at.get(c.bytes) == c.digest]
    return max(fitting, key=lambda content: content.bytes, default=None)


def recognised(
    path: File,
    digests: Digests,
    same_name: Sequence[FileContent],
    same_bytes: FileContent | None,
    mended: FileContent | None = None,
) -> Recognised:
    """What the file is, given what is kept under its name and of its bytes.

    mended: if it is neither of those, the content that it was before rows were put right.
    """
    known = grown_from(digests, same_name) or same_bytes
    if known is None and mended is not None:
        return Recognised(_mended(mended, digests), mended, _told_of(path, mended))
    where = place_of(path)
    warnings = []
    if known is None:
        was = next((c for c in same_name if c.path == where), None)
        if was is not None:
            how = "shrank" if digests.size < was.bytes else "changed"
            kept = (
                "; the rows of it that were rejected stay in quarantine: to put such rows right in"
                " place, leave all others as they are"
            )
            warnings.append(
                f"{path} is not what it was: it {how}"
                f" within the {was.bytes} bytes read before, so all of its rows count as new; rows"
                f" without an id that were in it before count twice{kept if was.rest else ''}"
            )
    elif known.name != path.name:
        warnings.append(
            f"{path} holds the same bytes as {known.name!r}, which was read before: its rows count"
            " once"
        )
    elif known.is_open and digests.size > known.bytes and not _ends_line(path, known.bytes):
        warnings.append(
            f"{path} row {known.rows - 1} was read while it had no line end, and goes on now: if it"
            " was accepted, it stays as it was read; load a file that still grows with closed=False"
        )
    producer = digests.producer if known is None else known.producer
    rows = known.rows if known is not None and known.bytes == digests.size else -1
    content = FileContent(
        producer,
        path.name if known is None else known.name,
        digests.size,
        digests.at[digests.size],
        rows,
        digests.is_open,
        known is None or (known.is_first and known.bytes == digests.size),
        where,
        0 if known is None else known.version,
        None if known is None else known.rest,
    )
    return Recognised(content, known, tuple(warnings))


def place_of(path: File) -> str:
    """Where a file is, as contents say it."""
    return os.path.abspath(path) if isinstance(path, Path) else str(path)


def _told_of(path: File, mended: FileContent) -> tuple[str, ...]:
    """That it was recognised by little, if it was."""
    if mended.rest is None or mended.rest.digest:
        return ()
    return (
        f"{path} changed, and has {mended.rest.rows} rows, as many as were all rejected when it was"
        " read before: its rows are taken for those, mended, and their records for settled; give"
        " other rows another file name",
    )


def _mended(was: FileContent, digests: Digests) -> FileContent:
    return msgspec.structs.replace(
        was, bytes=digests.size, digest=digests.at[digests.size], rows=-1, is_open=digests.is_open,
        is_first=True, version=was.version + 1,
    )  # fmt: skip


def _ends_line(path: File, place: int) -> bool:
    """Does a line end stand at this place?"""
    with path.open("rb") as file:
        file.seek(place)
        return file.read(2).removeprefix(b"\r").startswith(b"\n")
