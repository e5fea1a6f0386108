"""distinct().count(): how many different values a profile's contributions have.

Theory: each (slot, value) pair has a reference count; the number of pairs above zero is the
answer. A value is interned to a dense number once; pairs live in a ``KeyTable``. Arrival and
departure are +1 and -1, so windows, late events and batches cannot show. Memory: about 40 bytes
per pair; those that have left their window, and values that only they had, are forgotten now and
then (``forgetting``).
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from weakref import WeakSet

import numpy as np

from profile_actors.columnar.hash_table import KeyTable, encoded_texts
from profile_actors.columnar.runs import find, running, sizes_of, starts_of
from profile_actors.columnar.state_columns import ColumnCopy, RowsCopy, Saving, reserve
from profile_actors.columnar.vectors import Array, Vector, may_forget
from profile_actors.engine.operators.aggregates import (
    NO_SLOTS,
    NO_TIMES,
    Lanes,
    StepInput,
    Track,
    nothing_of,
    previous,
)
from profile_actors.engine.operators.contributions import ClockGroups, RowGroups
from profile_actors.engine.operators.delay_lines import DelayLine
from profile_actors.rules.tree.plan import Aggregate


class Interner:
    """Dense numbers for values of one type: texts through a dict of distinct ones, numbers by
    bits."""

    def __init__(self) -> None:
        self.texts: dict[str, int] = {}
        self.bits = KeyTable()

    def numbers(self, value: Vector) -> Array:
        """int64[n], -1 where null. Cost: one dict probe per distinct text of the batch."""
        if value.dictionary is not None:
            used = np.unique(value.values)
            table = np.full(len(value.dictionary), -1, np.int64)
            for code in used.tolist():
                table[code] = self.texts.setdefault(value.dictionary[code], len(self.texts))
            out = table[value.values]
        else:
            values = value.values
            if values.dtype.kind == "f":
                values = values + 0.0  # -0.0 and 0.0 are one value
            bits = values.astype(np.float64 if values.dtype.kind == "f" else np.int64).view(
                np.uint64
            )
            out = self.bits.number(bits, np.zeros(len(bits), np.uint64))[0].astype(np.int64)
        return out if value.valid is None else np.where(value.valid, out, -1)

    def __len__(self) -> int:
        return max(len(self.texts), self.bits.count)  # a column of nulls alone has no texts

    def restricted(self, live: Array) -> Interner:
        """The values whose numbers are marked, in their order, under new numbers."""
        out = Interner()
        marks = live.tolist() if self.texts else ()
        kept = (text for text, is_live in zip(self.texts, marks, strict=False) if is_live)
        out.texts = {text: number for number, text in enumerate(kept)}
        bits = self.bits.keys()[0][live[: self.bits.count]]
        out.bits.number(bits, np.zeros(len(bits), np.uint64))
        return out


class Distinct:
    """The operator. Lanes to publish: counts per slot; then (slot, value, references) per pair."""

    def __init__(self, aggregate: Aggregate, name: str | None, capacity: int) -> None:
        self.aggregate = aggregate
        self.name = name
        self.presence: str | None = None
        self.count = reserve(capacity, np.int32)
        self.interner = Interner()
        self.pairs = KeyTable()
        self.references = np.zeros(1 << 10, np.int32)
        self._references_copy = RowsCopy((), 0)
        self._glimpses: WeakSet[Glimpse] = WeakSet()
        self._settled = 0  # pairs and values that were in use when that was last looked at

    def of_slots(self, slots: Array) -> Glimpse:
        """The state of these slots as it is now, under new numbers, in their order; to be folded,
        not published. Under the partition's lock; any thread may fold it, without."""
        glimpse = Glimpse(self, slots)
        self._glimpses.add(glimpse)
        return glimpse

    def payload(self, value: Vector) -> Array:
        return self.interner.numbers(value)

    def current(self, slots: Array) -> Vector:
        return self.read_kept(self.kept(slots))

    def kept(self, slots: Array) -> Lanes:
        return [self.count.take(slots)]

    def read_kept(self, lanes: Lanes) -> Vector:
        return Vector(lanes[0].astype(np.int64))

    def _references(self, slots: Array, values: Array) -> Array:
        number = self.pairs.find(slots.astype(np.uint64), values.astype(np.uint64))
        return np.where(number >= 0, self.references[number], 0).astype(np.int64)

    def store(self, slots: Array, lanes: Lanes) -> None:
        count, pair_slot, pair_value, pair_references = lanes
        self.count[slots] = count
        number, _ = self.pairs.number(pair_slot.astype(np.uint64), pair_value.astype(np.uint64))
        while self.pairs.count > len(self.references):
            self.references = np.concatenate([self.references, np.zeros_like(self.references)])
        self._references_copy.keep(number)
        for glimpse in list(self._glimpses):
            glimpse.note(self.references, number)
        self.references[number] = pair_references

    def fold(self, step: StepInput) -> Track:
        stores: list[tuple[Array, Lanes]] = []
        track = nothing_of(Vector(NO_TIMES), stores)
        if step.rows is not None:
            track.slots = step.rows.slots
            counts, pairs = self._row_counts(step.rows)
            track.values = Vector(counts)
            track.changed = partial(self._differs, track.slots, counts)
            stores.append((track.slots, [counts, *pairs]))
        if step.clock is not None:
            clock = step.clock
            track.clock_slots, track.clock_at = clock.slots, clock.at
            counts, pairs = self._clock_counts(clock)
            track.clock_values = Vector(counts)
            track.clock_changed = partial(self._clock_changes, clock, counts)
            stores.append((clock.distinct, [counts[clock.last], *pairs]))
        return track

    def _differs(self, slots: Array, counts: Array) -> Array:
        return np.asarray(counts != self.count[slots])

    def _clock_changes(self, clock: ClockGroups, counts: Array) -> Array:
        return np.asarray(counts != previous(counts, self.count[clock.distinct], clock))

    def _row_counts(self, rows: RowGroups) -> tuple[Array, Lanes]:
        assert self.name is not None
        slot = np.repeat(rows.slots, sizes_of(rows.starts, rows.size))
        value = rows.columns[self.name]
        sign = np.ones(rows.size, np.int64) if rows.sign is None else rows.sign.astype(np.int64)
        keep = value >= 0
        slot, value, sign = slot[keep], value[keep], sign[keep]
        order = np.lexsort((value, slot))
        slot, value, sign = slot[order], value[order], sign[order]
        starts = starts_of((slot.astype(np.uint64) << np.uint64(32)) | value.astype(np.uint64))
        slot, value = slot[starts], value[starts]
        before = self._references(slot, value)
        after = before + (np.add.reduceat(sign, starts) if len(starts) else 0)
        gained = (after > 0).astype(np.int64) - (before > 0)
        counts = self.count[rows.slots].astype(np.int64)
        np.add.at(counts, rows.slots.searchsorted(slot), gained)
        return counts, [slot, value, after]

    def _clock_counts(self, clock: ClockGroups) -> tuple[Array, Lanes]:
        assert self.name is not None
        pair = np.repeat(np.arange(len(clock.slots)), sizes_of(clock.starts, clock.size))
        value = clock.columns[self.name]
        keep = value >= 0
        pair, value, sign = pair[keep], value[keep], clock.sign[keep].astype(np.int64)
        deltas = np.zeros(len(clock.slots), np.int64)
        updates: Lanes = [NO_SLOTS, np.zeros(0, np.int64), np.zeros(0, np.int64)]
        if len(pair):
            key = (clock.slots[pair].astype(np.uint64) << np.uint64(32)) | value.astype(np.uint64)
            order = np.lexsort((pair, key))  # pairs ascend by (slot, instant)
            key, pair, sign = key[order], pair[order], sign[order]
            mark = np.empty(len(key), np.bool_)
            mark[0] = True
            mark[1:] = (key[1:] != key[:-1]) | (pair[1:] != pair[:-1])
            cell = mark.nonzero()[0]
            key, pair, sign = key[cell], pair[cell], np.add.reduceat(sign, cell)
            first = starts_of(key)
            slot = (key[first] >> np.uint64(32)).astype(np.uint32)
            low = (key[first] & np.uint64(0xFFFFFFFF)).astype(np.int64)
            before = self._references(slot, low)
            after = running(sign, first, before)
            previous = np.empty_like(after)
            previous[1:] = after[:-1]
            previous[first] = before
            np.add.at(deltas, pair, (after > 0).astype(np.int64) - (previous > 0))
            last = np.append(first[1:], len(key)) - 1
            updates = [slot, low, after[last]]
        base = self.count[clock.distinct].astype(np.int64)
        return running(deltas, clock.first, base), updates

    def may_forget(self) -> bool:
        """Whether so many pairs and values have come that a pass over all of them pays."""
        return may_forget(self.pairs.count + len(self.interner), self._settled)

    def forget(self, lines: tuple[DelayLine, ...]) -> Callable[[], None]:
        """Leave out pairs without references, and values that neither a pair nor a contribution on
        the lines has; to be called under the partition's lock. Cost: a pass over all of them."""
        assert self.name is not None
        name = self.name
        slot, value = self.pairs.keys()
        references = self.references[: self.pairs.count]
        rows = references.nonzero()[0]
        slot, value, references = slot[rows], value[rows].astype(np.int64), references[rows]
        live = np.zeros(len(self.interner) + 1, np.bool_)
        live[value] = True
        for line in lines:
            for chunk in line.chunks:
                numbers = chunk.columns[name][chunk.begin :]
                live[numbers[numbers >= 0]] = True
        table = np.cumsum(live) - 1
        interner, pairs = self.interner.restricted(live), KeyTable()
        pairs.number(slot, table[value].astype(np.uint64))
        recoded = [line.recode(name, table) for line in lines]

        def swap() -> None:
            for recode in recoded:
                recode()
            self._glimpses.clear()  # what they see is left to them
            self.interner, self.pairs = interner, pairs
            self.references = np.zeros(max(1 << 10, 2 * len(rows)), np.int32)
            self.references[: len(rows)] = references
            self._settled = len(rows) + len(interner)

        return swap

    def saving(self, profiles: int) -> Saving:
        pairs, bits = self.pairs.keys_later(), self.interner.bits.keys_later()
        texts = tuple(self.interner.texts)
        references = ColumnCopy(self.references, self.pairs.count)
        self._references_copy = RowsCopy([references], self.pairs.count)

        def more() -> dict[str, Array]:
            slot, value = pairs()
            return {
                "pair_slot": slot, "pair_value": value, "references": references.out,
                "bits": bits()[0], **encoded_texts(texts, len(texts)),
            }  # fmt: skip

        return Saving.of({"count": self.count}, profiles, more, [self._references_copy])

    def size_bytes(self, profiles: int) -> int:
        texts = sum(map(len, self.interner.texts))
        values = self.interner.bits.size_bytes + 150 * len(self.interner.texts) + texts
        return 4 * profiles + self.pairs.size_bytes + 4 * self.pairs.count + values

    def restore(self, arrays: dict[str, Array]) -> None:
        self.count[: len(arrays["count"])] = arrays["count"]
        self.pairs.number(arrays["pair_slot"], arrays["pair_value"])
        self.references = np.zeros(max(1 << 10, 2 * self.pairs.count), np.int32)
        self.references[: self.pairs.count] = arrays["references"]
        self.interner.bits.number(arrays["bits"], np.zeros(len(arrays["bits"]), np.uint64))
        blob, start = arrays["texts"].tobytes(), 0
        for number, size in enumerate(arrays["text_sizes"].tolist()):
            text = blob[start : start + size].decode("utf-8", "surrogatepass")
            self.interner.texts[text] = number
            start += size


