"""The ledger says what the definition says after every entry, and loses and repeats nothing.

Worlds are those of the graph's test; here evidence comes in messages of two partitions, which may
come twice or too early, homes publish in any order and late, and the ledger may die before or after
each write and is opened again from its log.
"""

from __future__ import annotations

import random
from collections import defaultdict

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from profile_actors.definitions.declared import Catalogue, Namespace
from profile_actors.engine.identity.ledger import Ledger
from profile_actors.engine.identity.linking import Cut, Fact, Member, Row, components
from profile_actors.engine.identity.messages import (
    CUT,
    HOME,
    LINK,
    PUBLISHED,
    SETTLED,
    Message,
    Named,
    Op,
)
from tests.property.test_link_graph import pairs_members, world
from tests.sim.faulty_log import Crashed, FaultyDisk, FaultyLog

ASSIGNMENT = np.arange(4096, dtype=np.int32) % 2


def named(member: Member) -> Named:
    return Named((member.key % 2) << 52, member.key, member.namespace, f"v{member.key}")


class World:
    """Two partitions' worth of evidence, the ledger's disk, and what homes were told."""

    def __init__(self, seed: int) -> None:
        self.chance = random.Random(seed)
        facts, limits = world(self.chance)
        self.unique = limits.unique & {"CRMID", "Email"}
        members = sorted({m for fact in facts for m in pairs_members(fact)})
        second = next((m.priority for m in members if m.namespace == "Email"), 2)
        self.priorities = {"CRMID": 1, "Email": second, "ECID": 3}
        self.catalogue = self.definitions(1)
        self.outboxes: dict[str, list[Message]] = {"0": [], "1": []}
        for fact in facts:
            self.tell(self.chance.choice("01"), self.ops(fact))
        self.taken: dict[str, int] = {"0": 0, "1": 0}
        self.disk = FaultyDisk()
        self.dies = ""
        self.open()
        self.heard: dict[str, list[Message]] = {"0": [], "1": []}
        self.books: defaultdict[tuple[Named, int], dict[Named, int]] = defaultdict(dict)
        self.assigned: dict[Named, tuple[int, tuple[Named, int]]] = {}
        self.unpublished: set[tuple[tuple[Named, int], Named, int]] = set()
        self.settled: set[tuple[str, int]] = set()

    def definitions(self, version: int) -> Catalogue:
        spaces = {
            code: Namespace(code, "cross_device", code in self.unique, priority)
            for code, priority in self.priorities.items()
        }
        return Catalogue(version, spaces)

    def ops(self, fact: Fact) -> list[Op]:
        if isinstance(fact, Row):
            hub, *others = sorted(set(fact.members))
            return [Op(LINK, named(hub), named(o), version=fact.time) for o in others]
        one, other = (*map(named, fact.target), None)[:2]
        return [Op(CUT, one, other, version=min(fact.time, 1 << 60))]

    def tell(self, source: str, ops: list[Op]) -> None:
        if ops:
            box = self.outboxes[source]
            box.append(Message(source, len(box) + 1, len(box), 1, tuple(ops)))

    def open(self) -> None:
        def crash(point: str) -> None:
            if point == self.dies:
                self.dies = ""
                raise Crashed

        log = FaultyLog(self.disk, epoch=self.disk.epoch + 1, crash_point=crash)
        self.ledger = Ledger(log, ASSIGNMENT, epoch=self.disk.epoch)
        for source, number in self.ledger.mailbox.cursors().items():
            self.taken[source] = number

    def commit(self, mail: list[Message]) -> None:
        if self.chance.random() < 0.3:
            self.dies = self.chance.choice(["log.before_put", "log.after_commit"])
        try:
            self.ledger.commit(mail, None, self.catalogue)
        except Crashed:
            self.open()
        self.dies = ""
        for source in "01":
            self.taken[source] = self.ledger.mailbox.cursor(source)

    def some_mail(self) -> list[Message]:
        """The next messages of each source, and some that are repeats or come too early."""
        mail: list[Message] = []
        for source in "01":
            start = max(0, self.taken[source] + self.chance.choice((-2, 0, 0, 0, 1)))
            mail += self.outboxes[source][start : start + self.chance.choice((0, 1, 2, 9))]
        self.chance.shuffle(mail)
        return mail if self.chance.random() < 0.2 else sorted(mail, key=lambda m: m.number)

    def listen(self) -> None:
        """What partitions are told: each number once, each identity once per book."""
        for to, heard in self.heard.items():
            for message in self.ledger.outgoing(to, len(heard), 3):
                assert message.number == len(heard) + 1
                heard.append(message)
                for op in message.ops:
                    self.hear(to, op)

    def hear(self, to: str, op: Op) -> None:
        if op.kind == SETTLED:
            assert (to, op.number) not in self.settled
            self.settled.add((to, op.number))
            return
        assert op.kind == HOME
        assert op.one is not None
        assert op.other is not None
        book = op.other, op.number
        if to == self.ledger.owner(op.one) and to != self.ledger.owner(op.other):
            return
        assert op.one not in self.books[book] or self.books[book][op.one] == op.version
        self.books[book][op.one] = op.version
        self.unpublished.add((book, op.one, op.version))
        if op.version > self.assigned.get(op.one, (-1, book))[0]:
            self.assigned[op.one] = op.version, book

    def publish(self, share: float) -> None:
        """Homes publish some of what they were told, in any order."""
        for one in sorted(self.unpublished):
            if self.chance.random() < share:
                self.unpublished.discard(one)
                (low, number), each, version = one
                op = Op(PUBLISHED, each, low, number, version)
                self.tell(self.ledger.owner(low), [op])

    def facts(self) -> list[Fact]:
        found: list[Fact] = []
        for source, number in self.taken.items():
            for message in self.outboxes[source][:number]:
                for op in message.ops:
                    ones = tuple(self.member(n) for n in (op.one, op.other) if n is not None)
                    if op.kind == LINK:
                        found.append(Row(op.version, ones))
                    elif op.kind == CUT:
                        found.append(Cut(op.version, ones))
        return found

    def member(self, one: Named) -> Member:
        return Member(self.priorities[one.namespace], one.k0 << 64 | one.k1, one.namespace)

    def check(self) -> None:
        people = self.ledger.people
        limits = people.graph.limits
        waiting: set[int] = set()
        for member, together in components(self.facts(), limits).items():
            one = people.named(member)
            assert people.graph.of(member) == together
            book = people.book_of.get(one)
            if book is None:
                assert len(together) == 1
            else:
                assert book.low == people.named(min(together))
                assert {people.named(m) for m in together} == book.members.keys()
            if one in people.unpublished:
                waiting.add(id(book))
        status = self.ledger.status()
        assert status.unpublished == len(waiting)
        for source, number in people.told:
            assert (source, number) not in self.settled


