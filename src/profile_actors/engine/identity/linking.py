"""Who is one person: THE definition, a pure function of the set of facts. Kept slow and obvious.

Theory: a *fact* is either a row, which names identities at an instant, or a cut, which withdraws
evidence up to an instant. A row is a star: evidence that its smallest identity (the most
person-like one, by namespace priority and key) belongs with each of its others, and none that its
others belong together. When a device has moved on to another person, an e-mail address that once
stood beside it stays where it was.

Of each pair only the newest evidence counts. Evidence up to a cut of the pair, or of either of its
identities, is withdrawn, whenever it arrives; newer evidence links again. An identity that is
linked with more people than ``max_people`` is *void* (a kiosk, test@test.com): none of its links
counts. What is left is taken newest first, and two groups become one if the rules allow the whole:
at most one identity of each unique namespace, at most ``max_size`` identities.

So the newest link of a device decides whose *all* its events are; a late older one moves nothing.
The answer depends on no order of arrival, since it is a function of a set.

``link_graph`` keeps the same answer up to date; this is what it is tested against. Source:
Kruskal's algorithm, newest evidence first, with unions that rules can forbid.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Literal, NamedTuple

import msgspec

UNNUMBERED = 1 << 31
"""The priority of a namespace that has none: after all numbered ones."""


FOREVER = 1 << 63
"""A cut at this instant withdraws evidence of any time: its value is a placeholder."""


NEVER = -(1 << 63)


class Member(msgspec.Struct, frozen=True, order=True, gc=False, cache_hash=True):
    """An identity as links order it: the smaller it is, the more person-like.

    priority: of its namespace. key: 128 bits. namespace: its code.
    """

    priority: int
    key: int
    namespace: str


Pair = tuple[Member, Member]
"""Two identities, the smaller one first."""


class Row(NamedTuple):
    """A fact: these identities stood together in a row of this time (epoch milliseconds)."""

    time: int
    members: tuple[Member, ...]


class Cut(NamedTuple):
    """A fact: evidence of a pair, or of all pairs of one identity, up to this time is withdrawn."""

    time: int
    target: tuple[Member, ...]


Fact = Row | Cut


class Limits(NamedTuple):
    """When links may not be followed. unique: namespaces of which a person has one identity."""

    unique: frozenset[str] = frozenset()
    max_size: int = 50_000
    max_people: int = 100


Verdict = Literal["used", "redundant", "skipped", "withdrawn", "void"]
"""What became of a link: it joins two groups; its identities are together without it; the rules
forbid what it would join; a cut withdrew it; one of its identities is void."""


class Judged(NamedTuple):
    """A link and its verdict. by: the rule that skipped it (a unique namespace, or ``max_size``),
    empty for other verdicts."""

    pair: Pair
    time: int
    verdict: Verdict
    by: str = ""


def pairs_of(members: Sequence[Member]) -> list[Pair]:
    """The star of a row: its smallest identity with each other one."""
    if len(members) == 2:  # as nearly all are
        one, other = members
        return [] if one == other else [(one, other) if one < other else (other, one)]
    hub, *others = sorted(set(members))
    return [(hub, other) for other in others]


def newest_evidence(facts: Iterable[Fact]) -> tuple[dict[Pair, int], dict[tuple[Member, ...], int]]:
    """Of each pair the newest evidence, and of each target the newest cut."""
    links: dict[Pair, int] = {}
    cuts: dict[tuple[Member, ...], int] = {}
    for fact in facts:
        if isinstance(fact, Row):
            for pair in pairs_of(fact.members):
                links[pair] = max(links.get(pair, NEVER), fact.time)
        else:
            target = tuple(sorted(fact.target))
            cuts[target] = max(cuts.get(target, NEVER), fact.time)
    return links, cuts


def withdrawn_until(pair: Pair, cuts: dict[tuple[Member, ...], int]) -> int:
    """Up to which time evidence of a pair is withdrawn."""
    one, other = pair
    return max(cuts.get(pair, NEVER), cuts.get((one,), NEVER), cuts.get((other,), NEVER))


def judged(facts: Iterable[Fact], limits: Limits) -> list[Judged]:
    """Every link there was ever evidence of, newest first, with what became of it."""
    newest, cuts = newest_evidence(facts)
    live = {pair for pair, time in newest.items() if time > withdrawn_until(pair, cuts)}
    void = _void(live, limits)
    block: dict[Member, set[Member]] = {}
    verdicts: list[Judged] = []
    for pair in sorted(newest, key=lambda pair: (-newest[pair], pair)):
        one, other = (block.setdefault(member, {member}) for member in pair)
        verdict: Verdict = "used"
        by = ""
        if pair not in live:
            verdict = "withdrawn"
        elif not void.isdisjoint(pair):
            verdict = "void"
        elif one is other:
            verdict = "redundant"
        elif by := forbidden_by(one, other, limits):
            verdict = "skipped"
        else:
            one |= other
            block.update(dict.fromkeys(other, one))
        verdicts.append(Judged(pair, newest[pair], verdict, by))
    return verdicts


def components(facts: Iterable[Fact], limits: Limits) -> dict[Member, frozenset[Member]]:
    """Each identity that a fact names, and the identities of the same person, itself included."""
    facts = list(facts)
    block = {
        member: {member}
        for fact in facts
        for member in (fact.members if isinstance(fact, Row) else fact.target)
    }
    for link in judged(facts, limits):
        if link.verdict == "used":
            one, other = (block[member] for member in link.pair)
            one |= other
            block.update(dict.fromkeys(other, one))
    return {member: frozenset(together) for member, together in block.items()}


def forbidden_by(one: set[Member], other: set[Member], limits: Limits) -> str:
    """The rule that forbids two groups to be one person, empty if they may be.

    Part of an allowed group is allowed: no rule asks for anything to be there.
    """
    taken = {member.namespace for member in one}
    twice = sorted(taken & {member.namespace for member in other} & limits.unique)
    if twice:
        return twice[0]
    return "max_size" if len(one) + len(other) > limits.max_size else ""


def _void(live: set[Pair], limits: Limits) -> set[Member]:
    """Identities linked directly with more than max_people identities of one unique namespace."""
    people: dict[tuple[Member, str], int] = defaultdict(int)
    for one, other in live:
        people[one, other.namespace] += 1
        people[other, one.namespace] += 1
    return {
        member
        for (member, namespace), count in people.items()
        if namespace in limits.unique and count > limits.max_people
    }
