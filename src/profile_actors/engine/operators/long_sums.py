"""Sums of computed decimals that 64 bits may not hold: ``price * quantity``.

Theory: the planner bounds what an expression over fields can be, in units of its last digit. Up to
63 bits it is added like any integer. Up to LONG_BITS a contribution is two columns of the delay
lines, its low 64 bits and the rest with the sign, and a profile's sum is four lanes of 32 bits; so
it stays exact whatever comes and goes. Most values fit 64 bits and are int64 throughout: Python's
integers are met only where one does not.

Limits: a value of more bits is no sum of single events; it is folded over kept events.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from profile_actors.columnar.vectors import Array, Vector
from profile_actors.engine.operators.aggregates import Additive, DoubleSum, IntegerSum, Lanes
from profile_actors.engine.operators.delay_chunks import Payload
from profile_actors.rules.tree.kinds import WORD_BITS, greatest_units
from profile_actors.rules.tree.nodes import Call
from profile_actors.rules.tree.plan import Aggregate

_LOW_32 = np.int64(0xFFFFFFFF)
_LOW_64 = (1 << 64) - 1


class LongSum(Additive):
    """Exact sum of computed decimals, each of up to LONG_BITS bits (``price * quantity``): two
    columns of 64 bits a contribution, four lanes of 32 bits a profile. Decimals are Python's where
    64 bits do not hold them."""

    lane_types = ("i8", "i8", "i8", "i8")

    def __init__(self, aggregate: Aggregate, name: str | None, capacity: int) -> None:
        super().__init__(aggregate, name, capacity)
        self.presence = f"{name}^"

    def payload(self, value: Vector) -> Array:
        return _whole(value, lambda units: (units & _LOW_64).astype(np.uint64).view(np.int64))

    def second(self, value: Vector) -> Array:
        """What the column ``presence`` keeps: all but the low 64 bits."""
        if value.values.dtype != object:
            return _whole(value, lambda units: units) >> np.int64(63)
        return _whole(value, lambda units: (units >> 64).astype(np.int64))

    def deltas(self, columns: Payload, size: int) -> Lanes:
        assert self.name is not None
        assert self.presence is not None
        words = columns[self.presence], columns[self.name]
        top, second, third, last = (part for word in words for part in _halves(word))
        return [top, second, third & _LOW_32, last]

    def normalised(self, lanes: Lanes) -> Lanes:
        out: Lanes = []
        carry: Array = np.zeros((), np.int64)
        for lane in reversed(lanes[1:]):
            whole = lane + carry
            out.append(whole & _LOW_32)
            carry = whole >> np.int64(32)
        return [lanes[0] + carry, *reversed(out)]

    def read(self, lanes: Lanes) -> Vector:
        top, second, third, last = lanes
        low = (third << np.int64(32)) | last
        sign = low >> np.int64(63)
        if ((top == sign) & (second == (sign & _LOW_32))).all():
            return Vector(low)
        whole = top.astype(object)
        for lane in (second, third, last):
            whole = (whole << 32) + lane.astype(object)
        return Vector(np.asarray(whole, object))


def _halves(words: Array) -> Lanes:
    """The high 32 bits with their sign, and the low ones."""
    return [words >> np.int64(32), words & _LOW_32]


def _whole(value: Vector, of: Callable[[Array], Array]) -> Array:
    """A part of unscaled values, int64 or Python integers; 0 of a null."""
    values = value.values if value.valid is None else np.where(value.valid, value.values, 0)
    if values.dtype != object:
        return values.astype(np.int64)
    return of(values) if len(values) else np.zeros(0, np.int64)


def sum_of(aggregate: Aggregate) -> type[Additive]:
    """The sum whose lanes hold what the aggregate adds."""
    if aggregate.result.kind == "double":
        return DoubleSum
    value = aggregate.value
    if aggregate.result.kind == "decimal" and isinstance(value, Call):
        return LongSum if (greatest_units(value) or 0) >> WORD_BITS else IntegerSum
    return IntegerSum
