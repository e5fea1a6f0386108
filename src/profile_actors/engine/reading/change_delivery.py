"""The change feed as it is delivered: packed blocks expanded, attributes with their values.

Theory: a block says which (gauge, slot) moved between which levels; the layouts that give the
levels their names stand in the block of the definition in force. A computed attribute's change is
a mark: the value is the one at delivery, so a reader that is behind gets the newest, never an
older one twice.
"""

from __future__ import annotations

import threading
from contextlib import suppress
from typing import Any

import msgspec
import numpy as np

from profile_actors.definitions.declared import Catalogue
from profile_actors.engine.fold.state import State
from profile_actors.engine.log import change_blocks as packed_changes
from profile_actors.engine.log.change_blocks import Expanded, Layout
from profile_actors.engine.log.entry import read_envelope
from profile_actors.engine.log.ports import Feed, Log
from profile_actors.engine.membership.rulebook import UNKNOWN
from profile_actors.engine.membership.rulebook_builder import compile_plan
from profile_actors.engine.membership.stored_values import computed_values
from profile_actors.engine.reading.answers import Change
from profile_actors.errors import CursorExpired
from profile_actors.rules.catalogue.catalogue_plan import plan
from profile_actors.rules.evaluation.planned_values import plain_values


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

    def changes(self, after: int, head: int, limit_bytes: int) -> tuple[list[Change], int]:
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
            expanded = packed_changes.expand(packed, self._layouts_of(packed, position))
            found.extend((position, change) for change in expanded)
        return self._delivered(found), max(after, blocks[-1][0] if is_partial else head)

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
        catalogue = msgspec.json.decode(text, type=Catalogue)
        return [gauge.layout for gauge in compile_plan(plan(catalogue), catalogue, 1).gauges]

    def _delivered(self, found: list[tuple[int, Expanded]]) -> list[Change]:
        """Changes as readers get them. The lock is held for the values of what changed, once."""
        idents: dict[str, set[int]] = {}
        for _, change in found:
            if change.kind == "computed":
                idents.setdefault(change.name, set()).add(change.ident)
        with self.lock:
            values = {name: self._values(name, sorted(mine)) for name, mine in idents.items()}
        # Idents of complete entries are never described again, so this needs no lock.
        known = {c.ident for _, c in found}
        identities = {ident: self.state.directory.identity(ident) for ident in known}
        out = []
        for position, c in found:
            if c.kind == "computed":
                old, new = None, values[c.name].get(c.ident)
            else:
                old = _status(c.old) if c.old or c.had else None
                new = _status(c.new)
            out.append(
                Change(
                    self.index,
                    position,
                    c.at,
                    c.kind,
                    c.name,
                    identities[c.ident],
                    old,
                    new,
                    c.cause,
                )
            )
        return out

    def _values(self, name: str, idents: list[int]) -> dict[int, Any]:
        """A computed attribute's values now, by ident; empty if it has no answer (any more)."""
        book = self.state.book
        if ("computed", name) in book.pending:
            return {}
        slots = self.state.directory.slot_of[idents].astype(np.uint32)
        for rescan in book.rescans:
            if rescan.gauge < 0 and rescan.rule.name == name:
                stored = [rescan.values.get(slot) for slot in slots.tolist()]
                shown = [None if value is UNKNOWN else value for value in stored]
                return dict(zip(idents, shown, strict=True))
        for rule in book.plan.rules:
            if rule.kind == "computed" and rule.name == name:
                with suppress(Exception):  # it has no answer, and is no reason to stop the feed
                    column = computed_values(book, rule, slots, self.state.now)
                    return dict(zip(idents, plain_values(column, rule.root.type), strict=True))
        return {}


def _status(is_member: bool) -> str:
    return "realized" if is_member else "exited"
