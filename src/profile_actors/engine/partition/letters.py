"""The messages of one entry: what a partition is told, and what it tells others.

Theory: messages are taken in together with sub-batches, and are durable with them. The rows that
come for books are blocks like all others; where they go on their way out, the message says which
positions of the log they stand at, and they are read from there when the message travels, as often
as it does (``outgoing``).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
from msgspec import structs

from profile_actors.columnar.vectors import Array
from profile_actors.engine.fold.state import State, of_profiles
from profile_actors.engine.identity.books import is_past
from profile_actors.engine.identity.evidence import evidence_of
from profile_actors.engine.identity.messages import (
    LEDGER,
    PUBLISHED,
    ROWS,
    Message,
    Named,
    Op,
    PeerOps,
    book_key,
    decode_ops,
    decode_ops_of,
    encode_ops,
)
from profile_actors.engine.log.entry import (
    NO_MAIL,
    Block,
    Mail,
    NewIdentities,
    blocks_of_rows,
    decode,
    read_mail,
    table_of,
    times_of,
    to_stream,
)
from profile_actors.engine.log.ports import Log
from profile_actors.engine.log.row_locator import rows_of_all
from profile_actors.engine.partition.admission import Admitted, in_time_order
from profile_actors.ingest.hidden_columns import K0, K1, NAMESPACE, OTHERS, VALUE

OP = "@op"


OUTGOING_BYTES = 8 << 20
"""Messages that travel together end after so many bytes; one that is larger goes alone."""


NOBODY = np.zeros(0, np.intp)


@dataclass(slots=True)
class Letters:
    """What one entry is told and tells. received: of each message its source, number and clock."""

    received: tuple[tuple[str, int, int], ...] = ()
    told: tuple[PeerOps, ...] = ()
    tells: tuple[PeerOps, ...] = ()
    filled: list[Array] = field(default_factory=list)

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


def is_copy(block: Block) -> bool:
    """Whether a block of profiles' rows came for books: they say whose they are."""
    return K0 in block.table.column_names


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
            block = _copied(state, message.ops, dataset, stream, admitted, lock)
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
    stream: bytes,
    admitted: Admitted,
    lock: AbstractContextManager[object],
) -> Block | None:
    """Rows that came for books, as a block of this log; None if there are none. Those of a book
    that is past are dropped: whoever still reads it sees it as it was, and each of its members is
    on the way into another one."""
    table = table_of(memoryview(stream))
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
    table = table.drop_columns([OP])
    timestamps = times_of(table)
    return Block(dataset, table, mine, in_time_order(mine, timestamps), timestamps)


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


# -- what travels ---------------------------------------------------------------------------------


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
