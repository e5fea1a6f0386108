"""The reference evaluator: slow, obvious, the whole language, with the value's valid_until.

Others import what is handed on here; the vectorised evaluator is checked against it.

Theory: a rule is evaluated at now, which also yields the first instant at which anything it read
could differ; there it is evaluated again, and so on, until the value itself differs (RULES §6).
Rules that it reads (``computed.x``, ``inSegment``) may be given as values or as trees; trees are
evaluated first, each at the same instants, and bring their own candidates.

Limits: the search ends LOOK_AHEAD after now, or after MAX_STEPS evaluations; in that case the
instant reached is answered, which is never later than the true one.
"""

from __future__ import annotations

from profile_actors.rules.reference.event_order import order_events
from profile_actors.rules.reference.validity import (
    LOOK_AHEAD,
    MAX_STEPS,
    evaluate_with_candidate,
    evaluate_with_validity,
    same,
    value_at,
)

__all__ = [
    "LOOK_AHEAD",
    "MAX_STEPS",
    "evaluate_with_candidate",
    "evaluate_with_validity",
    "order_events",
    "same",
    "value_at",
]
