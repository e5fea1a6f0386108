"""The rule tree: what the parser makes, the checker types, and both evaluators read.

Theory: one small closed set of frozen nodes. Equality and hash ignore source positions and types,
so equal sub-expressions are one key (that is how the planner shares them). The parser produces
nodes with ``type=None``; the checker returns a new tree with every ``type`` filled in.

Element levels: ``Element(0)`` is the current element, ``Element(1)`` what ``^`` reads. ``Root`` is
the profile. A bare name ``a`` becomes ``Field(Element(0), "a")`` or ``Variable("a")`` at parse
time; when the current element is the profile itself it becomes ``Field(Root(), "a")``. ``^``
chains that reach the profile also become ``Root()``; ``xEvent`` is ``Events()``, ``computed.x`` is
``Computed("x")`` and ``inSegment("s")`` is ``InSegment("s")`` at any depth.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from decimal import Decimal

from profile_actors.definitions.field_types import FieldType


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """A rule expression. at: offset of its first character in the rule text."""

    at: int = field(default=0, compare=False)
    type: FieldType | None = field(default=None, compare=False)


@dataclass(frozen=True, slots=True)
class Literal(Node):
    """A constant. kind: string, integer, double, boolean, timestamp, date, decimal (value: ms UTC
    for the two times). The kind takes part in equality: 1, 1.0 and true are three literals."""

    value: str | bool | int | float | Decimal
    kind: str


@dataclass(frozen=True, slots=True)
class Items(Node):
    """An array literal."""

    items: tuple[Node, ...]


@dataclass(frozen=True, slots=True)
class Root(Node):
    """The profile."""


@dataclass(frozen=True, slots=True)
class Events(Node):
    """``xEvent``: the profile's events in order, none later than now."""


@dataclass(frozen=True, slots=True)
class Element(Node):
    """The current element ``up`` levels out (0 = innermost)."""

    up: int


@dataclass(frozen=True, slots=True)
class Variable(Node):
    """A name bound by let, a quantifier, select, a lambda or a CHAIN step."""

    name: str


@dataclass(frozen=True, slots=True)
class Field(Node):
    """``base.name``. Over an array: the flattened array of that child; over a map: get."""

    base: Node
    name: str


@dataclass(frozen=True, slots=True)
class Computed(Node):
    """``computed.name``."""

    name: str


@dataclass(frozen=True, slots=True)
class InSegment(Node):
    """``inSegment("name")``."""

    name: str


@dataclass(frozen=True, slots=True)
class Now(Node):
    """``now`` (kind 'now') or the midnight of 'today', 'yesterday', 'tomorrow'."""

    kind: str


@dataclass(frozen=True, slots=True)
class Call(Node):
    """A strict function or operator of its arguments; opens no scope.

    function: lower-case canonical name: and or not = != < <= > >= + - * / % neg in notin like if
    isnull isnotnull startswith doesnotstartwith endswith doesnotendwith contains doesnotcontain
    equals notequalto matches regexgroup intersects intersection subsetof supersetof includes
    distinct head get keys values count sum average min max currentyear currentmonth
    currentdayofmonth getyear getmonth getdayofmonth. For methods args[0] is the receiver.
    ``and``/``or`` are n-ary and flattened.
    """

    function: str
    args: tuple[Node, ...]


@dataclass(frozen=True, slots=True)
class Each(Node):
    """A function that evaluates ``body`` once per element of ``source``.

    function: filter map topn bottomn groupby sum average min max count; mapentries for
    ``m.map((K, G) => mapEntry(K, e))`` (variables = (K, G), body = the key, extra = (value,)).
    variables: empty when the body reads the element by bare names (it opens one level); a lambda's
    names otherwise (no level). extra: further arguments (n of topN).
    """

    function: str
    source: Node
    body: Node
    variables: tuple[str, ...] = ()
    extra: tuple[Node, ...] = ()


@dataclass(frozen=True, slots=True)
class Range(Node):
    """``name from source where condition`` of a quantifier or query."""

    name: str
    source: Node
    condition: Node | None


@dataclass(frozen=True, slots=True)
class Quantified(Node):
    """kind: exists forall select count sum average min max; result: what select or an inline
    aggregate takes of each binding (None for exists and forall)."""

    kind: str
    ranges: tuple[Range, ...]
    result: Node | None = None


@dataclass(frozen=True, slots=True)
class Let(Node):
    """``let name = (value) in body``."""

    name: str
    value: Node
    body: Node


@dataclass(frozen=True, slots=True)
class Calendar(Node):
    """``this|last|next UNIT`` as a TIME: a calendar interval. shift: 0, -1, +1."""

    unit: str
    shift: int


@dataclass(frozen=True, slots=True)
class Occurs(Node):
    """``subject occurs …``.

    form: 'distance' (comparison, amount, unit, direction, time), 'before', 'after', 'on', or
    'between' (time, until). unit: singular lower-case. direction: 'before' | 'after' ('from' is
    'after'). time: an expression, Now or Calendar; 'on' keeps day words and dates as written.
    """

    subject: Node
    form: str
    time: Node
    until: Node | None = None
    comparison: str = ""
    amount: int = 0
    unit: str = ""
    direction: str = ""


@dataclass(frozen=True, slots=True)
class Step(Node):
    """One CHAIN step. when: an Occurs whose subject is Field(Element(0), 'timestamp'); a step name
    in it reads Field(Variable(name), 'timestamp')."""

    name: str
    what: Node
    when: Node | None
    count: int = 1


@dataclass(frozen=True, slots=True)
class Chain(Node):
    """``CHAIN(source, timestamp, [steps])``."""

    source: Node
    steps: tuple[Step, ...]
