"""From queued sub-batches to one entry: exactly once, new identities, duplicates, sorted rows.

Theory (DESIGN section 7): a partition keeps one cursor per producer, the offset after the last row
it has taken; rows below it came before. Rows that are appended to a producer's stream come as those
of a stream of their own (its cursor makes them count once) and carry a *credit*: the producer's
cursor goes on by them from wherever it stands, so that several senders of one name cannot take
each other's offsets (decision 0015). Independently, an event with the (dataset, identity,
timestamp, ``_id``) of one in the log or earlier in the entry is a duplicate for ever. A row newer
than its identity's newest cannot be one, so only older or equal rows are looked up, all of a batch
at once. An entry with the rows below, where the newest of the log are 50 of a and 20 of b::

    identity, time, id    a 40 x    a 60 y    b 20 z    b 20 z    c 10 v    c 10 w
    not newer: "old"        old                 old       old
    same time: "twins"                         twin      twin      twin      twin

    y is neither and cannot repeat anything. Of the seconds of old rows the log has a 40 x and
    b 20 q. With them the rows that are old or twins are sorted, a row of the log before its like:

    a 40 x (log)    a 40 x    b 20 q (log)    b 20 z    b 20 z    c 10 v    c 10 w
                      ^                                   ^
                      equal to the one before: these two are duplicates

Where the log has a *crowd* of rows of one identity in one second, their ids are kept (``crowds``).
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from profile_actors.columnar.runs import order_by
from profile_actors.columnar.vectors import Array, one_array
from profile_actors.engine.fold.state import State
from profile_actors.engine.log.connections import is_anonymous
from profile_actors.engine.log.crowds import CROWD_ROWS, Crowds
from profile_actors.engine.log.entry import (
    BatchNote,
    Block,
    Hearing,
    NewIdentities,
    integers,
    times_of,
)
from profile_actors.engine.log.repairs import Offers, above, answered, offsets_of_rows
from profile_actors.engine.log.row_locator import pack
from profile_actors.engine.log.sub_batch import Reply, SubBatch
from profile_actors.ingest.hidden_columns import ID, K0, K1, NAMESPACE, ROW, VALUE
from profile_actors.ingest.offsets import packed, ranges_of

DROPPED = (K0, K1, VALUE, NAMESPACE, ROW)


@dataclass(slots=True)
class Admitted:
    """One entry to be. replies: one per sub-batch, final but for position and now."""

    replies: list[Reply]
    notes: list[BatchNote]
    note_of: list[int]  # sub-batch -> index in notes, -1 where it adds nothing
    blocks: list[Block]
    identities: NewIdentities | None
    first_new_slot: int
    clock: int | None
    cursors: dict[str, int]
    offers: Offers
    closed: list[str] = field(default_factory=list)
    hearing: Hearing | None = None


def nothing(state: State) -> Admitted:
    """An entry without sub-batches."""
    slots = state.directory.slots
    return Admitted([], [], [], [], None, slots, None, {}, Offers(state.rejects))


@dataclass(slots=True)
class _Pending:
    """Rows of one dataset in this entry: tables of its sub-batches and which note each row is
    of."""

    tables: list[pa.Table] = field(default_factory=list)
    notes: list[int] = field(default_factory=list)


def admit(
    state: State,
    batches: Sequence[SubBatch],
    crowds: Crowds,
    lock: AbstractContextManager[object],
    wall: int | None = None,
) -> Admitted:
    """Decide every row of the sub-batches. Gives idents, under the lock; else reads only.

    wall: the wall clock's ms, by which silent connections are forgotten; None to forget none.
    Raises StorageFull when the reserved number of profiles is used up.
    """
    out = nothing(state)
    pending: dict[str, _Pending] = {}
    for batch in batches:
        reply = _take(state, batch, out, pending)
        out.replies.append(reply)
    producers = [note.producer for note in out.notes]
    out.hearing = state.connections.hearing(wall, producers, tuple(out.closed))
    first_ident = state.directory.count
    new_tables: list[pa.Table] = []
    for dataset, rows in pending.items():
        block = _block(state, dataset, rows, out, new_tables, crowds, lock)
        if block is not None and block.rows:
            out.blocks.append(block)
    if new_tables:
        out.identities = NewIdentities(first_ident, pa.concat_tables(new_tables).combine_chunks())
    for i, note in enumerate(out.note_of):
        if note >= 0:
            counted = out.notes[note]
            out.replies[i] = replace(
                out.replies[i],
                accepted=counted.accepted,
                duplicate=counted.duplicate,
                late=counted.late,
                rows=counted.rows,
            )
    return out


def _take(state: State, batch: SubBatch, out: Admitted, pending: dict[str, _Pending]) -> Reply:
    """Check one sub-batch against its producer's cursor and queue its rows."""
    out.note_of.append(-1)
    if batch.catalogue > state.catalogue.version:
        return Reply("behind", expected=state.catalogue.version)
    if batch.table is not None and batch.dataset not in state.catalogue.datasets:
        return Reply("unknown")
    if batch.repair is not None:
        return _repair(state, batch, out, pending)
    cursor = out.cursors.get(batch.producer, state.cursors.get(batch.producer))
    if batch.closes:
        if cursor is not None and batch.producer not in out.closed:
            out.closed.append(batch.producer)
        return Reply("ok")
    if _is_forgotten(state, batch.producer, cursor, out):
        return Reply("forgotten")
    if batch.resend and cursor is not None and cursor >= batch.through:
        known = _receipt(state, batch, out)
        if known is not None:
            return known
    if cursor is None:
        if batch.after:
            return Reply("gap", expected=0)
        cursor = 0
    elif batch.after is not None and batch.after > cursor:
        return Reply("gap", expected=cursor)
    credit, credited = None, 0
    if batch.credit is not None and batch.through > cursor:
        name, rows, least = batch.credit
        credited = out.cursors.get(name, state.cursors.get(name, 0))
        if credited < least:
            return Reply("early", expected=credited)
        credit = (name, rows)
        out.cursors[name] = credited + rows
    _advance_clock(batch, out)
    if batch.table is None and batch.through <= cursor:
        return Reply("ok")
    duplicate, table, waiting = 0, batch.table, b""
    verdicts = (b"", b"") if batch.by_row else None
    if table is not None:
        offsets = offsets_of_rows(table)
        if len(offsets) and offsets[0] < cursor:
            kept = int(offsets.searchsorted(cursor))
            is_open = out.offers.unfinished(batch.producer, offsets[:kept])
            waiting = packed(ranges_of(offsets[:kept][is_open]))
            duplicate, table = kept - int(is_open.sum()), table.slice(kept)
            if batch.by_row:
                verdicts = packed(ranges_of(offsets[:kept][~is_open])), b""
    rejected = batch.rejected if credit else above(batch.rejected, cursor)
    note = BatchNote(
        batch.dataset, batch.producer, batch.after, batch.through,
        0 if table is None else table.num_rows, duplicate, 0, credit, rejected, rows=verdicts,
        token=batch.token,
    )  # fmt: skip
    _queue(batch, note, table, credited, out, pending)
    out.cursors[batch.producer] = max(cursor, batch.through)
    return Reply("ok", open=waiting)


