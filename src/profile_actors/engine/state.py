"""A partition's state: what a fold of the log has come to, and how one decoded entry is folded in.

Theory: ``State`` is everything that can be thrown away and rebuilt from the log: idents, columns,
delay lines, cursors, receipts, counters. ``fold_rows`` computes a delta beside it, ``publish``
writes it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from profile_actors.definitions import Catalogue
from profile_actors.engine import changes
from profile_actors.engine.aggregates import Track
from profile_actors.engine.attributes import AttributeTrack
from profile_actors.engine.columns import UNSET, Array, reserve, starts_of
from profile_actors.engine.delta import Delta, RawChange
from profile_actors.engine.directory import Directory
from profile_actors.engine.drains import Drain
from profile_actors.engine.entry import BatchNote, Block
from profile_actors.engine.fold import Fold
from profile_actors.engine.history import HistoryDelta
from profile_actors.engine.locator import Locator
from profile_actors.engine.matching import (
    BlockReader,
    arrivals_of,
    history_arrivals,
    read_block,
    stated_of,
    touched_by,
)
from profile_actors.engine.repairs import Rejects
from profile_actors.engine.rulebook import Rulebook, compile_plan
from profile_actors.engine.stages import Stages
from profile_actors.engine.stream import Stream, StreamDelta
from profile_actors.rules.plan import EventFilter, Plan

EVENT, LATE, CLOCK, DEFINITION, IDENTITY = range(5)


@dataclass(slots=True)
class Counters:
    """Running totals of the log, for ``status``."""

    events: int = 0
    records: int = 0
    late: int = 0
    duplicate: int = 0
    changes: int = 0
    changes_by_clock: int = 0


@dataclass(slots=True)
class State:
    """See the module. now: ms, UNSET before the first entry. cursors: producer -> next offset.
    receipts: producer -> last notes, newest last, with the position that holds each. sealed: names
    of runs of the newest checkpoint. drain: work of the instant ``now`` that is let happen in
    slices. rejects: producer -> its rejected rows that may come again."""

    capacity: int
    directory: Directory
    book: Rulebook
    catalogue: Catalogue = field(default_factory=Catalogue)
    now: int = UNSET
    position: int = 0
    known: int = 0  # idents of published entries; admission gives them before the entry is durable
    layouts_at: int = -1
    locator: Locator = field(default_factory=Locator)
    record_locator: Locator = field(default_factory=Locator)
    sealed: frozenset[str] = frozenset()
    cursors: dict[str, int] = field(default_factory=dict)
    receipts: dict[str, list[tuple[int, BatchNote]]] = field(default_factory=dict)
    counters: Counters = field(default_factory=Counters)
    modified: Array = field(default_factory=lambda: np.zeros(0, np.int64))
    has_rows: Array = field(default_factory=lambda: np.zeros(0, np.bool_))
    drain: Drain | None = None
    rejects: dict[str, Rejects] = field(default_factory=dict)

    @property
    def profiles(self) -> int:
        """How many profiles readers know: those of published entries, one slot per ident."""
        return self.known

    def behavior(self, dataset: str) -> str:
        """'event', 'record' or 'lookup'."""
        return self.catalogue.schemas[self.catalogue.datasets[dataset].schema].behavior

    def size_bytes(self, profiles: int) -> int:
        """Bytes of state in use, roughly: columns up to the last profile, lines, identities."""
        per_profile = 8 + sum(gauge.level.itemsize for gauge in self.book.gauges)
        per_profile += 6 * len(self.book.qualified)
        total = self.directory.size_bytes
        for stream in self.book.streams:
            total += stream.enter.size_bytes + stream.leave.size_bytes
            for op in stream.operators:
                total += sum(a.nbytes for a in op.arrays(profiles).values())
        total += sum(history.size_bytes for history in self.book.histories.values())
        return total + per_profile * profiles


def empty_state(capacity: int) -> State:
    """The state before the first entry."""
    book = compile_plan(Plan(0, (), (), ()), Catalogue(), capacity)
    state = State(capacity, Directory(capacity), book)
    state.modified = reserve(capacity, np.int64)
    state.has_rows = reserve(capacity, np.bool_)
    return state


@dataclass(slots=True)
class EntryDelta:
    """What one entry changes beside the identities: the fold's delta and the bookkeeping.

    drain, slice_end: of a slice, what it is of, and the slot up to which that is done with it."""

    fold: Delta
    groups: list[changes.Group]
    touched: Array
    newest: list[tuple[Array, Array]]
    changes: int
    changes_by_clock: int
    rescans: list[Array]
    new_profiles: int
    drain: Drain | None = None
    slice_end: int = 0

    def add(self, early: EntryDelta | None) -> None:
        """Count another delta's changes, published already, as made by this entry."""
        if early is not None:
            self.groups[:0] = early.groups
            self.changes += early.changes
            self.changes_by_clock += early.changes_by_clock


