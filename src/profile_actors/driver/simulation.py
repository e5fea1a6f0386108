"""``pf.simulate``: who would be one person, by rows and rules, without a store.

Theory: the graph is ``engine.identity.link_graph``, as a store's will be, so that a rule does there
what it does here. Only keys differ: these are made with no store's seed, so where evidence of one
instant contradicts itself, or two namespaces have one priority, a store may choose otherwise.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import msgspec

from profile_actors.definitions.declared import NOT_PEOPLE, LinkingRules, Namespace
from profile_actors.definitions.definition_checks import checked
from profile_actors.definitions.placeholders import is_placeholder, listed
from profile_actors.driver.arguments import Instant, instant_ms
from profile_actors.engine.identity.identity import Identity
from profile_actors.engine.identity.link_graph import LinkGraph
from profile_actors.engine.identity.linking import (
    UNNUMBERED,
    Cut,
    Fact,
    Limits,
    Member,
    Row,
    Verdict,
)
from profile_actors.errors import CallerError
from profile_actors.ingest.identity_keys import key_of, normalised

Named = tuple[str, str] | Sequence[str] | Identity
"""An identity as callers give it: (namespace, value)."""


class SimulatedLink(msgspec.Struct, frozen=True):
    """Two identities that stood together, the newest time they did, and what became of it.

    verdict: used; redundant (they are together without it); skipped (by: the unique namespace of
    which a person has one identity, or ``max_size``); withdrawn (by an unlink); void (one of the
    two is linked with too many people).
    """

    one: Identity
    other: Identity
    at: int
    verdict: Verdict
    by: str = ""


class Simulation(msgspec.Struct, frozen=True):
    """What ``pf.simulate`` found.

    people: the identities of each person, the canonical one first. links: newest first.
    placeholders: values that were passed over, and how often.
    """

    people: list[tuple[Identity, ...]]
    links: list[SimulatedLink]
    placeholders: dict[Identity, int]

    def person(self, namespace: str, value: str) -> tuple[Identity, ...]:
        """The identities of one person, the canonical one first; empty if the value is unknown.

        value: as its namespace keeps it (``Namespace.normalize``).
        """
        asked = Identity(namespace, value)
        return next((person for person in self.people if asked in person), ())


def simulate(
    links: Iterable[Mapping[str, Any] | tuple[Instant, Sequence[Named]]],
    rules: LinkingRules | None = None,
    namespaces: Iterable[Namespace] = (),
) -> Simulation:
    """Say who would be one person. Arguments: what happened, in any order, and by which rules.

    links: rows ``(when, [(namespace, value), ...])``, or as mappings ``{"at": when, "identities":
    [...]}``, and ``{"at": when, "unlink": [one]}`` or ``[one, other]``, which withdraws evidence up
    to that instant. namespaces: those that the identities are of; one that is not among them is a
    ``cross_device`` namespace that is not unique and has no priority.

    Cost: some 20 us a link. Raises CallerError for a link that is none, and says which;
    DefinitionError for rules that are none.
    """
    world = _World(rules or LinkingRules(), namespaces)
    facts = [fact for number, link in enumerate(links) if (fact := world.fact(number, link))]
    graph = LinkGraph(world.limits)
    graph.fold(facts)
    members = {member for fact in facts for member in _members(fact)}
    lows = sorted({graph.canonical(member) for member in members})
    judged = {link.pair: link for low in lows for link in graph.judged(low)}
    return Simulation(
        [tuple(map(world.identity, sorted(graph.of(low)))) for low in lows],
        [
            SimulatedLink(
                world.identity(link.pair[0]),
                world.identity(link.pair[1]),
                link.time,
                link.verdict,
                link.by,
            )
            for link in sorted(judged.values(), key=lambda link: (-link.time, link.pair))
        ],
        world.placeholders,
    )


def _members(fact: Fact) -> tuple[Member, ...]:
    return fact.members if isinstance(fact, Row) else fact.target


class _World:
    """The namespaces and rules of one simulation, and the identities it has met."""

    def __init__(self, rules: LinkingRules, namespaces: Iterable[Namespace]) -> None:
        checked(rules)
        self.namespaces = {namespace.code: namespace for namespace in namespaces}
        unique = frozenset(code for code, space in self.namespaces.items() if space.unique)
        self.limits = Limits(unique, rules.max_size, rules.max_people)
        self.placeholders: dict[Identity, int] = {}
        self._listed = listed(rules.placeholders)
        self._identities: dict[Member, Identity] = {}

    def identity(self, member: Member) -> Identity:
        return self._identities[member]

    def fact(self, number: int, link: Any) -> Fact | None:
        """One link as a fact; None if it names nobody. Raises CallerError."""
        if isinstance(link, Mapping):
            kind = "unlink" if "unlink" in link else "identities"
            when, named = link.get("at"), link.get(kind)
        else:
            kind = "identities"
            when, named = link if isinstance(link, Sequence) and len(link) == 2 else (None, None)
        if when is None or not isinstance(named, Sequence) or isinstance(named, str):
            raise CallerError(
                'expected (when, [(namespace, value), ...]), {"at": when, "identities": [...]} or'
                f' {{"at": when, "unlink": [one, other]}}, got {link!r} - at link {number}'
            )
        try:
            time = instant_ms(when)
        except CallerError as error:
            raise CallerError(f"{error} - at link {number}") from None
        members = [member for one in named if (member := self._member(number, one))]
        if kind == "identities":
            return Row(time, tuple(members)) if members else None
        if len(named) not in (1, 2):
            raise CallerError(
                f"expected one identity or two to unlink, got {len(named)} - at link {number}"
            )
        return Cut(time, tuple(members)) if len(members) == len(named) else None

    def _member(self, number: int, named: Any) -> Member | None:
        """An identity as links order it; None for a placeholder or what is nobody's."""
        if isinstance(named, Identity):
            named = (named.namespace, named.value)
        match named:
            case [str(code), str(value)]:
                space = self.namespaces.get(code) or Namespace(code, "cross_device")
            case _:
                raise CallerError(
                    f"expected an identity (namespace, value), two texts, got {named!r} - at link"
                    f" {number}"
                )
        identity = Identity(code, normalised(space, value))
        if space.kind in NOT_PEOPLE:
            return None
        if is_placeholder(identity.value, self._listed):
            self.placeholders[identity] = self.placeholders.get(identity, 0) + 1
            return None
        high, low = key_of(space, identity.value, 0)
        priority = UNNUMBERED if space.priority is None else space.priority
        member = Member(priority, high << 64 | low, code)
        self._identities[member] = identity
        return member
