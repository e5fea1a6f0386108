"""Operators of one shape, read as one: the values of many aggregates in a few array passes.

Theory: a look-up of one profile reads twenty columns of one cell each, and what that costs is
calls, not cells. Counts are read alike, and so are sums of doubles, and so on: their cells are put
side by side, and every pass over them is made once. Those of streams of one shape lie in one array
(``crews``), and are taken from there at once.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from profile_actors.columnar.vectors import Array, Vector
from profile_actors.engine.operators.aggregates import (
    Count,
    DoubleSum,
    IntegerSum,
    Lanes,
    Operator,
)
from profile_actors.engine.operators.distinct_values import Distinct
from profile_actors.engine.operators.extremes import Extreme


@dataclass(frozen=True, slots=True)
class Cells:
    """Columns that lie in one. first: intp[columns, 1], where each begins; None of one alone."""

    operator: Operator
    first: Array | None = None

    def kept(self, slots: Array) -> Lanes:
        """The state of all columns, one after the other."""
        cells = slots if self.first is None else (self.first + slots).ravel()
        return self.operator.kept(cells)


@dataclass(frozen=True, slots=True)
class Alike:
    """Operators of one shape. places: where their values are wanted. cells: where their columns
    are, in the same order. Made by ``alike``."""

    operators: tuple[Operator, ...]
    places: tuple[int, ...]
    cells: tuple[Cells, ...]

    def read(self, slots: Array) -> tuple[Array, Array | None]:
        """(values, which of them there are; None: all). Each [operators, n], of one dtype."""
        first, shape = self.operators[0], (len(self.operators), len(slots))
        if isinstance(first, DoubleSum) and self._is_any_wide():
            # Sums that exceed their limbs are read one by one.
            found = _joined([op.read_kept(op.kept(slots)) for op in self.operators])
        else:
            parts = [cells.kept(slots) for cells in self.cells]
            if len(parts) == 1:
                lanes = parts[0]
            else:
                lanes = [np.concatenate(lane) for lane in zip(*parts, strict=True)]
            found = first.read_kept(lanes)
        valid = found.valid
        return found.values.reshape(shape), None if valid is None else valid.reshape(shape)

    def over(self, operators: Sequence[Operator]) -> Alike:
        """The same over other operators, each of which has its columns for itself."""
        return Alike(tuple(operators), self.places, tuple(map(Cells, operators)))

    def _is_any_wide(self) -> bool:
        return any(isinstance(op, DoubleSum) and op.wide for op in self.operators)


Whole = tuple[Operator, int]
"""The operator in whose columns another's lie, and where they begin there."""


def alike(
    operators: Sequence[tuple[int, Operator]], wholes: Mapping[int, Whole] | None = None
) -> tuple[tuple[Alike, ...], set[int]]:
    """The operators in groups of one shape, each with its place, and the places of those in them;
    values that are not plain numbers (decimals, what failed) are left out. wholes: by place, of
    those whose columns lie in another's."""
    groups: dict[object, dict[int, list[tuple[int, Operator]]]] = {}
    for place, one in operators:
        shape = _shape(one)
        if shape is not None:
            whole = (wholes or {}).get(place)
            mine = groups.setdefault(shape, {})
            mine.setdefault(id(one if whole is None else whole[0]), []).append((place, one))
    found = tuple(_group(list(parts.values()), wholes or {}) for parts in groups.values())
    return found, {place for group in found for place in group.places}


def _group(parts: list[list[tuple[int, Operator]]], wholes: Mapping[int, Whole]) -> Alike:
    """parts: of each, the operators whose columns lie in the same one."""
    cells = []
    for part in parts:
        first = [wholes[place] for place, _ in part if place in wholes]
        if first:
            begins = np.array([begin for _, begin in first], np.intp)[:, None]
            cells.append(Cells(first[0][0], begins))
        else:
            cells.append(Cells(part[0][1]))
    every = [pair for part in parts for pair in part]
    return Alike(tuple(one for _, one in every), tuple(place for place, _ in every), tuple(cells))


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
