"""The bytes of a file from its first to its last, whatever it was packed with.

Theory: what a file is packed with is known by its first bytes, never by its name. A packed file is
read as a stream, which cannot be wound back: what a reader has read too much of is kept for it.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

import pyarrow as pa

from profile_actors.errors import SchemaError
from profile_actors.ingest.files.places import File

WHOLE = 1 << 62
"""More bytes than a file has: to be read to its end, wherever that is."""


_MAGIC = (
    (b"\x1f\x8b\x08", "gzip"),
    (b"\x28\xb5\x2f\xfd", "zstd"),
    (b"\x04\x22\x4d\x18", "lz4"),
    *((b"BZh%d1AY&SY" % level, "bz2") for level in range(1, 10)),
    *((b"BZh%d\x17\x72\x45\x38\x50\x90" % level, "bz2") for level in range(1, 10)),  # of nothing
)


MAGIC_BYTES = 16


class ByteSource(Protocol):
    """What readers of text need of an open file."""

    def read(self, size: int, /) -> bytes: ...

    def seek(self, offset: int, whence: int, /) -> int: ...

    def tell(self) -> int: ...


def packed_with(file: File) -> str | None:
    """The name of what packed a file, None for a plain one. Cost: its first bytes are read."""
    with file.open("rb") as opened:
        return packing_of(opened.read(MAGIC_BYTES))


def packing_of(start: bytes) -> str | None:
    """What packed a file that begins so."""
    return next((name for magic, name in _MAGIC if start.startswith(magic)), None)


@contextmanager
def plain_bytes(file: File, packing: str | None) -> Iterator[Stream | Any]:
    """A file opened for reading what it holds. Raises SchemaError while it is read, if it was not
    packed whole."""
    with file.open("rb") as opened:
        if packing is None and isinstance(file, Path):
            yield opened
        else:
            yield Stream(opened, packing, str(file))


class Stream:
    """A packed file, or one elsewhere, unpacked while it is read."""

    def __init__(self, opened: Any, packing: str | None, name: str) -> None:
        """opened: at its beginning. name: what errors call it."""
        self._packed = opened
        self._plain = opened
        if packing is not None:
            is_arrows = isinstance(opened, pa.NativeFile)
            stream = opened if is_arrows else pa.PythonFile(opened, "r")
            self._plain = pa.CompressedInputStream(stream, packing)
        self._packing = packing
        self._name = name
        self._kept = b""
        self._last = b""
        self._place = 0

    def packed_place(self) -> int:
        """How far the file itself was read."""
        return int(self._packed.tell())

    def tell(self) -> int:
        """How many bytes of the content are behind."""
        return self._place

    def read(self, size: int, /) -> bytes:
        """Exactly so many bytes, fewer at the end only. Raises SchemaError, OSError."""
        pieces = [self._kept[:size]]
        self._kept = self._kept[size:]
        missing = size - len(pieces[0])
        while missing and (piece := self._more(missing)):
            pieces.append(piece)
            missing -= len(piece)
        self._last = pieces[0] if len(pieces) == 1 else b"".join(pieces)
        self._place += len(self._last)
        return self._last

    def seek(self, offset: int, whence: int, /) -> int:
        """Back by as much as the last read gave, at most: offset <= 0 from here (whence 1)."""
        assert whence == 1, "a stream is wound back from where it is"
        assert -len(self._last) <= offset <= 0, "a stream is wound back within its last read"
        if offset:
            self._kept = self._last[offset:] + self._kept
        self._last = b""
        self._place += offset
        return self._place

    def _more(self, size: int) -> bytes:
        try:
            return bytes(self._plain.read(size))
        except (OSError, pa.ArrowException) as error:
            if self._packing is None:
                raise
            raise SchemaError(
                f"expected the whole of a file packed with {self._packing}, got {error} - at"
                f" {self._name} after {self._place} bytes of what it holds; what came before stays"
            ) from None
