"""Who was one person at an earlier position of the ledger, by the evidence that it had then.

Theory: who belongs together is a function of the set of facts, so who did at an earlier position is
the definition over the facts that the log has below it. Linking rules are taken by their version:
on the event clock the ledger's log does not say when new ones came, partitions' logs do. Of one
person that is local: only pairs that count can bring somebody in, and whether a pair counts is
known from the facts at its two ends. So all evidence is kept as columns sorted by identity, which
are made from the ledger's log when somebody first asks, and go on from there; whoever is connected
with her by pairs that counted is visited, and ``linking.judged`` says the rest.

Limits: 40 bytes for each time that a pair was told, and 300 for each identity, once somebody has
asked. The first question reads the ledger's log once (some 5 us a pair told), later ones what has
come since. An answer costs her own evidence, and that of whoever is connected with her; of a value
that names nobody, since it stands with too many people, its pairs are counted.
"""

from __future__ import annotations

import threading
from bisect import bisect_right
from collections import Counter
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from profile_actors.columnar.vectors import Array
from profile_actors.definitions import catalogue_changes
from profile_actors.definitions.declared import Catalogue
from profile_actors.definitions.placeholders import is_placeholder
from profile_actors.engine.identity.evidence import limits_of, listed_of, priority_of
from profile_actors.engine.identity.linking import (
    FOREVER,
    NEVER,
    Cut,
    Fact,
    Judged,
    Member,
    Row,
    judged,
)
from profile_actors.engine.identity.messages import CUT, LINK, Named, Op, decode_ops
from profile_actors.engine.log.entry import read_mail
from profile_actors.engine.log.ports import Log

Together = tuple[list[Named], list[tuple[Named, Named, Judged]]]
"""The identities of a person, the canonical one first, and every pair at one of them, newest
first, with what became of it."""


class _Run(NamedTuple):
    """Pairs as told, each from both ends: sorted by ``one``, then as they came. one, other:
    int32[n], numbers of identities; time: int64[n] ms; position: int64[n] of the ledger's log."""

    one: Array
    other: Array
    time: Array
    position: Array


class PastEvidence:
    """All evidence of a ledger's log, by identity. Any thread."""

    def __init__(self, log: Log) -> None:
        self._log = log
        self._lock = threading.Lock()
        self._seen = 0
        self._numbers: dict[Named, int] = {}
        self._names: list[Named] = []
        self._runs: list[_Run] = []
        self._withdrawn: dict[tuple[int, ...], list[tuple[int, int]]] = {}
        self._definitions: list[tuple[int, Catalogue]] = []

    def person(self, named: Named, entries: int, version: int) -> Together:
        """Who was one person with an identity when the log had so many entries and definitions of a
        version were in force, and why. Raises CorruptLog."""
        with self._lock:
            self._follow(entries)
            number = self._numbers.get(named)
            if number is None:
                return [named], []
            return _Past(self, entries, self._catalogue(version)).person(number)

    def name(self, number: int) -> Named:
        """The identity of a number."""
        return self._names[number]

    def pairs(self, number: int, entries: int) -> dict[int, int]:
        """With whom an identity was told to stand by then, and the newest time of each."""
        others, times = [], []
        for run in self._runs:
            low, high = run.one.searchsorted((number, number + 1)).tolist()
            high = low + int(run.position[low:high].searchsorted(entries))
            others.append(run.other[low:high])
            times.append(run.time[low:high])
        if not others:
            return {}
        other, time = np.concatenate(others), np.concatenate(times)
        order = time.argsort(kind="stable")  # the newest comes last, and stays
        return dict(zip(other[order].tolist(), time[order].tolist(), strict=True))

    def withdrawn_until(self, target: tuple[int, ...], entries: int) -> int:
        """Up to which time evidence of a target (ascending) was withdrawn by then."""
        told = self._withdrawn.get(target, ())
        return max((time for position, time in told if position < entries), default=NEVER)

    def _catalogue(self, version: int) -> Catalogue:
        place = bisect_right(self._definitions, version, key=lambda one: one[0])
        return self._definitions[place - 1][1] if place else Catalogue()

    def _follow(self, entries: int) -> None:
        """Take what the log has below a position."""
        told: list[tuple[int, int, int, int]] = []
        try:
            for position in range(self._seen, entries):
                where = f"position {position} of the ledger"
                with self._log.view(position) as view:
                    envelope, mail = read_mail(view, where)
                received = decode_ops(mail.received_ops, where) if mail.received_ops else ()
                if envelope.definition:
                    known = catalogue_changes.decode(envelope.definition)
                    self._definitions.append((envelope.catalogue, known))
                for _, ops in received:
                    told += self._taken(ops, position)
                self._seen = position + 1
        finally:  # what was read before an entry that cannot be read is not read again
            if told:
                self._add(np.array(told, np.int64).T)

    def _taken(self, ops: tuple[Op, ...], position: int) -> Iterator[tuple[int, int, int, int]]:
        """The pairs that a message told; what it withdrew is noted."""
        for op in ops:
            if op.kind not in (LINK, CUT):
                continue
            assert op.one is not None, op
            one = self._number(op.one)
            other = None if op.other is None else self._number(op.other)
            if op.kind == LINK:
                assert other is not None, op
                yield one, other, op.version, position
            else:
                target = (one,) if other is None else (min(one, other), max(one, other))
                self._withdrawn.setdefault(target, []).append((position, op.version))

    def _number(self, named: Named) -> int:
        number = self._numbers.setdefault(named, len(self._names))
        if number == len(self._names):
            self._names.append(named)
        return number

    def _add(self, told: Array) -> None:
        """One run more; runs of about one size become one, so that there are few. told: int64[4, n]
        of one end, the other, time, position."""
        one, other, time, position = told
        ends = np.concatenate([one, other]), np.concatenate([other, one])
        self._runs.append(_sorted(*ends, np.tile(time, 2), np.tile(position, 2)))
        while len(self._runs) > 1 and len(self._runs[-2].one) <= 2 * len(self._runs[-1].one):
            newer, older = self._runs.pop(), self._runs.pop()
            columns = [np.concatenate(both) for both in zip(older, newer, strict=True)]
            self._runs.append(_sorted(*columns))


