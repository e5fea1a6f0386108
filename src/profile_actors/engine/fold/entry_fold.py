"""One log entry folded into a delta, and the delta published.

Law: a fold reads state and writes only scratch; what it finds broken is in its delta too. So to
fold and not to publish changes nothing (``has_rows`` is lent for one fold and given back empty;
tables of texts may have grown: a text means nothing until a published column names it).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

import numpy as np

from profile_actors.columnar.runs import last_of_runs, starts_of
from profile_actors.columnar.slot_pairs import slots_of_all
from profile_actors.columnar.state_columns import UNSET
from profile_actors.columnar.vectors import Array
from profile_actors.engine.fold.delta import Delta, RawChange
from profile_actors.engine.fold.fold import Fold
from profile_actors.engine.fold.moments import Tracks
from profile_actors.engine.fold.stage_times import Stages
from profile_actors.engine.fold.state import (
    Drain,
    State,
    _fold_attributes,
    _reached_streams,
    _step_crews,
    _step_histories,
    _step_streams,
    of_profiles,
)
from profile_actors.engine.log import change_blocks
from profile_actors.engine.log.entry import Block
from profile_actors.engine.merge.entity_index import keys_in
from profile_actors.engine.merge.entity_namers import EntityNamers, Named
from profile_actors.engine.merge.kept_rows import kept_blocks
from profile_actors.engine.operators.block_matching import (
    BlockReader,
    arrivals_of,
    read_block,
)
from profile_actors.engine.operators.contributions import StepScope
from profile_actors.engine.operators.event_streams import Stream, StreamDelta
from profile_actors.rules.tree.plan import Rescan

EVENT, LATE, CLOCK, DEFINITION, IDENTITY = range(5)


@dataclass(slots=True)
class EntryDelta:
    """What one entry changes beside the identities: the fold's delta and the bookkeeping.

    apart: slots of identities whose rows fold in their person's book. drain, slice_end: of a slice,
    what it is of, and the slot up to which that is done with it.
    named: entities that its rows name; reread: slots that name those which its rows are of."""

    fold: Delta
    groups: list[change_blocks.Group]
    touched: Array
    newest: list[tuple[Array, Array]]
    changes: int
    changes_by_clock: int
    rescans: list[Array]
    new_profiles: int
    drain: Drain | None = None
    slice_end: int = 0
    named: list[tuple[EntityNamers, Named]] = field(default_factory=list)
    reread: Array = field(default_factory=lambda: np.zeros(0, np.uint32))
    apart: Array = field(default_factory=lambda: np.zeros(0, np.intp))

    def slots(self) -> Array:
        """The slots whose rows ``publish`` writes: ascending, each once."""
        return slots_of_all(
            [self.fold.slots(), self.touched, self.reread, self.apart, *self.moved()]
        )

    def moved(self) -> list[Array]:
        """The slots that the clock alone changed; what rows changed is in ``touched``."""
        return [change.slots for change in self.fold.changes if change.by_clock]

    def add(self, early: EntryDelta | None) -> None:
        """Count another delta's changes, published already, as made by this entry."""
        if early is not None:
            self.groups[:0] = early.groups
            self.changes += early.changes
            self.changes_by_clock += early.changes_by_clock


@dataclass(frozen=True, slots=True)
class EntryRows:
    """An entry's rows as rules of one kind see them, prepared. touched: intp[n] per block of
    events, then per one of records: the slots that have rows in it, ascending."""

    readers: list[BlockReader]
    records: list[Block]
    touched: list[Array]

    @property
    def record_slots(self) -> list[Array]:
        """Those of ``touched`` that have rows of records."""
        return self.touched[len(self.readers) :]


Sides = tuple[EntryRows, EntryRows]
"""What rules about people see, and what those about single identities do; mostly the same."""


@contextmanager
def _marked(has_rows: Array, touched: list[Array]) -> Iterator[None]:
    """Lend out ``has_rows`` (bool per slot, all false) with these slots set."""
    try:
        for slots in touched:
            has_rows[slots] = True
        yield
    finally:
        for slots in touched:
            has_rows[slots] = False


def _rows_of(state: State, blocks: list[Block]) -> Sides:
    listing, position = state.listing, state.position
    people = _prepared(state, listing.folded(blocks, position))
    if not (state.book.single and listing.is_used):
        return people, people
    return people, _prepared(state, listing.folded(blocks, position, single=True))


def _prepared(state: State, blocks: list[Block]) -> EntryRows:
    slot_of = state.directory.slot_of
    blocks = kept_blocks(blocks, state.catalogue.expired)
    events = [b for b in blocks if state.behavior(b.dataset) == "event"]
    records = [b for b in blocks if state.behavior(b.dataset) == "record"]
    readers = [read_block(block, slot_of) for block in events]
    touched = [reader.slots[starts_of(reader.slots)].astype(np.intp) for reader in readers]
    touched += [np.unique(slot_of[block.idents]).astype(np.intp) for block in records]
    return EntryRows(readers, records, touched)


