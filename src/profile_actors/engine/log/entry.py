"""A log entry: an envelope that is the truth, and aligned parts that hold the rows (format).

    b"PAE1" | uint32 envelope size | envelope (msgpack of ``Envelope``) | parts, each 64-byte
    aligned

Parts are raw little-endian arrays or Arrow IPC streams; the envelope lists their offsets from the
entry's first byte rounded up past the envelope. A rows entry has one *block* per dataset: payload
columns as they came (with @timestamp, @id, @type and, where rows have several identities, @others:
the ground on which identities are joined; in full, with their keys, since no ident is given for
them), the idents of the rows, and the permutation that sorts them by (ident, timestamp). Entries
are self-contained: new identities and whole definitions stand in them.

Rules for editors: a new kind or field is added with a default; an unknown kind or a newer format
refuses to open, and is never skipped. What sequencers tell each other (DESIGN section 10) stands
in ``Mail``: numbers in the envelope, operations in two parts, which ``engine/identity`` writes and
reads.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import msgspec
import numpy as np
import pyarrow as pa

from profile_actors.columnar.vectors import Array, buffer_of, one_array
from profile_actors.engine.log.ports import Buffer
from profile_actors.errors import UNDECODED, CorruptLog
from profile_actors.ingest.hidden_columns import K0, TIMESTAMP
from profile_actors.ingest.offsets import packed, ranges_of, union, unpacked

MAGIC = b"PAE1"


FORMAT = 4
"""Newest format that is read. An entry says the oldest that understands it: 1, 2 where notes say
what format 1 would leave out, 3 where it speaks of anonymous connections, or 4 where it took or
sent messages (of kind 'ledger': always), or has rows of lookup datasets, which have no idents."""


ALIGN = 64


FEW_ROWS = 512
"""Tables of up to so many rows are written into a sink that grows."""


STREAM = pa.ipc.IpcWriteOptions()
"""Made once: from a stream without options Arrow looks for them in the environment each time."""


KINDS = ("rows", "clock", "slice", "definition", "expiry", "mail", "ledger")


class BatchNote(msgspec.Struct, frozen=True, array_like=True):
    """One sub-batch of the entry: the producer's rows [after, through) and what became of them.

    credit: (producer, rows), a named stream that goes on by them besides. rejected: offsets that
    the range passed over, packed (``ingest.offsets``), counted from 0 at the first credited row.
    repair: (attempt, step, offsets) of a note that is no range but a step of a repair
    (``repairs``). rows: which rows were duplicate or late, where the sender had to know; token: the
    sub-batch's; older readers pass over both.
    """

    dataset: str
    producer: str
    after: int | None
    through: int
    accepted: int
    duplicate: int
    late: int
    credit: tuple[str, int] | None = None
    rejected: bytes = b""
    repair: tuple[int, str, bytes] | None = None
    rows: tuple[bytes, bytes] | None = None
    token: int = 0

    @property
    def format(self) -> int:
        """The oldest format that says this."""
        return 2 if self.credit or self.rejected or self.repair else 1

    def counting(self, offsets: Array, *, duplicate: bool) -> BatchNote:
        """The note with accepted rows counted as duplicates instead, or as late besides."""
        count, rows = len(offsets), self.rows
        if rows is not None:
            told, at = list(rows), 0 if duplicate else 1
            told[at] = packed(union(unpacked(told[at]), ranges_of(offsets)))
            rows = told[0], told[1]
        if duplicate:
            moved = {"accepted": self.accepted - count, "duplicate": self.duplicate + count}
        else:
            moved = {"late": self.late + count}
        return msgspec.structs.replace(self, rows=rows, **moved)


class BlockNote(msgspec.Struct, frozen=True, array_like=True):
    """Where one dataset's rows stand: indexes of the parts."""

    dataset: str
    rows: int
    idents: int
    order: int
    table: int


class Hearing(msgspec.Struct, frozen=True, array_like=True):
    """What an entry says of anonymous connections (``connections``): the wall clock's ms, which
    have closed, and which are forgotten."""

    wall: int
    closed: tuple[str, ...] = ()
    forgotten: tuple[str, ...] = ()


Received = tuple[str, int, int]  # a message that an entry took: source, number, sender's ms
Sent = tuple[str, int]  # one that it sends: destination, number


class Mail(NamedTuple):
    """Messages of an entry. received_ops, sent_ops: what they say, as bytes of
    ``identity.messages`` (of each message, in the order of ``received``, of ``sent``); empty where
    nothing is said. The rows that came with them are blocks of the entry, those that go out are
    found by their log positions."""

    received: tuple[Received, ...] = ()
    sent: tuple[Sent, ...] = ()
    received_ops: bytes = b""
    sent_ops: bytes = b""


NO_MAIL = Mail()