def _is_forgotten(state: State, producer: str, cursor: int | None, out: Admitted) -> bool:
    """Whether it cannot be told what is here of this stream."""
    if not is_anonymous(producer):
        return False
    return producer in out.closed or (cursor is None and state.connections.is_forgotten(producer))


def _repair(state: State, batch: SubBatch, out: Admitted, pending: dict[str, _Pending]) -> Reply:
    """One step of the repair of rejected rows."""
    if batch.resend:
        known = answered(batch, state.receipts.get(batch.producer, ()))
        if known is not None:
            return known
    reply, table, note = out.offers.step(batch)
    if reply.status == "ok":
        _advance_clock(batch, out)
    if note is not None:
        _queue(batch, note, table, 0, out, pending)
    return reply


def _queue(
    batch: SubBatch,
    note: BatchNote,
    table: pa.Table | None,
    credited: int,
    out: Admitted,
    pending: dict[str, _Pending],
) -> None:
    """Put a note, and its rows if any, into the entry."""
    if table is not None and table.num_rows:
        queued = pending.setdefault(batch.dataset, _Pending())
        queued.tables.append(table)
        queued.notes.append(len(out.notes))
    out.note_of[-1] = len(out.notes)
    out.notes.append(note)
    out.offers.note(note, credited)


def _advance_clock(batch: SubBatch, out: Admitted) -> None:
    if batch.clock is not None and (out.clock is None or batch.clock > out.clock):
        out.clock = batch.clock