def fold_rows(
    state: State,
    blocks: list[Block],
    now: int,
    first_new_slot: int,
    stages: Stages | None = None,
) -> EntryDelta:
    """Fold an entry's rows and the clock's move to ``now``: operators, then what reads them, then
    the bytes of the feed."""
    stages, every = stages or Stages(), blocks
    blocks = of_profiles(state, every)
    rows = _rows_of(state, blocks)
    new_slots = np.arange(first_new_slot, state.directory.slots)
    parts = rows[0].touched if rows[0] is rows[1] else rows[0].touched + rows[1].touched
    with _marked(state.has_rows, parts):
        delta = _step(state, rows, now, new_slots, stages)
    groups, total, by_clock = _pack(state, delta.changes, _late_only(state, blocks))
    stages.lap("segments")
    touched = parts[0] if len(parts) == 1 else slots_of_all([*parts, new_slots])
    newest = [_newest(block) for block in blocks]
    rescans = [_touched_by(r.rule, rows[r.rule.view.single]) for r in state.book.rescans]
    out = EntryDelta(delta, groups, touched, newest, total, by_clock, rescans, len(new_slots))
    if state.listing.is_used:
        gone = [state.listing.leaving(block.idents) for block in blocks]
        out.apart = slots_of_all([state.directory.slot_of[idents] for idents in gone])
    if state.book.namers:
        _fold_entities(state, rows, every, out)
    return out


def _touched_by(rule: Rescan, rows: EntryRows) -> Array:
    """The slots of an entry's rows that a rescanned rule reads."""
    parts = rows.record_slots if rule.records else []
    for reader in rows.readers:
        types = rule.types
        if types is None or (reader.types and reader.types <= types and not reader.has_null_type):
            parts.append(reader.slots)
        elif types & reader.types:
            parts.append(reader.slots[reader.of_types(types)])
    if not parts:
        return np.zeros(0, np.uint32)
    return np.unique(np.concatenate(parts)).astype(np.uint32)


def _fold_entities(state: State, rows: Sides, blocks: list[Block], out: EntryDelta) -> None:
    """What rules read through relationships: entities that rows name, and entities that change,
    for which those who name them already are looked at again."""
    book, slot_of, seed = state.book, state.directory.slot_of, state.homes.seed
    for join, namers in book.namers.items():
        side = rows[join.single]
        mine = side.records
        if join.behavior == "event":
            mine = [reader.block for reader in side.readers]
        if mine:
            out.named.append((namers, namers.find(mine, slot_of, seed)))
    changed: dict[str, list[Array]] = {}
    for block in blocks:
        keys = keys_in(block) if state.behavior(block.dataset) == "lookup" else None
        if keys is not None:
            schema = state.catalogue.datasets[block.dataset].schema
            changed.setdefault(schema, []).append(keys)
    if not changed:
        return
    again = {
        join: namers.slots_of(np.concatenate(changed[join.target]))
        for join, namers in book.namers.items()
        if join.target in changed
    }
    for index, rescan in enumerate(book.rescans):
        found = [again[join] for join in rescan.rule.joins if join in again]
        if any(map(len, found)):
            out.rescans[index] = np.unique(np.concatenate([out.rescans[index], *found]))
    out.reread = slots_of_all(list(again.values()))


def _step(state: State, rows: Sides, now: int, new_slots: Array, stages: Stages) -> Delta:
    """The step of the whole partition to ``now`` with these rows."""
    # While the clock's work is done in slices it stands: rows alone are folded, and slots that are
    # owed their part are still before the instant of the drain.
    is_held = state.drain is not None
    scope = StepScope(now, state.now, has_rows=state.has_rows, is_held=is_held)
    delta = Delta(now, drops_due=not is_held)
    readers, records = (rows[0].readers, rows[1].readers), (rows[0].records, rows[1].records)
    reached = _reached_streams(state, readers, UNSET - 1 if is_held else now)
    crews, alone = _step_crews(state, delta, reached, readers, scope)

    def stepped(stream: Stream) -> StreamDelta | None:
        return stream.step(arrivals_of(stream, readers[stream.filter.single]), scope)

    tracks = _step_streams(state, delta, alone, stepped)
    histories = _step_histories(state, delta, readers, now - 1 if is_held else now)
    attributes = _fold_attributes(state, delta, records) if records[0] or records[1] else {}
    stages.lap("fold")
    moved = Tracks(tracks, crews)
    Fold(state.book, scope, delta, moved, attributes, histories, new_slots).qualify()
    return delta


