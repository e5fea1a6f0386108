"""The messages of one entry: what a partition is told, and what it tells others.

Theory: messages are taken in together with sub-batches, and are durable with them. The rows that
come for books are blocks like all others; those that go out stay where they are until the message
travels (``carried_rows``).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
from msgspec import structs

from profile_actors.columnar.hash_table import KeyTable
from profile_actors.columnar.vectors import Array
from profile_actors.engine.exchange.admission import Admitted, in_time_order
from profile_actors.engine.exchange.carried_rows import B0, B1, OP, is_copy
from profile_actors.engine.fold.state import State, of_profiles
from profile_actors.engine.identity.books import Book, is_past
from profile_actors.engine.identity.evidence import evidence_of
from profile_actors.engine.identity.messages import (
    LEDGER,
    PUBLISHED,
    Message,
    Named,
    Op,
    PeerOps,
    book_key,
    decode_ops,
    encode_ops,
)
from profile_actors.engine.log.entry import (
    NO_MAIL,
    Block,
    Mail,
    NewIdentities,
    decode,
    integers,
    table_of,
    times_of,
)
from profile_actors.engine.log.ports import Log
from profile_actors.errors import CorruptLog
from profile_actors.ingest.hidden_columns import K0, K1, NAMESPACE, OTHERS, VALUE

NOBODY = np.zeros(0, np.intp)


@dataclass(slots=True)
class Letters:
    """What one entry is told and tells. received: of each message its source, number and clock."""

    received: tuple[tuple[str, int, int], ...] = ()
    told: tuple[PeerOps, ...] = ()
    tells: tuple[PeerOps, ...] = ()
    filled: list[Array] = field(default_factory=list)

    def concerned(self, state: State) -> Array:
        """The slots that they may show or hide, ascending, each once."""
        homes = state.homes
        idents: set[int] = set()
        for op in (op for _, ops in (*self.told, *self.tells) for op in ops):
            book = None if op.other is None else homes.books.get((op.other.key, op.number))
            idents.add(-1 if book is None else book.ident)
            for one in (op.one, op.other):
                mine = None if one is None else homes.residences.get(one.key)
                if mine is not None:
                    shown = None if mine.shown is None else homes.books.get(mine.shown.name)
                    idents |= {mine.ident, -1 if shown is None else shown.ident}
        known = np.array(sorted(idents - {-1}), np.intp)
        return np.unique(state.directory.slot_of[known]).astype(np.intp)

    def moment(self, wanted: int | None) -> int | None:
        """The entry's instant: no earlier than that of any sender."""
        clocks = [now for _, _, now in self.received]
        return max([*clocks, *([] if wanted is None else [wanted])], default=None)

    def mail(self, state: State) -> Mail:
        """As the entry holds it."""
        if not (self.received or self.tells):
            return NO_MAIL
        heads = state.homes.mailbox.heads()
        return Mail(
            self.received,
            tuple((to, heads.get(to, 0) + 1) for to, _ in self.tells),
            encode_ops(self.told) if self.told else b"",
            encode_ops(self.tells) if self.tells else b"",
        )


def letters_of(state: State, mail: Mail, blocks: Sequence[Block], where: str) -> Letters:
    """Those of an entry of the log."""
    told = decode_ops(mail.received_ops, where) if mail.received_ops else ()
    tells = decode_ops(mail.sent_ops, where) if mail.sent_ops else ()
    copies = filter(is_copy, of_profiles(state, blocks)) if told else ()
    return Letters(mail.received, told, tells, [block.idents for block in copies])


