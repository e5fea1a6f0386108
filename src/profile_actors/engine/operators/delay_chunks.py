"""The chunks of a delay line: rows sorted by due, found by slot.

Theory: the arrays of a chunk never change, so readers need no copy of them. What a look-up asks for
by slot is put in order when it is first asked, and kept. Few rows come with room behind them, into
which the next ones are written if they are due later: they are a chunk of their own then, over the
same memory.
"""

from __future__ import annotations

from itertools import count

import numpy as np

from profile_actors.columnar.runs import order_by, ranges

Payload = dict[str, np.ndarray]


FEW_SLOTS = 16
"""Look-ups of up to so many profiles search a chunk that is not in slot order yet."""


MOST_ROOM = 256
"""A chunk of fewer rows has room for some more that are due later still: most that come are. In
larger ones look-ups would have to put many rows in order again for each few that come."""


class Room:
    """Memory for the rows of a chunk and of those that it grows into. filled: rows written."""

    __slots__ = ("columns", "due", "filled", "slot")

    def __init__(self, due: np.ndarray, slot: np.ndarray, columns: Payload) -> None:
        self.filled = len(due)
        rows = min(max(16, 2 * self.filled), MOST_ROOM)
        self.due, self.slot = np.empty(rows, due.dtype), np.empty(rows, slot.dtype)
        self.columns = {name: np.empty(rows, column.dtype) for name, column in columns.items()}
        self._write(0, due, slot, columns)

    def grown(self, begin: int, due: np.ndarray, slot: np.ndarray, columns: Payload) -> Chunk:
        """The rows so far and these, of which the first ``begin`` are cut off."""
        first, self.filled = self.filled, self.filled + len(due)
        self._write(first, due, slot, columns)
        return self.chunk(begin)

    def chunk(self, begin: int = 0) -> Chunk:
        """The rows so far."""
        end = self.filled
        columns = {name: column[:end] for name, column in self.columns.items()}
        return Chunk(self.due[:end], self.slot[:end], columns, begin, self)

    def _write(self, first: int, due: np.ndarray, slot: np.ndarray, columns: Payload) -> None:
        end = first + len(due)
        self.due[first:end], self.slot[first:end] = due, slot
        for name, column in self.columns.items():
            column[first:end] = columns[name]


