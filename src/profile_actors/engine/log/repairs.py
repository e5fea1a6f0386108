"""Rejected rows that may come again: which of a producer's offsets are open, and their repair.

Theory: a partition's cursor passes a rejected row like any other, so beside the cursor it keeps, as
a fold of the log, the offsets that were passed over: *open* ones. A row at an open offset is no
duplicate, and no part of the stream either; it is taken by a repair, once, and its offset moves
from open to *taken*. Where a row belongs follows from what is in it, which may have been put
right meanwhile, so an offset that one partition has taken must not be taken by another, and no
partition knows. Hence the steps of a repair, each logged:

    fence   to every partition: answer what of these offsets is open and taken here, and refuse
            every older attempt from now on. Attempts are numbered by the coordinator.
    take    to the owners, of rows that are open there and taken nowhere.
    close   to every partition: these offsets are stored, they are open no longer.
    settle  to every partition, after all have closed: nobody will ask for them again.

A driver may die between any two: the next one to offer the rows finds them open or taken, and goes
on. Two drivers at once fence each other, and one begins again.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa

from profile_actors.columnar.vectors import Array
from profile_actors.engine.log.entry import BatchNote, integers
from profile_actors.engine.log.sub_batch import Reply, SubBatch
from profile_actors.ingest.hidden_columns import ROW
from profile_actors.ingest.offsets import (
    OffsetSet,
    common,
    contains,
    packed,
    ranges_of,
    union,
    unpacked,
    without,
)


@dataclass(slots=True)
class Rejects:
    """One producer's. fence: the newest attempt at a repair."""

    open: OffsetSet = field(default_factory=OffsetSet)
    taken: OffsetSet = field(default_factory=OffsetSet)
    fence: int = 0


def fold_note(rejects: dict[str, Rejects], note: BatchNote, credited: int) -> None:
    """Keep what a logged note says. credited: the named producer's cursor before its credit."""
    if note.repair is not None:
        mine = rejects.setdefault(note.producer, Rejects())
        attempt, step, content = note.repair
        offsets = unpacked(content)
        mine.fence = max(mine.fence, attempt)
        if step in ("take", "close"):
            mine.open.remove(offsets)
        if step == "take":
            mine.taken.add(offsets)
        if step == "settle":
            mine.taken.remove(offsets)
    elif note.rejected:
        name = note.producer if note.credit is None else note.credit[0]
        shift = 0 if note.credit is None else credited
        rejects.setdefault(name, Rejects()).open.add(unpacked(note.rejected) + shift)


class Offers:
    """What is open and taken while one entry is made: the state's, and what its notes will do."""

    def __init__(self, rejects: dict[str, Rejects]) -> None:
        self._rejects = rejects
        self._notes: dict[str, list[tuple[BatchNote, int]]] = {}

    def note(self, note: BatchNote, credited: int) -> None:
        """A note of the entry, which later ones find folded."""
        if note.repair is not None or note.rejected:
            name = note.producer if note.credit is None else note.credit[0]
            self._notes.setdefault(name, []).append((note, credited))

    def of(self, producer: str) -> Rejects | None:
        """Cost: a copy, where the entry has notes of the producer already."""
        stored, notes = self._rejects.get(producer), self._notes.get(producer)
        if notes is None:
            return stored
        stored = stored or Rejects()
        open_, taken = stored.open.ranges.copy(), stored.taken.ranges.copy()
        copy = {producer: Rejects(OffsetSet(open_), OffsetSet(taken), stored.fence)}
        for note, credited in notes:
            fold_note(copy, note, credited)
        return copy[producer]

    def unfinished(self, producer: str, offsets: Array) -> Array:
        """Which of the ascending offsets wait for a repair, or for the end of one. bool[n]."""
        mine = self.of(producer)
        if mine is None or len(offsets) == 0:
            return np.zeros(len(offsets), np.bool_)
        low, high = int(offsets[0]), int(offsets[-1]) + 1
        waiting = union(mine.open.within(low, high), mine.taken.within(low, high))
        return contains(waiting, offsets)

    def step(self, batch: SubBatch) -> tuple[Reply, pa.Table | None, BatchNote | None]:
        """One step of a repair: the answer, the rows to take, and what is to be logged."""
        assert batch.repair is not None
        attempt, step, content = batch.repair
        mine = self.of(batch.producer) or Rejects()
        if attempt < mine.fence and step in ("fence", "take"):
            return Reply("fenced", expected=mine.fence), None, None
        table, duplicate = batch.table, 0
        if step == "take":
            if table is None:
                return Reply("ok"), None, None
            offsets = offsets_of_rows(table)
            is_open = contains(mine.open.ranges, offsets)
            content = packed(ranges_of(offsets[is_open]))
            duplicate = int((~is_open).sum())
            table = table.filter(pa.array(is_open)) if duplicate else table
        note = BatchNote(
            batch.dataset, batch.producer, batch.after, batch.through,
            0 if table is None else table.num_rows, duplicate, 0,
            repair=(attempt, step, content),
        )  # fmt: skip
        if step != "fence":
            return Reply("ok"), table, note
        asked = unpacked(content)
        here = packed(common(mine.open.ranges, asked))
        taken = packed(common(mine.taken.ranges, asked))
        return Reply("ok", open=here, taken=taken), table, note


def answered(batch: SubBatch, notes: Sequence[tuple[int, BatchNote]]) -> Reply | None:
    """The receipt of a resent take's first commit."""
    for position, note in notes:
        if note.repair is not None and batch.repair is not None:
            is_same = note.repair[:2] == tuple(batch.repair[:2]) and note.through == batch.through
            if is_same and note.repair[1] == "take":
                return Reply("ok", note.accepted, note.duplicate, note.late, position)
    return None


def above(rejected: bytes, least: int) -> bytes:
    """The part of packed ranges from an offset on."""
    if not rejected:
        return rejected
    return packed(without(unpacked(rejected), np.array([[0, max(0, least)]])))


def offsets_of_rows(table: pa.Table) -> Array:
    """The rows' offsets in their producer's stream. int64[n]."""
    return integers(table, ROW)
