"""Rules over kept events when time alone passes: at which instants they are looked at, and how.

Theory: between two instants at which a kept event enters or leaves, such a rule stands still. So
its virtual rows are these instants, all known at once. A condition that can only turn one way while
events leave (``trends``) is bisected: one evaluation per halving, not one per departure. All
others are evaluated at each instant, in pieces of bounded memory; a look-ahead goes no further than
the first change that it was asked for.

Cost: evaluating a profile with n kept events costs O(n), so a rule without a trend costs O(n · k)
for k departures in one step. Steps of the running clock have few; a store reopened after a long
time, and look-ups of a profile with thousands of events in a window, have many. Look-aheads are
bounded, and then give no answer for that rule; a step of the clock is not.
"""

from __future__ import annotations

import numpy as np

from profile_actors.columnar.runs import sizes_of, starts_of
from profile_actors.columnar.vectors import FOREVER, Array, Vector, differ, truth
from profile_actors.engine.fold.moments import Moments
from profile_actors.engine.membership.gauges import IN, OUT, flags
from profile_actors.engine.membership.rulebook import Tree
from profile_actors.engine.operators.contributions import StepScope
from profile_actors.errors import RuleError
from profile_actors.rules.evaluation.planned_values import vector_of
from profile_actors.rules.tree.trends import FALLS

FIRST_CELLS, MOST_CELLS = 1 << 16, 1 << 21
"""Kept events times instants that are evaluated at once: at first, and at most."""


AHEAD_CELLS, AHEAD_CELLS_EACH = 1 << 24, 1 << 14
"""Cells of one rule in one look-ahead, and so many more per profile: some seconds of one core, for
which the writer waits. Beyond, the rule has no answer for the profiles asked."""


