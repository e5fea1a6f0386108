"""CHAIN over frames: whether some choice of events makes all stages (RULES §5), for all rows.

Theory: stage by stage, a table of *partial* choices: the row, the time of the last event chosen,
and the last events of earlier stages that a later condition reads. The next stage joins it with the
events that are later and meet the condition. What nothing reads any more is dropped from the
table, and of choices that only differ in their last event's time the earliest is kept: whatever
can follow a later one can follow it. So without references one partial choice per row is left, and
each stage is a binary search; references multiply them by the events they tell apart.

The events of a stage need not be the nearest, and any n - 1 may precede its last one: in order,
every candidate from the n-th on may be the last.
"""

from __future__ import annotations

import numpy as np

from profile_actors.columnar import runs
from profile_actors.columnar.lists import Events, Item, Mapped
from profile_actors.columnar.vectors import FOREVER, Array
from profile_actors.rules.evaluation.joins import Join, Rows
from profile_actors.rules.tree.free_names import reads
from profile_actors.rules.tree.plan import Sequence, Stage
from profile_actors.rules.tree.walks import conjuncts


def found_sequences(frame: Rows, node: Sequence) -> Array:
    """Whether each row's events form the sequence. bool[rows]"""
    ahead: list[frozenset[int | str]] = []
    later: frozenset[int | str] = frozenset()
    for stage in reversed(node.stages):
        ahead.insert(0, later)
        if stage.condition is not None:
            later |= reads(stage.condition)
    result = np.zeros(frame.rows, np.bool_)
    rows = np.arange(frame.rows)
    last = np.full(frame.rows, -FOREVER, np.int64)
    names: dict[str, Events] = {}
    for stage, needed in zip(node.stages, ahead, strict=True):
        rows, last, names = _next(frame, stage, needed, rows, last, names)
        if len(rows) == 0:
            return result
    result[rows] = True
    return result


def _next(
    frame: Rows,
    stage: Stage,
    needed: frozenset[int | str],
    rows: Array,
    last: Array,
    names: dict[str, Events],
) -> tuple[Array, Array, dict[str, Events]]:
    """The partial choices after one more stage. needed: the names that later conditions read."""
    bound: dict[str, Item | Mapped] = dict(names)
    state = frame.within(rows, len(rows), bound)
    source = frame.many(stage.source)
    conditions = [] if stage.condition is None else conjuncts(stage.condition)
    found = Join(state, frame, source, stage.name).found(conditions, after=last + 1)
    item = source.item
    assert isinstance(item, Events), item
    if found.sizes is not None and stage.name not in needed:
        # Only the earliest last event matters: the n-th candidate.
        left = np.flatnonzero(found.sizes >= stage.count)
        right = found.order[found.low[left] + stage.count - 1]
    else:
        left, right = found.pairs()
        starts = runs.starts_of(left)
        rank = np.arange(len(left)) - np.repeat(starts, np.diff(starts, append=len(left)))
        only = rank >= stage.count - 1 if stage.name in needed else rank == stage.count - 1
        kept = np.flatnonzero(only)
        left, right = left[kept], right[kept]
    chosen = Events(item.rows, item.place[right])
    names = {name: Events(e.rows, e.place[left]) for name, e in names.items() if name in needed}
    if stage.name in needed:
        names[stage.name] = chosen
    return _earliest(rows[left], chosen.rows.time[chosen.place], names)


def _earliest(
    rows: Array, last: Array, names: dict[str, Events]
) -> tuple[Array, Array, dict[str, Events]]:
    """Of the choices that later stages cannot tell apart but by time, the earliest."""
    columns = (rows, *(events.place for events in names.values()))
    if _ascends(columns):
        kept = np.arange(len(rows))
    else:
        order = np.lexsort((last, *columns[1:], rows))
        mark = np.zeros(len(order), np.bool_)
        mark[:1] = True
        for column in columns:
            ordered = column[order]
            mark[1:] |= ordered[1:] != ordered[:-1]
        kept = np.sort(order[mark])
    return (
        rows[kept],
        last[kept],
        {name: Events(events.rows, events.place[kept]) for name, events in names.items()},
    )


def _ascends(columns: tuple[Array, ...]) -> bool:
    """Whether the tuples ascend strictly, so that none occurs twice."""
    first = columns[0]
    tied = first[1:] == first[:-1]
    for column in columns[1:]:
        if not tied.any():
            break
        if (tied & (column[1:] < column[:-1])).any():
            return False
        tied = tied & (column[1:] == column[:-1])
    return not tied.any()
