"""Delay lines: what becomes due later, as chunks sorted by due time.

Theory: a batch adds one chunk of contributions (due, slot, payload columns) sorted by due;
advancing the clock cuts off the due prefix of each chunk. Chunks are merged in powers so that
their number stays logarithmic. A second order by slot, made when first asked for, answers "what
does this profile still have in the line", which look-ups need; and with, beside it, the best value
from each row to its slot's last, "what is the best of it", which windowed extremes need, costs no
more for a profile with a million rows than for one with two.

Law: due_rows(a), cut(a), due_rows(b) yield the same rows as due_rows(b), for a <= b.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from profile_actors.columnar.runs import find, order_by
from profile_actors.columnar.vectors import FOREVER
from profile_actors.engine.operators.delay_chunks import Chunk, Payload, roomy

FUSE_ROWS = 16_384


NO_TIMES = np.zeros(0, np.int64)


NO_SLOTS = np.zeros(0, np.uint32)


_Part = tuple[np.ndarray, np.ndarray, Payload]
"""Rows in due order: due, slot, columns."""


FoundRows = list[tuple[Chunk, np.ndarray | slice]]
"""Chunks, and which of their rows."""


def count_of(found: FoundRows) -> int:
    """How many rows were found."""
    sizes = [len(c) if isinstance(rows, slice) else len(rows) for c, rows in found]
    return sum(sizes)


class DelayLine:
    """A heap of chunks. ``names``: the payload columns every row carries. first: the earliest due
    time; FOREVER when empty.

    Cost: push O(n log n) in the batch (O(n) when already sorted), due_rows O(due rows + chunks).
    """

    def __init__(self, names: tuple[str, ...] = ()) -> None:
        self.names = names
        self.chunks: list[Chunk] = []
        self.first = FOREVER
        self._slots = -1  # how many it has rows of, where that is known

    def __len__(self) -> int:
        return sum(map(len, self.chunks))

    @property
    def size_bytes(self) -> int:
        """Bytes of all chunks, cut-off rows included."""
        return sum(
            c.due.nbytes + c.slot.nbytes + sum(v.nbytes for v in c.columns.values())
            for c in self.chunks
        )

    def push(self, due: np.ndarray, slot: np.ndarray, columns: Payload) -> None:
        """Add rows. due: int64[n], slot: uint32[n], columns: one array[n] per name."""
        if len(due) == 0:
            return
        if len(due) > 1 and (due[1:] < due[:-1]).any():
            order = _order_of(due)
            due, slot = due[order], slot[order]
            columns = {name: columns[name][order] for name in self.names}
        else:
            columns = {name: columns[name] for name in self.names}
        begins = int(due[0])
        self.first = min(self.first, begins)
        last = self.chunks[-1] if self.chunks else None
        if last is not None and last.has_room(due, columns):
            assert last.room is not None
            grown = last.room.grown(last.begin, due, slot, columns)
            self.chunks = [*self.chunks[:-1], grown]
            return
        chunks = [*self.chunks, roomy(due, slot, columns)]
        while len(chunks) > 1:
            older, newer = len(chunks[-2]), len(chunks[-1])
            # Beyond a few thousand rows a merge costs more than the extra chunk ever does.
            if older >= FUSE_ROWS or older >= 2 * newer:
                break
            chunks[-2:] = [self._fuse(chunks[-2:])]
        self.chunks = chunks

    def due_rows(self, now: int) -> tuple[np.ndarray, np.ndarray, Payload]:
        """Every row with due <= now, in due order (ties as pushed); nothing changes."""
        if self.first > now:
            return self._joined([])
        taken: list[_Part] = []
        for chunk in self.chunks:
            end = chunk.end_of(now)
            if end > chunk.begin:
                taken.append(self._part(chunk, slice(chunk.begin, end)))
        return self._joined(taken)

    def drop_due(self, now: int) -> None:
        """Drop every row with due <= now."""
        if self.first > now:
            return
        left, first = [], FOREVER
        for chunk in self.chunks:
            begin = chunk.begin = chunk.end_of(now)
            if begin < len(chunk.due):
                left.append(chunk)
                first = min(first, int(chunk.due[begin]))
        self.chunks, self.first = left, first

    def gather(self, slots: np.ndarray) -> _Part:
        """Every row of the given sorted unique slots, in due order, left in place."""
        return self.taken(self.find(slots))

    def find(self, slots: np.ndarray) -> FoundRows:
        """Where the rows of the given sorted unique slots are, by chunk, for ``taken``."""
        if len(slots) == self._slots:
            return [(chunk, slice(chunk.begin, None)) for chunk in self.chunks]
        found: FoundRows = []
        slots = slots.astype(np.uint32, copy=False)
        for chunk in self.chunks:
            rows = chunk.rows_of(slots, chunk.begin)
            if len(rows):
                found.append((chunk, rows))
        return found

    def taken(self, found: FoundRows) -> _Part:
        """Rows that were found, in due order."""
        return self._joined([self._part(chunk, rows) for chunk, rows in found])

    def of_slots(self, slots: np.ndarray, found: FoundRows) -> Callable[[], DelayLine]:
        """The rows of now of these sorted unique slots, under new numbers, in their order: a line
        of its own, made when it is called, by any thread. found: where they are, if that is known;
        else []. Cost here: a step per chunk."""
        wanted = slots.astype(np.uint32, copy=False)
        begins = [(chunk, chunk.begin) for chunk in self.chunks] if not found else []
        columns = {id(chunk): chunk.columns for chunk in self.chunks}

        def made() -> DelayLine:
            rows = found or [(chunk, chunk.rows_of(wanted, begin)) for chunk, begin in begins]
            parts = [
                (c.due[r], c.slot[r], {name: columns[id(c)][name][r] for name in self.names})
                for c, r in rows
                if isinstance(r, slice) or len(r)
            ]
            due, slot, joined = self._joined(parts)
            line = DelayLine(self.names)
            line.push(due, find(wanted, slot)[0].astype(np.uint32), joined)
            line._slots = len(wanted)
            return line

        return made

    def best_of(
        self, slots: np.ndarray, after: int, name: str, is_max: bool, none: np.generic
    ) -> np.ndarray:
        """Per slot the greatest (least) of a column over its rows due later than ``after``; none
        where there are none. slots: sorted, unique."""
        best = np.full(len(slots), none, type(none))
        for chunk in self.chunks:
            found = chunk.best_of(slots, after, name, is_max, none)
            best = np.maximum(best, found) if is_max else np.minimum(best, found)
        return best

    def due_between(self, low: int, high: int, now: int) -> tuple[np.ndarray, np.ndarray, Payload]:
        """The rows due by now of the slots from low up to high, in due order, left in place."""
        taken: list[_Part] = []
        for chunk in self.chunks:
            rows = chunk.due_between(low, high, now)
            if len(rows):
                taken.append(self._part(chunk, rows))
        return self._joined(taken)

    def recode(self, name: str, table: np.ndarray) -> Callable[[], None]:
        """Replace the numbers of a payload column by what the table gives for them; negative ones
        stay. To be called before anything else is done to the line, under the owner's lock."""
        fresh = []
        for chunk in self.chunks:
            numbers = chunk.columns[name]
            fresh.append((chunk, np.where(numbers < 0, numbers, table[np.maximum(numbers, 0)])))

        def swap() -> None:
            for chunk, numbers in fresh:
                chunk.columns = {**chunk.columns, name: numbers}
                chunk.room = None  # it has the old ones

        return swap

    def due_count(self, now: int) -> int:
        """How many rows are due by now."""
        return sum(chunk.end_of(now) - chunk.begin for chunk in self.chunks)

    def later(self) -> Callable[[], dict[str, np.ndarray]]:
        """All rows of now in due order, for a checkpoint, whenever it is called."""
        live = [self._live(c) for c in self.chunks]

        def rows() -> dict[str, np.ndarray]:
            due, slot, columns = self._joined(live)
            named = {f"column/{name}": columns[name] for name in self.names}
            return {"due": due, "slot": slot, **named}

        return rows

    def _live(self, chunk: Chunk) -> _Part:
        return self._part(chunk, slice(chunk.begin, None))

    def _part(self, chunk: Chunk, rows: np.ndarray | slice) -> _Part:
        columns = {name: chunk.columns[name][rows] for name in self.names}
        return chunk.due[rows], chunk.slot[rows], columns

    def _fuse(self, chunks: list[Chunk]) -> Chunk:
        return roomy(*self._joined([self._live(c) for c in chunks]))

    def _joined(self, parts: list[_Part]) -> _Part:
        if len(parts) == 1:
            return parts[0]
        if not parts:
            return NO_TIMES, NO_SLOTS, dict.fromkeys(self.names, NO_TIMES)
        due = np.concatenate([part[0] for part in parts])
        slot = np.concatenate([part[1] for part in parts])
        order = due.argsort(kind="stable")
        columns = {
            name: np.concatenate([part[2][name] for part in parts])[order] for name in self.names
        }
        return due[order], slot[order], columns


def _order_of(due: np.ndarray) -> np.ndarray:
    """The stable sorting permutation of instants: by radix where they span less than 49 days."""
    least = int(due.min())
    if int(due.max()) - least < 1 << 32:
        return order_by(due - least)
    return due.argsort(kind="stable")
