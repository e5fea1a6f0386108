"""Where each ident's rows stand in the log: sorted runs, few of them whatever sizes they come in.

Theory: an LSM of immutable runs. A run's key packs (ident, second of the timestamp) into one
uint64, so that one ``searchsorted`` finds an ident's rows, a time range of them, or the candidates
for a duplicate. Every entry makes a run out of its own permutation. Were each run at least as long
as all newer ones together, there would be no more than log2(rows) + 1; so where there are more,
some run is shorter than the newer ones together, and it and they become one. Whoever is merged
doubles the length of its run, except once, when it is new: a row moves log2(rows) + 2 times at
most, and seldom, since nothing is merged before the runs are nearly as many as they may be. A large
merge goes in slices, a few with each entry, beside the runs that it will replace.

Laws, whatever the sizes: runs <= log2(rows) + 4; rows moved <= rows · (log2(rows) + 2); with one
entry a bounded number of rows, and of its own size.

16 bytes per row; large runs live in mapped files, not in memory, from the first checkpoint on.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from profile_actors.columnar.runs import ranges
from profile_actors.columnar.vectors import Array

SPARE_RUNS = 4  # runs beyond log2(rows) that there may be


LAZY_RUNS = 2  # fewer than log2(rows) by so many are left alone


AT_ONCE_ROWS = 1 << 17  # some 6 ms


SLICES = 128  # a larger merge is done after so many entries


_SECONDS_BIAS = 2**31  # seconds since 1970 shifted to unsigned; clipped to 1901–2106


@dataclass(frozen=True, slots=True, eq=False)
class Run:
    """keys: uint64[n] ascending; position, row: uint32[n]. name: file of a sealed run, or ''."""

    keys: Array
    position: Array
    row: Array
    name: str = ""

    def __len__(self) -> int:
        return len(self.keys)


def rows_of_all(runs: Sequence[Run], idents: Array) -> tuple[Array, Array, Array]:
    """(index into the idents, position, row) of all rows of these idents, run by run.

    Cost: two searches per run and ident, and the rows.
    """
    low = idents.astype(np.uint64) << np.uint64(32)
    owners, positions, rows = [np.zeros(0, np.intp)], [np.zeros(0, np.uint32)], []
    rows.append(positions[0])
    for run in runs:
        begin = run.keys.searchsorted(low)
        sizes = run.keys.searchsorted(low + np.uint64(1 << 32)) - begin
        found = ranges(begin, sizes)
        owners.append(np.repeat(np.arange(len(idents)), sizes))
        positions.append(run.position[found])
        rows.append(run.row[found])
    return np.concatenate(owners), np.concatenate(positions), np.concatenate(rows)


def pack(idents: Array, timestamps: Array) -> Array:
    """Keys of rows. Timestamps beyond 1901–2106 share the outermost second; order is kept."""
    seconds = np.minimum(np.maximum(timestamps // 1000 + _SECONDS_BIAS, 0), 2**32 - 1)
    return np.asarray((idents.astype(np.int64) << 32) | seconds).view(np.uint64)


class Locator:
    """The runs, oldest first. Readers use ``runs`` (a tuple replaced whole) without a lock; the one
    writer prepares the next tuple beside it. moved: rows merged so far."""

    def __init__(self) -> None:
        self.runs: tuple[Run, ...] = ()
        self.carried = 0
        self._next: list[Run] = []
        self._fusions: list[_Fusion] = []  # of disjoint stretches of ``_next``, oldest first
        self._saved: list[tuple[Run, Run]] = []
        self._rows = 0

    def __len__(self) -> int:
        return self._rows

    def restore(self, runs: tuple[Run, ...]) -> None:
        """Take the runs of a checkpoint instead of what is here."""
        self.runs, self._next, self._fusions = runs, list(runs), []
        self._rows = sum(map(len, runs))

    def add(self, position: int, idents: Array, timestamps: Array, rows: Array) -> None:
        """Prepare an entry's rows, sorted by (ident, timestamp). rows: their index in the entry.

        Shown by ``publish``. Cost: see the module's laws.
        """
        self._take_saved()
        if len(idents) == 0:
            return
        self._rows += len(idents)
        where = np.full(len(idents), position, np.uint32)
        self._next.append(Run(pack(idents, timestamps), where, rows.astype(np.uint32)))
        limit = max(AT_ONCE_ROWS, 4 * len(idents))
        for fusion in list(self._fusions):
            self._work(fusion, max(limit, fusion.rows // SLICES))
        self._compact(limit)

    def publish(self) -> None:
        """Show readers what was prepared. The caller holds the partition's lock."""
        self.runs = tuple(self._next)

    def saved(self, run: Run, mapped: Run) -> None:
        """A run of ``runs`` is a file now: let the next entry put that in its place. Any thread."""
        self._saved.append((run, mapped))

    def _take_saved(self) -> None:
        while self._saved:
            run, mapped = self._saved.pop()
            for runs in (self._next, *(fusion.runs for fusion in self._fusions)):
                runs[:] = [mapped if one is run else one for one in runs]
            self.runs = tuple(mapped if one is run else one for one in self.runs)

    def _compact(self, limit: int) -> None:
        """Merge until there are few runs, or none is worth it. limit: rows to be moved at once."""
        most = len(self).bit_length() - 1
        while len(self._next) > most - LAZY_RUNS:
            stretch = self._worthwhile()
            if stretch is None:
                break
            fusion = _Fusion(self._next[stretch])
            self._fusions.append(fusion)
            if fusion.rows <= limit:
                self._work(fusion, fusion.rows)
        while len(self._next) > most + SPARE_RUNS:
            self._force(limit)

    def _worthwhile(self) -> slice | None:
        """The newest runs that no merge has yet, back to where each is as long as all newer ones;
        from at least one that is not."""
        for start, stop in self._free():
            newer, first = 0, stop
            for i in reversed(range(start, stop)):
                size = len(self._next[i])
                if size >= newer and first < stop:
                    break
                if size < newer:
                    first = i
                newer += size
            if first < stop:
                return slice(first, stop)
        return None

    def _free(self) -> Iterator[tuple[int, int]]:
        """Stretches of runs that are in no merge, the newest first."""
        busy = {id(run) for fusion in self._fusions for run in fusion.runs}
        stop = len(self._next)
        for i in reversed(range(len(self._next))):
            if id(self._next[i]) in busy:
                if i + 1 < stop:
                    yield i + 1, stop
                stop = i
        if stop:
            yield 0, stop

    def _force(self, limit: int) -> None:
        """There are too many while large merges go on: two small runs less, or one merge less."""
        start, stop = next(self._free(), (0, 0))
        pair = self._next[stop - 2 : stop]
        if stop - start >= 2 and sum(map(len, pair)) <= limit:
            self._fusions.append(_Fusion(pair))
        fusion = self._fusions[-1]
        self._work(fusion, fusion.rows)

    def _work(self, fusion: _Fusion, rows: int) -> None:
        self.carried += fusion.work(rows)
        if fusion.is_done:
            start = next(i for i, run in enumerate(self._next) if run is fusion.runs[0])
            self._next[start : start + len(fusion.runs)] = [fusion.run]
            self._fusions.remove(fusion)

    def rows_of(
        self, ident: int, start: int | None = None, end: int | None = None
    ) -> tuple[Array, Array, Array]:
        """(key, position, row) of one ident's rows, by ascending second of the timestamp.

        A superset of start <= t < end by less than a second at either side.
        """
        one = np.array([ident])
        bounds = np.array([ident << 32, (ident + 1) << 32], np.uint64)
        if start is not None:
            bounds[0] = pack(one, np.array([start]))[0]
        if end is not None:
            bounds[1] = pack(one, np.array([end]))[0] + np.uint64(1)
        parts = []
        for run in self.runs:
            i, j = run.keys.searchsorted(bounds).tolist()
            if j > i:
                parts.append((run.keys[i:j], run.position[i:j], run.row[i:j]))
        if not parts:
            none = np.zeros(0, np.uint32)
            return np.zeros(0, np.uint64), none, none
        keys, positions, rows = (np.concatenate(column) for column in zip(*parts, strict=True))
        order = keys.argsort(kind="stable")
        return keys[order], positions[order], rows[order]

    def counts(self, keys: Array) -> Array:
        """How many rows each key has. int64[n]"""
        counts = np.zeros(len(keys), np.int64)
        for run in self.runs:
            counts += run.keys.searchsorted(keys, side="right")
            counts -= run.keys.searchsorted(keys, side="left")
        return counts

    def rows_from(self, key: int, position: int) -> tuple[Array, Array]:
        """(position, row) of one key's rows in entries from ``position`` on.

        Cost: a search per run, and those rows.
        """
        positions, rows = [np.zeros(0, np.uint32)], [np.zeros(0, np.uint32)]
        for run in self.runs:
            i = int(run.keys.searchsorted(np.uint64(key), side="left"))
            j = int(run.keys.searchsorted(np.uint64(key), side="right"))
            i += int(run.position[i:j].searchsorted(position))  # rows of a key: in log order
            positions.append(run.position[i:j])
            rows.append(run.row[i:j])
        return np.concatenate(positions), np.concatenate(rows)

    def matches(self, keys: Array) -> tuple[Array, Array, Array]:
        """The rows of the log that have these keys: (index into the keys, position, row)."""
        query, positions, rows = [], [], []
        for run in self.runs:
            low = run.keys.searchsorted(keys, side="left")
            size = run.keys.searchsorted(keys, side="right") - low
            hits = ranges(low, size)
            if len(hits):
                query.append(np.repeat(np.arange(len(keys)), size))
                positions.append(run.position[hits])
                rows.append(run.row[hits])
        if not query:
            none = np.zeros(0, np.int64)
            return none, none, none
        return np.concatenate(query), np.concatenate(positions), np.concatenate(rows)


