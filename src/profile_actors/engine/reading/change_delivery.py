"""The change feed as it is delivered: packed blocks expanded, attributes with their values.

Theory: a block says which (gauge, slot) moved between which levels; the layouts that give the
levels their names stand in the block of the definition in force. A computed attribute's change is
a mark: the value is the one at delivery, so a reader that is behind gets the newest, never an
older one twice.
"""

from __future__ import annotations

import threading
from contextlib import suppress
from itertools import repeat
from typing import Any

import numpy as np
import pyarrow as pa

from profile_actors.columnar.runs import distinct, order_by
from profile_actors.columnar.vectors import Array, Vector, widen
from profile_actors.definitions import catalogue_changes
from profile_actors.definitions.field_types import FieldType
from profile_actors.engine.fold.state import State
from profile_actors.engine.identity.identity import Identity
from profile_actors.engine.log import change_blocks as packed_changes
from profile_actors.engine.log.change_blocks import CAUSES, Expanded, Layout, Name, Packed
from profile_actors.engine.log.change_columns import STATUS, ChangeColumns, People, Values
from profile_actors.engine.log.entry import read_envelope
from profile_actors.engine.log.ports import Feed, Log
from profile_actors.engine.membership.rulebook_builder import compile_plan
from profile_actors.engine.membership.stored_values import computed_values, shown
from profile_actors.engine.reading.answers import Change
from profile_actors.errors import CursorExpired
from profile_actors.rules.catalogue.catalogue_plan import plan
from profile_actors.rules.evaluation.planned_values import plain_values

VALUE = "computed"
NO_CHANGES = Packed(0, -1, [])


class Delivery:
    """Expands a partition's feed. Any thread; the lock is held while the values of what changed are
    read, whatever the number of profiles."""

    def __init__(
        self, log: Log, feed: Feed, index: int, state: State, lock: threading.RLock
    ) -> None:
        self.log = log
        self.feed = feed
        self.index = index
        self.state = state
        self.lock = lock
        self._layouts: dict[int, list[Layout]] = {}

    def changes(self, after: int, head: int, limit_bytes: int) -> ChangeColumns:
        """Changes of the positions after ``after`` up to ``head``, and the position reached.

        after: -1 for all that is kept. Raises CursorExpired where retention dropped what follows.
        """
        read = self.feed.read(after, limit_bytes)
        kept = self.feed.first_kept()  # after reading: retention may drop what was to be read
        if 0 <= after < kept - 1:
            raise CursorExpired(
                f"expected a cursor at position {kept - 1} or later, got {after} - at the change"
                f" feed of partition {self.index}; what followed it has been dropped: read members"
                " or profiles anew, then changes from the present"
            )
        blocks = [(position, block) for position, block in read if position <= head]
        # The read stopped for its limit, and before head: more may follow its last block.
        is_partial = len(blocks) == len(read) and sum(len(block) for _, block in read) > limit_bytes
        found: list[tuple[int, Expanded]] = []
        for position, block in blocks:
            packed = packed_changes.decode(block)
            layouts = self._layouts_of(packed, position)
            found.append((position, packed_changes.expand(packed, layouts)))
        return self._delivered(found, max(after, blocks[-1][0] if is_partial else head))

    def _layouts_of(self, packed: packed_changes.Packed, position: int) -> list[Layout]:
        at = packed.layouts_at
        if at < 0:
            return []
        if at not in self._layouts:
            block = None if at == position else self.feed.get(at)
            if at != position and block is None:
                self._layouts[at] = self._planned_layouts(at)
            else:
                own = packed if block is None else packed_changes.decode(block)
                self._layouts[at] = packed_changes.unpack_layouts(own.layouts or [])
        return self._layouts[at]

    def _planned_layouts(self, at: int) -> list[Layout]:
        """Layouts whose block retention has dropped, from the definition in the log."""
        with self.log.view(at) as view:
            text = read_envelope(view, f"position {at}")[0].definition
        catalogue = catalogue_changes.decode(text)
        return [gauge.layout for gauge in compile_plan(plan(catalogue), catalogue, 1).gauges]

    def _delivered(self, found: list[tuple[int, Expanded]], reached: int) -> ChangeColumns:
        """Changes as readers get them. The lock is held for the values of what changed, once."""
        number: dict[Name, int] = {}
        tables = [
            np.array([number.setdefault(name, len(number)) for name in part.names], np.int32)
            for _, part in found
        ]
        nothing = packed_changes.expand(NO_CHANGES, [])
        every = [nothing, *(part for _, part in found)]
        pairs = zip(tables, found, strict=True)
        name = np.concatenate([nothing.name, *(table[part.name] for table, (_, part) in pairs)])
        idents = np.concatenate([part.idents for part in every])
        used, who = distinct(idents.astype(np.intp))
        names = list(number)
        asked = _rows_by_name(name, [key[0] == VALUE for key in names])
        with self.lock:
            values = {
                code: self._values(names[code][1], used, who[rows]) for code, rows in asked.items()
            }
        directory = self.state.directory
        # Idents of complete entries are never described again, so this needs no lock.
        people = People(directory.namespaces, *directory.packed(used))
        sizes = [len(part.idents) for _, part in found]
        positions = np.array([position for position, _ in found], np.int64)
        return ChangeColumns(
            self.index,
            reached,
            names,
            name,
            people,
            who.astype(np.int32),
            np.repeat(positions, sizes),
            np.concatenate([part.at for part in every]),
            np.concatenate([part.new for part in every]),
            np.concatenate([part.had for part in every]),
            np.concatenate([part.cause for part in every]),
            {
                code: Values(rows, *_plainly(*values[code], count=len(rows)))
                for code, rows in asked.items()
            },
        )

    def _values(
        self, name: str, idents: Array, who: Array
    ) -> tuple[Vector | list[Any] | None, FieldType | None, Array]:
        """A computed attribute's values now, its type, and each change's number among the values;
        None if it has no answer (any more). who: whose of the idents, of each change."""
        book = self.state.book
        used, place = distinct(who)
        slots = self._present(idents[used], ("computed", name) in book.single)
        if ("computed", name) in book.pending:
            return None, None, place
        for rescan in book.rescans:
            if rescan.gauge < 0 and rescan.rule.name == name:
                now = self.state.now
                told = [shown(rescan.values.get(slot), now) for slot in slots.tolist()]
                return told, None, place
        for rule in book.plan.rules:
            if rule.kind == "computed" and rule.name == name:
                with suppress(Exception):  # it has no answer, and is no reason to stop the feed
                    column = computed_values(book, rule, np.maximum(slots, 0), self.state.now)
                    return _but(column, slots < 0), rule.root.type, place
        return None, None, place

    def _present(self, idents: Array, single: bool) -> Array:
        """The slots in which those who are told of under these idents are listed now, -1 for
        none: a change may be of before they were linked. single: to a rule about single identities.
        intp[n]"""
        state = self.state
        slots = state.directory.slot_of[idents].astype(np.intp)
        if state.listing.is_used:
            is_gone = ~state.listing.is_listed(slots, state.position, single)
            if single:
                return np.where(is_gone, -1, slots)
            for row in is_gone.nonzero()[0].tolist():
                slots[row] = state.homes.present(int(idents[row]), state.position)[1]
        return slots