class Glimpse(Distinct):
    """What some slots hold of distinct values, while the operator that it is of goes on.

    Theory: keys of pairs are never written again, so they are shared; so are the references, which
    are. Whoever writes one notes before what it was; who reads looks at the references first, and
    then at the notes, of which the oldest counts.
    """

    def __init__(self, of: Distinct, slots: Array) -> None:
        self.aggregate, self.name, self.presence = of.aggregate, of.name, of.presence
        self.count = of.count[slots]
        self._slots = slots.astype(np.uint64)
        self.pairs = of.pairs.glimpse()
        self.references = of.references
        self._notes: list[tuple[Array, Array]] = []

    def note(self, references: Array, numbers: Array) -> None:
        """The operator is about to write the references of these pairs."""
        # Others are written once there was no room.
        if references is self.references:
            self._notes.append((numbers, references[numbers]))

    def _references(self, slots: Array, values: Array) -> Array:
        number = self.pairs.find(self._slots[slots], values.astype(np.uint64))
        known = ((number >= 0) & (number < self.pairs.count)).nonzero()[0]
        out = np.zeros(len(number), np.int64)
        out[known] = self.references[number[known]]
        if notes := list(self._notes):
            noted, first = np.unique(np.concatenate([n for n, _ in notes]), return_index=True)
            index, hit = find(noted, number[known])
            was = np.concatenate([was for _, was in notes])[first]
            out[known[hit]] = was[index[hit]]
        return out