class _Fusion:
    """A merge of neighbouring runs in slices; rows of equal keys stay in log order."""

    def __init__(self, runs: list[Run]) -> None:
        self.runs = runs
        self.rows = sum(map(len, runs))
        self.run = Run(
            np.empty(self.rows, np.uint64),
            np.empty(self.rows, np.uint32),
            np.empty(self.rows, np.uint32),
        )
        self._taken = [0] * len(runs)

    @property
    def is_done(self) -> bool:
        return sum(self._taken) == self.rows

    def work(self, rows: int) -> int:
        """Merge the next ``rows`` or all that is left; returns how many. Cost: some 50 ns a row."""
        done = before = sum(self._taken)
        if not done and rows >= self.rows:  # all at once needs no look at where to cut
            self._write(0, self.runs)
            self._taken = [len(run) for run in self.runs]
            return self.rows
        end = min(self.rows, done + rows)
        while done < end:
            parts = [
                Run(run.keys[i:j], run.position[i:j], run.row[i:j])
                for run, i, j in zip(self.runs, self._taken, self._bounds(end - done), strict=True)
            ]
            self._taken = [i + len(p) for i, p in zip(self._taken, parts, strict=True)]
            done = self._write(done, parts)
        return done - before

    def _write(self, first: int, parts: list[Run]) -> int:
        """Put the rows of these parts in order, from place ``first`` on; where they end."""
        keys = np.concatenate([part.keys for part in parts])
        order = keys.argsort(kind="stable")
        piece = slice(first, first + len(keys))
        self.run.keys[piece] = keys[order]
        self.run.position[piece] = np.concatenate([part.position for part in parts])[order]
        self.run.row[piece] = np.concatenate([part.row for part in parts])[order]
        return piece.stop

    def _bounds(self, rows: int) -> list[int]:
        """Where to cut each run for a next piece of 1 to ``rows`` rows."""
        most = max(1, rows // len(self.runs))
        stops = [min(i + most, len(run)) for i, run in zip(self._taken, self.runs, strict=True)]
        within = [run.keys[j] for j, run in zip(stops, self.runs, strict=True) if j < len(run)]
        if not within:
            return stops
        least = min(within)
        bounds = [
            i + int(run.keys[i:j].searchsorted(least))
            for i, j, run in zip(self._taken, stops, self.runs, strict=True)
        ]
        if bounds == self._taken:  # more rows of one key than a piece holds: the oldest first
            first = next(
                n
                for n, run in enumerate(self.runs)
                if bounds[n] < len(run) and run.keys[bounds[n]] == least
            )
            keys = self.runs[first].keys[bounds[first] : bounds[first] + rows]
            bounds[first] += int(keys.searchsorted(least, side="right"))
        return bounds