class Envelope(msgspec.Struct, frozen=True, array_like=True):
    """All that an entry says besides its rows. now: ms. identities: (first ident, part) or None.
    parts: (offset, size) pairs. definition: the catalogue's canonical JSON, for its kind only.
    slots: of kind 'slice': those from the first up to the second, of so many (``clock_steps``).
    received, sent, ops: its ``Mail``; ops are indexes of parts, -1 where there is none."""

    format: int
    kind: str
    epoch: int
    now: int
    catalogue: int
    batches: tuple[BatchNote, ...] = ()
    identities: tuple[int, int] | None = None
    blocks: tuple[BlockNote, ...] = ()
    parts: tuple[tuple[int, int], ...] = ()
    definition: bytes = b""
    received: tuple[Received, ...] = ()
    sent: tuple[Sent, ...] = ()
    slots: tuple[int, int, int] | None = None
    hearing: Hearing | None = None
    ops: tuple[int, int] = (-1, -1)


@dataclass(slots=True)
class Block:
    """One dataset's rows of an entry. idents: int64[n]; order: int64[n], sorts by (ident,
    timestamp); timestamps: int64[n]; table: payload and hidden columns, n rows. late: bool[n],
    rows older than the newest of their identity before this entry, when that is known already."""

    dataset: str
    table: pa.Table
    idents: Array
    order: Array
    timestamps: Array
    late: Array | None = None

    @property
    def rows(self) -> int:
        return len(self.idents)


@dataclass(slots=True)
class NewIdentities:
    """Identities that an entry names for the first time; idents follow ``first``."""

    first: int
    table: pa.Table  # @k0, @k1, @namespace (string), @value


@dataclass(slots=True)
class Entry:
    """A decoded entry. Arrays may be views of the log's memory: they die with its context."""

    envelope: Envelope
    identities: NewIdentities | None
    blocks: list[Block]
    mail: Mail = NO_MAIL


def encode(
    kind: str,
    epoch: int,
    now: int,
    catalogue: int,
    batches: tuple[BatchNote, ...] = (),
    identities: NewIdentities | None = None,
    blocks: list[Block] | None = None,
    definition: bytes = b"",
    slots: tuple[int, int, int] | None = None,
    hearing: Hearing | None = None,
    mail: Mail = NO_MAIL,
) -> list[Buffer]:
    """The parts whose concatenation is the entry. Row data is not copied here."""
    bodies: list[Buffer] = []
    identity_note = None
    if identities is not None:
        identity_note = (identities.first, len(bodies))
        bodies.append(memoryview(to_stream(identities.table)))
    notes = []
    for block in blocks or ():
        first = len(bodies)
        bodies += [
            np.ascontiguousarray(block.idents, np.uint32).tobytes(),
            block.order.astype(np.uint32).tobytes(),
            memoryview(to_stream(block.table)),
        ]
        notes.append(BlockNote(block.dataset, block.rows, first, first + 1, first + 2))
    ops = []
    for told in (mail.received_ops, mail.sent_ops):
        ops.append(len(bodies) if told else -1)
        bodies += [told] if told else []
    offset, spans = 0, []
    for body in bodies:
        spans.append((offset, len(body)))
        offset += _padded(len(body))
    form = max([1 if hearing is None else 3, *(note.format for note in batches)])
    names_itself = any(K0 in block.table.column_names for block in blocks or ())
    if kind == "ledger" or mail != NO_MAIL or names_itself:
        form = 4
    envelope = msgspec.msgpack.encode(
        Envelope(
            form, kind, epoch, now, catalogue, batches, identity_note, tuple(notes), tuple(spans),
            definition, mail.received, mail.sent, slots, hearing, (ops[0], ops[1]),
        )
    )  # fmt: skip
    head = MAGIC + len(envelope).to_bytes(4, "little") + envelope
    parts: list[Buffer] = [head, bytes(_padded(len(head)) - len(head))]
    for body in bodies:
        parts += [body, bytes(_padded(len(body)) - len(body))]
    return parts


def decode(view: memoryview, where: str) -> Entry:
    """Read an entry without copying row data. where: named in errors. Raises CorruptLog."""
    envelope, base = read_envelope(view, where)

    def part(index: int) -> memoryview:
        offset, size = envelope.parts[index]
        return view[base + offset : base + offset + size]

    identities = None
    if envelope.identities is not None:
        first, index = envelope.identities
        identities = NewIdentities(first, table_of(part(index)))
    blocks = []
    for note in envelope.blocks:
        table = table_of(part(note.table))
        blocks.append(
            Block(
                note.dataset,
                table,
                np.frombuffer(part(note.idents), np.uint32).astype(np.int64),
                np.frombuffer(part(note.order), np.uint32).astype(np.int64),
                times_of(table),
            )
        )
    return Entry(envelope, identities, blocks, mail_of(view, envelope, base))


