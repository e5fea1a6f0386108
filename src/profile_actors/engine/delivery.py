"""The change feed as it is delivered: packed blocks expanded, computed attributes with their
values.

Theory: a block says which (gauge, slot) moved between which levels; the layouts that give the
levels their names stand in the block of the definition in force. A computed attribute's change is
a mark: the value is the one at delivery, so a reader that is behind gets the newest, never an
older one twice.
"""

from __future__ import annotations

import threading
from typing import Any

import msgspec
import numpy as np

from profile_actors.definitions import Catalogue
from profile_actors.engine import changes as packed_changes
from profile_actors.engine.entry import read_envelope
from profile_actors.engine.gauges import Layout
from profile_actors.engine.log import Feed, Log
from profile_actors.engine.profile import Change
from profile_actors.engine.rulebook import UNKNOWN, compile_plan
from profile_actors.engine.state import State
from profile_actors.engine.values import computed_values, plain
from profile_actors.errors import CursorExpired
from profile_actors.rules.planner import plan


class Delivery:
    """Expands a partition's feed. Any thread; the lock is held while values are copied."""

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
        kept = self.feed.first_kept()
        if 0 <= after < kept - 1:
            raise CursorExpired(
                f"expected a cursor at position {kept - 1} or later, got {after} - at the change"
                f" feed of partition {self.index}; what followed it has been dropped: read members"
                " or profiles anew, then changes from the present"
            )
        out: list[Change] = []
        blocks = self.feed.read(after, limit_bytes)
        for position, block in blocks:
            if position > head:
                break
            packed = packed_changes.decode(block)
            expanded = packed_changes.expand(packed, self._layouts_of(packed, position))
            out.extend(self._delivered(position, expanded))
        complete = not blocks or sum(len(block) for _, block in blocks) <= limit_bytes
        reached = head if complete else blocks[-1][0]
        return out, max(after, reached)

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

    def _delivered(self, position: int, expanded: list[packed_changes.Expanded]) -> list[Change]:
        values: dict[str, dict[int, Any]] = {}
        book = self.state.book
        rules = {
            rule.name: rule
            for rule in book.plan.rules
            if rule.kind == "computed" and rule.name not in book.pending
        }
        with self.lock:
            directory = self.state.directory
            identities = {c.ident: directory.identity(c.ident) for c in expanded}
            for rescan in self.state.book.rescans:
                values[rescan.rule.name] = {
                    int(directory.ident_of[slot]): value
                    for slot, value in rescan.values.items()
                    if value is not UNKNOWN
                }
            for name in {c.name for c in expanded if c.kind == "computed"} & set(rules):
                idents = np.array(
                    sorted({c.ident for c in expanded if c.kind == "computed" and c.name == name})
                )
                slots = directory.slot_of[idents].astype(np.uint32)
                column = computed_values(self.state.book, rules[name], slots, self.state.now)
                shown = plain(column, rules[name].root.type)
                values[name] = dict(zip(idents.tolist(), shown, strict=True))
        out = []
        for c in expanded:
            if c.kind == "computed":
                old, new = None, values.get(c.name, {}).get(c.ident)
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


def _status(is_member: bool) -> str:
    return "realized" if is_member else "exited"