def fold_slice(state: State, slots: Array, span: tuple[int, int] | None, at: int) -> EntryDelta:
    """Let happen what is due by ``at`` for these ascending slots alone (``clock_steps``). span:
    they are those of this range."""
    delta = Delta(at, drops_due=False)
    scope = StepScope(at, at - 1, slots=slots, span=span)
    every = range(len(state.book.streams))
    tracks = _step_streams(state, delta, every, lambda stream: stream.slice(slots, span, at))
    nobody = np.zeros(0, np.intp)
    Fold(state.book, scope, delta, Tracks(tracks), {}, {}, nobody).qualify()
    groups, total, by_clock = _pack(state, delta.changes, None)
    return EntryDelta(delta, groups, nobody, [], total, by_clock, [], 0)


def publish(state: State, delta: EntryDelta) -> None:
    """Write a folded entry. The caller holds the partition's lock."""
    delta.fold.publish(state.book)
    now = delta.fold.now
    state.modified[delta.touched] = now - UNSET
    state.modified[delta.apart] = now - UNSET
    state.touch(state.position + 1, delta.touched, delta.reread, *delta.moved())
    for namers, named in delta.named:
        namers.add(named)
    for idents, newest in delta.newest:
        state.directory.note_newest(idents, newest)
    state.now = now
    state.known = state.directory.count
    state.counters.changes += delta.changes
    state.counters.changes_by_clock += delta.changes_by_clock


def _newest(block: Block) -> tuple[Array, Array]:
    """(unique idents, newest timestamp of each) of a block."""
    idents = block.idents[block.order]
    if len(idents) == 0:
        return idents, np.zeros(0, np.int64)
    last = last_of_runs(idents).nonzero()[0]
    return idents[last], block.timestamps[block.order[last]]


def late_rows(state: State, block: Block) -> Array:
    """Which rows are older than the newest already folded for their identity. bool[n]."""
    if block.late is None:
        block.late = np.asarray(block.timestamps < state.directory.newest_of(block.idents))
    return block.late


def _late_only(state: State, blocks: list[Block]) -> Array | None:
    """Slots all of whose rows in this entry are late, ascending; None when there are none."""
    late: list[Array] = []
    fresh: list[Array] = []
    for block in blocks:
        mask = late_rows(state, block)
        if mask.any():
            late.append(block.idents[mask])
        if late or mask.any():
            fresh.append(block.idents[~mask])
    if not late:
        return None
    fresh = [b.idents[~late_rows(state, b)] for b in blocks]
    idents = np.setdiff1d(np.concatenate(late), np.concatenate(fresh))
    return np.sort(state.directory.slot_of[idents])


def _pack(
    state: State, raw: list[RawChange], late_only: Array | None
) -> tuple[list[change_blocks.Group], int, int]:
    """Pack slot changes as feed groups. Returns (groups, membership changes, of them by clock)."""
    groups, total, by_clock = [], 0, 0
    for change in _told(state, raw):
        idents = state.directory.ident_of[change.slots]
        cause: int | Array = CLOCK if change.by_clock else EVENT
        if late_only is not None and not change.by_clock:
            cause = np.where(np.isin(change.slots, late_only), LATE, EVENT)
        levels = (idents, change.old, change.new, change.at, cause)
        if change.gauges is not None:
            groups.append(change_blocks.gauges_group(change.gauges, *levels))
        elif change.gauge >= 0:
            groups.append(change_blocks.gauge_group(change.gauge, *levels))
        else:
            groups.append(
                change_blocks.computed_group(change.names, idents, change.new, change.at, cause)
            )
        total += change.flips
        by_clock += change.flips if change.by_clock else 0
    return groups, total, by_clock


def _told(state: State, raw: list[RawChange]) -> Iterator[RawChange]:
    """What of some changes is of listed profiles."""
    for change in raw:
        if not state.listing.is_used:
            yield change
            continue
        kept = _is_listed(state, change)
        if kept.all():
            yield change
        elif kept.any():
            for one in change.one_by_one():
                yield from _listed(state, one)


def _is_listed(state: State, change: RawChange) -> Array:
    """Which of a change's slots are profiles to the rules that it is of. bool[n]"""
    book = state.book
    single: bool | Array = False
    if book.single and change.gauges is not None:
        single = book.single_gauges[change.gauges]
    elif book.single and change.gauge >= 0:
        single = bool(book.single_gauges[change.gauge])
    elif book.single:  # names that stand together are of one stream, or of streams of one kind
        single = ("computed", change.names[0]) in book.single
    return state.listing.is_listed(change.slots, state.position, single)


def _listed(state: State, change: RawChange) -> Iterator[RawChange]:
    """What of the changes of one gauge, or of a mark, is of listed profiles."""
    kept = _is_listed(state, change)
    if not kept.any():
        return
    old, new = change.old[..., kept], change.new[..., kept]
    flips = 0
    if change.gauge >= 0:
        flips = sum(len(rows) for _, rows in state.book.gauges[change.gauge].flips(old, new))
    at = None if change.at is None else change.at[kept]
    yield replace(change, slots=change.slots[kept], old=old, new=new, at=at, flips=flips)
