"""From a plan to the operators, gauges and formulas that run it."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from profile_actors.columnar.instant_columns import Instants, instant_columns
from profile_actors.columnar.state_columns import reserve
from profile_actors.definitions.declared import Catalogue
from profile_actors.engine.histories.kept_events import EventHistory
from profile_actors.engine.membership.gauges import Flag, Ladder, Rung
from profile_actors.engine.membership.level_formulas import formula_of
from profile_actors.engine.membership.reach import Input, Marked, Reach, Rungs
from profile_actors.engine.membership.rulebook import Frozen, Rescanned, Rulebook, Tree
from profile_actors.engine.membership.timers import Timer
from profile_actors.engine.merge.entity_namers import EntityNamers
from profile_actors.engine.operators.attribute_columns import Attribute
from profile_actors.engine.operators.crews import make_crews
from profile_actors.engine.operators.event_streams import Stream
from profile_actors.rules.catalogue.merge_views import views_of
from profile_actors.rules.catalogue.publication import withheld
from profile_actors.rules.catalogue.typed_rules import check_all
from profile_actors.rules.planning.thresholds import (
    Condition,
    Measure,
    Threshold,
    condition_of,
    thresholds_of,
)
from profile_actors.rules.tree.clock_reads import unit_steps
from profile_actors.rules.tree.plan import (
    Aggregate,
    AggregateLeaf,
    AttributeLeaf,
    EventFilter,
    Kept,
    Plan,
    Rescan,
    Rule,
)
from profile_actors.rules.tree.trends import is_kept_alone, trend
from profile_actors.rules.tree.walks import inputs_of, leaves_of


def compile_plan(plan: Plan, catalogue: Catalogue, capacity: int) -> Rulebook:
    """Make a plan runnable, with empty state."""
    book = Rulebook(plan, check_all(catalogue) if plan.rescans else {})
    places = reserve(capacity, np.uint32)
    for history in plan.histories:
        book.histories[history.filter] = EventHistory(history, book.texts, capacity, places)
    by_filter: dict[EventFilter, list[Aggregate]] = {}
    for aggregate in plan.aggregates:
        by_filter.setdefault(aggregate.filter, []).append(aggregate)
    for event_filter, aggregates in by_filter.items():
        for index, aggregate in enumerate(aggregates):
            book.place[aggregate] = (len(book.streams), index)
        book.streams.append(Stream(event_filter, aggregates, capacity))
    make_crews(book.streams, capacity)
    for leaf in plan.attributes:
        book.attributes[leaf.key] = Attribute(leaf, _stating(catalogue, leaf), capacity)
    rungs: dict[Measure, list[Rung]] = {}
    conditions: dict[str, Condition] = {}
    for rule in plan.rules:
        found = condition_of(rule.root) if rule.kind == "segment" else None
        if isinstance(found, Threshold) and not found.null:
            rungs.setdefault(found.measure, []).append(Rung(rule.name, found))
        elif rule.kind == "computed" and isinstance(rule.root, AggregateLeaf):
            book.marks.setdefault(rule.root.aggregate, []).append(rule.name)
        else:
            is_formula = found is not None and any(True for _ in thresholds_of(found))
            if found is not None and is_formula:
                conditions[rule.name] = found
            _add_tree(book, rule, capacity, rule.timed and not is_formula)
    keys = [rule.key for rule in plan.rules] + [rescan.key for rescan in plan.rescans]
    segments = [name for kind, name in keys if kind == "segment"]
    columns = instant_columns(capacity, len(segments))
    book.qualified = dict(zip(segments, columns, strict=True))
    for rescan in plan.rescans:
        _add_rescan(book, rescan, capacity)
        book.namers |= {join: EntityNamers(join) for join in rescan.joins}
    for key, state in withheld(catalogue).items():
        if state == "inactive":
            book.frozen[key] = Frozen(reserve(capacity, np.bool_), Instants(capacity))
    _add_ladders(book, rungs, conditions, capacity)
    book.reach = indexed(book)
    book.single = frozenset(
        [key for key, view in views_of(catalogue).items() if view.single]
        + [rule.key for rule in plan.rules if rule.single]
        + [rescan.key for rescan in plan.rescans if rescan.view.single]
    )
    names = {name for kind, name in book.single if kind == "segment"}
    of_gauges = [not names.isdisjoint(gauge.layout.segments) for gauge in book.gauges]
    book.single_gauges = np.array(of_gauges, np.bool_)
    return book


def indexed(book: Rulebook) -> Reach:
    """Who reads what of a rulebook, or of the part of one that some rules need."""
    reach = Reach()
    for number, stream in enumerate(book.streams):
        reach.streams.add(number, stream.filter.types)
    for number, events in enumerate(book.histories):
        reach.histories.add(number, events.types)

    def inputs(aggregates: Iterable[Aggregate], attributes: Iterable[str]) -> set[Input]:
        return {*(book.place[aggregate][0] for aggregate in aggregates), *attributes}

    for number in book.ladders.values():
        gauge = book.gauges[number]
        assert isinstance(gauge, Ladder)
        node = gauge.measure.node
        if gauge.timer is None and isinstance(node, AggregateLeaf):
            stream_number, place = book.place[node.aggregate]
            reach.climbs.setdefault(stream_number, []).append(Rungs(number, place))
        else:
            reads = inputs(gauge.aggregates, gauge.attributes)
            reach.ladders.add(number, reads, is_timed=gauge.timer is not None)
    for number, tree in enumerate(book.trees):
        if tree.formula is not None:
            reach.formulas.add(number, tree.ladders, is_timed=False)
        else:
            reads = inputs(tree.aggregates, tree.attributes) | {*tree.histories}
            reach.trees.add(number, reads, is_timed=tree.timer is not None)
    for aggregate, names in book.marks.items():
        stream_number, place = book.place[aggregate]
        marks = reach.marks.setdefault(stream_number, [])
        marks.extend(Marked(name, place) for name in names)
    return reach


def _add_ladders(
    book: Rulebook,
    rungs: dict[Measure, list[Rung]],
    conditions: dict[str, Condition],
    capacity: int,
) -> None:
    """The ladders of segments and of larger conditions (by the segment's name), and the formulas
    that those are over them."""
    hidden: dict[Measure, dict[Threshold, None]] = {measure: {} for measure in rungs}
    readers: dict[Measure, list[str]] = {}
    for name, condition in conditions.items():
        for threshold in thresholds_of(condition):
            hidden.setdefault(threshold.measure, {})[threshold] = None
            readers.setdefault(threshold.measure, []).append(name)
    for measure, thresholds in hidden.items():
        steps = rungs.get(measure, [])
        for column, rung in enumerate(steps):
            book.gauge_of[rung.segment] = (len(book.gauges), column)
        book.ladders[measure] = len(book.gauges)
        book.gauges.append(Ladder(measure, steps, capacity, thresholds, readers.get(measure, ())))
    for tree in book.trees:
        if tree.gauge >= 0 and tree.rule.name in conditions:
            condition = conditions[tree.rule.name]
            tree.formula = formula_of(condition, book.ladders, book.gauges)
            numbers = (book.ladders[threshold.measure] for threshold in thresholds_of(condition))
            tree.ladders = tuple(dict.fromkeys(numbers))


def _add_tree(book: Rulebook, rule: Rule, capacity: int, is_timed: bool) -> None:
    gauge = -1
    if rule.kind == "segment":
        gauge = len(book.gauges)
        book.gauge_of[rule.name] = (gauge, 0)
        book.gauges.append(Flag(rule.name, capacity))
    aggregates, attributes = inputs_of(rule.root)
    histories = dict.fromkeys(n.filter for n in leaves_of(rule.root) if isinstance(n, Kept))
    timer = Timer(capacity) if is_timed else None
    steps = unit_steps(rule.root) if is_timed else ""
    tree = Tree(rule, aggregates, attributes, tuple(histories), gauge, timer, steps)
    if histories:
        tree.is_kept_alone = is_kept_alone(rule.root)
        tree.trend = trend(rule.root)
    book.trees.append(tree)


def _add_rescan(book: Rulebook, rescan: Rescan, capacity: int) -> None:
    gauge, level, qualified = -1, np.zeros(0, np.uint8), Instants(0)
    if rescan.kind == "segment":
        gauge = len(book.gauges)
        flag = Flag(rescan.name, capacity)
        book.gauge_of[rescan.name] = (gauge, 0)
        book.gauges.append(flag)
        qualified = book.qualified[rescan.name]
        level = flag.level
    book.rescans.append(Rescanned(rescan, gauge, level, qualified, {}, Timer(capacity)))


def _stating(catalogue: Catalogue, leaf: AttributeLeaf) -> dict[str, bool]:
    """Record datasets whose schema has the path, and whether each replaces whole rows; of a leaf
    that counts some alone, those, in their order."""
    found = {
        dataset.name: dataset.mode == "replace"
        for dataset in catalogue.datasets.values()
        if (schema := catalogue.schemas[dataset.schema]).behavior == "record"
        and leaf.path in schema.fields
    }
    return found if leaf.order is None else {name: found[name] for name in leaf.order}
