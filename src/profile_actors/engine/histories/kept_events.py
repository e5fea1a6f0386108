"""Histories: the events that one filter lets through, kept per profile, in order, in columns.

Theory: one *arena* per history, an array (*lane*) per thing kept: time, the instants at which an
event begins and ceases to count, each field, its validity from the first null on, and what decides
the order among equal times if that shows. A slot owns one *block* of the arena: ``start``, ``size``
rows in order, ``room`` for more. Rows that come in order and fit are put behind the block; a reader
does not see them until ``size`` says so, so a step does it beside the state, without a lock.
Otherwise the block is written again, merged, at the arena's end, with twice the room. An arena more
than half of which is abandoned blocks is packed, a full one made longer, always in new arrays: what
was gathered stays readable for as long as somebody holds it. An event that has ceased to count is
dropped when its block is written again or the arena packed.

Law: the rows of a slot and their order depend on the set of events alone, not on steps and batches
(rows equal in all that decides the order keep the order of arrival).

Limits: everything is in memory: 8 bytes per event, 16 if there is a window, 1 to 8 per field, times
two for room. The tie lane is as wide as the longest id in it. Texts that no event has any more are
forgotten now and then (``forgetting``).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from copy import copy
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from profile_actors.columnar.runs import ranges, sizes_of, starts_of
from profile_actors.columnar.state_columns import UNSET, ColumnCopy, Saving, reserve
from profile_actors.columnar.vectors import FOREVER, Array, Texts, Vector
from profile_actors.engine.histories.kept_arena import (
    MIN_ROOM,
    MIN_ROWS,
    _Blocks,
    _Incoming,
    _longer,
    _place,
    _Space,
    _taken,
    _write,
)
from profile_actors.engine.merge.order_ties import is_in_order, ordered
from profile_actors.rules.tree.plan import History

NEVER = -FOREVER
DTYPES = {"string": np.int32, "double": np.float64, "boolean": np.bool_}  # the others: int64


@dataclass(frozen=True, slots=True)
class HistoryArrivals:
    """Events that the filter lets through. slot: uint32[n] ascending; timestamp: int64[n] ms.

    enter, leave: int64[n], an event counts while enter <= now < leave; None without a window: from
    its timestamp on. columns: per field (dotted path) values and validity, texts as codes of the
    partition's ``Texts``. tie: bytes[n] that order events of one timestamp, if the history asks.
    """

    slot: Array
    timestamp: Array
    enter: Array | None
    leave: Array | None
    columns: Mapping[str, Vector]
    tie: Array | None = None


@dataclass(frozen=True, slots=True)
class HistoryDelta:
    """What one step did, beside the state. slots: the touched ones, intp, ascending, unique.

    start, size, room: their blocks. max_enter: of the history, with this step.
    """

    now: int
    slots: Array
    start: Array
    size: Array
    room: Array
    space: _Space
    max_enter: int


class KeptRows:
    """The kept events of some slots, as they were when they were gathered; lanes read when asked.

    starts, sizes: the rows of each owner, int64[k]. Rows of one owner stand in order. max_enter: no
    kept event enters later.
    """

    def __init__(
        self,
        history: EventHistory,
        lanes: dict[str, Array],
        start: Array,
        sizes: Array,
        max_enter: int,
    ) -> None:
        self.max_enter = max_enter
        self._start = start
        self._texts = history.texts
        self._spec = history.spec
        self._lanes = lanes
        self._columns: dict[str, Vector] = {}
        self.sizes = sizes

    def __len__(self) -> int:
        return len(self._cells)

    @cached_property
    def _cells(self) -> Array:
        return ranges(self._start, self.sizes)

    @cached_property
    def starts(self) -> Array:
        """int64[k]: the first row of each owner (of an owner without rows: of the next)."""
        return np.asarray(np.cumsum(self.sizes) - self.sizes)

    @cached_property
    def owner(self) -> Array:
        """intp[n], ascending: index into the slots that were asked for."""
        return np.repeat(np.arange(len(self.sizes)), self.sizes)

    @cached_property
    def time(self) -> Array:
        """int64[n]: timestamps in ms."""
        return self._lanes["time"].take(self._cells)

    @cached_property
    def enter(self) -> Array:
        """int64[n]: the instants from which the events count."""
        lane = self._lanes.get("enter")
        return self.time if lane is None else lane.take(self._cells)

    @cached_property
    def leave(self) -> Array | None:
        """int64[n]: the instants from which they no longer do; None: they always will."""
        lane = self._lanes.get("leave")
        return None if lane is None else lane.take(self._cells)

    def column(self, path: str) -> Vector:
        """A field of the events; texts as codes of the partition's ``Texts``. Read once."""
        if path not in self._columns:
            values = self._lanes[f"value/{path}"].take(self._cells)
            lane = self._lanes.get(f"valid/{path}")
            valid = None if lane is None else lane.take(self._cells)
            if valid is not None and valid.all():
                valid = None
            is_text = dict(self._spec.fields)[path].kind == "string"
            self._columns[path] = Vector(values, valid, self._texts if is_text else None)
        return self._columns[path]


