"""From an entry's blocks to what each stream, history and attribute takes in.

Theory: an entry visits only the streams that its event types reach. Predicates and value
expressions are evaluated once per block, however many aggregates share them, over the columns as
they came; the rows that match are taken in slot order through the block's permutation.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial

import numpy as np

from profile_actors.columnar.runs import order_by
from profile_actors.columnar.vectors import Array, Vector, column, null, truth
from profile_actors.definitions.field_types import FieldType
from profile_actors.engine.histories.kept_events import EventHistory, HistoryArrivals
from profile_actors.engine.log.entry import Block
from profile_actors.engine.merge.order_ties import ties_of
from profile_actors.engine.operators.aggregates import Additive, Silent
from profile_actors.engine.operators.contributions import concat, take
from profile_actors.engine.operators.crews import Crew
from profile_actors.engine.operators.delay_chunks import Payload
from profile_actors.engine.operators.event_streams import Arrivals, Stream, is_of_types_alone
from profile_actors.engine.operators.extremes import Extreme
from profile_actors.engine.operators.long_sums import LongSum
from profile_actors.ingest.hidden_columns import ID, TIMESTAMP, TYPE
from profile_actors.rules.evaluation.planned_values import vector_of
from profile_actors.rules.evaluation.windows import interval
from profile_actors.rules.tree.kinds import path
from profile_actors.rules.tree.nodes import Element, Field, Node, Occurs
from profile_actors.rules.tree.plan import EventFilter
from profile_actors.rules.tree.sights import DATASET

EVENT_TYPE = Field(Element(0), "eventType", type=FieldType("string"))


FEW_ROWS = 1_024
"""To sort so few rows by when they leave costs less than to take them in order of time."""


HIDDEN_OF = {"timestamp": TIMESTAMP, "eventType": TYPE, "_id": ID}


@dataclass(slots=True)
class Selection:
    """The rows of a block that one predicate lets through. slots, rows, times: theirs, rows being
    those of the block; payloads: what operators keep of them, by operator and value."""

    slots: Array
    rows: Array
    times: Array
    payloads: dict[tuple[int, int], Array] = field(default_factory=dict)


@dataclass(slots=True)
class BlockReader:
    """One block of events, with what was computed over it so far.

    slots: uint32[n] ascending, order: the block row of each; row_slots: the slot of each row.
    types: the event types that occur. is_in_time: the rows ascend in time.
    """

    block: Block
    slots: Array
    order: Array
    types: frozenset[str]
    has_null_type: bool
    row_slots: Array
    is_in_time: bool
    columns: dict[str, Vector] = field(default_factory=dict)
    # By identity: the planner makes equal nodes one object, and hashing a tree is not free.
    known: dict[int, Vector] = field(default_factory=dict)
    selections: dict[tuple[int, bool], Selection] = field(default_factory=dict)
    intervals: dict[tuple[int, ...], tuple[Array, Array]] = field(default_factory=dict)
    members: dict[object, tuple[Selection, Array]] = field(default_factory=dict)

    def leaf(self, node: Node) -> Vector:
        """The vector of an event field, null where this dataset does not have it."""
        name = path(node)
        assert name is not None, node
        return self.field(name, node.type.kind if node.type is not None else "integer")

    def field(self, name: str, kind: str) -> Vector:
        """The vector of a field by its dotted path; of this kind if there is none, all null."""
        if name not in self.columns:
            source = HIDDEN_OF.get(name, name)
            if name == DATASET:
                none = np.broadcast_to(np.int32(0), (self.block.rows,))
                self.columns[name] = Vector(none, None, (self.block.dataset,))
            elif source in self.block.table.column_names:
                self.columns[name] = column(self.block.table.column(source))
            else:
                one = null(kind)
                count = self.block.rows
                self.columns[name] = Vector(
                    np.broadcast_to(one.values, (count,)), np.zeros(count, np.bool_), one.dictionary
                )
        return self.columns[name]

    def of_types(self, types: frozenset[str]) -> Array:
        """Indexes into ``slots``/``order`` of the rows of these event types."""
        return self._has_type(types)[self.order].nonzero()[0]

    def _has_type(self, types: frozenset[str]) -> Array:
        """Which rows of the block are of these event types. bool[n]"""
        texts = self.leaf(EVENT_TYPE)
        codes = [code for code, text in enumerate(texts.dictionary or ()) if text in types]
        if len(codes) == 1:
            hits = np.asarray(texts.values == codes[0])
        else:
            wanted = np.zeros(len(texts.dictionary or ()) or 1, np.bool_)
            wanted[codes] = True
            hits = wanted[texts.values]
        return hits if texts.valid is None else hits & texts.valid

    def value(self, node: Node) -> Vector:
        """An expression over the block's events, evaluated once."""
        found = self.known.get(id(node))
        if found is None:
            if isinstance(node, Field) and (name := path(node)) is not None:
                # A field is its column, and needs no evaluator.
                found = self.field(name, node.type.kind if node.type is not None else "integer")
            if found is None or found.values.dtype == object:
                found = vector_of(node, self.leaf, self.block.rows, 0)
            self.known[id(node)] = found
        return found

    def selected(self, event_filter: EventFilter, in_time: bool = False) -> Selection:
        """The rows that the filter lets through, whenever they count, in slot order; or in the
        block's, that of time.

        Streams of one predicate differ in their windows only, so it is made once.
        """
        predicate = event_filter.predicate
        key = (id(predicate), in_time)
        found = self.selections.get(key)
        if found is None:
            slots, rows = self.slots, self.order
            if in_time:
                slots, rows = self.row_slots, np.arange(self.block.rows)
            if predicate is not None:
                if is_of_types_alone(event_filter):
                    assert event_filter.types is not None
                    passes = self._has_type(event_filter.types)
                else:
                    passes = truth(self.value(predicate))
                hits = passes[rows].nonzero()[0]
                if len(hits) < len(rows):
                    slots, rows = slots[hits], rows[hits]
            found = self.selections[key] = Selection(slots, rows, self.block.timestamps[rows])
        return found

    def by_member(self, numbers: dict[str, int]) -> tuple[Selection, Array]:
        """The rows of these event types by (number, slot), and the number of each. numbers: of each
        type that of the only one who takes it in."""
        key = tuple(numbers.items())
        found = self.members.get(key)
        if found is None:
            texts = self.leaf(EVENT_TYPE)
            table = np.array([numbers.get(text, -1) for text in texts.dictionary or ("",)], np.intp)
            number_of = table.take(texts.values)
            if texts.valid is not None:
                number_of[~texts.valid] = -1
            number_of = number_of.take(self.order)
            places = number_of.argsort(kind="stable")
            numbered = number_of.take(places)
            first = int(numbered.searchsorted(0))
            places, numbered = places[first:], numbered[first:]
            rows = self.order.take(places)
            chosen = Selection(self.slots.take(places), rows, self.block.timestamps.take(rows))
            found = self.members[key] = chosen, numbered
        return found

    def bounds(self, window: tuple[Occurs, ...], found: Selection) -> tuple[Array, Array] | None:
        """When selected rows enter and leave a window; None for no window.

        Of a small block once for all streams of a window: there a call costs more than its rows.
        """
        if not window:
            return None
        if self.block.rows > FEW_ROWS:
            return interval(window, found.times)
        key = tuple(map(id, window))
        known = self.intervals.get(key)
        if known is None:
            known = self.intervals[key] = interval(window, self.block.timestamps)
        enter, leave = known
        return enter[found.rows], leave[found.rows]

    def payload(self, stream: Stream, selection: Selection) -> tuple[Payload, dict[int, Exception]]:
        """What the stream's delay lines keep of these rows, and what operators' values raised, by
        index: zeros stand for what those would keep."""
        out: Payload = {}
        failed: dict[int, Exception] = {}
        for index, op in enumerate(stream.operators):
            value = op.aggregate.value
            if op.name is None or value is None:
                continue
            # What the others keep depends on more: on which end an extreme is, on known values.
            key = (id(type(op) if isinstance(op, Additive) else op), id(value))
            kept = selection.payloads.get(key)
            if kept is None and not isinstance(op, Silent):
                try:
                    kept = op.payload(_rows_of(self.value(value), selection.rows))
                    selection.payloads[key] = kept
                except Exception as error:
                    failed[index] = error
            out[op.name] = np.zeros(len(selection.rows), np.int8) if kept is None else kept
            if op.presence is not None:
                out[op.presence] = np.zeros(len(selection.rows), np.int8)
                if kept is not None and isinstance(op, Extreme | LongSum):
                    out[op.presence] = op.second(_rows_of(self.value(value), selection.rows))
        return out, failed


