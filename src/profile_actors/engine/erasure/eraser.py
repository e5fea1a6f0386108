"""A log's entries without the rows, the names and the messages of one person.

Theory: state is a fold of the log, so whoever is in no entry is in no state. A log is read from its
first entry on, and each gets the place of what it was: positions, message numbers, producers'
cursors and clocks stay, so a producer's row that comes again is a duplicate still, and what other
sequencers have counted stays right. What goes:

    identities      the person's own, and the books that are hers; the idents after them get lower
    rows            of those idents, and copies of her rows in the books of others
    messages        every operation that names one of her identities; its message stays, shorter.
                    Somebody else who was told to belong to a book of hers, after another one, is
                    told to belong nowhere: that other one has not got their later rows
    further names   hers in other people's rows; the same text elsewhere in such a row becomes null,
                    and as a key of a map goes with its value
    idle words      of dictionaries, in every block: a batch of several people was cut into parts
                    that kept the words of all

A book that others keep can have got its ident with rows of hers alone. Then it gets it later, in
the first entry that fills or shows it: an ident without a row would be a profile.

Of a row's star the pairs with her go. Two who each stood with her in one row were linked through
her alone: such a link goes with her, though both may still stand in that row, where it is somebody
else's. The row's own evidence of others would join those whom newer evidence has parted from her.

Limits: links that her evidence forbade are judged anew by the ledger at its next entry. A row of
somebody else that names her in its payload alone, and not as an identity, is not found.

Cost: every entry is decoded, and encoded again from the first on that has something of hers.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from msgspec import structs

from profile_actors.columnar.vectors import Array, one_array
from profile_actors.definitions import catalogue_changes
from profile_actors.definitions.declared import Catalogue
from profile_actors.engine.identity.messages import (
    HOME,
    LEDGER,
    LINK,
    NOWHERE,
    PUBLISHED,
    Named,
    Op,
    PeerOps,
    book_key,
    decode_ops,
    encode_ops,
    pack_flow,
    unpack_flow,
)
from profile_actors.engine.log.entry import (
    Block,
    Entry,
    Mail,
    NewIdentities,
    decode,
    encode,
    integers,
)
from profile_actors.engine.log.ports import Buffer
from profile_actors.ingest.hidden_columns import K0, K1, NAMESPACE, OTHERS

GONE = -1
"""Of an ident that nobody has any more."""


LATER = -2
"""Of a book's ident that is to be given when the book is filled."""


