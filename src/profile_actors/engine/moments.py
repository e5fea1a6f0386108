"""The values of rule inputs at the moments of one step: before it, at its virtual rows, at its end.

Theory: while a step is folded the columns still hold the state before it; each touched aggregate
has a Track beside them. A leaf's value at (slot, instant) is the last virtual row of the slot at
or before that instant, or the stored value. Everything a rule reads goes through here, so that a
look-ahead and an entry are one code path.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from profile_actors.engine.aggregates import Track
from profile_actors.engine.attributes import AttributeTrack
from profile_actors.engine.columns import Array, find
from profile_actors.engine.history import HistoryDelta, KeptRows
from profile_actors.engine.rulebook import Rulebook
from profile_actors.rules.columns import Vector
from profile_actors.rules.plan import Aggregate, AggregateLeaf, AttributeLeaf, EventFilter, Kept
from profile_actors.rules.tree import Node
from profile_actors.rules.vector import Leaf


@dataclass(slots=True)
class Moments:
    """The tracks of one step over a rulebook's columns."""

    book: Rulebook
    tracks: dict[Aggregate, Track]
    attributes: dict[str, AttributeTrack]
    histories: dict[EventFilter, HistoryDelta]

    def before(self, slots: Array) -> Leaf:
        """Leaves as they were before the step."""
        return lambda leaf: self.book.current(leaf, slots)

    def at_end(self, slots: Array) -> Leaf:
        """Leaves at the end of the step, for profiles with rows (or untouched ones)."""

        def leaf(node: Node) -> Vector | KeptRows:
            if isinstance(node, Kept):
                return self.kept(node.filter, slots)
            values = self.book.current(node, slots)
            assert isinstance(values, Vector)
            if isinstance(node, AggregateLeaf) and node.aggregate in self.tracks:
                track = self.tracks[node.aggregate]
                return patched(values, slots, track.slots, track.values)
            if isinstance(node, AttributeLeaf) and node.path in self.attributes:
                stated = self.attributes[node.path]
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
    times = np.unique(np.concatenate([track.clock_at, instants]))
    width = np.int64(len(times))
    keys = track.clock_slots.astype(np.int64) * width + np.searchsorted(times, track.clock_at)
    wanted = slots.astype(np.int64) * width + np.searchsorted(times, instants)
    index = np.searchsorted(keys, wanted, side="right") - 1
    hit = (index >= 0) & (track.clock_slots[index] == slots)
    return choose(hit, track.clock_values, np.maximum(index, 0), base)
