"""One Arrow IPC file that holds named NumPy arrays of any shape, and proves that it is whole.

Theory: a file has one record batch of one row; each array is one column, a large list of its
values (booleans as uint8), so that any Arrow tool reads it. Arrays go to the file as they lie in
memory: no copy, at the disk's speed. The schema's metadata holds a JSON index (per array: name,
NumPy dtype, shape, xxh3-64 of its bytes; a position; a format number) and the xxh3-64 of that
index. Arrow's own framing decides nothing: where the bytes lie comes from it, whether they are
right from the index.

Limits: little-endian numbers of 1 to 8 bytes and booleans. The writer's arrays must not change
while they are written; if they do, the file is found damaged when read.
"""

from __future__ import annotations

import io
import os
from collections.abc import Callable
from math import prod
from pathlib import Path

import msgspec
import numpy as np
import pyarrow as pa
import xxhash

from profile_actors.engine.log.ports import Arrays, Buffer
from profile_actors.errors import CorruptLog
from profile_actors.storage.files.atomic_files import aside_of, make_file

FORMAT = 1


INDEX = b"profile_actors.index"


CHECK = b"profile_actors.xxh3"


KINDS = "biuf"


PIECE_BYTES = 1 << 28
"""Most bytes of one read call; the kernel caps a single read at 2 GiB."""


SYNC_BYTES = 1 << 23
"""A file is synced after so many bytes, some 20 ms of a disk."""


HASH_BYTES = 1 << 22
"""Bytes that are hashed in one call, some half a millisecond."""


