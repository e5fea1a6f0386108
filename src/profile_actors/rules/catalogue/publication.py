"""Which definitions are evaluated, and which a rule may read: published, drafts, inactive ones.

Theory: only published rules are planned and served, and only they can be read by others. Everything
that plans or checks a catalogue asks here for its rules, so that none can forget the difference.
"""

from __future__ import annotations

from collections.abc import Iterator

from msgspec import structs

from profile_actors.definitions.declared import Catalogue, ComputedAttribute, SegmentDefinition
from profile_actors.rules.tree.plan import STATES, Key


def rules_of(catalogue: Catalogue) -> Iterator[tuple[Key, SegmentDefinition | ComputedAttribute]]:
    """Every rule in any state, computed attributes first, each kind as the catalogue has it."""
    yield from ((("computed", name), rule) for name, rule in catalogue.computed.items())
    yield from ((("segment", name), rule) for name, rule in catalogue.segments.items())


def texts_of(catalogue: Catalogue, *, drafts: bool = False) -> dict[Key, str]:
    """The published rules' texts, with the drafts' if asked, in the order of ``rules_of``."""
    states = ("published", "draft") if drafts else ("published",)
    return {key: rule.rule for key, rule in rules_of(catalogue) if rule.state in states}


def withheld(catalogue: Catalogue) -> dict[Key, str]:
    """The rules that no other may read, each with its state."""
    return {key: rule.state for key, rule in rules_of(catalogue) if rule.state != "published"}


def revived(catalogue: Catalogue) -> Catalogue:
    """The catalogue as if every inactive rule were published, without the drafts."""
    return structs.replace(
        catalogue,
        segments={
            name: structs.replace(rule, state="published")
            for name, rule in catalogue.segments.items()
            if rule.state != "draft"
        },
        computed={
            name: structs.replace(rule, state="published")
            for name, rule in catalogue.computed.items()
            if rule.state != "draft"
        },
    )


def not_served(catalogue: Catalogue, key: Key) -> str | None:
    """Why a rule answers nothing: 'a draft', 'inactive'; None if it is published or unknown."""
    state = withheld(catalogue).get(key)
    return None if state is None else STATES[state]