def _receipt(state: State, batch: SubBatch, out: Admitted) -> Reply | None:
    """The receipt of the same rows' first commit; a repetition of them is not what was lost."""
    wanted = (batch.dataset, batch.after or 0, batch.through)
    for position, note in state.receipts.get(batch.producer, ()):
        is_of = note.repair is None and note.token in (0, batch.token)  # 0: from before
        if is_of and (note.dataset, note.after or 0, note.through) == wanted:
            offsets = (
                offsets_of_rows(batch.table) if batch.table is not None else np.zeros(0, np.int64)
            )
            rest = len(offsets) - note.accepted - note.duplicate
            if rest <= 0:
                return Reply(
                    "ok", note.accepted, note.duplicate, note.late, position, rows=note.rows
                )
            # Rows that waited for a repair then: they do still, or were repaired since.
            waits = out.offers.unfinished(batch.producer, offsets)
            duplicate = note.duplicate + rest - int(waits.sum())
            waiting = packed(ranges_of(offsets[waits]))
            return Reply("ok", note.accepted, duplicate, note.late, position, open=waiting)
    return None


def _block(
    state: State,
    dataset: str,
    rows: _Pending,
    out: Admitted,
    new_tables: list[pa.Table],
    crowds: Crowds,
    lock: AbstractContextManager[object],
) -> Block | None:
    table = _joined(rows.tables)
    if state.behavior(dataset) == "lookup":
        return _entities(state, dataset, table)
    note_of_row = np.array(rows.notes).repeat([t.num_rows for t in rows.tables])
    k0, k1 = integers(table, K0, np.uint64), integers(table, K1, np.uint64)
    namespaces = _dictionary(table.column(NAMESPACE))
    values = one_array(table.column(VALUE))
    with lock:
        idents, new_rows = state.directory.admit(k0, k1, namespaces, values)
    if len(new_rows):
        wanted = table.select([K0, K1, NAMESPACE, VALUE]).take(pa.array(new_rows))
        plain = one_array(wanted.column(NAMESPACE)).cast(pa.string())
        new_tables.append(wanted.set_column(2, NAMESPACE, plain))
    idents = idents.astype(np.int64)
    timestamps, offsets = times_of(table), offsets_of_rows(table)
    names = table.column_names  # a list made anew at each look
    table = table.drop_columns([name for name in DROPPED if name in names])
    order = in_time_order(idents, timestamps)
    newest = state.directory.newest_of(idents)
    late = timestamps < newest
    block = Block(dataset, table, idents, order, timestamps, late)
    if ID in names and state.behavior(dataset) == "event":
        repeated = _duplicates(state, block, timestamps <= newest, crowds)
        if len(repeated):
            _count(out.notes, note_of_row[repeated], offsets[repeated], duplicate=True)
            keep = np.ones(block.rows, np.bool_)
            keep[repeated] = False
            kept = keep.nonzero()[0]
            table = table.take(pa.array(kept)).combine_chunks()
            idents, timestamps = idents[kept], timestamps[kept]
            note_of_row, offsets = note_of_row[kept], offsets[kept]
            late = late[kept]
            block = Block(
                dataset, table, idents, in_time_order(idents, timestamps), timestamps, late
            )
    late_at = late.nonzero()[0]
    if len(late_at):
        _count(out.notes, note_of_row[late_at], offsets[late_at], duplicate=False)
    return block


def _entities(state: State, dataset: str, table: pa.Table) -> Block:
    """Rows of a lookup dataset: they keep the columns that name them, and have no idents."""
    state.entities.check_room(table)
    table = table.drop_columns([ROW])
    count, times = table.num_rows, times_of(table)
    return Block(dataset, table, np.zeros(count, np.int64), np.arange(count), times)


