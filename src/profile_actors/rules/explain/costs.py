"""What keeping a planned expression up to date costs, as a class in words; and how joins find.

Theory: the classes say what the engine does per event, per touched profile, or per pair, in the
terms of ``engine/``: delay lines for windows, kept events in columns, frames over them. They are
told from the plan alone, before any data. ``Cost`` orders them, so a rule costs its worst part.

Limits: how a filter of a list further out is joined is told as ``joins`` decides it, but which
elements are left is not: that depends on the data.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import IntEnum

from profile_actors.rules.tree.clock_reads import varies
from profile_actors.rules.tree.free_names import reads
from profile_actors.rules.tree.kinds import kind_of
from profile_actors.rules.tree.nodes import (
    Calendar,
    Call,
    Each,
    Literal,
    Node,
    Now,
    Occurs,
    Variable,
)
from profile_actors.rules.tree.plan import (
    Aggregate,
    AggregateLeaf,
    AttributeLeaf,
    Kept,
    KeptField,
    Sequence,
    Stage,
)
from profile_actors.rules.tree.walks import conjuncts, parts


class Cost(IntEnum):
    """Cost classes, the cheapest first. n: events in a profile's window; k: kept events of a
    profile; a, b: elements of the two sides of a join."""

    CONSTANT = 0
    SCALAR = 1
    ELEMENT = 2
    RECORD = 3
    EVENT = 4
    WINDOW = 5
    EXTREME = 6
    KEPT = 7
    LINEAR = 8
    SORTED = 9
    JOIN = 10
    SEQUENCE = 11
    TRIED = 12
    PAIRS = 13
    RESCAN = 14

    @property
    def words(self) -> str:
        """The class in words, for people and for JSON."""
        return _WORDS[self]


_WORDS = {
    Cost.CONSTANT: "constant",
    Cost.SCALAR: "O(1) per touched profile",
    Cost.ELEMENT: "O(1) per element",
    Cost.RECORD: "O(1) per record row that sets it",
    Cost.EVENT: "O(1) per event",
    Cost.WINDOW: "O(log n) per event, into the window and out of it",
    Cost.EXTREME: "O(log n) per event; window contents re-read when the extreme leaves",
    Cost.KEPT: "O(1) amortised per event, O(kept events of the profile) for a late one",
    Cost.LINEAR: "O(kept events of the touched profile) per entry",
    Cost.SORTED: "O(k log k) per entry, k kept events of the touched profile",
    Cost.JOIN: "O(a log b) join, a and b the elements of either side",
    Cost.SEQUENCE: "O(p log k) per step, p partial choices, k kept events of the touched profile",
    Cost.TRIED: "O(a log b) join, then every pair that it leaves",
    Cost.PAIRS: "O(a b): every pair of the touched profile",
    Cost.RESCAN: "O(history) per touched profile",
}


@dataclass(frozen=True, slots=True)
class Ways:
    """How the conditions of a join find the elements of the inner list, each in one way.

    alone: asked of an element before; equal: by equal values; between: by a range of time; tried:
    of every pair that is left; moving: of those too, again when the clock reaches an instant.
    """

    alone: list[Node] = field(default_factory=list)
    equal: list[Node] = field(default_factory=list)
    between: list[Node] = field(default_factory=list)
    tried: list[Node] = field(default_factory=list)
    moving: list[Node] = field(default_factory=list)

    @property
    def cost(self) -> Cost:
        if not (self.equal or self.between):
            return Cost.PAIRS
        return Cost.TRIED if self.tried or self.moving else Cost.JOIN


def cost_of(node: Node) -> Cost:
    """What a planned node itself adds to the cost of its parts."""
    match node:
        case Literal() | Now() | Calendar() | Variable() | KeptField():
            return Cost.CONSTANT
        case AggregateLeaf(aggregate=aggregate):
            return _of_aggregate(aggregate)
        case AttributeLeaf():
            return Cost.RECORD
        case Kept(filter=events):
            return Cost.CONSTANT if events.types == frozenset() else Cost.KEPT
        case Sequence(stages=stages):
            return max(cost_of_stage(stages, place) for place in range(len(stages)))
        case Each(function="filter"):
            ways = ways_of_filter(node)
            return Cost.LINEAR if ways is None else ways.cost
        case Each(function="map" | "mapentries"):
            return Cost.LINEAR
        case Each() | Call(function="distinct"):
            return Cost.SORTED
        case Call(function="count" | "sum" | "min" | "max" | "head" | "keys" | "values" | "get"):
            return Cost.LINEAR
    return Cost.ELEMENT if reads(node) else Cost.SCALAR


def worst(root: Node) -> Cost:
    """The greatest cost among the node and all its parts."""
    found, pending = Cost.CONSTANT, [root]
    while pending:
        node = pending.pop()
        found = max(found, cost_of(node))
        pending.extend(parts(node))
    return found


def reads_clock(root: Node) -> bool:
    """Whether the value may change by the clock besides the windows of what it reads."""
    pending = [root]
    while pending:
        node = pending.pop()
        if isinstance(node, Now | Calendar):
            return True
        if isinstance(node, Call) and node.function.startswith("current"):
            return True
        pending.extend(parts(node))
    return False


def _of_aggregate(aggregate: Aggregate) -> Cost:
    if aggregate.filter.types == frozenset():
        return Cost.CONSTANT
    if not aggregate.filter.window:
        return Cost.EVENT
    return Cost.EXTREME if aggregate.function in ("min", "max") else Cost.WINDOW


# Joins, as ``joins.Join`` goes about them.


def ways_of_filter(node: Each) -> Ways | None:
    """How the filter of a list further out finds its elements; None where each row's own elements
    are asked, one by one."""
    name, home = node.variables[0], _depth(reads(node.source))
    claims = conjuncts(node.body)
    if all(_depth(reads(claim) - {name}) <= home for claim in claims):
        return None
    return _ways(claims, name, home, is_in_time(node.source))


def ways_of_stage(stage: Stage) -> Ways:
    """How a step of a sequence finds the events that may follow the steps before."""
    claims = [] if stage.condition is None else conjuncts(stage.condition)
    return _ways(claims, stage.name, _depth(reads(stage.source)), True)


def cost_of_stage(stages: tuple[Stage, ...], place: int) -> Cost:
    """What one step of a sequence costs. Later than the last event is a range of time, always."""
    return Cost.TRIED if ways_of_stage(stages[place]).tried else Cost.SEQUENCE


def choices_of_stage(stages: tuple[Stage, ...], place: int) -> list[str]:
    """The steps whose last events tell partial choices apart once this step is made: those that a
    later condition reads. Of the choices that agree in them only the earliest is kept."""
    later: set[int | str] = set()
    for stage in stages[place + 1 :]:
        if stage.condition is not None:
            later |= reads(stage.condition)
    return [stage.name for stage in stages[: place + 1] if stage.name in later]


def _ways(claims: list[Node], name: str, home: int, in_time: bool) -> Ways:
    ways = Ways()
    for claim in claims:
        if varies(claim):
            ways.moving.append(claim)
        elif _depth(reads(claim) - {name}) <= home:
            ways.alone.append(claim)
        elif _is_equality(claim, name, home):
            ways.equal.append(claim)
        elif in_time and _is_range(claim, name):
            ways.between.append(claim)
        else:
            ways.tried.append(claim)
    return ways


def _is_equality(claim: Node, name: str, home: int) -> bool:
    if not (isinstance(claim, Call) and claim.function == "="):
        return False
    x, y = claim.args
    if "decimal" in (kind_of(x)[0], kind_of(y)[0]):
        return False
    return any(
        name not in reads(mine) and _depth(reads(other) - {name}) <= home
        for mine, other in ((x, y), (y, x))
    )


def _is_range(claim: Node, name: str) -> bool:
    if isinstance(claim, Occurs):
        others = [claim.time] if claim.until is None else [claim.time, claim.until]
        return (
            claim.comparison != "!="
            and _is_timestamp(claim.subject, name)
            and not any(name in reads(other) for other in others)
        )
    if not (isinstance(claim, Call) and claim.function in ("=", "<", "<=", ">", ">=")):
        return False
    return any(
        _is_timestamp(mine, name) and name not in reads(other)
        for mine, other in (claim.args, reversed(claim.args))
    )


def is_in_time(source: Node) -> bool:
    """Whether the list's elements are events in order of time."""
    if isinstance(source, Each) and source.function == "filter":
        return is_in_time(source.source)
    return isinstance(source, Kept)


def _is_timestamp(node: Node, name: str) -> bool:
    return (
        isinstance(node, KeptField)
        and node.path == "timestamp"
        and reads(node) == frozenset([name])
    )


def _depth(names: Iterable[int | str]) -> int:
    """How far in the innermost of the plan's names is bound: they are e1, e2, … by depth."""
    return max((int(name[1:]) for name in names if isinstance(name, str)), default=0)