def read_block(block: Block, slot_of: Array) -> BlockReader:
    """Prepare a block for matching: its rows in slot order."""
    row_slots = slot_of[block.idents].astype(np.uint32)
    order = block.order
    slots = row_slots[order]
    times = block.timestamps
    is_in_time = bool((times[1:] >= times[:-1]).all())
    if len(slots) > 1 and (slots[1:] < slots[:-1]).any():
        again = slots.argsort(kind="stable")
        slots, order = slots[again], order[again]
    types: frozenset[str] = frozenset()
    has_null = False
    columns: dict[str, Vector] = {}
    if TYPE in block.table.column_names:
        texts = columns["eventType"] = column(block.table.column(TYPE))
        has_null = texts.valid is not None
        used = np.bincount(texts.values, minlength=1).nonzero()[0]
        names = texts.dictionary or ()
        types = frozenset([names[code] for code in used.tolist() if code < len(names)])
    return BlockReader(block, slots, order, types, has_null, row_slots, is_in_time, columns)


def _let_through(
    event_filter: EventFilter, readers: list[BlockReader]
) -> Iterator[tuple[BlockReader, Selection]]:
    """Per block with matching rows: (reader, the rows in slot order)."""
    wanted = event_filter.types
    for reader in readers:
        if wanted is not None and not (wanted & reader.types):
            continue
        found = reader.selected(event_filter)
        if len(found.rows):
            yield reader, found


