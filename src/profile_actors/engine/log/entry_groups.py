"""Many small entries kept as one: their bytes, compressed, and their rows in few tables (format).

Theory: an entry of one row is 1.3 kB, nearly all of it said by every other one as well, and a page
of a person's events opens as many entries as it has rows. So entries that follow each other are put
into a *group*, in two forms at once:

- as they are, byte for byte, compressed in chunks: whoever views an entry sees what was written;
- their rows once more, one table per dataset and shape, ordered by (ident, timestamp), with the
  place of every row of every entry: whoever reads rows at log positions opens tables, and a
  person's rows lie side by side in them.

The bytes are the truth, the tables are made from them. Rejected: tables alone, entries made from
them again when viewed; those were the bytes of today's Arrow only as long as Arrow writes the same,
and checksums, copies and erasure compare bytes.

    b"PAG1" | uint32 note size | note (msgpack of ``GroupNote``) | parts, each 64-byte aligned

Rules for editors: a field is added with a default; a newer format refuses to open.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import msgspec
import numpy as np
import pyarrow as pa
import xxhash

from profile_actors.columnar.vectors import Array
from profile_actors.engine.log.entry import Block, decode, table_of, to_stream
from profile_actors.engine.log.ports import Buffer
from profile_actors.errors import UNDECODED, CorruptLog
from profile_actors.ingest.hidden_columns import OTHERS, ROW

MAGIC = b"PAG1"


FORMAT = 1


ALIGN = 64


CHUNK_BYTES = 48 << 10
"""Of entries that are compressed together: a view of one takes some 50 us for all of them."""


MAX_ENTRY_BYTES = 32 << 10
"""Larger entries stay alone: they have few bytes that others have too."""


MAX_ENTRIES = 1 << 13


MAX_BYTES = 32 << 20
"""Of entries, not compressed: what the making of a group holds in memory."""


CODEC = pa.Codec("zstd", compression_level=3)
"""Single events: 1,450 bytes become 34. Level 9 makes no fewer of them."""


FEW_BLOCKS = 128


DROPPED = frozenset((ROW, OTHERS))
"""Hidden columns that nobody asks for by a row's place in the log."""


KEPT_CHUNKS = 4
"""Of a group, decompressed: of whoever reads on, and of who comes from elsewhere meanwhile."""


class GroupNote(msgspec.Struct, frozen=True, array_like=True):
    """tables: (dataset, rows) of each. parts: (offset, size) pairs, from the first byte after the
    note, rounded up: lengths, digests, chunk ends, rows before, places; then the tables, then the
    chunks."""

    format: int
    first: int
    entries: int
    tables: tuple[tuple[str, int], ...]
    parts: tuple[tuple[int, int], ...]


_NOTE = msgspec.msgpack.Decoder(GroupNote)


def is_group(content: Buffer) -> bool:
    """Whether a stored value is a group of entries, and not one entry."""
    return bytes(content[:4]) == MAGIC


def digest_of(position: int, content: Buffer) -> int:
    """The checksum of an entry that is stored alone: xxh3-64, seeded with its position."""
    return xxhash.xxh3_64_intdigest(content, seed=position)


class Packing:
    """A group in the making: entries one after another from position ``first`` on, then ``parts``.

    Cost: some 150 us an entry, most of it for opening its table; a ms per thousand at the end.
    """

    def __init__(self, first: int) -> None:
        self.first = first
        self.bytes = 0
        self._lengths: list[int] = []
        self._digests: list[int] = []
        self._before = [0]
        self._shapes: dict[tuple[str, pa.Schema], _Shape] = {}
        self._chunks: list[Buffer] = []
        self._ends: list[int] = []
        self._waiting: list[Buffer] = []
        self._waiting_bytes = 0

    @property
    def end(self) -> int:
        """One past the last position."""
        return self.first + len(self._lengths)

    @property
    def is_full(self) -> bool:
        return len(self._lengths) >= MAX_ENTRIES or self.bytes >= MAX_BYTES

    def add(self, view: memoryview) -> None:
        """The next entry; its bytes may be gone afterwards. Raises CorruptLog for what is none."""
        kept = bytes(view)
        number = self._before[-1]
        for block in decode(memoryview(kept), f"position {self.end}").blocks:
            schema = block.table.schema
            self._shapes.setdefault((block.dataset, schema), _Shape(schema)).add(number, block)
            number += block.rows
        self._digests.append(digest_of(self.end, kept))
        self._lengths.append(len(kept))
        self._before.append(number)
        self._waiting += [kept, bytes(_padded(len(kept)) - len(kept))]
        self.bytes += _padded(len(kept))
        self._waiting_bytes += _padded(len(kept))
        if self._waiting_bytes >= CHUNK_BYTES:
            self._compress()

    def _compress(self) -> None:
        """The entries that wait, each at a multiple of ALIGN in their chunk."""
        self._chunks.append(CODEC.compress(b"".join(self._waiting), asbytes=True))
        self._ends.append(len(self._lengths))
        self._waiting, self._waiting_bytes = [], 0

    def parts(self) -> list[Buffer]:
        """What is concatenated to the group."""
        if self._waiting:
            self._compress()
        places = np.zeros(self._before[-1], np.uint32)
        tables: list[tuple[str, pa.Table]] = []
        done = 0
        for (dataset, _), shape in self._shapes.items():
            table, numbers = shape.ordered()
            places[numbers] = np.arange(done, done + len(numbers))
            tables.append((dataset, table))
            done += len(numbers)
        bodies: list[Buffer] = [
            np.array(self._lengths, np.uint32).tobytes(),
            np.array(self._digests, np.uint64).tobytes(),
            np.array(self._ends, np.uint32).tobytes(),
            np.array(self._before, np.uint32).tobytes(),
            places.tobytes(),
            *(memoryview(to_stream(table)) for _, table in tables),
            *self._chunks,
        ]
        offset, spans = 0, []
        for body in bodies:
            spans.append((offset, len(body)))
            offset += _padded(len(body))
        named = tuple((dataset, table.num_rows) for dataset, table in tables)
        note = GroupNote(FORMAT, self.first, len(self._lengths), named, tuple(spans))
        written = msgspec.msgpack.encode(note)
        head = MAGIC + len(written).to_bytes(4, "little") + written
        parts: list[Buffer] = [head, bytes(_padded(len(head)) - len(head))]
        for body in bodies:
            parts += [body, bytes(_padded(len(body)) - len(body))]
        return parts


