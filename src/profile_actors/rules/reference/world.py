"""What an evaluation reads: one profile's world, and what names mean at a point of the rule."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from profile_actors.rules.reference.moving_values import Bound
from profile_actors.rules.semantics.values import Value


@dataclass(frozen=True, slots=True)
class Around:
    """What bare names and ``^`` read at a place: elements, innermost last, without the profile."""

    elements: tuple[Value, ...] = ()
    names: Mapping[str, Value] = field(default_factory=dict)

    def within(self, element: Value) -> Around:
        return Around((*self.elements, element), self.names)

    def bind(self, name: str, value: Value) -> Around:
        return Around(self.elements, {**self.names, name: value})


TOP = Around()


@dataclass(frozen=True, slots=True)
class World:
    """What a rule may read. events: visible ones in order; next_event: timestamp of the first that
    is not yet. computed, segments: value and until when it holds."""

    profile: dict[str, Any]
    events: Sequence[dict[str, Any]]
    next_event: int | None
    computed: Mapping[str, tuple[Value, Bound]]
    segments: Mapping[str, tuple[bool, Bound]]