def read_mail(view: memoryview, where: str) -> tuple[Envelope, Mail]:
    """An entry's envelope and its messages; no rows are opened. Raises CorruptLog."""
    envelope, base = read_envelope(view, where)
    return envelope, mail_of(view, envelope, base)


def mail_of(view: memoryview, envelope: Envelope, base: int) -> Mail:
    """The messages of an entry; their bytes are copies."""
    if not (envelope.received or envelope.sent):
        return NO_MAIL

    def told(index: int) -> bytes:
        if index < 0:
            return b""
        offset, size = envelope.parts[index]
        return bytes(view[base + offset : base + offset + size])

    received, sent = envelope.ops
    return Mail(envelope.received, envelope.sent, told(received), told(sent))


class BlockRows(NamedTuple):
    """A block's rows alone, without idents and order."""

    dataset: str
    table: pa.Table


class BlockPart(NamedTuple):
    """A block in an entry's bytes. first: the number of its first row; stream: its table's bytes,
    which stay readable after the view that they are of."""

    dataset: str
    first: int
    rows: int
    stream: memoryview


def block_parts(view: memoryview, where: str) -> list[BlockPart]:
    """The blocks of an entry, none of them opened. Raises CorruptLog."""
    envelope, start = read_envelope(view, where)
    out, first = [], 0
    for note in envelope.blocks:
        offset, size = envelope.parts[note.table]
        stream = view[start + offset : start + offset + size]
        out.append(BlockPart(note.dataset, first, note.rows, stream))
        first += note.rows
    return out


def blocks_of_rows(view: memoryview, where: str, rows: Array) -> Iterator[tuple[BlockRows, Array]]:
    """The blocks that hold these rows of an entry, each with those rows' numbers in it.

    rows: int64[n] ascending. Only the tables of those blocks are opened. Raises CorruptLog.
    """
    for part in block_parts(view, where):
        low, high = rows.searchsorted((part.first, part.first + part.rows)).tolist()
        if high > low:
            yield BlockRows(part.dataset, table_of(part.stream)), rows[low:high] - part.first


# Made once, here: msgspec works out a struct's types at its first use, and two threads that do so
# at the same time can crash the process.
_ENVELOPE = msgspec.msgpack.Decoder(Envelope)


def read_envelope(view: memoryview, where: str) -> tuple[Envelope, int]:
    """The envelope alone, and the offset from which its parts count. Raises CorruptLog."""
    if bytes(view[:4]) != MAGIC:
        raise CorruptLog(
            f"expected an entry that begins with {MAGIC!r}, got other bytes - at {where}"
        )
    size = int.from_bytes(view[4:8], "little")
    try:
        envelope = _ENVELOPE.decode(view[8 : 8 + size])
    except UNDECODED as error:
        raise CorruptLog(f"expected an entry envelope, got {error} - at {where}") from None
    if envelope.format > FORMAT or envelope.kind not in KINDS:
        raise CorruptLog(
            f"expected format <= {FORMAT} and kind in {KINDS}, got {envelope.format} and"
            f" {envelope.kind!r} - at {where}; it was written by a newer version: upgrade"
        )
    return envelope, _padded(8 + size)


def integers(table: pa.Table, name: str, dtype: type = np.int64) -> Array:
    """A column of 64-bit integers without nulls."""
    return buffer_of(one_array(table.column(name)), dtype)


def times_of(table: pa.Table) -> Array:
    """The @timestamp column. int64[n] ms."""
    return integers(table, TIMESTAMP)


def _padded(size: int) -> int:
    return (size + ALIGN - 1) // ALIGN * ALIGN


def to_stream(table: pa.Table) -> pa.Buffer:
    """A table as an Arrow IPC stream, in one allocation.

    Its size is measured first: a sink that grows copies what it has at every step (10 to 20 ns a
    row against 3 to 5). For few rows a copy costs less than to write them twice.
    """
    if table.num_rows <= FEW_ROWS:
        growing = pa.BufferOutputStream()
        _write_stream(growing, table)
        return growing.getvalue()
    measure = pa.MockOutputStream()
    _write_stream(measure, table)
    buffer = pa.allocate_buffer(measure.size())
    _write_stream(pa.FixedSizeBufferWriter(buffer), table)
    return buffer


def _write_stream(sink: pa.NativeFile, table: pa.Table) -> None:
    with pa.RecordBatchStreamWriter(sink, table.schema, options=STREAM) as writer:
        writer.write_table(table)


def table_of(stream: memoryview) -> pa.Table:
    """The table whose Arrow IPC stream this is; nothing is copied."""
    return pa.ipc.open_stream(pa.py_buffer(stream)).read_all()
