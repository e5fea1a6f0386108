"""min and max: extremes that only improve until a contribution that equals them leaves its window.

Theory: nothing is kept beside the extreme itself. When a leaving contribution equals it, the delay
line, which has every live contribution of a window, says what is the best of those that stay: a
search per chunk, however many they are. When the clock alone changes a profile, what is in at an
instant is what stays, and a stretch of what leaves and enters in the step: contributions enter and
leave in one order, that of their timestamps, since both ends of a window are nondecreasing
functions of them.

Of integers and decimals the least int64 stands for "none" in a max, the greatest in a min, and may
be a value just as well: for these the lines keep a second column, whether there is a value at all.
It is read only where the extreme comes out as that number.
"""

from __future__ import annotations

from functools import partial

import numpy as np

from profile_actors.columnar.runs import sizes_of
from profile_actors.columnar.slot_pairs import upto
from profile_actors.columnar.state_columns import Saving, reserve
from profile_actors.columnar.vectors import Array, Vector
from profile_actors.engine.operators.aggregates import (
    Lanes,
    Operator,
    StepInput,
    Track,
    nothing_of,
    previous,
)
from profile_actors.engine.operators.contributions import ENTERED, ClockGroups, RowGroups
from profile_actors.rules.tree.plan import Aggregate


class Extreme:
    """min or max of numbers or instants. State: the value, and whether there is one."""

    def __init__(self, aggregate: Aggregate, name: str | None, capacity: int) -> None:
        self.aggregate = aggregate
        self.name = name
        # Doubles are finite and instants lie in the years 1 to 9999: "none" is no value of theirs.
        is_whole = aggregate.result.kind in ("integer", "decimal")
        self.presence = f"{name}?" if is_whole else None
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
        self.nothing = Vector(np.zeros(0, self.dtype))
        self.has_none = reserve(capacity if is_whole else 0, np.bool_)  # it is the value, too

    def payload(self, value: Vector) -> Array:
        values = value.values.astype(self.dtype)
        return values if value.valid is None else np.where(value.valid, values, self.none)

    def second(self, value: Vector) -> Array:
        """What the column ``presence`` keeps: whether there is a value."""
        return np.ones(len(value.values), np.bool_) if value.valid is None else value.valid

    def _base(self, slots: Array) -> Array:
        return np.asarray((self.cells[slots] ^ self._flip).view(self.dtype))

    def _base_valid(self, slots: Array, values: Array) -> Array:
        valid = values != self.none
        return valid if self.presence is None else np.asarray(valid | self.has_none[slots])

    def current(self, slots: Array) -> Vector:
        return self.read_kept(self.kept(slots))

    def kept(self, slots: Array) -> Lanes:
        cells = self.cells.take(slots)
        return [cells] if self.presence is None else [cells, self.has_none.take(slots)]

    def read_kept(self, lanes: Lanes) -> Vector:
        values = (lanes[0] ^ self._flip).view(self.dtype)
        valid = values != self.none
        return _vector(values, valid if self.presence is None else valid | lanes[1])

    def store(self, slots: Array, lanes: Lanes) -> None:
        values, valid = lanes
        self.cells[slots] = values.view(np.int64) ^ self._flip
        if self.presence is not None:
            self.has_none[slots] = valid & (values == self.none)

    def fold(self, step: StepInput) -> Track:
        stores: list[tuple[Array, Lanes]] = []
        track = nothing_of(self.nothing, stores)
        if step.rows is not None:
            track.slots = step.rows.slots
            values = self._row_values(step, step.rows)
            valid = self._row_valid(step, step.rows, values)
            track.values = _vector(values, valid)
            track.changed = partial(self._differs, track.slots, values, valid)
            stores.append((track.slots, [values, valid]))
        if step.clock is not None:
            clock = step.clock
            track.clock_slots, track.clock_at = clock.slots, clock.at
            values, valid = self._clock_values(step, clock)
            track.clock_values = _vector(values, valid)
            track.clock_changed = partial(self._clock_changes, clock, values, valid)
            stores.append((clock.distinct, [values[clock.last], valid[clock.last]]))
        return track

    def _differs(self, slots: Array, values: Array, valid: Array) -> Array:
        base = self._base(slots)
        return np.asarray((values != base) | (valid != self._base_valid(slots, base)))

    def _clock_changes(self, clock: ClockGroups, values: Array, valid: Array) -> Array:
        base = self._base(clock.distinct)
        was_valid = self._base_valid(clock.distinct, base)
        is_other = values != previous(values, base, clock)
        return np.asarray(is_other | (valid != previous(valid, was_valid, clock)))

    def _row_values(self, step: StepInput, rows: RowGroups) -> Array:
        assert self.name is not None
        base = self._base(rows.slots)
        values = rows.columns[self.name]
        if rows.sign is None:
            if rows.size > len(rows.slots):
                values = self.better.reduceat(values, rows.starts)
            return np.asarray(self.better(base, values))
        arriving = self.better.reduceat(np.where(rows.sign > 0, values, self.none), rows.starts)
        leaving = self.better.reduceat(np.where(rows.sign < 0, values, self.none), rows.starts)
        out = np.asarray(self.better(base, arriving))
        lost = ((leaving == base) & (base != self.none)).nonzero()[0]
        if len(lost):
            stays = self._staying(step, rows.slots[lost])
            out[lost] = self.better(stays, arriving[lost])
        return out

    def _row_valid(self, step: StepInput, rows: RowGroups, values: Array) -> Array:
        """Where there is a value: where it is not "none", or contributions say that they are it."""
        valid = np.asarray(values != self.none)
        if self.presence is None or valid.all():
            return valid
        present, doubtful = rows.columns[self.presence], (~valid).nonzero()[0]
        if rows.sign is not None:
            present = present & (rows.sign > 0)
        arrives = np.logical_or.reduceat(present, rows.starts)[doubtful]
        valid[doubtful] = arrives | self._any_stays(step, rows.slots[doubtful])
        return valid

    def _any_stays(self, step: StepInput, slots: Array) -> Array:
        """Of profiles whose extreme is "none", whether a contribution that stays is a value."""
        assert self.presence is not None
        if step.is_windowed:
            return step.best_of_staying(slots, self.presence, True, np.False_)
        return self._base_valid(slots, self._base(slots))

    def _staying(self, step: StepInput, slots: Array) -> Array:
        assert self.name is not None
        return step.best_of_staying(
            slots, self.name, self.is_max, np.array([self.none], self.dtype)[0]
        )

    def _clock_values(self, step: StepInput, clock: ClockGroups) -> tuple[Array, Array]:
        """Extremes at every virtual row of what is in at its instant, and where there are any."""
        assert self.name is not None
        slots = clock.distinct
        stays = self._staying(step, slots) if step.is_windowed else self._base(slots)
        sizes = sizes_of(clock.starts, clock.size)
        arrives = clock.sign > 0
        at = np.repeat(clock.at, sizes)
        # What entered in this very step leaves by its own +1 row; its -1 row says nothing more.
        rows = (arrives | (clock.leave != ENTERED)).nonzero()[0]
        first, last = int(clock.at.min()), int(clock.at.max())
        enter = np.where(arrives, at, first - 1)[rows]
        leave = np.minimum(np.where(arrives, clock.leave, at)[rows], last + 1)
        slot = np.repeat(clock.slots, sizes)[rows]
        order = np.lexsort((leave, enter, slot))
        slot, enter, leave, rows = slot[order], enter[order], leave[order], rows[order]
        gone = upto(slot, leave, clock.slots, clock.at)
        come = upto(slot, enter, clock.slots, clock.at)
        column = clock.columns[self.name][rows]
        moving = _best_of_stretches(column, gone, come, self.better, self.none)
        pairs = sizes_of(clock.first, len(clock.slots))
        values = self.better(np.repeat(stays, pairs), moving)
        valid = np.asarray(values != self.none)
        if self.presence is not None and not valid.all():
            present = clock.columns[self.presence][rows]
            changes = _best_of_stretches(present, gone, come, np.logical_or, False)
            valid |= changes | np.repeat(self._any_stays(step, slots), pairs)
        return values, valid

    def lie_in(self, whole: Operator, first: int, capacity: int) -> None:
        """Keep the cells in a stretch of another operator's. Nothing is in them yet."""
        assert isinstance(whole, Extreme), whole
        self.cells = whole.cells[first : first + capacity]
        if self.presence is not None:
            self.has_none = whole.has_none[first : first + capacity]

    def saving(self, profiles: int) -> Saving:
        columns = {"cells": self.cells, "has_none": self.has_none}
        return Saving.of({name: one for name, one in columns.items() if len(one)}, profiles)

    def size_bytes(self, profiles: int) -> int:
        return 8 * profiles + self.has_none[:profiles].nbytes

    def restore(self, arrays: dict[str, Array]) -> None:
        self.cells[: len(arrays["cells"])] = arrays["cells"]
        # Checkpoints made before this was told apart have none, nor has what cannot be told apart.
        has_none = arrays.get("has_none", self.has_none[:0])
        self.has_none[: len(has_none)] = has_none


def _vector(values: Array, valid: Array) -> Vector:
    return Vector(values, None if bool(valid.all()) else valid)


def _best_of_stretches(
    values: Array, start: Array, stop: Array, better: np.ufunc, none: float
) -> Array:
    """The best of values[start:stop] each; ``none`` of an empty stretch.

    Two stretches of a power of two cover each; their bests are made from those of half the length.
    Cost: (values + stretches) · log2 of the longest.
    """
    size = stop - start
    out = np.full(len(start), none, values.dtype)
    longest, step, best = int(size.max(initial=0)), 1, values
    while step <= longest:
        mine = ((size >= step) & (size < 2 * step)).nonzero()[0]
        out[mine] = better(best[start[mine]], best[stop[mine] - step])
        best = better(best[:-step], best[step:])
        step *= 2
    return out
