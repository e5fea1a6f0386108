"""Rules that are functions of levels: turned where a level that they read has moved.

Theory: such a rule changes only with the level of a ladder that it reads (``thresholds``). A step
knows which levels moved: of profiles with rows once, at its end; of the others at instants. Over
the union of those places each ladder has its levels before and after as bytes, and a rule is a few
passes over bytes; nothing is read per rule from the columns. A rule whose ladders moved in few of
the places looks at those alone.

Limits: a rule keeps no state but its own gauge, which always is what the stored levels say; so
does a fold of many steps at once.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

from profile_actors.columnar.runs import sizes_of, starts_of
from profile_actors.columnar.slot_pairs import pair_order, slots_of_all
from profile_actors.columnar.vectors import FOREVER, Array
from profile_actors.engine.membership.gauges import Gauge, Ladder, Reading
from profile_actors.rules.planning.thresholds import Condition, Junction, Measure, Threshold

FEW = 64
"""A rule whose ladders moved in less than one place of so many looks at those places alone: to sort
a place costs as much as to pass over some fifty."""


LevelsOf = Callable[[int], Array]


@dataclass(frozen=True, slots=True)
class Test:
    """A threshold of the ladder with this number."""

    ladder: int
    reading: Reading


@dataclass(frozen=True, slots=True)
class Formula:
    """A condition over ladders by number. parts: tests and formulas; function as in Junction."""

    function: str
    parts: tuple[Test | Formula, ...]


def formula_of(condition: Condition, ladders: dict[Measure, int], gauges: list[Gauge]) -> Formula:
    """A condition over the ladders of a rulebook, which have its breaks."""
    placed = _placed(condition, ladders, gauges)
    return placed if isinstance(placed, Formula) else Formula("and", (placed,))


def _placed(
    condition: Condition, ladders: dict[Measure, int], gauges: list[Gauge]
) -> Test | Formula:
    if isinstance(condition, Threshold):
        number = ladders[condition.measure]
        gauge = gauges[number]
        assert isinstance(gauge, Ladder)
        return Test(number, Reading(gauge.truth_of(condition)))
    assert isinstance(condition, Junction)
    parts = tuple(_placed(part, ladders, gauges) for part in condition.parts)
    return Formula(condition.function, parts)


def holds(formula: Test | Formula, levels: LevelsOf, shape: tuple[int, ...]) -> Array:
    """What the formula says in each place. levels: of a ladder by number, uint8[shape]."""
    if isinstance(formula, Test):
        return formula.reading.of(levels(formula.ladder))
    if not formula.parts:
        return np.full(shape, formula.function == "and")
    result = holds(formula.parts[0], levels, shape)
    if formula.function == "not":
        return np.logical_not(result, out=result)
    for part in formula.parts[1:]:
        if formula.function == "and":
            result &= holds(part, levels, shape)
        else:
            result |= holds(part, levels, shape)
    return result


@dataclass(slots=True)
class LevelChanges:
    """The levels that one step moved, by number of the ladder. rows: (slots, levels) of profiles
    with rows; pairs: (slots, at, levels) of others, ascending."""

    rows: dict[int, list[tuple[Array, Array]]] = field(default_factory=dict)
    pairs: dict[int, tuple[Array, Array, Array]] = field(default_factory=dict)

    def note(self, ladder: int, slots: Array, levels: Array, at: Array | None) -> None:
        """A ladder's levels moved."""
        if at is None:
            self.rows.setdefault(ladder, []).append((slots, levels))
        else:
            self.pairs[ladder] = (slots, at, levels)