class Eraser:
    """One log's entries, from its first one on, without a person, and without rows that have left.
    ones: all her identities. cutoffs: per dataset of events, the oldest instant (ms) that stays.

    rows: log rows taken out so far, those copied into books counted again. identities: of her and
    her books that the log had named.
    """

    def __init__(self, ones: Iterable[Named], cutoffs: Mapping[str, int] | None = None) -> None:
        self._ones, self._cutoffs = frozenset(ones), cutoffs or {}
        self._names = {(one.namespace, one.value) for one in self._ones}
        self._texts = {one.value.strip().casefold() for one in self._ones}
        self._own = {one.key for one in self._ones}
        self._keys = set(self._own)
        self._books: set[tuple[int, int]] = set()
        self._homed: set[tuple[int, int]] = set()  # others who were told of a book that stays
        self._now = np.zeros(0, np.int64)  # of each ident that the log has given, the one it has
        self._given = 0
        self._is_moved = False  # whether anybody has another ident now
        self._waiting: dict[int, pa.Table] = {}
        self._catalogue = Catalogue()
        self.rows = 0
        self.identities = 0

    def erased(self, data: bytes, where: str) -> list[Buffer] | None:
        """What an entry is now, as parts; None if it stays as it is. Raises CorruptLog."""
        entry = decode(memoryview(data), where)
        envelope = entry.envelope
        if envelope.definition:
            self._catalogue = catalogue_changes.decode(envelope.definition)
        mail, is_new = self._mail(entry.mail, where)
        # While none is missing and none has waited, each has its own number.
        is_new |= self._is_moved or self._given != len(self._now)
        blocks = []
        fresh = self._identities(entry.identities)
        for block in entry.blocks:
            left = block if self._is_of_things(block) else self._block(block)
            is_new |= left is not block
            blocks += [] if left is None else [left]
        slots = None if envelope.slots is None else self._slots(*envelope.slots)
        identities = self._named(fresh, blocks, mail, where)
        if not (is_new or self._is_moved or self._given != len(self._now)):
            return None
        return _encoded(entry, mail, identities, blocks, slots)

    # -- messages ---------------------------------------------------------------------------------

    def _mail(self, mail: Mail, where: str) -> tuple[Mail, bool]:
        told = decode_ops(mail.received_ops, where) if mail.received_ops else ()
        tells = decode_ops(mail.sent_ops, where) if mail.sent_ops else ()
        self._note_books((*told, *tells))
        left_told, left_tells = self._ops(told), self._ops(tells)
        if (left_told, left_tells) == (told, tells):
            return mail, False
        left = mail._replace(
            received_ops=encode_ops(left_told) if told else b"",
            sent_ops=encode_ops(left_tells) if tells else b"",
        )
        return left, True

    def _note_books(self, peers: Iterable[PeerOps]) -> None:
        """Her books have keys of their own; those of all others are to be told from people."""
        for _, ops in peers:
            for op in ops:
                if op.other is not None and op.number:
                    key = book_key(*op.other.key, op.number)
                    self._books.add(key)
                    if op.other in self._ones:
                        self._keys.add(key)

    def _ops(self, peers: Sequence[PeerOps]) -> tuple[PeerOps, ...]:
        return tuple((peer, tuple(self._left(ops))) for peer, ops in peers)

    def _left(self, ops: Sequence[Op]) -> Iterator[Op]:
        high = 0  # how far the past is told of stands at one of the links that tell it
        for op in ops:
            if op.data:
                yield self._left_flow(op)
            elif op.kind == HOME and op.one is not None and op.one not in self._ones:
                yield from self._left_home(op, op.one)
            elif op.one in self._ones or op.other in self._ones:
                high = max(high, op.high if op.kind == LINK else 0)
            elif op.kind == LINK and high:
                yield structs.replace(op, high=max(high, op.high))
                high = 0
            else:
                yield op

    def _left_home(self, op: Op, one: Named) -> Iterator[Op]:
        """Where somebody else belongs. Who had no book before hers was never linked."""
        if op.other not in self._ones:
            self._homed.add(one.key)
            yield op
        elif one.key in self._homed:
            yield structs.replace(op, other=one, number=NOWHERE)

    def _left_flow(self, op: Op) -> Op:
        """Without her rows, and without others' on the way to a book of hers that they have left
        since: it is nowhere any more."""
        ones, books = unpack_flow(op.data)
        pairs = zip(ones.tolist(), books.tolist(), strict=True)
        of_hers = ({tuple(one), tuple(book)} & self._keys for one, book in pairs)
        kept = np.array([not keys for keys in of_hers], np.bool_)
        return op if kept.all() else structs.replace(op, data=pack_flow(ones[kept], books[kept]))

    # -- identities -------------------------------------------------------------------------------

    def _identities(self, identities: NewIdentities | None) -> tuple[Array, pa.Table] | None:
        """The idents that an entry names and that stay, and their names; what becomes of the others
        is noted."""
        if identities is None:
            return None
        table = identities.table
        assert identities.first == len(self._now), (identities.first, len(self._now))
        kept = np.array([key not in self._keys for key in _keys_of(table)], np.bool_)
        self.identities += int((~kept).sum())
        self._now = np.append(self._now, np.where(kept, LATER, GONE))
        left = table if kept.all() else table.filter(pa.array(kept))
        return identities.first + np.flatnonzero(kept), left

    def _named(
        self,
        fresh: tuple[Array, pa.Table] | None,
        blocks: Sequence[Block],
        mail: Mail,
        where: str,
    ) -> NewIdentities | None:
        """Number, in order, the idents that this entry names or gives a reason to name, and put the
        numbers into its blocks. Books wait until they are filled or shown."""
        waiting = dict(self._waiting)
        idents, table = fresh if fresh is not None else (np.zeros(0, np.int64), None)
        is_book = np.zeros(len(idents), np.bool_)
        if table is not None and self._books:
            is_book = np.array([key in self._books for key in _keys_of(table)], np.bool_)
        for row in np.flatnonzero(is_book).tolist():
            assert table is not None, row
            waiting[int(idents[row])] = table.slice(row, 1)
        due = self._due(waiting, blocks, mail, where) if waiting else set()
        parts = [(ident, waiting[ident]) for ident in sorted(due)]
        self._waiting = {ident: name for ident, name in waiting.items() if ident not in due}
        plain = np.flatnonzero(~is_book)
        numbered = np.append(np.array([ident for ident, _ in parts], np.int64), idents[plain])
        first = self._given
        self._now[numbered] = first + np.arange(len(numbered))
        self._is_moved |= bool((self._now[numbered] != numbered).any())
        self._given += len(numbered)
        for block in blocks:
            if not self._is_of_things(block):
                block.idents = self._now[block.idents]
                block.order = np.lexsort((block.timestamps, block.idents))
        names = [name for _, name in parts]
        if table is not None and len(plain):
            names.append(table.take(pa.array(plain)) if is_book.any() else table)
        if not names:
            return None
        same = [name.cast(names[0].schema) for name in names]
        return NewIdentities(first, pa.concat_tables(same).combine_chunks())

    def _due(
        self, waiting: Mapping[int, pa.Table], blocks: Sequence[Block], mail: Mail, where: str
    ) -> set[int]:
        """The books of those that wait which an entry fills, or shows."""
        rows = [block.idents for block in blocks if not self._is_of_things(block)]
        filled = set(np.unique(np.concatenate(rows)).tolist()) if rows else set()
        shown = self._shown(mail, where)
        return {
            ident
            for ident, table in waiting.items()
            if ident in filled or next(_keys_of(table)) in shown
        }

    def _shown(self, mail: Mail, where: str) -> set[tuple[int, int]]:
        """The books that an entry tells of as shown."""
        return {
            book_key(*op.other.key, op.number)
            for to, ops in (decode_ops(mail.sent_ops, where) if mail.sent_ops else ())
            for op in ops
            if to == LEDGER and op.kind == PUBLISHED and op.other is not None
        }

    def _slots(self, first: int, end: int, total: int) -> tuple[int, int, int]:
        """Bounds of a slice: as many as stay of the idents below each. A slot is an ident's."""
        has = np.append(0, np.cumsum(self._now >= 0))
        return int(has[first]), int(has[end]), int(has[total])

    # -- rows -------------------------------------------------------------------------------------

    def _is_of_things(self, block: Block) -> bool:
        """Rows of a look-up dataset name themselves, have no idents, and are of nobody."""
        dataset = self._catalogue.datasets.get(block.dataset)
        is_lookup = (
            dataset is not None and self._catalogue.schemas[dataset.schema].behavior == "lookup"
        )
        return is_lookup and K0 in block.table.column_names

    def _block(self, block: Block) -> Block | None:
        """The rows that stay of a block, with the idents that the log gave; None if none does."""
        table = block.table
        kept = self._now[block.idents] != GONE
        if block.dataset in self._cutoffs:
            kept &= block.timestamps >= self._cutoffs[block.dataset]
        if self._own and K0 in table.column_names:
            kept &= np.array([key not in self._own for key in _keys_of(table)], np.bool_)
        if not kept.all():
            self.rows += int((~kept).sum())
            if not kept.any():
                return None
            table = table.filter(pa.array(kept))
        table = self._without_words(self._without_names(table))
        if table is block.table:
            return block
        idents, times = block.idents[kept], block.timestamps[kept]
        return Block(block.dataset, table, idents, np.arange(len(idents)), times)

    def _without_names(self, table: pa.Table) -> pa.Table:
        """Other people's rows without her identities, and without the same text in these rows."""
        if OTHERS not in table.column_names:
            return table
        lists = one_array(table.column(OTHERS))
        named = lists.flatten()
        codes, texts = (named.field(name).to_pylist() for name in ("namespace", "value"))
        pairs = zip(codes, texts, strict=True)
        hers = np.array([pair in self._names for pair in pairs], np.bool_)
        if not hers.any():
            return table
        sizes = lists.value_lengths().fill_null(0).to_numpy()
        row_of = np.repeat(np.arange(len(sizes)), sizes)
        rows = np.unique(row_of[hers])
        left = np.bincount(row_of[~hers], minlength=len(sizes))
        offsets = pa.array(np.append(0, np.cumsum(left)).astype(np.int32))
        values = named.filter(pa.array(~hers))
        fresh = pa.ListArray.from_arrays(offsets, values, type=lists.type, mask=pa.array(left == 0))
        for at, name in enumerate(table.column_names):
            column = fresh if name == OTHERS else self._scrubbed(table.column(name), rows)
            if column is not table.column(name):
                table = table.set_column(at, table.schema.field(name), column)
        return table

    def _without_words(self, table: pa.Table) -> pa.Table:
        """A table without the words of dictionaries that no row of it says: rows that were taken
        out of others keep all of theirs, here and in the logs of other partitions."""
        for at, field in enumerate(table.schema):
            if pa.types.is_dictionary(field.type) and field.name != NAMESPACE:
                column = one_array(table.column(at))
                if len(column.indices.unique().drop_null()) < len(column.dictionary):
                    fresh = _as_plain(column).dictionary_encode().cast(field.type)
                    table = table.set_column(at, field, fresh)
        return table

    def _scrubbed(self, column: pa.ChunkedArray, rows: Array) -> Any:
        """A column with null for her texts in some rows."""
        before = one_array(column)
        kind = _timeless(_plain(before.type))
        found = _as_plain(before.take(pa.array(rows))).cast(kind).to_pylist()
        clean = [self._clean(value) for value in found]
        if clean == found:
            return column
        place = np.arange(len(before))
        place[rows] = len(before) + np.arange(len(rows))
        plain = pa.array(clean, kind).cast(_plain(before.type))
        both = pa.concat_arrays([_as_plain(before), plain])
        return both.take(pa.array(place)).cast(before.type)

    def _clean(self, value: Any) -> Any:
        if isinstance(value, str):
            return None if value.strip().casefold() in self._texts else value
        if isinstance(value, dict):
            return {name: self._clean(item) for name, item in value.items()}
        if isinstance(value, list):
            return [self._clean(item) for item in value if not self._is_keyed_by_her(item)]
        if isinstance(value, tuple):  # of a map: its key, and its value
            return value[0], self._clean(value[1])
        return value

    def _is_keyed_by_her(self, item: Any) -> bool:
        """Whether it is a map's pair whose key, which may not be null, is a text of hers."""
        return isinstance(item, tuple) and self._clean(item[0]) is None