def fold_rows(
    state: State,
    blocks: list[Block],
    now: int,
    first_new_slot: int,
    stages: Stages | None = None,
) -> EntryDelta:
    """Fold an entry's rows and the clock's move to ``now``. Reads state, writes only scratch."""
    stages = stages or Stages()
    book, slot_of = state.book, state.directory.slot_of
    events = [b for b in blocks if state.behavior(b.dataset) == "event"]
    records = [b for b in blocks if state.behavior(b.dataset) == "record"]
    readers = [read_block(block, slot_of) for block in events]
    touched = [reader.slots[starts_of(reader.slots)].astype(np.intp) for reader in readers]
    touched += [np.unique(slot_of[block.idents]).astype(np.intp) for block in records]
    has_rows = state.has_rows
    for slots in touched:
        has_rows[slots] = True
    try:
        is_held = state.drain is not None
        delta = Delta(now, cuts=not is_held)

        def step(stream: Stream) -> StreamDelta | None:
            return stream.step(arrivals_of(stream, readers), now, has_rows, is_held)

        tracks = _step_streams(state, delta, step)
        # Slots that are owed their part are still before the instant of the drain.
        histories = _step_histories(state, delta, readers, now - 1 if is_held else now)
        attributes = _fold_attributes(state, delta, records) if records else {}
        stages.lap("fold")
        new_slots = np.arange(first_new_slot, state.directory.slots)
        fold = Fold(
            book, now, tracks, attributes, new_slots, has_rows, None, state.now, histories,
            is_held=is_held,
        )  # fmt: skip
        fold.delta = delta
        fold.qualify()
        late_only = _late_only(state, blocks)
        groups, total, by_clock = _pack(state, delta.changes, late_only)
        stages.lap("segments")
    finally:
        for slots in touched:
            has_rows[slots] = False
    newest = [_newest(block) for block in blocks]
    record_slots = touched[len(readers) :]
    rescans = [touched_by(rule.rule, readers, record_slots) for rule in book.rescans]
    all_touched = touched[0] if len(touched) == 1 else np.concatenate([*touched, new_slots])
    return EntryDelta(delta, groups, all_touched, newest, total, by_clock, rescans, len(new_slots))


def _step_streams(
    state: State, delta: Delta, step: Callable[[Stream], StreamDelta | None]
) -> dict[int, list[Track | None]]:
    """The tracks of the streams that moved. An operator's defect must neither stop the log, nor
    come back at every replay, nor touch another operator."""
    book, tracks = state.book, {}
    for index, stream in enumerate(book.streams):
        if stream.is_silent:
            continue
        failed: dict[int, Exception] = {}
        try:
            done = step(stream)
            if done is not None:
                tracks[index], failed = done.tracks, done.failed
                delta.streams.append((stream, done))
        except Exception as error:  # the filter of all of them
            failed = dict.fromkeys(range(len(stream.operators)), error)
        for place, raised in failed.items():
            book.degrade(stream.operators[place].aggregate, _failure(state, raised))
    return tracks


def _step_histories(
    state: State, delta: Delta, readers: list[BlockReader], now: int
) -> dict[EventFilter, HistoryDelta]:
    """What the histories that moved have kept; one that raises keeps no more."""
    book, out = state.book, {}
    for events, history in book.histories.items():
        if events in book.broken:
            continue
        try:
            kept = history.step(history_arrivals(history, readers), now)
        except Exception as error:
            book.degrade(events, _failure(state, error))
            continue
        if kept is not None:
            out[events] = kept
            delta.histories.append((history, kept))
    return out


def _fold_attributes(state: State, delta: Delta, records: list[Block]) -> dict[str, AttributeTrack]:
    """The tracks of the attributes that records state; one that raises takes no more in."""
    book, out = state.book, {}
    for path, attribute in book.attributes.items():
        if path in book.broken:
            continue
        try:
            track = attribute.fold(stated_of(attribute, records, state.directory.slot_of))
        except Exception as error:
            book.degrade(path, _failure(state, error))
            continue
        if track is not None:
            out[path] = track
            delta.attributes.append((attribute, track))
    return out


def _failure(state: State, error: Exception) -> str:
    return f"position {state.position}: {error!r}"


def fold_slice(state: State, slots: Array, span: tuple[int, int] | None, at: int) -> EntryDelta:
    """Let happen what is due by ``at`` for these ascending slots alone (``drains``). span: they are
    those of this range. Reads state, writes only scratch."""
    book = state.book
    delta = Delta(at, cuts=False)
    tracks = _step_streams(state, delta, lambda stream: stream.slice(slots, span, at))
    nobody = np.zeros(0, np.intp)
    fold = Fold(book, at, tracks, {}, nobody, None, slots, at - 1, span=span)
    fold.delta = delta
    fold.qualify()
    groups, total, by_clock = _pack(state, delta.changes, None)
    return EntryDelta(delta, groups, nobody, [], total, by_clock, [], 0)


def publish(state: State, delta: EntryDelta) -> None:
    """Write a folded entry. The caller holds the partition's lock."""
    delta.fold.publish()
    now = delta.fold.now
    state.modified[delta.touched] = now - UNSET
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
    last = np.flatnonzero(np.append(idents[1:] != idents[:-1], True))
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
) -> tuple[list[changes.Group], int, int]:
    """Pack slot changes as feed groups. Returns (groups, membership changes, of them by clock)."""
    groups, total, by_clock = [], 0, 0
    for change in raw:
        idents = state.directory.ident_of[change.slots]
        cause: int | Array = CLOCK if change.by_clock else EVENT
        if late_only is not None and not change.by_clock:
            cause = np.where(np.isin(change.slots, late_only), LATE, EVENT)
        if change.gauge < 0:
            groups.append(
                changes.computed_group(change.names, idents, change.new, change.at, cause)
            )
            continue
        groups.append(
            changes.gauge_group(change.gauge, idents, change.old, change.new, change.at, cause)
        )
        total += change.flips
        by_clock += change.flips if change.by_clock else 0
    return groups, total, by_clock
