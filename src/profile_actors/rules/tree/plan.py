"""The plan: aggregates and attributes that rules read, and what each rule does with them.

Theory: the planner replaces, in every rule's typed tree, what one event at a time can keep up to
date by an ``AggregateLeaf`` and what a record can change by an ``AttributeLeaf``; what is left is
a small expression over those leaves, the clock, and constants. Leaves are shared by equality
across all rules.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from profile_actors.definitions.field_types import FieldType
from profile_actors.definitions.relationships import Join
from profile_actors.rules.tree.nodes import Node, Occurs
from profile_actors.rules.tree.sights import ALL, View


@dataclass(frozen=True, slots=True)
class EventFilter:
    """Which events count, and during which instants.

    types: event types that the predicate pins (None: any); used for dispatch, implied by predicate.
    predicate: a boolean tree over one event (fields are ``Field(Element(0), name)``), free of now;
    None = every event. window: conjuncts ``timestamp occurs … now`` that move with the clock, each
    making an event count in one interval of now; empty = lifetime. single: of an identity's own
    events, whoever it is linked with.
    """

    types: frozenset[str] | None = None
    predicate: Node | None = None
    window: tuple[Occurs, ...] = ()
    # Not shown: plans are known by what they print, and were before identities were seen alone.
    single: bool = field(default=False, repr=False)
    _hash: int = field(default=0, init=False, repr=False, compare=False)

    def __hash__(self) -> int:
        # Filters are dictionary keys while entries are folded; walking their trees is not free.
        if self._hash == 0:
            made = hash((self.types, self.predicate, self.window, self.single)) or 1
            object.__setattr__(self, "_hash", made)
        return self._hash


@dataclass(frozen=True, slots=True)
class History:
    """The events of one filter, kept per profile in order: what arrays over events are made of.

    fields: (dotted path, type) of the scalar fields kept of each event, sorted by path; not the
    timestamp, which always is. is_ordered: whether the order among events of one timestamp shows in
    some answer; only then what decides it is kept.
    """

    filter: EventFilter
    fields: tuple[tuple[str, FieldType], ...]
    is_ordered: bool


@dataclass(frozen=True, slots=True)
class Aggregate:
    """One operator: function in count sum min max distinct. value: expression over one event
    (None for the count of rows; ``count`` with a value counts the non-null ones). result: type."""

    filter: EventFilter
    function: str
    value: Node | None
    result: FieldType
    _hash: int = field(default=0, init=False, repr=False, compare=False)

    def __hash__(self) -> int:
        # Aggregates are looked up several times an entry; walking their trees each time cost 2 ms.
        if self._hash == 0:
            made = hash((self.filter, self.function, self.value, self.result)) or 1
            object.__setattr__(self, "_hash", made)
        return self._hash


@dataclass(frozen=True, slots=True)
class AggregateLeaf(Node):
    """Reads an aggregate of the profile."""

    aggregate: Aggregate


@dataclass(frozen=True, slots=True)
class AttributeLeaf(Node):
    """Reads one scalar leaf (dotted path) of the profile's union view. order: of the datasets whose
    statement counts, the first that has one; None: of all, the newest. single: of what is said of
    one identity."""

    path: str
    # Not shown: plans are known by what they print, and were before there were orders.
    order: tuple[str, ...] | None = field(default=None, repr=False)
    single: bool = field(default=False, repr=False)

    @property
    def key(self) -> str:
        """What tells it from the other leaves of a plan."""
        path = f"{self.path} of one identity" if self.single else self.path
        return path if self.order is None else f"{path} by {', '.join(self.order)}"


@dataclass(frozen=True, slots=True)
class Kept(Node):
    """The profile's events that a filter lets through at this instant, in order: an array."""

    filter: EventFilter


@dataclass(frozen=True, slots=True)
class KeptField(Node):
    """A scalar field (dotted path) of an event of ``Kept(filter)``. event: what stands for it: a
    Variable, or ``head()`` of a list of events."""

    event: Node
    path: str
    filter: EventFilter


@dataclass(frozen=True, slots=True)
class Stage(Node):
    """One step of a Sequence. source: an array of events, those that may stand here as far as they
    alone can tell. condition: what else must hold of one of them, called ``name``, given the last
    events of earlier steps under their names; None: nothing."""

    name: str
    source: Node
    condition: Node | None
    count: int = 1


@dataclass(frozen=True, slots=True)
class Sequence(Node):
    """CHAIN, planned: true where a choice of events makes all the stages, each later than the last
    event of the one before."""

    stages: tuple[Stage, ...]


@dataclass(frozen=True, slots=True)
class Rule:
    """One rule, planned. kind: 'segment' | 'computed'. root: expression over leaves.
    timed: the value may change by the clock alone *besides* the windows of its aggregates. single:
    profiles are single identities to it."""

    kind: str
    name: str
    root: Node
    timed: bool
    single: bool = field(default=False, repr=False)

    @property
    def key(self) -> tuple[str, str]:
        """(kind, name): names are unique within each kind."""
        return self.kind, self.name


@dataclass(frozen=True, slots=True)
class Rescan:
    """A rule that no operator keeps up to date: the reference evaluator runs it again when a row it
    reads came or an instant was reached. types: event types it reads (None: any). records: whether
    it reads the profile's attributes. references: rules it names, directly or not. reason: why.
    view: by which data it sees a profile. joins: the relationships through which it reads entities,
    whose rows touch it, too."""

    kind: str
    name: str
    tree: Node
    reason: str
    types: frozenset[str] | None
    records: bool
    references: tuple[tuple[str, str], ...]
    view: View = field(default=ALL, repr=False)
    joins: tuple[Join, ...] = field(default=(), repr=False)

    @property
    def key(self) -> tuple[str, str]:
        """(kind, name), as of a Rule."""
        return self.kind, self.name


@dataclass(frozen=True, slots=True)
class Plan:
    """Everything the engine keeps up to date for one catalogue version. Order is deterministic."""

    version: int
    aggregates: tuple[Aggregate, ...]
    attributes: tuple[AttributeLeaf, ...]
    rules: tuple[Rule, ...]
    rescans: tuple[Rescan, ...] = ()
    histories: tuple[History, ...] = ()


Key = tuple[str, str]
"""A rule: ('segment' | 'computed', name)."""


WORDS = {"computed": "computed attribute", "segment": "segment"}


STATES = {"draft": "a draft", "inactive": "inactive"}