def arrivals_of(stream: Stream, readers: list[BlockReader]) -> Arrivals | None:
    """The rows of all blocks that a stream's filter lets through, in slot order."""
    parts: list[Arrivals] = []
    for reader, found in _let_through(stream.filter, readers):
        in_time = None
        if reader.is_in_time and len(found.rows) > FEW_ROWS:
            in_time = partial(_in_time, stream, reader)
        payload, failed = reader.payload(stream, found)
        bounds = None
        if in_time is None:  # else the rows are looked at once more, in that order
            bounds = reader.bounds(stream.filter.window, found)
        parts.append(Arrivals(found.slots, found.times, payload, bounds, in_time, failed))
    return _one_after_the_other(parts)


def arrivals_of_crew(
    crew: Crew, members: Sequence[Stream], readers: list[BlockReader]
) -> Arrivals | None:
    """The rows of all blocks that these members' filters let through, by cell."""
    parts: list[Arrivals] = []
    numbers = _member_of_type(members)
    for reader in readers:
        if numbers is None:
            found = _member_by_member(members, reader)
        else:
            found = reader.by_member(numbers) if numbers.keys() & reader.types else None
        if found is None or not len(found[0].rows):
            continue
        chosen, member_of = found
        cells = chosen.slots + (member_of * crew.capacity).astype(np.uint32)
        payload, failed = reader.payload(crew, chosen)
        bounds = reader.bounds(crew.filter.window, chosen)
        parts.append(Arrivals(cells, chosen.times, payload, bounds, None, failed))
    return _one_after_the_other(parts)


def _member_of_type(members: Sequence[Stream]) -> dict[str, int] | None:
    """The member's number that takes in each event type; None where filters say more than that, or
    some take in the same."""
    found: dict[str, int] = {}
    for member in members:
        types = member.filter.types
        if types is None or not is_of_types_alone(member.filter) or found.keys() & types:
            return None
        found.update(dict.fromkeys(types, member.number))
    return found


