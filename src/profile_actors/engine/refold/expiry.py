"""Rows that leave by a new cutoff: whose they are, and which operators must be folded without them.

Theory: what a cutoff changes is found before anything is folded. The locator knows the entries that
have rows of the instants between the old cutoff and the new one, so those alone are opened. An
operator whose window all of these rows have left by now, or that never let them in, holds nothing
of them and stays as it is; only the others are folded anew.

Cost: a pass over the locator's keys, 2 ns a row, and the entries that have rows which leave.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np

from profile_actors.columnar.vectors import FOREVER, Array
from profile_actors.engine.fold.state import State
from profile_actors.engine.histories.kept_events import EventHistory
from profile_actors.engine.identity.listing import part_of
from profile_actors.engine.log.entry import Block, decode
from profile_actors.engine.log.ports import Log
from profile_actors.engine.log.row_locator import pack
from profile_actors.engine.membership.rulebook import Rulebook
from profile_actors.engine.merge.kept_rows import Cutoffs, between
from profile_actors.engine.operators.block_matching import (
    BlockReader,
    arrivals_of,
    history_arrivals,
    read_block,
)
from profile_actors.engine.operators.event_streams import Stream
from profile_actors.ingest.hidden_columns import K0
from profile_actors.rules.evaluation.windows import interval
from profile_actors.rules.tree.plan import EventFilter

SECOND = np.uint64(2**32 - 1)  # the bits of a locator's key that are no ident


class Expiry:
    """What leaves a partition when its cutoffs become other ones.

    slots: uint32[n] ascending, whose rows leave. rows: how many, those copied into books not
    counted again. refolded: ids of the streams and histories that hold some of them.
    """

    def __init__(self, state: State, log: Log, cutoffs: Cutoffs) -> None:
        self._state, self._log = state, log
        self._before, self._after = dict(state.catalogue.expired), dict(cutoffs)
        self._seen = state.position
        self.slots = np.zeros(0, np.uint32)
        self.rows = 0
        self.refolded: set[int] = set()
        if self._after == self._before:
            return
        whose = [self.slots]
        for position in self._positions(0):
            with log.view(position) as view:
                blocks = decode(view, f"position {position}").blocks
                for single in (False, True) if state.book.single else (False,):
                    leaving = list(self._leaving(state.listing.folded(blocks, position, single)))
                    if not single:
                        self.rows += sum(b.rows for b in leaving if K0 not in b.table.column_names)
                    readers = [read_block(block, state.directory.slot_of) for block in leaving]
                    whose += [np.unique(reader.slots) for reader in readers]
                    if readers:
                        known = self.refolded
                        self.refolded |= _holding(state.book, readers, state.now, known, single)
        self.slots = np.unique(np.concatenate(whose)).astype(np.uint32)

    def has_grown(self) -> bool:
        """Whether rows came since that leave as well: late ones, of who knew no new cutoff."""
        return self._after != self._before and len(self._positions(self._seen)) > 0

    def _positions(self, first: int) -> list[int]:
        """Entries from ``first`` on that may have rows which leave."""
        changed = [name for name in self._after if self._after[name] != self._before.get(name)]
        low = min(self._before.get(name, -FOREVER) for name in changed)
        high = max(self._after[name] for name in changed)
        bounds = pack(np.zeros(2, np.int64), np.array([low, high]))
        found = [np.zeros(0, np.uint32)]
        for run in self._state.locator.runs:
            second = run.keys & SECOND
            rows = (second >= bounds[0]) & (second <= bounds[1]) & (run.position >= first)
            found.append(np.unique(run.position[rows]))
        return [int(position) for position in np.unique(np.concatenate(found))]

    def _leaving(self, blocks: Iterable[Block]) -> Iterator[Block]:
        for block in blocks:
            if self._after.get(block.dataset) == self._before.get(block.dataset):
                continue
            rows = between(block, self._before, self._after)
            if rows.any():
                yield block if rows.all() else part_of(block, rows)


def _holding(
    book: Rulebook, readers: list[BlockReader], now: int, known: set[int], single: bool
) -> set[int]:
    """Which streams and histories of one kind hold some of these rows, or will."""
    out = set()
    for stream in book.streams:
        if id(stream) in known or stream.filter.single != single:
            continue
        if not stream.is_silent and _takes(stream, readers, now):
            out.add(id(stream))
    for events, history in book.histories.items():
        if id(history) in known or events in book.broken or events.single != single:
            continue
        if _keeps(history, readers, now):
            out.add(id(history))
    return out


def _takes(stream: Stream, readers: list[BlockReader], now: int) -> bool:
    try:
        arrivals = arrivals_of(stream, readers)
    except Exception:  # it may have failed on them before: the fold says
        return True
    return arrivals is not None and _stay(stream.filter, arrivals.timestamp, now)


def _keeps(history: EventHistory, readers: list[BlockReader], now: int) -> bool:
    try:
        arrivals = history_arrivals(history, readers)
    except Exception:
        return True
    return arrivals is not None and _stay(history.spec.filter, arrivals.timestamp, now)


def _stay(events: EventFilter, times: Array, now: int) -> bool:
    """Whether some of the rows have not left the window."""
    if not len(times):
        return False
    return not events.window or bool((interval(events.window, times)[1] > now).any())
