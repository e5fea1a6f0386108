"""All rows of one identity that a partition has, as they came: for whoever asks what is held.

Theory: an identity's rows stand in the log of the partition that owns it, whoever shows them, and
stay there when newer rows of a record say otherwise. So what is held on a person are the rows of
each of her identities, read where they came to, in the order in which they did.

Cost: a page is its rows, and a look at where all of the identity's rows stand.
"""

from __future__ import annotations

import threading
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa

from profile_actors.columnar.runs import starts_of
from profile_actors.columnar.vectors import Array
from profile_actors.engine.fold.state import State
from profile_actors.engine.identity.identity import Identity
from profile_actors.engine.log.entry import block_parts, read_envelope, table_of
from profile_actors.engine.log.ports import Log
from profile_actors.engine.merge.documents import Row, Taken, document, shown_columns
from profile_actors.ingest.hidden_columns import OTHERS


class HeldRow(msgspec.Struct, frozen=True):
    """One row. position, row: where it is in its partition's log. received: the store's now (ms)
    when it was stored; time: the row's own. fields: as a document. others: the further identities
    that it names. deletes, appends: of a record, as ``Row`` has them."""

    position: int
    row: int
    received: int
    dataset: str
    time: int
    fields: dict[str, Any]
    others: list[Identity] = []
    deletes: bool = False
    appends: tuple[str, ...] = ()


class HeldPage(msgspec.Struct, frozen=True):
    """rows: in the order of the log. upto: entries that were looked at. after: the place (position,
    row) to go on from; None on the last page."""

    rows: list[HeldRow]
    upto: int
    after: tuple[int, int] | None


def held_rows(
    state: State,
    log: Log,
    lock: threading.RLock,
    key: tuple[int, int],
    is_record: bool,
    after: tuple[int, int],
    upto: int | None,
    limit: int,
) -> HeldPage:
    """A page of an identity's records, or events. after: (-1, -1) at first; upto: what the first
    page said, None at first. Any thread."""
    with lock:
        ident = int(state.directory.find(*np.array([key], np.uint64).T)[0])
        known, position = state.known, state.position
        runs = state.record_locator if is_record else state.locator
    end = position if upto is None else upto
    if not 0 <= ident < known:
        return HeldPage([], end, None)
    _, positions, rows = runs.rows_of(ident)
    places = positions.astype(np.int64) << 32 | rows  # ascending as rows came
    passed = -1 if after[0] < 0 else after[0] << 32 | after[1]
    places = places[(places > passed) & (positions < end)]
    is_last = len(places) <= limit
    some = np.sort(places if is_last else np.partition(places, limit - 1)[:limit])
    found = _read(log, some >> 32, some & 0xFFFF_FFFF)
    return HeldPage(found, end, None if is_last else (found[-1].position, found[-1].row))


def _read(log: Log, positions: Array, rows: Array) -> list[HeldRow]:
    """The rows at ascending places. Raises CorruptLog."""
    out: list[HeldRow] = []
    starts = starts_of(positions).tolist() if len(positions) else []
    for begin, end in zip(starts, [*starts[1:], len(positions)], strict=False):
        position = int(positions[begin])
        with log.view(position) as view:
            out += _of_entry(view, position, rows[begin:end])
    return out


def _of_entry(view: memoryview, position: int, rows: Array) -> list[HeldRow]:
    where = f"position {position}"
    now = read_envelope(view, where)[0].now
    out = []
    for part in block_parts(view, where):
        low, high = rows.searchsorted((part.first, part.first + part.rows)).tolist()
        if high > low:
            mine = rows[low:high]
            table = table_of(part.stream).take(pa.array(mine - part.first))
            stated = Taken(part.dataset, shown_columns(table)).records()
            named: list[Any] = [None] * len(mine)
            if OTHERS in table.column_names:
                named = table.column(OTHERS).to_pylist()
            for number, one, others in zip(mine.tolist(), stated, named, strict=True):
                out.append(_held(position, number, now, one, others))
    return out


def _held(position: int, number: int, now: int, one: Row, others: Any) -> HeldRow:
    named = [Identity(other["namespace"], other["value"]) for other in others or ()]
    return HeldRow(
        position, number, now, one.dataset, one.timestamp, document(one.fields), named,
        one.deletes, one.appends,
    )  # fmt: skip
