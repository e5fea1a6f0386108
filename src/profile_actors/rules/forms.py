"""Forms of planned lists: their folds, their set functions, and conditions on one event alone."""

from __future__ import annotations

from profile_actors.definitions import FieldType
from profile_actors.rules.bindings import INTEGER, Planned, Scope, call_of, some
from profile_actors.rules.filters import BOOLEAN, event_filter
from profile_actors.rules.reading import reads
from profile_actors.rules.streams import NotIncremental, Stream, StreamReader
from profile_actors.rules.tree import Call, Each, Items, Literal, Node, Variable

DOUBLE = FieldType("double")
NUMBERS = ("integer", "double", "decimal")
TRUE = Literal(True, "boolean", type=BOOLEAN)


def includes(many: Planned, value: Node, at: Node, scope: Scope) -> Node:
    """Whether an element equals the planned value, which stands in this scope."""
    inner = scope.bind(None, None)
    equal = Call("=", (Variable(inner.last, type=many.item), value), type=BOOLEAN)
    found = Each("filter", many.node, equal, (inner.last,), type=many.node.type)
    return some(found, at)


def member(many: Planned | Node, value: Node, node: Call, scope: Scope) -> Node:
    """``in``, ``notIn`` or ``includes``. many: a planned list, or the planned literal of one."""
    if isinstance(many, Node):
        function = "in" if node.function == "includes" else node.function
        return Call(function, (value, many), at=node.at, type=BOOLEAN)
    found = includes(many, value, node, scope)
    return excluded(found, value, node) if node.function == "notin" else found


def excluded(found: Node, value: Node, at: Node) -> Node:
    """``value notIn …`` given ``value in …``: false for a null, too."""
    known = Call("isnotnull", (value,), at=at.at, type=BOOLEAN)
    return Call("and", (known, call_of("not", found, BOOLEAN, at)), at=at.at, type=BOOLEAN)


def elements_in(
    many: Planned, others: Planned | Items, inside: bool, at: Node, scope: Scope
) -> Planned:
    """The elements that are (or are not) among the others."""
    inner = scope.bind(None, None)
    item = Variable(inner.last, type=many.item)
    if isinstance(others, Items):
        hit: Node = Call("in", (item, others), at=at.at, type=BOOLEAN)
    else:
        hit = includes(others, item, at, inner)
    condition = hit if inside else call_of("not", hit, BOOLEAN, at)
    found = Each("filter", many.node, condition, (inner.last,), at=at.at, type=many.node.type)
    return Planned(found, None, many.item)


def folded(function: str, many: Planned, node: Node) -> Node:
    """count, sum, average, min or max of a list. Raises NotIncremental."""
    if function == "count":
        return call_of("count", many.node, INTEGER, node)
    item = many.item
    if many.of is not None or item is None:
        raise NotIncremental(node, f"{function}() of whole events")
    if function in ("min", "max"):
        if item.kind not in (*NUMBERS, "string", "timestamp", "date"):
            raise NotIncremental(node, f"{function}() of type {item.kind}")
        return call_of(function, many.node, item, node)
    if item.kind not in NUMBERS:
        raise NotIncremental(node, f"{function}() of type {item.kind}")
    total = call_of("sum", many.node, item, node)
    if function == "sum":
        return total
    count = call_of("count", many.node, INTEGER, node)
    return Call("/", (total, count), at=node.at, type=DOUBLE)


def of_one_event(
    reader: StreamReader, part: Node, variables: tuple[str, ...], others: tuple[Node, ...]
) -> Node | None:
    """The condition as one on ``Element(0)``, if it reads one event and at most a window."""
    if reads(part) - {variables[0] if variables else 0}:
        return None
    try:
        condition = reader.condition(part, variables, Stream())
        event_filter((*others, condition))
    except NotIncremental:
        return None
    return condition