def open_letters(
    state: State,
    messages: Sequence[Message],
    admitted: Admitted,
    withdrawn: Sequence[Op],
    lock: AbstractContextManager[object],
) -> Letters | None:
    """Take messages into an entry to be, and decide what it answers; None if there is neither.

    Messages that are repeated, or came too early, or need definitions that are not here yet, are
    passed over: the cursor says so. withdrawn: what is withdrawn, for the ledger. Adds blocks and
    identities to ``admitted``. Raises StorageFull.
    """
    homes, position = state.homes, state.position
    blocks = of_profiles(state, admitted.blocks)
    own = [block.idents for block in blocks]
    evidence = _evidence(state, blocks) if homes.owner_of is not None else []
    if not (messages or withdrawn or evidence or homes.residences):
        return None
    letters = Letters()
    next_of: dict[str, int] = {}
    taken: list[Message] = []
    for message in messages:
        expected = next_of.get(message.source, homes.mailbox.cursor(message.source) + 1)
        if message.number == expected and message.catalogue <= state.catalogue.version:
            next_of[message.source] = expected + 1
            taken.append(message)
    letters.received = tuple((m.source, m.number, m.now) for m in taken)
    letters.told = tuple((m.source, m.ops) for m in taken)
    first = admitted.first_new_slot
    with state.changing(lambda: NOBODY):  # an image copies who is listed
        placed = homes.take(letters.told, position, first)
    for message in taken:
        for dataset, stream in message.blocks:
            table = table_of(memoryview(stream))
            if B0 in table.column_names:
                block = _flowed(state, dataset, table, admitted, lock)
            else:
                block = _copied(state, message.ops, dataset, table, admitted, lock)
            if block is not None:
                admitted.blocks.append(block)
                letters.filled.append(block.idents)
    with state.changing(lambda: NOBODY):
        homes.begin(first, state.directory.count - first)
    known = np.unique(np.concatenate(own)) if own else np.zeros(0, np.int64)
    sends = homes.answer(placed, known, position)
    sends.setdefault(LEDGER, [])[:0] = [*evidence, *withdrawn]
    letters.tells = tuple((to, tuple(ops)) for to, ops in sorted(sends.items()) if ops)
    _name_books(state, letters.tells, admitted, lock)
    if not (letters.received or letters.tells):
        return None
    return letters


TOLD_AT_ONCE = 8
"""Entries of the past whose links are told in one entry."""


def past_evidence(state: State, log: Log) -> Letters | None:
    """Of the oldest entries that nobody was told of, what the ledger is to know; None: nothing."""
    untold = state.homes.untold
    low, high = untold.low, min(untold.low + TOLD_AT_ONCE, untold.high)
    ops: list[Op] = []
    for position in range(low, high):
        with log.view(position) as view:
            entry = decode(view, f"position {position}")
            if any(to == LEDGER for to, _ in entry.envelope.sent):
                continue  # it told by itself, under the definitions of its time
            blocks = of_profiles(state, entry.blocks)
            ops += _evidence(state, [block for block in blocks if not is_copy(block)])
    if not ops:
        untold.told(high)
        return None
    ops[0] = structs.replace(ops[0], high=high)  # a replay goes on from there
    return Letters(tells=((LEDGER, tuple(ops)),))


def note_untold(state: State, letters: Letters, blocks: Sequence[Block]) -> None:
    """In a replay: whether an entry has rows of several identities that it told nobody of."""
    if any(to == LEDGER for to, _ in letters.tells):
        return
    if _evidence(state, [block for block in of_profiles(state, blocks) if not is_copy(block)]):
        state.homes.untold.found(state.position)


def _evidence(state: State, blocks: Sequence[Block]) -> list[Op]:
    some = [block for block in blocks if OTHERS in block.table.column_names]
    return evidence_of(some, state.directory, state.catalogue, state.homes.seed) if some else []


def _copied(
    state: State,
    ops: Sequence[Op],
    dataset: str,
    table: pa.Table,
    admitted: Admitted,
    lock: AbstractContextManager[object],
) -> Block | None:
    """Rows that came for books, as a block of this log; None if there are none. Those of a book
    that is past are dropped: whoever still reads it sees it as it was, and each of its members is
    on the way into another one."""
    of_row = table.column(OP).combine_chunks().to_numpy(zero_copy_only=False).astype(np.intp)
    past = np.array([is_past(state.homes.residences, op) for op in ops], np.bool_)
    if past.any():
        kept = ~past[of_row]
        table, of_row = table.filter(pa.array(kept)), of_row[kept]
        if not len(of_row):
            return None
    books = [
        (op.other, book_key(*op.other.key, op.number)) if op.other is not None else None
        for op in ops
    ]
    used = np.unique(of_row)
    named = [books[op] for op in used.tolist()]
    idents = _idents(state, [one for one in named if one is not None], admitted, lock)
    mine = idents[used.searchsorted(of_row)]
    return _block_of(dataset, table.drop_columns([OP]), mine)