class Departures:
    """One rule's virtual rows in one step."""

    def __init__(self, tree: Tree, moments: Moments, scope: StepScope) -> None:
        self.tree = tree
        self.moments = moments
        self.scope = scope

    def instants(self, slots: Array) -> tuple[Array, Array, Array]:
        """(slot, instant) at which kept events of these ascending slots enter or leave in the step,
        and which of the slots have one that enters. Neither ordered nor distinct."""
        slot_parts, at_parts = [slots[:0]], [np.zeros(0, np.int64)]
        enters = np.zeros(len(slots), np.bool_)
        started, until = self.scope.started, self.scope.now
        for events in self.tree.histories:
            rows = self.moments.kept(events, slots)
            enter = ((rows.enter > started) & (rows.enter <= until)).nonzero()[0]
            enters[rows.owner[enter]] = True
            slot_parts.append(slots[rows.owner[enter]])
            at_parts.append(rows.enter[enter])
            if rows.leave is not None:
                leave = ((rows.leave > started) & (rows.leave <= until)).nonzero()[0]
                slot_parts.append(slots[rows.owner[leave]])
                at_parts.append(rows.leave[leave])
        return np.concatenate(slot_parts), np.concatenate(at_parts), enters

    def bisected(self, slots: Array, at: Array, level: Array) -> tuple[Array, Array, Array]:
        """Where a rule with a trend turns: (slot, instant, level from then on), one per slot at
        most. slots, at: ascending pairs; level: uint8 per slot, as it was before."""
        first = starts_of(slots)
        turns_from = IN if self.tree.trend == FALLS else OUT
        can = (level[slots[first]] == turns_from).nonzero()[0]
        low = first[can]
        end = low + sizes_of(first, len(slots))[can]
        high = end.copy()
        while True:
            open_ = (low < high).nonzero()[0]
            if len(open_) == 0:
                break
            middle = (low[open_] + high[open_]) // 2
            turned = self._truth(slots[middle], at[middle]) != (turns_from == IN)
            high[open_[turned]] = middle[turned]
            low[open_[~turned]] = middle[~turned] + 1
        found = (low < end).nonzero()[0]
        turn = low[found]
        levels = np.full(len(turn), OUT if turns_from == IN else IN, np.uint8)
        return slots[turn], at[turn], levels

    def _truth(self, slots: Array, at: Array) -> Array:
        values = vector_of(self.tree.rule.root, self.moments.at(slots, at), len(slots), at)
        return truth(values)

    def levels(self, slots: Array, at: Array, level: Array) -> tuple[Array, Array]:
        """(index, levels) at the ascending pairs that were evaluated. level: as before."""
        found, levels = [np.zeros(0, np.intp)], [np.zeros(0, np.uint8)]
        done = np.zeros(0 if len(slots) == 0 else int(slots[-1]) + 1, np.bool_)
        last = level[slots]  # only read at each slot's first pair of a piece
        budget = self._budget(slots)
        for begin, end, cells in self._pieces(slots):
            index = np.arange(begin, end)
            index = index[~done[slots[index]]]
            if len(index) == 0:
                continue
            budget = self._spent(budget, cells)
            here = flags(self._truth(slots[index], at[index]))
            before = np.empty_like(here)
            before[1:] = here[:-1]
            first = starts_of(slots[index])
            before[first] = last[index[first]]
            stops = (here != before) & (at[index] > self.scope.enough)
            done[slots[index[stops]]] = True
            if end < len(slots):
                last[end] = here[-1] if slots[end] == slots[index[-1]] else last[end]
            found.append(index)
            levels.append(here)
        return np.concatenate(found), np.concatenate(levels)

    def changed(self, slots: Array, at: Array) -> tuple[Array, Array]:
        """(index, changed): where a computed attribute's value differs from the one before it."""
        found, marks = [np.zeros(0, np.intp)], [np.zeros(0, np.bool_)]
        done = np.zeros(0 if len(slots) == 0 else int(slots[-1]) + 1, np.bool_)
        root = self.tree.rule.root
        budget = self._budget(slots)
        for begin, end, cells in self._pieces(slots):
            # The pair before is evaluated again where a slot's pairs go on.
            goes_on = begin > 0 and slots[begin] == slots[begin - 1]
            index = np.arange(begin - int(goes_on), end)
            index = index[~done[slots[index]]]
            if len(index) == 0:
                continue
            budget = self._spent(budget, cells)
            leaf = self.moments.at(slots[index], at[index])
            values = vector_of(root, leaf, len(index), at[index])
            first = starts_of(slots[index])
            mine = slots[index[first]]
            before = vector_of(root, self.moments.before(mine), len(mine), self.scope.started)
            here = changed_in_runs(before, values, first)
            if goes_on and slots[index[0]] == slots[begin]:
                index, here = index[1:], here[1:]
            done[slots[index[here & (at[index] > self.scope.enough)]]] = True
            found.append(index)
            marks.append(here)
        return np.concatenate(found), np.concatenate(marks)

    def _budget(self, slots: Array) -> int:
        """How many cells may be evaluated."""
        if not self.scope.is_ahead:
            return FOREVER  # a step must be made whatever it costs
        return AHEAD_CELLS + AHEAD_CELLS_EACH * len(starts_of(slots))

    def _spent(self, budget: int, cells: int) -> int:
        if cells > budget:
            raise RuleError(
                f"expected at most {AHEAD_CELLS} kept events times instants to look ahead over, got"
                f" more - at rule {self.tree.rule.name!r}; narrow its filters or its window"
            )
        return budget - cells

    def _pieces(self, slots: Array) -> list[tuple[int, int, int]]:
        """Ranges of the pairs that are evaluated at once, and how many cells each has."""
        first = starts_of(slots)
        mine = slots[first]
        sizes = np.ones(len(mine), np.int64)
        for events in self.tree.histories:
            sizes += self.moments.kept(events, mine).sizes
        ends = np.cumsum(np.repeat(sizes, sizes_of(first, len(slots))))
        out: list[tuple[int, int, int]] = []
        begin = 0
        cells = FIRST_CELLS if self.scope.is_ahead else MOST_CELLS
        while begin < len(slots):
            done = int(ends[begin - 1]) if begin else 0
            end = max(begin + 1, int(ends.searchsorted(done + cells, side="right")))
            out.append((begin, end, int(ends[end - 1]) - done))
            begin, cells = end, min(4 * cells, MOST_CELLS)
        return out


def changed_in_runs(before: Vector, values: Vector, first: Array) -> Array:
    """Where a virtual row's value differs from the one before it in its slot's run."""
    total = len(values.values)
    out = np.zeros(total, np.bool_)
    rows = np.arange(1, total)

    def part(vector: Vector, index: Array) -> Vector:
        valid = None if vector.valid is None else vector.valid[index]
        return Vector(vector.values[index], valid, vector.dictionary)

    out[1:] = differ(part(values, rows - 1), part(values, rows))
    out[first] = differ(before, part(values, first))
    return out
