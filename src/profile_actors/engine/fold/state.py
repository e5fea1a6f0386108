"""A partition's state: what a fold of the log has come to, and how one decoded entry is folded in.

Theory: ``State`` is everything that can be thrown away and rebuilt from the log: idents, columns,
delay lines, cursors, receipts, counters. ``fold_rows`` computes a delta beside it, ``publish``
writes it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from itertools import chain

import numpy as np

from profile_actors.columnar.state_columns import UNSET, Image, reserve
from profile_actors.columnar.vectors import Array
from profile_actors.config import Config
from profile_actors.definitions.declared import Catalogue
from profile_actors.engine.fold.delta import Delta
from profile_actors.engine.fold.touches import Touches
from profile_actors.engine.histories.kept_events import HistoryDelta
from profile_actors.engine.identity.directory import Directory
from profile_actors.engine.identity.homes import Homes
from profile_actors.engine.identity.listing import Listing, part_of
from profile_actors.engine.identity.mailbox import NO_POST, Post
from profile_actors.engine.log.connections import Connections
from profile_actors.engine.log.entry import BatchNote, Block
from profile_actors.engine.log.repairs import Rejects
from profile_actors.engine.log.row_locator import Locator
from profile_actors.engine.membership.reach import in_order
from profile_actors.engine.membership.rulebook import Rulebook
from profile_actors.engine.membership.rulebook_builder import compile_plan
from profile_actors.engine.merge.entity_index import EntityIndex, EntityPart, keys_in
from profile_actors.engine.merge.live_rows import LiveRows, RecordPart
from profile_actors.engine.merge.record_union import Merging
from profile_actors.engine.merge.tied_rows import Read
from profile_actors.engine.operators import block_matching, crews
from profile_actors.engine.operators.aggregates import Track
from profile_actors.engine.operators.attribute_columns import AttributeTrack, stated_of
from profile_actors.engine.operators.block_matching import (
    BlockReader,
    arrivals_of_crew,
    history_arrivals,
)
from profile_actors.engine.operators.contributions import StepScope
from profile_actors.engine.operators.crews import Crew, CrewDelta, is_fit
from profile_actors.engine.operators.event_streams import Stream, StreamDelta
from profile_actors.rules.tree.plan import EventFilter, Plan
from profile_actors.rules.tree.sights import ALL, View


@dataclass(slots=True)
class Drain:
    """Work of one instant under way. at: ms. total: slots that there were. next: those below are
    done, and those marked in early (bool per slot)."""

    at: int
    total: int
    next: int = 0
    early: Array = field(default_factory=lambda: np.zeros(0, np.bool_))

    def __post_init__(self) -> None:
        self.early = np.zeros(self.total, np.bool_)

    def owed(self, slots: Array) -> Array:
        """Which of the slots have not had their part yet. bool[n]"""
        inside = (slots >= self.next) & (slots < self.total)
        return np.asarray(inside & ~self.early[np.minimum(slots, self.total - 1)])


@dataclass(slots=True)
class Counters:
    """Running totals of the log, for ``status``."""

    events: int = 0
    records: int = 0
    late: int = 0
    duplicate: int = 0
    changes: int = 0
    changes_by_clock: int = 0
    expired: int = 0


@dataclass(slots=True)
class State:
    """See the module. now: ms, UNSET before the first entry. cursors: producer -> next offset.
    receipts: producer -> last notes, newest last, with the position that holds each. sealed: names
    of runs of the newest checkpoint. drain: work of the instant ``now`` that is let happen in
    slices. image: what is being copied of it for a checkpoint. rejects: producer -> its rejected
    rows that may come again. connections: anonymous producers that may still be heard."""

    capacity: int
    directory: Directory
    book: Rulebook
    listing: Listing
    homes: Homes
    catalogue: Catalogue = field(default_factory=Catalogue)
    now: int = UNSET
    position: int = 0
    known: int = 0  # idents of published entries; admission gives them before the entry is durable
    layouts_at: int = -1
    locator: Locator = field(default_factory=Locator)
    record_locator: Locator = field(default_factory=Locator)
    live_rows: LiveRows = field(default_factory=lambda: LiveRows(0))
    sealed: frozenset[str] = frozenset()
    cursors: dict[str, int] = field(default_factory=dict)
    receipts: dict[str, list[tuple[int, BatchNote]]] = field(default_factory=dict)
    counters: Counters = field(default_factory=Counters)
    modified: Array = field(default_factory=lambda: np.zeros(0, np.int64))
    has_rows: Array = field(default_factory=lambda: np.zeros(0, np.bool_))
    touches: Touches = field(default_factory=lambda: Touches(0))
    drain: Drain | None = None
    rejects: dict[str, Rejects] = field(default_factory=dict)
    connections: Connections = field(default_factory=Connections)
    image: Image | None = None
    entities: EntityIndex = field(default_factory=lambda: EntityIndex(0))

    def touch(self, entries: int, *slots: Array) -> None:
        """These slots change in a publication after which so many entries are folded. The caller
        holds the partition's lock."""
        self.touches.touch(entries, *slots)
        self.touch_if_failed(entries)

    def touch_if_failed(self, entries: int) -> None:
        """All of them do if a rule has failed: it has no answer for anybody."""
        self.touches.note_failures(self.book.pending.keys(), entries, self.directory.slots)

    def changing(self, slots: Callable[[], Array]) -> AbstractContextManager[None]:
        """While rows of these slots (each once) change: for every write of the writer's. To be
        entered before the partition's lock: a slice of an image is waited for without it."""
        image = self.image
        return nullcontext() if image is None else image.changing(slots())

    @property
    def profiles(self) -> int:
        """How many slots readers know: those of published entries, one per ident. Not all of them
        need be listed."""
        return self.known

    def listed(self, slots: Array, single: bool = False) -> Array:
        """Those of the slots that are profiles for who reads now. single: single identities'."""
        return self.listing.listed(slots, self.position, single)

    def living(self, slots: Array, single: bool) -> tuple[Array, Array, Array]:
        """(index into the slots, entry position, row) of the record rows that say something of
        profiles; of single identities whose rows are in a person's book, of all their rows."""
        owners, positions, rows = self.live_rows.gather(slots)
        if not (single and self.listing.is_used):
            return owners, positions, rows
        idents = self.directory.ident_of[slots]
        is_apart = np.isin(idents, self.listing.leaving(idents))
        kept = ~is_apart[owners]
        parts = [(owners[kept], positions[kept], rows[kept])]
        for place in is_apart.nonzero()[0].tolist():
            _, positions, rows = self.record_locator.rows_of(int(idents[place]))
            parts.append((np.full(len(rows), place), positions, rows))
        owners, positions, rows = (np.concatenate(of) for of in zip(*parts, strict=True))
        order = owners.argsort(kind="stable")
        return owners[order], positions[order], rows[order]

    def named(self, slots: Array) -> Array:
        """Per slot the own ident of the identity that it goes by, a book's by its smallest; where
        that has none, the slot's. The caller holds the lock."""
        idents = self.directory.ident_of[slots]
        keys = self.homes.keys_of(idents)
        own = self.directory.find(keys[:, 0], keys[:, 1])
        return np.where(own >= 0, own, idents)

    def behavior(self, dataset: str) -> str:
        """'event', 'record' or 'lookup'."""
        return self.catalogue.schemas[self.catalogue.datasets[dataset].schema].behavior

    def replaces(self, dataset: str) -> bool:
        """Whether a row of the dataset stands for a whole record."""
        return self.catalogue.datasets[dataset].mode == "replace"

    def merging(self, view: View = ALL) -> Merging:
        """How record rows become a union view."""
        return Merging({name: self.replaces(name) for name in self.catalogue.datasets}, view.order)

    def bytes_by_kind(self, profiles: int) -> dict[str, int]:
        """Bytes of memory in use, roughly, by what they are for (``PartitionStatus``)."""
        book = self.book
        columns = [*book.qualified.values(), *(frozen.qualified for frozen in book.frozen.values())]
        tables = {id(column.rows): column.rows for column in columns}
        operators = [op for stream in book.streams for op in stream.operators]
        lines = [line for stream in book.streams for line in (stream.enter, stream.leave)]
        timers = [*book.timers(), *(rule.timer for rule in book.rescans)]
        locators = (self.locator, self.record_locator, self.entities.locator)
        runs = [run for locator in locators for run in locator.runs]
        return {
            "identities": self.directory.size_bytes,
            "entities": self.entities.size_bytes
            + sum(one.size_bytes for one in book.namers.values()),
            "instants": sum(rows.size_bytes(profiles) for rows in tables.values()),
            "levels": profiles * sum(gauge.level.itemsize for gauge in book.gauges),
            "aggregates": sum(op.size_bytes(profiles) for op in operators),
            "attributes": sum(one.size_bytes(profiles) for one in book.attributes.values()),
            "lines": sum(line.size_bytes for line in (*lines, *(one.line for one in timers))),
            "timers": sum(one.due[:profiles].nbytes for one in timers),
            "kept_events": sum(history.size_bytes for history in book.histories.values()),
            "records": self.live_rows.size_bytes,
            "modified": 8 * profiles,
            "touches": 8 * profiles,
            "log_index": sum(16 * len(run) for run in runs if not run.name),
        }

    def size_bytes(self, profiles: int) -> int:
        """Bytes of all kinds but the log's index, which checkpoints put into mapped files."""
        kinds = self.bytes_by_kind(profiles)
        return sum(kinds.values()) - kinds["log_index"]


