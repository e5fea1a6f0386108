"""What rules compare with constants: measures, and the thresholds that their comparisons set.

Theory: a comparison of a value with a constant depends only on which of a few *breaks* the value
has reached. So a rule that is made of such comparisons is a function of levels: of how many breaks
of each *measure* (a value that its leaves alone decide, or its age) are at or below it. Equal
measures of all rules are one, and its levels are kept once (``gauges.Ladder``).

A text t is like a number: the smallest text greater than t is t with a zero character behind.

Limits: an age is now minus a time, against exact units: ``X occurs >= N days before now``. What
compares two values that both vary, and every other test, is no threshold: such a rule stays a tree.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from profile_actors.columnar.time_units import EXACT_MS
from profile_actors.rules.tree.comparisons import COMPARISONS, MIRRORED
from profile_actors.rules.tree.kinds import kind_of
from profile_actors.rules.tree.nodes import Call, Items, Literal, Node, Now, Occurs
from profile_actors.rules.tree.plan import AggregateLeaf, AttributeLeaf

Point = int | float | str


_EXACT_INT = 1 << 53


_ARITHMETIC = ("+", "-", "*", "/", "%", "neg")


_TIMES = ("timestamp", "date")


_LEAST, _MOST = int(np.iinfo(np.int64).min), int(np.iinfo(np.int64).max)


_LONGEST_AGE = 10_000 * 366 * EXACT_MS["day"]


@dataclass(frozen=True, slots=True)
class Measure:
    """node: an aggregate, an attribute, or arithmetic over such. is_age: now minus it, in ms."""

    node: Node
    is_age: bool = False

    @property
    def kind(self) -> str:
        """integer, double, string, timestamp or date; an age is an integer."""
        return "integer" if self.is_age else kind_of(self.node)[0] or ""


@dataclass(frozen=True, slots=True)
class Threshold:
    """A comparison of a measure. breaks: ascending; truth[i]: its value when ``i`` breaks are at or
    below the measure; null: where there is no value."""

    measure: Measure
    breaks: tuple[Point, ...]
    truth: tuple[bool, ...]
    null: bool = False


@dataclass(frozen=True, slots=True)
class Junction:
    """``and``, ``or`` or ``not`` of conditions; without any parts, true or false."""

    function: str
    parts: tuple[Condition, ...]


Condition = Threshold | Junction


def condition_of(node: Node) -> Condition | None:
    """A boolean planned tree as thresholds, or None if it is more than that. Null reads as false.

    Cost: one pass over the tree.
    """
    if isinstance(node, Literal) and node.kind == "boolean":
        return Junction("and" if node.value else "or", ())
    if isinstance(node, Occurs):
        return _age(node)
    if not isinstance(node, Call):
        return None
    if node.function in ("and", "or", "not"):
        known = tuple(c for arg in node.args if (c := condition_of(arg)) is not None)
        return Junction(node.function, known) if len(known) == len(node.args) else None
    if node.function in COMPARISONS and len(node.args) == 2:
        return _comparison(node.function, *node.args)
    if node.function in ("in", "notin"):
        return _membership(node.function, *node.args)
    if node.function in ("isnull", "isnotnull") and (found := _measure(node.args[0])) is not None:
        is_null = node.function == "isnull"
        return Threshold(found, (), (not is_null,), is_null)
    return None


def thresholds_of(condition: Condition) -> Iterator[Threshold]:
    """The thresholds of a condition, in order."""
    if isinstance(condition, Threshold):
        yield condition
    else:
        for part in condition.parts:
            yield from thresholds_of(part)


def _measure(node: Node) -> Measure | None:
    """The node as something with levels. Decimals and booleans have none."""
    kind = kind_of(node)[0]
    if isinstance(node, AggregateLeaf | AttributeLeaf):
        is_known = kind in ("integer", "double", "string", *_TIMES)
        return Measure(node) if is_known else None
    return Measure(node) if kind in ("integer", "double") and _is_arithmetic(node) else None


def _is_arithmetic(node: Node) -> bool:
    if isinstance(node, Call):
        return node.function in _ARITHMETIC and all(map(_is_arithmetic, node.args))
    if isinstance(node, AggregateLeaf | AttributeLeaf | Literal):
        return kind_of(node)[0] in ("integer", "double")
    return False


def _comparison(operator: str, left: Node, right: Node) -> Threshold | None:
    if isinstance(left, Literal):
        left, right, operator = right, left, MIRRORED[operator]
    found = _measure(left)
    if found is None or not isinstance(right, Literal):
        return None
    constant = _constant(found.kind, right)
    return None if constant is None else _threshold(operator, found, constant)


def _threshold(operator: str, measure: Measure, constant: Point) -> Threshold:
    at, above = _steps(constant, measure.kind == "double")
    shapes: dict[str, tuple[tuple[Point, ...], tuple[bool, ...]]] = {
        ">=": ((at,), (False, True)),
        ">": ((above,), (False, True)),
        "<": ((at,), (True, False)),
        "<=": ((above,), (True, False)),
        "=": ((at, above), (False, True, False)),
        "!=": ((at, above), (True, False, True)),
    }
    if at == above:  # a constant that no value equals
        shapes |= {"=": ((), (False,)), "!=": ((), (True,))}
    breaks, truth = shapes[operator]
    passed = sum(1 for b in breaks if isinstance(b, int) and b <= _LEAST)
    ahead = sum(1 for b in breaks if isinstance(b, int) and b > _MOST)
    return Threshold(
        measure, breaks[passed : len(breaks) - ahead], truth[passed : len(truth) - ahead]
    )


def _membership(function: str, value: Node, items: Node) -> Condition | None:
    if not isinstance(items, Items):
        return None
    found = _measure(value)
    known = tuple(c for i in items.items if (c := _comparison("=", value, i)) is not None)
    if found is None or len(known) < len(items.items):
        return None
    if function == "in":
        return Junction("or", known)
    return Junction(
        "and", (Threshold(found, (), (True,)), Junction("not", (Junction("or", known),)))
    )


def _age(node: Occurs) -> Threshold | None:
    if (
        (node.form, node.direction, node.time) != ("distance", "before", Now("now"))
        or node.comparison not in (">=", ">")
        or node.unit not in EXACT_MS
        or not isinstance(node.subject, AggregateLeaf | AttributeLeaf)
        or kind_of(node.subject)[0] not in _TIMES
    ):
        return None
    least = node.amount * EXACT_MS[node.unit] + (node.comparison == ">")
    if not 0 <= least <= _LONGEST_AGE:
        return None
    return Threshold(Measure(node.subject, is_age=True), (least,), (False, True))


def _constant(kind: str, literal: Literal) -> Point | None:
    value = literal.value
    if kind == "string":
        return value if isinstance(value, str) and literal.kind == "string" else None
    if kind in _TIMES:
        return value if literal.kind in _TIMES and isinstance(value, int) else None
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    if literal.kind not in ("integer", "double"):
        return None
    if kind == "double":
        return float(value) if abs(value) <= _EXACT_INT or literal.kind == "double" else None
    if literal.kind == "integer":
        return value
    # An integer compares with a double as a double: the same as integers while both are exact.
    return value if math.isfinite(value) and abs(value) < _EXACT_INT else None


def _steps(constant: Point, is_double: bool) -> tuple[Point, Point]:
    """(smallest value >= constant, smallest value > constant) among the measure's values."""
    if isinstance(constant, str):
        return constant, constant + "\0"
    if is_double:
        return constant, math.nextafter(constant, math.inf)
    if isinstance(constant, float):
        return math.ceil(constant), math.floor(constant) + 1
    return constant, constant + 1