class ArrayEntry(msgspec.Struct, frozen=True):
    """dtype: NumPy's text form, as '<i8'. check: xxh3-64 of the C-ordered bytes."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    check: int


class Index(msgspec.Struct, frozen=True):
    """What a file says it holds. arrays: in column order."""

    position: int
    arrays: tuple[ArrayEntry, ...]
    format: int = FORMAT


_INDEX = msgspec.json.Decoder(Index)


def write_arrays(
    path: Path, position: int, arrays: Arrays, half_written: Callable[[], None]
) -> None:
    """Write and sync ``<path>.aside``; the caller publishes it.

    arrays: any shapes, zero-length included. half_written: called when the values are written and
    the footer is not. Cost: one hash pass and one write of the bytes. Raises OSError.
    """
    entries: list[ArrayEntry] = []
    fields: list[pa.Field] = []
    columns: list[pa.Array] = []
    for name, given in arrays.items():
        array = np.ascontiguousarray(given)
        if array.dtype.kind not in KINDS or array.dtype.byteorder == ">":
            raise TypeError(f"expected numbers or booleans, got {array.dtype} - at array {name!r}")
        flat = array.reshape(-1)
        check = _digest(flat)
        # ascontiguousarray makes a 0-d array 1-d: the shape is the given one's.
        entries.append(ArrayEntry(name, array.dtype.str, given.shape, check))
        values = pa.array(flat.view(np.uint8) if array.dtype.kind == "b" else flat)
        offsets = pa.array([0, len(flat)], pa.int64())
        columns.append(pa.LargeListArray.from_arrays(offsets, values))
        fields.append(pa.field(name, columns[-1].type))
    index = msgspec.json.encode(Index(position, tuple(entries)))
    check_text = xxhash.xxh3_64_hexdigest(index).encode()
    schema = pa.schema(fields, metadata={INDEX: index, CHECK: check_text})
    aside = aside_of(path)
    make_file(aside)
    with open(aside, "wb", buffering=0) as file:
        writer = pa.ipc.new_file(pa.PythonFile(_Steady(file), "w"), schema)
        writer.write_batch(pa.RecordBatch.from_arrays(columns, schema=schema))
        half_written()
        writer.close()
        os.fsync(file.fileno())


class _Steady:
    """A file whose bytes are on the disk soon after they were written. A log beside it is synced
    many times meanwhile: each time it would wait for all that is on its way, whoever wrote it."""

    closed = False

    def __init__(self, file: io.FileIO) -> None:
        self._file = file
        self._unsynced = 0

    def write(self, data: Buffer) -> int:
        with memoryview(data) as view:
            for start in range(0, len(view), SYNC_BYTES):
                piece = view[start : start + SYNC_BYTES]
                written = 0
                while written < len(piece):
                    written += self._file.write(piece[written:])
                self._unsynced += len(piece)
                if self._unsynced >= SYNC_BYTES:
                    os.fdatasync(self._file.fileno())
                    self._unsynced = 0
            return len(view)

    def tell(self) -> int:
        return self._file.tell()

    def flush(self) -> None:
        """Nothing waits here."""


def read_arrays(path: Path) -> tuple[int, dict[str, np.ndarray]]:
    """The position and the arrays, owned and writable. Raises CorruptLog.

    Cost: one read of the file straight into the arrays, and one hash pass.
    """
    out: dict[str, np.ndarray] = {}
    try:
        with open(path, "rb", buffering=0) as file:
            index, spans = _spans(path)
            for entry, offset in zip(index.arrays, spans, strict=True):
                array = np.empty(entry.shape, np.dtype(entry.dtype))
                _read_into(file.fileno(), array.reshape(-1).view(np.uint8), offset)
                _check(path, entry, array)
                out[entry.name] = array
    except (OSError, pa.ArrowException, ValueError) as error:
        raise _corrupt(path, f"expected an Arrow file of arrays, got '{error}'") from error
    return index.position, out


def map_arrays(path: Path, *, verify: bool) -> dict[str, np.ndarray]:
    """The arrays, read-only and mapped from the file, which stays mapped as long as one is held.

    verify: compare checksums (one hash pass). Raises CorruptLog.
    """
    out: dict[str, np.ndarray] = {}
    try:
        index, buffers = _parse(path, pa.memory_map(str(path)))
        for entry, buffer in zip(index.arrays, buffers, strict=True):
            dtype, count = np.dtype(entry.dtype), prod(entry.shape)
            if count and buffer is not None:
                array = np.frombuffer(buffer, dtype, count).reshape(entry.shape)
            else:
                array = np.empty(entry.shape, dtype)
                array.flags.writeable = False
            if verify:
                _check(path, entry, array)
            out[entry.name] = array
    except (OSError, pa.ArrowException, ValueError) as error:
        raise _corrupt(path, f"expected an Arrow file of arrays, got '{error}'") from error
    return out


def _parse(path: Path, source: pa.NativeFile) -> tuple[Index, list[pa.Buffer | None]]:
    """The verified index, and where Arrow's framing says each array's bytes are."""
    reader = pa.ipc.open_file(source)
    metadata = reader.schema.metadata or {}
    text = metadata.get(INDEX, b"")
    found, stored = xxhash.xxh3_64_hexdigest(text).encode(), metadata.get(CHECK, b"")
    if found != stored:
        raise _corrupt(path, f"expected index checksum {stored!r}, got {found!r}")
    index = _INDEX.decode(text)
    if index.format != FORMAT:
        raise _corrupt(path, f"expected array file format {FORMAT}, got {index.format}")
    batch = reader.get_batch(0)
    buffers: list[pa.Buffer | None] = []
    for number, entry in enumerate(index.arrays):
        buffer = batch.column(number).values.buffers()[1]
        needed = prod(entry.shape) * np.dtype(entry.dtype).itemsize
        size = buffer.size if buffer is not None else 0
        if size < needed:
            raise _corrupt(path, f"expected {needed} bytes of {entry.name!r}, got {size}")
        buffers.append(buffer)
    return index, buffers


def _spans(path: Path) -> tuple[Index, list[int]]:
    """The verified index and each array's offset in the file."""
    with pa.memory_map(str(path)) as mapped:
        index, buffers = _parse(path, mapped)
        mapped.seek(0)
        start = mapped.read_buffer(1).address
        return index, [0 if buffer is None else buffer.address - start for buffer in buffers]


def _read_into(handle: int, flat: np.ndarray, offset: int) -> None:
    done = 0
    while done < len(flat):
        count = os.preadv(handle, [flat[done : done + PIECE_BYTES].data], offset + done)
        if count == 0:
            raise OSError(f"the file ends {len(flat) - done} bytes early")
        done += count


def _check(path: Path, entry: ArrayEntry, array: np.ndarray) -> None:
    found = _digest(array.reshape(-1))
    if found != entry.check:
        raise _corrupt(
            path, f"expected checksum {entry.check:016x} of {entry.name!r}, got {found:016x}"
        )


def _digest(flat: np.ndarray) -> int:
    """The xxh3-64 of an array's bytes. In pieces: a call keeps all other threads waiting."""
    whole, left = xxhash.xxh3_64(), flat.view(np.uint8).data
    for start in range(0, len(left), HASH_BYTES):
        whole.update(left[start : start + HASH_BYTES])
    return whole.intdigest()


def _corrupt(path: Path, fault: str) -> CorruptLog:
    return CorruptLog(f"{fault} - at {path}; delete it: it is derived from the log")
