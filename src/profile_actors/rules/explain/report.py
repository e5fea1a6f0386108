"""How a rule runs, in words: its plan per sub-expression, what it shares, and what is refused.

Theory: the answer is made by the planner itself: the rule is planned as if it stood in the
catalogue, and where that is refused every sub-expression is tried alone, so that the report names
the smallest parts that do not run incrementally. What stands for one element of a list is told by
the list's own part, not apart from it. ``explain`` gives plain data, ``wording`` text.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from typing import Any

from profile_actors.definitions.declared import Catalogue
from profile_actors.rules.catalogue.merge_views import sights_of
from profile_actors.rules.catalogue.one_rule import with_rule
from profile_actors.rules.catalogue.typed_rules import entities_of
from profile_actors.rules.evaluation.scalars import scalar_vector
from profile_actors.rules.evaluation.trial import Trial
from profile_actors.rules.explain.certainty import certain
from profile_actors.rules.explain.costs import (
    Cost,
    Ways,
    choices_of_stage,
    cost_of,
    cost_of_stage,
    reads_clock,
    ways_of_filter,
    ways_of_stage,
    worst,
)
from profile_actors.rules.explain.wording import (
    EVALUATED,
    PER_ELEMENT,
    WHEN_DUE,
    how_aggregate,
    how_kept,
    how_list,
    how_sequence,
)
from profile_actors.rules.language.unparse import unparse, unparse_stage
from profile_actors.rules.planning.catalogue_planner import CataloguePlanner, refused
from profile_actors.rules.planning.event_folds import EVENT_TYPE
from profile_actors.rules.planning.rescan_reads import rescan
from profile_actors.rules.tree.clock_reads import varies
from profile_actors.rules.tree.faults import NotIncremental
from profile_actors.rules.tree.free_names import reads
from profile_actors.rules.tree.nodes import (
    Calendar,
    Call,
    Chain,
    Each,
    Events,
    Field,
    Items,
    Let,
    Literal,
    Node,
    Now,
    Quantified,
    Root,
    Variable,
)
from profile_actors.rules.tree.plan import (
    Aggregate,
    AggregateLeaf,
    AttributeLeaf,
    EventFilter,
    History,
    Kept,
    KeptField,
    Key,
    Rescan,
    Rule,
    Sequence,
)
from profile_actors.rules.tree.walks import children, parts, walk

Report = dict[str, Any]


def explain(text: str, catalogue: Catalogue) -> Report:
    """The plan of a rule over the catalogue's schemas and rules, as JSON-able data.

    Keys: rule, type, incremental, runs (folded, over kept events, by rescan), cost (of the worst
    part, see ``costs.Cost``), reason (None if incremental), canonical (the planned text,
    None if refused), timed (changes by the clock besides its windows), constant (the value that it
    always has, if it reads nothing or is a condition with only one outcome), defined_as (the
    definitions whose rule this is), same_as (others with the same plan), plan (a tree of parts:
    text, how, cost, what their operator keeps, how a join finds its pairs, shared_with: the other
    rules that read the same operator or the same kept events, which exist once, and also_in: those
    in which the same larger expression stands).
    Cost: plans the whole catalogue once.
    Raises RuleError where the text does not parse or type-check.
    """
    trees, key = with_rule(text, catalogue)
    tree = trees[key]
    entities = entities_of(catalogue)
    triggers = rescan(key, trees, "", entities=entities)
    del trees[key]
    own = [key for key, other in trees.items() if other == tree]
    planner = CataloguePlanner(trees, Trial().failure, sights_of(catalogue), entities)
    reporter = _Reporter(planner, own)
    report: Report = {"rule": text, "type": None if tree.type is None else tree.type.kind}
    report["defined_as"] = [_name(key) for key in own]
    segments = {name: other for (kind, name), other in trees.items() if kind == "segment"}
    outcome = certain(tree, segments) if key[0] == "segment" else None
    try:
        sight = reporter.planner.sight(key)
        root = reporter.planner.planned(tree, key[0] == "segment", sight)
    except NotIncremental as refusal:
        reason = str(refused(refusal, text if refusal.rule is None else ""))
        report |= {"incremental": False, "reason": reason, "canonical": None, "timed": None}
        report |= {"runs": "by rescan", "cost": Cost.RESCAN.words}
        report["rescanned_for"] = _triggers(triggers)
        report |= {"constant": outcome, "same_as": []}
        return report | {"plan": reporter.part(tree)}
    report |= {"incremental": True, "reason": None, "canonical": unparse(root)}
    kept = any(isinstance(node, Kept) for node in walk(root))
    report["runs"] = "over kept events" if kept else "folded"
    constant = _constant(root)
    constant = outcome if constant is None else constant
    report["cost"] = (worst(root) if constant is None else Cost.CONSTANT).words
    report |= {"timed": reads_clock(root), "constant": constant}
    report["same_as"] = [_name(key) for key, other in reporter.roots.items() if other == root]
    return report | {"plan": reporter.whole(root)}


def _triggers(rule: Rescan) -> str:
    """Which new data make a profile's value be looked at again."""
    events = "profiles with new events"
    if rule.types is not None:
        named = ", ".join(sorted(rule.types))
        events = f"profiles with new events of type {named}" if named else ""
    words = [events, "profiles whose records changed" if rule.records else ""]
    words += [
        f"profiles that name a changed {join.target!r} as {join.name!r}" for join in rule.joins
    ]
    return " and ".join(word for word in words if word) or "no new data"


