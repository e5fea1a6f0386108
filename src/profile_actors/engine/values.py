"""What a rulebook's state says: memberships by gauge, computed attributes as plain values."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from typing import Any

import numpy as np

from profile_actors.engine.columns import Array
from profile_actors.engine.rulebook import Rulebook
from profile_actors.rules.columns import Vector
from profile_actors.rules.plan import Rule
from profile_actors.rules.tree import Node
from profile_actors.rules.vector import evaluate


def leaf_of(book: Rulebook, slots: Array) -> Callable[[Node], Vector]:
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


def plain(vector: Vector, kind: Any) -> list[Any]:
    """A vector as plain Python values, None where null."""
    values = vector.values.tolist()
    if vector.dictionary is not None:
        values = [vector.dictionary[code] for code in values]
    elif kind is not None and kind.kind == "decimal":
        values = [Decimal(value).scaleb(-kind.scale) for value in values]
    if vector.valid is None:
        return list(values)
    return [v if ok else None for v, ok in zip(values, vector.valid.tolist(), strict=True)]
