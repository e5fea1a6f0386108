"""Clock work in bounded steps: how far the clock goes at once, and slices of one instant.

Theory: what is due is known beforehand, so its amount is too. A clock that moves by itself goes no
further in one entry than to where a bounded number of due rows lie; the rest follows entry by
entry, with rows between. Where more are due at a single instant (a midnight), its work is let
happen slot range by slot range: a *slice* is a look-ahead of those slots to that instant that is
published. Each slice is a log entry of its own, so a replay slices alike. Until the last one the
clock stands at the instant, the due rows stay in their lines, and a slot is *owed* its part until
its slice has passed, or until rows of its own come: then its part is done before them.

Look-ups are exact meanwhile: they begin where the slot's own state stands. Members say Pending.
"""

from __future__ import annotations

import threading

import numpy as np

from profile_actors.columnar.slot_pairs import slots_of_all
from profile_actors.columnar.vectors import FOREVER
from profile_actors.engine.fold.entry_fold import EntryDelta, fold_slice
from profile_actors.engine.fold.state import State, of_profiles
from profile_actors.engine.log.entry import Block
from profile_actors.engine.membership.rulebook import Rulebook

FEWEST_SLOTS = 1_024


def due_count(book: Rulebook, now: int) -> int:
    """How many rows are due by ``now``. Cost: one search per chunk."""
    return sum(line.due_count(now) for line in book.lines())


def reach(book: Rulebook, now: int, limit: int) -> tuple[int, int]:
    """(instant, rows): how far one step may go, and 0; or the first instant with work, and how many
    rows are due there, when those alone are more than the limit."""
    if due_count(book, now) <= limit:
        return now, 0
    first = book.next_due()
    count = due_count(book, first)
    if count > limit:
        return first, count
    low, high = first, now  # due by low: few enough; by high: too many
    while high - low > 1:
        middle = (low + high) // 2
        if due_count(book, middle) <= limit:
            low = middle
        else:
            high = middle
    return low, 0


def prepare(book: Rulebook, at: int, limit: int) -> bool:
    """Put due rows in slot order, about ``limit`` of them; whether all are."""
    left = limit
    for line in book.lines():
        for chunk in line.chunks:
            if left <= 0:
                return False
            left -= chunk.order_due(at)
    return True


def slots_per_slice(total: int, rows: int, limit: int) -> int:
    """How many slots a slice takes so that about ``limit`` due rows are in it."""
    return max(FEWEST_SLOTS, total * limit // max(1, rows))


def forget(book: Rulebook, at: int) -> None:
    """Drop what was due by ``at`` from all lines: every slot has had it. Caller holds the lock."""
    assert at < FOREVER
    for line in book.lines():
        line.drop_due(at)


def note_slice(state: State, delta: EntryDelta) -> None:
    """Keep how far the slices are. The caller holds the lock and has published the delta."""
    drain = delta.drain
    if drain is None:
        return
    drain.next = delta.slice_end
    is_over = drain.next >= drain.total
    state.drain = None if is_over else drain
    if is_over:
        forget(state.book, drain.at)


def take_early(state: State, blocks: list[Block], lock: threading.RLock) -> EntryDelta | None:
    """The part in a drain of profiles that have rows now: it goes before these rows."""
    drain = state.drain
    blocks = [] if drain is None else of_profiles(state, blocks)
    if drain is None or not blocks:
        return None
    slots = np.unique(np.concatenate([state.directory.slot_of[b.idents] for b in blocks]))
    slots = slots[drain.owed(slots)].astype(np.uint32)
    if len(slots) == 0:
        return None
    delta = fold_slice(state, slots, None, drain.at)
    # The instant was reached by an entry that is durable: this need not wait for the rows'.
    with state.changing(lambda: slots_of_all([delta.fold.slots(), slots])), lock:
        delta.fold.publish(state.book)
        drain.early[slots] = True
        state.touch(state.position, slots)
    return delta
