"""What an entry can move of a rulebook: found by its event types, and by what has moved already.

Theory: a step must cost what it touches, not what is defined. So all readers are indexed once, when
a rulebook is made::

    event types of the rows, due lines -> streams, histories
    streams, attributes, histories     -> ladders, trees, marks of computed attributes
    ladders                            -> trees that are formulas over their levels
    due timers                         -> ages, trees

A new profile begins in every gauge, so it reaches all of them; marks it has none.

Law: what is not reached would not have changed, had it been visited (``tests/unit``: a rulebook
whose index reaches everything publishes the same).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from profile_actors.rules.tree.plan import EventFilter

Input = int | str | EventFilter
"""What a rule reads: a stream by number, an attribute by its path, a history by its filter."""


@dataclass(slots=True)
class TypeIndex:
    """Filters by number, found by event type. of_any: those that take in rows of any type."""

    by_type: dict[str, list[int]] = field(default_factory=dict)
    of_any: list[int] = field(default_factory=list)

    def add(self, number: int, types: frozenset[str] | None) -> None:
        """Take in a filter that pins these event types; None: none."""
        if types is None:
            self.of_any.append(number)
        for name in types or ():
            self.by_type.setdefault(name, []).append(number)

    def reached(self, types: frozenset[str]) -> set[int]:
        """The filters that may let through rows of these types."""
        found = set(self.of_any)
        for name in types:
            found.update(self.by_type.get(name, ()))
        return found


@dataclass(slots=True)
class Readers:
    """Ladders or trees by number, found by what they read. timed: those that the clock moves."""

    every: list[int] = field(default_factory=list)
    by_input: dict[Input, list[int]] = field(default_factory=dict)
    timed: list[int] = field(default_factory=list)

    def add(self, number: int, inputs: Iterable[Input], *, is_timed: bool) -> None:
        """Take in a reader of these inputs."""
        self.every.append(number)
        for one in inputs:
            self.by_input.setdefault(one, []).append(number)
        if is_timed:
            self.timed.append(number)

    def reached(self, moved: Iterable[Input]) -> set[int]:
        """Those that read something that moved."""
        found: set[int] = set()
        for one in moved:
            found.update(self.by_input.get(one, ()))
        return found


@dataclass(frozen=True, slots=True)
class Rungs:
    """A ladder whose measure is one aggregate of a stream. place: the aggregate's, in the
    stream."""

    ladder: int
    place: int


@dataclass(frozen=True, slots=True)
class Marked:
    """A computed attribute that is one aggregate of a stream, the one at this place."""

    name: str
    place: int


@dataclass(slots=True)
class Reach:
    """The indexes of one rulebook. climbs: per stream the ladders that are one of its aggregates;
    ladders: all others; trees: those that are no formulas; formulas: those that are, by ladder;
    marks: per stream. Ladders are numbered as gauges, trees in the rulebook's order."""

    streams: TypeIndex = field(default_factory=TypeIndex)
    histories: TypeIndex = field(default_factory=TypeIndex)
    climbs: dict[int, list[Rungs]] = field(default_factory=dict)
    ladders: Readers = field(default_factory=Readers)
    trees: Readers = field(default_factory=Readers)
    formulas: Readers = field(default_factory=Readers)
    marks: dict[int, list[Marked]] = field(default_factory=dict)


def in_order(found: Iterable[int], more: Sequence[int] = ()) -> list[int]:
    """Numbers ascending, each once."""
    return sorted({*found, *more})
