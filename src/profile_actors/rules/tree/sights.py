"""By which data a rule sees a profile: what a merge policy comes to for the planner.

Theory: a policy says in which order datasets are believed, and whose events count. For a leaf of
the profile that is an order of the datasets that state it, which becomes part of the leaf; so rules
of two policies share a leaf, and all that stands on it, wherever they agree. For events it is one
more condition on each, of the dataset that it is of.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from profile_actors.definitions.field_types import FieldType
from profile_actors.rules.tree.constants import BOOLEAN, STRING
from profile_actors.rules.tree.nodes import Call, Element, Field, Items, Literal, Node

DATASET = "@dataset"
"""What a condition calls the dataset of an event; no field of a schema can have the name."""


class View(NamedTuple):
    """By which data a profile is seen. order: of the datasets whose records count, the most trusted
    first; None: all, and the newest statement wins. events: the datasets whose events count; None:
    all. single: of one identity alone, whoever it is linked with."""

    order: tuple[str, ...] | None = None
    events: tuple[str, ...] | None = None
    single: bool = False


ALL = View()


@dataclass(frozen=True)
class Sight:
    """A view, as a rule is planned under it. stating: per path of the profile the datasets that
    have it."""

    view: View = ALL
    stating: Mapping[str, frozenset[str]] = field(default_factory=dict)

    def order_of(self, path: str) -> tuple[str, ...] | None:
        """The order of the datasets that state a path; None: all do, the newest wins."""
        if self.view.order is None:
            return None
        stating = self.stating.get(path, frozenset())
        order = tuple(name for name in self.view.order if name in stating)
        return None if len(order) == len(stating) == 1 else order

    @property
    def conditions(self) -> tuple[Node, ...]:
        """What must hold of an event to be seen."""
        if self.view.events is None:
            return ()
        subject = Field(Element(0), DATASET, type=STRING)
        names = [Literal(name, "string", type=STRING) for name in sorted(self.view.events)]
        if len(names) == 1:
            return (Call("=", (subject, names[0]), type=BOOLEAN),)
        array = FieldType("array", item=STRING)
        return (Call("in", (subject, Items(tuple(names), type=array)), type=BOOLEAN),)


EVERYTHING = Sight()