class RowLevels:
    """Levels before and after a step of the profiles with rows. new_slots: those that begin in it,
    the last of all, ascending."""

    def __init__(self, gauges: list[Gauge], level_changes: LevelChanges, new_slots: Array) -> None:
        self._gauges = gauges
        parts = [slots for changes in level_changes.rows.values() for slots, _ in changes]
        self.slots = slots_of_all([*parts, new_slots]).astype(np.intp, copy=False)
        count = len(self.slots)
        self._begun = count - len(new_slots)
        self.first_new = int(new_slots[0]) if len(new_slots) else FOREVER
        place = np.empty(int(self.slots[-1]) + 1 if count else 0, np.int32)
        place[self.slots] = np.arange(count, dtype=np.int32)
        self._changed = {
            ladder: (
                np.concatenate([place[slots] for slots, _ in changes]),
                np.concatenate([levels for _, levels in changes]),
            )
            for ladder, changes in level_changes.rows.items()
        }
        self._known: dict[int, Array] = {}

    def turned(self, formula: Formula, ladders: Sequence[int]) -> tuple[Array, Array]:
        """(slots, what the formula says) of the profiles where it turned or that begin."""
        level_changes = [self._changed[ladder][0] for ladder in ladders if ladder in self._changed]
        if not level_changes and self._begun == len(self.slots):
            return self.slots[:0], np.zeros(0, np.bool_)
        rows: Array | None = None
        if sum(map(len, level_changes)) < len(self.slots) // FEW:
            new = np.arange(self._begun, len(self.slots))
            rows = np.sort(np.concatenate([*level_changes, new]))
            rows = rows[starts_of(rows)]
        count = len(self.slots) if rows is None else len(rows)
        levels = self._both if rows is None else lambda ladder: self._both(ladder)[:, rows]
        before, after = holds(formula, levels, (2, count))
        turns = before != after
        if rows is None:
            turns[self._begun :] = True
            found = turns.nonzero()[0]
            return self.slots[found], after[found]
        turns |= rows >= self._begun
        return self.slots[rows[turns]], after[turns]

    def _both(self, ladder: int) -> Array:
        """A ladder's levels before and after. uint8[2, slots]"""
        known = self._known.get(ladder)
        if known is None:
            stored = self._gauges[ladder].level[self.slots]
            known = self._known[ladder] = np.stack([stored, stored])
            if ladder in self._changed:
                where, levels = self._changed[ladder]
                known[1, where] = levels
        return known


class PairLevels:
    """Levels before and after each instant at which some level moved by the clock."""

    def __init__(self, gauges: list[Gauge], level_changes: LevelChanges) -> None:
        self._gauges = gauges
        parts = list(level_changes.pairs.values())
        slots = np.concatenate([slots for slots, _, _ in parts]).astype(np.intp)
        at = np.concatenate([at for _, at, _ in parts])
        order = pair_order(slots, at)
        slots, at = slots[order], at[order]
        is_first = np.ones(len(slots), np.bool_)
        is_first[1:] = (slots[1:] != slots[:-1]) | (at[1:] != at[:-1])
        place = np.empty(len(slots), np.int32)
        place[order] = np.cumsum(is_first, dtype=np.int32) - 1
        self.slots, self.at = slots[is_first], at[is_first]
        self._starts = starts_of(self.slots)
        self._changed: dict[int, tuple[Array, Array]] = {}
        begin = 0
        for ladder, (_, when, levels) in level_changes.pairs.items():
            self._changed[ladder] = place[begin : begin + len(when)], levels
            begin += len(when)
        self._known: dict[int, Array] = {}

    def turned(self, formula: Formula, ladders: Sequence[int]) -> tuple[Array, Array, Array]:
        """(slots, instants, what the formula says) where it turned, ascending."""
        if not any(ladder in self._changed for ladder in ladders):
            return self.slots[:0], self.at[:0], np.zeros(0, np.bool_)
        before, after = holds(formula, self._both, (2, len(self.slots)))
        found = (before != after).nonzero()[0]
        return self.slots[found], self.at[found], after[found]

    def _both(self, ladder: int) -> Array:
        """A ladder's levels before and after: one holds until the next of its slot. uint8[2, n]"""
        known = self._known.get(ladder)
        if known is None:
            stored = self._gauges[ladder].level[self.slots[self._starts]]
            known = self._known[ladder] = np.empty((2, len(self.slots)), stored.dtype)
            self._fill(known[0], known[1], ladder, stored)
        return known

    def _fill(self, before: Array, after: Array, ladder: int, stored: Array) -> None:
        total = len(self.slots)
        if ladder not in self._changed:
            before[:] = after[:] = np.repeat(stored, sizes_of(self._starts, total))
            return
        where, levels = self._changed[ladder]
        before[self._starts] = stored
        before[where] = levels
        is_set = np.zeros(total, np.bool_)
        is_set[self._starts] = True
        is_set[where] = True
        points = is_set.nonzero()[0]
        after[:] = np.repeat(before[points], sizes_of(points, total))
        before[1:] = after[:-1]
        before[self._starts] = stored
