"""Where each ident's rows stand in the log: sorted runs, merged in powers.

Theory: an LSM of immutable runs. A run's key packs (ident, second of the timestamp) into one
uint64, so that one ``searchsorted`` finds an ident's rows, a time range of them, or the candidates
for a duplicate. Every entry makes a run out of its own permutation; runs of similar size merge, so
that reading one profile costs by the levels, not by the number of entries ever written. 16 bytes
per row; large runs live in mapped files, not in memory.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from profile_actors.engine.columns import Array, ranges

FAN_IN = 8
MAX_RUN_ROWS = 1 << 20  # a larger merge would hold up the writer for longer than a tick
_SECONDS_BIAS = 2**31  # seconds since 1970 shifted to unsigned; clipped to 1901–2106


@dataclass(frozen=True, slots=True)
class Run:
    """keys: uint64[n] ascending; position, row: uint32[n]. name: file of a sealed run, or ''."""

    keys: Array
    position: Array
    row: Array
    name: str = ""

    def __len__(self) -> int:
        return len(self.keys)


def pack(idents: Array, timestamps: Array) -> Array:
    """Keys of rows. Timestamps beyond 1901–2106 share the outermost second; order is kept."""
    seconds = np.clip(timestamps // 1000 + _SECONDS_BIAS, 0, 2**32 - 1).astype(np.uint64)
    return np.asarray((idents.astype(np.uint64) << np.uint64(32)) | seconds)


class Locator:
    """The runs. Readers use ``runs`` (a tuple replaced whole) without a lock."""

    def __init__(self) -> None:
        self.runs: tuple[Run, ...] = ()

    def rows_of(
        self, ident: int, start: int | None = None, end: int | None = None
    ) -> tuple[Array, Array, Array]:
        """(key, position, row) of one ident's rows, by ascending second of the timestamp.

        A superset of start <= t < end by less than a second at either side.
        """
        one = np.array([ident])
        low, high = np.uint64(ident << 32), np.uint64((ident << 32) + 2**32 - 1)
        if start is not None:
            low = pack(one, np.array([start]))[0]
        if end is not None:
            high = pack(one, np.array([end]))[0]
        parts = []
        for run in self.runs:
            i = int(np.searchsorted(run.keys, low, side="left"))
            j = int(np.searchsorted(run.keys, high, side="right"))
            if j > i:
                parts.append((run.keys[i:j], run.position[i:j], run.row[i:j]))
        if not parts:
            none = np.zeros(0, np.uint32)
            return np.zeros(0, np.uint64), none, none
        keys, positions, rows = (np.concatenate(column) for column in zip(*parts, strict=True))
        order = np.argsort(keys, kind="stable")
        return keys[order], positions[order], rows[order]

    def matches(self, idents: Array, timestamps: Array) -> tuple[Array, Array, Array]:
        """Rows of the log that may have the same (ident, timestamp): (query, position, row)."""
        keys = pack(idents, timestamps)
        query, positions, rows = [], [], []
        for run in self.runs:
            low = np.searchsorted(run.keys, keys, side="left")
            size = np.searchsorted(run.keys, keys, side="right") - low
            hits = ranges(low, size)
            if len(hits):
                query.append(np.repeat(np.arange(len(keys)), size))
                positions.append(run.position[hits])
                rows.append(run.row[hits])
        if not query:
            none = np.zeros(0, np.int64)
            return none, none, none
        return np.concatenate(query), np.concatenate(positions), np.concatenate(rows)


def with_rows(
    runs: tuple[Run, ...], position: int, idents: Array, timestamps: Array, rows: Array
) -> tuple[Run, ...]:
    """The runs with an entry's rows, sorted by (ident, timestamp). rows: index in the entry.

    The newest FAN_IN runs merge while they are of one order of magnitude.
    """
    if len(idents) == 0:
        return runs
    where = np.full(len(idents), position, np.uint32)
    runs = (*runs, Run(pack(idents, timestamps), where, rows.astype(np.uint32)))
    while len(runs) >= FAN_IN:
        tail = runs[-FAN_IN:]
        sizes = [len(run) for run in tail]
        if max(sizes) > FAN_IN * max(1, min(sizes)) or sum(sizes) > MAX_RUN_ROWS:
            break
        runs = (*runs[:-FAN_IN], merge(tail))
    return runs


def merge(runs: tuple[Run, ...]) -> Run:
    """One run of many; rows of equal keys stay in log order. Cost: a merge of sorted runs."""
    keys = np.concatenate([run.keys for run in runs])
    order = np.argsort(keys, kind="stable")
    position = np.concatenate([run.position for run in runs])[order]
    row = np.concatenate([run.row for run in runs])[order]
    return Run(keys[order], position, row)
