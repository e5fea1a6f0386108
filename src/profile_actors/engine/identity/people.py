"""Who is one person by all evidence so far, and which book each identity belongs to.

Theory: the ledger's state. Facts go into a ``LinkGraph``; where it says that people are others now,
books follow. The book of a person goes on if it is of the same smallest identity, nobody left, and
no two who come were one person before; then only who came is told, and each is shown there as soon
as its rows are. Else a new one begins, and everybody in it is told: a person who becomes part of
another one must come at once. So what a book was once told stays true, and its home only ever adds
to it. An identity that was never linked has no book: its own profile is the whole of it.

Two steps, so that a replay repeats no decision: ``decide`` says what an entry tells, ``carry_out``
makes that true here; a replay takes what was told from the log and only carries it out.

Rules for editors: nothing here may depend on the order of a set: what is told is sorted.
Cost: some 30 us of Python a new link. Not thread-safe: the ledger has a lock.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

from profile_actors.definitions.declared import Catalogue
from profile_actors.definitions.placeholders import is_placeholder
from profile_actors.engine.identity.books import ends_of
from profile_actors.engine.identity.evidence import limits_of, listed_of, priority_of
from profile_actors.engine.identity.link_graph import LinkGraph
from profile_actors.engine.identity.linking import FOREVER, Cut, Fact, Judged, Limits, Member, Row
from profile_actors.engine.identity.messages import (
    CUT,
    HOME,
    LINK,
    NOWHERE,
    PUBLISHED,
    SETTLED,
    Named,
    Op,
)


@dataclass(slots=True, eq=False)
class Book:
    """A person of several identities, or of one that once had others. low: the smallest.

    members: each with the position of the entry that told it. It only grows.
    """

    low: Named
    number: int
    members: dict[Named, int] = field(default_factory=dict)


@dataclass(slots=True, eq=False)
class Told:
    """A message with evidence. ones: whom it names; parted: who was cut off from whoever was linked
    with them. waits: of whom is still waited for that they are shown in their book."""

    source: str
    number: int
    ones: set[Named] = field(default_factory=set)
    parted: set[Named] = field(default_factory=set)
    waits: set[Named] = field(default_factory=set)


Times = list[tuple[Named, int]]
PlainPeople = tuple[
    list[Named], list[Any], list[int], Times, list[tuple[Named, int, Times]], Times, set[Named],
    list[tuple[str, int, set[Named], set[Named]]],
]  # fmt: skip
"""People in a checkpoint (format); see ``People.image``."""


class People:
    """See the module."""

    def __init__(self) -> None:
        self.catalogue = Catalogue()
        self.graph = LinkGraph(Limits())
        self.book_of: dict[Named, Book] = {}
        self.unpublished: set[Named] = set()
        self.told: dict[tuple[str, int], Told] = {}
        self._member_of: dict[Named, Member] = {}
        self._named_of: dict[Member, Named] = {}
        self._void: set[Member] = set()
        self._parted: dict[Named, int] = {}  # by messages; in the graph a placeholder hides it
        self._listed: frozenset[str] = frozenset()
        self._changed: set[Member] = set()
        self._due: dict[tuple[str, int], Told] = {}
        self._waiting: defaultdict[Named, list[Told]] = defaultdict(list)

    # -- evidence ---------------------------------------------------------------------------------

    def define(self, catalogue: Catalogue) -> None:
        """Judge all evidence by these definitions. Cost: that of folding it again."""
        facts = [self._named_fact(fact) for fact in self.graph.facts() if not self._is_ours(fact)]
        facts += [(False, time, (one,)) for one, time in self._parted.items()]
        self.catalogue = catalogue
        self.graph = LinkGraph(limits_of(catalogue))
        self._listed = listed_of(catalogue)
        known = list(self._member_of)
        self._member_of, self._named_of, self._void = {}, {}, set()
        ours: list[Fact] = []
        for named in known:
            self._meet(named, ours)
        again = [
            Row(time, tuple(map(self._member_of.__getitem__, ones)))
            if is_row
            else Cut(time, tuple(map(self._member_of.__getitem__, ones)))
            for is_row, time, ones in facts
        ]
        self.graph.fold([*ours, *again])
        self._changed = set(self._named_of)

    def receive(self, received: Iterable[tuple[str, int, Sequence[Op]]]) -> list[Fact]:
        """What messages say, (source, number, operations), in their order: publications are noted,
        facts returned for ``fold``."""
        facts: list[Fact] = []
        for source, number, ops in received:
            told = Told(source, number)
            for op in ops:
                if op.kind == PUBLISHED:
                    self._note_published(op)
                elif op.kind == LINK:
                    self._note_link(op, told, facts)
                else:
                    self._note_cut(op, told, facts)
            if told.ones:
                self.told[source, number] = self._due[source, number] = told
        return facts

    def fold(self, facts: Iterable[Fact]) -> None:
        """Add facts to the graph; who is changed by them is looked at in ``decide``."""
        self._changed |= self.graph.fold(facts)

    def _note_link(self, op: Op, told: Told, facts: list[Fact]) -> None:
        """What most links of a running store say is no fact: two who are linked, and one person,
        stood together again; their evidence is as new as this, and nothing else changes."""
        one, other = ends_of(op)
        told.ones.add(one)
        told.ones.add(other)
        mine, its = self._member_of.get(one), self._member_of.get(other)
        if mine is None or its is None:
            mine, its = self._meet(one, facts), self._meet(other, facts)
        elif self.graph.renew((mine, its) if mine < its else (its, mine), op.version):
            return
        facts.append(Row(op.version, (mine, its)))

    def _note_cut(self, op: Op, told: Told, facts: list[Fact]) -> None:
        one, other = op.one, op.other
        assert op.kind == CUT, op
        assert one is not None, op
        named = (one,) if other is None else (one, other)
        told.ones.update(named)
        if other is None:
            told.parted.add(one)
            self._parted[one] = max(op.version, self._parted.get(one, op.version))
        facts.append(Cut(op.version, tuple(self._meet(each, facts) for each in named)))

    def _meet(self, named: Named, facts: list[Fact]) -> Member:
        """An identity as links order it; a new value that names nobody is cut off for ever."""
        known = self._member_of.get(named)
        if known is not None:
            return known
        priority = priority_of(self.catalogue, named.namespace)
        member = Member(priority, named.k0 << 64 | named.k1, named.namespace)
        self._member_of[named], self._named_of[member] = member, named
        if is_placeholder(named.value, self._listed):
            self._void.add(member)
            facts.append(Cut(FOREVER, (member,)))
        return member

    def _is_ours(self, fact: Fact) -> bool:
        """Whether a cut stands there since a value is a placeholder, and by no message."""
        return isinstance(fact, Cut) and fact.time == FOREVER and set(fact.target) <= self._void

    def _named_fact(self, fact: Fact) -> tuple[bool, int, tuple[Named, ...]]:
        is_row = isinstance(fact, Row)
        members = fact.members if isinstance(fact, Row) else fact.target
        return is_row, fact.time, tuple(self._named_of[member] for member in members)

    # -- books ------------------------------------------------------------------------------------

    def decide(self, position: int) -> tuple[list[Op], list[tuple[str, Op]]]:
        """What the entry at a position tells: where identities belong, and which messages are
        settled (by source). It is true here afterwards: it need not be carried out."""
        homes = list(self._homes(position))
        self._changed = set()
        for op in homes:
            self._note_home(op)
        settled: list[tuple[str, Op]] = []
        due, self._due = self._due, {}
        for source, number in sorted(due):
            if self._is_settled(due[source, number]):
                del self.told[source, number]
                settled.append((source, Op(SETTLED, number=number)))
        return homes, settled

    def carry_out(self, to: str, ops: Iterable[Op]) -> None:
        """Make true what an entry of the log told."""
        for op in ops:
            if op.kind == HOME:
                self._note_home(op)
            else:
                assert op.kind == SETTLED, op
                self.told.pop((to, op.number), None)

    def complete_replay(self, facts: Iterable[Fact]) -> None:
        """All facts of the log at once; whether books agree with them the next entry looks at. Also
        those of whom nothing is told any more, since somebody was erased, have a book."""
        self.fold(facts)
        left: list[Fact] = []
        for one in self.book_of:
            self._meet(one, left)
        self.fold(left)
        self._changed = set(self._named_of)
        self._due = dict(self.told)

    def _homes(self, position: int) -> Iterator[Op]:
        graph = self.graph
        groups: defaultdict[Member, list[Member]] = defaultdict(list)
        for member in sorted(self._changed):
            groups[graph.canonical(member)].append(member)
        for low in sorted(groups):
            size = graph.size_of(low)
            name = self._named_of[low]
            book = self.book_of.get(name)
            if book is None and size == 1:
                continue
            added = groups[low]
            if book is not None and book.number == NOWHERE:
                book = None
            if book is not None and book.low == name:
                # Whoever is here and not in its book is changed, so counting tells who left.
                added = [one for one in added if self._named_of[one] not in book.members]
                if len(book.members) + len(added) != size or not self._come_alone(added):
                    book = None
            if book is None or book.low != name:
                book, added = Book(name, position), sorted(graph.of(low))
            for member in added:
                yield Op(HOME, self._named_of[member], name, book.number, position)

    def _come_alone(self, added: Iterable[Member]) -> bool:
        """Whether no two of them were in one book."""
        were = (self.book_of.get(self._named_of[member]) for member in added)
        books = [id(book) for book in were if book is not None]
        return len(set(books)) == len(books)

    def _note_home(self, op: Op) -> None:
        one, low = ends_of(op)
        book = self.book_of.get(low)
        if book is None or book.number != op.number or book.low != low:
            book = self.book_of[low] = Book(low, op.number)
        book.members[one] = op.version
        self.book_of[one] = book
        self.unpublished.add(one)

    def _note_published(self, op: Op) -> None:
        one, low = ends_of(op)
        book = self.book_of.get(one)
        if book is None or book.number != op.number or book.low != low:
            return
        if book.members[one] == op.version:
            self.unpublished.discard(one)
            for told in self._waiting.pop(one, ()):
                told.waits.discard(one)
                if not told.waits:
                    self._due[told.source, told.number] = told

    def _is_settled(self, told: Told) -> bool:
        told.waits = told.ones & self.unpublished
        for one in told.parted:
            beside = (self._named_of[each] for each in self.graph.linked(self._member_of[one]))
            told.waits.update(each for each in beside if each in self.unpublished)
        for one in told.waits:
            self._waiting[one].append(told)
        return not told.waits

    # -- checkpoints ------------------------------------------------------------------------------

    def image(self) -> list[Any]:
        """All of it, copied between two entries, for ``to_plain``. Cost: some 1 us a link."""
        books = {id(book): book for book in self.book_of.values()}
        place = dict(zip(books, range(len(books)), strict=True))
        return [
            list(self._member_of),
            list(self._named_of),
            self.graph.image(),
            list(self._void),
            list(self._parted.items()),
            [(book.low, book.number, list(book.members.items())) for book in books.values()],
            [(one, place[id(book)]) for one, book in self.book_of.items()],
            list(self.unpublished),
            [(t.source, t.number, list(t.ones), list(t.parted)) for t in self.told.values()],
        ]

    @staticmethod
    def to_plain(image: list[Any]) -> list[Any]:
        """What msgpack takes: an image in which identities as links order them are numbers."""
        names, members, graph, void, *rest = image
        number = dict(zip(members, range(len(members)), strict=True))
        return [names, LinkGraph.to_plain(graph, number), [number[one] for one in void], *rest]

    @staticmethod
    def of_plain(catalogue: Catalogue, plain: PlainPeople) -> People:
        """What ``image`` saw, under the definitions by which it judged."""
        people = People()
        people.define(catalogue)
        names, graph, void, parted, books, book_of, unpublished, told = plain
        rank = {code: priority_of(catalogue, code) for code in {one.namespace for one in names}}
        members = [Member(rank[n.namespace], n.k0 << 64 | n.k1, n.namespace) for n in names]
        people._member_of = dict(zip(names, members, strict=True))
        people._named_of = dict(zip(members, names, strict=True))
        people.graph.restore(members, graph)
        people._void = {members[one] for one in void}
        people._parted = dict(parted)
        made = [Book(low, number, dict(ones)) for low, number, ones in books]
        people.book_of = {one: made[at] for one, at in book_of}
        people.unpublished = unpublished
        for source, number, ones, cut_off in told:
            people.told[source, number] = Told(source, number, ones, cut_off)
        return people

    # -- questions --------------------------------------------------------------------------------

    @property
    def identities(self) -> int:
        """How many identities evidence names."""
        return len(self._member_of)

    def named(self, member: Member) -> Named:
        """The identity in full."""
        return self._named_of[member]

    def person(self, named: Named) -> tuple[list[Named], list[Judged]]:
        """The identities of a person, the smallest first, and every link at them, newest first."""
        member = self._member_of.get(named)
        if member is None:
            return [named], []
        return [self._named_of[one] for one in sorted(self.graph.of(member))], self.graph.judged(
            member
        )


class Trial:
    """Who would be one person by other definitions, found out in steps beside the people there are.

    Made while the ledger's lock is held, as of then; nothing of it is held in the steps. done, of:
    facts judged, and all. Cost: a copy of the evidence, some 0.8 us a link; then that of folding it
    in the steps. Memory: as much as the people themselves, until it is let go.
    """

    def __init__(self, people: People, catalogue: Catalogue) -> None:
        self._newest, self._cuts, self._lows = people.graph.copied()
        self._cuts = {
            target: time
            for target, time in self._cuts.items()
            if not (time == FOREVER and people._void.issuperset(target))
        }
        self._cuts.update(((people._member_of[one],), time) for one, time in people._parted.items())
        self._named = dict(people._named_of)
        self._other = People()
        self._other.catalogue = catalogue
        self._other.graph = LinkGraph(limits_of(catalogue))
        self._other._listed = listed_of(catalogue)
        self.done, self.of = 0, len(self._newest) + len(self._cuts)

    def steps(self, facts: int) -> Iterator[None]:
        """Judge so many facts in each step."""
        rest = self._facts()
        while some := list(islice(rest, facts)):
            self._other.graph.fold(some)
            yield

    def _facts(self) -> Iterator[Fact]:
        """Cuts first: what they withdraw need not be followed before."""
        other, met = self._other, list[Fact]()
        for named in self._named.values():
            other._meet(named, met)
        yield from met
        for target, time in self._cuts.items():
            self.done += 1
            yield Cut(time, self._theirs(target))
        for pair, time in self._newest.items():
            self.done += 1
            yield Row(time, self._theirs(pair))

    def _theirs(self, members: Iterable[Member]) -> tuple[Member, ...]:
        return tuple(self._other._member_of[self._named[member]] for member in members)

    def lows(self) -> Iterator[tuple[Named, tuple[Member, Member], tuple[Member, Member]]]:
        """After the steps: each identity; what it and its person's smallest are as links order them
        as of then; and both by the other definitions."""
        other = self._other
        for member, named in self._named.items():
            would_be = other._member_of[named]
            now = member, self._lows.get(member, member)
            yield named, now, (would_be, other.graph.canonical(would_be))