class _Reporter:
    """Describes planned nodes, and tries the parts of refused ones.

    own: the definitions that the rule is the rule of, which are no others. users: per node (by
    identity: the planner makes equal ones one) the other rules that it stands in.
    """

    def __init__(self, planner: CataloguePlanner, own: Collection[Key]) -> None:
        self.planner = planner
        self.roots = {key: root for key, root in _roots(planner).items() if key not in own}
        self.users: dict[int, list[Key]] = {}
        for key, root in self.roots.items():
            for node in {id(node): node for node in walk(root)}.values():
                self.users.setdefault(id(node), []).append(key)
        self.histories: dict[EventFilter, History] = {}

    def part(self, tree: Node) -> Report:
        """An unplanned sub-expression: its plan, or why it has none and what its parts are."""
        try:
            return self.whole(_list_of(tree, self.planner.planned(tree))) | {"text": unparse(tree)}
        except NotIncremental as refusal:
            report: Report = {"text": unparse(tree), "how": "not incremental"}
            report["cost"] = Cost.RESCAN.words
            found = [self.part(child) for child in _closed(tree)]
            if all(child.get("how") != report["how"] for child in found):
                report["reason"] = refusal.reason  # else a part below says it
                if refusal.node is not tree and refusal.rule is None:
                    report["refused"] = unparse(refusal.node)
            return report | ({"parts": found} if found else {})

    def whole(self, root: Node) -> Report:
        """A planned expression that stands alone, and its parts."""
        rules = [Rule(*key, other, False) for key, other in self.roots.items()]
        made = self.planner.plan([*rules, Rule("segment", "", root, False)], 0)
        self.histories = {history.filter: history for history in made.histories}
        return self.planned(root)

    def planned(self, node: Node, is_inside: bool = False) -> Report:
        """A planned expression and its parts. is_inside: of one whose other places were told."""
        report: Report = {"text": unparse(node)}
        is_constant = isinstance(node, Literal) or not _reads_anything(node)
        report["how"] = self._how(node, is_constant)
        report["cost"] = (Cost.CONSTANT if is_constant else cost_of(node)).words
        if isinstance(node, AggregateLeaf):
            report |= _filter(node.aggregate.filter) | _value(node.aggregate)
        elif isinstance(node, Kept):
            report |= _filter(node.filter) | self._columns(node)
        elif isinstance(node, Each) and node.function == "filter":
            report |= _conditions(node)
        others = [_name(key) for key in self.users.get(id(node), ())]
        if isinstance(node, AggregateLeaf | AttributeLeaf | Kept):
            report |= {"shared_with": others} if others else {}
        elif others and not is_inside and not is_constant and not reads(node):
            report["also_in"] = others
        inside = is_inside or "also_in" in report
        if isinstance(node, Sequence):
            report["parts"] = [
                self._stage(node, place, inside) for place in range(len(node.stages))
            ]
        elif found := list(_inner(node)):
            report["parts"] = [self.planned(child, inside) for child in found]
        return report

    def _how(self, node: Node, is_constant: bool) -> str:
        if isinstance(node, AggregateLeaf):
            return how_aggregate(node.aggregate)
        if isinstance(node, AttributeLeaf):
            return "profile attribute, kept as a column"
        if isinstance(node, Kept):
            return how_kept(node.filter)
        if isinstance(node, Now | Calendar):
            return "clock"
        if is_constant:
            return "constant"
        if isinstance(node, Sequence):
            return how_sequence(node)
        if isinstance(node, Each | Call) and (words := how_list(node)) is not None:
            return words
        if isinstance(node, KeptField):
            return "a field of that event"
        if isinstance(node, Let):
            return "a value under a name, computed once"
        if reads(node):
            return PER_ELEMENT
        if not any(isinstance(part, AggregateLeaf | AttributeLeaf | Kept) for part in walk(node)):
            return "reads only the clock"
        return EVALUATED + WHEN_DUE * varies(node)

    def _columns(self, node: Kept) -> Report:
        """What is kept of each event, for all rules that read it."""
        history = self.histories[node.filter]
        columns = ["timestamp", *(path for path, _ in history.fields)]
        columns += ["when it leaves"] * bool(node.filter.window)
        columns += ["its order among equal timestamps"] * history.is_ordered
        return {"columns": columns}

    def _stage(self, node: Sequence, place: int, is_inside: bool) -> Report:
        stage = node.stages[place]
        report: Report = {"text": unparse_stage(stage)}
        amount = "an event" if stage.count == 1 else f"the last of {stage.count} events"
        report["how"] = f"{amount} later than the step before" if place else amount
        report["cost"] = cost_of_stage(node.stages, place).words
        report |= _ways(ways_of_stage(stage))
        choices = choices_of_stage(node.stages, place)
        report["choices"] = (
            f"one per profile and event of {', '.join(choices)}" if choices else "one per profile"
        )
        return report | {"parts": [self.planned(stage.source, is_inside)]}