def empty_state(config: Config, post: Post = NO_POST) -> State:
    """The state before the first entry."""
    capacity = config.max_profiles
    book = compile_plan(Plan(0, (), (), ()), Catalogue(), capacity)
    directory, listing = Directory(capacity), Listing(capacity)
    state = State(capacity, directory, book, listing, Homes(directory, listing, post))
    state.modified = reserve(capacity, np.int64)
    state.has_rows = reserve(capacity, np.bool_)
    state.touches = Touches(capacity)
    state.live_rows = LiveRows(capacity)
    state.entities = EntityIndex(config.max_lookup_rows)
    return state


def of_profiles(state: State, blocks: Sequence[Block]) -> list[Block]:
    """The blocks of an entry whose rows are a profile's: all but those of lookup datasets."""
    return [block for block in blocks if state.behavior(block.dataset) != "lookup"]


def record_parts(state: State, blocks: Iterable[Block], position: int) -> list[RecordPart]:
    """The rows of records of the entry at ``position`` that fold in their own slot."""
    out, first = [], 0
    for block in blocks:
        if state.behavior(block.dataset) == "record":
            rows, mine = first + np.arange(block.rows), block
            is_own = state.listing.is_own(block.idents, position)
            if not is_own.all():
                rows, mine = rows[is_own], part_of(block, is_own)
            if mine.rows:
                out.append(RecordPart(mine, rows, state.replaces(block.dataset)))
        first += block.rows
    return out


