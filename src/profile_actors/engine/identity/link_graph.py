"""Who is one person, kept up to date: equal to ``linking.components`` after every fold.

Theory, with P the answer so far and e a link that comes new, of any age:

    1  both ends are in one group of P          the answer stays
    2  their groups may be one person           the answer is P with the two united
    3  else, and for a link that goes           replay: the groups it touches are taken apart, and
                                                their live links followed again, newest first

1 and 2 hold because part of an allowed group is allowed. A replay is local and exact: a link that
leads out of the groups taken apart is followed only if the group it starts at could be one person
with that single identity outside; then the group there is taken apart as well and the replay begins
again; else nothing outside can change. A link is skipped exactly if its ends are in different
groups at last, since what is forbidden once is forbidden for every larger group.

Cost: some 10 us of Python a new link, one comparison a repeated one; a replay costs the links of
the groups it takes apart. Memory: some 500 bytes a link. Not thread-safe: its owner has a lock.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from profile_actors.engine.identity.linking import (
    NEVER,
    Cut,
    Fact,
    Judged,
    Limits,
    Member,
    Pair,
    Row,
    Verdict,
    forbidden_by,
    pairs_of,
)


class Group(set[Member]):
    """Identities of one person. low: the smallest. taken: of which unique namespaces it has one."""

    __slots__ = ("low", "taken")
    low: Member
    taken: frozenset[str]


def alone(member: Member, unique: frozenset[str]) -> Group:
    """The group of one identity. Made for each that is met: no ``__init__``, whose call is half."""
    group = Group((member,))
    group.low = member
    group.taken = frozenset((member.namespace,)) if member.namespace in unique else NOTHING
    return group


NOTHING: frozenset[str] = frozenset()


class LinkGraph:
    """The facts so far, and who is one person by them. people: of two identities or more."""

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self.replays = 0
        self.replayed_links = 0
        self.people = 0
        self._skipped: set[Pair] = set()
        self._newest: dict[Pair, int] = {}
        self._cuts: dict[tuple[Member, ...], int] = {}
        self._pairs: defaultdict[Member, set[Pair]] = defaultdict(set)
        self._people: dict[tuple[Member, str], int] = {}  # linked with, of a unique namespace
        self._void: set[Member] = set()
        self._groups: dict[Member, Group] = {}

    def of(self, member: Member) -> frozenset[Member]:
        """The identities of one person, the one asked for included."""
        return frozenset(self._groups.get(member, (member,)))

    def canonical(self, member: Member) -> Member:
        """The smallest identity of the person."""
        group = self._groups.get(member)
        return member if group is None else group.low

    def size_of(self, member: Member) -> int:
        """How many identities the person has."""
        group = self._groups.get(member)
        return 1 if group is None else len(group)

    def linked(self, member: Member) -> set[Member]:
        """The identities that there ever was evidence of beside this one."""
        return {end for pair in self._pairs.get(member, ()) for end in pair if end != member}

    @property
    def links(self) -> int:
        """Pairs that there ever was evidence of."""
        return len(self._newest)

    def skipped(self) -> Counter[str]:
        """How many links each rule forbids, by what ``Judged.by`` says. Cost: a step a link."""
        return Counter(self._rule_between(*map(self._group, pair)) for pair in self._skipped)

    def facts(self) -> Iterator[Fact]:
        """Facts that say the same as all there were: of each pair and target the newest."""
        yield from (Row(time, pair) for pair, time in self._newest.items())
        yield from (Cut(time, target) for target, time in self._cuts.items())

    def image(self) -> tuple[Any, ...]:
        """All of it, copied, for ``to_plain``."""
        return (*self.copied(), set(self._skipped), set(self._void))

    @staticmethod
    def to_plain(image: tuple[Any, ...], number: Mapping[Member, int]) -> list[Any]:
        """For a checkpoint: lists of integers. number: of each identity. Cost: some 1 us a link."""
        newest, cuts, lows, skipped, void = image
        return [
            [number[one] for one, _ in newest],
            [number[other] for _, other in newest],
            list(newest.values()),
            [([number[one] for one in target], time) for target, time in cuts.items()],
            [number[lows.get(member, member)] for member in number],
            [place for place, pair in enumerate(newest) if pair in skipped],
            [number[member] for member in void],
        ]

    def restore(self, members: Sequence[Member], plain: Sequence[Any]) -> None:
        """What ``image`` saw, into one that is empty. members: by number. Cost: some 3 us a
        link."""
        ones, others, times, cuts, lows, skipped, void = plain
        pairs = [(members[one], members[other]) for one, other in zip(ones, others, strict=True)]
        self._newest = dict(zip(pairs, times, strict=True))
        self._cuts = {tuple(members[one] for one in target): time for target, time in cuts}
        self._skipped = {pairs[place] for place in skipped}
        self._void = {members[one] for one in void}
        unique = self.limits.unique
        for pair in pairs:
            one, other = pair
            self._pairs[one].add(pair)
            self._pairs[other].add(pair)
            counted = [end for end in pair if end.namespace in unique]
            if counted and (not cuts or self._has_evidence(pair)):
                for end in counted:
                    beside = other if end is one else one, end.namespace
                    self._people[beside] = self._people.get(beside, 0) + 1
        for member, low in zip(members, lows, strict=True):
            group = self._group(members[low])
            if member not in group:
                group.add(member)
                if member.namespace in unique:
                    group.taken |= {member.namespace}
                self._groups[member] = group
        self.people = _people(self._groups.values())

    def copied(self) -> tuple[dict[Pair, int], dict[tuple[Member, ...], int], dict[Member, Member]]:
        """The newest time of each link and of each cut, and the canonical identity of each that
        evidence names; to be kept by who looks on. Cost: some 0.2 us a link."""
        lows = {member: group.low for member, group in self._groups.items()}
        return dict(self._newest), dict(self._cuts), lows

    def fold(self, facts: Iterable[Fact]) -> set[Member]:
        """Take facts in, in any order, repeated or not.

        Returns the identities whose canonical identity may be another one now.
        """
        was_live = self._note(facts)
        changed: set[Member] = set()
        hard: list[Pair] = []
        groups, skipped = self._groups, self._skipped
        for pair, was in was_live.items():
            one = groups.get(pair[0]) or self._group(pair[0])
            other = groups.get(pair[1]) or self._group(pair[1])
            if skipped:
                skipped.discard(pair)
            if not self._is_live(pair):
                if was and one is other:  # what was skipped is missed by nobody
                    hard.append(pair)
            elif one is not other:
                if self._fits(one, other):
                    self.people += 1 - (len(one) > 1) - (len(other) > 1)
                    changed |= self._unite(groups, one, other)
                else:
                    hard.append(pair)
        judged = set(hard)
        for region in self._regions(hard):
            apart = self._replay(region)
            changed |= apart
            judged.update(pair for one in apart for pair in self._pairs.get(one, ()))
        for pair in judged:
            one, other = map(self._group, pair)
            if one is not other and self._is_live(pair):
                self._skipped.add(pair)
            else:
                self._skipped.discard(pair)
        return changed

    def renew(self, pair: Pair, time: int) -> bool:
        """Whether a link counts and is between two of one person. If so this is evidence of it,
        and ``fold`` need not be told: nobody's person changes. Cost: a microsecond."""
        newest = self._newest.get(pair)
        if newest is None or ((self._void or self._cuts) and not self._is_live(pair)):
            return False
        one = self._groups.get(pair[0])
        if one is None or one is not self._groups.get(pair[1]):
            return False
        if time > newest:
            self._newest[pair] = time
        return True

    def judged(self, member: Member) -> list[Judged]:
        """Every link at one person's identities, newest first, with what became of it."""
        own = self.of(member)
        wanted = {pair for one in own for pair in self._pairs.get(one, ())}
        region = own.union(*(self.of(end) for pair in wanted for end in pair))
        inside = {
            pair
            for one in region
            for pair in self._pairs.get(one, ())
            if self._is_live(pair) and self.canonical(pair[0]) == self.canonical(pair[1])
        }
        groups = {one: alone(one, self.limits.unique) for one in region}
        verdicts: list[Judged] = []
        for pair in self._newest_first(inside | wanted):
            verdict, by = self._verdict(pair, groups)
            if verdict == "used":
                self._unite(groups, groups[pair[0]], groups[pair[1]])
            if pair in wanted:
                verdicts.append(Judged(pair, self._newest[pair], verdict, by))
        return verdicts

    def _verdict(self, pair: Pair, groups: dict[Member, Group]) -> tuple[Verdict, str]:
        if not self._has_evidence(pair):
            return "withdrawn", ""
        if not self._void.isdisjoint(pair):
            return "void", ""
        one, other = groups[pair[0]], groups[pair[1]]
        if one is other:
            return "redundant", ""
        by = forbidden_by(one, other, self.limits)
        return ("skipped", by) if by else ("used", "")

    def _note(self, facts: Iterable[Fact]) -> dict[Pair, bool]:
        """Add facts; returns each link they reach, and whether it counted before."""
        reached: dict[Pair, bool] = {}
        had_evidence: dict[Pair, bool] = {}
        newest = self._newest

        def reach(pair: Pair) -> None:
            if pair not in reached:
                had_evidence[pair] = pair in newest and self._has_evidence(pair)
                reached[pair] = had_evidence[pair] and self._void.isdisjoint(pair)

        for fact in facts:
            if isinstance(fact, Row):
                for pair in pairs_of(fact.members):
                    known = newest.get(pair)
                    if known is None:
                        reached[pair] = had_evidence[pair] = False
                        newest[pair] = fact.time
                        for member in pair:
                            self._pairs[member].add(pair)
                    elif fact.time > known:
                        reach(pair)
                        newest[pair] = fact.time
            else:
                target = tuple(sorted(fact.target))
                if fact.time > self._cuts.get(target, NEVER):
                    for pair in self._pairs.get(target[0], ()):
                        if len(target) == 1 or pair == target:
                            reach(pair)
                    self._cuts[target] = fact.time
        toggled = self._count_people(had_evidence)
        for member in toggled:
            for pair in self._pairs[member]:
                reach(pair)
        self._void ^= toggled
        return reached

    def _count_people(self, had_evidence: dict[Pair, bool]) -> set[Member]:
        """Bring the counts of directly linked people up to date; returns who is void now and was
        not, or was and is not."""
        unique, most, people = self.limits.unique, self.limits.max_people, self._people
        concerned: set[Member] = set()
        for pair, had in had_evidence.items():
            step = self._has_evidence(pair) - had
            if not step:
                continue
            one, other = pair
            for member, namespace in ((one, other.namespace), (other, one.namespace)):
                if namespace in unique:
                    beside = member, namespace
                    before = people.get(beside, 0)
                    people[beside] = before + step
                    if (before > most) != (before + step > most):
                        concerned.add(member)
        return {
            member
            for member in concerned
            if any(people.get((member, one), 0) > most for one in unique) != (member in self._void)
        }

    def _has_evidence(self, pair: Pair) -> bool:
        cuts = self._cuts
        if not cuts:
            return True  # there is nothing that could have withdrawn it
        one, other = pair
        until = max(cuts.get(pair, NEVER), cuts.get((one,), NEVER), cuts.get((other,), NEVER))
        return self._newest[pair] > until

    def _is_live(self, pair: Pair) -> bool:
        return self._void.isdisjoint(pair) and self._has_evidence(pair)

    def _group(self, member: Member) -> Group:
        group = self._groups.get(member)
        if group is None:
            group = self._groups[member] = alone(member, self.limits.unique)
        return group

    def _fits(self, one: Group, other: Group) -> bool:
        """``linking.forbidden_by`` forbids nothing, in the time of the namespaces."""
        return one.taken.isdisjoint(other.taken) and len(one) + len(other) <= self.limits.max_size

    @staticmethod
    def _rule_between(one: Group, other: Group) -> str:
        """``linking.forbidden_by`` of groups that do not fit, in the time of the namespaces."""
        return min(one.taken & other.taken, default="max_size")

    @staticmethod
    def _unite(groups: dict[Member, Group], one: Group, other: Group) -> set[Member]:
        """Two groups are one person; returns the identities whose canonical one is new."""
        changed = set(other if one.low < other.low else one)
        low = min(one.low, other.low)
        if len(one) < len(other):
            one, other = other, one
        one |= other
        one.taken |= other.taken
        one.low = low
        for member in other:
            groups[member] = one
        return changed

    def _newest_first(self, pairs: Iterable[Pair]) -> list[Pair]:
        return sorted(pairs, key=lambda pair: (-self._newest[pair], pair))

    def _regions(self, pairs: list[Pair]) -> list[set[Member]]:
        """The groups at the pairs' ends; groups that one pair touches are in one region."""
        together: dict[Member, set[Member]] = {}
        for pair in pairs:
            lows = {self._group(member).low for member in pair}
            joined = set().union(*(together.get(low, {low}) for low in lows))
            together.update(dict.fromkeys(joined, joined))
        distinct = {id(lows): lows for lows in together.values()}.values()
        return [set().union(*(self._groups[low] for low in lows)) for lows in distinct]

    def _replay(self, region: set[Member]) -> set[Member]:
        """Take the region's groups apart and follow its links again; returns what it took apart."""
        self.replays += 1
        region = set(region)
        while True:
            links = {
                pair for one in region for pair in self._pairs.get(one, ()) if self._is_live(pair)
            }
            self.replayed_links += len(links)
            groups = {one: alone(one, self.limits.unique) for one in region}
            outside: set[Member] = set()
            for pair in self._newest_first(links):
                one, other = groups.get(pair[0]), groups.get(pair[1])
                if one is None or other is None:
                    inner, end = (other, pair[0]) if one is None else (one, pair[1])
                    assert inner is not None
                    if self._fits(inner, alone(end, self.limits.unique)):
                        outside |= self._group(end)
                elif one is not other and self._fits(one, other):
                    self._unite(groups, one, other)
            if not outside:
                self.people -= _people(self._groups[one] for one in region)
                self.people += _people(groups.values())
                self._groups.update(groups)
                return region
            region |= outside


def _people(groups: Iterable[Group]) -> int:
    """How many different groups have two identities or more."""
    return len({id(group) for group in groups if len(group) > 1})