def _conditions(node: Each) -> Report:
    ways = ways_of_filter(node)
    return {} if ways is None else _ways(ways)


def _ways(ways: Ways) -> Report:
    told = {
        "joined_by": [*ways.equal, *ways.between],
        "asked_before": ways.alone,
        "tried": ways.tried,
        "tried_when_due": ways.moving,
    }
    return {key: [unparse(claim) for claim in claims] for key, claims in told.items() if claims}


def _inner(node: Node) -> Iterator[Node]:
    """The parts that say more than the node's own text."""
    for child in parts(node):
        if isinstance(child, Literal | Now | Variable):
            continue
        if isinstance(node, KeptField) or (isinstance(child, KeptField) and reads(child)):
            yield from _inner(child)  # the event of a field is told by the list it is of
        elif reads(child) and not _holds_list(child):
            yield from (part for part in _leaves(child))
        else:
            yield child


def _holds_list(node: Node) -> bool:
    return any(isinstance(part, Each | Kept | Sequence | AggregateLeaf) for part in walk(node))


def _leaves(node: Node) -> Iterator[Node]:
    """What an expression of one element reads besides the element."""
    return (part for part in walk(node) if isinstance(part, AttributeLeaf))


def _closed(tree: Node) -> list[Node]:
    """The parts of an unplanned expression that mean something alone."""
    if isinstance(tree, Field):
        return []
    simple = (Literal, Root, Events, Variable, Items, Now)
    below: Iterable[Node] = children(tree)
    if isinstance(tree, Quantified):
        below = (item.source for item in tree.ranges)
    elif isinstance(tree, Chain):
        below = (tree.source,)
    return [child for child in below if not isinstance(child, simple) and not reads(child)]


def _list_of(tree: Node, root: Node) -> Node:
    """A list stands for "it is not empty" when planned as a condition: the list itself."""
    if tree.type is None or tree.type.kind != "array" or not isinstance(root, Call):
        return root
    count = root.args[0] if root.args else root
    return count.args[0] if isinstance(count, Call) and count.function == "count" else count


def _reads_anything(node: Node) -> bool:
    """Whether the value depends on the profile, the events, an element, or the clock."""
    leaf = (AggregateLeaf, AttributeLeaf)
    return bool(varies(node) or reads(node) or any(isinstance(part, leaf) for part in walk(node)))


def _filter(events: EventFilter) -> Report:
    report: Report = {}
    if events.types:
        report["event_types"] = sorted(events.types)
    if events.predicate is not None and not _is_only_types(events):
        report["predicate"] = unparse(events.predicate)
    if events.window:
        report["window"] = [unparse(conjunct) for conjunct in events.window]
    return report


def _value(aggregate: Aggregate) -> Report:
    return {} if aggregate.value is None else {"value": unparse(aggregate.value)}


def _is_only_types(events: EventFilter) -> bool:
    """Whether the predicate says nothing but which types."""
    predicate = events.predicate
    return (
        isinstance(predicate, Call)
        and predicate.function in ("=", "in")
        and predicate.args[0] == EVENT_TYPE
        and events.types is not None
    )


def _roots(planner: CataloguePlanner) -> dict[Key, Node]:
    """The planned root of every rule of the catalogue that has one."""
    roots: dict[Key, Node] = {}
    for key in planner.trees:
        try:
            roots[key] = planner.root(key)
        except NotIncremental:
            continue  # the report is about another rule
    return roots


def _constant(root: Node) -> Any:
    """The value of an expression that reads neither leaves nor the clock; None otherwise."""
    if varies(root) or any(isinstance(node, AggregateLeaf | AttributeLeaf) for node in walk(root)):
        return None
    vector = scalar_vector(root, _no_leaf, 1, 0)
    if vector.valid is not None and not vector.valid[0]:
        return "null"
    value = vector.values[0].item()
    return vector.dictionary[value] if vector.dictionary is not None else value


def _no_leaf(node: Node) -> Any:
    raise AssertionError(f"a constant expression reads {unparse(node)}")


def _name(key: Key) -> str:
    return f"{key[0]} {key[1]}"
