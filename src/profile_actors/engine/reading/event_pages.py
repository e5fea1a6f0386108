"""Pages of one profile's events, in order-key order, forwards or backwards.

Theory: the locator knows rows by the second of their timestamp; the order within a second is in the
rows themselves. So a page takes whole seconds, from where the last page ended, until it has one row
more than it may show, and looks at all rows of a second to know which come first. A page's cursor
is the order key of its last row: pages put together are the one long page, also while rows arrive
(those whose place has been passed are not seen), and while the profile's identity becomes one
person with others. A cursor from before keys of identities were in it is taken for one of the
profile's own rows.

Cost: the rows of the page as documents, and to open the blocks that are not open yet; a microsecond
for each other row of the seconds at its two ends (without ``_id`` the hash of its document).
"""

from __future__ import annotations

import base64
from operator import itemgetter

import msgspec
import numpy as np

from profile_actors.columnar.vectors import Array
from profile_actors.engine.log.row_locator import Run, pack
from profile_actors.engine.merge.documents import Key, Primary
from profile_actors.engine.merge.kept_rows import Cutoffs, counts
from profile_actors.engine.merge.opened_blocks import Opened, OpenedBlocks
from profile_actors.engine.reading.answers import EventPage

Placed = tuple[Key, Opened, int]
"""A row's order key, and where it is: its block, and its number there."""


_KEY = msgspec.json.Decoder(Key)


_KEY_BEFORE = msgspec.json.Decoder(tuple[int, str, str, int])
"""What cursors said before keys of identities were in them."""


def event_page(
    opened: OpenedBlocks,
    runs: tuple[Run, ...],
    ident: int,
    own: Primary,
    start: int | None,
    end: int | None,
    order: str,
    limit: int,
    cursor: str | None,
    before: int,
    cutoffs: Cutoffs,
) -> EventPage:
    """The next ``limit`` events of start <= timestamp < end after the cursor's place, in 'asc' or
    'desc' order. runs: the event locator's. own: the identity of rows that do not say it. before:
    rows of the entries before that alone. cutoffs: older rows of their datasets have left."""
    is_back = order == "desc"
    after: Key | None = None
    if cursor is not None:
        after = place_of(cursor, own)
        if is_back:
            end = after[0] + 1 if end is None else min(end, after[0] + 1)
        else:
            start = after[0] if start is None else max(start, after[0])
    low, high = _span(ident, start, end)
    found: list[Placed] = []
    while len(found) <= limit and low <= high:
        wanted = limit + 1 - len(found)
        keys, positions, rows = _nearest(runs, low, high, wanted, is_back)
        if not len(keys):
            break
        # Of a second that is crowded with what has been shown, nothing may be left.
        low, high = (low, int(keys[0]) - 1) if is_back else (int(keys[-1]) + 1, high)
        is_own = positions < before
        placed = _placed(opened, positions[is_own], rows[is_own], own, is_back)
        if cutoffs:
            placed = [one for one in placed if counts(one[0][2], one[0][0], cutoffs)]
        found += [one for one in placed if _is_asked(one[0], start, end, after, is_back)]
        if len(keys) < wanted:
            break  # those were all
    following = None
    if len(found) > limit:
        following = base64.b64encode(msgspec.json.encode(found[limit - 1][0])).decode()
    return EventPage([block.document(row) for _, block, row in found[:limit]], following)


def place_of(cursor: str, own: Primary) -> Key:
    """The place that a cursor says. Raises ValueError, MsgspecError for what is no cursor."""
    data = base64.b64decode(cursor, validate=True)
    try:
        place: Key = _KEY.decode(data)
        return place
    except msgspec.ValidationError:
        time, tie, dataset, occurrence = _KEY_BEFORE.decode(data)
        return time, tie, dataset, own, occurrence


def _span(ident: int, start: int | None, end: int | None) -> tuple[int, int]:
    """The first and last key of an ident's rows of start <= t < end, less than a second wider."""
    low, high = ident << 32, (ident << 32) + 2**32 - 1
    one = np.array([ident])
    if start is not None:
        low = int(pack(one, np.array([start]))[0])
    if end is not None:
        high = int(pack(one, np.array([end]))[0])
    return low, high


def _nearest(
    runs: tuple[Run, ...], low: int, high: int, count: int, is_back: bool
) -> tuple[Array, Array, Array]:
    """(key, position, row), by key, of the first rows (the last, if is_back) of low <= key <= high:
    whole seconds, at least ``count`` rows if there are so many.

    Cost: ``count`` rows per run, however many there are.
    """
    parts = [(run, *_bounds(run, low, high)) for run in runs]
    ends = [
        run.keys[max(i, j - count) : j] if is_back else run.keys[i : min(j, i + count)]
        for run, i, j in parts
    ]
    keys = np.concatenate([np.zeros(0, np.uint64), *ends])
    if len(keys) > count:
        place = len(keys) - count if is_back else count - 1
        last = int(np.partition(keys, place)[place])
        low, high = (last, high) if is_back else (low, last)
        parts = [(run, *_bounds(run, low, high)) for run in runs]
    keys = np.concatenate([np.zeros(0, np.uint64), *(run.keys[i:j] for run, i, j in parts)])
    none = np.zeros(0, np.uint32)
    positions = np.concatenate([none, *(run.position[i:j] for run, i, j in parts)])
    rows = np.concatenate([none, *(run.row[i:j] for run, i, j in parts)])
    by_key = keys.argsort(kind="stable")
    return keys[by_key], positions[by_key], rows[by_key]


def _bounds(run: Run, low: int, high: int) -> tuple[int, int]:
    """Where the keys from low up to high, both included, stand in a run."""
    i, j = run.keys.searchsorted(np.array([low, high + 1], np.uint64)).tolist()
    return i, max(i, j)


def _placed(
    opened: OpenedBlocks, positions: Array, rows: Array, own: Primary, is_back: bool
) -> list[Placed]:
    """The rows in order. Equal ones are the same row, stated more than once: any order will do."""
    blocks = opened.of(positions.tolist(), rows.tolist())
    plain = [(b.key(row, own), b, row) for b, row in blocks]
    plain.sort(key=itemgetter(0))
    out: list[Placed] = []
    for key, block, row in plain:
        is_again = bool(out) and out[-1][0][:4] == key
        out.append(((*key, out[-1][0][4] + 1 if is_again else 0), block, row))
    if is_back:
        out.reverse()
    return out


def _is_asked(
    key: Key, start: int | None, end: int | None, after: Key | None, is_back: bool
) -> bool:
    if (start is not None and key[0] < start) or (end is not None and key[0] >= end):
        return False
    return after is None or (key < after if is_back else key > after)
