"""One entry's contributions to a stream, grouped by profile, or by profile and instant.

Theory (DESIGN section 6): profiles with rows in the entry take rows and due work together, one net
change at the entry's now: one group per slot. For all other profiles each due contribution takes
effect at its own instant: one group per (slot, instant), a *virtual row*; a column's value at each
of them is the running total of its slot. Both are a sort and a ``reduceat``.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from profile_actors.columnar.runs import order_by, sizes_of, starts_of
from profile_actors.columnar.vectors import Array
from profile_actors.engine.operators.delay_lines import Payload

ENTERED = -1


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
    contributions; first: int64[s], the first pair of each slot; sign: int8[n]; columns: payload[n].
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

    @property
    def distinct(self) -> Array:
        """The slots, each once. intp[s]."""
        return self.slots[self.first]

    @property
    def last(self) -> Array:
        """Index of the last pair of each slot. int64[s]."""
        return np.append(self.first[1:], len(self.slots)) - 1


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
    return ClockGroups(
        pairs, at[starts], starts, starts_of(pairs), sign, leave, take(columns, order), len(slots)
    )
