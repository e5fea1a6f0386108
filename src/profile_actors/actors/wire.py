"""What crosses between a driver and a partition as bytes: sub-batches, and answers of reads.

Theory: Ray pickles an Arrow table column by column in Python (1.6 ms for a single row of ten
columns) and asks a Python function about each object of an answer. One event at a time would spend
most of its latency there. So a sub-batch travels as a header and one Arrow IPC stream (0.03 ms): in
one text of bytes if it is small, else beside it in a buffer that Ray maps without copying. Answers
are pickled here, by the C pickler; small arrays in them as their bytes, which NumPy's own way of
saying it takes ten times as long for.

A sliced table is cut to its own rows by the IPC writer, never sent with its parent.
"""

from __future__ import annotations

import io
import pickle
from collections.abc import Callable
from dataclasses import fields, replace
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa

from profile_actors.engine.log.entry import to_stream
from profile_actors.engine.log.sub_batch import SubBatch

SMALL_BYTES = 65_536
"""Up to this many bytes rows travel inside the header: below what Ray keeps out of its store."""


_NAMES = tuple(field.name for field in fields(SubBatch) if field.name != "table")


_HEADER = msgspec.msgpack.Decoder(tuple[list[Any], bytes | None])


def pack(batch: SubBatch) -> tuple[bytes, pa.Buffer | None]:
    """A sub-batch as a header, and its rows if they do not fit into it. Inverse: ``unpack``."""
    head = [getattr(batch, name) for name in _NAMES]
    if batch.table is None:
        return msgspec.msgpack.encode((head, None)), None
    rows = to_stream(batch.table)
    if rows.size > SMALL_BYTES:
        return msgspec.msgpack.encode((head, None)), rows
    return msgspec.msgpack.encode((head, memoryview(rows))), None


def unpack(header: bytes, rows: pa.Buffer | None) -> SubBatch:
    """The sub-batch, its table in one chunk."""
    head, small = _HEADER.decode(header)
    batch = SubBatch(**dict(zip(_NAMES, head, strict=True)))
    stream = small if rows is None else rows
    if stream is None:
        return batch
    table = pa.ipc.open_stream(stream).read_all()
    return replace(batch, table=table if table[0].num_chunks == 1 else table.combine_chunks())


def dumps(answer: Any) -> bytes:
    """An answer of plain data, structs and arrays. Arrays come back read-only."""
    out = io.BytesIO()
    pickler = pickle.Pickler(out, pickle.HIGHEST_PROTOCOL)
    pickler.dispatch_table = _REDUCERS
    pickler.dump(answer)
    return out.getvalue()


def loads(data: bytes) -> Any:
    """The inverse of ``dumps``; only for what an actor of this store has sent."""
    return pickle.loads(data)


def _reduced(array: np.ndarray[Any, np.dtype[Any]]) -> Any:
    if array.nbytes > SMALL_BYTES or array.dtype.hasobject:
        return array.__reduce_ex__(pickle.HIGHEST_PROTOCOL)
    return _array, (array.tobytes(), array.dtype.str, array.shape)


def _array(data: bytes, kind: str, shape: tuple[int, ...]) -> Any:
    found = np.frombuffer(data, kind)
    return found if len(shape) == 1 else found.reshape(shape)


_REDUCERS: dict[type, Callable[[Any], Any]] = {np.ndarray: _reduced}