def _flowed(
    state: State,
    dataset: str,
    table: pa.Table,
    admitted: Admitted,
    lock: AbstractContextManager[object],
) -> Block | None:
    """The same of rows that say their books beside them. Cost: array passes, and a Python step per
    book that is not shown."""
    k0, k1 = (integers(table, half, np.uint64) for half in (B0, B1))
    table = table.drop_columns([B0, B1])
    with lock:
        idents = state.directory.find(k0, k1).astype(np.int64)
    of_row, first = KeyTable().number(k0, k1)
    known = idents[first]
    goes_on = known >= 0
    slots = state.directory.slot_of[known[goes_on]]
    goes_on[goes_on] = state.listing.is_listed(slots, state.position)  # who is shown is not past
    others = np.flatnonzero(~goes_on)
    keys = np.column_stack((k0, k1))[first[others]]
    books = dict(zip(others.tolist(), _books_of(state, keys, known[others]), strict=True))
    bare = [at for at, book in books.items() if book is not None and known[at] < 0]
    if bare:
        named = [(book.canonical, book.key) for book in map(books.__getitem__, bare) if book]
        known[bare] = _idents(state, named, admitted, lock)
    goes_on[others] = [book is not None for book in books.values()]
    kept, idents = goes_on[of_row], known[of_row]
    if not kept.all():
        if not kept.any():
            return None
        table, idents = table.filter(pa.array(kept)), idents[kept]
    return _block_of(dataset, table, idents)


def _books_of(state: State, keys: Array, idents: Array) -> list[Book | None]:
    """The books of keys, whose idents are known (-1: none), each once; None for one that is past.
    keys: uint64[n, 2]. Raises CorruptLog for a key that no book has."""
    homes = state.homes
    found: list[Book | None] = []
    for ident, (k0, k1) in zip(idents.tolist(), keys.tolist(), strict=True):
        book = homes.book_of(ident) or homes.empty_book_of((k0, k1))
        if book is None:
            raise CorruptLog(
                f"expected rows for a book that is at home here, got the key {k0:016x}{k1:016x};"
                " this is a defect: report it"
            )
        owner = homes.residences.get(book.canonical.key)
        found.append(None if owner is not None and owner.has_left(book.number) else book)
    return found


def _block_of(dataset: str, table: pa.Table, idents: Array) -> Block:
    timestamps = times_of(table)
    return Block(dataset, table, idents, in_time_order(idents, timestamps), timestamps)


def _idents(
    state: State,
    books: Sequence[tuple[Named, tuple[int, int]]],
    admitted: Admitted,
    lock: AbstractContextManager[object],
) -> Array:
    """The idents of books, new ones given. int64[n]"""
    k0 = np.array([key[0] for _, key in books], np.uint64)
    k1 = np.array([key[1] for _, key in books], np.uint64)
    spaces = pa.array([one.namespace for one, _ in books], pa.string())
    values = pa.array([one.value for one, _ in books], pa.string())
    with lock:
        idents, new = state.directory.admit(k0, k1, spaces.dictionary_encode(), values)
    if len(new):
        table = pa.table({K0: k0, K1: k1, NAMESPACE: spaces, VALUE: values}).take(pa.array(new))
        before = admitted.identities
        if before is None:
            admitted.identities = NewIdentities(int(idents[new[0]]), table)
        else:
            both = pa.concat_tables([before.table.cast(table.schema), table]).combine_chunks()
            admitted.identities = NewIdentities(before.first, both)
    return idents.astype(np.int64)


def _name_books(
    state: State,
    tells: Iterable[PeerOps],
    admitted: Admitted,
    lock: AbstractContextManager[object],
) -> None:
    """Give idents to books that are shown without a row: they join identities."""
    homes = state.homes
    shown = {
        (op.other.key, op.number): None
        for to, ops in tells
        for op in ops
        if to == LEDGER and op.kind == PUBLISHED and op.other is not None
    }
    books = [homes.books[name] for name in shown]
    bare = [(b.canonical, b.key) for b in books if b.ident < 0 and len(b.members) > 1]
    if bare:
        first = state.directory.count
        _idents(state, bare, admitted, lock)
        with state.changing(lambda: NOBODY):
            homes.begin(first, state.directory.count - first)