def add_entities(
    state: State,
    position: int,
    blocks: Iterable[tuple[int, Block]],
    lock: AbstractContextManager[object],
    read: Read,
    is_known: bool = False,
) -> None:
    """Prepare the rows of lookup datasets of the entry at ``position``, each block with the number
    of its first row; shown by ``entities.publish``. is_known: their rows are found already."""
    parts = []
    for first, block in blocks:
        keys = keys_in(block)
        if keys is None:  # from before, when they had idents
            keys = state.directory.keys_of(block.idents)
        parts.append(EntityPart(block, first, keys, state.replaces(block.dataset)))
    if parts:
        state.entities.add(position, parts, lock, read, is_known)


def _step_streams(
    state: State, delta: Delta, numbers: Iterable[int], step: Callable[[Stream], StreamDelta | None]
) -> dict[int, list[Track | None]]:
    """The tracks of those of these streams that moved, by number. An operator's defect must neither
    stop the log, nor come back at every replay, nor touch another operator."""
    book, tracks = state.book, {}
    for index in numbers:
        stream = book.streams[index]
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
            delta.broken[stream.operators[place].aggregate] = _failure(state, raised)
    return tracks


Sides = tuple[list[BlockReader], list[BlockReader]]
"""An entry's rows as rules about people see them, and as rules about single identities do."""


