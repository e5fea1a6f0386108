"""When an expression could next change by the clock alone.

Theory: with the leaves held constant, a tree's value is a step function of now. A comparison of
the clock or of a day word with a fixed time flips where ``windows`` inverts it; any other day word,
a calendar interval or a date part of now steps at the next start of its unit; all else steps where
one of its parts does. The earliest of these is a candidate: the value may turn out not to differ
there, but it differs nowhere before.

Limits: ``now`` used as a plain value changes every millisecond and answers ``at + 1``; the planner
refuses such rules (``ticks``).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np

from profile_actors.columnar.instants import unit_next
from profile_actors.columnar.vectors import FOREVER, Array
from profile_actors.rules.evaluation.scalars import Evaluation, Leaf
from profile_actors.rules.evaluation.windows import flips, halves, instant, stands_for_day
from profile_actors.rules.tree.clock_reads import _PART_UNITS, varies
from profile_actors.rules.tree.comparisons import COMPARISONS
from profile_actors.rules.tree.nodes import Calendar, Call, Node, Now, Occurs
from profile_actors.rules.tree.walks import parts


def next_boundary(node: Node, leaf: Leaf, at: Array) -> Array:
    """Per row the first instant later than ``at`` at which the value could differ, leaves constant.

    leaf: as for ``scalar_vector``. at: int64 ms per row. Returns int64 ms, FOREVER where it never
    does; may be spurious, never late. Cost: like evaluating the moving parts.
    """
    if not varies(node):
        return np.full(at.shape, FOREVER, np.int64)
    evaluation = Evaluation(leaf, at)
    return np.array(np.broadcast_to(Boundaries(evaluation, at).of(node), at.shape), np.int64)


class Boundaries:
    """The boundaries of nodes over one evaluation's rows. at: int64 ms per row."""

    def __init__(self, evaluation: Evaluation, at: Array) -> None:
        self.at = at
        self.evaluation = evaluation

    def of(self, node: Node) -> Array:
        """The node's first boundary after ``at``; shape () or per row."""
        return self._later(self._candidates(node))

    def _later(self, candidates: Iterable[Array]) -> Array:
        first: Array = np.asarray(FOREVER)
        for candidate in candidates:
            first = np.minimum(first, np.where(candidate > self.at, candidate, FOREVER))
        return first

    def _candidates(self, node: Node) -> Iterator[Array]:
        if not varies(node):
            return
        if isinstance(node, Now):
            yield self.at + 1 if node.kind == "now" else unit_next(self.at, "day")
        elif isinstance(node, Calendar):
            yield unit_next(self.at, node.unit)
        elif isinstance(node, Occurs):
            yield from self._occurs(node)
        elif isinstance(node, Call) and node.function in COMPARISONS:
            yield from self._comparison(*node.args)
        elif isinstance(node, Call) and self._reads_clock(node):
            yield unit_next(self.at, _PART_UNITS[node.function])
        else:
            for part in parts(node):
                yield self.of(part)

    @staticmethod
    def _reads_clock(node: Call) -> bool:
        return node.function in _PART_UNITS and all(arg == Now("now") for arg in node.args)

    def _comparison(self, x: Node, y: Node) -> Iterator[Array]:
        if y == Now("now") or not isinstance(x, Now):
            x, y = y, x
        if not isinstance(x, Now):
            yield self.of(x)
            yield self.of(y)
            return
        yield self.of(y)
        vector = self.evaluation.value(y)
        clock = instant(x, self.evaluation.fixed)
        for flip in (clock.first(vector.values), clock.first(vector.values + 1)):
            yield _where(vector.valid, flip)
        yield from clock.known()

    def _occurs(self, node: Occurs) -> Iterator[Array]:
        bounds = halves(node, self.evaluation.fixed, stands_for_day(node.time))
        times = [node.time] if node.until is None else [node.time, node.until]
        if node.subject == Now("now"):
            for bound, offset, lower in bounds:
                value, valid = bound.at(self.at)
                yield _where(valid, value + offset + int(not lower))
            for time in times:
                yield self.of(time)
            return
        yield self.of(node.subject)
        subject = self.evaluation.value(node.subject)
        for flip in flips(bounds, subject.values):
            yield _where(subject.valid, flip)
        for time in times:
            if not isinstance(time, Now | Calendar):
                yield self.of(time)


def _where(valid: Array | None, instants: Array) -> Array:
    return instants if valid is None else np.where(valid, instants, np.int64(FOREVER))