class EventHistory:
    """One filter's kept events. The partition's lock covers ``publish``, and ``gather`` by readers.

    texts: shared by the histories of a partition. capacity: slots of the partition. places: scratch
    of the thread that makes deltas, uint32 per slot; histories may share it.
    """

    def __init__(
        self, spec: History, texts: Texts, capacity: int, places: Array | None = None
    ) -> None:
        self._places = reserve(capacity, np.uint32) if places is None else places
        self.spec = spec
        self.texts = texts
        self.now = UNSET
        self.max_enter = NEVER  # no kept event enters later; an upper bound, as events also go
        self._slots = 0  # one past the greatest slot that ever had rows
        self._space = _Space(self._no_lanes(), _Blocks.empty(capacity), 0, 0, MIN_ROWS)

    def _no_lanes(self) -> dict[str, Array]:
        kinds: dict[str, np.dtype | type | str] = {"time": np.int64}
        if self.spec.filter.window:
            kinds["leave"] = np.int64
        if self.spec.is_ordered:
            kinds["tie"] = "S1"
        for path, kind in self.spec.fields:
            kinds[f"value/{path}"] = DTYPES.get(kind.kind, np.int64)
        return {name: np.empty(MIN_ROWS, kind) for name, kind in kinds.items()}

    @property
    def size_bytes(self) -> int:
        """Bytes of the arena that were written, and of the blocks' columns."""
        row = sum(lane.itemsize for lane in self._space.lanes.values())
        return row * self._space.end + 16 * self._slots

    @property
    def text_lanes(self) -> list[str]:
        """The lanes that hold codes of texts."""
        return [f"value/{path}" for path, kind in self.spec.fields if kind.kind == "string"]

    @property
    def text_cells(self) -> int:
        """How many cells of the arena hold such codes."""
        return len(self.text_lanes) * self._space.end

    def codes_in_use(self) -> Iterator[Array]:
        """The codes of texts of events that still count or will, lane by lane, with repeats."""
        space = self._space
        cells = self._cells()
        if "leave" in space.lanes:
            cells = cells[space.lanes["leave"][cells] > self.now]
        for name in self.text_lanes:
            yield space.lanes[name][cells]

    def text_lanes_under(self, table: Array) -> dict[str, Array]:
        """New lanes with the codes that the table gives for the old ones. table: int32."""
        cells, out = self._cells(), {}
        for name in self.text_lanes:
            lane = self._space.lanes[name]
            out[name] = np.zeros(len(lane), lane.dtype)
            out[name][cells] = table[lane[cells]]
        return out

    def take_texts(self, texts: Texts, lanes: dict[str, Array]) -> None:
        """Name texts by other codes from here on. The caller holds the partition's lock."""
        self._space = replace(self._space, lanes=self._space.lanes | lanes)
        self.texts = texts

    def _cells(self) -> Array:
        blocks = self._space.blocks
        size = blocks.size[: self._slots].astype(np.int64)
        return ranges(blocks.start[: self._slots], size)

    def step(self, arrivals: HistoryArrivals | None, now: int) -> HistoryDelta | None:
        """Take in an entry's events at ``now``; None when none of them will ever count.

        Reads the state and writes only where no block reaches yet, so one step at a time: the next
        one writes over what an unpublished one wrote. Cost: a few passes over what
        arrived and over the blocks that must be written again, per lane; a sort only where rows
        come out of order; now and then one pass over everything, when the arena is full or packed.
        """
        rows = None if arrivals is None else self._incoming(arrivals, now)
        if rows is None:
            return None
        space = self._space
        placement = _place(rows, space, now)
        if placement.end > space.look_at:
            space = self._roomier(space, rows)
            placement = _place(rows, space, now)
        lanes = _write(rows, space, placement)
        space = _Space(lanes, space.blocks, placement.end, placement.held, space.look_at)
        enter = rows.lanes.get("enter", rows.lanes["time"])
        return HistoryDelta(
            now, rows.slots, placement.start, placement.size, placement.room, space,
            max(self.max_enter, int(enter.max())),
        )  # fmt: skip

    def publish(self, delta: HistoryDelta) -> None:
        """Make a step's result the state. Cost: three scatters over the touched slots."""
        blocks = delta.space.blocks
        blocks.start[delta.slots] = delta.start
        blocks.size[delta.slots] = delta.size
        blocks.room[delta.slots] = delta.room
        self._space = delta.space
        self._slots = max(self._slots, int(delta.slots[-1]) + 1)
        self.max_enter = delta.max_enter
        self.now = max(self.now, delta.now)

    def gather(self, slots: Array, delta: HistoryDelta | None = None) -> KeptRows:
        """The rows of these slots (any order, repeats allowed), as if ``delta`` were published.

        Cost: some 5 ns per row, and as much again per lane that is read.
        """
        space = self._space if delta is None else delta.space
        if delta is not None and slots is delta.slots:
            return KeptRows(self, space.lanes, delta.start, delta.size, delta.max_enter)
        slots = slots.astype(np.intp, copy=False)
        start, size = space.blocks.start[slots], space.blocks.size[slots].astype(np.int64)
        if delta is None:
            return KeptRows(self, space.lanes, start, size, self.max_enter)
        # A search would cost ten times as much: the slots' places are written down instead. What
        # others wrote there before does no harm, since a place is only believed if it has the slot.
        self._places[delta.slots] = np.arange(len(delta.slots), dtype=np.uint32)
        index = np.minimum(self._places[slots], len(delta.slots) - 1)
        hit = delta.slots[index] == slots
        start = np.where(hit, delta.start[index], start)
        size = np.where(hit, delta.size[index], size)
        return KeptRows(self, space.lanes, start, size, delta.max_enter)

    def of_slots(self, slots: Array) -> EventHistory:
        """The events of these slots as they are now, under new numbers, in their order: to be
        gathered by any thread, without a lock. Cost: a copy of where they stand."""
        made, blocks = copy(self), self._space.blocks
        mine = _Blocks(blocks.start[slots], blocks.size[slots], blocks.room[slots])
        made._space = replace(self._space, blocks=mine)
        return made

    def saving(self, profiles: int) -> Saving:
        """Every row of the first slots, packed, for a checkpoint; texts by code."""
        lanes, blocks = self._space.lanes, self._space.blocks  # a block's rows stay as they are
        start, sizes = ColumnCopy(blocks.start, profiles), ColumnCopy(blocks.size, profiles)

        def made() -> dict[str, Array]:
            size = sizes.out.astype(np.int64)
            cells = ranges(start.out, size)
            out = {name: lane[cells] for name, lane in lanes.items()}
            if (tie := out.get("tie")) is not None:
                out["tie"] = tie.view(np.uint8).reshape(len(tie), tie.itemsize)
            return {"size": size, **out}

        return Saving([start, sizes], made)

    def restore(self, arrays: dict[str, Array]) -> None:
        """Take the rows of a checkpoint of the same spec. The texts must be restored, too."""
        size = arrays["size"]
        rows = int(size.sum())
        lanes = self._no_lanes()
        for name in arrays.keys() - {"size"}:
            values = arrays[name]
            if name == "tie":
                values = np.ascontiguousarray(values).reshape(-1).view(f"S{values.shape[1]}")
            lane = np.empty(max(MIN_ROWS, 2 * rows), values.dtype)
            lane[:rows] = values
            lanes[name] = lane
        blocks = _Blocks.empty(len(self._space.blocks.start))
        blocks.start[: len(size)] = np.cumsum(size) - size
        blocks.size[: len(size)] = size
        blocks.room[: len(size)] = size
        self._space = _Space(lanes, blocks, rows, rows, len(lanes["time"]))
        self._slots = len(size)
        enter = lanes.get("enter", lanes["time"])[:rows]
        self.max_enter = int(enter.max()) if rows else NEVER

    def _incoming(self, arrivals: HistoryArrivals, now: int) -> _Incoming | None:
        """The rows that count at some instant from now on, in order, by lanes."""
        slot, lanes = arrivals.slot, {"time": arrivals.timestamp}
        if self.spec.filter.window:
            assert arrivals.enter is not None
            assert arrivals.leave is not None
            lanes["enter"], lanes["leave"] = arrivals.enter, arrivals.leave
        if self.spec.is_ordered:
            assert arrivals.tie is not None
            lanes["tie"] = arrivals.tie
        for path, _ in self.spec.fields:
            vector = arrivals.columns[path]
            lanes[f"value/{path}"] = vector.values
            if vector.valid is not None:
                lanes[f"valid/{path}"] = vector.valid
        if "leave" in lanes:
            counts = lanes["leave"] > np.maximum(lanes["enter"], now)
            if not counts.all():
                slot, lanes = _taken(counts.nonzero()[0], slot, lanes)
        if not len(slot):
            return None
        if not is_in_order(slot, lanes["time"], lanes.get("tie")):
            order = ordered(slot, lanes["time"], lanes.get("tie"))
            slot, lanes = _taken(order, slot, lanes)
        starts = starts_of(slot)
        slots = slot[starts].astype(np.intp)
        return _Incoming(slots, starts, sizes_of(starts, len(slot)), lanes)

    def _roomier(self, space: _Space, rows: _Incoming) -> _Space:
        """The same rows with room for the step: packed, in longer arrays, or as they stand."""
        touched = int(space.blocks.size[rows.slots].sum()) + int(rows.counts.sum())
        need = 2 * touched + MIN_ROOM * len(rows.slots)  # enough even if every block is rewritten
        cells, size, room = self._living(space)
        held = int(room.sum())
        if 2 * held < space.end:
            return self._packed(space, cells, size, room, need)
        # With a window it takes a pass over everything to know what may go.
        look_at = 2 * (space.end + need) if "leave" in space.lanes else 2 * held + need
        lanes = space.lanes
        if space.end + need > space.capacity:
            capacity = 2 * (space.end + need)
            lanes = {name: _longer(lane, space.end, capacity) for name, lane in lanes.items()}
        capacity = len(lanes["time"])
        return _Space(lanes, space.blocks, space.end, space.held, min(look_at, capacity))

    def _living(self, space: _Space) -> tuple[Array, Array, Array]:
        """What packing would keep: (cells in slot order, size and room of each slot)."""
        size = space.blocks.size[: self._slots].astype(np.int64)
        room = space.blocks.room[: self._slots].astype(np.int64)
        cells = np.zeros(0, np.int64)
        if "leave" in space.lanes:
            cells = ranges(space.blocks.start[: self._slots], size)
            # Nobody asks about an instant before the last one published.
            alive = (space.lanes["leave"][cells] > self.now).nonzero()[0]
            owner = np.repeat(np.arange(len(size)), size)[alive]
            size, cells = np.bincount(owner, minlength=len(size)), cells[alive]
            room = np.minimum(room, np.where(size > 0, np.maximum(MIN_ROOM, 2 * size), 0))
        elif 2 * int(room.sum()) < space.end:
            cells = ranges(space.blocks.start[: self._slots], size)
        return cells, size, room

    def _packed(self, space: _Space, cells: Array, size: Array, room: Array, need: int) -> _Space:
        held = int(room.sum())
        blocks = _Blocks.empty(len(space.blocks.start))
        start = np.cumsum(room) - room
        blocks.start[: self._slots] = start
        blocks.size[: self._slots] = size
        blocks.room[: self._slots] = room
        target = ranges(start, size)
        look_at = max(MIN_ROWS, 2 * held + need)
        lanes = {}
        for name, lane in space.lanes.items():
            lanes[name] = np.empty(look_at, lane.dtype)
            lanes[name][target] = lane[cells]
        return _Space(lanes, blocks, held, held, look_at)
