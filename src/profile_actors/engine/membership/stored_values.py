"""What a rulebook's state says: memberships by gauge, attributes as plain values and as bytes.

Theory: MessagePack has no decimals, and maps by numbers or decimals are none to most readers. So
those go as extension types, and a value comes back as what it was: of the same type, to the digit.
"""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import msgspec
import numpy as np

from profile_actors.columnar.vectors import Array, Vector
from profile_actors.engine.membership.rulebook import UNKNOWN, Rulebook
from profile_actors.rules.evaluation.planned_values import vector_of
from profile_actors.rules.evaluation.scalars import Leaf
from profile_actors.rules.semantics.values import PASSING
from profile_actors.rules.tree.plan import Rule

Ext = msgspec.msgpack.Ext


DECIMAL, PAIRS, NOT_KEPT, NOW = 1, 2, 3, 4
"""Extension types: a decimal's text; a map whose keys are not all texts; UNKNOWN; PASSING."""


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
    return vector_of(rule.root, leaf_of(book, slots), len(slots), now)


def shown(value: Any, now: int) -> Any:
    """A kept value as a caller sees it at ``now``."""
    if isinstance(value, list):
        return [shown(item, now) for item in value]
    if isinstance(value, dict):
        return {shown(key, now): shown(item, now) for key, item in value.items()}
    if value is UNKNOWN:
        return None
    return now if value is PASSING else value


def encode_values(values: dict[int, Any]) -> bytes:
    """Plain values by slot. Cost: Python per value, list item and map entry."""
    return msgspec.msgpack.encode([(slot, packed_value(values[slot])) for slot in sorted(values)])


def decode_values(data: bytes) -> dict[int, Any]:
    """Inverse of ``encode_values``."""
    return dict(_DECODER.decode(data))


def packed_value(value: Any) -> Any:
    """A plain value as MessagePack takes it. Inverse: ``unpacked_value`` as the ext_hook."""
    if isinstance(value, Decimal):
        return Ext(DECIMAL, str(value).encode())
    if isinstance(value, list):
        return [packed_value(item) for item in value]
    if isinstance(value, dict):
        if all(isinstance(key, str) for key in value):
            return {key: packed_value(item) for key, item in value.items()}
        pairs = [(packed_value(key), packed_value(item)) for key, item in value.items()]
        return Ext(PAIRS, msgspec.msgpack.encode(pairs))
    if value is UNKNOWN or value is PASSING:
        return Ext(NOT_KEPT if value is UNKNOWN else NOW, b"")
    return value


def unpacked_value(code: int, data: memoryview) -> Any:
    """What an extension type stands for."""
    if code == DECIMAL:
        return Decimal(bytes(data).decode())
    if code == PAIRS:
        return dict(_DECODER.decode(data))
    assert code in (NOT_KEPT, NOW), code
    return UNKNOWN if code == NOT_KEPT else PASSING


_DECODER = msgspec.msgpack.Decoder(ext_hook=unpacked_value)
