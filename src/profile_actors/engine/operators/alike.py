"""Operators of one shape, read as one: the values of many aggregates in a few array passes.

Theory: a look-up of one profile reads twenty columns of one cell each, and what that costs is
calls, not cells. Counts are read alike, and so are sums of doubles, and so on: their cells are put
side by side, and every pass over them is made once.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from profile_actors.columnar.vectors import Array, Vector
from profile_actors.engine.operators.aggregates import (
    Count,
    DoubleSum,
    IntegerSum,
    Operator,
)
from profile_actors.engine.operators.distinct_values import Distinct
from profile_actors.engine.operators.extremes import Extreme


@dataclass(frozen=True, slots=True)
class Alike:
    """Operators of one shape. places: where their values are wanted. Made by ``alike``."""

    operators: tuple[Operator, ...]
    places: tuple[int, ...]

    def read(self, slots: Array) -> tuple[Array, Array | None]:
        """(values, which of them there are; None: all). Each [operators, n], of one dtype."""
        parts = [operator.kept(slots) for operator in self.operators]
        first = self.operators[0]
        if len(set(map(len, parts))) == 1:
            found = first.read_kept([np.concatenate(lane) for lane in zip(*parts, strict=True)])
        else:  # sums that exceed their limbs are read one by one
            pairs = zip(self.operators, parts, strict=True)
            found = _joined([operator.read_kept(lanes) for operator, lanes in pairs])
        shape = len(parts), len(slots)
        valid = found.valid
        return found.values.reshape(shape), None if valid is None else valid.reshape(shape)


def alike(operators: Sequence[tuple[int, Operator]]) -> tuple[tuple[Alike, ...], set[int]]:
    """The operators in groups of one shape, each with its place, and the places of those in them;
    values that are not plain numbers (decimals, what failed) are left out."""
    groups: dict[object, list[tuple[int, Operator]]] = {}
    for place, one in operators:
        shape = _shape(one)
        if shape is not None:
            groups.setdefault(shape, []).append((place, one))
    found = tuple(
        Alike(tuple(one for _, one in group), tuple(place for place, _ in group))
        for group in groups.values()
    )
    return found, {place for group in found for place in group.places}


def _shape(operator: Operator) -> object:
    """What must be equal for operators to be read as one; None of those that are read alone."""
    kind = operator.aggregate.result.kind
    if kind == "decimal":
        return None
    if isinstance(operator, Extreme):
        return Extreme, operator.dtype, operator.is_max, operator.presence is None
    if isinstance(operator, Count | Distinct | DoubleSum | IntegerSum):
        return type(operator), kind
    return None


def _joined(vectors: Sequence[Vector]) -> Vector:
    every = [np.ones(len(v.values), np.bool_) if v.valid is None else v.valid for v in vectors]
    return Vector(np.concatenate([v.values for v in vectors]), np.concatenate(every))
