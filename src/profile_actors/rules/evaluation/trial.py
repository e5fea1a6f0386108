"""The trial: a planned rule is evaluated over a few made-up rows before it is relied on.

Theory: what raises there would raise over real rows, and an operator that raises takes the answers
of its rules away for good. So such a rule is no plan, and the reference evaluator keeps it. Rows
and instants are constants: a plan stays a function of the catalogue, and a replay comes to the
same one. Everything that the engine will ask of a rule is asked: predicates, windows and values
over blocks of events, the rule itself over profiles at one instant and at several, with and without
kept events, and when it next changes.

Cost: some passes over the rule's nodes; parts that rules share are tried once.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np

from profile_actors.columnar.time_units import DAY_MS
from profile_actors.columnar.vectors import Array, Texts, Vector, null, truth, widen
from profile_actors.definitions.field_types import FieldType
from profile_actors.rules.evaluation.frames import Frame
from profile_actors.rules.evaluation.horizons import boundary_of
from profile_actors.rules.evaluation.planned_values import plain_values, value_in
from profile_actors.rules.evaluation.scalars import Leaf, scalar_vector
from profile_actors.rules.evaluation.windows import interval
from profile_actors.rules.tree.clock_reads import varies
from profile_actors.rules.tree.kinds import kind_of
from profile_actors.rules.tree.nodes import Node
from profile_actors.rules.tree.plan import AggregateLeaf, EventFilter, Kept, KeptField
from profile_actors.rules.tree.trends import is_kept_alone, trend
from profile_actors.rules.tree.walks import parts

NOW = 1_709_208_000_000  # 2024-02-29T12:00Z


_VALUES: dict[str, tuple[object, ...]] = {
    "string": ("", "a", "b", "Ab"),
    "double": (0.0, 1.5, -2.0, 1e300),
    "boolean": (True, False),
    "timestamp": (NOW, NOW - DAY_MS, NOW + 1, 0),
    "date": (NOW - NOW % DAY_MS, 0),
}


_NUMBERS = (0, 1, -3, 1 << 53)


_ADDRESS = re.compile(r"0x[0-9a-fA-F]+")


@dataclass(frozen=True, slots=True)
class Shape:
    """Made-up profiles. sizes: how many events each has. is_null: whether no field has a value."""

    sizes: tuple[int, ...]
    is_null: bool = False

    def vector(self, kind: FieldType, rows: int, texts: Texts | None = None) -> Vector:
        """Values of a type, a null among them if there are several."""
        if self.is_null:
            nothing = null(kind.kind)
            return widen(Vector(nothing.values, np.zeros(rows, np.bool_), nothing.dictionary), rows)
        values = _VALUES.get(kind.kind, _NUMBERS)
        index = np.arange(rows) % len(values)
        valid = None if rows < 2 else np.arange(rows) != 1
        if kind.kind != "string":
            return Vector(np.array(values)[index], valid)
        made = Vector(index.astype(np.int32), valid, tuple(map(str, values)))
        return made if texts is None else Vector(texts.codes(made), valid, texts)


SHAPES = (Shape((0,)), Shape((1,), is_null=True), Shape((0, 2, 1, 4)))


class _MadeUpEvents:
    """Kept events, as ``lists.KeptRows`` has them. kinds: types of their fields by path."""

    def __init__(
        self, events: EventFilter, shape: Shape, kinds: dict[str, FieldType], texts: Texts
    ) -> None:
        self._shape, self._kinds, self._texts = shape, kinds, texts
        self.owner = np.repeat(np.arange(len(shape.sizes)), shape.sizes)
        self.time: Array = NOW - DAY_MS * (len(self.owner) - np.arange(len(self.owner)))
        self.enter, self.leave = self.time, None
        if events.window:
            self.enter, self.leave = interval(events.window, self.time)
        self.max_enter = int(self.enter.max(initial=0))

    def column(self, path: str) -> Vector:
        return self._shape.vector(self._kinds[path], len(self.owner), self._texts)


class Trial:
    """The trials of one planner's rules."""

    def __init__(self) -> None:
        self._texts = Texts()
        self._kinds: dict[EventFilter, dict[str, FieldType]] = {}
        self._frames: dict[Shape, Frame] = {}
        self._borne: set[Node] = set()

    def failure(self, root: Node) -> str | None:
        """What a planned expression raises over the made-up rows, in words; None if it bears
        them."""
        if root in self._borne:
            return None
        try:
            self._run(root)
        except Exception:
            self._frames.clear()
            try:  # alone: a neighbour's failure is not this rule's
                self._run(root)
            except Exception as error:
                self._frames.clear()
                # Without what differs from one process to the next.
                return _ADDRESS.sub("0x", f"{type(error).__name__}: {error}")
        self._borne.add(root)
        return None

    def _run(self, root: Node) -> None:
        nodes = list(_nodes(root))
        for node in nodes:
            if isinstance(node, KeptField):
                self._kinds.setdefault(node.filter, {})[node.path] = _type_of(node)
            elif isinstance(node, AggregateLeaf):
                self._filter(node.aggregate.filter)
                if node.aggregate.value is not None:
                    self._events(node.aggregate.value)
            elif isinstance(node, Kept):
                self._filter(node.filter)
        if any(isinstance(node, Kept) for node in nodes):
            is_kept_alone(root)
            trend(root)
        for shape in SHAPES:
            rows = len(shape.sizes)
            if shape not in self._frames:
                self._frames[shape] = Frame(self._leaf(shape), np.asarray(NOW), rows)
            _read(root, self._frames[shape])
            if varies(root) and rows > 1:
                _read(root, Frame(self._leaf(shape), NOW + DAY_MS * np.arange(rows), rows))

    def _filter(self, events: EventFilter) -> None:
        if events.predicate is not None:
            self._events(events.predicate)
        if events.window:
            interval(events.window, np.full(2, NOW))

    def _events(self, node: Node) -> None:
        """A predicate or a value over blocks of events."""
        if node in self._borne:
            return
        for shape in SHAPES:
            rows = sum(shape.sizes)
            of_block: Leaf = partial(_field, shape, rows)
            found = scalar_vector(node, of_block, rows, 0)
            if found.values.shape != (rows,):
                raise TypeError(f"expected {rows} values, got shape {found.values.shape}")
        self._borne.add(node)

    def _leaf(self, shape: Shape) -> Callable[[Node], Vector | _MadeUpEvents]:
        """What the leaves of a rule stand for over these profiles."""

        def leaf(node: Node) -> Vector | _MadeUpEvents:
            if isinstance(node, Kept):
                kinds = self._kinds.setdefault(node.filter, {})
                return _MadeUpEvents(node.filter, shape, kinds, self._texts)
            return shape.vector(_type_of(node), len(shape.sizes))

        return leaf


def _field(shape: Shape, rows: int, node: Node) -> Vector:
    return shape.vector(_type_of(node), rows)


def _type_of(node: Node) -> FieldType:
    kind, scale = kind_of(node)
    return FieldType(kind or "integer", None, scale)


def _read(root: Node, frame: Frame) -> None:
    found = value_in(frame, root)
    plain_values(found, root.type)
    if found.values.shape != (frame.rows,):
        raise TypeError(f"expected {frame.rows} values, got shape {found.values.shape}")
    if found.values.dtype != object:
        truth(found)
    if varies(root):
        boundary_of(root, frame)


def _nodes(root: Node) -> list[Node]:
    found, pending = dict[int, Node](), [root]
    while pending:
        node = pending.pop()
        if id(node) not in found:
            found[id(node)] = node
            pending.extend(parts(node))
    return list(found.values())
