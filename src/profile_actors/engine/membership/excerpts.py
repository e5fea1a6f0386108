"""Excerpts: a rulebook of some profiles alone, as it was, to be folded by any thread.

Theory: a fold of some profiles reads their cells, their rows of the delay lines and their kept
events. The cells are few, and copied, under new numbers: a profile's place among those that were
asked. What profiles have much of lies in arrays that are never written again, so it is enough to
remember which those were; only references of distinct values are, and those tell whoever looks
(``distinct_values``). So to take an excerpt costs some calls per column, however much its profiles
hold, and what is folded from it delays nobody.

Law: what is folded from an excerpt is what the rulebook would have said when it was taken, whatever
is published meanwhile.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from copy import copy
from dataclasses import replace

from profile_actors.columnar.vectors import Array
from profile_actors.engine.membership.gauges import Gauge, Ladder
from profile_actors.engine.membership.rulebook import Rulebook
from profile_actors.engine.membership.timers import Timer
from profile_actors.engine.operators.aggregates import Additive, DoubleSum, Operator, Silent
from profile_actors.engine.operators.attribute_columns import Attribute
from profile_actors.engine.operators.delay_lines import DelayLine, FoundRows
from profile_actors.engine.operators.distinct_values import Distinct
from profile_actors.engine.operators.event_streams import AheadRows, Stream
from profile_actors.engine.operators.extremes import Extreme


class Excerpt:
    """What a rulebook has of some profiles. Taken under the partition's lock.

    slots: intp, ascending, unique. streams: the numbers of those that are read, and where their
    rows are as far as it is known; the others, and the gauges that neither a ladder nor a tree of
    the book has, must not be read.
    """

    def __init__(self, book: Rulebook, streams: Mapping[int, AheadRows], slots: Array) -> None:
        self._slots = slots
        self._lines: list[tuple[Stream | Timer, str, Callable[[], DelayLine]]] = []
        gauges, known = list(book.gauges), list(book.streams)
        for number, found in streams.items():
            known[number] = self._stream(known[number], found)
        shown = (*book.ladders.values(), *(tree.gauge for tree in book.trees if tree.gauge >= 0))
        for number in shown:
            gauges[number] = self._gauge(gauges[number])
        trees = [
            tree if tree.timer is None else replace(tree, timer=self._timer(tree.timer))
            for tree in book.trees
        ]
        self._book = replace(
            book,
            streams=known,
            gauges=gauges,
            trees=trees,
            attributes={path: self._attribute(one) for path, one in book.attributes.items()},
            histories={of: one.of_slots(slots) for of, one in book.histories.items()},
            pending=dict(
                book.pending
            ),  # after the streams: who is silent there has its reason here
            groups={},
            columns={},
        )

    def rulebook(self) -> Rulebook:
        """The rulebook of these profiles, whose slots are 0, 1, 2, … in their order. Without the
        lock; once. Cost: a pass over the chunks of the lines, and a copy of the profiles' rows."""
        for owner, name, made in self._lines:
            setattr(owner, name, made())
        self._lines.clear()
        return self._book

    def _line(self, owner: Stream | Timer, name: str, found: FoundRows) -> None:
        line: DelayLine = getattr(owner, name)
        self._lines.append((owner, name, line.of_slots(self._slots, found)))

    def _stream(self, stream: Stream, found: AheadRows) -> Stream:
        made = copy(stream)
        made.crew = None  # its columns are its own
        made.operators = [self._operator(one) for one in stream.operators]
        for name, rows in zip(("enter", "leave"), found, strict=True):
            self._line(made, name, rows)
        return made

    def _operator(self, operator: Operator) -> Operator:
        slots = self._slots
        if isinstance(operator, Distinct):
            return operator.of_slots(slots)
        made = copy(operator)
        if isinstance(made, Additive):
            made.lanes = [lane[slots] for lane in made.lanes]
            if isinstance(made, DoubleSum):
                totals = made.wide
                made.wide = {i: totals[s] for i, s in enumerate(slots.tolist()) if s in totals}
        elif isinstance(made, Extreme):
            made.cells = made.cells[slots]
            if made.presence is not None:
                made.has_none = made.has_none[slots]
        else:
            assert isinstance(made, Silent), made
        return made

    def _gauge(self, gauge: Gauge) -> Gauge:
        made = copy(gauge)
        made.level = gauge.level[self._slots]
        if isinstance(made, Ladder) and made.timer is not None:
            made.timer = self._timer(made.timer)
        return made

    def _timer(self, timer: Timer) -> Timer:
        made = copy(timer)
        made.due = timer.due[self._slots]
        self._line(made, "line", [])
        return made

    def _attribute(self, attribute: Attribute) -> Attribute:
        made, slots = copy(attribute), self._slots
        made.values = {name: column[slots] for name, column in attribute.values.items()}
        made.times = {name: column[slots] for name, column in attribute.times.items()}
        made.state = {name: column[slots] for name, column in attribute.state.items()}
        return made
