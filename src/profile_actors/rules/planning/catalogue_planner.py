"""From typed rules to a plan: every rule planned once, and what they share made one object.

Theory: each rule becomes an expression over leaves (``rule_planner``), canonical, tried and
interned, so a catalogue becomes one set of operators with expressions on top: equal aggregates are
one object across all rules, and so is every equal sub-expression.

Limits: what cannot be kept up to date raises NotIncremental with the sub-expression, and so do
values that change every millisecond; ``plan_trees`` alone decides what that means: a rescan, or a
RuleError.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

from profile_actors.definitions.field_types import FieldType
from profile_actors.errors import RuleError
from profile_actors.rules.planning.canonical import normal
from profile_actors.rules.planning.event_folds import type_of
from profile_actors.rules.planning.rescan_reads import Entities, entity_reads, rescan
from profile_actors.rules.planning.rule_planner import RulePlanner
from profile_actors.rules.planning.shapes import fits
from profile_actors.rules.tree.clock_reads import ticks, varies
from profile_actors.rules.tree.constants import STRING
from profile_actors.rules.tree.faults import NotIncremental, located
from profile_actors.rules.tree.kinds import kind_of
from profile_actors.rules.tree.nodes import Call, Each, Node, Variable
from profile_actors.rules.tree.plan import (
    WORDS,
    Aggregate,
    AggregateLeaf,
    AttributeLeaf,
    EventFilter,
    History,
    Kept,
    KeptField,
    Key,
    Plan,
    Rescan,
    Rule,
    Sequence,
)
from profile_actors.rules.tree.sights import EVERYTHING, Sight
from profile_actors.rules.tree.walks import parts, rebuild, walk

TryOut = Callable[[Node], str | None]
"""What a planned expression raises when it is tried over made-up rows, in words; None: nothing."""


def plan_trees(
    trees: Mapping[Key, Node],
    texts: Mapping[Key, str],
    try_out: TryOut,
    version: int = 0,
    *,
    may_rescan: bool = False,
    sights: Mapping[Key, Sight] | None = None,
    entities: Entities | None = None,
) -> Plan:
    """The plan of typed trees. texts: the rules' source, for error messages.

    try_out: asked of every planned rule; one that fails is no plan, and is rescanned.
    sights: by which data rules see a profile, where not by all. entities: what rules read through
    relationships.
    may_rescan: what no operator keeps up to date becomes a Rescan; otherwise it is a RuleError.
    """
    planner = CataloguePlanner(trees, try_out, sights, entities)
    rules: list[Rule] = []
    rescans: list[Rescan] = []
    for key in trees:
        try:
            rules.append(planner.rule(key))
        except NotIncremental as refusal:
            rule = refusal.rule or key
            error = refused(refusal, texts.get(rule, ""))
            if may_rescan:
                view = planner.sight(key).view
                rescans.append(rescan(key, trees, refusal.reason, view, entities))
                continue
            message = f"in {WORDS[rule[0]]} {rule[1]!r}: {error.message}"
            raise RuleError(message, error.line, error.column) from None
        except RecursionError:
            raise RuleError(
                f"expected a rule nested less deeply - at {key[0]} {key[1]!r}; split it"
            ) from None
    return replace(planner.plan(rules, version), rescans=tuple(rescans))


def refused(refusal: NotIncremental, text: str) -> RuleError:
    """What the caller is told. text: the rule that the refused node stands in."""
    return located(
        text,
        refusal.node.at,
        f"parsed, but not evaluated incrementally yet: {refusal.reason}",
    )


class CataloguePlanner:
    """Plans rules in the order of their references, and interns what they share."""

    def __init__(
        self,
        trees: Mapping[Key, Node],
        try_out: TryOut,
        sights: Mapping[Key, Sight] | None = None,
        entities: Entities | None = None,
    ) -> None:
        self.trees = trees
        self.entities = entities or {}
        self.sights = sights or {}
        self.try_out = try_out
        self.roots: dict[Key, Node] = {}
        self.open: set[Key] = set()
        self.interned: dict[tuple[object, ...], Node] = {}
        self.by_identity: dict[int, Node] = {}
        self.aggregates: dict[Aggregate, Aggregate] = {}
        self.filters: dict[EventFilter, EventFilter] = {}
        self.sizes: dict[Key, int] = {}

    def sight(self, key: Key) -> Sight:
        """By which data a rule sees a profile."""
        return self.sights.get(key, EVERYTHING)

    def rule(self, key: Key) -> Rule:
        """One rule, planned. Raises NotIncremental with its ``rule`` set."""
        root = self.root(key)
        return Rule(key[0], key[1], root, varies(root), self.sight(key).view.single)

    def root(self, key: Key) -> Node:
        """The planned root of a rule; planned once."""
        if key in self.roots:
            return self.roots[key]
        if key not in self.trees:
            raise RuleError(f"expected the name of a rule, got {key[1]!r} - at {key[0]} {key[1]!r}")
        if key in self.open:
            raise RuleError(f"expected rules without a cycle - at {key[0]} {key[1]!r}")
        self.open.add(key)
        try:
            self.roots[key] = self._planned(key)
        except NotIncremental as refusal:
            refusal.rule = refusal.rule or key
            raise
        finally:
            self.open.discard(key)
        return self.roots[key]

    def size(self, key: Key) -> int:
        """How many nodes a planned root has, references written out."""
        return self.sizes[key]

    def _planned(self, key: Key) -> Node:
        is_condition = key[0] == "segment"
        root = self.planned(self.trees[key], is_condition, self.sight(key))
        self.sizes[key] = sum(1 for _ in walk(root))
        return root

    def planned(self, tree: Node, is_condition: bool = True, sight: Sight = EVERYTHING) -> Node:
        """A typed tree as an expression over leaves, canonical and interned.

        is_condition: an array of events means that it is not empty. Raises NotIncremental.
        """
        for node, join in entity_reads(tree, self.entities):
            raise NotIncremental(
                node, f"it reads {join.target!r} entities, which change by themselves"
            )
        rule = RulePlanner(self, sight)
        root = normal(rule.condition(tree) if is_condition else rule.any(tree))
        if kind_of(root)[0] == "decimal":
            root = replace(root, type=type_of(root))
        root = self.shared(root)
        if ticks(root):
            raise NotIncremental(tree, "a value that changes every millisecond")
        fits(root)
        failure = self.try_out(root)
        if failure is not None:
            raise NotIncremental(tree, f"its operators fail on a trial ({failure})")
        return root

    def shared(self, node: Node) -> Node:
        """The one object that stands for every node equal to this one."""
        known = self.by_identity.get(id(node))
        if known is not None and known is node:
            return node
        children = list(parts(node))
        if children:
            node = rebuild(node, [self.shared(child) for child in children])
        if isinstance(node, AggregateLeaf):
            node = replace(node, aggregate=self._aggregate(node.aggregate))
        elif isinstance(node, Kept | KeptField):
            node = replace(node, filter=self._filter(node.filter))
        # Types are no part of equality, but a variable has none but its own: one name may stand
        # for values of several types in several places, and what reads it differs with it.
        own = node.type if isinstance(node, Variable) else None
        key = (node, own, *(id(part) for part in parts(node)))
        node = self.interned.setdefault(key, node)
        self.by_identity[id(node)] = node
        return node

    def _aggregate(self, aggregate: Aggregate) -> Aggregate:
        events, value = self._filter(aggregate.filter), aggregate.value
        if value is not None:
            value = self.shared(value)
        aggregate = replace(aggregate, filter=events, value=value)
        return self.aggregates.setdefault(aggregate, aggregate)

    def _filter(self, events: EventFilter) -> EventFilter:
        if events.predicate is not None:
            events = replace(events, predicate=self.shared(events.predicate))
        return self.filters.setdefault(events, events)

    def plan(self, rules: list[Rule], version: int) -> Plan:
        """The plan over planned rules."""
        aggregates: dict[Aggregate, None] = {}
        attributes: dict[AttributeLeaf, None] = {}
        for rule in rules:
            for node in walk(rule.root):
                if isinstance(node, AggregateLeaf):
                    aggregates[node.aggregate] = None
                elif isinstance(node, AttributeLeaf):
                    attributes[node] = None
        histories = _histories(rules)
        return Plan(
            version, tuple(aggregates), tuple(attributes), tuple(rules), histories=histories
        )


def _histories(rules: list[Rule]) -> tuple[History, ...]:
    """What must be kept of which events for the rules' lists."""
    fields: dict[EventFilter, dict[str, FieldType]] = {}
    ordered: set[EventFilter] = set()
    for rule in rules:
        mine: set[EventFilter] = set()
        for node in walk(rule.root):
            if isinstance(node, Kept):
                fields.setdefault(node.filter, {})
                mine.add(node.filter)
            elif isinstance(node, KeptField) and node.path != "timestamp":
                kept = fields.setdefault(node.filter, {})
                kept[node.path] = node.type or STRING
        kind = "" if rule.root.type is None else rule.root.type.kind
        if kind in ("array", "map") or any(map(_shows_order, walk(rule.root))):
            ordered |= mine
    return tuple(
        History(events, tuple(sorted(kept.items())), events in ordered)
        for events, kept in fields.items()
    )


def _shows_order(node: Node) -> bool:
    """Whether the order among events of one timestamp may show in the node's value."""
    if isinstance(node, Sequence):
        return any(stage.count > 1 for stage in node.stages)
    if isinstance(node, Each):
        return node.function in ("topn", "bottomn")
    return isinstance(node, Call) and node.function == "head"