def _count(notes: list[BatchNote], rows: Array, offsets: Array, *, duplicate: bool) -> None:
    """Move rows of the notes from accepted to duplicate, or count them late.

    rows: the note of each; offsets: what the row is in its producer's stream.
    """
    for note in np.unique(rows).tolist():
        notes[note] = notes[note].counting(offsets[rows == note], duplicate=duplicate)


def in_time_order(idents: Array, timestamps: Array) -> Array:
    """The permutation that sorts rows by (ident, timestamp), stable."""
    if len(timestamps) < 2 or (timestamps[1:] >= timestamps[:-1]).all():
        return order_by(idents)
    return np.lexsort((timestamps, idents))


def _duplicates(state: State, block: Block, old: Array, crowds: Crowds) -> Array:
    """Block rows that repeat one of the log or an earlier one of the block. int64[k].

    old: bool[n], rows not newer than their identity's newest.
    """
    order = block.order
    ident, time = block.idents[order], block.timestamps[order]
    twins = np.zeros(len(order), np.bool_)
    twins[1:] = (ident[1:] == ident[:-1]) & (time[1:] == time[:-1])
    twins[:-1] |= twins[1:]
    if not (old.any() or twins.any()):
        return np.zeros(0, np.int64)
    rows = np.union1d(order[twins], old.nonzero()[0])
    ids = one_array(block.table.column(ID).take(pa.array(rows)))
    times, idents = block.timestamps[rows], block.idents[rows]
    old_rows = old[rows].nonzero()[0]
    crowded, query, positions, log_rows = _candidates(state, idents, times, old_rows)
    found = []
    if len(query):
        only = block.dataset, np.unique(times[old_rows])
        found = crowds.read_ids(positions, log_rows, only)
    in_log = np.concatenate([query[:0], *(query[part.asked] for part in found)])
    log_times = np.concatenate([times[:0], *(part.times for part in found)])
    codes = pc.dictionary_encode(
        pa.concat_arrays([*(part.ids for part in found), ids.cast(pa.string())])
    ).indices.to_numpy(zero_copy_only=False)
    all_idents = np.concatenate([idents[in_log], idents])
    all_times = np.concatenate([log_times, times])
    sequence = np.concatenate([np.full(len(in_log), -1), rows])
    by = np.lexsort((sequence, codes, all_times, all_idents))
    repeat = np.zeros(len(by), np.bool_)
    repeat[1:] = (
        (all_idents[by][1:] == all_idents[by][:-1])
        & (all_times[by][1:] == all_times[by][:-1])
        & (codes[by][1:] == codes[by][:-1])
    )
    hits = sequence[by[repeat]]
    in_crowds = [rows[:0]]
    for key, part in crowded:
        own = [ids[i].as_py() for i in part.tolist()]
        known = crowds.has(key, state.locator, state.position, block.dataset, times[part], own)
        in_crowds.append(rows[part[known]])
    return np.union1d(hits[hits >= 0], np.concatenate(in_crowds))


def _candidates(
    state: State, idents: Array, times: Array, old_rows: Array
) -> tuple[list[tuple[int, Array]], Array, Array, Array]:
    """Rows of the log that old rows may repeat, each once: (of which row, position, row).

    First: the keys that have too many of them, each with the rows that ask.
    """
    keys, first, of_row = np.unique(
        pack(idents[old_rows], times[old_rows]), return_index=True, return_inverse=True
    )
    is_crowded = state.locator.counts(keys) > CROWD_ROWS
    crowded = [(int(keys[i]), old_rows[of_row == i]) for i in is_crowded.nonzero()[0].tolist()]
    few = (~is_crowded).nonzero()[0]
    query, positions, log_rows = state.locator.matches(keys[few])
    return crowded, old_rows[first[few[query]]], positions, log_rows


def _joined(tables: list[pa.Table]) -> pa.Table:
    if len(tables) == 1:
        return tables[0].combine_chunks()
    return pa.concat_tables(tables, promote_options="default").unify_dictionaries().combine_chunks()


def _dictionary(column: pa.ChunkedArray) -> pa.DictionaryArray:
    array = one_array(column)
    return array if pa.types.is_dictionary(array.type) else array.dictionary_encode()