class Chunk:
    """Rows sorted by due; ``begin`` is how many were cut off already. Arrays are never changed;
    what is written behind them in ``room`` is of other chunks."""

    __slots__ = (
        "_by_slot",
        "_due_part",
        "_patience",
        "_sorted_slots",
        "_suffixes",
        "begin",
        "columns",
        "due",
        "room",
        "slot",
    )
    _made = count()

    def __init__(
        self,
        due: np.ndarray,
        slot: np.ndarray,
        columns: Payload,
        begin: int = 0,
        room: Room | None = None,
    ) -> None:
        self.room = room
        self.due = due
        self.slot = slot
        self.columns = columns
        self.begin = begin
        self._by_slot: np.ndarray | None = None
        self._sorted_slots: np.ndarray | None = None
        self._due_part: tuple[int, int, np.ndarray, np.ndarray] | None = None
        self._suffixes: dict[str, np.ndarray] = {}
        # A search through the rows costs a hundredth of putting them in order, which some look-up
        # would wait for; chunks lose patience one after the other, not all in the same look-up.
        self._patience = 32 + 37 * next(self._made) % 97

    def __len__(self) -> int:
        return len(self.due) - self.begin

    def has_room(self, due: np.ndarray, columns: Payload) -> bool:
        """Whether it can grow by rows that are due then, ascending."""
        room, own = self.room, len(self.due)
        if room is None or room.filled != own or own + len(due) > len(room.due):
            return False
        for name, column in room.columns.items():
            if column.dtype != columns[name].dtype:
                return False
        return bool(self.due[-1] <= due[0])

    def end_of(self, now: int) -> int:
        """Index of the first row due later than now."""
        begin = self.begin
        if begin == len(self.due) or self.due[begin] > now:
            return begin
        return begin + int(self.due[begin:].searchsorted(now, side="right"))

    def order_due(self, now: int) -> int:
        """Have the rows due by now in slot order; how many had to be sorted for it."""
        end = self.end_of(now)
        part = self._due_part
        if end == self.begin or (part is not None and part[:2] == (self.begin, end)):
            return 0
        slots = self.slot[self.begin : end]
        order = order_by(slots)
        self._due_part = (self.begin, end, order + self.begin, slots[order])
        return end - self.begin

    def due_between(self, low: int, high: int, now: int) -> np.ndarray:
        """Indexes of the rows due by now of the slots from low up to high, in due order."""
        if self.end_of(now) == self.begin:
            return np.zeros(0, np.int64)
        self.order_due(now)
        assert self._due_part is not None
        _, _, order, slots = self._due_part
        first, last = slots.searchsorted(np.array((low, high), np.uint32))
        return np.sort(order[first:last])

    def rows_of(self, slots: np.ndarray, begin: int) -> np.ndarray:
        """Indexes of the rows from ``begin`` on of the given sorted unique slots, ascending. slots:
        uint32. Any thread."""
        if self._by_slot is None and len(slots) <= FEW_SLOTS and self._patience > 0:
            self._patience -= len(slots)
            part = self.slot[begin:]
            if len(slots) == 1:
                return np.flatnonzero(part == slots[0]) + begin
            found = [(part == slot).nonzero()[0] for slot in slots]
            return np.sort(np.concatenate([np.zeros(0, np.int64), *found])) + begin
        by_slot, low, high = self._stretches(slots)
        if len(slots) == 1:
            rows = by_slot[low[0] : high[0]]
        else:
            rows = by_slot[ranges(low, high - low)]
            rows.sort()
        return rows[rows.searchsorted(begin) :] if begin else rows

    def _stretches(self, slots: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """The rows by (slot, due), and from where to where in them each slot's are."""
        if self._by_slot is None or self._sorted_slots is None:
            by_slot = order_by(self.slot)
            self._sorted_slots = self.slot[by_slot]
            self._by_slot = by_slot
        # Of another type than the chunk's, NumPy would convert the chunk for every search.
        wanted = slots.astype(np.uint32, copy=False)
        low = self._sorted_slots.searchsorted(wanted, "left")
        high = self._sorted_slots.searchsorted(wanted, "right")
        return self._by_slot, low, high

    def best_of(
        self, slots: np.ndarray, after: int, name: str, is_max: bool, none: np.generic
    ) -> np.ndarray:
        """Per slot the greatest (least) of a column over its rows due later than ``after``.

        slots: sorted, unique. Cost: one sort of the chunk when first asked, then a search each.
        """
        by_slot, low, high = self._stretches(slots)
        values = self.columns[name]
        first, end = low.copy(), high.copy()
        while (open_ := first < end).any():
            middle = (first + end) // 2
            is_gone = open_ & (self.due[by_slot[np.minimum(middle, len(by_slot) - 1)]] <= after)
            first = np.where(is_gone, middle + 1, first)
            end = np.where(open_ & ~is_gone, middle, end)
        if name not in self._suffixes:
            self._suffixes[name] = _suffix_best(self.slot[by_slot], values[by_slot], is_max)
        out = np.full(len(slots), none, values.dtype)
        some = first < high
        out[some] = self._suffixes[name][first[some]]
        return out


def roomy(due: np.ndarray, slot: np.ndarray, columns: Payload) -> Chunk:
    """A chunk of these rows, with room for more if they are few."""
    if len(due) >= MOST_ROOM:
        return Chunk(due, slot, columns)
    return Room(due, slot, columns).chunk()


def _suffix_best(slots: np.ndarray, values: np.ndarray, is_max: bool) -> np.ndarray:
    """At each row the best of the values from it to the last of its slot; slots ascend.

    One running maximum over all: ranks of values, on a base that rises from slot to slot.
    """
    order = values.argsort(kind="stable")
    rank = np.empty(len(order), np.int64)
    rank[order] = np.arange(len(order)) if is_max else np.arange(len(order))[::-1]
    base = np.zeros(len(slots), np.int64)
    base[1:] = np.cumsum(slots[1:] != slots[:-1])
    base = (base[-1:] - base) * len(slots)
    best = np.maximum.accumulate((base + rank)[::-1])[::-1] - base
    return np.asarray(values[order][best if is_max else len(order) - 1 - best])
