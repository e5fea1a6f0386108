"""One rule of any shape in one step: evaluated where its inputs or its time changed.

Theory: for profiles with rows once, at the step's end; for others at every instant at which the
clock moves something that it reads, or the rule by itself (its *boundaries*). Rules with the same
inputs share a frame, and in it every expression that they have in common.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from profile_actors.columnar.instants import unit_starts
from profile_actors.columnar.runs import starts_of
from profile_actors.columnar.slot_pairs import distinct_pairs, following, slots_of_all
from profile_actors.columnar.vectors import FOREVER, Array, differ, truth
from profile_actors.engine.fold.departures import Departures
from profile_actors.engine.fold.findings import Findings
from profile_actors.engine.fold.moments import Moments
from profile_actors.engine.membership.gauges import flags
from profile_actors.engine.membership.rulebook import Rulebook, Tree
from profile_actors.engine.membership.timers import Timer
from profile_actors.engine.operators.contributions import StepScope
from profile_actors.rules.evaluation.frames import Frame
from profile_actors.rules.evaluation.horizons import boundary_of, next_boundary
from profile_actors.rules.evaluation.planned_values import value_in, vector_of
from profile_actors.rules.tree.trends import FALLS, RISES

FRAMES = 4
"""Frames that are kept for the next rule: each holds what was evaluated in it."""


@dataclass(slots=True)
class TreeStep:
    """The trees of a rulebook in one step. new_slots: profiles that begin in it, ascending."""

    book: Rulebook
    scope: StepScope
    moments: Moments
    findings: Findings
    new_slots: Array
    _frames: dict[int, tuple[Array, Frame]] = field(default_factory=dict)

    def forget_frames(self) -> None:
        """After a failure: what others share must not be half of an evaluation."""
        self._frames.clear()

    def grow(self, tree: Tree) -> None:
        """Evaluate a rule of any shape where its inputs or its time changed."""
        due, due_slots = _due_in(tree.timer, self.scope)
        mine = self.scope.have_rows(due_slots)
        row_slots, (pair_slots, pair_at) = self.moments.touched(
            tree.aggregates, tree.attributes, self.new_slots, tree.histories
        )
        if mine.any():
            row_slots = slots_of_all([row_slots, due_slots[mine]])
        if not mine.all():
            pair_slots, pair_at = distinct_pairs(
                np.concatenate([pair_slots, due_slots[~mine]]),
                np.concatenate([pair_at, due[~mine]]),
            )
        if len(row_slots):
            self._grow_rows(tree, row_slots)
        if len(pair_slots):
            self._grow_pairs(tree, pair_slots, pair_at)

    def _grow_rows(self, tree: Tree, slots: Array) -> None:
        """Evaluate for profiles with rows, at the step's end."""
        root = tree.rule.root
        frame = self._frame_at_end(slots)
        after = value_in(frame, root)
        if tree.timer is not None:
            upcoming = boundary_of(root, frame)
            if tree.trend == FALLS and self._all_entered(tree):
                upcoming[~truth(after)] = FOREVER  # what is false stays so until something comes
            self.findings.delta.timers.append((tree.timer, slots, upcoming))
        if tree.gauge >= 0:
            self.findings.at_now([tree.gauge], slots, [flags(truth(after))])
            return
        before = vector_of(root, self.moments.before(slots), len(slots), self.scope.started)
        self.findings.mark((tree.rule.name,), slots, differ(before, after)[None, :], None)

    def _frame_at_end(self, slots: Array) -> Frame:
        """The frame of these slots at the step's end. Rules with the same inputs share it, and with
        it what they have in common: equal expressions are one node, evaluated once in a frame."""
        known = self._frames.get(id(slots))
        if known is None or known[0] is not slots:
            made = Frame(self.moments.at_end(slots), np.asarray(self.scope.now), len(slots))
            if len(self._frames) >= FRAMES:
                self._frames.pop(next(iter(self._frames)))
            known = self._frames[id(slots)] = (slots, made)
        return known[1]

    def _all_entered(self, tree: Tree) -> bool:
        """Whether no kept event that the rule reads enters later than now."""
        return all(self.moments.max_enter(events) <= self.scope.now for events in tree.histories)

    def _grow_pairs(self, tree: Tree, slots: Array, at: Array) -> None:
        """Evaluate at virtual rows, adding the instants at which the rule's own clock moves it."""
        mine = slots[starts_of(slots)]
        if tree.timer is not None:
            end = np.full(len(mine), self.scope.now)
            upcoming = next_boundary(tree.rule.root, self.moments.at(mine, end), end)
            self.findings.delta.timers.append((tree.timer, mine, upcoming))
        departures = Departures(tree, self.moments, self.scope)
        if not tree.is_kept_alone:
            if tree.timer is not None:
                slots, at = self._with_boundaries(tree, slots, at)
        else:
            more_slots, more_at, enters = departures.instants(mine)
            slots, at = distinct_pairs(
                np.concatenate([slots, more_slots]), np.concatenate([at, more_at])
            )
        if tree.gauge < 0:
            index, changed = departures.changed(slots, at)
            slots, at = slots[index[changed]], at[index[changed]]
            marks = np.ones((1, len(slots)), np.bool_)
            self.findings.mark((tree.rule.name,), slots, marks, at)
            return
        gauge = self.book.gauges[tree.gauge]
        if tree.is_kept_alone and tree.trend in (FALLS, RISES):
            one_way = ~enters[mine.searchsorted(slots)]
            turns = departures.bisected(slots[one_way], at[one_way], gauge.level)
            self.findings.at_instants(tree.gauge, *turns)
            slots, at = slots[~one_way], at[~one_way]
        index, levels = departures.levels(slots, at, gauge.level)
        self.findings.at_instants(tree.gauge, slots[index], at[index], levels)

    def _with_boundaries(self, tree: Tree, slots: Array, at: Array) -> tuple[Array, Array]:
        if self.scope.slots is not None and tree.steps:
            # A look-ahead passes every midnight up to a century: all at once, not one by one.
            first = starts_of(slots)
            more = [unit_starts(tree.steps, int(at[i]), self.scope.now) for i in first]
            sizes = [len(instants) for instants in more]
            slots, at = distinct_pairs(
                np.concatenate([slots, np.repeat(slots[first], sizes)]), np.concatenate([at, *more])
            )
        bound_slots, bound_at = slots, at
        while len(bound_slots):
            nxt = next_boundary(tree.rule.root, self.moments.at(bound_slots, bound_at), bound_at)
            limit = following(slots, at, bound_slots, bound_at, self.scope.now + 1)
            add = (nxt < limit).nonzero()[0]
            bound_slots, bound_at = bound_slots[add], nxt[add]
            if len(add):
                slots, at = distinct_pairs(
                    np.concatenate([slots, bound_slots]), np.concatenate([at, bound_at])
                )
        return slots, at


def _due_in(timer: Timer | None, scope: StepScope) -> tuple[Array, Array]:
    """What is due of a timer; nothing without one."""
    if timer is None:
        return np.zeros(0, np.int64), np.zeros(0, np.uint32)
    return timer.due_in(scope)
