"""The values of rule inputs at the moments of one step: before it, at its virtual rows, at its end.

Theory: while a step is folded the columns still hold the state before it; each touched aggregate
has a Track beside them. A leaf's value at (slot, instant) is the last virtual row of the slot at
or before that instant, or the stored value. Everything a rule reads goes through here, so that a
look-ahead and an entry are one code path.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from profile_actors.columnar.runs import find
from profile_actors.columnar.slot_pairs import distinct_pairs, slots_of_all, upto
from profile_actors.columnar.vectors import Array, Vector
from profile_actors.engine.histories.kept_events import HistoryDelta, KeptRows
from profile_actors.engine.membership.rulebook import Rulebook
from profile_actors.engine.operators.aggregates import Track
from profile_actors.engine.operators.attribute_columns import AttributeTrack
from profile_actors.engine.operators.crews import CrewDelta
from profile_actors.rules.evaluation.scalars import Leaf
from profile_actors.rules.tree.nodes import Node
from profile_actors.rules.tree.plan import (
    Aggregate,
    AggregateLeaf,
    AttributeLeaf,
    EventFilter,
    Kept,
)

Pairs = tuple[Array, Array]


OfStream = list[Track | None]


class Tracks:
    """The tracks of the streams that moved in a step, by number. alone: of those that went alone.
    crews: of those that went together, each with the members' numbers; their own are cut out when
    they are asked for."""

    def __init__(
        self, alone: dict[int, OfStream], crews: Sequence[tuple[CrewDelta, list[int]]] = ()
    ) -> None:
        self.alone, self.crews = alone, crews
        self.in_crews = {
            members[place]: (step, place) for step, members in crews for place in step.places
        }
        self._numbers = sorted((*alone, *self.in_crews))
        self._own: dict[int, OfStream] = {}

    def numbers(self) -> list[int]:
        """The streams that moved, ascending."""
        return self._numbers

    def of(self, number: int) -> OfStream | None:
        """The tracks of a stream; None of one that did not move."""
        if number not in self.in_crews:
            return self.alone.get(number)
        found = self._own.get(number)
        if found is None:
            step, place = self.in_crews[number]
            found = self._own[number] = step.tracks_of(place)
        return found


FEW_KNOWN = 32
"""So many unions and gathered leaves are kept at a time: rules that read the same come in turn."""


@dataclass(slots=True)
class Moments:
    """The tracks of one step over a rulebook's columns."""

    book: Rulebook
    streams: Tracks
    attributes: dict[str, AttributeTrack]
    histories: dict[EventFilter, HistoryDelta]
    _unions: dict[object, tuple[Array, Pairs]] = field(default_factory=dict)
    _leaves: dict[tuple[int, Node], tuple[Array, Vector]] = field(default_factory=dict)
    _tracks: dict[Aggregate, Track] | None = None

    @property
    def tracks(self) -> dict[Aggregate, Track]:
        """The tracks of the streams that moved, by what they track."""
        if self._tracks is None:
            self._tracks = _by_aggregate(self.book, self.streams)
        return self._tracks

    def touched(
        self,
        aggregates: tuple[Aggregate, ...],
        attributes: tuple[str, ...],
        more: Array,
        histories: tuple[EventFilter, ...] = (),
    ) -> tuple[Array, Pairs]:
        """(slots with rows that may have moved some of these, the (slot, instant) pairs of others).

        more: further slots with rows, the same array in every call of a step. Both ascending. Equal
        answers are the same arrays, as long as they are remembered.
        """
        tracks = [self.tracks[a] for a in aggregates if a in self.tracks]
        parts = [track.slots for track in tracks if len(track.slots)]
        parts += [self.attributes[p].slots for p in attributes if p in self.attributes]
        parts += [self.histories[h].slots for h in histories if h in self.histories]
        clocks = [track for track in tracks if len(track.clock_slots)]
        # Aggregates of one stream share their arrays.
        key = (
            frozenset(id(part) for part in (*parts, more)),
            frozenset((id(track.clock_slots), id(track.clock_at)) for track in clocks),
        )
        known = self._unions.get(key)
        if known is None:
            pairs = _none_of_pairs()
            if clocks:
                pairs = distinct_pairs(
                    np.concatenate([track.clock_slots for track in clocks]),
                    np.concatenate([track.clock_at for track in clocks]),
                )
            known = slots_of_all([*parts, more]), pairs
            _remember(self._unions, key, known)
        return known

    def before(self, slots: Array) -> Leaf:
        """Leaves as they were before the step."""
        return lambda leaf: self.book.current(leaf, slots)

    def at_end(self, slots: Array) -> Leaf:
        """Leaves at the end of the step, for profiles with rows (or untouched ones)."""

        def leaf(node: Node) -> Vector | KeptRows:
            if isinstance(node, Kept):
                return self.kept(node.filter, slots)
            key = (id(slots), node)  # the slots stay alive beside what was gathered for them
            known = self._leaves.get(key)
            if known is None:
                known = slots, ended(node)
                _remember(self._leaves, key, known)
            return known[1]

        def ended(node: Node) -> Vector:
            values = self.book.current(node, slots)
            assert isinstance(values, Vector)
            if isinstance(node, AggregateLeaf) and node.aggregate in self.tracks:
                track = self.tracks[node.aggregate]
                return patched(values, slots, track.slots, track.values)
            if isinstance(node, AttributeLeaf) and node.key in self.attributes:
                stated = self.attributes[node.key]
                return patched(values, slots, stated.slots, stated.values)
            return values

        return leaf

    def kept(self, events: EventFilter, slots: Array) -> KeptRows:
        """A history's events at the end of the step."""
        return self.book.histories[events].gather(slots, self.histories.get(events))

    def max_enter(self, events: EventFilter) -> int:
        """No event of the history enters later, the step's own included."""
        delta = self.histories.get(events)
        return self.book.histories[events].max_enter if delta is None else delta.max_enter

    def at(self, slots: Array, instants: Array) -> Leaf:
        """Leaves at (slot, instant) of profiles without rows in the step."""

        def leaf(node: Node) -> Vector | KeptRows:
            if isinstance(node, Kept):
                return self.kept(node.filter, slots)
            values = self.book.current(node, slots)
            assert isinstance(values, Vector)
            if isinstance(node, AggregateLeaf) and node.aggregate in self.tracks:
                track = self.tracks[node.aggregate]
                if len(track.clock_slots):
                    return _as_of(values, slots, instants, track)
            return values

        return leaf


