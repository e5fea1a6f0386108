"""When an expression with arrays could next change by the clock alone: boundaries over frames.

Theory: as in ``boundaries``, but a part that stands in an inner frame changes where the earliest of
its rows does. Kept events change an array at the instants at which they enter and leave. Pairs
that a join excludes by conditions which do not move stay excluded, so only the others are asked.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from profile_actors.columnar.lists import take
from profile_actors.columnar.vectors import FOREVER, Array
from profile_actors.rules.evaluation.boundaries import Boundaries
from profile_actors.rules.evaluation.frames import Frame
from profile_actors.rules.evaluation.scalars import Leaf
from profile_actors.rules.tree.clock_reads import varies
from profile_actors.rules.tree.nodes import Calendar, Call, Each, Let, Node, Now
from profile_actors.rules.tree.plan import Kept
from profile_actors.rules.tree.walks import conjuncts, parts


def next_boundary(node: Node, leaf: Leaf, at: Array) -> Array:
    """Per row the first instant later than ``at`` at which the value could differ, leaves constant.

    As ``boundaries``, for nodes with arrays too. Cost: evaluating the moving parts.
    """
    if not varies(node):
        return np.full(at.shape, FOREVER, np.int64)
    return boundary_of(node, Frame(leaf, np.asarray(at, np.int64), len(at)))


def boundary_of(node: Node, frame: Frame) -> Array:
    """``next_boundary`` at the frame's now, using what was evaluated in it already."""
    found = np.asarray(FOREVER)
    if varies(node):
        found = FrameBoundaries(frame).of(node)
    return np.array(np.broadcast_to(found, (frame.rows,)), np.int64)


class FrameBoundaries(Boundaries):
    """The boundaries of nodes in one frame."""

    def __init__(self, frame: Frame) -> None:
        super().__init__(frame, frame.now)
        self.frame = frame

    def of(self, node: Node) -> Array:
        if not varies(node) or self._is_still(node):
            return np.asarray(FOREVER)
        home = self.frame.home(node)
        if home is self.frame:
            return super().of(node)
        found, path = FrameBoundaries(home).of(node), self.frame.path_to(home)
        return found if path is None or found.ndim == 0 else found[path]

    def _is_still(self, node: Node) -> bool:
        """Whether all that moves in the node is kept events, and none of them ever will."""
        if isinstance(node, Kept):
            rows = self.frame.kept_rows(node)
            return not node.filter.window and rows.max_enter <= self.frame.earliest
        if isinstance(node, Now | Calendar):
            return False
        if isinstance(node, Call) and node.function.startswith("current"):
            return False
        return all(self._is_still(part) for part in parts(node))

    def _candidates(self, node: Node) -> Iterator[Array]:
        frame = self.frame
        if isinstance(node, Kept):
            yield self._kept(node)
        elif isinstance(node, Let):
            yield self.of(node.value)
            if varies(node.body):
                inner = frame.within(None, frame.rows, {node.name: frame.any(node.value)})
                yield FrameBoundaries(inner).of(node.body)
        elif isinstance(node, Each):
            yield from self._each(node)
        else:
            yield from super()._candidates(node)

    def _each(self, node: Each) -> Iterator[Array]:
        frame = self.frame
        yield self.of(node.source)
        if node.function == "filter":
            moving = [part for part in conjuncts(node.body) if varies(part)]
            if moving:
                found = frame.found(node)
                left, right = found.pairs()
                inner = frame.of_elements(left, take(found.source.item, right), node.variables[0])
                yield from (self._least(inner, part, left) for part in moving)
        elif node.function == "mapentries":
            if varies(node.body) or varies(node.extra[0]):
                before = frame.map(node.source)
                names = dict(zip(node.variables, (before.keys, before.values), strict=True))
                inner = frame.within(before.owner, len(before.owner), dict(names))
                yield self._least(inner, node.body, before.owner)
                yield self._least(inner, node.extra[0], before.owner)
        elif varies(node.body):
            source = frame.many(node.source)
            inner = frame.inside(source, node.variables[0])
            yield self._least(inner, node.body, source.owner)

    def _least(self, inner: Frame, node: Node, owner: Array) -> Array:
        """Per row of this frame the earliest boundary among its inner rows (owner ascending)."""
        found = np.broadcast_to(FrameBoundaries(inner).of(node), (inner.rows,))
        return least(found, owner, self.frame.rows)

    def _kept(self, node: Kept) -> Array:
        rows = self.frame.kept_rows(node)
        now = np.broadcast_to(self.at, (self.frame.rows,))[rows.owner]
        flips = np.where(rows.enter > now, rows.enter, FOREVER)
        if rows.leave is not None:
            # What never counts flips nothing; what has yet to enter leaves later still.
            flips[(rows.leave <= rows.enter)] = FOREVER
            flips = np.where((rows.enter <= now) & (rows.leave > now), rows.leave, flips)
        return least(flips, rows.owner, self.frame.rows)


def least(values: Array, owner: Array, rows: int) -> Array:
    """The least value of each row's elements, FOREVER of none. owner ascending."""
    out = np.full(rows, FOREVER, np.int64)
    if len(values):
        starts = np.flatnonzero(np.append(True, owner[1:] != owner[:-1]))
        out[owner[starts]] = np.minimum.reduceat(values, starts)
    return out
