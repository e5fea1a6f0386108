"""Many columns of instants per slot: a pool of distinct instants, and per column a pointer into it.

Theory: a slot's columns change together, so that they hold few distinct instants: with workload
W1's hundred segments and ten events a profile, eleven, in twenty-five columns; the others never
had one. So a slot has a pool of 48-bit instants and, per column, a pointer (0: none). A put takes
the next place of the pool, once per slot and instant, however many columns it moves. Every slot has
``BASE`` places and pointers of half a byte, side by side in arrays over all slots. When no place is
known to be free, the pointers say which are: those that nothing points to. A slot that has too few
even so gets a row on a *shelf*: more places, and the upper halves of its pointers. On the last
shelf a row is an instant per column, and pool and pointers lie idle. Rows of a shelf are close
together: the last one fills the hole of one that left.

Law: a slot never uses more than its base and six bytes a column.

Limits: one writer; who reads beside him holds the lock under which he puts.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from profile_actors.columnar.runs import sizes_of, starts_of, taken_along
from profile_actors.columnar.slot_pairs import Part, pair_order, slots_of_all, together
from profile_actors.columnar.state_columns import (
    DenseRows,
    Saving,
    ShelvedCopy,
    nibbles,
    packed,
    reserve,
    set_nibbles,
    taken_bits,
)
from profile_actors.columnar.vectors import Array

BASE = 15  # places of every pool: as many as half a byte names
POOLS = (20, 27, 36, 48, 64, 90, 120, 160, 220)  # with the shelves'; below 256
ROOM = 8  # a pool of which all but an eighth is pointed to is too small
AT_ONCE = 4_096  # what is worked on in one go, so that it stays in a core's cache
FULL = (1 << BASE) - 1


FREE = np.array([(~taken & (taken + 1)).bit_length() - 1 for taken in range(FULL + 1)], np.uint8)
"""The least place that a set of taken ones, as bits, lacks."""


USED = np.array([(1 << (byte & 15) | 1 << (byte >> 4)) >> 1 for byte in range(256)], np.uint16)
"""The places that a byte of two pointers names, as bits."""


class Shelf(DenseRows):
    """More for the slots whose base is too small. upper: uint8[rows, bytes], halves of pointers;
    low, high: uint32 and uint16[rows, places]; taken: uint8[rows, bytes], a bit per place of the
    pool, 0 where known to be free. pool: places with the base's. On the last shelf (``is_plain``)
    places are columns, and there are no other parts."""

    def __init__(self, capacity: int, width: int, pool: int, is_plain: bool) -> None:
        places = pool if is_plain else pool - BASE
        bits = 0 if is_plain else (pool + 7) // 8
        super().__init__(
            capacity,
            {
                "upper": (width, np.uint8), "low": (places, np.uint32),
                "high": (places, np.uint16), "taken": (bits, np.uint8),
            },
        )  # fmt: skip
        self.pool = pool
        self.is_plain = is_plain
        self.upper, self.low = self.parts["upper"], self.parts["low"]
        self.high, self.taken = self.parts["high"], self.parts["taken"]


Found = tuple[Shelf, Array, Array]


class InstantRows:
    """Codes of instants by (slot, column): positive numbers below 2**48, 0 for none."""

    def __init__(self, capacity: int, columns: int, pools: Sequence[int] = POOLS) -> None:
        self.columns = columns
        width = (columns + 1) // 2
        pools = [pool for pool in pools if width + 6 * (pool - BASE) < 6 * columns]
        self.shelves = [
            *(Shelf(capacity, width, pool, False) for pool in pools),
            Shelf(capacity, 0, columns, True),
        ]
        # By column: what one part of a put touches lies close together.
        self._pointers = reserve(width * capacity, np.uint8).reshape(width, capacity)
        self.low = reserve(capacity * BASE, np.uint32).reshape(capacity, BASE)
        self.high = reserve(capacity * BASE, np.uint16).reshape(capacity, BASE)
        self._newest = reserve(capacity, np.uint8)  # what points to the place last taken
        self._taken = reserve(capacity, np.uint16)  # places of the base, as bits
        self._shelf = reserve(capacity, np.uint8)  # 0: the base is enough
        self._row = reserve(capacity, np.uint32)
        self._pools = [BASE, *pools]
        self._roomy = [pool - max(2, pool // ROOM) for pool in self._pools]

    def size_bytes(self, slots: int) -> int:
        """Bytes in use when there are so many slots."""
        base = len(self._pointers) + 6 * BASE + 8
        return base * slots + sum(shelf.count * shelf.row_bytes for shelf in self.shelves)

    def of(self, column: int, slots: Array) -> Array:
        """Codes of a column. int64[n]; cost: four random reads a slot"""
        pointers = (self._pointers[column >> 1].take(slots) >> (4 * (column & 1))) & 15
        pointers = pointers.astype(np.intp)
        for shelf, some, rows in self._shelved(slots):
            if not shelf.is_plain:
                upper = shelf.upper[rows, column >> 1] >> (4 * (column & 1)) & 15
                pointers[some] |= upper.astype(np.intp) << 4
        return self._follow(slots, pointers[:, None], column)[:, 0]

    def all_of(self, slots: Array) -> Array:
        """Codes of all columns. int64[n, columns]; cost: some 3 ns each"""
        return self._follow(slots, self._all_pointers(slots).astype(np.intp), None)

    def _shelved(self, slots: Array) -> Iterator[Found]:
        """Per shelf that has any: which of the slots, and their rows. int64"""
        numbers = self._shelf.take(slots)
        shelved = numbers.nonzero()[0]
        if not len(shelved):
            return
        numbers, rows = numbers[shelved], self._row.take(slots[shelved]).astype(np.intp)
        for number in np.bincount(numbers).nonzero()[0].tolist():
            some = (numbers == number).nonzero()[0]
            yield self.shelves[number - 1], shelved[some], rows[some]

    def _all_pointers(self, slots: Array) -> Array:
        """uint8[n, columns]; those of plain rows mean nothing."""
        out = nibbles(self._pointers.take(slots, axis=1).T)
        for shelf, some, rows in self._shelved(slots):
            if not shelf.is_plain:
                out[some] |= nibbles(shelf.upper[rows]) << 4
        return out[:, : self.columns]

    def _pool_of(self, slots: Array, number: int) -> Array:
        """What the pointers of slots on a shelf (0: on none) stand for; 0 first. int64[n, 1 + m]"""
        shelf = self.shelves[number - 1] if number else None
        out = np.zeros((len(slots), 1 + self._pools[number]), np.int64)
        out[:, 1 : BASE + 1] = (self.high[slots].astype(np.int64) << 32) | self.low[slots]
        if shelf is not None:
            rows = self._row[slots].astype(np.intp)
            out[:, BASE + 1 :] = (shelf.high[rows].astype(np.int64) << 32) | shelf.low[rows]
        return out

    def _follow(self, slots: Array, pointers: Array, column: int | None) -> Array:
        """Codes that pointers (intp[n, columns of the caller's]) stand for, of a column or all."""
        if not (numbers := self._shelf.take(slots)).any():
            return taken_along(self._pool_of(slots, 0), pointers)
        out = np.zeros(pointers.shape, np.int64)
        for number in range(int(numbers.max()) + 1):
            some = (numbers == number).nonzero()[0]
            mine = slots[some]
            if number == len(self.shelves):
                shelf, rows = self.shelves[-1], self._row[mine].astype(np.intp)
                part = slice(None) if column is None else slice(column, column + 1)
                out[some] = (shelf.high[rows, part].astype(np.int64) << 32) | shelf.low[rows, part]
            elif len(some):
                out[some] = taken_along(self._pool_of(mine, number), pointers[some])
        return out

    def put(self, parts: Sequence[Part]) -> None:
        """Set codes of many columns at once.

        A (slot, column) stands in one part only, and there once. Cost: two random accesses per
        slot and instant, and three per (slot, column).
        """
        at_once: dict[int, list[Part]] = {}
        timed: list[Part] = []
        for columns, given, codes in parts:
            slots = given.astype(np.intp)  # once: every look into an array would do it
            alike = at_once.setdefault(codes, []) if isinstance(codes, int) else timed
            alike.append((columns, slots, codes))
        for code, mine in at_once.items():
            self._take_places(slots_of_all([slots for _, slots, _ in mine]), code)
            for columns, slots, _ in together(mine, AT_ONCE):
                self._point_cells(columns, slots, code)
        for columns, slots, codes in together(timed, AT_ONCE):
            assert not isinstance(codes, int)
            if isinstance(columns, int):
                self._take_places(slots, codes)
                self._point(slots, columns, codes)
            else:
                self._put_timed(columns, slots, codes)

    def _put_timed(self, columns: Array, slots: Array, codes: Array) -> None:
        """Cells of many columns, each (slot, column) once: in rounds, each with one more of the
        distinct codes of each slot, of which there is rarely a second."""
        order = pair_order(slots, codes)
        columns, slots, codes = columns[order], slots[order], codes[order]
        is_new = np.ones(len(slots), np.bool_)
        is_new[1:] = (slots[1:] != slots[:-1]) | (codes[1:] != codes[:-1])
        pairs = is_new.nonzero()[0]
        owners = slots[pairs]
        first = starts_of(owners)
        if len(first) == len(pairs):
            self._take_places(owners, codes[pairs])
            self._point_cells(columns, slots, codes)
            return
        place = np.arange(len(pairs)) - np.repeat(first, sizes_of(first, len(pairs)))
        place_of = place[np.cumsum(is_new) - 1]
        for number in range(int(place.max()) + 1):
            mine, cells = pairs[place == number], (place_of == number).nonzero()[0]
            self._take_places(slots[mine], codes[mine])
            self._point_cells(columns[cells], slots[cells], codes[cells])

    def _point_cells(self, columns: Array | int, slots: Array, codes: Array | int) -> None:
        """Point columns to their slots' newest places; two of them share a byte."""
        if isinstance(columns, int):
            self._point(slots, columns, codes)
            return
        odd = (columns & 1).astype(np.bool_)
        for some in ((~odd).nonzero()[0], odd.nonzero()[0]):
            if len(some) == len(slots):
                self._point(slots, columns, codes)
            elif len(some):
                mine = codes if isinstance(codes, int) else codes[some]
                self._point(slots[some], columns[some], mine)

    def _take_places(self, slots: Array, codes: Array | int) -> None:
        """Have the newest place of each slot's pool hold its code. slots: ascending, each once."""
        taken, shelved = self._taken.take(slots), list(self._shelved(slots))
        is_full = taken == FULL
        for shelf, some, rows in shelved:
            is_full[some] = (shelf.taken[rows] == 255).all(axis=1) if not shelf.is_plain else False
        full = slots[is_full]
        if len(full):
            for start in range(0, len(full), AT_ONCE):
                self._rescan(full[start : start + AT_ONCE])
            taken, shelved = self._taken.take(slots), list(self._shelved(slots))
        places = FREE.take(taken)
        taken |= taken + np.uint16(1)  # the least bit that it lacks
        taken &= np.uint16(FULL)
        for shelf, some, rows in shelved:
            if not shelf.is_plain:
                bits = np.unpackbits(shelf.taken[rows], axis=1, bitorder="little")
                mine = bits.argmin(axis=1)
                places[some] = mine
                shelf.taken[rows, mine >> 3] |= np.uint8(1) << (mine & 7).astype(np.uint8)
        if not isinstance(codes, int):
            # Columns that change at one instant may come one by one; on a shelf it is kept twice.
            newest = self._newest.take(slots) - np.uint8(1)  # 255 where there is none
            cells = slots * BASE + np.minimum(newest, np.uint8(BASE - 1))
            maybe = (self.low.reshape(-1).take(cells) == (codes & 0xFFFFFFFF)).nonzero()[0]
            if len(maybe):
                same = self.high.reshape(-1).take(cells[maybe]) == codes[maybe] >> 32
                again = maybe[same & (newest[maybe] < BASE)]
                places[again] = newest[again]
                taken[again] = self._taken.take(slots[again])
        self._taken[slots] = taken
        self._store(slots, places, codes, shelved)
        self._newest[slots] = places + np.uint8(1)

    def _store(self, slots: Array, places: Array, codes: Array | int, shelved: list[Found]) -> None:
        """Put codes into places of the slots' pools."""
        some: Array | slice = slice(None)
        if len(places) and int(places.max()) >= BASE:
            some = (places < BASE).nonzero()[0]
            for shelf, mine, rows in shelved:
                beyond = places[mine] >= BASE
                if not shelf.is_plain and beyond.any():
                    mine, rows = mine[beyond], rows[beyond]
                    cells = rows * shelf.low.shape[1] + (places[mine] - BASE)
                    _set(shelf, cells, codes if isinstance(codes, int) else codes[mine])
        cells = slots[some] * BASE + places[some]
        _set(self, cells, codes if isinstance(codes, int) else codes[some])

    def _point(self, slots: Array, columns: Array | int, codes: Array | int) -> None:
        """Point columns, all even or all odd, to the newest place; each (slot, column) once."""
        values = self._newest.take(slots)
        one = columns if isinstance(columns, int) else int(columns[0])
        shift, byte = np.uint8(4 * (one & 1)), columns >> 1
        if isinstance(byte, int):
            set_nibbles(self._pointers[byte], slots, values, shift)
        else:
            places = byte * self._pointers.shape[1] + slots
            set_nibbles(self._pointers.reshape(-1), places, values, shift)
        for shelf, some, rows in self._shelved(slots):
            column = columns if isinstance(columns, int) else columns[some]
            if shelf.is_plain:
                cells = rows * self.columns + column
                _set(shelf, cells, codes if isinstance(codes, int) else codes[some])
            else:
                cells = rows * shelf.upper.shape[1] + (column >> 1)
                set_nibbles(shelf.upper.reshape(-1), cells, values[some] >> np.uint8(4), shift)

    def _rescan(self, slots: Array) -> None:
        """Look which places are free; more of them for who has few even so."""
        numbers = self._shelf.take(slots)
        bare = slots[numbers == 0]
        if len(bare):
            taken = np.bitwise_or.reduce(USED.take(self._pointers.take(bare, axis=1)), axis=0)
            self._taken[bare] = taken
            self._promote(bare[np.bitwise_count(taken) > self._roomy[0]], 0)
        for number in np.unique(numbers[numbers > 0]).tolist():
            mine = slots[numbers == number]
            shelf, rows = self.shelves[number - 1], self._row[mine].astype(np.intp)
            used = np.zeros((len(mine), 8 * shelf.taken.shape[1] + 1), np.bool_)
            pointers = self._all_pointers(mine)
            used[np.arange(len(mine))[:, None], pointers] = True
            live = used[:, 1:].sum(axis=1)
            used[:, shelf.pool + 1 :] = True
            shelf.taken[rows] = np.packbits(used[:, 1:], axis=1, bitorder="little")
            self._promote(mine[live > self._roomy[number]], number)

    def _promote(self, slots: Array, number: int) -> None:
        """From a shelf (0: from none) to the next."""
        if not len(slots):
            return
        old = self.shelves[number - 1] if number else None
        new = self.shelves[number]
        rows = self._row[slots].astype(np.intp)
        every = self.all_of(slots) if new.is_plain else np.zeros(0, np.int64)
        to = new.add(slots)
        if new.is_plain:
            new.low[to], new.high[to] = every & 0xFFFFFFFF, every >> 32
        else:
            new.taken[to] = taken_bits(new.pool, np.zeros(len(slots), np.int64))
            if old is None:
                new.taken[to, :2] |= self._taken[slots].view(np.uint8).reshape(-1, 2)
            else:
                places = old.low.shape[1]
                new.upper[to] = old.upper[rows]
                new.low[to, :places], new.high[to, :places] = old.low[rows], old.high[rows]
                bits = np.unpackbits(old.taken[rows], axis=1, count=old.pool, bitorder="little")
                packed = np.packbits(bits, axis=1, bitorder="little")
                new.taken[to, : packed.shape[1]] |= packed
        if old is not None:
            shifted, holes = old.drop(rows)
            self._row[shifted] = holes
        self._row[slots], self._shelf[slots] = to, number + 1

    def restore(self, codes: Mapping[int, Array]) -> None:
        """Set the codes of the first slots, none of which has any yet. codes: int64[slots] by
        column. Cost: one sort of each slot's."""
        size = max(map(len, codes.values()), default=0)
        for start in range(0, size, AT_ONCE):
            part = np.zeros((min(AT_ONCE, size - start), self.columns), np.int64)
            for column, given in codes.items():
                part[:, column] = given[start : start + AT_ONCE]
            order = part.argsort(axis=1)
            ascending = np.take_along_axis(part, order, axis=1)
            is_new = np.diff(ascending, axis=1, prepend=0) != 0
            labels = np.cumsum(is_new, axis=1)
            pointers = np.empty(part.shape, np.int64)
            np.put_along_axis(pointers, order, labels, axis=1)
            slots, live = np.arange(start, start + len(part)), labels[:, -1]
            number = np.searchsorted(self._roomy, live)
            self._shelf[slots] = number
            for one in np.unique(number[number > 0]).tolist():
                some = (number == one).nonzero()[0]
                shelf = self.shelves[one - 1]
                rows = self._row[slots[some]] = shelf.add(slots[some])
                if shelf.is_plain:
                    shelf.low[rows], shelf.high[rows] = part[some] & 0xFFFFFFFF, part[some] >> 32
                else:
                    shelf.upper[rows] = packed(pointers[some] >> 4)
                    shelf.taken[rows] = taken_bits(shelf.pool, live[some])
            self._pointers[:, slots] = packed(pointers & 15).T
            self._taken[slots] = (1 << np.minimum(live, BASE)) - 1
            owner, place = np.nonzero(is_new)
            every, places = slots[owner], labels[owner, place] - 1
            self._store(every, places, ascending[owner, place], list(self._shelved(every)))

    def saving(self, slots: int) -> Saving:
        """Everything about the first slots, for a checkpoint."""
        pools = np.array([shelf.pool for shelf in self.shelves], np.int64)
        copy = ShelvedCopy(self._parts, slots, self.shelves, self._shelved)
        return Saving([copy], lambda: {**copy.made(), "pools": pools})

    @property
    def _parts(self) -> dict[str, Array]:
        return {
            "pointers": self._pointers.T, "low": self.low, "high": self.high,
            "newest": self._newest, "taken": self._taken, "shelf": self._shelf, "row": self._row,
        }  # fmt: skip

    @staticmethod
    def of_arrays(capacity: int, arrays: dict[str, Array]) -> InstantRows:
        """The rows that ``saving`` gave, of whatever shapes they had."""
        *pools, columns = arrays["pools"].tolist()
        made = InstantRows(capacity, columns, pools)
        for name, part in made._parts.items():
            part[: len(arrays[name])] = arrays[name]
        for number, shelf in enumerate(made.shelves):
            shelf.count = len(arrays[f"{number}/owner"])
            for name, part in shelf.parts.items():
                part[: shelf.count] = arrays[f"{number}/{name}"]
        return made


def _set(pool: Shelf | InstantRows, cells: Array, codes: Array | int) -> None:
    """Set instants by cell of the pool's flat arrays."""
    pool.low.reshape(-1)[cells] = codes & 0xFFFFFFFF
    pool.high.reshape(-1)[cells] = codes >> 32
