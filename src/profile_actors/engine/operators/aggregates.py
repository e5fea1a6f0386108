"""The aggregate operators: one state column (or a few) each, folded by vectors.

Theory: count, sum and distinct are *additive*: integer lanes to which a contribution adds and from
which, leaving its window, it subtracts the same integers; order cannot show. min and max only ever
improve while contributions arrive; when one that equals the extreme leaves, the extreme is
recomputed from what the delay line still holds for that slot. ``fold`` reads the columns and
writes nothing: it returns a Track (values beside the state) whose ``store`` the partition calls
when it publishes.

Rules for editors: a second implementation of an aggregate is a defect; look-ups into the future and
back-fill run this same code.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Protocol

import numpy as np

from profile_actors.columnar import exact_sums
from profile_actors.columnar.runs import running
from profile_actors.columnar.state_columns import Saving, reserve
from profile_actors.columnar.vectors import Array, Vector, differ, null, widen
from profile_actors.engine.operators.contributions import ClockGroups, RowGroups
from profile_actors.engine.operators.delay_chunks import Payload
from profile_actors.rules.tree.plan import Aggregate

Lanes = list[Array]


@dataclass(slots=True)
class Track:
    """An aggregate's values in one step. slots, values: profiles with rows, one each. clock_*: the
    virtual rows of the others. changed, clock_changed: where the value differs from the one before;
    asked before the step is published, for marks only. stores: (slots, lanes) to publish."""

    slots: Array
    values: Vector
    clock_slots: Array
    clock_at: Array
    clock_values: Vector
    changed: Callable[[], Array]
    clock_changed: Callable[[], Array]
    stores: list[tuple[Array, Lanes]] = field(default_factory=list)


class StepInput(Protocol):
    """What an operator is given: the grouped contributions of one stream in one step."""

    @property
    def rows(self) -> RowGroups | None: ...

    @property
    def clock(self) -> ClockGroups | None: ...

    @property
    def is_windowed(self) -> bool:
        """Whether contributions may leave again, so that all live ones stand in the leave line."""

    def best_of_staying(self, slots: Array, name: str, is_max: bool, none: np.generic) -> Array:
        """Per sorted slot the greatest (least) value of the contributions that were in their
        windows before the step and still are at its end; ``none`` where there are none."""


class Operator(Protocol):
    """One aggregate's state; ``current`` is ``read_kept`` of ``kept``. name: its payload column in
    the delay lines. presence: a second column, of an operator whose values one cannot hold: whether
    there is a value, or its high digits."""

    name: str | None
    presence: str | None
    aggregate: Aggregate

    def payload(self, value: Vector) -> Array: ...

    def fold(self, step: StepInput) -> Track: ...

    def current(self, slots: Array) -> Vector: ...

    def kept(self, slots: Array) -> Lanes: ...

    def read_kept(self, lanes: Lanes) -> Vector: ...

    def store(self, slots: Array, lanes: Lanes) -> None: ...

    def saving(self, profiles: int) -> Saving: ...

    def size_bytes(self, profiles: int) -> int: ...

    def restore(self, arrays: dict[str, Array]) -> None: ...


class Silent:
    """What is left of an operator that failed: it takes nothing in and has no value. Delay lines go
    on with a column of zeros in its place."""

    def __init__(self, failed: Operator) -> None:
        self.name = failed.name
        self.presence = failed.presence
        self.aggregate = failed.aggregate

    def payload(self, value: Vector) -> Array:
        return np.zeros(len(value.values), np.int8)

    def fold(self, step: StepInput) -> Track:
        raise AssertionError(f"{self.aggregate.function} has failed and is asked no more")

    def current(self, slots: Array) -> Vector:
        return self.read_kept([slots])

    def kept(self, slots: Array) -> Lanes:
        return [slots]

    def read_kept(self, lanes: Lanes) -> Vector:
        nothing, size = null(self.aggregate.result.kind), len(lanes[0])
        return widen(Vector(nothing.values, np.zeros(size, np.bool_), None), size)

    def store(self, slots: Array, lanes: Lanes) -> None:
        raise AssertionError(f"{self.aggregate.function} has failed and is asked no more")

    def saving(self, profiles: int) -> Saving:
        return Saving((), dict)

    def size_bytes(self, profiles: int) -> int:
        return 0

    def restore(self, arrays: dict[str, Array]) -> None:
        pass


NO_SLOTS = np.zeros(0, np.intp)


NO_TIMES = np.zeros(0, np.int64)


def no_flags() -> Array:
    """Nothing changed."""
    return np.zeros(0, np.bool_)


def nothing_of(nothing: Vector, stores: list[tuple[Array, Lanes]]) -> Track:
    """The track of a step in which nothing moves yet. nothing: no values, of the right type."""
    return Track(NO_SLOTS, nothing, NO_SLOTS, NO_TIMES, nothing, no_flags, no_flags, stores)


def previous(values: Array, base: Array, clock: ClockGroups) -> Array:
    """At every virtual row the value before it: of the slot's row before, or its stored one."""
    out = np.empty_like(values)
    out[1:] = values[:-1]
    out[clock.first] = base
    return out


