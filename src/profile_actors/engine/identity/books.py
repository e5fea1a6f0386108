"""What a partition keeps of people with several identities: residences, and books.

Theory: see ``homes``, which moves them.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec

from profile_actors.engine.identity.messages import Named, Op, book_key
from profile_actors.errors import CorruptLog

Key = tuple[int, int]


class Place(msgspec.Struct, frozen=True, gc=False):
    """A book, and the version of the ledger's word for it."""

    canonical: Named
    number: int
    version: int

    @property
    def name(self) -> tuple[Key, int]:
        """What tells a book from all others."""
        return self.canonical.key, self.number


class Residence(msgspec.Struct, gc=False):
    """An identity of this partition that was linked once. ident: -1 while it has no rows. since:
    the entry from which on its rows go into books. sent: those up to there were sent to the
    assigned one. shown: None while it is shown by itself."""

    one: Named
    assigned: Place
    since: int
    ident: int = -1
    sent: int = 0
    shown: Place | None = None

    def is_in(self, name: tuple[Key, int]) -> bool:
        """Whether a book is the one that its rows go to, or the one in which it is shown."""
        return self.assigned.name == name or (self.shown is not None and self.shown.name == name)

    def has_left(self, number: int) -> bool:
        """Whether its own book of this number is past: it is shown in a newer one, or another's."""
        return (
            self.shown is not None
            and self.shown.version > number
            and (self.shown.number != number or self.shown.canonical != self.one)
        )


@dataclass(slots=True)
class Book:
    """A person who is at home here. ident: -1 while no row came. members: with the version that
    each must have; those it began with have its number. attached: the version of which its rows are
    here, and up to which position of its owner's log. untold: members that are not shown here yet.
    missing: how many of those it began with have no rows here. rows: whether there are any.
    version: the newest word of the ledger for it.
    identities: her members that are shown, the smallest first, empty before it is shown."""

    canonical: Named
    number: int
    ident: int = -1
    members: dict[Key, tuple[Named, int]] = field(default_factory=dict)
    attached: dict[Key, tuple[int, int]] = field(default_factory=dict)
    untold: set[Key] = field(default_factory=set)
    missing: int = 0
    rows: bool = False
    version: int = 0
    identities: tuple[Named, ...] = ()

    @property
    def name(self) -> tuple[Key, int]:
        """What tells it from all others."""
        return self.canonical.key, self.number

    @property
    def key(self) -> Key:
        """The key of its ident."""
        return book_key(*self.canonical.key, self.number)

    @property
    def is_person(self) -> bool:
        """Whether it is a profile: it has rows, or joins identities."""
        return self.rows or len(self.identities) > 1

    def place(self, one: Named, version: int) -> None:
        """The ledger names a member; its owner may have said so before."""
        key = one.key
        if self.members.get(key) == (one, version):
            return
        self.missing -= self._is_missing(key)
        self.members[key] = one, version
        self.version = max(self.version, version)
        self.missing += self._is_missing(key)
        self.untold.add(key)

    def _is_missing(self, key: Key) -> bool:
        member = self.members.get(key)
        return member is not None and member[1] == self.number and not self.has_rows_of(key)

    def has_rows_of(self, key: Key) -> bool:
        """Whether all rows of a member are here."""
        return self.attached.get(key, (-1, 0))[0] == self.members[key][1]

    def whole(self) -> list[Key]:
        """The members that can be shown from now on, in order: those it began with only together,
        each later one by itself."""
        if self.missing or self.canonical.key not in self.members:
            return []
        return sorted(key for key in self.untold if self.has_rows_of(key))

    def attach(self, one: Named, version: int, low: int, high: int) -> None:
        """A member's rows come, those after its owner's position low up to high. Raises
        CorruptLog if some before them are not here."""
        key = one.key
        version_here, high_here = self.attached.get(key, (0, 0))
        if low != (high_here if version == version_here else 0):
            raise CorruptLog(
                f"expected the rows of {one.namespace} {one.value!r} after position {high_here} of"
                f" its owner's log, got those after {low} - at the book of"
                f" {self.canonical.namespace} {self.canonical.value!r}; this is a defect: report it"
            )
        self.missing -= self._is_missing(key)
        self.attached[key] = version, high
        self.missing += self._is_missing(key)
        if version > self.number:  # it came alone, and its rows may be here before its name
            self.place(one, version)