def _step_crews(
    state: State, delta: Delta, numbers: list[int], sides: Sides, scope: StepScope
) -> tuple[list[tuple[CrewDelta, list[int]]], list[int]]:
    """The steps of the streams of these that go together, each with the members' numbers; and the
    numbers of the others.

    Of large blocks each goes alone: their rows cost more than the calls.
    """
    found: dict[int, tuple[Crew, list[int]]] = {}
    streams = state.book.streams
    if sum([reader.block.rows for reader in max(sides, key=len)]) <= block_matching.FEW_ROWS:
        for number in numbers:
            crew = streams[number].crew
            if isinstance(crew, Crew) and is_fit(streams[number]):
                found.setdefault(id(crew), (crew, []))[1].append(number)
    steps: list[tuple[CrewDelta, list[int]]] = []
    gone: set[int] = set()
    for crew, mine in found.values():
        if len(mine) < crews.FEW_MEMBERS:
            continue
        mine.sort(key=lambda number: streams[number].number)
        members = [streams[number] for number in mine]
        try:
            arrivals = arrivals_of_crew(crew, members, sides[crew.filter.single])
            if arrivals is not None and arrivals.failed:
                continue
            done = crew.together(members, arrivals, scope)
        except Exception:  # whose fault it is shows when each goes alone
            continue
        gone.update(mine)
        if done is None:
            continue
        delta.crews.append(done)
        steps.append((done, mine))
    return steps, [number for number in numbers if number not in gone]


def _reached_streams(state: State, sides: Sides, now: int) -> list[int]:
    """The streams that rows of these blocks reach, or of which something is due by ``now``."""
    book = state.book
    readers = sides[0] if sides[0] is sides[1] else [*sides[0], *sides[1]]
    reached = (book.reach.streams.reached(reader.types) for reader in readers)
    due = [
        number
        for number, stream in enumerate(book.streams)
        if stream.enter.first <= now or stream.leave.first <= now
    ]
    return in_order(chain.from_iterable(reached), due)


def _step_histories(
    state: State, delta: Delta, sides: Sides, now: int
) -> dict[EventFilter, HistoryDelta]:
    """What the histories that moved have kept; one that raises keeps no more."""
    book, out = state.book, {}
    histories = list(book.histories.items())
    readers = sides[0] if sides[0] is sides[1] else [*sides[0], *sides[1]]
    reached = (book.reach.histories.reached(reader.types) for reader in readers)
    for number in in_order(chain.from_iterable(reached)):
        events, history = histories[number]
        if events in book.broken:
            continue
        try:
            kept = history.step(history_arrivals(history, sides[events.single]), now)
        except Exception as error:
            delta.broken[events] = _failure(state, error)
            continue
        if kept is not None:
            out[events] = kept
            delta.histories.append((history, kept))
    return out


def _fold_attributes(
    state: State, delta: Delta, sides: tuple[list[Block], list[Block]]
) -> dict[str, AttributeTrack]:
    """The tracks of the attributes that records state; one that raises takes no more in."""
    book, out = state.book, {}
    for path, attribute in book.attributes.items():
        if path in book.broken:
            continue
        try:
            records = sides[attribute.leaf.single]
            track = attribute.fold(stated_of(attribute, records, state.directory.slot_of))
        except Exception as error:
            delta.broken[path] = _failure(state, error)
            continue
        if track is not None:
            out[path] = track
            delta.attributes.append((attribute, track))
    return out


def _failure(state: State, error: Exception) -> str:
    return f"position {state.position}: {error!r}"