class _Shape:
    """Rows of one dataset with the same columns, put together a few blocks at a time: Arrow takes
    30 us a block for that, which would else come all at the end."""

    def __init__(self, schema: pa.Schema) -> None:
        self._names = [name for name in schema.names if name not in DROPPED]
        self._few: list[tuple[int, Block]] = []
        self._many: list[tuple[pa.Table, Array, Array, Array]] = []

    def add(self, number: int, block: Block) -> None:
        """number: of the block's first row."""
        self._few.append((number, block))
        if len(self._few) >= FEW_BLOCKS:
            self._gather()

    def _gather(self) -> None:
        whole = pa.concat_tables([block.table.select(self._names) for _, block in self._few])
        self._many.append((
            whole.unify_dictionaries().combine_chunks(),
            np.concatenate([np.arange(at, at + block.rows) for at, block in self._few]),
            np.concatenate([block.idents for _, block in self._few]),
            np.concatenate([block.timestamps for _, block in self._few]),
        ))  # fmt: skip
        self._few = []

    def ordered(self) -> tuple[pa.Table, Array]:
        """All of them, ordered by (ident, timestamp), and their numbers."""
        if self._few:
            self._gather()
        tables, *columns = zip(*self._many, strict=True)
        numbers, idents, times = (np.concatenate(column) for column in columns)
        order = np.lexsort((times, idents))
        whole = pa.concat_tables(tables).unify_dictionaries().combine_chunks()
        return whole.take(pa.array(order)).combine_chunks(), numbers[order]