@dataclass(slots=True)
class Untold:
    """Entries from low up to high may have rows of several identities that nobody was told of: from
    before there was a ledger."""

    low: int = 0
    high: int = 0

    def found(self, position: int) -> None:
        """An entry has such rows."""
        if self.low == self.high:
            self.low = position
        self.high = position + 1

    def told(self, high: int) -> None:
        """Those below ``high`` were told of."""
        self.low = min(max(self.low, high), self.high)

    @property
    def is_some(self) -> bool:
        """Whether there are any."""
        return self.low < self.high


@dataclass(slots=True)
class Turned:
    """What an entry changes of who is shown where: per identity the slot in which it was listed
    and the one in which it is now, -1 for none. named: idents of books that list others now."""

    old: list[int] = field(default_factory=list)
    new: list[int] = field(default_factory=list)
    idents: list[int] = field(default_factory=list)
    named: list[int] = field(default_factory=list)


def ends_of(op: Op) -> tuple[Named, Named]:
    """The identity that an operation is about, and the smallest of its book."""
    assert op.one is not None, op
    assert op.other is not None, op
    return op.one, op.other


def is_past(residences: Mapping[Key, Residence], op: Op) -> bool:
    """Whether an operation is about a book that is shown no longer where it is at home."""
    mine = None if op.other is None else residences.get(op.other.key)
    return mine is not None and mine.has_left(op.number)


def in_order(book: Book, come: Sequence[Named]) -> tuple[Named, ...]:
    """Who is shown, the smallest first, the others by namespace and value. come: who was not when
    ``identities`` were put in order. Cost: a copy of them, and a search for each who comes."""
    others = list(book.identities[1:])
    for one in come:
        if one != book.canonical:
            at = bisect_left(others, by_name(one), key=by_name)
            others[at:at] = [one]
    if 1 + len(others) != len(book.members) - len(book.untold):  # not one by one
        shown = (one for key, (one, _) in book.members.items() if key not in book.untold)
        others = sorted((one for one in shown if one != book.canonical), key=by_name)
    return (book.canonical, *others)


def by_name(one: Named) -> tuple[str, str]:
    """How the further identities of a profile are ordered."""
    return one.namespace, one.value


# For checkpoints: lists and plain values alone.


def plain_residence(mine: Residence) -> list[Any]:
    """A residence."""
    return [
        _plain(mine.one), _plain_place(mine.assigned), mine.since, mine.ident, mine.sent,
        _plain_place(mine.shown),
    ]  # fmt: skip


def residence_of(plain: list[Any]) -> Residence:
    """The residence again."""
    one, assigned, since, ident, sent, shown = plain
    place = _place_of(assigned)
    assert place is not None
    return Residence(Named(*one), place, since, ident, sent, _place_of(shown))


def plain_book(book: Book) -> list[Any]:
    """A book."""
    return [
        _plain(book.canonical), book.number, book.ident, book.rows,
        [[_plain(one), version] for one, version in book.members.values()],
        [[list(key), *at] for key, at in book.attached.items()],
        [list(key) for key in sorted(book.untold)],
        [_plain(one) for one in book.identities],
    ]  # fmt: skip


def book_of(plain: list[Any]) -> Book:
    """The book again."""
    canonical, number, ident, rows, members, attached, untold, identities = plain
    book = Book(Named(*canonical), number, ident, rows=rows)
    book.attached = {(key[0], key[1]): (version, high) for key, version, high in attached}
    for one, version in members:
        book.place(Named(*one), version)
    book.untold = {(key[0], key[1]) for key in untold}
    book.identities = tuple(Named(*one) for one in identities)
    return book


def _plain(one: Named) -> list[Any]:
    return [one.k0, one.k1, one.namespace, one.value]


def _plain_place(place: Place | None) -> list[Any] | None:
    return None if place is None else [_plain(place.canonical), place.number, place.version]


def _place_of(plain: list[Any] | None) -> Place | None:
    return None if plain is None else Place(Named(*plain[0]), plain[1], plain[2])
