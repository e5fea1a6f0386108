"""min and max: extremes that only improve until a contribution that equals them leaves its window.

Theory: nothing is kept beside the extreme itself. When a leaving contribution equals it, what the
delay line still holds for the slot is read once more (the line has every live contribution of a
window); that costs the profile's own contributions, and only when its extreme leaves.

Limits: of integers the least int64 stands for "none" in a max, the greatest in a min: a profile all
of whose values are that number reads as null.
"""

from __future__ import annotations

from functools import partial

import numpy as np

from profile_actors.engine.aggregates import (
    NO_SLOTS,
    NO_TIMES,
    Lanes,
    Step,
    Track,
    no_flags,
    previous,
)
from profile_actors.engine.columns import FOREVER, Array, find, ranges, reserve, sizes_of, starts_of
from profile_actors.engine.groups import ENTERED, ClockGroups, RowGroups
from profile_actors.rules.columns import Vector
from profile_actors.rules.plan import Aggregate

_BEFORE = int(np.iinfo(np.int64).min)
_JOIN_CELLS = 1 << 21


class Extreme:
    """min or max of numbers or instants. State: the value, and whether there is one."""

    def __init__(self, aggregate: Aggregate, name: str | None, capacity: int) -> None:
        self.aggregate = aggregate
        self.name = name
        self.is_max = aggregate.function == "max"
        self.dtype = np.dtype(np.float64 if aggregate.result.kind == "double" else np.int64)
        if self.dtype.kind == "f":
            self.none = -np.inf if self.is_max else np.inf
        else:
            limits = np.iinfo(np.int64)
            self.none = limits.min if self.is_max else limits.max
        # Cells hold the value's bits XOR those of ``none``: memory never written reads as "none".
        self._flip = np.array([self.none], self.dtype).view(np.int64)[0]
        self.better = np.maximum if self.is_max else np.minimum
        self.cells = reserve(capacity, np.int64)

    def payload(self, value: Vector) -> Array:
        values = value.values.astype(self.dtype)
        return values if value.valid is None else np.where(value.valid, values, self.none)

    def _base(self, slots: Array) -> Array:
        return np.asarray((self.cells[slots] ^ self._flip).view(self.dtype))

    def _vector(self, values: Array) -> Vector:
        valid = values != self.none
        return Vector(values, None if bool(valid.all()) else valid)

    def current(self, slots: Array) -> Vector:
        return self._vector(self._base(slots))

    def store(self, slots: Array, lanes: Lanes) -> None:
        self.cells[slots] = lanes[0].view(np.int64) ^ self._flip

    def fold(self, step: Step) -> Track:
        stores: list[tuple[Array, Lanes]] = []
        nothing = Vector(np.zeros(0, self.dtype))
        track = Track(NO_SLOTS, nothing, NO_SLOTS, NO_TIMES, nothing, no_flags, no_flags, stores)
        if step.rows is not None:
            track.slots = step.rows.slots
            values = self._row_values(step, step.rows)
            track.values = self._vector(values)
            track.changed = partial(self._differs, track.slots, values)
            stores.append((track.slots, [values]))
        if step.clock is not None:
            clock = step.clock
            track.clock_slots, track.clock_at = clock.slots, clock.at
            values = self._clock_values(step, clock)
            track.clock_values = self._vector(values)
            track.clock_changed = partial(self._moves, clock, values)
            stores.append((clock.distinct, [values[clock.last]]))
        return track

    def _differs(self, slots: Array, values: Array) -> Array:
        return np.asarray(values != self._base(slots))

    def _moves(self, clock: ClockGroups, values: Array) -> Array:
        return np.asarray(values != previous(values, self._base(clock.distinct), clock))

    def _row_values(self, step: Step, rows: RowGroups) -> Array:
        assert self.name is not None
        base = self._base(rows.slots)
        values = rows.columns[self.name]
        if rows.sign is None:
            return np.asarray(self.better(base, self.better.reduceat(values, rows.starts)))
        arriving = self.better.reduceat(np.where(rows.sign > 0, values, self.none), rows.starts)
        leaving = self.better.reduceat(np.where(rows.sign < 0, values, self.none), rows.starts)
        out = np.asarray(self.better(base, arriving))
        lost = np.flatnonzero((leaving == base) & (base != self.none))
        if len(lost):
            slots = rows.slots[lost]
            slot, columns = step.live(slots)
            kept = np.full(len(slots), self.none, self.dtype)
            index, hit = find(slots, slot)
            self.better.at(kept, index[hit], columns[self.name][hit])
            out[lost] = self.better(kept, arriving[lost])
        return out

    def _clock_values(self, step: Step, clock: ClockGroups) -> Array:
        """Extremes at every virtual row: over the contributions of its slot that are in at its
        instant.

        A join of each slot's instants with its contributions, in pieces of bounded size.
        """
        assert self.name is not None
        if step.is_windowed:
            live_slot, live_columns = step.live(clock.distinct)
            live = live_columns[self.name]
        else:
            live_slot, live = clock.distinct, self._base(clock.distinct)
        sizes = sizes_of(clock.starts, clock.size)
        at = np.repeat(clock.at, sizes)
        arrives = clock.sign > 0
        slot = np.concatenate([np.repeat(clock.slots, sizes), live_slot])
        enter = np.concatenate([np.where(arrives, at, _BEFORE), np.full(len(live_slot), _BEFORE)])
        leave = np.concatenate(
            [np.where(arrives, clock.leave, at), np.full(len(live_slot), FOREVER)]
        )
        # What entered in this very step leaves by its own +1 row; its -1 row says nothing more.
        leave[: clock.size][~arrives & (clock.leave == ENTERED)] = _BEFORE
        value = np.concatenate([clock.columns[self.name], live])
        order = np.argsort(slot, kind="stable")
        slot, enter, leave, value = slot[order], enter[order], leave[order], value[order]
        low = np.searchsorted(slot, clock.slots, side="left")
        size = np.searchsorted(slot, clock.slots, side="right") - low
        out = np.full(len(clock.slots), self.none, self.dtype)
        piece = np.cumsum(size) // _JOIN_CELLS
        for begin, count in zip(*_runs(piece), strict=True):
            part = slice(begin, begin + count)
            rows = ranges(low[part], size[part])
            pair = np.repeat(np.arange(begin, begin + count), size[part])
            inside = (enter[rows] <= clock.at[pair]) & (clock.at[pair] < leave[rows])
            self.better.at(out, pair[inside], value[rows[inside]])
        return out

    def arrays(self, profiles: int) -> dict[str, Array]:
        return {"cells": self.cells[:profiles]}

    def restore(self, arrays: dict[str, Array]) -> None:
        self.cells[: len(arrays["cells"])] = arrays["cells"]


def _runs(keys: Array) -> tuple[list[int], list[int]]:
    starts = starts_of(keys)
    return starts.tolist(), sizes_of(starts, len(keys)).tolist()
