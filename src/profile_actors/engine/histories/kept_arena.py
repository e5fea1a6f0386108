"""The arena of kept events: blocks of rows per slot, placed, grown and packed.

One lane, with the blocks of the slots p, q and r; q has outgrown its first block::

    | p p p _ | x x | r _ | q q q _ _ _ |            |
    0                                   end          length

``_`` is room: a row put there is not seen until ``size`` counts it. ``x`` is abandoned: readers may
still hold it, so it is never written again; packing leaves it behind, in new arrays.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from profile_actors.columnar.runs import ranges
from profile_actors.columnar.state_columns import reserve
from profile_actors.columnar.vectors import Array
from profile_actors.engine.merge.order_ties import ordered

MIN_ROWS = 1024


MIN_ROOM = 2


@dataclass(frozen=True, slots=True)
class _Blocks:
    """Where each slot's rows stand: start int64, size and room int32, over all slots."""

    start: Array
    size: Array
    room: Array

    @classmethod
    def empty(cls, capacity: int) -> _Blocks:
        return cls(*(reserve(capacity, kind) for kind in (np.int64, np.int32, np.int32)))


@dataclass(frozen=True, slots=True)
class _Space:
    """An arena and its blocks. lanes: arrays of one length, ``end`` rows of which were given to
    blocks; held: rows of blocks that are not abandoned; look_at: the end at which to see, at the
    latest, whether packing pays."""

    lanes: dict[str, Array]
    blocks: _Blocks
    end: int
    held: int
    look_at: int

    @property
    def capacity(self) -> int:
        return len(self.lanes["time"])


@dataclass(frozen=True, slots=True)
class _Incoming:
    """One step's rows by (slot, time, tie). starts, counts: of each slot's rows. lanes: by name."""

    slots: Array
    starts: Array
    counts: Array
    lanes: dict[str, Array]


@dataclass(frozen=True, slots=True)
class _Placement:
    """Where a step's rows go. start, size, room: new ones per touched slot; fresh: int64[n], the
    cell of each incoming row; source, target: cells of old rows that move."""

    start: Array
    size: Array
    room: Array
    fresh: Array
    source: Array
    target: Array
    end: int
    held: int


def _taken(rows: Array, slot: Array, lanes: dict[str, Array]) -> tuple[Array, dict[str, Array]]:
    return slot[rows], {name: lane[rows] for name, lane in lanes.items()}


def _longer(lane: Array, end: int, capacity: int, kind: np.dtype[Any] | None = None) -> Array:
    out = np.empty(capacity, kind or lane.dtype)
    out[:end] = lane[:end]
    return out


def _place(rows: _Incoming, space: _Space, now: int) -> _Placement:
    """Where the rows go, and which blocks are written again. Nothing is written here."""
    slots, lanes, blocks = rows.slots, space.lanes, space.blocks
    start = blocks.start[slots]
    size, room = blocks.size[slots].astype(np.int64), blocks.room[slots].astype(np.int64)
    late = _comes_late(rows, lanes, start, size)
    movers = (late | (size + rows.counts > room)).nonzero()[0]
    source = ranges(start[movers], size[movers])
    owner = np.repeat(movers, size[movers])
    if "leave" in lanes:
        alive = (lanes["leave"][source] > now).nonzero()[0]
        if len(alive) < len(source):
            source, owner = source[alive], owner[alive]
            size[movers] = np.bincount(owner, minlength=len(size))[movers]
    new_size = size + rows.counts
    end, held = space.end, space.held
    if len(movers):
        wanted = np.maximum(MIN_ROOM, 2 * new_size[movers])
        ends = np.cumsum(wanted)
        start[movers] = end + ends - wanted
        end, held = end + int(ends[-1]), held + int(ends[-1]) - int(room[movers].sum())
        room[movers] = wanted
    fresh = ranges(start + size, rows.counts)
    target = ranges(start[movers], size[movers])
    if late.any():
        of_row = np.repeat(np.arange(len(slots)), rows.counts)
        old, new = late[owner].nonzero()[0], late[of_row].nonzero()[0]
        order = ordered(
            np.concatenate([owner[old], of_row[new]]),
            np.concatenate([lanes["time"][source[old]], rows.lanes["time"][new]]),
            np.concatenate([lanes["tie"][source[old]], rows.lanes["tie"][new]])
            if "tie" in lanes
            else None,
        )
        cells = np.empty(len(order), np.int64)
        cells[order] = ranges(start[late], new_size[late])
        target[old], fresh[new] = cells[: len(old)], cells[len(old) :]
    return _Placement(start, new_size, room, fresh, source, target, end, held)


def _comes_late(rows: _Incoming, lanes: dict[str, Array], start: Array, size: Array) -> Array:
    """bool per touched slot: its first incoming row belongs before its last old one."""
    last = np.maximum(start + size - 1, 0)
    newest, first = lanes["time"][last], rows.lanes["time"][rows.starts]
    late = np.asarray((size > 0) & (newest > first))
    if "tie" in lanes:
        equal = ((size > 0) & (newest == first)).nonzero()[0]
        late[equal] = lanes["tie"][last[equal]] > rows.lanes["tie"][rows.starts[equal]]
    return late


def _write(rows: _Incoming, space: _Space, placement: _Placement) -> dict[str, Array]:
    """Put the rows in place. Returns the lanes: the same arrays, but for new or wider ones."""
    lanes = dict(space.lanes)
    for name, values in rows.lanes.items():
        lane = lanes.get(name)
        if name == "enter" and lane is None and not (values != rows.lanes["time"]).any():
            continue
        if lane is None:  # from here on not all rows have what stands for all before
            lane = np.empty(space.capacity, values.dtype)
            lane[: space.end] = space.lanes["time"][: space.end] if name == "enter" else True
        elif values.dtype.kind == "S" and values.dtype.itemsize > lane.dtype.itemsize:
            lane = _longer(lane, space.end, space.capacity, values.dtype)
        lanes[name] = lane
    for name, lane in lanes.items():
        if len(placement.source):
            lane[placement.target] = lane[placement.source]
        lane[placement.fresh] = rows.lanes.get(name, True)
    return lanes
