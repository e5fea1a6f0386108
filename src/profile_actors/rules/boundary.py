"""When an expression could next change by the clock alone.

Theory: with the leaves held constant, a tree's value is a step function of now. A comparison of
the clock with a fixed time flips where ``windows`` inverts it; a day word, a calendar interval or a
date part of now steps at the next start of its unit; all else steps where one of its parts does.
The earliest of these is a candidate: the value may turn out not to differ there, but it differs
nowhere before.

Limits: ``now`` used as a plain value changes every millisecond and answers ``at + 1``; the planner
refuses such rules (``ticks``).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np

from profile_actors.rules.columns import DAY_MS, FOREVER, Array
from profile_actors.rules.evaluation import Evaluation, Leaf
from profile_actors.rules.instants import month_number, month_start, unit_next
from profile_actors.rules.kernels import COMPARISONS
from profile_actors.rules.plan import Kept, KeptField, Sequence
from profile_actors.rules.tree import Calendar, Call, Each, Items, Let, Node, Now, Occurs
from profile_actors.rules.windows import Instant, flips, halves, stands_for_day

_PART_UNITS = {
    "currentyear": "year",
    "currentmonth": "month",
    "currentdayofmonth": "day",
    "getyear": "year",
    "getmonth": "month",
    "getdayofmonth": "day",
}


def next_boundary(node: Node, leaf: Leaf, at: Array) -> Array:
    """Per row the first instant later than ``at`` at which the value could differ, leaves constant.

    leaf: as for ``evaluate``. at: int64 ms per row. Returns int64 ms, FOREVER where it never does;
    may be spurious, never late. Cost: like evaluating the moving parts.
    """
    if not moves(node):
        return np.full(at.shape, FOREVER, np.int64)
    evaluation = Evaluation(leaf, at)
    return np.array(np.broadcast_to(Boundaries(evaluation, at).of(node), at.shape), np.int64)


def parts(node: Node) -> Iterator[Node]:
    """The direct sub-expressions of a planned node."""
    if isinstance(node, Call):
        yield from node.args
    elif isinstance(node, Items):
        yield from node.items
    elif isinstance(node, Occurs):
        yield node.subject
        yield node.time
        if node.until is not None:
            yield node.until
    elif isinstance(node, Each):
        yield node.source
        yield node.body
        yield from node.extra
    elif isinstance(node, Let):
        yield node.value
        yield node.body
    elif isinstance(node, KeptField):
        yield node.event
    elif isinstance(node, Sequence):
        for stage in node.stages:
            yield stage.source
            if stage.condition is not None:
                yield stage.condition


def moves(node: Node) -> bool:
    """Whether the value may depend on now other than through the node's leaves.

    Kept events do: one may be later than now, or leave its filter's window.
    """
    if isinstance(node, Now | Calendar | Kept):
        return True
    if isinstance(node, Call) and node.function.startswith("current"):
        return True
    return any(moves(part) for part in parts(node))


def ticks(node: Node) -> bool:
    """Whether some part changes every millisecond: ``now`` as a plain value, or on both sides of a
    comparison. Such a rule has no useful next boundary."""
    if isinstance(node, Now):
        return node.kind == "now"
    children = list(parts(node))
    if isinstance(node, Occurs) or (isinstance(node, Call) and node.function in COMPARISONS):
        bare = [child for child in children if child == Now("now")]
        if isinstance(node, Call) or Now("now") != node.subject:
            return any(ticks(child) for child in children if child not in bare) or (
                isinstance(node, Call) and len(bare) > 1
            )
        return any(ticks(child) for child in children[1:])
    if isinstance(node, Call) and node.function in _PART_UNITS and children == [Now("now")]:
        return False
    return any(ticks(child) for child in children)


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
        if not moves(node):
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
        if y == Now("now"):
            x, y = y, x
        if x != Now("now"):
            yield self.of(x)
            yield self.of(y)
            return
        yield self.of(y)
        vector = self.evaluation.value(y)
        clock = Instant(None)
        for flip in (clock.first(vector.values), clock.first(vector.values + 1)):
            yield _where(vector.valid, flip)

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


def unit_steps(node: Node) -> str:
    """The unit ('day', 'month', or '') at whose starts the tree may change whatever its leaves.

    Sub-day units are not told: they step too often to be listed.
    """
    found = ""
    pending = [node]
    while pending:
        current = pending.pop()
        pending.extend(parts(current))
        if isinstance(current, Call) and current.function in ("currentmonth", "currentyear"):
            found = found or "month"
        elif (
            isinstance(current, Calendar)
            or (isinstance(current, Now) and current.kind != "now")
            or (isinstance(current, Call) and current.function == "currentdayofmonth")
        ):
            found = "day"
    return found


def unit_starts(unit: str, after: int, until: int) -> Array:
    """The starts of days or months later than ``after``, up to ``until``. int64 ms, ascending."""
    bounds = np.array([after, until], np.int64)
    if unit == "day":
        low, high = (bounds // DAY_MS).tolist()
        return np.arange(low + 1, high + 1, dtype=np.int64) * DAY_MS
    low, high = month_number(bounds).tolist()
    return month_start(np.arange(low + 1, high + 1, dtype=np.int64))
