"""Evaluation of arrays: frames of rows within frames, one NumPy pass per node over all of them.

Theory: the outermost frame has one row per profile (and instant). A condition or expression on the
elements of a list is evaluated in an inner frame with one row per element of all lists; ``up``
says which row of the outer frame each belongs to. An expression is evaluated in the outermost frame
that has all it reads and spread to where it is used, so what does not depend on an element is
not computed per element. A filter of a list that lies further out is a join (``joins``): its
elements are found by equal values and by ranges of time, not by trying all pairs. How lists and
maps are made is ``frame_lists``.

This is the scalar evaluator with lists, not another one: scalar nodes are ``Evaluation``'s.
"""

from __future__ import annotations

from functools import cached_property
from typing import cast

import numpy as np

from profile_actors.columnar import lists
from profile_actors.columnar.lists import Events, Item, KeptRows, Many, Mapped, full
from profile_actors.columnar.vectors import FOREVER, Array, Vector, both, truth
from profile_actors.rules.evaluation.chains import found_sequences
from profile_actors.rules.evaluation.frame_lists import (
    entry_of,
    joined,
    list_of,
    map_of,
    moving_parts,
)
from profile_actors.rules.evaluation.joins import Found
from profile_actors.rules.evaluation.scalars import Evaluation, Leaf
from profile_actors.rules.tree.free_names import reads
from profile_actors.rules.tree.nodes import Call, Each, Let, Literal, Node, Variable
from profile_actors.rules.tree.plan import Kept, KeptField, Sequence

TIMESTAMP = "timestamp"


_OF_LISTS = ("count", "sum", "min", "max")


