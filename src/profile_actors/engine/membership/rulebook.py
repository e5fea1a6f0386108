"""A plan made runnable: streams, attribute columns, gauges and timers, and who reads what.

Theory: compiled once per catalogue version and partition. Aggregates of one filter become one
stream; segments that compare one measure with a constant become rungs of a ladder; rules that are
several such comparisons are formulas over the levels of ladders; every other rule is a *tree*
evaluated over the slots whose inputs changed, and, when it reads the clock itself, at the instants
that its timer holds.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from profile_actors.columnar.instant_columns import Columns, Instants
from profile_actors.columnar.vectors import FOREVER, Array, Texts, Vector
from profile_actors.definitions.relationships import Join
from profile_actors.engine.histories.kept_events import EventHistory, KeptRows
from profile_actors.engine.membership.gauges import Gauge, Ladder
from profile_actors.engine.membership.level_formulas import Formula
from profile_actors.engine.membership.reach import Reach
from profile_actors.engine.membership.timers import Timer
from profile_actors.engine.merge.entity_namers import EntityNamers
from profile_actors.engine.operators.attribute_columns import Attribute
from profile_actors.engine.operators.delay_lines import DelayLine
from profile_actors.engine.operators.event_streams import Stream
from profile_actors.rules.planning.thresholds import Measure
from profile_actors.rules.tree.nodes import Node
from profile_actors.rules.tree.plan import (
    Aggregate,
    AggregateLeaf,
    AttributeLeaf,
    EventFilter,
    Kept,
    Key,
    Plan,
    Rescan,
    Rule,
)
from profile_actors.rules.tree.walks import leaves_of


@dataclass(slots=True)
class Tree:
    """A rule that is no rung. histories: the filters whose kept events it reads. gauge: index of
    its Flag, -1 for a computed attribute. steps: the calendar unit ('day', 'month') at whose starts
    it may change whatever its inputs. is_kept_alone: whether kept events are all that moves it;
    trend: which way it then can turn (``trends``). formula: the rule over the levels of
    ``ladders`` (by number), if it is one; then they alone move it."""

    rule: Rule
    aggregates: tuple[Aggregate, ...]
    attributes: tuple[str, ...]
    histories: tuple[EventFilter, ...]
    gauge: int
    timer: Timer | None
    steps: str = ""
    is_kept_alone: bool = False
    trend: str | None = None
    formula: Formula | None = None
    ladders: tuple[int, ...] = ()


@dataclass(slots=True)
class Rescanned:
    """A rescan's state. gauge: index of its Flag (-1: computed). level, qualified: that gauge's
    columns (segments); values: per slot (computed attributes). timer: the next instants to look.
    is_new: not yet evaluated for the profiles that there are."""

    rule: Rescan
    gauge: int
    level: Array
    qualified: Instants
    values: dict[int, Any]
    timer: Timer
    is_new: bool = True


@dataclass(slots=True)
class Frozen:
    """What an inactive rule last was. inside: per slot, whether it was a member (a segment) or had
    a value (a computed attribute). qualified: as of a segment in force."""

    inside: Array
    qualified: Instants


Part = Aggregate | EventFilter | str
"""What can fail by itself: an aggregate, the history of a filter, the attribute of a key."""


def part_of(leaf: Node) -> Part:
    """The part that a leaf reads."""
    if isinstance(leaf, AggregateLeaf):
        return leaf.aggregate
    if isinstance(leaf, Kept):
        return leaf.filter
    assert isinstance(leaf, AttributeLeaf), leaf
    return leaf.key


UNKNOWN: Any = object()
"""The value that a computed attribute had when it was made inactive: something, not kept what."""


@dataclass(slots=True)
class Rulebook:
    """One compiled catalogue version.

    qualified: per segment, when each slot last entered or left. reach: who reads what. frozen:
    inactive rules. namers: who names entities that rules read. texts: of all histories. broken,
    pending: the parts that raised, and the rules that have no answer, by kind and name; with why.
    groups, columns: made at first need, of crews by id (``ladder_groups``) and of gauges by number;
    to be forgotten by whoever puts other columns into ``qualified`` (``forget_columns``). single:
    the rules to which profiles are single identities; single_gauges: bool per gauge, those of such.
    """

    plan: Plan
    trees_of_rules: dict[tuple[str, str], Node] = field(default_factory=dict)
    texts: Texts = field(default_factory=Texts)
    histories: dict[EventFilter, EventHistory] = field(default_factory=dict)
    streams: list[Stream] = field(default_factory=list)
    place: dict[Aggregate, tuple[int, int]] = field(default_factory=dict)
    attributes: dict[str, Attribute] = field(default_factory=dict)
    gauges: list[Gauge] = field(default_factory=list)
    ladders: dict[Measure, int] = field(default_factory=dict)
    trees: list[Tree] = field(default_factory=list)
    rescans: list[Rescanned] = field(default_factory=list)
    marks: dict[Aggregate, list[str]] = field(default_factory=dict)
    gauge_of: dict[str, tuple[int, int]] = field(default_factory=dict)
    qualified: dict[str, Instants] = field(default_factory=dict)
    reach: Reach = field(default_factory=Reach)
    frozen: dict[Key, Frozen] = field(default_factory=dict)
    namers: dict[Join, EntityNamers] = field(default_factory=dict)
    broken: dict[Part, str] = field(default_factory=dict)
    pending: dict[Key, str] = field(default_factory=dict)
    groups: dict[int, object] = field(default_factory=dict)
    columns: dict[int, Columns] = field(default_factory=dict)
    single: frozenset[Key] = frozenset()
    single_gauges: Array = field(default_factory=lambda: np.zeros(0, np.bool_))

    def columns_of(self, gauge: int) -> Columns:
        """When members of a gauge's segments last entered or left, in the segments' order."""
        found = self.columns.get(gauge)
        if found is None:
            segments = self.gauges[gauge].layout.segments
            found = self.columns[gauge] = Columns([self.qualified[name] for name in segments])
        return found

    def forget_columns(self) -> None:
        """The segments' instants are in other columns now."""
        self.groups.clear()
        self.columns.clear()

    def degrade(self, part: Part, reason: str) -> None:
        """A part raised: it folds no more, and the rules that read it, and no others, are
        pending."""
        # In this order: who meets the silent operator then finds its readers pending.
        for key in self.readers_of(part):
            self.pending.setdefault(key, reason)
        self.broken[part] = reason
        if isinstance(part, Aggregate):
            stream, index = self.place[part]
            self.streams[stream].silence(index)

    def readers_of(self, part: Part) -> Iterator[Key]:
        """The planned rules that read a part. Cost: a walk over all rules."""
        for rule in self.plan.rules:
            if any(part_of(leaf) == part for leaf in leaves_of(rule.root)):
                yield rule.kind, rule.name

    def is_pending(self, gauge: Ladder) -> bool:
        """Whether none of the rules that read a ladder has an answer."""
        return bool(self.pending) and all(key in self.pending for key in gauge.readers)

    def values_of(self, kind: str) -> dict[str, Node]:
        """All rules of a kind as trees, for the reference evaluator."""
        return {name: tree for (of, name), tree in self.trees_of_rules.items() if of == kind}

    def current(self, leaf: Node, slots: Array) -> Vector | KeptRows:
        """A leaf's stored values, or kept events."""
        if isinstance(leaf, AggregateLeaf):
            stream, index = self.place[leaf.aggregate]
            return self.streams[stream].operators[index].current(slots)
        if isinstance(leaf, Kept):
            return self.histories[leaf.filter].gather(slots)
        assert isinstance(leaf, AttributeLeaf), leaf
        return self.attributes[leaf.key].current(slots)

    def timers(self) -> Iterator[Timer]:
        """The timers of trees and of ages; not those of rescans, nor of rules that failed."""
        for tree in self.trees:
            if tree.timer is not None and tree.rule.key not in self.pending:
                yield tree.timer
        for index in self.ladders.values():
            gauge = self.gauges[index]
            assert isinstance(gauge, Ladder)
            if gauge.timer is not None and not self.is_pending(gauge):
                yield gauge.timer

    def lines(self) -> Iterator[DelayLine]:
        """All lines in which the clock finds work of operators. What failed has none: nobody takes
        it off the lines any more."""
        for stream in self.streams:
            if not stream.is_silent:
                yield stream.enter
                yield stream.leave
        for timer in self.timers():
            yield timer.line

    def next_due(self) -> int:
        """The next instant at which the clock alone may change anything."""
        return min((line.first for line in self.lines()), default=FOREVER)