class Additive:
    """count, sum of integers (or unscaled decimals), sum of doubles: lanes that add and
    subtract."""

    lane_types: tuple[str, ...] = ("i4",)
    presence: str | None = None

    def __init__(self, aggregate: Aggregate, name: str | None, capacity: int) -> None:
        self.aggregate = aggregate
        self.name = name
        self.lanes = [reserve(capacity, kind) for kind in self.lane_types]
        self.nothing = self.read([NO_TIMES] * len(self.lanes))

    def payload(self, value: Vector) -> Array:
        """What a delay line keeps of one value."""
        raise NotImplementedError

    def deltas(self, columns: Payload, size: int) -> Lanes:
        """Integers per contribution and lane."""
        raise NotImplementedError

    def normalised(self, lanes: Lanes) -> Lanes:
        """Bring lanes into their one normal form."""
        return lanes

    def read(self, lanes: Lanes) -> Vector:
        """Values of lanes in normal form."""
        raise NotImplementedError

    def base(self, slots: Array, lanes: int) -> Lanes:
        """The stored lanes of the slots."""
        return [lane[slots].astype(np.int64) for lane in self.lanes]

    def store(self, slots: Array, lanes: Lanes) -> None:
        for column, lane in zip(self.lanes, lanes, strict=True):
            column[slots] = lane

    def current(self, slots: Array) -> Vector:
        return self.read(self.base(slots, len(self.lanes)))

    def kept(self, slots: Array) -> Lanes:
        return [lane.take(slots) for lane in self.lanes]

    def read_kept(self, lanes: Lanes) -> Vector:
        return self.read([lane if lane.dtype == object else lane.astype("i8") for lane in lanes])

    def fold(self, step: StepInput) -> Track:
        stores: list[tuple[Array, Lanes]] = []
        track = nothing_of(self.nothing, stores)
        if step.rows is not None:
            before, lanes = self._row_lanes(step.rows)
            track.slots = step.rows.slots
            track.values = self.read(lanes)
            track.changed = partial(self._differs, before, track.values)
            stores.append((track.slots, lanes))
        if step.clock is not None:
            clock = step.clock
            base, lanes = self._clock_lanes(clock)
            track.clock_slots, track.clock_at = clock.slots, clock.at
            track.clock_values = self.read(lanes)
            track.clock_changed = partial(self._clock_changes, clock, base, lanes)
            last = clock.last
            stores.append((clock.distinct, [lane[last] for lane in lanes]))
        return track

    def _differs(self, before: Lanes, values: Vector) -> Array:
        return differ(self.read(before), values)

    def _clock_changes(self, clock: ClockGroups, base: Lanes, lanes: Lanes) -> Array:
        pairs = zip(lanes, base, strict=True)
        before = [previous(lane, start, clock) for lane, start in pairs]
        return self._differs(before, self.read(lanes))

    def _row_lanes(self, rows: RowGroups) -> tuple[Lanes, Lanes]:
        deltas = self.deltas(rows.columns, rows.size)
        if rows.sign is not None:
            deltas = [lane * rows.sign for lane in deltas]
        base = self.base(rows.slots, len(deltas))
        if rows.size > len(rows.slots):
            deltas = [np.add.reduceat(lane, rows.starts) for lane in deltas]
        return base, self.normalised([b + a for b, a in zip(base, deltas, strict=True)])

    def _clock_lanes(self, clock: ClockGroups) -> tuple[Lanes, Lanes]:
        deltas = self.deltas(clock.columns, clock.size)
        base = self.base(clock.distinct, len(deltas))
        out = []
        for lane, start in zip(deltas, base, strict=True):
            per_pair = np.add.reduceat(lane * clock.sign, clock.starts)
            alone = len(clock.first) == len(per_pair)
            out.append(per_pair + start if alone else running(per_pair, clock.first, start))
        normal = self.normalised(out)
        return base + [np.zeros(len(base[0]), object)] * (len(normal) - len(base)), normal

    def lie_in(self, whole: Operator, first: int, capacity: int) -> None:
        """Keep the lanes in a stretch of another operator's. Nothing is in them yet."""
        assert isinstance(whole, Additive), whole
        self.lanes = [lane[first : first + capacity] for lane in whole.lanes]

    def saving(self, profiles: int) -> Saving:
        return Saving.of({f"lane{i}": lane for i, lane in enumerate(self.lanes)}, profiles)

    def size_bytes(self, profiles: int) -> int:
        return profiles * sum(lane.itemsize for lane in self.lanes)

    def restore(self, arrays: dict[str, Array]) -> None:
        for i, lane in enumerate(self.lanes):
            lane[: len(arrays[f"lane{i}"])] = arrays[f"lane{i}"]