def _member_by_member(
    members: Sequence[Stream], reader: BlockReader
) -> tuple[Selection, Array] | None:
    some = [
        (member.number, found)
        for member in members
        for _, found in _let_through(member.filter, [reader])
    ]
    if not some:
        return None
    sizes = [len(found.rows) for _, found in some]
    joined = Selection(
        np.concatenate([found.slots for _, found in some]),
        np.concatenate([found.rows for _, found in some]),
        np.concatenate([found.times for _, found in some]),
    )
    return joined, np.repeat([number for number, _ in some], sizes)


def _one_after_the_other(parts: list[Arrivals]) -> Arrivals | None:
    """The rows of all parts, in slot order."""
    if not parts:
        return None
    if len(parts) == 1:
        return parts[0]
    slots = np.concatenate([part.slot for part in parts])
    order = slots.argsort(kind="stable")
    return Arrivals(
        slots[order],
        np.concatenate([part.timestamp for part in parts])[order],
        take(concat([part.columns for part in parts]), order),
        failed={index: error for part in parts for index, error in part.failed.items()},
    )


def history_arrivals(history: EventHistory, readers: list[BlockReader]) -> HistoryArrivals | None:
    """The rows of all blocks that a history's filter lets through, in slot order.

    Cost: a few passes per field kept; with a window some 30 to 200 ns per row and conjunct; what
    ``order_ties`` says where the order among equal times shows.
    """
    spec = history.spec
    parts: list[HistoryArrivals] = []
    for reader, found in _let_through(spec.filter, readers):
        slots, rows, times = found.slots, found.rows, found.times
        enter, leave = interval(spec.filter.window, times) if spec.filter.window else (None, None)
        columns = {}
        for name, kind in spec.fields:
            vector = _rows_of(reader.field(name, kind.kind), rows)
            if kind.kind == "string":
                codes = history.texts.codes(vector)
                vector = Vector(codes, vector.valid, history.texts)
            columns[name] = vector
        tie = ties_of(reader.block, rows) if spec.is_ordered else None
        parts.append(HistoryArrivals(slots, times, enter, leave, columns, tie))
    return _in_slot_order(parts) if len(parts) > 1 else parts[0] if parts else None


def _in_slot_order(parts: list[HistoryArrivals]) -> HistoryArrivals:
    slots = np.concatenate([part.slot for part in parts])
    order = order_by(slots)

    def of(arrays: list[Array | None]) -> Array | None:
        present = [array for array in arrays if array is not None]
        return np.concatenate(present)[order] if present else None

    columns = {}
    for name, first in parts[0].columns.items():
        vectors = [part.columns[name] for part in parts]
        values = np.concatenate([vector.values for vector in vectors])[order]
        valid = None
        if any(vector.valid is not None for vector in vectors):
            masks = [
                np.ones(len(v.values), np.bool_) if v.valid is None else v.valid for v in vectors
            ]
            valid = np.concatenate(masks)[order]
        columns[name] = Vector(values, valid, first.dictionary)
    return HistoryArrivals(
        slots[order],
        np.concatenate([part.timestamp for part in parts])[order],
        of([part.enter for part in parts]),
        of([part.leave for part in parts]),
        columns,
        of([part.tie for part in parts]),
    )


def _in_time(stream: Stream, reader: BlockReader) -> Arrivals:
    """The matching rows in the order of the block, which ascends in time."""
    found = reader.selected(stream.filter, in_time=True)
    payload, failed = reader.payload(stream, found)
    return Arrivals(found.slots, found.times, payload, failed=failed)


def _rows_of(vector: Vector, rows: Array) -> Vector:
    if vector.valid is None and vector.dictionary is None:
        return Vector(vector.values[rows])
    valid = None if vector.valid is None else vector.valid[rows]
    return Vector(vector.values[rows], valid, vector.dictionary)