class Group:
    """A group, opened. Any thread; what is read from it stays readable while its bytes do.

    content: the value's bytes. where: named in errors. Raises CorruptLog.
    """

    def __init__(self, content: memoryview, where: str) -> None:
        size = int.from_bytes(content[4:8], "little")
        try:
            self.note = _NOTE.decode(content[8 : 8 + size])
        except UNDECODED as error:
            raise CorruptLog(f"expected a group of entries, got {error} - at {where}") from None
        if self.note.format > FORMAT:
            raise CorruptLog(
                f"expected group format <= {FORMAT}, got {self.note.format} - at {where}; it was"
                " written by a newer version: upgrade"
            )
        self._content, self._base, self._where = content, _padded(8 + size), where
        self.first, self.end = self.note.first, self.note.first + self.note.entries
        self._lengths = np.frombuffer(self._part(0), np.uint32)
        self._digests = np.frombuffer(self._part(1), np.uint64)
        self._chunk_ends = np.frombuffer(self._part(2), np.uint32)
        self._before = np.frombuffer(self._part(3), np.uint32)
        self._places = np.frombuffer(self._part(4), np.uint32)
        self._table_ends = np.cumsum([rows for _, rows in self.note.tables], dtype=np.int64)
        self._recent: tuple[tuple[int, memoryview, Array], ...] = ()

    def _part(self, index: int) -> memoryview:
        offset, size = self.note.parts[index]
        return self._content[self._base + offset : self._base + offset + size]

    @property
    def entry_bytes(self) -> int:
        """Of all entries together, when they are stored alone."""
        return int(self._lengths.sum(dtype=np.int64))

    def digest(self, position: int) -> int:
        """The checksum that an entry has when it is stored alone."""
        return int(self._digests[position - self.first])

    def entry(self, position: int) -> memoryview:
        """An entry's bytes. Cost: some 50 us, unless its chunk was read just now.

        Raises CorruptLog if they are not those that were put in.
        """
        view = self._view(position)
        if digest_of(position, view) != self.digest(position):
            raise CorruptLog(
                f"expected checksum {self.digest(position):016x}, got"
                f" {digest_of(position, view):016x} - at {self._where}"
            )
        return view

    def stored(self, position: int) -> tuple[int, bytes]:
        """An entry's checksum, and its bytes as they are, none if they are beyond reading.

        Of a damaged group: raises IndexError, ValueError where it has no sense.
        """
        try:
            return self.digest(position), bytes(self._view(position))
        except CorruptLog:
            return self.digest(position), b""

    def _view(self, position: int) -> memoryview:
        index = position - self.first
        chunk = int(self._chunk_ends.searchsorted(index, side="right"))
        begin = 0 if chunk == 0 else int(self._chunk_ends[chunk - 1])
        data, offsets = self._chunk(chunk, begin)
        at, size = int(offsets[index - begin]), int(self._lengths[index])
        return data[at : at + size]

    def _chunk(self, chunk: int, begin: int) -> tuple[memoryview, Array]:
        """A chunk decompressed, and where its entries begin in it."""
        for number, data, offsets in self._recent:
            if number == chunk:
                return data, offsets
        lengths = self._lengths[begin : int(self._chunk_ends[chunk])].astype(np.int64)
        ends = np.cumsum((lengths + ALIGN - 1) // ALIGN * ALIGN)
        part = self._part(5 + len(self.note.tables) + chunk)
        try:
            data = memoryview(CODEC.decompress(part, int(ends[-1]))).cast("B")
        except (pa.ArrowException, OSError) as error:
            raise CorruptLog(
                f"expected compressed entries, got '{error}' - at {self._where}"
            ) from None
        offsets = np.append(0, ends[:-1])
        self._recent = ((chunk, data, offsets), *self._recent[: KEPT_CHUNKS - 1])
        return data, offsets

    def located(self, positions: Array, rows: Array) -> tuple[Array, Array]:
        """(table, place in it) of rows of entries. positions, rows: int64[n]."""
        places = self._places[self._before[positions - self.first] + rows].astype(np.int64)
        tables = self._table_ends.searchsorted(places, side="right")
        return tables, places - np.append(0, self._table_ends)[tables]

    def shapes(self) -> tuple[tuple[str, int], ...]:
        """(dataset, rows) of each table."""
        return self.note.tables

    def stream(self, table: int) -> memoryview:
        """A table as an Arrow stream; its columns are those of the entries' rows, without
        DROPPED."""
        return self._part(5 + table)


def compared(group: Group, view: Callable[[int], memoryview]) -> Iterator[int | None]:
    """Whether a group says what its entries say: None now and then, after some ms of work, and the
    position of an entry of which it does not, or near it; at the end nothing.

    view: an entry as it was. Cost: some 120 us an entry.
    """
    waiting: dict[tuple[str, pa.Schema], list[tuple[int, int, Block]]] = {}
    for position in range(group.first, group.end):
        whole = view(position)
        if bytes(group.entry(position)) != bytes(whole):
            yield position
        number = 0
        for block in decode(whole, f"position {position}").blocks:
            few = waiting.setdefault((block.dataset, block.table.schema), [])
            few.append((position, number, block))
            number += block.rows
            if len(few) >= FEW_BLOCKS:
                yield None if _says(group, few) else position
                few.clear()
        if position % FEW_BLOCKS == 0:
            yield None
    for few in waiting.values():
        yield None if not few or _says(group, few) else few[0][0]


def _says(group: Group, few: list[tuple[int, int, Block]]) -> bool:
    """Whether the tables have these blocks' rows; each after its position, and the number of its
    first row."""
    (_, _, one), *_ = few
    positions = np.repeat([at for at, _, _ in few], [block.rows for _, _, block in few])
    rows = np.concatenate([np.arange(at, at + block.rows) for _, at, block in few])
    tables, places = group.located(positions, rows)
    if not len(tables):
        return True
    number = int(tables[0])
    if (tables != number).any() or group.shapes()[number][0] != one.dataset:
        return False
    table = table_of(group.stream(number))
    expected = pa.concat_tables([block.table.select(table.column_names) for _, _, block in few])
    return bool(_plain(table.take(pa.array(places))).equals(_plain(expected)))


def _plain(table: pa.Table) -> pa.Table:
    """Without dictionaries, which may number the same words otherwise."""
    for index, field in enumerate(table.schema):
        if pa.types.is_dictionary(field.type):
            column = table.column(index).cast(field.type.value_type)
            table = table.set_column(index, field.name, column)
    return table


def _padded(size: int) -> int:
    return (size + ALIGN - 1) // ALIGN * ALIGN