class Count(Additive):
    """The number of contributions (whose value is not null, when there is a value)."""

    def payload(self, value: Vector) -> Array:
        if value.valid is None:
            return np.ones(len(value.values), np.int8)
        return value.valid.astype(np.int8)

    def deltas(self, columns: Payload, size: int) -> Lanes:
        if self.name is None:
            return [np.ones(size, np.int64)]
        return [columns[self.name].astype(np.int64)]

    def _row_lanes(self, rows: RowGroups) -> tuple[Lanes, Lanes]:
        if self.name is None and rows.sign is None:
            base = self.lanes[0][rows.slots].astype(np.int64)
            return [base], [base + rows.sizes]
        return super()._row_lanes(rows)

    def read(self, lanes: Lanes) -> Vector:
        return Vector(lanes[0])


class IntegerSum(Additive):
    """Exact sum of int64 or unscaled decimals: two lanes of 32 bits each. Beyond int64 integers are
    null, and decimals are Python's."""

    lane_types = ("i8", "i8")

    def payload(self, value: Vector) -> Array:
        values = value.values.astype(np.int64)
        return values if value.valid is None else np.where(value.valid, values, 0)

    def deltas(self, columns: Payload, size: int) -> Lanes:
        assert self.name is not None
        values = columns[self.name]
        return [values >> np.int64(32), values & np.int64(0xFFFFFFFF)]

    def normalised(self, lanes: Lanes) -> Lanes:
        high, low = lanes
        return [high + (low >> np.int64(32)), low & np.int64(0xFFFFFFFF)]

    def read(self, lanes: Lanes) -> Vector:
        high, low = lanes
        fits = (high >= -(1 << 31)) & (high < (1 << 31))
        values = (high << np.int64(32)) | low
        if fits.all():
            return Vector(values)
        if self.aggregate.result.kind == "decimal":
            return Vector((high.astype(object) << 32) + low.astype(object))
        return Vector(values, fits)


class DoubleSum(Additive):
    """Exact sum of doubles (``exact_sums``): two lanes, a third of Python integers where wide."""

    lane_types = ("i8", "i8")

    def __init__(self, aggregate: Aggregate, name: str | None, capacity: int) -> None:
        super().__init__(aggregate, name, capacity)
        self.wide: dict[int, int] = {}

    def payload(self, value: Vector) -> Array:
        values = value.values.astype(np.float64)
        return values if value.valid is None else np.where(value.valid, values, 0.0)

    def deltas(self, columns: Payload, size: int) -> Lanes:
        assert self.name is not None
        values = columns[self.name]
        high, low, wide = exact_sums.split(values)
        if not self.wide and not wide.any():
            return [high, low]
        extra = np.zeros(size, object)
        for i in wide.nonzero()[0]:
            extra[i] = exact_sums.to_wide(float(values[i]))
        return [high, low, extra]

    def base(self, slots: Array, lanes: int) -> Lanes:
        out = super().base(slots, 2)
        if lanes > 2 or self.wide:
            extra = np.zeros(len(slots), object)
            for i, slot in enumerate(slots.tolist() if self.wide else ()):
                extra[i] = self.wide.get(slot, 0)
            out.append(extra)
        return out

    def kept(self, slots: Array) -> Lanes:
        return self.base(slots, 2) if self.wide else super().kept(slots)

    def normalised(self, lanes: Lanes) -> Lanes:
        high, low = exact_sums.carry(lanes[0], lanes[1])
        spill = (np.abs(high) >= exact_sums.SPILL_HIGH).nonzero()[0]
        if len(spill) == 0 and len(lanes) == 2:
            return [high, low]
        extra = lanes[2] if len(lanes) > 2 else np.zeros(len(high), object)
        for i in spill:
            extra[i] += exact_sums.limbs_to_wide(int(high[i]), int(low[i]))
            high[i] = low[i] = 0
        return [high, low, extra]

    def read(self, lanes: Lanes) -> Vector:
        out = exact_sums.read_out(lanes[0], lanes[1])
        if len(lanes) == 2:
            return Vector(out)
        for i in lanes[2].nonzero()[0]:
            out[i] = exact_sums.from_wide(
                int(lanes[2][i]) + exact_sums.limbs_to_wide(int(lanes[0][i]), int(lanes[1][i]))
            )
        finite = np.isfinite(out)
        return Vector(out, None if bool(finite.all()) else finite)

    def store(self, slots: Array, lanes: Lanes) -> None:
        super().store(slots, lanes[:2])
        if len(lanes) > 2:
            for slot, total in zip(slots.tolist(), lanes[2].tolist(), strict=True):
                if total:
                    self.wide[slot] = total
                else:
                    self.wide.pop(slot, None)

    def saving(self, profiles: int) -> Saving:
        totals, lanes = dict(self.wide), super().saving(profiles)

        def made() -> dict[str, Array]:
            text = ",".join(f"{slot}:{total}" for slot, total in sorted(totals.items()))
            return {**lanes.made(), "wide": np.frombuffer(text.encode(), np.uint8)}

        return Saving(lanes.copies, made)

    def restore(self, arrays: dict[str, Array]) -> None:
        super().restore(arrays)
        text = arrays["wide"].tobytes().decode()
        pairs = (pair.split(":") for pair in text.split(",") if pair)
        self.wide = {int(slot): int(total) for slot, total in pairs}
