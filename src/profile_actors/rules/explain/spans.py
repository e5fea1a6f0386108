"""Spans of values: what a comparison with constants leaves possible."""

from __future__ import annotations

from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

from profile_actors.columnar.time_units import EXACT_MS
from profile_actors.rules.tree.comparisons import MIRRORED
from profile_actors.rules.tree.nodes import Call, Items, Literal, Node, Now, Occurs

Known = bool | None


def _number(node: Node) -> float | None:
    """The value of a number literal, negated or not, that compares the same in every way."""
    if isinstance(node, Call) and node.function == "neg":
        inner = _number(node.args[0])
        return None if inner is None else -inner
    if not isinstance(node, Literal) or isinstance(node.value, bool | str | Decimal):
        return None
    if node.kind in ("integer", "double") and abs(node.value) < 2**53:
        return float(node.value)
    return None


@dataclass
class _Span:
    """What is left of an operand: from low to high (with the bounds or without), and of a set."""

    low: float = float("-inf")
    high: float = float("inf")
    open_low: bool = False
    open_high: bool = False
    values: frozenset[Any] | None = None
    without: set[Any] = field(default_factory=set)
    null: Known = None

    def is_empty(self) -> bool:
        if self.low > self.high or (self.low == self.high and (self.open_low or self.open_high)):
            return True
        return self.values is not None and not self.values - self.without

    def at_least(self, bound: float, is_open: bool) -> None:
        if (bound, is_open) > (self.low, self.open_low):
            self.low, self.open_low = bound, is_open

    def at_most(self, bound: float, is_open: bool) -> None:
        if (-bound, is_open) > (-self.high, self.open_high):
            self.high, self.open_high = bound, is_open


class _Bounds:
    """Spans per operand. Keys: ('value' | 'time' | 'age', operand)."""

    def __init__(self) -> None:
        self.spans: dict[tuple[str, Node], _Span] = {}

    def add(self, condition: Node) -> Known:
        """Take one more condition into account; False if it cannot hold beside the others."""
        if isinstance(condition, Occurs):
            return self._occurs(condition)
        if not isinstance(condition, Call) or not condition.args:
            return None
        function, args = condition.function, condition.args
        if function in ("isnull", "isnotnull"):
            return self._null(args[0], function == "isnull")
        if function in ("equals", "notequalto") and len(args) == 2:
            function = "=" if function == "equals" else "!="
        if function in ("in", "notin") and isinstance(args[1], Items):
            texts = [_constant(item) for item in args[1].items]
            if None not in texts:
                return self._among(args[0], function == "in", frozenset(texts))
            return self._null(args[0], False)
        if function not in MIRRORED:
            return None
        a, b = args
        if isinstance(a, Literal):
            a, b, function = b, a, MIRRORED[function]
        if self._null(a, False) is False or self._null(b, False) is False:
            return False
        constant = _constant(b)
        if constant is not None and function in ("=", "!="):
            return self._among(a, function == "=", frozenset((constant,)))
        bound = _number(b)
        return None if bound is None else self._narrow(("value", a), function, bound)

    def _span(self, key: tuple[str, Node]) -> _Span:
        return self.spans.setdefault(key, _Span())

    def _null(self, operand: Node, is_null: bool) -> Known:
        span = self._span(("null", operand))
        if span.null is not None and span.null != is_null:
            return False
        span.null = is_null
        return None

    def _among(self, operand: Node, inside: bool, values: frozenset[Any]) -> Known:
        span = self._span(("set", operand))
        if inside:
            span.values = values if span.values is None else span.values & values
        else:
            span.without |= values
        if span.is_empty() or self._null(operand, False) is False:
            return False
        numbers = [value for kind, value in values if kind == "number"]
        if inside and numbers and len(numbers) == len(values):
            self._span(("value", operand)).at_least(min(numbers), False)
            self._span(("value", operand)).at_most(max(numbers), False)
            return False if self._span(("value", operand)).is_empty() else None
        return None

    def _narrow(self, key: tuple[str, Node], function: str, bound: float) -> Known:
        span = self._span(key)
        if function in (">", ">=", "="):
            span.at_least(bound, function == ">")
        if function in ("<", "<=", "="):
            span.at_most(bound, function == "<")
        return False if span.is_empty() else None

    def _occurs(self, node: Occurs) -> Known:
        """Spans of the time itself against literals, of its age against now."""
        if self._null(node.subject, False) is False:
            return False
        time, until = _instant(node.time), None if node.until is None else _instant(node.until)
        at = ("time", node.subject)
        if node.form == "between":
            low = None if time is None else self._narrow(at, ">=", time)
            high = None if until is None else self._narrow(at, "<=", until)
            return False if low is False or high is False else None
        if node.form in ("before", "after") and time is not None:
            return self._narrow(at, "<" if node.form == "before" else ">", time)
        if node.form != "distance" or node.unit not in EXACT_MS or node.comparison in ("=", "!="):
            return None
        if node.time not in (Now("now"), Now("today")):
            return None
        if node.direction != "before":
            return None
        age = ("age " + node.time.kind if isinstance(node.time, Now) else "", node.subject)
        if node.comparison in ("<", "<="):
            self._narrow(age, ">=", 0)
        return self._narrow(age, node.comparison, node.amount * EXACT_MS[node.unit])


def _constant(node: Node) -> tuple[str, Any] | None:
    """A comparable constant: its kind and value; None if it is none, or compares inexactly."""
    number = _number(node)
    if number is not None:
        return "number", number
    if isinstance(node, Literal) and node.kind in ("string", "boolean"):
        return node.kind, node.value
    return None


def _instant(node: Node) -> float | None:
    if isinstance(node, Literal) and node.kind in ("date", "timestamp"):
        return float(node.value) if isinstance(node.value, int) else None
    return None
