"""What names and levels stand for while arrays are planned, and small forms of planned nodes."""

from __future__ import annotations

from dataclasses import dataclass

from profile_actors.definitions import FieldType
from profile_actors.rules.filters import BOOLEAN
from profile_actors.rules.plan import EventFilter
from profile_actors.rules.streams import NotIncremental
from profile_actors.rules.tree import Call, Element, Field, Items, Literal, Node, Root, Variable

INTEGER = FieldType("integer")
ZERO = Literal(0, "integer", type=INTEGER)


@dataclass(frozen=True, slots=True)
class Planned:
    """A planned list (or event, or map of lists). of: the filter of the events in it, None: they
    are none. item: the type of a list's elements. conditions: those of all that is kept, while
    nothing else was asked of the elements."""

    node: Node
    of: EventFilter | None
    item: FieldType | None
    conditions: tuple[Node, ...] | None = None


@dataclass(frozen=True, slots=True)
class Scope:
    """What names (levels: None) around an expression are, innermost last: (name in the rule, name
    in the plan, of as in Planned).

    In the plan every binding has a name of its own, by its depth: so an expression means the same
    wherever it is evaluated, and rules that differ in names only are equal.
    """

    entries: tuple[tuple[str | None, str, EventFilter | None], ...] = ()

    def bind(self, name: str | None, of: EventFilter | None) -> Scope:
        return Scope((*self.entries, (name, f"e{len(self.entries) + 1}", of)))

    def inside(self, variables: tuple[str, ...], of: EventFilter | None) -> Scope:
        return self.bind(variables[0] if variables else None, of)

    @property
    def last(self) -> str:
        """The plan's name of the innermost binding."""
        return self.entries[-1][1]

    def bound(self, node: Variable | Element) -> tuple[Variable, EventFilter | None]:
        """The plan's variable for a name or level, and the events it stands for."""
        up = node.up if isinstance(node, Element) else 0
        for name, renamed, of in reversed(self.entries):
            if isinstance(node, Variable) and name == node.name:
                return Variable(renamed, at=node.at, type=node.type), of
            if isinstance(node, Element) and name is None:
                if up == 0:
                    return Variable(renamed, at=node.at, type=node.type), of
                up -= 1
        raise NotIncremental(node, "the profile as a value")


TOP = Scope()


def kind_word(node: Node) -> str:
    return "" if node.type is None else node.type.kind


def origin(node: Node) -> str:
    """What a list, map or object is that no kept event gives, in words."""
    kind = kind_word(node) or "list"
    if isinstance(node, Items):
        return "a list literal as a list"
    if isinstance(node, Root):
        return "the whole profile"
    if not isinstance(node, Field):
        return f"a computed value of type {kind}"
    base: Node = node
    while isinstance(base, Field):
        base = base.base
    return f"a field of type {kind} of {'the profile' if isinstance(base, Root) else 'an event'}"


def path_of(node: Field) -> tuple[Node, str]:
    """What a chain of fields begins at, and its dotted path."""
    names = [node.name]
    base = node.base
    while isinstance(base, Field) and kind_word(base) == "object":
        names.append(base.name)
        base = base.base
    return base, ".".join(reversed(names))


def call_of(function: str, arg: Node, kind: FieldType, at: Node) -> Call:
    return Call(function, (arg,), at=at.at, type=kind)


def some(many: Node, at: Node) -> Call:
    """Whether a list has an element."""
    count = call_of("count", many, INTEGER, at)
    return Call(">", (count, ZERO), at=at.at, type=BOOLEAN)