def _encoded(
    entry: Entry,
    mail: Mail,
    new: NewIdentities | None,
    blocks: list[Block],
    slots: tuple[int, int, int] | None,
) -> list[Buffer]:
    envelope = entry.envelope
    return encode(
        envelope.kind, envelope.epoch, envelope.now, envelope.catalogue, envelope.batches, new,
        blocks, envelope.definition, slots, envelope.hearing, mail,
    )  # fmt: skip


def _keys_of(table: pa.Table) -> Iterator[tuple[int, int]]:
    """The keys of a table's rows."""
    halves = (integers(table, half, np.uint64).tolist() for half in (K0, K1))
    return zip(*halves, strict=True)


def _plain(kind: pa.DataType) -> pa.DataType:
    return kind.value_type if pa.types.is_dictionary(kind) else kind


def _timeless(kind: pa.DataType) -> pa.DataType:
    """A type with numbers for instants and days: Python's do not reach as far."""
    if pa.types.is_timestamp(kind):
        return pa.int64()
    if pa.types.is_date32(kind):
        return pa.int32()
    if pa.types.is_struct(kind):
        return pa.struct([field.with_type(_timeless(field.type)) for field in kind])
    if pa.types.is_map(kind):
        return pa.map_(kind.key_type, kind.item_field.with_type(_timeless(kind.item_type)))
    if pa.types.is_list(kind):
        return pa.list_(kind.value_field.with_type(_timeless(kind.value_type)))
    return kind


def _as_plain(array: pa.Array) -> pa.Array:
    return array.cast(_plain(array.type))
