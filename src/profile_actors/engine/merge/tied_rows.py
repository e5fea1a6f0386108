"""Record rows of one fragment and one instant: of many, those that say what all of them do.

Theory: of statements at one time the larger value counts, and which that is stands in the log
alone. A dataset without times of its own, on a clock that stands, gives all its rows one time: then
each upsert would live for ever. So once a fragment has many rows of one time they are read. Of each
leaf, and each key of a map, the one with the largest value is kept; of what they append, each
addition once. Read again are those that were left and came since: a row is read a few times.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from profile_actors.columnar.runs import last_of_runs
from profile_actors.columnar.vectors import Array
from profile_actors.engine.merge.documents import Row
from profile_actors.engine.merge.record_union import places_of, sort_key
from profile_actors.engine.merge.stated_names import Names

MANY_ROWS = 16
"""Rows of one fragment and time that may live, beside two for each leaf of their dataset."""


Read = Callable[[Array, Array], list[Row]]
"""Rows of the log by (position, row)."""


def some_of_ties(
    kept: Array, slot: Array, lanes: dict[str, Array], names: Names, read: Read
) -> Array:
    """Those of the living rows that are needed. kept: int64[n], rows by ascending slot. Cost:
    nothing while all slots have few."""
    if len(kept) <= max(0, MANY_ROWS):
        return kept
    columns = [slot[kept], lanes["who"][kept], lanes["dataset"][kept], lanes["time"][kept]]
    order = np.lexsort(columns[::-1])
    ends = last_of_runs(*(column[order] for column in columns)).nonzero()[0] + 1
    starts = np.append(0, ends[:-1])
    leaves = np.array([len(of) for of in names.leaves])
    most = MANY_ROWS + 2 * leaves[columns[2][order[starts]]]
    drop = np.zeros(len(kept), np.bool_)
    for start, end in zip(starts[ends - starts > most], ends[ends - starts > most], strict=True):
        tied = order[start:end]
        rows = read(lanes["position"][kept[tied]], lanes["row"][kept[tied]])
        drop[tied] = True
        drop[tied[_needed(rows)]] = False
    return kept[~drop]


def _needed(rows: list[Row]) -> list[int]:
    """Indexes of rows of one fragment and time that together say what all of them do."""
    best: dict[Any, tuple[Any, int]] = {}
    for number, row in enumerate(rows):
        # One that deletes, or replaces and says nothing, is needed for what it hides.
        best.setdefault(("hides", row.deletes), (None, number))
        for place, value in places_of(row):
            if place[0] in row.appends:
                best.setdefault((place, sort_key(value)), (None, number))
                continue
            known = best.get(place)
            if known is None or sort_key(value) > known[0]:
                best[place] = sort_key(value), number
    return sorted({number for _, number in best.values()})
