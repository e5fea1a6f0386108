"""Joins: for each row, the elements of a list further out that meet conditions on both.

Theory: ``exists X from … where X.id = V.id and X.timestamp occurs <= 30 minutes after V.timestamp``
asks, per V, for the X of equal id in a range of time. The elements are sorted by (owner, equal
values, time) as one integer; the rows' candidates are then one range of that order each, found by
two binary searches. Conditions on the element alone are applied before, all others after, to the
pairs that are left, in pieces of bounded size. Source: the sort-merge band join of databases.

Limits: one profile's pairs are bounded, since a few thousand events of one campaign make millions:
a rule that has more of them has no answer, and says so.

Conditions given here do not move with the clock.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from profile_actors.columnar import lists, runs
from profile_actors.columnar.lists import Events, Item, Many, full, paired, take
from profile_actors.columnar.vectors import FOREVER, Array, Vector
from profile_actors.errors import RuleError
from profile_actors.rules.evaluation.windows import halves, stands_for_day
from profile_actors.rules.tree.comparisons import MIRRORED
from profile_actors.rules.tree.free_names import reads
from profile_actors.rules.tree.kinds import kind_of
from profile_actors.rules.tree.nodes import Call, Node, Occurs
from profile_actors.rules.tree.plan import KeptField

PAIRS = 1 << 21
"""Pairs that are looked at in one piece."""


MOST_PAIRS = 1 << 22
"""Pairs of one profile at one instant: some 0.3 s of one core, or 200 MB."""


class Rows(Protocol):
    """What a join, or a sequence, asks of a frame (``frames.Frame``, which asks for joins)."""

    rows: int
    now: Array

    def within(self, up: Array | None, rows: int, names: dict[str, Any]) -> Rows: ...

    def inside(self, many: Many, name: str, scope: Any = None) -> Rows: ...

    def of_elements(self, up: Array, item: Item, name: str) -> Rows: ...

    def reaches(self, node: Node) -> bool: ...

    def path_to(self, home: Any) -> Array | None: ...

    def profile(self) -> Array | None: ...

    def value(self, node: Node) -> Vector: ...

    def many(self, node: Node) -> Many: ...

    def fixed(self, node: Node) -> tuple[Array, Array | None]: ...

    def all_of(self, conditions: list[Node]) -> Array: ...


@dataclass(frozen=True, slots=True)
class Found:
    """What a join found. sizes: how many elements each row has, None: count the pairs."""

    frame: Rows
    source: Many
    order: Array
    low: Array
    sizes: Array | None
    left: Array | None = None
    right: Array | None = None

    def pairs(self) -> tuple[Array, Array]:
        """(row, element) of every pair, ascending by row, then in the order of the source.

        Raises RuleError when one profile has more than MOST_PAIRS.
        """
        if self.left is None or self.right is None:
            assert self.sizes is not None
            refuse_too_many(self.frame, self.sizes)
            left = np.repeat(np.arange(len(self.sizes)), self.sizes)
            return left, self.order[runs.ranges(self.low, self.sizes)]
        return self.left, self.right


class Join:
    """A join of a frame's rows with a list of an outer frame ``home`` (or of the frame itself).

    name: what conditions call the element.
    """

    def __init__(self, frame: Rows, home: Rows, source: Many, name: str) -> None:
        self.frame = frame
        self.home = home
        self.source = source
        self.name = name

    def found(self, conditions: list[Node], after: Array | None = None) -> Found:
        """The pairs that meet all conditions. after: int64 ms per row, only later elements count;
        the elements are events in order then. Raises RuleError for too many pairs of a profile."""
        kept, rest = self._of_elements(conditions)
        order, low, sizes, rest = self._spans(kept, rest, after)
        order = kept[order]
        if not rest:
            return Found(self.frame, self.source, order, low, sizes)
        left, right = self._tried(order, low, sizes, rest)
        return Found(self.frame, self.source, order, low, None, left, right)

    def _elements(self, kept: Array) -> Rows:
        """The frame, at home, of the given elements."""
        many = self.source if len(kept) == len(self.source.owner) else self._picked(kept)
        return self.home.inside(many, self.name, self.frame)

    def _picked(self, kept: Array) -> Many:
        return lists.picked(self.source, kept)

    def _of_elements(self, conditions: list[Node]) -> tuple[Array, list[Node]]:
        """The elements that meet the conditions on them alone, and the other conditions."""
        kept = np.arange(len(self.source.owner))
        inner = self._elements(kept)
        alone = [part for part in conditions if inner.reaches(part)]
        if not alone:
            return kept, conditions
        rest = [part for part in conditions if not inner.reaches(part)]
        return np.flatnonzero(inner.all_of(alone)), rest

    # -- ranges of candidates ----------------------------------------------------------------

    def _spans(
        self, kept: Array, conditions: list[Node], after: Array | None
    ) -> tuple[Array, Array, Array, list[Node]]:
        """(order, low, size, rest): each row's candidates are ``kept[order[low:low + size]]``."""
        inner = self._elements(kept)
        path = self.frame.path_to(self.home)
        ours = np.arange(self.frame.rows) if path is None else path
        theirs = self.source.owner[kept]
        bound = max(1, self.home.rows)
        rest: list[Node] = []
        earliest, latest = after, None
        dead = np.zeros(self.frame.rows, np.bool_)
        lost = np.zeros(len(kept), np.bool_)
        for part in conditions:
            sides = self._equality(part, inner)
            if sides is not None:
                mine, other = sides
                dead |= _nulls(mine)
                lost |= _nulls(other)
                a, b, size = lists.joint_codes(mine, other)
                codes, total = paired(np.append(ours, theirs), np.append(a, b), bound, size)
                ours, theirs, bound = codes[: len(ours)], codes[len(ours) :], total
                continue
            limits = self._band(part) if self.source.in_time else None
            if limits is None:
                rest.append(part)
                continue
            low, high, valid = limits
            dead |= ~valid
            earliest = _tighter(earliest, low, np.maximum)
            latest = _tighter(latest, high, np.minimum)
        return *self._searched(kept, ours, theirs, bound, earliest, latest, dead, lost), rest

    def _searched(
        self,
        kept: Array,
        ours: Array,
        theirs: Array,
        bound: int,
        earliest: Array | None,
        latest: Array | None,
        dead: Array,
        lost: Array,
    ) -> tuple[Array, Array, Array]:
        usable = np.flatnonzero(~lost) if lost.any() else np.arange(len(kept))
        theirs = theirs[usable]
        begin = end = None
        if (earliest is not None or latest is not None) and len(usable):
            times = self._times(kept[usable])
            theirs, ours, begin, end = _with_times(ours, theirs, bound, times, earliest, latest)
        if begin is None or end is None:
            begin, end = ours, ours + 1
        ascending = len(theirs) < 2 or bool((theirs[1:] >= theirs[:-1]).all())
        order = np.arange(len(theirs)) if ascending else np.argsort(theirs, kind="stable")
        keys = theirs if ascending else theirs[order]
        low = np.searchsorted(keys, begin, side="left")
        size = np.maximum(np.searchsorted(keys, end, side="left") - low, 0)
        size[dead] = 0
        return usable[order], low, size

    def _times(self, elements: Array) -> Array:
        item = self.source.item
        assert isinstance(item, Events), item
        return np.asarray(item.rows.time[item.place[elements]])

    def _equality(self, part: Node, inner: Rows) -> tuple[Vector, Vector] | None:
        """(of the rows, of the elements) where the condition is one value equal to the other."""
        if not (isinstance(part, Call) and part.function == "="):
            return None
        x, y = part.args
        if "decimal" in (kind_of(x)[0], kind_of(y)[0]):
            return None  # of different scales, perhaps: left to the evaluator
        for mine, other in ((x, y), (y, x)):
            if self.name not in reads(mine) and inner.reaches(other):
                rows, elements = self.frame.value(mine), inner.value(other)
                return full(rows, self.frame.rows), full(elements, inner.rows)
        return None

    def _band(self, part: Node) -> tuple[Array, Array, Array] | None:
        """(low, high, valid) per row where the condition is low <= element's timestamp <= high."""
        if isinstance(part, Occurs):
            others = [part.time] if part.until is None else [part.time, part.until]
            if not self._is_timestamp(part.subject) or part.comparison == "!=":
                return None
            if any(self.name in reads(other) for other in others):
                return None
            low, high = np.asarray(-FOREVER), np.asarray(FOREVER)
            valid = np.ones(self.frame.rows, np.bool_)
            for half in halves(part, self.frame.fixed, stands_for_day(part.time)):
                at, known = half.bound.at(self.frame.now)
                valid = valid & known
                if half.lower:
                    low = np.maximum(low, at + half.offset)
                else:
                    high = np.minimum(high, at + half.offset)
            return low, high, valid
        if not (isinstance(part, Call) and part.function in _LIMITS):
            return None
        operator, (x, y) = part.function, part.args
        if self._is_timestamp(y):
            x, y, operator = y, x, MIRRORED[operator]
        if not self._is_timestamp(x) or self.name in reads(y):
            return None
        vector = full(self.frame.value(y), self.frame.rows)
        low, high = _LIMITS[operator](vector.values)
        return low, high, ~_nulls(vector)

    def _is_timestamp(self, node: Node) -> bool:
        return (
            isinstance(node, KeptField)
            and node.path == "timestamp"
            and reads(node) == frozenset([self.name])
        )

    # -- pairs -------------------------------------------------------------------------------

    def _tried(
        self, order: Array, low: Array, sizes: Array, rest: list[Node]
    ) -> tuple[Array, Array]:
        """The candidates that meet the remaining conditions, asked pair by pair."""
        refuse_too_many(self.frame, sizes)
        lefts, rights = [np.zeros(0, np.intp)], [np.zeros(0, np.intp)]
        begin, ends = 0, np.cumsum(sizes)
        while begin < len(sizes):
            done = ends[begin - 1] if begin else 0
            end = max(begin + 1, int(np.searchsorted(ends, done + PAIRS, side="right")))
            part = slice(begin, end)
            left = np.repeat(np.arange(begin, end), sizes[part])
            right = order[runs.ranges(low[part], sizes[part])]
            begin = end
            if len(left) == 0:
                continue
            item = take(self.source.item, right)
            hits = np.flatnonzero(self.frame.of_elements(left, item, self.name).all_of(rest))
            lefts.append(left[hits])
            rights.append(right[hits])
        return np.concatenate(lefts), np.concatenate(rights)


