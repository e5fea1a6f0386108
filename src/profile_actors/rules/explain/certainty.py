"""Conditions that are only ever true, or only ever false, whatever the data: for ``explain``.

Theory: one walk that knows three answers: always true, always false, not known. A conjunction is
false where its members leave no value to one of their operands: two different texts, an empty span
of numbers or times, an age both under and over a bound. A filter that lets nothing through is an
empty array, and what functions make of that is known. Equal sub-expressions of one scope have equal
values, so they are compared as trees.

Rules for editors: an answer must hold for every profile and instant; where in doubt, None. Whole
numbers from 2^53 on are left alone, since they compare exactly with some values and as doubles with
others.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from profile_actors.rules.explain.spans import Known, _Bounds, _number
from profile_actors.rules.tree.comparisons import MIRRORED
from profile_actors.rules.tree.nodes import (
    Call,
    Chain,
    Each,
    InSegment,
    Items,
    Let,
    Literal,
    Node,
    Occurs,
    Quantified,
)


def certain(node: Node, segments: Mapping[str, Node] | None = None) -> Known:
    """Whether a condition is always true or always false; None where that is not known.

    segments: trees of the segments that the rule may name. Cost: about linear in the trees.
    """
    return _Certainty(segments or {}).of(node)


class _Certainty:
    def __init__(self, segments: Mapping[str, Node]) -> None:
        self.segments = segments
        self.known: dict[str, Known] = {}

    def of(self, node: Node) -> Known:
        """The condition's value, if it has only one."""
        match node:
            case Literal(value=bool(value)):
                return value
            case Call():
                return self._call(node)
            case Occurs():
                return False if _Bounds().add(node) is False else None
            case Quantified(kind="exists" | "forall"):
                return self._quantified(node)
            case Let(body=body):
                return self.of(body)
            case Chain():
                return self._chain(node)
            case InSegment(name=name):
                return self._segment(name)
        return False if self.is_empty(node) else None

    def _segment(self, name: str) -> Known:
        if name not in self.known:
            self.known[name] = None  # a cycle, which the checker refuses, ends here
            tree = self.segments.get(name)
            self.known[name] = None if tree is None else self.of(tree)
        return self.known[name]

    def _call(self, node: Call) -> Known:
        function, args = node.function, node.args
        if function in ("and", "or"):
            return self._junction(function, args)
        if function == "not":
            inner = self.of(args[0])
            return None if inner is None else not inner
        if function == "if":
            chosen = self.of(args[0])
            if chosen is not None:
                return self.of(args[1 if chosen else 2])
            yes, no = self.of(args[1]), self.of(args[2])
            return yes if yes == no else None
        if function in ("isnull", "isnotnull") and (_is_count(args[0]) or self._sum(args[0])):
            return function == "isnotnull"
        if function in MIRRORED:
            return self._compared(function, *args)
        if function == "in" and isinstance(args[1], Items) and not args[1].items:
            return False
        if function in _OF_NOTHING and self.is_empty(args[0]):
            return False
        return False if self.is_empty(node) else None

    def _junction(self, function: str, args: tuple[Node, ...]) -> Known:
        """``and``, or ``or`` as the negation of the ``and`` of negations."""
        zero = function == "or"  # the value that decides alone
        found = [self.of(arg) for arg in args]
        if zero in found:
            return zero
        if all(value is not None for value in found):
            return not zero
        denied = {arg.args[0] for arg in args if isinstance(arg, Call) and arg.function == "not"}
        if denied & set(args):
            return zero
        return False if function == "and" and _contradicts(args) else None

    def _compared(self, function: str, a: Node, b: Node) -> Known:
        if isinstance(a, Literal) and not isinstance(b, Literal):
            a, b, function = b, a, MIRRORED[function]
        bound = _number(b)
        if self._sum(a):
            return None if bound is None else _holds(function, 0, bound)
        if self._is_null(a) or self._is_null(b):
            return False  # a comparison with null
        if not _is_count(a) or bound is None:
            return None
        if function in (">", ">=") and _holds(function, 0, bound):
            return True
        if function == "!=" and (bound < 0 or bound % 1):
            return True
        ruled_out = function in ("<", "<=", "=") and not _holds("<=", 0, bound)
        ruled_out = ruled_out or (function == "<" and bound <= 0)
        return False if ruled_out or (function == "=" and bound % 1) else None

    # Arrays.

    def is_empty(self, node: Node) -> bool:
        """Whether the node is an array that never holds anything."""
        match node:
            case Items(items=items):
                return not items
            case Each(function="filter"):
                conditions: list[Node] = []
                source: Node = node
                while isinstance(source, Each) and source.function == "filter":
                    if self.of(source.body) is False:
                        return True
                    if not source.variables:
                        conditions.append(source.body)  # all of one scope
                    source = source.source
                together = Call("and", tuple(conditions))
                return bool(conditions and self.of(together) is False) or self.is_empty(source)
            case Each(function="map" | "topn" | "bottomn", source=source):
                return self.is_empty(source)
            case Quantified(kind="select", ranges=(only,)):
                never = only.condition is not None and self.of(only.condition) is False
                return never or self.is_empty(only.source)
            case Call(function="distinct", args=(source,)):
                return self.is_empty(source)
        return False

    def _source(self, node: Node, functions: Iterable[str]) -> Node | None:
        """The array of an aggregate by one of the functions."""
        if isinstance(node, Call) and node.function in functions:
            return node.args[0]
        if isinstance(node, Each) and node.function in functions:
            return node.source
        return None

    def _sum(self, node: Node) -> bool:
        """Whether the node is the count or sum of nothing, which is 0."""
        source = self._source(node, ("count", "sum"))
        return source is not None and self.is_empty(source)

    def _is_null(self, node: Node) -> bool:
        """Whether the node is an aggregate of nothing that is null."""
        source = self._source(node, ("average", "min", "max", "head"))
        return source is not None and self.is_empty(source)

    def _quantified(self, node: Quantified) -> Known:
        is_forall = node.kind == "forall"
        if not is_forall:
            for item in node.ranges:
                never = item.condition is not None and self.of(item.condition) is False
                if never or self.is_empty(item.source):
                    return False
            return None
        if self.is_empty(node.ranges[0].source):
            return True
        claims = [r.condition is None or self.of(r.condition) is True for r in node.ranges]
        return True if all(claims) else None

    def _chain(self, node: Chain) -> Known:
        if self.is_empty(node.source):
            return False
        source, conditions = node.source, list[Node]()
        while isinstance(source, Each):
            if not source.variables:
                conditions.append(source.body)
            source = source.source
        for step in node.steps:
            # The filters of the source and the step read the same event.
            parts = [*conditions, step.what, *([] if step.when is None else [step.when])]
            if self.of(Call("and", tuple(parts))) is False:
                return False
        return None


_OF_NOTHING = {"includes", "intersects"}


def _is_count(node: Node) -> bool:
    """Whether the node is a whole number from 0 on, and never null."""
    if isinstance(node, Quantified):
        return node.kind == "count"
    return isinstance(node, Call) and node.function == "count"


def _holds(function: str, a: float, b: float) -> bool:
    return {
        "=": a == b,
        "!=": a != b,
        "<": a < b,
        "<=": a <= b,
        ">": a > b,
        ">=": a >= b,
    }[function]


def _contradicts(conditions: Iterable[Node]) -> bool:
    """Whether no value of some operand satisfies all of the conditions."""
    bounds = _Bounds()
    pending = list(conditions)
    while pending:
        condition = pending.pop()
        if isinstance(condition, Call) and condition.function == "and":
            pending.extend(condition.args)
        elif bounds.add(condition) is False:
            return True
    return False
