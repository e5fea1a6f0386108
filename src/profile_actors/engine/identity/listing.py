"""Who is shown under which number: which slots are listed as profiles, which rows fold where.

Theory: an ident and its slot are one for ever. A person of several identities has an ident of her
own, a *book*, under which the rows of all her identities are logged once more. So three facts per
number say all that the fold and its readers must know of identities, each a position of the log:

    since[ident]    rows of it from that entry on are folded in its person's book, not in its slot
    first[slot]     from that entry on the slot is listed: a book is hidden until it is whole
    end[slot]       from that entry on it is listed no more: its identity is shown in another

Where nobody was ever linked all of it is zero: no memory is used, and nobody looks.

Rules of policies that do not stitch (``single``) have profiles of their own in the same slots: each
identity's slot with its own rows, always, and no book. Their operators are others than those of
rules about people (``EventFilter.single``), so both stand side by side.

Law: they change by logged entries alone, so a replay, a back-fill and a rescan of any entry see
them as they were there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

import numpy as np
import pyarrow as pa

from profile_actors.columnar.state_columns import ColumnCopy, RowsCopy, Saving, reserve
from profile_actors.columnar.vectors import Array
from profile_actors.engine.identity.books import Place
from profile_actors.engine.identity.messages import Named, book_key
from profile_actors.engine.log.entry import Block

NEVER = 1 << 62
"""The entry from which on a hidden slot is listed."""


class Listing:
    """The columns of one partition. Its writer writes under the partition's lock.

    Instances are empty until somebody is linked (``is_used``).
    """

    def __init__(self, capacity: int) -> None:
        self._since = reserve(capacity, np.int64)  # position + 1; 0: its rows fold in its own slot
        self._first = reserve(capacity, np.int64)
        self._end = reserve(capacity, np.int64)  # position; 0: still listed
        self._is_book = reserve(capacity, np.bool_)  # not in checkpoints: ``Homes`` knows them
        self.is_used = False
        self._copy = RowsCopy((), 0)

    def begin_book(self, slot: int) -> None:
        """This slot is a person's book, not an identity's."""
        self._is_book[slot] = True

    def leave(self, idents: Array, position: int) -> None:
        """Rows of these idents fold elsewhere from the entry at ``position`` on."""
        self.is_used = True
        self._copy.keep(idents)
        self._since[idents] = position + 1

    def leaving(self, idents: Array) -> Array:
        """Those of the idents whose rows fold elsewhere by now."""
        return idents[self._since[idents] > 0]

    def hide(self, slots: Array) -> None:
        """These slots, which begin, are not listed."""
        self.is_used = True
        self._copy.keep(slots)
        self._first[slots] = NEVER

    def show(self, slot: int, position: int) -> None:
        """A hidden slot is listed from the entry at ``position`` on."""
        self._copy.keep(np.array([slot]))
        self._first[slot] = position

    def retire(self, slot: int, position: int) -> None:
        """A slot is listed no more from the entry at ``position`` on."""
        self.is_used = True
        if not self._end[slot]:
            self._copy.keep(np.array([slot]))
            self._end[slot] = position

    def is_listed(self, slots: Array, position: int, single: bool | Array = False) -> Array:
        """Which slots readers know before the entry at ``position`` is published. single: where
        they ask for single identities, bool or bool[n]. bool[n]"""
        if not self.is_used:
            return np.ones(len(slots), np.bool_)
        if single is True:
            return ~self._is_book[slots]
        end = self._end[slots]
        people = np.asarray((self._first[slots] <= position) & ((end == 0) | (position < end)))
        return people if single is False else np.where(single, ~self._is_book[slots], people)

    def has(self, slot: int, position: int) -> bool:
        """The same of one slot."""
        end = int(self._end[slot])
        return int(self._first[slot]) <= position and (end == 0 or position < end)

    def is_hidden(self, slot: int) -> bool:
        """Whether a slot has never been listed."""
        return bool(self._first[slot] == NEVER)

    def listed(self, slots: Array, position: int, single: bool = False) -> Array:
        """Those of the slots that readers know. Costs nothing where nobody was ever linked."""
        return slots[self.is_listed(slots, position, single)] if self.is_used else slots

    def hidden_count(self, slots: int, position: int, single: bool = False) -> int:
        """How many of the first slots are not listed. Cost: a pass over them, if anybody is
        linked."""
        if not self.is_used:
            return 0
        return slots - int(np.count_nonzero(self.is_listed(np.arange(slots), position, single)))

    def folded(self, blocks: Sequence[Block], position: int, single: bool = False) -> list[Block]:
        """The rows of the entry at ``position`` that fold in their ident's own slot; single: to
        rules about single identities, which are all but copies. Cost: a gather per row if anybody
        is linked, a copy of a block that has others."""
        if not self.is_used:
            return list(blocks)
        if single:
            return [block for block in blocks if not self._is_book[block.idents[:1]].any()]
        out = []
        for block in blocks:
            is_own = self.is_own(block.idents, position)
            if is_own.all():
                out.append(block)
            elif is_own.any():
                out.append(part_of(block, is_own))
        return out

    def is_own(self, idents: Array, position: int) -> Array:
        """Which rows of the entry at ``position`` fold in their ident's own slot. idents: of the
        rows. bool[n]"""
        since = self._since[idents]
        return np.asarray((since == 0) | (since > position + 1))

    def since(self, ident: int) -> int:
        """The entry from which on rows of an ident fold elsewhere; NEVER if they do not."""
        since = int(self._since[ident])
        return since - 1 if since else NEVER

    def saving(self, idents: int) -> Saving:
        """For a checkpoint, of so many idents: nothing where nobody is linked."""
        rows = idents if self.is_used else 0
        copies = {name: ColumnCopy(column, rows) for name, column in self._columns().items()}
        self._copy = RowsCopy(list(copies.values()), rows)
        return Saving((), lambda: {name: copy.out for name, copy in copies.items()}, [self._copy])

    def _columns(self) -> dict[str, Array]:
        return {"since": self._since, "first": self._first, "end": self._end}

    def restore(self, arrays: dict[str, Array]) -> None:
        """Columns from a checkpoint; from one before there were books, none."""
        for name, column in self._columns().items():
            known = arrays.get(name)
            if known is not None and len(known):
                self.is_used = True
                column[: len(known)] = known


class Routes:
    """Where the rows of each identity go, once all before them are on their way: by ident.

    It follows from residences, so a checkpoint does not keep it. The writer's thread alone.
    """

    def __init__(self, capacity: int) -> None:
        self._to = reserve(capacity, np.int16)  # 1 + the peer's place in the list; 0: none
        self._book = (reserve(capacity, np.uint64), reserve(capacity, np.uint64))
        self._peers: list[str] = []

    def begin(self, placed: Sequence[tuple[int, Place]], owner_of: Callable[[Named], str]) -> None:
        """From now on, each ident's into the book of its place, at the owner of that."""
        if not placed:
            return
        peers = [owner_of(place.canonical) for _, place in placed]
        for peer in dict.fromkeys(peers):
            if peer not in self._peers:
                self._peers.append(peer)
        number = {peer: at for at, peer in enumerate(self._peers, 1)}
        idents = [ident for ident, _ in placed]
        self._to[idents] = [number[peer] for peer in peers]
        keys = [book_key(*place.canonical.key, place.number) for _, place in placed]
        for half, values in zip(self._book, np.array(keys, np.uint64).T, strict=True):
            half[idents] = values

    def end(self, idents: Sequence[int]) -> None:
        """Nowhere, until all their rows were sent to other books."""
        self._to[idents] = 0

    def of(self, idents: Array) -> Iterator[tuple[str, Array, Array]]:
        """Peers, those of the idents whose rows go there, and the keys of their books, uint64[n,
        2]. Cost: array passes, one per peer."""
        to = self._to[idents]
        for number, peer in enumerate(self._peers, 1):
            some = idents[to == number]
            if len(some):
                yield peer, some, np.column_stack([half[some] for half in self._book])


def part_of(block: Block, kept: Array) -> Block:
    """Some rows of a block. kept: bool[n]"""
    place = kept.cumsum() - 1
    order = block.order[kept[block.order]]
    return replace(
        block,
        table=block.table.filter(pa.array(kept)),
        idents=block.idents[kept],
        order=place[order],
        timestamps=block.timestamps[kept],
        late=None if block.late is None else block.late[kept],
    )
