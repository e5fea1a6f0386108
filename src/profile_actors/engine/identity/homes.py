"""Whose rows are whose: what one partition knows of people with several identities.

Theory: a *book* is an ident under which the rows of all identities of one person are logged once
more, at the partition that owns her smallest identity. The ledger says who belongs into which book
(HOME); the owner of an identity sends all its rows there (ROWS), and from then on those of each
entry (FLOW); when a book has the rows of all its members it is whole, and is shown (PUBLISHED). So
a partition plays two parts, and keeps a record for each:

    ``Residence``   of an identity that it owns and that was linked once: into which book its rows
                    go (*assigned*), and in which it is shown
    ``Book``        of a person whose smallest identity it owns: her members, whose rows are here

Members are only ever added to a book, and only such as were alone. Who leaves, two people who are
one, or a person who gets a smaller identity, begin a new one: so no row is ever taken out of a
book, nobody comes into one that is shown but whole, and a profile is shown as it was or as it is.

Rules for editors: ``take`` is the fold of what was received, ``note`` that of what was sent; both
run live and in a replay. ``answer`` decides what is sent, live only: a replay carries out what the
log says was sent. Nothing here is read by other threads but under the partition's lock.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from profile_actors.columnar.vectors import Array
from profile_actors.engine.identity.books import (
    Book,
    Key,
    Place,
    Residence,
    Turned,
    Untold,
    book_of,
    ends_of,
    in_order,
    plain_book,
    plain_residence,
    residence_of,
)
from profile_actors.engine.identity.directory import Directory
from profile_actors.engine.identity.listing import Listing, Routes
from profile_actors.engine.identity.mailbox import NO_POST, Mailbox, Post
from profile_actors.engine.identity.messages import (
    FLOW,
    HOME,
    LEDGER,
    LINK,
    NOWHERE,
    PUBLISHED,
    ROWS,
    SETTLED,
    Named,
    Op,
    PeerOps,
    pack_flow,
)


class Homes:
    """See the module."""

    def __init__(self, directory: Directory, listing: Listing, post: Post = NO_POST) -> None:
        self.mailbox = Mailbox()
        self.residences: dict[Key, Residence] = {}
        self.books: dict[tuple[Key, int], Book] = {}
        # The oldest first: messages of links, and who is placed but not shown yet, by entries.
        self.unsettled: dict[int, int] = {}
        self._directory = directory
        self._listing = listing
        self._routes = Routes(directory.capacity)
        self._me, self.owner_of, self.seed = post
        self.is_first = post.me in ("", "0")
        self._by_ident: dict[int, Residence] = {}
        self._books_by_ident: dict[int, Book] = {}
        self._nameless: dict[Key, Book] = {}
        self._moving: dict[Key, int] = {}
        self.untold = Untold()
        self._reached: dict[int, Book] = {}  # books that the entry at hand is about

    @property
    def is_used(self) -> bool:
        """Whether anything was told or heard."""
        return bool(self.residences or self.books or self.mailbox.heads() or self.mailbox.cursors())

    def is_mine(self, one: Named) -> bool:
        return self.owner_of is not None and self.owner_of(one) == self._me

    # -- the fold of what was received ------------------------------------------------------------

    def take(
        self, received: Iterable[PeerOps], position: int, first_new: int
    ) -> list[tuple[Residence, Place]]:
        """Take in what an entry was told, before its rows are folded. first_new: its first new
        ident. Returns who must send all rows, and where."""
        self._reached.clear()
        placed: list[tuple[Residence, Place]] = []
        fresh: dict[Key, Residence] = {}
        for _, ops in received:
            for op in ops:
                if op.kind == HOME:
                    mine = self._place(op, position, fresh)
                    if mine is not None:
                        placed.append((mine, mine.assigned))
                elif op.kind == ROWS:
                    one, canonical = ends_of(op)
                    book = self._book(canonical, op.number)
                    book.attach(one, op.version, op.low, op.high)
                    self._reached[id(book)] = book
                elif op.kind == SETTLED:
                    self.unsettled.pop(op.number, None)
        self._routes.end([mine.ident for mine, _ in placed if mine.ident >= 0])
        self._reside(fresh, position, first_new)
        return placed

    def _place(self, op: Op, position: int, fresh: dict[Key, Residence]) -> Residence | None:
        one, canonical = ends_of(op)
        if op.number != NOWHERE and self.is_mine(canonical):
            book = self._book(canonical, op.number)
            book.place(one, op.version)
            self._reached[id(book)] = book
        if not self.is_mine(one):
            return None
        place, key = Place(canonical, op.number, op.version), one.key
        mine = self.residences.get(key)
        if mine is None:
            mine = self.residences[key] = fresh[key] = Residence(one, place, position)
        mine.assigned, mine.sent = place, 0
        self._moving.pop(key, None)  # at the end, as the newest
        self._moving[key] = position
        if op.number == NOWHERE and mine.ident >= 0:
            self._routes.end([mine.ident])
        return None if op.number == NOWHERE else mine

    def _reside(self, fresh: dict[Key, Residence], position: int, first_new: int) -> None:
        """Those who are linked for the first time, as far as they have rows."""
        if not fresh:
            return
        idents = self._directory.find(*np.array(list(fresh), np.uint64).T)
        for mine, ident in zip(fresh.values(), idents.tolist(), strict=True):
            if ident >= 0:
                mine.ident = ident
                self._by_ident[ident] = mine
        known = idents[idents >= 0]
        self._listing.leave(known, position)
        # Who has the first rows in this entry has none that are not in the book.
        self._listing.hide(self._directory.slot_of[known[known >= first_new]])

    def _book(self, canonical: Named, number: int) -> Book:
        book = self.books.get((canonical.key, number))
        if book is None:
            book = self.books[canonical.key, number] = Book(canonical, number)
            self._nameless[book.key] = book
        return book

    def begin(self, first: int, count: int) -> None:
        """Idents from ``first`` on, so many, begin in this entry: those of books, and of identities
        that were linked before they had rows, are hidden. Costs nothing where nobody was linked."""
        if not (self.residences or self._nameless):
            return
        idents = np.arange(first, first + count)
        keys = map(tuple, self._directory.keys_of(idents).tolist())
        came, hidden = list[Residence](), list[int]()
        for ident, key in zip(idents.tolist(), keys, strict=True):
            mine, book = self.residences.get(key), self._nameless.pop(key, None)
            if mine is not None and mine.ident < 0:
                mine.ident = ident
                self._by_ident[ident] = mine
                came.append(mine)
            if book is not None:
                book.ident = ident
                self._books_by_ident[ident] = book
                self._listing.begin_book(int(self._directory.slot_of[ident]))
            if mine is not None or book is not None:
                hidden.append(ident)
        for mine in came:
            self._listing.leave(np.array([mine.ident]), mine.since)
        self._route(came)
        if hidden:
            self._listing.hide(self._directory.slot_of[hidden])

    def fill(self, idents: Array) -> None:
        """Rows come into the books that have these idents."""
        for ident in np.unique(idents).tolist():
            book = self._books_by_ident[ident]
            if not book.rows:
                book.rows = True
                self._reached[id(book)] = book  # it may be shown from now on

    def answer(
        self, placed: Sequence[tuple[Residence, Place]], idents: Array, position: int
    ) -> dict[str, list[Op]]:
        """What the entry tells whom: rows that are on their way, and books that are whole.

        placed: as ``take`` gave them; idents: of the entry's own rows, each once.
        """
        sends: dict[str, list[Op]] = {}

        def tell(to: str, op: Op) -> None:
            sends.setdefault(to, []).append(op)

        assert self.owner_of is not None
        for mine, place in placed:
            op = Op(ROWS, mine.one, place.canonical, place.number, place.version, 0, position)
            tell(self.owner_of(place.canonical), op)
        # Who is placed in this entry has no route yet: her rows are among those above.
        for peer, ones, books in self._routes.of(self._listing.leaving(idents)):
            data = pack_flow(self._directory.keys_of(ones), books)
            tell(peer, Op(FLOW, high=position, data=data))
        for book in self._reached.values():
            whole = book.whole()
            if not whole:
                continue
            owner = self.residences.get(book.canonical.key)
            if owner is None or not owner.is_in(book.name):
                continue  # she has another book by now, or another name
            for key in whole:
                one, version = book.members[key]
                op = Op(PUBLISHED, one, book.canonical, book.number, version)
                tell(LEDGER, op)
                if not (self.is_mine(one) and one == book.canonical):
                    tell(self.owner_of(one), op)
        return sends

    def _route(self, those: Iterable[Residence]) -> None:
        """Their rows were sent, of some of them: those of later entries follow them."""
        if self.owner_of is not None:
            some = [(mine.ident, mine.assigned) for mine in those if mine.ident >= 0 and mine.sent]
            self._routes.begin(some, self.owner_of)

    # -- the fold of what was sent, and what is shown after it ------------------------------------

    def note(self, sent: Iterable[PeerOps], position: int) -> None:
        """Note what an entry sends."""
        routed: list[Residence] = []
        for to, ops in sent:
            number = self.mailbox.sent(to, position)
            if to == LEDGER and any(op.kind != PUBLISHED for op in ops):
                self.unsettled[number] = position
            for op in ops:
                if op.kind == ROWS and op.one is not None:
                    mine = self.residences[op.one.key]
                    mine.sent = op.high
                    routed.append(mine)
                elif op.kind == LINK and op.high:
                    self.untold.told(op.high)
        self._route(routed)

    def turn(self, received: Sequence[PeerOps], sent: Iterable[PeerOps], position: int) -> Turned:
        """Show what an entry's operations say is shown from now on. The caller holds the
        partition's lock, and has published the entry's rows."""
        turned = Turned()
        whole: dict[tuple[Key, int], list[Named]] = {}
        for to, ops in sent:
            for op in ops if to == LEDGER else ():
                if op.kind == PUBLISHED and op.one is not None and op.other is not None:
                    whole.setdefault((op.other.key, op.number), []).append(op.one)
                    self.books[op.other.key, op.number].untold.discard(op.one.key)
        for name, come in whole.items():
            book = self.books[name]
            book.identities = in_order(book, come)
            turned.named.append(book.ident)
            mine = self.residences[book.canonical.key]
            place = Place(book.canonical, book.number, book.members[book.canonical.key][1])
            self._show(mine, place, position, turned)
        for _, ops in received:
            for op in ops:
                if op.kind == PUBLISHED and op.one is not None and op.other is not None:
                    place = Place(op.other, op.number, op.version)
                    self._show(self.residences[op.one.key], place, position, turned)
        for book in self._reached.values():
            slot = self._directory.slot_of[book.ident] if book.ident >= 0 else -1
            if slot >= 0 and self._listing.is_hidden(int(slot)):  # it may have its first row
                her = self.residences.get(book.canonical.key)
                if her is not None and her.shown is not None and her.shown.name == book.name:
                    self._show(her, her.shown, position, turned)
        return turned

    def _show(self, mine: Residence, place: Place, position: int, turned: Turned) -> None:
        if mine.shown is not None and place.version < mine.shown.version:
            return
        old, mine.shown = self._listed_slot(mine, position + 1), place
        if place == mine.assigned:
            self._moving.pop(mine.one.key, None)
        new = self._slot_of_place(mine)
        if old == new:
            return
        if old >= 0:
            self._listing.retire(old, position + 1)
        if new >= 0:
            self._listing.show(new, position + 1)
        turned.old.append(old)
        turned.new.append(new)
        turned.idents.append(int(self._directory.ident_of[new if new >= 0 else old]))

    def _listed_slot(self, mine: Residence, position: int) -> int:
        """Where an identity is listed; -1 where it is not."""
        if mine.shown is not None:
            slot = self._slot_of_place(mine)
        else:
            slot = int(self._directory.slot_of[mine.ident]) if mine.ident >= 0 else -1
        return slot if slot >= 0 and self._listing.has(slot, position) else -1

    def _slot_of_place(self, mine: Residence) -> int:
        """The slot of the book that lists an identity: only its smallest is listed."""
        assert mine.shown is not None
        if mine.shown.canonical.key != mine.one.key:
            return -1
        book = self.books.get(mine.shown.name)
        if book is None or book.ident < 0 or not book.is_person:
            return -1
        return int(self._directory.slot_of[book.ident])

    # -- what readers ask -------------------------------------------------------------------------

    def book_of(self, ident: int) -> Book | None:
        """The book that has an ident. Any thread."""
        return self._books_by_ident.get(ident)

    def empty_book_of(self, key: Key) -> Book | None:
        """The book of this key, if no row came into it yet."""
        return self._nameless.get(key)

    def shown_at(self, key: Key, ident: int) -> int | Place:
        """Where an identity with this key and own ident (-1: none) is shown: under that ident (-1:
        nowhere), or in a book of another partition."""
        mine = self.residences.get(key)
        if mine is None:
            return ident
        if mine.shown is None:
            is_hidden = ident < 0 or self._listing.is_hidden(int(self._directory.slot_of[ident]))
            return -1 if is_hidden else ident
        if not self.is_mine(mine.shown.canonical):
            return mine.shown
        book = self.books[mine.shown.name]
        return book.ident if book.is_person else -1

    def keys_of(self, idents: Array) -> Array:
        """The keys by which the profiles of idents are asked for: of books, those of their smallest
        identities. uint64[n, 2]"""
        keys = self._directory.keys_of(idents)
        if self._books_by_ident:
            for row, ident in enumerate(idents.tolist()):
                book = self._books_by_ident.get(ident)
                if book is not None:
                    keys[row] = book.canonical.key
        return keys

    def present(self, ident: int, position: int) -> tuple[Named | None, int, int]:
        """Whose an ident is (a book's: its smallest identity), in which slot she is listed (-1:
        here in none), and the version of where she is shown; None of one that was never linked."""
        book = self._books_by_ident.get(ident)
        mine = self._by_ident.get(ident)
        if book is not None:
            mine = self.residences.get(book.canonical.key)
        if mine is None:
            return None, -1, 0
        version = 0 if mine.shown is None else mine.shown.version
        return mine.one, self._listed_slot(mine, position), version

    def is_settled(self, position: int) -> bool:
        """Whether all that the entries up to a position caused is folded and shown."""
        oldest = self.mailbox.oldest_position()
        if oldest is not None and oldest <= position:
            return False
        first = (next(iter(of.values()), position + 1) for of in (self.unsettled, self._moving))
        return all(at > position for at in first)

    def to_plain(self) -> list[Any]:
        """For a checkpoint: lists and plain values alone. Cost: some 5 us an identity linked."""
        return [
            self.mailbox.to_plain(),
            [plain_residence(mine) for mine in self.residences.values()],
            [plain_book(book) for book in self.books.values()],
            sorted(self.unsettled.items()),
            [self.untold.low, self.untold.high],
        ]

    def restore(self, plain: list[Any]) -> None:
        """What ``to_plain`` saw, into one that is empty."""
        mailbox, residences, books, unsettled, untold = plain
        self.untold, self.mailbox = Untold(*untold), Mailbox.of_plain(mailbox)
        for mine in map(residence_of, residences):
            self.residences[mine.one.key] = self._by_ident[mine.ident] = mine
        moving = [mine for mine in self.residences.values() if mine.shown != mine.assigned]
        moving.sort(key=lambda mine: mine.since)  # or later: whoever waits, waits long enough
        self._moving = {mine.one.key: mine.since for mine in moving}
        self._by_ident.pop(-1, None)
        self._route(self._by_ident.values())
        for book in map(book_of, books):
            self.books[book.canonical.key, book.number] = book
            if book.ident >= 0:
                self._books_by_ident[book.ident] = book
                self._listing.begin_book(int(self._directory.slot_of[book.ident]))
            else:
                self._nameless[book.key] = book
        self.unsettled = {int(number): int(at) for number, at in unsettled}
