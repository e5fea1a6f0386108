"""Vectorised evaluation of a typed tree: one value per row, one NumPy pass per node.

Theory: the third evaluator of DESIGN section 5 has no semantics of its own. String tests are the
reference functions applied to distinct texts, calendar arithmetic is ``instants`` (tested against
the scalar one), and every null rule sits in ``kernels``. Nodes are evaluated once per call: the
memo is by node identity, and the planner makes equal nodes one object.

Limits: scalars only. Arrays, maps, quantifiers and nested events are the planner's to replace by
leaves, or to refuse; meeting one here is a defect and raises TypeError.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from decimal import Decimal
from typing import Any

import numpy as np

from profile_actors.columnar import kernels
from profile_actors.columnar.instants import in_years, month_number, month_start
from profile_actors.columnar.time_units import DAY_MS
from profile_actors.columnar.vectors import Array, Vector, both, constant, truth, widen
from profile_actors.rules.evaluation.text_kernels import regex_group, text_test
from profile_actors.rules.evaluation.windows import halves, holds, instant, known, stands_for_day
from profile_actors.rules.semantics.string_tests import TEXT_TESTS
from profile_actors.rules.tree.kinds import _exact_pair, kind_of, path
from profile_actors.rules.tree.nodes import Call, Items, Literal, Node, Now, Occurs
from profile_actors.rules.tree.plan import AggregateLeaf, AttributeLeaf

Leaf = Callable[[Node], Any]
"""What leaves stand for: a Vector, one value per row; for kept events ``lists.KeptRows``."""


MANY_ITEMS = 16


def scalar_vector(node: Node, leaf: Leaf, rows: int, now: int | Array) -> Vector:
    """The node's value in every row.

    leaf: gives the vector (one value per row) of ``Field(Element(0), name)`` chains, AggregateLeaf
    and AttributeLeaf nodes; asked once per distinct object. rows: length of every vector. now: ms,
    one for all rows or int64 per row. Cost: a few ns per row and node; a string test one Python
    call per distinct text besides. Raises TypeError for a node that is no scalar expression.
    """
    values, valid, dictionary = Evaluation(leaf, np.asarray(now, np.int64)).value(node)
    if values.dtype == object:
        values, valid, _ = kernels.fit(values, valid)
    return widen(Vector(values, valid, dictionary), rows)


class Evaluation:
    """One evaluation over one set of rows: the leaves, the clock, and what is known already."""

    def __init__(self, leaf: Leaf, now: Array) -> None:
        self.leaf = leaf
        self.now = now
        self.memo: dict[int, tuple[Node, Vector]] = {}

    def value(self, node: Node) -> Vector:
        """The node's vector; shape () when it is the same in every row."""
        if isinstance(node, Literal):
            return _literal(node)
        found = self.memo.get(id(node))
        if found is None:
            found = (node, self._compute(node))
            self.memo[id(node)] = found
        return found[1]

    def _compute(self, node: Node) -> Vector:
        if isinstance(node, Call):
            return self._call(node)
        if isinstance(node, AggregateLeaf | AttributeLeaf) or path(node) is not None:
            found: Vector = self.leaf(node)
            return found
        if isinstance(node, Occurs):
            return self._occurs(node)
        if isinstance(node, Now):
            return Vector(instant(node, self.fixed).at(self.now)[0])
        raise TypeError(f"expected a scalar expression over leaves, got {type(node).__name__}")

    def fixed(self, node: Node) -> tuple[Array, Array | None]:
        """A TIME that is an ordinary expression, as (values, valid)."""
        vector = self.value(node)
        return vector.values, vector.valid

    def _occurs(self, node: Occurs) -> Vector:
        subject = self.value(node.subject)
        parts = halves(node, self.fixed, stands_for_day(node.time))
        values = holds(parts, subject.values, self.now)
        if node.comparison == "!=":
            values = ~values & known(parts, self.now)
        valid = subject.valid
        return Vector(values if valid is None else values & valid)

    def _call(self, node: Call) -> Vector:
        function, args = node.function, node.args
        if function in kernels.COMPARISONS:
            return kernels.compare(function, *self._pair(args[0], args[1]))
        if function in ("and", "or", "not"):
            return self._boolean(function, args)
        if function in ("+", "-", "*", "/", "%"):
            return self._arithmetic(function, args[0], args[1])
        if function in ("in", "notin"):
            return self._membership(function, args[0], args[1])
        if function in TEXT_TESTS:
            return text_test(function, self.value(args[0]), [self.value(a) for a in args[1:]])
        if function == "regexgroup":
            return regex_group(*(self.value(a) for a in args))
        if function in ("isnull", "isnotnull"):
            valid = self.value(args[0]).valid
            shape = self.value(args[0]).values.shape
            known_rows = np.ones(shape, np.bool_) if valid is None else valid
            return Vector(~known_rows if function == "isnull" else known_rows)
        if function == "if":
            return self._choice(node)
        if function == "neg":
            return kernels.negate(self.value(args[0]))
        if function.startswith(("get", "current")) and function in _DATE_PARTS:
            times = self.value(args[0]) if args else Vector(self.now)
            return _date_part(_DATE_PARTS[function], times)
        raise TypeError(f"expected a function of scalars, got {function!r}")

    def _boolean(self, function: str, args: tuple[Node, ...]) -> Vector:
        result = truth(self.value(args[0]))
        if function == "not":
            return Vector(~result)
        for arg in args[1:]:
            if function == "and":
                if not result.any():
                    break
                result = result & truth(self.value(arg))
            else:
                result = result | truth(self.value(arg))
        return Vector(result)

    def _pair(self, x: Node, y: Node) -> tuple[Vector, Vector]:
        """Both values; decimals brought to one scale, or both doubles if one is a double."""
        x, y = _exact_pair(x, y)
        (kind_x, scale_x), (kind_y, scale_y) = kind_of(x), kind_of(y)
        a, b = self.value(x), self.value(y)
        if "decimal" not in (kind_x, kind_y):
            return a, b
        if np.float64 in (a.values.dtype, b.values.dtype):
            return _doubles(a, scale_x), _doubles(b, scale_y)
        scale = max(scale_x, scale_y)
        return (
            Vector(kernels.rescale(a.values, scale - scale_x), a.valid),
            Vector(kernels.rescale(b.values, scale - scale_y), b.valid),
        )

    def _arithmetic(self, operator: str, x: Node, y: Node) -> Vector:
        x, y = _exact_pair(x, y)
        (kind_x, scale_x), (kind_y, scale_y) = kind_of(x), kind_of(y)
        if "decimal" not in (kind_x, kind_y):
            return kernels.arithmetic(operator, self.value(x), self.value(y))
        if operator == "/" or "double" in (kind_x, kind_y):
            a, b = _doubles(self.value(x), scale_x), _doubles(self.value(y), scale_y)
            return kernels.arithmetic(operator, a, b)
        if operator == "*":
            return kernels.exact(operator, self.value(x), self.value(y))
        return kernels.exact(operator, *self._pair(x, y))

    def _membership(self, function: str, x: Node, items: Node) -> Vector:
        if not isinstance(items, Items):
            raise TypeError(f"expected a list of values after {function}, got {type(items)}")
        value = self.value(x)
        literals = [item.value for item in items.items if isinstance(item, Literal)]
        found: Array = np.zeros((), np.bool_)
        if value.dictionary is not None and len(literals) == len(items.items):
            found = kernels.member(value, [text for text in literals if isinstance(text, str)])
        elif len(literals) == len(items.items) > MANY_ITEMS and kind_of(x)[0] == "integer":
            found = _numbers_in(value.values, literals)
        else:
            for item in items.items:
                found = found | kernels.compare("=", *self._pair(x, item)).values
        if function == "notin":
            found = ~found
        return Vector(found if value.valid is None else found & value.valid)

    def _choice(self, node: Call) -> Vector:
        condition = truth(self.value(node.args[0]))
        return kernels.choose(condition, *self._pair(node.args[1], node.args[2]))


