"""Which record rows of a profile still say something: those that a look-up reads, and no others.

Theory: a row lives while one of its statements does: of a leaf, the newest of its fragment (the
rows of one dataset and one primary identity); of a key of a map likewise; of what it appends to an
array, for as long as nothing newer states that whole. A row that hides what was before (one of a
dataset that replaces, or one that deletes) lives while nothing newer does so. So of a thousand
upserts of one record there are as many rows as leaves at most, mostly one, and their union is that
of all (``record_union``). What a row states is kept as bits, one per leaf of its dataset; what maps
and appended arrays are about, as codes of an interned tuple.

Rows of a slot stand side by side in an arena that is only added to: a slot whose rows change is
written again at its end, and readers and checkpoints keep what they had gathered.

Law: ``union_of`` the living rows == ``union_of`` all of them, however they were split and ordered.

Limits: rows of one fragment with equal times that state the same all live, since which value is the
larger is not known here; where they are many they are read (``tied_rows``). Memory: some 35 bytes a
living row, 12 a slot.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from profile_actors.columnar.hash_table import KeyTable
from profile_actors.columnar.runs import last_of_runs, ranges, starts_of
from profile_actors.columnar.state_columns import ColumnCopy, Saving, reserve
from profile_actors.columnar.vectors import Array, one_array
from profile_actors.engine.log.entry import Block
from profile_actors.engine.merge.stated_names import Code, Names
from profile_actors.engine.merge.tied_rows import Read, some_of_ties
from profile_actors.ingest.hidden_columns import APPENDED, DELETED, K0, K1

LANES: dict[str, type] = {
    "dataset": np.uint16, "who": np.int32, "time": np.int64, "kind": np.uint8, "extra": np.int32,
    "position": np.uint32, "row": np.uint32,
}  # fmt: skip
"""Per row: number of its dataset; 0, or 1 + the number of its primary identity; what it does;
number of its tuple of codes; where it stands."""

STATES, REPLACES, DELETES = 0, 1, 2

MIN_ROWS = 1024

CELLS_AT_ONCE = 1 << 22

NEVER = -(1 << 62)


class RecordPart(NamedTuple):
    """Rows of a block of records. rows: int64[n], their numbers in the entry; replaces: whether
    their dataset does."""

    block: Block
    rows: Array
    replaces: bool


@dataclass(frozen=True, slots=True)
class _Space:
    """The arena. lanes: arrays of one length, ``end`` rows of which were given to slots; start:
    where each slot's rows begin; names: what the lanes' numbers stand for."""

    lanes: dict[str, Array]
    start: Array
    end: int
    names: Names


@dataclass(frozen=True, slots=True)
class LiveDelta:
    """What one entry does. slots: ascending, each once; start, size: where their rows are then.
    held: rows that live in all."""

    slots: Array
    start: Array
    size: Array
    space: _Space
    held: int


class LiveRows:
    """The living record rows of a partition's profiles. One writer; the partition's lock covers
    ``publish``, and ``gather`` by readers."""

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._size = reserve(capacity, np.int32)
        self._slots = self._held = self._turn = 0
        lanes: dict[str, Array] = {name: np.empty(0, kind) for name, kind in LANES.items()}
        lanes["mask"] = np.empty((0, 1), np.uint8)
        self._space = _Space(lanes, reserve(capacity, np.int64), 0, Names())
        self._primaries = KeyTable(16)

    def __len__(self) -> int:
        return self._held

    @property
    def size_bytes(self) -> int:
        """Bytes of the arena that were written, and of the slots' columns."""
        row = sum(lane.strides[0] for lane in self._space.lanes.values())
        return row * self._space.end + 12 * self._slots

    def step(
        self,
        parts: Sequence[RecordPart],
        position: int,
        slot_of: Array,
        read: Read | None = None,
    ) -> LiveDelta | None:
        """Take in an entry's rows of records. None when there are none. read: of rows of the log,
        this entry's included.

        Writes only where no slot's rows are yet. Cost: some 10 ns per row and leaf.
        """
        if not parts:
            return None
        slot = np.concatenate([slot_of[part.block.idents] for part in parts]).astype(np.intp)
        slots = np.unique(slot)
        sizes = self._size[slots].astype(np.int64)
        space = self._roomy(len(slot) + int(sizes.sum()))
        fresh = _joined([self._read(space.names, part) for part in parts])
        fresh["position"][:] = position
        cells = ranges(space.start[slots], sizes)
        lanes = _joined([{name: lane[cells] for name, lane in space.lanes.items()}, fresh])
        slot = np.concatenate([np.repeat(slots, sizes), slot])
        kept = _living(slot, lanes, space.names)
        if read is not None:
            kept = some_of_ties(kept, slot, lanes, space.names, read)
        size = np.bincount(slots.searchsorted(slot[kept]), minlength=len(slots))
        end = space.end + len(kept)
        written = dict(space.lanes)
        written["mask"] = _wider(written["mask"], lanes["mask"].shape[1], space.end)
        for name, lane in lanes.items():
            written[name][space.end : end] = lane[kept]
        start = space.end + np.cumsum(size) - size
        held = self._held + len(kept) - int(sizes.sum())
        return LiveDelta(slots, start, size, replace(space, lanes=written, end=end), held)

    def publish(self, delta: LiveDelta | None) -> None:
        """Make a step's result the state. The caller holds the partition's lock."""
        if delta is not None:
            self._turn += 1  # odd: who gathers without the lock looks again
            self._space, self._held = delta.space, delta.held
            self._space.start[delta.slots] = delta.start
            self._size[delta.slots] = delta.size
            self._slots = max(self._slots, int(delta.slots[-1]) + 1)
            self._turn += 1

    def gather(self, slots: Array) -> tuple[Array, Array, Array]:
        """(index into the slots, position, row) of their living rows, as they are now. Any thread:
        what a publication changed meanwhile is read again."""
        while True:
            turn, space = self._turn, self._space
            sizes, start = self._size[slots].astype(np.int64), space.start[slots]
            if turn % 2 == 0 and turn == self._turn:
                break
        cells = ranges(start, sizes)
        owners = np.repeat(np.arange(len(slots)), sizes)
        return owners, space.lanes["position"][cells], space.lanes["row"][cells]

    def _read(self, names: Names, part: RecordPart) -> dict[str, Array]:
        """The lanes of a block's rows, but for their position."""
        block, table, rows = part.block, part.block.table, part.block.rows
        number, columns = names.dataset(block.dataset), set(table.column_names)
        kind = np.full(rows, REPLACES if part.replaces else STATES, np.uint8)
        if DELETED in columns:
            deletes = table.column(DELETED).fill_null(False)
            kind[deletes.to_numpy(zero_copy_only=False).astype(np.bool_)] = DELETES
        codes: dict[int, list[Code]] = {}
        marks: dict[int, Array | bool] = {}
        for path in table.column_names:
            column = table.column(path)
            if path.startswith("@") or column.null_count == rows:
                continue
            if pa.types.is_map(column.type):
                _note_keys(number, path, one_array(column), codes)
            else:
                is_whole = column.null_count == 0
                valid = is_whole or column.is_valid().to_numpy(zero_copy_only=False)
                marks[names.bit(number, path)] = valid
        appended = table.column(APPENDED).to_pylist() if APPENDED in columns else ()
        added = [(row, path) for row, paths in enumerate(appended) for path in paths or ()]
        for row, path in added:
            codes.setdefault(row, []).append((number, path, None))
            names.bit(number, path)
        bits = np.zeros((rows, max(1, len(names.leaves[number]))), np.bool_)
        for bit, mark in marks.items():
            bits[:, bit] = mark
        for row, path in added:
            bits[row, names.bit(number, path)] = False
        extra = np.zeros(rows, np.int32)
        for row, mine in codes.items():
            extra[row] = names.extra(mine)
        return {
            "dataset": np.full(rows, number, np.uint16), "who": self._whose(table, rows),
            "time": block.timestamps, "kind": kind, "extra": extra,
            "position": np.zeros(rows, np.uint32), "mask": np.packbits(bits, axis=1),
            "row": part.rows.astype(np.uint32),
        }  # fmt: skip

    def _whose(self, table: pa.Table, rows: int) -> Array:
        """The numbers of the rows' primary identities, 0 where it is the profile's own."""
        out = np.zeros(rows, np.int32)
        if K0 in table.column_names:
            k0, k1 = one_array(table.column(K0)), one_array(table.column(K1))
            named = np.flatnonzero(k0.is_valid().to_numpy(zero_copy_only=False))
            halves = [half.take(pa.array(named)).to_numpy().astype(np.uint64) for half in (k0, k1)]
            out[named] = self._primaries.number(*halves)[0] + 1
        return out

    # -- the arena --------------------------------------------------------------------------------

    def _roomy(self, rows: int) -> _Space:
        """The arena with room for so many rows: as it is, longer, or packed; the last two are new
        arrays."""
        space = self._space
        if space.end + rows <= len(space.lanes["time"]):
            return space
        start, names = space.start, space.names
        cells: Array | slice = slice(0, space.end)
        held = space.end
        if 2 * self._held < space.end:
            size = self._size[: self._slots].astype(np.int64)
            cells, held = ranges(start[: self._slots], size), self._held
            start = reserve(self._capacity, np.int64)
            start[: self._slots] = np.cumsum(size) - size
        lanes = {}
        for name, lane in space.lanes.items():
            lanes[name] = np.empty((max(MIN_ROWS, 2 * (held + rows)), *lane.shape[1:]), lane.dtype)
            lanes[name][:held] = lane[cells]
        if start is not space.start:
            extra = lanes["extra"][:held]
            names, table = names.restricted(set(np.unique(extra).tolist()))
            extra[:] = table[extra]
        return _Space(lanes, start, held, names)

    # -- checkpoints ------------------------------------------------------------------------------

    def saving(self, profiles: int) -> Saving:
        """The living rows of the first slots, for a checkpoint."""
        start, sizes = ColumnCopy(self._space.start, profiles), ColumnCopy(self._size, profiles)
        made = self._later()
        return Saving([start, sizes], lambda: made(start.out, sizes.out))

    def saving_at_once(self, slots: int) -> Callable[[], dict[str, Array]]:
        """The same, of slots that are no profiles' and of which no image is made slice by slice.
        Cost: a copy of 12 bytes a slot."""
        start, sizes = self._space.start[:slots].copy(), self._size[:slots].copy()
        made = self._later()
        return lambda: made(start, sizes)

    def _later(self) -> Callable[[Array, Array], dict[str, Array]]:
        """What there is by now of slots, given where their rows begin and how many they are."""
        lanes = self._space.lanes  # the rows that slots have by now stay as they are
        names, primaries = self._space.names.encoded(), self._primaries.keys_later()

        def made(start: Array, sizes: Array) -> dict[str, Array]:
            cells = ranges(start, sizes.astype(np.int64))
            k0, k1 = primaries()
            return {
                "size": sizes, "names": np.frombuffer(names, np.uint8), "k0": k0, "k1": k1,
                **{name: lane[cells] for name, lane in lanes.items()},
            }  # fmt: skip

        return made

    def restore(self, arrays: dict[str, Array]) -> None:
        """Take the rows of a checkpoint."""
        size = arrays["size"].astype(np.int64)
        rows = int(size.sum())
        start = reserve(self._capacity, np.int64)
        start[: len(size)] = np.cumsum(size) - size
        self._size[: len(size)] = size
        lanes = {name: arrays[name] for name in (*LANES, "mask")}
        names = Names.decoded(arrays["names"].tobytes())
        self._space = _Space(lanes, start, rows, names)
        self._slots, self._held = len(size), rows
        self._primaries.number(arrays["k0"], arrays["k1"])