def _but(values: Vector, is_gone: Array) -> Vector:
    """Values without those of some rows."""
    if not is_gone.any():
        return values
    values = widen(values, len(is_gone))
    valid = ~is_gone if values.valid is None else values.valid & ~is_gone
    return Vector(values.values, valid, values.dictionary)


def _rows_by_name(name: Array, is_asked: list[bool]) -> dict[int, Array]:
    """The rows that have each of the asked names, ascending."""
    if True not in is_asked:
        return {}
    rows = np.array(is_asked)[name].nonzero()[0]
    order = order_by(name[rows])
    codes, starts = np.unique(name[rows][order], return_index=True)
    parts = np.split(rows[order], starts[1:])
    return dict(zip(codes.tolist(), parts, strict=True))


def _plainly(
    found: Vector | list[Any] | None, kind: FieldType | None, place: Array, count: int
) -> tuple[Array | list[Any], Array | None]:
    """Values as they travel: numbers as an array and where they are valid, others as a list."""
    if found is None:
        return [None] * count, None
    if isinstance(found, Vector):
        is_plain = found.dictionary is None and found.values.dtype.kind in "ifb"
        if is_plain and (kind is None or kind.kind != "decimal"):
            valid = None if found.valid is None else found.valid[place]
            return found.values[place], valid
        found = plain_values(found, kind)
    return [found[one] for one in place.tolist()], None


def changes_of(page: ChangeColumns, begin: int, end: int) -> list[Change]:
    """The changes of a page from begin up to end, as objects. Cost: a microsecond each."""
    part = slice(begin, end)
    name, new = page.name[part].tolist(), page.new[part].tolist()
    used, who = distinct(page.who[part])
    spaces, ids = page.people.spaces, page.people.ids().take(pa.array(used)).to_pylist()
    space = page.people.space[used].tolist()
    identities = [Identity(spaces[of], id_) for of, id_ in zip(space, ids, strict=True)]
    news: list[Any] = [STATUS[is_in] for is_in in new]
    pairs = zip(new, page.had[part].tolist(), strict=True)
    olds: list[Any] = [STATUS[not is_in] if not is_in or had else None for is_in, had in pairs]
    for values in page.values.values():
        for row, value in zip(*values.plain(begin, end), strict=True):
            olds[row - begin], news[row - begin] = None, value
    return list(map(
        Change,
        repeat(page.partition),
        page.position[part].tolist(),
        page.at[part].tolist(),
        [page.names[code][0] for code in name],
        [page.names[code][1] for code in name],
        [identities[one] for one in who.tolist()],
        olds,
        news,
        [CAUSES[code] for code in page.cause[part].tolist()],
    ))  # fmt: skip