def _by_aggregate(book: Rulebook, tracks: Tracks) -> dict[Aggregate, Track]:
    return {
        op.aggregate: track
        for number in tracks.numbers()
        for op, track in zip(book.streams[number].operators, tracks.of(number) or (), strict=True)
        if track is not None
    }


def patched(base: Vector, slots: Array, new_slots: Array, new: Vector) -> Vector:
    """``base`` with the values of ``new_slots`` (sorted, unique) put in where they occur."""
    index, hit = find(new_slots, slots)
    if not hit.any():
        return base
    return choose(hit, new, index, base)


def choose(hit: Array, new: Vector, index: Array, base: Vector) -> Vector:
    """Per row ``new[index]`` where hit, else ``base``."""
    if new.dictionary is not None and base.dictionary is not None:
        shift = len(base.dictionary)
        values = np.where(hit, new.values[index] + shift, base.values).astype(np.int32)
        dictionary: tuple[str, ...] | None = (*base.dictionary, *new.dictionary)
    else:
        values = np.where(hit, new.values[index], base.values)
        dictionary = None
    if new.valid is None and base.valid is None:
        return Vector(values, None, dictionary)
    new_valid = True if new.valid is None else new.valid[index]
    base_valid = True if base.valid is None else base.valid
    return Vector(values, np.where(hit, new_valid, base_valid), dictionary)


def _as_of(base: Vector, slots: Array, instants: Array, track: Track) -> Vector:
    """The track's last virtual row of each slot at or before its instant, else the stored value."""
    index = upto(track.clock_slots, track.clock_at, slots, instants) - 1
    hit = (index >= 0) & (track.clock_slots[index] == slots)
    return choose(hit, track.clock_values, np.maximum(index, 0), base)


def _none_of_pairs() -> Pairs:
    return np.zeros(0, np.intp), np.zeros(0, np.int64)


def _remember(known: dict[Any, Any], key: object, value: object) -> None:
    while len(known) >= FEW_KNOWN:
        del known[next(iter(known))]
    known[key] = value
