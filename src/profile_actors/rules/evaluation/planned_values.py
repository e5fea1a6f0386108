"""The values of planned rules, one per row: as a vector, and as plain Python values.

The engine asks here for what a rule is at an instant; when that next changes is ``horizons``.
"""

from __future__ import annotations

from decimal import Decimal
from itertools import pairwise
from typing import Any

import numpy as np

from profile_actors.columnar import kernels
from profile_actors.columnar.lists import Item, Many, bounds_of
from profile_actors.columnar.vectors import Array, Vector, widen
from profile_actors.definitions.field_types import FieldType
from profile_actors.rules.evaluation.frames import Frame
from profile_actors.rules.evaluation.scalars import Leaf
from profile_actors.rules.semantics.scalar_operators import EXACT
from profile_actors.rules.tree.nodes import Node


def vector_of(node: Node, leaf: Leaf, rows: int, now: int | Array) -> Vector:
    """The planned node's value in every row, as ``scalars.scalar_vector``, for arrays too.

    An array's or map's value is an object array of plain lists or dicts; that costs a Python loop
    over their elements.
    """
    return value_in(Frame(leaf, np.asarray(now, np.int64), rows), node)


def value_in(frame: Frame, node: Node) -> Vector:
    """``vector_of`` in an outermost frame that is made already, and may be asked for more."""
    kind = "" if node.type is None else node.type.kind
    if kind == "array":
        assert node.type is not None
        return _objects(_lists(frame.many(node), node.type))
    if kind == "map":
        assert node.type is not None
        mapped = frame.map(node)
        keys, values = plain_values(mapped.keys, None), plain_items(mapped.values, node.type.item)
        entries = list(zip(keys, values, strict=True))
        bounds = bounds_of(mapped.owner, mapped.rows).tolist()
        return _objects([dict(entries[a:b]) for a, b in pairwise(bounds)])
    found = frame.value(node)
    if found.values.dtype == object and kind != "decimal":
        found = kernels.fit(found.values, found.valid)
    return widen(found, frame.rows)


def _objects(values: list[Any]) -> Vector:
    out = np.empty(len(values), object)
    for place, value in enumerate(values):
        out[place] = value
    return Vector(out)


def _lists(many: Many, kind: FieldType) -> list[Any]:
    values = plain_items(many.item, kind.item)
    return [values[a:b] for a, b in pairwise(bounds_of(many.owner, many.rows).tolist())]


def plain_items(item: Item, kind: FieldType | None) -> list[Any]:
    """Elements as plain values, lists of lists included."""
    if isinstance(item, Many):
        assert kind is not None
        return _lists(item, kind)
    assert isinstance(item, Vector), "an event is no value"
    return plain_values(item, kind)


def plain_values(vector: Vector, kind: FieldType | None) -> list[Any]:
    """A vector as plain Python values, None where null. kind: its type."""
    values: list[Any] = vector.values.tolist()
    if vector.dictionary is not None:
        values = [vector.dictionary[code] for code in values]
    elif kind is not None and kind.kind == "decimal":
        values = [EXACT.scaleb(Decimal(value), -kind.scale) for value in values]
    if vector.valid is None:
        return values
    return [v if ok else None for v, ok in zip(values, vector.valid.tolist(), strict=True)]
