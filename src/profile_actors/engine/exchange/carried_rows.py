"""The rows that messages carry, read from the sender's log when they travel, as often as they do.

Theory: what an entry tells says which rows go along, never the rows themselves. ROWS are all of an
identity at positions of the log, found by the locators; FLOW are rows of the entry itself.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager

import numpy as np
import pyarrow as pa
from msgspec import structs

from profile_actors.columnar.vectors import Array
from profile_actors.engine.fold.state import State, of_profiles
from profile_actors.engine.identity.messages import (
    FLOW,
    ROWS,
    Message,
    Op,
    decode_ops_of,
    unpack_flow,
)
from profile_actors.engine.log.entry import (
    Block,
    blocks_of_rows,
    decode,
    read_mail,
    to_stream,
)
from profile_actors.engine.log.ports import Log
from profile_actors.engine.log.row_locator import rows_of_all
from profile_actors.ingest.hidden_columns import K0, K1, NAMESPACE, VALUE

OP = "@op"


B0, B1 = "@b0", "@b1"


OUTGOING_BYTES = 8 << 20
"""Messages that travel together end after so many bytes; one that is larger goes alone."""


def is_copy(block: Block) -> bool:
    """Whether a block of profiles' rows came for books: they say whose they are."""
    return K0 in block.table.column_names


def outgoing(
    state: State,
    log: Log,
    lock: AbstractContextManager[object],
    name: str,
    to: str,
    after: int,
    limit: int,
) -> list[Message]:
    """The messages to one destination from number ``after`` + 1 on, at most ``limit``, and at least
    one if there is one; they end where they get large.

    name: the partition's own. Any thread. Cost: the rows that they carry are read from the log,
    without the lock: what is there never changes.
    """
    mailbox = state.homes.mailbox
    with lock:
        newest = min(mailbox.heads().get(to, 0), after + limit)
        places = [
            (number, mailbox.position_of(to, number)) for number in range(after + 1, newest + 1)
        ]
    out: list[Message] = []
    size = 0
    for number, position in places:
        if size > OUTGOING_BYTES:
            break
        where = f"position {position}"
        with log.view(position) as view:
            envelope, mail = read_mail(view, where)
        told = decode_ops_of(to, mail.sent_ops, where)
        blocks = _rows(state, log, lock, told)
        flow = [op for op in told if op.kind == FLOW]
        if flow:
            blocks += _flow(state, log, lock, position, flow[0])
            told = tuple(structs.replace(op, data=b"") if op.data else op for op in told)
        out.append(Message(name, number, envelope.now, envelope.catalogue, told, blocks))
        size += len(mail.sent_ops) + sum(len(stream) for _, stream in blocks)
    return out


def _rows(
    state: State, log: Log, lock: AbstractContextManager[object], ops: Sequence[Op]
) -> tuple[tuple[str, bytes], ...]:
    """The rows that ROWS operations carry, one table per dataset and shape."""
    carrying = [(at, op) for at, op in enumerate(ops) if op.kind == ROWS and op.high > op.low]
    if not carrying:
        return ()
    keys = np.array([op.one.key for _, op in carrying if op.one is not None], np.uint64)
    with lock:
        idents = state.directory.find(keys[:, 0], keys[:, 1])
        locators = (state.locator.runs, state.record_locator.runs)
    low = np.array([op.low for _, op in carrying])
    high = np.array([op.high for _, op in carrying])
    pieces: dict[tuple[str, pa.Schema], list[tuple[pa.Table, Array]]] = {}
    known = (idents >= 0).nonzero()[0]
    for runs in locators:
        owners, positions, rows = rows_of_all(runs, idents[known].astype(np.int64))
        of = known[owners]
        wanted = (positions > low[of]) & (positions <= high[of])
        of, positions, rows = of[wanted], positions[wanted], rows[wanted]
        order = np.lexsort((rows, positions))
        of, positions, rows = of[order], positions[order], rows[order].astype(np.int64)
        for position in np.unique(positions).tolist():
            begin, end = np.searchsorted(positions, [position, position + 1]).tolist()
            with log.view(position) as view:
                for block, local in blocks_of_rows(view, f"position {position}", rows[begin:end]):
                    part = block.table.take(pa.array(local))
                    key = block.dataset, part.schema
                    pieces.setdefault(key, []).append((part, of[begin : begin + len(local)]))
                    begin += len(local)
    number = np.array([at for at, _ in carrying], np.int32)
    out = []
    for (dataset, _), parts in pieces.items():
        of = np.concatenate([whose for _, whose in parts])
        table = pa.concat_tables([part for part, _ in parts]).combine_chunks()
        for name, values in _whose([op for _, op in carrying], of):
            table = table.append_column(name, values)
        table = table.append_column(OP, pa.array(number[of]))
        out.append((dataset, to_stream(table).to_pybytes()))
    return tuple(out)


def _flow(
    state: State, log: Log, lock: AbstractContextManager[object], position: int, op: Op
) -> tuple[tuple[str, bytes], ...]:
    """The rows of an entry that go to one peer's books."""
    ones, books = unpack_flow(op.data)
    directory = state.directory
    with lock:
        idents = directory.find(ones[:, 0], ones[:, 1]).astype(np.int64)
        ones, books, idents = (half[idents >= 0] for half in (ones, books, idents))
        spaces, ends, data = directory.packed(idents)
        codes = pa.array(directory.namespaces, pa.string())
    values = pa.StringArray.from_buffers(
        len(ends), pa.py_buffer(np.append(0, ends).astype(np.int32)), pa.py_buffer(data)
    )
    order = idents.argsort()
    if not len(order):
        return ()
    sorted_idents = idents[order]
    out = []
    with log.view(position) as view:
        for block in of_profiles(state, decode(view, f"position {position}").blocks):
            if is_copy(block):
                continue
            at = np.minimum(sorted_idents.searchsorted(block.idents), len(order) - 1)
            rows = np.flatnonzero(sorted_idents[at] == block.idents)
            if not len(rows):
                continue
            of = order[at[rows]]
            index = pa.array(of.astype(np.int32))
            table = block.table.take(pa.array(rows))
            for name, column in (
                (K0, pa.array(ones[of, 0])),
                (K1, pa.array(ones[of, 1])),
                (NAMESPACE, pa.DictionaryArray.from_arrays(spaces[of].astype(np.int32), codes)),
                (VALUE, pa.DictionaryArray.from_arrays(index, values)),
                (B0, pa.array(books[of, 0])),
                (B1, pa.array(books[of, 1])),
            ):
                table = table.append_column(name, column)
            out.append((block.dataset, to_stream(table.combine_chunks()).to_pybytes()))
    return tuple(out)


def _whose(ops: Sequence[Op], of: Array) -> Iterable[tuple[str, pa.Array]]:
    """The primary identities of rows, as columns."""
    named = [op.one for op in ops if op.one is not None]
    rows = pa.array(of)
    yield K0, pa.array([one.k0 for one in named], pa.uint64()).take(rows)
    yield K1, pa.array([one.k1 for one in named], pa.uint64()).take(rows)
    for name, texts in (
        (NAMESPACE, [one.namespace for one in named]),
        (VALUE, [one.value for one in named]),
    ):
        yield name, pa.array(texts, pa.string()).dictionary_encode().take(rows)