@settings(max_examples=120)
@given(st.integers(min_value=0, max_value=1 << 40))
def test_books_are_components_whatever_fails(seed: int) -> None:
    world = World(seed)
    for _ in range(400):
        world.commit(world.some_mail())
        world.check()
        if world.chance.random() < 0.7:
            world.listen()
        world.publish(world.chance.choice((0, 0, 0.3, 1)))
        if world.chance.random() < 0.05:  # uniqueness is another one now
            world.unique = world.unique ^ {"CRMID"}
            world.catalogue = world.definitions(world.catalogue.version + 1)
        done = all(world.taken[s] == len(world.outboxes[s]) for s in "01")
        done &= world.ledger.people.graph.limits.unique == world.unique  # it was not lost
        if done and not world.unpublished:
            world.commit([])
            world.listen()
            if not world.unpublished and all(
                len(world.heard[s]) == world.ledger.mailbox.heads().get(s, 0) for s in "01"
            ):
                break
    else:
        raise AssertionError("it never came to rest")
    world.check()
    status = world.ledger.status()
    assert (status.unpublished, status.pending) == (0, 0)
    evidence = {
        (source, message.number)
        for source, box in world.outboxes.items()
        for message in box
        if message.ops[0].kind != PUBLISHED
    }
    assert world.settled == evidence
    people = world.ledger.people
    for one, (_, book) in world.assigned.items():
        mine = people.book_of[one]
        assert (mine.low, mine.number) == book
        assert world.books[book] == mine.members
    world.open()
    world.check()
    for to, heard in world.heard.items():
        assert world.ledger.outgoing(to, 0, 1 << 20) == heard
    assert world.ledger.verify() == []
    before = world.ledger.position
    world.ledger.commit([], None, world.catalogue)
    assert world.ledger.position == before, "opened again it tells what it told before"
