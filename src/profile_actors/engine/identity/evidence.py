"""What the rows of an entry say about who belongs together, and by which rules it is judged.

Theory: a row that names several identities is a star: its smallest one belongs with each other
(``linking``). Of an entry each pair is told once, with its newest time; what repeats costs nothing
further. Namespaces of things and of partners name no people: their identities are left out.
"""

from __future__ import annotations

from profile_actors.definitions.declared import Catalogue, LinkingRules
from profile_actors.engine.identity.linking import UNNUMBERED, Limits

LINKS_NOBODY = frozenset(("non_people", "partner"))
"""Kinds of namespaces whose identities are no people."""


def rules_of(catalogue: Catalogue) -> LinkingRules:
    """The linking rules in force."""
    return LinkingRules()


def limits_of(catalogue: Catalogue) -> Limits:
    """When links may not be followed, by these definitions."""
    rules = rules_of(catalogue)
    unique = frozenset(code for code, space in catalogue.namespaces.items() if space.unique)
    return Limits(unique, rules.max_size, rules.max_people)


def listed_of(catalogue: Catalogue) -> frozenset[str]:
    """The placeholders in force, as ``is_placeholder`` compares."""
    return frozenset(text.strip().lower() for text in rules_of(catalogue).placeholders)


def priority_of(catalogue: Catalogue, code: str) -> int:
    """Of a namespace's identities, as links order them."""
    space = catalogue.namespaces.get(code)
    return UNNUMBERED if space is None or space.priority is None else space.priority
