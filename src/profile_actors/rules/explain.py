"""How a rule runs, in words: its plan per sub-expression, what it shares, and what is refused.

Theory: the answer is made by the planner itself: the rule is planned as if it stood in the
catalogue, and where that is refused every sub-expression is tried alone, so that the report names
the smallest parts that do not run incrementally. ``explain`` gives plain data, ``render`` text.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from profile_actors.definitions import Catalogue
from profile_actors.rules.boundary import moves, parts
from profile_actors.rules.certain import certain
from profile_actors.rules.evaluation import evaluate
from profile_actors.rules.plan import Aggregate, AggregateLeaf, AttributeLeaf, EventFilter
from profile_actors.rules.planner import CataloguePlanner, refused, walk
from profile_actors.rules.single import with_rule
from profile_actors.rules.states import Key
from profile_actors.rules.streams import EVENT_TYPE, NotIncremental
from profile_actors.rules.tree import Calendar, Call, Literal, Node, Now
from profile_actors.rules.unparse import unparse

Report = dict[str, Any]


def explain(text: str, catalogue: Catalogue) -> Report:
    """The plan of a rule over the catalogue's schemas and rules, as JSON-able data.

    Keys: rule, type, incremental, reason (None if incremental), canonical (the planned text, None
    if refused), timed (changes by the clock besides its windows), constant (the value that it
    always has, if it reads nothing or is a condition with only one outcome), same_as (rules with
    the same plan), plan (a tree of parts: text, how, and what their operator keeps).
    Cost: plans the whole catalogue once.
    Raises RuleError where the text does not parse or type-check.
    """
    trees, key = with_rule(text, catalogue)
    tree = trees.pop(key)
    planner = CataloguePlanner(trees)
    users, roots = _users(planner)
    reporter = _Reporter(planner, users)
    report: Report = {"rule": text, "type": None if tree.type is None else tree.type.kind}
    segments = {name: other for (kind, name), other in trees.items() if kind == "segment"}
    outcome = certain(tree, segments) if key[0] == "segment" else None
    try:
        root = planner.planned(tree, is_condition=key[0] == "segment")
    except NotIncremental as refusal:
        reason = str(refused(refusal, text if refusal.rule is None else ""))
        report |= {"incremental": False, "reason": reason, "canonical": None, "timed": None}
        report |= {"constant": outcome, "same_as": []}
        return report | {"plan": reporter.part(tree)}
    report |= {"incremental": True, "reason": None, "canonical": unparse(root)}
    constant = _constant(root)
    report |= {"timed": moves(root), "constant": outcome if constant is None else constant}
    report["same_as"] = [_name(key) for key, other in roots.items() if other == root]
    return report | {"plan": reporter.planned(root)}


def render(report: Report) -> str:
    """The report of ``explain`` as indented text for a terminal."""
    lines = [f"rule      {report['rule']}"]
    if report["incremental"]:
        lines.append("runs      incrementally: every part is kept up to date with each event")
    else:
        lines.append(
            "runs      by rescan: again over the person's whole history, for those whom new data or"
            f" the clock touches; {report['reason']}"
        )
    if report["timed"]:
        lines.append("clock     compared with now, so it can also change as time passes")
    if report["constant"] is not None:
        lines.append(f"constant  always {json.dumps(report['constant'])}")
    if report["same_as"]:
        lines.append(f"same as   {', '.join(report['same_as'])}")
    return "\n".join([*lines, "plan", *_lines(report["plan"], "  ")])


def _lines(part: Report, pad: str) -> Iterator[str]:
    text = part["text"]
    yield f"{pad}{text if len(text) <= _SHOWN else text[: _SHOWN - 1] + '…'}"
    children = part.get("parts", [])
    bar = f"{pad}│ " if children else f"{pad}  "
    yield f"{bar}· {part['how']}"
    for key, words in _DETAILS.items():
        value = part.get(key)
        if value is not None:
            yield f"{bar}· {words} {', '.join(value) if isinstance(value, list) else value}"
    for place, child in enumerate(children, 1):
        inner = list(_lines(child, ""))
        last = place == len(children)
        yield f"{pad}{'└─' if last else '├─'} {inner[0]}"
        yield from (f"{pad}{'  ' if last else '│ '} {line}" for line in inner[1:])


_SHOWN = 96
"""Characters of a sub-expression on one line."""
_DETAILS = {
    "reason": "because of",
    "event_types": "events of type",
    "predicate": "events with",
    "value": "value",
    "window": "counted while",
    "shared_with": "shared with",
}


class _Reporter:
    """Describes planned nodes, and tries the parts of refused ones."""

    def __init__(self, planner: CataloguePlanner, users: Mapping[Node, list[Key]]) -> None:
        self.planner = planner
        self.users = users

    def part(self, tree: Node) -> Report:
        """An unplanned sub-expression: its plan, or why it has none and what its parts are."""
        try:
            return self.planned(self.planner.planned(tree))
        except NotIncremental as refusal:
            report: Report = {"text": unparse(tree), "how": "not incremental"}
            children = [self.part(child) for child in parts(tree) if not isinstance(child, Literal)]
            if all(child.get("how") != report["how"] for child in children):
                report["reason"] = refusal.reason  # else a part below says it
            return report | ({"parts": children} if children else {})

    def planned(self, node: Node) -> Report:
        """A planned expression and its parts."""
        report: Report = {"text": unparse(node)}
        if isinstance(node, AggregateLeaf):
            report["how"] = _aggregate_words(node.aggregate)
            report |= _filter(node.aggregate)
        elif isinstance(node, AttributeLeaf):
            report["how"] = "profile attribute, kept as a column"
        elif isinstance(node, Literal):
            report["how"] = "constant"
        elif isinstance(node, Now | Calendar):
            report["how"] = "clock"
        elif not any(isinstance(part, AggregateLeaf | AttributeLeaf) for part in walk(node)):
            report["how"] = "reads only the clock" if moves(node) else "constant"
        else:
            report["how"] = "evaluated where a part changed" + ", and when due" * moves(node)
        others = [_name(key) for key in self.users.get(node, ())]
        if isinstance(node, AggregateLeaf | AttributeLeaf) and others:
            report["shared_with"] = others
        children = [child for child in parts(node) if not isinstance(child, Literal | Now)]
        if children:
            report["parts"] = [self.planned(child) for child in children]
        return report


def _aggregate_words(aggregate: Aggregate) -> str:
    words = {
        "count": "a count per profile",
        "sum": "an exact sum per profile",
        "min": "the least value per profile",
        "max": "the greatest value per profile",
        "distinct": "the distinct values per profile, each with its count",
    }[aggregate.function]
    if aggregate.filter.types == frozenset():
        return f"{words}; no event can match: always empty"
    window = aggregate.filter.window
    return f"{words}; events enter and leave by the clock (delay line)" if window else words


def _filter(aggregate: Aggregate) -> Report:
    events = aggregate.filter
    report: Report = {}
    if events.types:
        report["event_types"] = sorted(events.types)
    if events.predicate is not None and not _is_only_types(events):
        report["predicate"] = unparse(events.predicate)
    if aggregate.value is not None:
        report["value"] = unparse(aggregate.value)
    if events.window:
        report["window"] = [unparse(conjunct) for conjunct in events.window]
    return report


def _is_only_types(events: EventFilter) -> bool:
    """Whether the predicate says nothing but which types."""
    predicate = events.predicate
    return (
        isinstance(predicate, Call)
        and predicate.function in ("=", "in")
        and predicate.args[0] == EVENT_TYPE
        and events.types is not None
    )


def _users(planner: CataloguePlanner) -> tuple[dict[Node, list[Key]], dict[Key, Node]]:
    """Which rules of the catalogue read each leaf, and every rule's planned root."""
    users: dict[Node, list[Key]] = {}
    roots: dict[Key, Node] = {}
    for key in planner.trees:
        try:
            roots[key] = planner.root(key)
        except NotIncremental:
            continue  # the report is about another rule
        for node in {n: None for n in walk(roots[key])}:
            if isinstance(node, AggregateLeaf | AttributeLeaf):
                users.setdefault(node, []).append(key)
    return users, roots


def _constant(root: Node) -> Any:
    """The value of an expression that reads neither leaves nor the clock; None otherwise."""
    if moves(root) or any(isinstance(node, AggregateLeaf | AttributeLeaf) for node in walk(root)):
        return None
    vector = evaluate(root, _no_leaf, 1, 0)
    if vector.valid is not None and not vector.valid[0]:
        return "null"
    value = vector.values[0].item()
    return vector.dictionary[value] if vector.dictionary is not None else value


def _no_leaf(node: Node) -> Any:
    raise AssertionError(f"a constant expression reads {unparse(node)}")


def _name(key: Key) -> str:
    return f"{key[0]} {key[1]}"


__all__ = ["explain", "render"]
