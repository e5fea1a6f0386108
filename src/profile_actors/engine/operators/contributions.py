"""One entry's contributions to a stream, grouped by profile, or by profile and instant.

Theory (DESIGN section 6): profiles with rows in the entry take rows and due work together, one net
change at the entry's now: one group per slot. For all other profiles each due contribution takes
effect at its own instant: one group per (slot, instant), a *virtual row*; a column's value at each
of them is the running total of its slot. Both are a sort and a ``reduceat``.

What is due of the delay lines in one step becomes contributions with a sign.

What enters adds, what leaves subtracts. A contribution that enters and leaves again within
the step does both. Where and when each counts depends on who has rows in the entry::

                 last now         due            now
    p, has rows     |---------------+-------------|    counts at now, together with the rows
    q, has none     |---------------+-------------|    counts at due: a virtual row, by the clock

What enters and leaves again between the two never counts for p, and makes two virtual rows of q.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from profile_actors.columnar.runs import last_of_runs, order_by, sizes_of, starts_of
from profile_actors.columnar.state_columns import UNSET
from profile_actors.columnar.vectors import FOREVER, Array
from profile_actors.engine.operators.delay_chunks import Payload

ENTERED = -1

HaveRows = Callable[[Array], Array]
"""Which slots have rows in the entry. bool[n]"""


@dataclass(frozen=True, slots=True)
class StepScope:
    """From which instant to which a step goes, of which profiles, and who has rows in it.

    now, started: ms. An entry has rows, and all profiles; a slice and a look-ahead have neither.
    """

    now: int
    started: int = UNSET
    has_rows: Array | None = None
    """Who has rows in the entry: bool per slot. None: nobody."""
    slots: Array | None = None
    """The step is of these slots alone, ascending. None: of all."""
    span: tuple[int, int] | None = None
    """``slots`` are those of this range (low, high), but for some."""
    enough: int = FOREVER
    """A look-ahead asks for no more than each slot's first change after this instant."""
    is_held: bool = False
    """The clock stands while its work is sliced: rows alone, nothing due is looked at."""

    def have_rows(self, slots: Array) -> Array:
        """Which of these slots have rows in the entry. bool[n]"""
        return np.zeros(len(slots), np.bool_) if self.has_rows is None else self.has_rows[slots]

    @property
    def is_ahead(self) -> bool:
        """Whether this is a look-ahead, never to be published."""
        return self.enough < FOREVER


@dataclass(frozen=True, slots=True)
class RowGroups:
    """slots: intp[g] ascending; starts, sizes: int64[g] of each in the n contributions; sign:
    int8[n], None when all are +1; columns: payload[n]."""

    slots: Array
    starts: Array
    sizes: Array
    sign: Array | None
    columns: Payload
    size: int


@dataclass(frozen=True, slots=True)
class ClockGroups:
    """slots, at: intp[p], int64[p] ascending by (slot, at); starts: int64[p] into the n
    contributions; distinct: intp[s], the slots, each once; first, last: int64[s], the first and the
    last pair of each; sign: int8[n]; columns: payload[n].
    leave: int64[n]: when a contribution of sign +1 leaves again; of sign -1: ENTERED if it had
    entered in this same step, else 0."""

    slots: Array
    at: Array
    starts: Array
    first: Array
    sign: Array
    leave: Array
    columns: Payload
    size: int
    distinct: Array
    last: Array


def concat(parts: list[Payload]) -> Payload:
    """Payloads one after the other."""
    if len(parts) == 1:
        return parts[0]
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def take(columns: Payload, rows: Array) -> Payload:
    """The given rows of a payload."""
    return {name: column[rows] for name, column in columns.items()}


def by_slot(slots: Array, sign: Array | None, columns: Payload, is_sorted: bool) -> RowGroups:
    """Group contributions by slot. Cost: O(n) when already sorted, else one sort."""
    if not is_sorted:
        order = order_by(slots)
        slots, columns = slots[order], take(columns, order)
        sign = None if sign is None else sign[order]
    starts = starts_of(slots)
    # Indexing by intp is two to three times as fast as by uint32, and every operator indexes.
    sizes = sizes_of(starts, len(slots))
    return RowGroups(slots[starts].astype(np.intp), starts, sizes, sign, columns, len(slots))


def by_slot_and_instant(
    slots: Array, at: Array, sign: Array, leave: Array, columns: Payload
) -> ClockGroups:
    """Group contributions by (slot, instant). ``at`` must ascend; cost: one sort by slot."""
    order = order_by(slots)
    slots, at, sign, leave = slots[order], at[order], sign[order], leave[order]
    mark = np.empty(len(slots), np.bool_)
    mark[:1] = True
    mark[1:] = (slots[1:] != slots[:-1]) | (at[1:] != at[:-1])
    starts = mark.nonzero()[0]
    pairs = slots[starts].astype(np.intp)
    first, last = starts_of(pairs), last_of_runs(pairs).nonzero()[0]
    return ClockGroups(
        pairs, at[starts], starts, first, sign, leave, take(columns, order), len(slots),
        pairs[first], last,
    )  # fmt: skip