def refuse_too_many(frame: Rows, sizes: Array) -> None:
    """Raise RuleError if one profile would have more than MOST_PAIRS. sizes: pairs per row."""
    if int(sizes.sum()) <= MOST_PAIRS:
        return
    profile = frame.profile()
    most = int(sizes.max() if profile is None else np.bincount(profile, sizes).max())
    if most > MOST_PAIRS:
        raise RuleError(
            f"expected at most {MOST_PAIRS} pairs of events to compare for one profile, got {most};"
            " narrow the filters, compare fields with `=`, or bound the time between the events"
        )


_LIMITS: dict[str, Callable[[Array], tuple[Array, Array]]] = {
    "=": lambda t: (t, t),
    "<": lambda t: (np.asarray(-FOREVER), t - 1),
    "<=": lambda t: (np.asarray(-FOREVER), t),
    ">": lambda t: (t + 1, np.asarray(FOREVER)),
    ">=": lambda t: (t, np.asarray(FOREVER)),
}


def _nulls(vector: Vector) -> Array:
    if vector.valid is None:
        return np.zeros(vector.values.shape, np.bool_)
    return ~vector.valid


def _tighter(known: Array | None, other: Array, choice: np.ufunc) -> Array:
    return np.asarray(other if known is None else choice(known, other))


def _with_times(
    ours: Array,
    theirs: Array,
    bound: int,
    times: Array,
    earliest: Array | None,
    latest: Array | None,
) -> tuple[Array, Array, Array, Array]:
    """(elements' keys, rows, begin, end): keys of (code, time), and each row's range of them."""
    first, last = int(times.min()), int(times.max())
    low = np.asarray(first if earliest is None else np.clip(earliest, first, last + 1))
    high = np.asarray(last if latest is None else np.clip(latest, first - 1, last))
    width = last - first + 2
    if bound * width < 1 << 62:
        place, begin, end = times - first, low - first, high - first + 1
    else:
        distinct = np.unique(times)
        place = np.searchsorted(distinct, times)
        begin = np.searchsorted(distinct, low, side="left")
        end = np.searchsorted(distinct, high, side="right")
        width = len(distinct) + 1
    if bound * width >= 1 << 62:
        codes = np.unique(np.append(ours, theirs), return_inverse=True)[1]
        ours, theirs = codes[: len(ours)], codes[len(ours) :]
    scale = np.int64(width)
    return theirs * scale + place, ours, ours * scale + begin, ours * scale + end