def _sorted(one: Array, other: Array, time: Array, position: Array) -> _Run:
    order = np.lexsort((position, one))
    return _Run(
        one[order].astype(np.int32), other[order].astype(np.int32), time[order], position[order]
    )


class _Past:
    """One question: all evidence below a position, under the definitions of then."""

    def __init__(self, evidence: PastEvidence, entries: int, catalogue: Catalogue) -> None:
        self._evidence = evidence
        self._entries = entries
        self._catalogue = catalogue
        self._limits = limits_of(catalogue)
        self._listed = listed_of(catalogue)
        self._pairs: dict[int, dict[int, int]] = {}
        self._parted: dict[int, int] = {}
        self._void: dict[int, bool] = {}

    def person(self, start: int) -> Together:
        near = self._connected(start)
        members = {self._member(number): number for number in near}
        facts: list[Fact] = []
        for number in near:
            for other, time in self._of(number).items():
                members.setdefault(self._member(other), other)
                pair = self._member(number), self._member(other)
                facts.append(Row(time, pair))
                facts += self._withdrawals(number, other)
        verdicts = judged(facts, self._limits)
        own = _group_of(self._member(start), verdicts)
        name = self._evidence.name
        found = [
            (name(members[one.pair[0]]), name(members[one.pair[1]]), one)
            for one in verdicts
            if not own.isdisjoint(one.pair)
        ]
        return [name(members[one]) for one in sorted(own)], found

    def _connected(self, start: int) -> dict[int, None]:
        """Whoever pairs that count lead to, and void ones beside them: beyond those none does."""
        seen, pending = {start: None}, [start]
        while pending:
            number = pending.pop()
            if self._is_void(number):
                continue
            for other, time in self._of(number).items():
                if other not in seen and self._counts(number, other, time):
                    seen[other] = None
                    pending.append(other)
        return seen

    def _of(self, number: int) -> dict[int, int]:
        found = self._pairs.get(number)
        if found is None:
            found = self._pairs[number] = self._evidence.pairs(number, self._entries)
        return found

    def _counts(self, one: int, other: int, time: int) -> bool:
        """Whether evidence of a pair is not withdrawn."""
        pair = self._evidence.withdrawn_until((min(one, other), max(one, other)), self._entries)
        return time > max(pair, self._parted_until(one), self._parted_until(other))

    def _parted_until(self, number: int) -> int:
        """Up to which time all evidence of an identity was withdrawn."""
        found = self._parted.get(number)
        if found is None:
            found = self._evidence.withdrawn_until((number,), self._entries)
            if is_placeholder(self._evidence.name(number).value, self._listed):
                found = FOREVER
            self._parted[number] = found
        return found

    def _is_void(self, number: int) -> bool:
        found = self._void.get(number)
        if found is None:
            people = Counter(
                self._evidence.name(other).namespace
                for other, time in self._of(number).items()
                if self._counts(number, other, time)
            )
            most = max((people[code] for code in self._limits.unique), default=0)
            found = self._void[number] = most > self._limits.max_people
        return found

    def _withdrawals(self, one: int, other: int) -> Iterator[Fact]:
        """What withdraws evidence of a pair."""
        pair = self._evidence.withdrawn_until((min(one, other), max(one, other)), self._entries)
        targets = ((one, other), pair), ((one,), self._parted_until(one))
        for ones, until in (*targets, ((other,), self._parted_until(other))):
            if until > NEVER:
                yield Cut(until, tuple(map(self._member, ones)))

    def _member(self, number: int) -> Member:
        named = self._evidence.name(number)
        priority = priority_of(self._catalogue, named.namespace)
        return Member(priority, named.k0 << 64 | named.k1, named.namespace)


def _group_of(start: Member, verdicts: list[Judged]) -> set[Member]:
    """The identities that used links put together with one."""
    near: dict[Member, list[Member]] = {}
    for found in verdicts:
        if found.verdict == "used":
            one, other = found.pair
            near.setdefault(one, []).append(other)
            near.setdefault(other, []).append(one)
    seen, pending = {start}, [start]
    while pending:
        for other in near.get(pending.pop(), ()):
            if other not in seen:
                seen.add(other)
                pending.append(other)
    return seen