def _literal(node: Literal) -> Vector:
    if isinstance(node.value, Decimal):
        unscaled = int(node.value.scaleb(kind_of(node)[1]))
        dtype = np.int64 if abs(unscaled) <= kernels.INT64_MAX else object
        return Vector(np.asarray(unscaled, dtype))
    if node.kind == "double":
        return constant(float(node.value))
    return constant(node.value)


def _doubles(vector: Vector, scale: int) -> Vector:
    if vector.values.dtype == np.float64:
        return vector
    return Vector(kernels.to_double(vector.values, scale), vector.valid)


def _numbers_in(values: Array, literals: Sequence[object]) -> Array:
    exact = [int(n) for n in literals if isinstance(n, int)]
    mixed = [n for n in literals if isinstance(n, float)]
    found = np.isin(values, np.array(exact, np.int64))
    if mixed:
        found = found | np.isin(values.astype(np.float64), np.array(mixed, np.float64))
    return found


def _year(times: Array) -> Array:
    return month_number(times) // 12 + 1970


def _month(times: Array) -> Array:
    return month_number(times) % 12 + 1


def _day_of_month(times: Array) -> Array:
    return (times - month_start(month_number(times))) // DAY_MS + 1


_DATE_PARTS: dict[str, Callable[[Array], Array]] = {
    "getyear": _year,
    "currentyear": _year,
    "getmonth": _month,
    "currentmonth": _month,
    "getdayofmonth": _day_of_month,
    "currentdayofmonth": _day_of_month,
}


def _date_part(part: Callable[[Array], Array], times: Vector) -> Vector:
    good = in_years(times.values)
    if good.all():
        return Vector(np.asarray(part(times.values)), times.valid)
    safe = np.where(good, times.values, np.int64(0))
    return Vector(np.asarray(part(safe)), both(times.valid, good))