class LineRows(NamedTuple):
    """Rows of a delay line in due order. due: int64[n] ms; slot: uint32[n]; columns: payload[n]."""

    due: Array
    slot: Array
    columns: Payload

    def within(self, after: int, now: int) -> LineRows:
        """Those that are due later than ``after`` and by ``now``."""
        if not len(self.due):
            return self
        low, high = self.due.searchsorted((after, now), "right").tolist()
        part = slice(low, high)
        columns = {name: column[part] for name, column in self.columns.items()}
        return LineRows(self.due[part], self.slot[part], columns)

    def of_slots(self, slots: Array, span: tuple[int, int]) -> LineRows:
        """Those of a range of slots without those of slots that were left out."""
        low, high = span
        if len(slots) == high - low:
            return self
        inside = np.zeros(high - low, np.bool_)
        inside[slots - low] = True
        return self.take(inside[self.slot - low].nonzero()[0])

    def take(self, rows: Array) -> LineRows:
        """The given rows."""
        return LineRows(self.due[rows], self.slot[rows], take(self.columns, rows))


NO_ROWS = LineRows(np.zeros(0, np.int64), np.zeros(0, np.uint32), {})


class AtNow(NamedTuple):
    """Contributions of profiles with rows in the entry: all count at its now. sign: int8[n];
    None where all are +1, of rows that arrive."""

    slot: Array
    sign: Array | None
    columns: Payload


class Due(NamedTuple):
    """Contributions that the clock moves. at: int64[n], when; sign: int8[n], +1 enters, -1 leaves.
    leave: int64[n], of +1 when it leaves again; of -1 ENTERED if it entered in this same step,
    else 0."""

    at: Array
    slot: Array
    sign: Array
    leave: Array
    columns: Payload

    def take(self, rows: Array) -> Due:
        """The given contributions."""
        at, slot, sign, leave, columns = self
        return Due(at[rows], slot[rows], sign[rows], leave[rows], take(columns, rows))

    def split(self, now: int, have_rows: HaveRows) -> tuple[AtNow | None, Due]:
        """Those of profiles with rows, and those of the others. What of the former both entered
        and left since the last step is in neither: no instant came at which it counted."""
        mine = have_rows(self.slot)
        if not mine.any():
            return None, self
        passed = np.where(self.sign > 0, self.leave <= now, self.leave == ENTERED)
        rows = (mine & ~passed).nonzero()[0]
        rest = self.take((~mine).nonzero()[0])
        if not len(rows):
            return None, rest
        return AtNow(self.slot[rows], self.sign[rows], take(self.columns, rows)), rest


@dataclass(slots=True)
class DueParts:
    """What is due in one step, in parts. staying: of what enters, that which leaves after now."""

    parts: list[Due]
    staying: LineRows | None

    def split(self, now: int, have_rows: HaveRows) -> list[AtNow]:
        """Take out those of profiles with rows in the entry."""
        halves = [part.split(now, have_rows) for part in self.parts]
        self.parts = [rest for _, rest in halves if len(rest.at)]
        return [mine for mine, _ in halves if mine is not None]

    def grouped(self) -> ClockGroups | None:
        """The virtual rows; None without any."""
        if not self.parts:
            return None
        if len(self.parts) == 1:
            at, slot, sign, leave, columns = self.parts[0]
            return by_slot_and_instant(slot, at, sign, leave, columns)
        at = np.concatenate([part.at for part in self.parts])
        joined = Due(
            at,
            np.concatenate([part.slot for part in self.parts]),
            np.concatenate([part.sign for part in self.parts]),
            np.concatenate([part.leave for part in self.parts]),
            concat([part.columns for part in self.parts]),
        )
        at, slot, sign, leave, columns = joined.take(np.argsort(at, kind="stable"))
        return by_slot_and_instant(slot, at, sign, leave, columns)


def due_parts(entering: LineRows, leaving: LineRows, names: tuple[str, ...], now: int) -> DueParts:
    """What is due by ``now`` of the two lines. names: the operators' columns."""
    parts: list[Due] = []
    staying = None
    if len(entering.due):
        at, slot, columns = entering
        leave = columns["leave"]
        values = {name: columns[name] for name in names}
        parts.append(Due(at, slot, _signs(len(at), 1), leave, values))
        gone = (leave <= now).nonzero()[0]
        if len(gone):
            at_once = np.full(len(gone), ENTERED, np.int64)
            sign = _signs(len(gone), -1)
            parts.append(Due(leave[gone], slot[gone], sign, at_once, take(values, gone)))
        staying = LineRows(leave, slot, values).take((leave > now).nonzero()[0])
    if len(leaving.due):
        at, slot, columns = leaving
        count = len(at)
        parts.append(Due(at, slot, _signs(count, -1), np.zeros(count, np.int64), columns))
    return DueParts(parts, staying)


def row_groups(arrived: AtNow | None, due: Sequence[AtNow]) -> RowGroups | None:
    """All that counts at now, by profile; None if nothing does. arrived: ascending by slot."""
    if not due:
        if arrived is None:
            return None
        return by_slot(arrived.slot, None, arrived.columns, is_sorted=True)
    parts = [*due] if arrived is None else [arrived, *due]
    slot = np.concatenate([part.slot for part in parts])
    sign = np.concatenate(
        [_signs(len(part.slot), 1) if part.sign is None else part.sign for part in parts]
    )
    return by_slot(slot, sign, concat([part.columns for part in parts]), is_sorted=False)


def _signs(count: int, sign: int) -> Array:
    signs = np.empty(count, np.int8)
    signs.fill(sign)
    return signs
