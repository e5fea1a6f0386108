"""What a rulebook's state says: memberships by gauge, computed attributes as plain values."""

from __future__ import annotations

import numpy as np

from profile_actors.engine.columns import Array
from profile_actors.engine.rulebook import Rulebook
from profile_actors.rules.columns import Vector
from profile_actors.rules.plan import Rule
from profile_actors.rules.vector import Leaf, evaluate, plain

__all__ = ["computed_values", "leaf_of", "member_bits", "plain"]


def leaf_of(book: Rulebook, slots: Array) -> Leaf:
    """How evaluation reads the leaves of these slots: as they stand."""
    return lambda node: book.current(node, slots)


def member_bits(book: Rulebook, segment: str, slots: Array) -> Array:
    """Which slots are in a segment: by its gauge, or as they were when it was made inactive.

    bool[n]; all false for an unknown one.
    """
    if segment in book.gauge_of:
        index, column = book.gauge_of[segment]
        gauge = book.gauges[index]
        return np.asarray(gauge.layout.truth[gauge.level[slots], column])
    frozen = book.frozen.get(("segment", segment))
    return np.zeros(len(slots), np.bool_) if frozen is None else frozen.inside[slots]


def computed_values(book: Rulebook, rule: Rule, slots: Array, now: int) -> Vector:
    """A computed attribute's values as of the state."""
    return evaluate(rule.root, leaf_of(book, slots), len(slots), now)