def _note_keys(dataset: int, path: str, maps: pa.MapArray, codes: dict[int, list[Code]]) -> None:
    """Which keys each row's map has a value for."""
    for row, pairs in enumerate(maps.to_pylist()):
        for key, value in pairs or ():
            if value is not None:
                codes.setdefault(row, []).append((dataset, path, key))


def _joined(parts: list[dict[str, Array]]) -> dict[str, Array]:
    """The lanes one after another; bits as wide as the widest."""
    wide = max(part["mask"].shape[1] for part in parts)
    for part in parts:
        part["mask"] = _wider(part["mask"], wide, len(part["mask"]))
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def _wider(mask: Array, width: int, rows: int) -> Array:
    """Bits with room for more in each row: the same array where there is."""
    if mask.shape[1] >= width:
        return mask
    out = np.zeros((len(mask), width), np.uint8)
    out[:rows, : mask.shape[1]] = mask[:rows]
    return out


def _living(slot: Array, lanes: dict[str, Array], names: Names) -> Array:
    """Which rows live: their indexes, by ascending slot."""
    order = np.lexsort((lanes["dataset"], lanes["who"], slot))
    by = [slot[order], lanes["dataset"][order], lanes["who"][order]]
    group = np.cumsum(np.append(False, last_of_runs(*by)[:-1]))
    starts = starts_of(group)
    time, kind, extra = (lanes[name][order] for name in ("time", "kind", "extra"))
    hides = np.where(kind == STATES, NEVER, time + (kind == DELETES))
    floor = np.maximum.reduceat(hides, starts)[group]
    counts = (time >= floor) & (kind != DELETES)
    lives = (hides == floor) & (kind != STATES)
    spoken = _Spoken.of(extra, counts, group, names) if extra.any() else None
    step = max(1, CELLS_AT_ONCE // len(order) // 8)
    for low in range(0, lanes["mask"].shape[1], step):
        bits = np.unpackbits(lanes["mask"][order, low : low + step], axis=1).view(np.bool_)
        bits &= counts[:, None]
        newest = np.maximum.reduceat(np.where(bits, time[:, None], NEVER), starts, axis=0)
        lives |= (bits & (newest[group] == time[:, None])).any(axis=1)
        if spoken is not None:
            spoken.note_whole(newest, 8 * low)
    if spoken is not None:
        lives[spoken.living(time)] = True
    return np.asarray(order[lives])


@dataclass(slots=True)
class _Spoken:
    """What rows say of keys of maps, and what they append: a cell for each. row: the row; leaf: the
    bit of the array, -1 of a key; newest: the time of what its group states of that array whole."""

    row: Array
    code: Array
    group: Array
    leaf: Array
    newest: Array

    @classmethod
    def of(cls, extra: Array, counts: Array, group: Array, names: Names) -> _Spoken:
        rows = (counts & (extra > 0)).nonzero()[0]
        tuples = list(names.extras)
        found = [tuples[number] for number in extra[rows].tolist()]
        row = np.repeat(rows, [len(one) for one in found])
        code = np.array([one for many in found for one in many], np.int64)
        bits = [-1 if key is not None else names.bit(of, path) for of, path, key in names.codes]
        return cls(row, code, group[row], np.array(bits)[code], np.full(len(row), NEVER))

    def note_whole(self, newest: Array, first: int) -> None:
        """newest: int64[groups, bits] of the bits from ``first`` on."""
        mine = ((self.leaf >= first) & (self.leaf < first + newest.shape[1])).nonzero()[0]
        self.newest[mine] = newest[self.group[mine], self.leaf[mine] - first]

    def living(self, time: Array) -> Array:
        """The rows that live by this."""
        times = time[self.row]
        order = np.lexsort((times, self.code, self.group))
        last = last_of_runs(self.group[order], self.code[order])
        newest = np.empty(len(order), np.int64)
        sizes = np.diff(np.append(0, last.nonzero()[0] + 1))
        newest[order] = np.repeat(times[order][last], sizes)
        is_key = self.leaf < 0
        return np.asarray(self.row[np.where(is_key, times == newest, times >= self.newest)])