class Frame(Evaluation):
    """Rows with what is bound to names there.

    parent, up: the frame these rows are made of, and the row of each there (None: the same rows).
    scope: where names are looked up next; the parent, but for a list's elements at home (``Join``).
    names: what variables stand for; no two along a scope have one name.
    """

    def __init__(
        self,
        leaf: Leaf,
        now: Array,
        rows: int,
        parent: Frame | None = None,
        up: Array | None = None,
        scope: Frame | None = None,
        names: dict[str, Item | Mapped] | None = None,
    ) -> None:
        super().__init__(leaf, now)
        self.rows = rows
        self.parent = parent
        self.up = up
        self.scope = scope if scope is not None else parent
        self.names = names or {}
        self.depth: int = 0 if parent is None else parent.depth + 1
        self._lists: dict[int, tuple[Node, Many]] = {}
        self._maps: dict[int, tuple[Node, Mapped]] = {}
        self._found: dict[int, tuple[Node, Found]] = {}
        self._paths: dict[int, Array | None] = {}
        self._kept_rows: dict[int, KeptRows] = {}

    @cached_property
    def earliest(self) -> int:
        """The earliest now of the rows."""
        return int(self.now.min()) if self.now.size else FOREVER

    # -- frames ------------------------------------------------------------------------------

    def within(
        self,
        up: Array | None,
        rows: int,
        names: dict[str, Item | Mapped],
        scope: Frame | None = None,
    ) -> Frame:
        """An inner frame. up: the row of this frame each of its rows belongs to (None: the same
        rows)."""
        now = self.now if self.now.ndim == 0 or up is None else self.now[up]
        return Frame(self.leaf, now, rows, self, up, scope, names)

    def inside(self, many: Many, name: str, scope: Frame | None = None) -> Frame:
        """The frame of a list's elements, bound to a name."""
        return self.of_elements(many.owner, many.item, name, scope)

    def of_elements(self, up: Array, item: Item, name: str, scope: Frame | None = None) -> Frame:
        """The frame of elements, each of a row ``up`` of this one."""
        return self.within(up, len(up), {name: item}, scope)

    def target(self, name: str) -> Frame:
        """The frame that a name is bound in."""
        frame: Frame | None = self
        while frame is not None:
            if name in frame.names:
                return frame
            frame = frame.scope
        raise AssertionError(f"nothing is bound to {name!r}")

    def home(self, node: Node) -> Frame:
        """The outermost frame that has all that the node reads."""
        # Levels occur only in fields of a block's rows, which are leaves.
        targets = [self.target(read) for read in reads(node) if isinstance(read, str)]
        if targets:
            return max(targets, key=lambda frame: frame.depth)
        frame = self
        while frame.parent is not None:
            frame = frame.parent
        return frame

    def reaches(self, node: Node) -> bool:
        """Whether all that the node reads is bound in this frame or those it is made of."""
        chain: list[Frame] = []
        frame: Frame | None = self
        while frame is not None:
            chain.append(frame)
            frame = frame.parent
        names = [read for read in reads(node) if isinstance(read, str)]
        return all(any(self.target(name) is frame for frame in chain) for name in names)

    def profile(self) -> Array | None:
        """The outermost frame's row that each row belongs to; None: the same rows."""
        frame = self
        while frame.parent is not None:
            frame = frame.parent
        return self.path_to(frame)

    def path_to(self, home: Frame) -> Array | None:
        """The row of an outer frame that each row belongs to; None: the same rows."""
        if home is self:
            return None
        if id(home) not in self._paths:
            path, frame = self.up, self.parent
            while frame is not home:
                assert frame is not None, "not an outer frame"
                if path is None:
                    path = frame.up
                elif frame.up is not None:
                    path = frame.up[path]
                frame = frame.parent
            self._paths[id(home)] = path
        return self._paths[id(home)]

    # -- scalars -----------------------------------------------------------------------------

    def value(self, node: Node) -> Vector:
        """The scalar node's vector; shape () when it is the same in every row."""
        if isinstance(node, Literal):
            return super().value(node)
        home = self.home(node)
        if home is self:
            return super().value(node)
        path = self.path_to(home)
        found = home.value(node)
        return found if path is None else lists.take_vector(found, path)

    def truth(self, node: Node) -> Array:
        """Where a condition is true. bool, shape () or per row"""
        return truth(self.value(node))

    def _compute(self, node: Node) -> Vector:
        if isinstance(node, KeptField):
            return self._field(node)
        if isinstance(node, Variable):
            item = self.names[node.name]
            assert isinstance(item, Vector), f"expected a scalar, got {type(item).__name__}"
            return item
        if isinstance(node, Let):
            return self.let(node).value(node.body)
        if isinstance(node, Sequence):
            return Vector(found_sequences(self, node))
        if isinstance(node, Call):
            if node.function in _OF_LISTS:
                return self._fold(node)
            if node.function == "head":
                return self._head(node)
            if node.function == "get":
                return self._get(node)
        return super()._compute(node)

    def let(self, node: Let) -> Frame:
        """The inner frame in which a let's name is bound: the same rows."""
        return self.within(None, self.rows, {node.name: self.any(node.value)})

    def any(self, node: Node) -> Item | Mapped:
        """The node's value, whatever its type, in this frame."""
        kind = node.type.kind if node.type is not None else ""
        if kind == "array":
            return self.many(node)
        if kind == "map":
            return self.map(node)
        if kind == "object":
            return self.event(node)
        return full(self.value(node), self.rows)

    def event(self, node: Node) -> Events:
        """The event that the node stands for in each row."""
        home = self.home(node)
        if home is not self:
            path = self.path_to(home)
            found = home.event(node)
            return found if path is None else Events(found.rows, found.place[path])
        if isinstance(node, Let):
            return self.let(node).event(node.body)
        if isinstance(node, Call) and node.function == "head":
            many = self.many(node.args[0])
            assert isinstance(many.item, Events), many
            return _or_none(many.item, lists.first(many))
        assert isinstance(node, Variable), node
        item = self.names[node.name]
        assert isinstance(item, Events), item
        return item

    def _field(self, node: KeptField) -> Vector:
        rows, index = self.event(node.event)
        column = Vector(rows.time) if node.path == TIMESTAMP else rows.column(node.path)
        if len(rows.owner) == 0:
            none = np.zeros(len(index), column.values.dtype)
            return Vector(none, np.zeros(len(index), np.bool_), column.dictionary)
        found = lists.take_vector(column, index)
        absent = index < 0
        if not absent.any():
            return found
        return Vector(found.values, both(found.valid, ~absent), found.dictionary)

    def _fold(self, node: Call) -> Vector:
        if node.function == "count":
            return self._count(node.args[0])
        many = self.many(node.args[0])
        if node.function == "sum":
            return lists.total(many, node.type is not None and node.type.kind == "decimal")
        return lists.extreme(many, node.function == "max")

    def _count(self, node: Node) -> Vector:
        if isinstance(node, Each) and node.function == "filter" and self.home(node) is self:
            sizes = self.found(node).sizes
            if sizes is not None and not moving_parts(node):
                return Vector(sizes)
        return lists.count(self.many(node))

    def _head(self, node: Call) -> Vector:
        many = self.many(node.args[0])
        assert isinstance(many.item, Vector), "a field of an event is asked of the event"
        return _vector_or_none(many.item, lists.first(many))

    def _get(self, node: Call) -> Vector:
        mapped = self.map(node.args[0])
        assert isinstance(mapped.values, Vector), "lists are asked for by many()"
        return _vector_or_none(mapped.values, entry_of(self, mapped, node.args[1]))

    # -- lists -------------------------------------------------------------------------------

    def many(self, node: Node) -> Many:
        """The list of each row."""
        home = self.home(node)
        if home is not self:
            path = self.path_to(home)
            found = home.many(node)
            return found if path is None else lists.spread(found, path)
        known = self._lists.get(id(node))
        if known is None:
            known = self._lists[id(node)] = (node, list_of(self, node))
        return known[1]

    def kept_rows(self, node: Kept) -> KeptRows:
        """All kept events of the profiles, of the outermost frame's rows; also those that do not
        count now."""
        if self.parent is not None:
            return self.parent.kept_rows(node)
        known = self._kept_rows.get(id(node))
        if known is None:
            known = self._kept_rows[id(node)] = cast(KeptRows, self.leaf(node))
        return known

    def found(self, node: Each) -> Found:
        """The filter's pairs of a row and an element, found once (``frame_lists.joined``)."""
        known = self._found.get(id(node))
        if known is None:
            known = self._found[id(node)] = (node, joined(self, node))
        return known[1]

    def all_of(self, conditions: list[Node]) -> Array:
        """Where all conditions hold. bool[rows]"""
        result = np.ones(self.rows, np.bool_)
        for condition in conditions:
            result = result & self.truth(condition)
        return result

    # -- maps --------------------------------------------------------------------------------

    def map(self, node: Node) -> Mapped:
        """The map of each row."""
        home = self.home(node)
        if home is not self:
            path = self.path_to(home)
            found = home.map(node)
            return found if path is None else lists.spread_map(found, path)
        known = self._maps.get(id(node))
        if known is None:
            known = self._maps[id(node)] = (node, map_of(self, node))
        return known[1]


def _or_none(events: Events, index: Array) -> Events:
    if len(events.place) == 0:
        return Events(events.rows, index)
    return Events(events.rows, np.where(index >= 0, events.place[index], -1))


def _vector_or_none(vector: Vector, index: Array) -> Vector:
    """The values at ``index``, null where it is -1."""
    absent = index < 0
    if len(vector.values) == 0:
        none = np.zeros(len(index), vector.values.dtype)
        return Vector(none, np.zeros(len(index), np.bool_), vector.dictionary)
    found = lists.take_vector(vector, index)
    return Vector(found.values, both(found.valid, ~absent), found.dictionary)
