"""Lists and maps in columns: one per row of a frame, all elements of all rows end to end.

Theory: ``Many`` is a list per row: ``owner`` says whose each element is, ascending, and ``item``
holds the elements, which are scalars (a Vector), kept events, or lists again. Every function of
lists is then a sort, a comparison of neighbours, or a ``reduceat`` over all rows at once. Lists
hold no nulls, as in the language.
"""

from __future__ import annotations

from typing import Any, NamedTuple, Protocol

import numpy as np

from profile_actors.columnar import exact_sums
from profile_actors.columnar.runs import ranges, starts_of
from profile_actors.columnar.vectors import Array, Vector

_ROOM = 1 << 62


class KeptRows(Protocol):
    """The kept events of some slots, as the engine gives them. All of one slot in order.

    owner: intp[n] ascending, which of the asked slots. time, enter, leave: int64[n] ms; an event
    counts while enter <= now < leave (None: it never leaves). max_enter: no event enters later.
    """

    @property
    def max_enter(self) -> int: ...

    @property
    def owner(self) -> Array: ...

    @property
    def time(self) -> Array: ...

    @property
    def enter(self) -> Array: ...

    @property
    def leave(self) -> Array | None: ...

    def column(self, path: str) -> Vector:
        """A field's values."""


class Events(NamedTuple):
    """Kept events. place: intp[n] into rows; -1 stands for no event."""

    rows: KeptRows
    place: Array


class Many(NamedTuple):
    """A list per row. owner: intp[n] ascending; item: the n elements; rows: how many lists.

    in_time: the elements of each list are events, ascending in time.
    """

    owner: Array
    item: Vector | Events | Many
    rows: int
    in_time: bool = False


Item = Vector | Events | Many


class Mapped(NamedTuple):
    """A map per row, its entries by key. owner: intp[n] ascending; keys; values: n each."""

    owner: Array
    keys: Vector
    values: Item
    rows: int


def take_vector(vector: Vector, index: Array) -> Vector:
    """The given rows; a constant stays one."""
    values = vector.values if vector.values.ndim == 0 else vector.values[index]
    valid = vector.valid
    if valid is not None and valid.ndim:
        valid = valid[index]
    return Vector(values, valid, vector.dictionary)


def take(item: Item, index: Array) -> Item:
    """The given elements, in that order, repeats included."""
    if isinstance(item, Vector):
        return take_vector(item, index)
    if isinstance(item, Events):
        return Events(item.rows, item.place[index])
    return spread(item, index)


def spread(many: Many, index: Array) -> Many:
    """The lists of the given rows."""
    bounds = bounds_of(many.owner, many.rows)
    low, size = bounds[index], bounds[index + 1] - bounds[index]
    owner = np.repeat(np.arange(len(index)), size)
    return Many(owner, take(many.item, ranges(low, size)), len(index), many.in_time)


def spread_map(mapped: Mapped, index: Array) -> Mapped:
    """The maps of the given rows."""
    keys = spread(Many(mapped.owner, mapped.keys, mapped.rows), index)
    values = spread(Many(mapped.owner, mapped.values, mapped.rows), index)
    assert isinstance(keys.item, Vector)
    return Mapped(keys.owner, keys.item, values.item, len(index))


def picked(many: Many, index: Array) -> Many:
    """The elements at ``index`` (ascending), the others dropped."""
    return Many(many.owner[index], take(many.item, index), many.rows, many.in_time)


def bounds_of(owner: Array, rows: int) -> Array:
    """Where each row's elements begin, and at last where they end. int64[rows + 1]"""
    out = np.zeros(rows + 1, np.int64)
    np.cumsum(np.bincount(owner, minlength=rows), out=out[1:])
    return out


# Codes: integers that stand for values.


def full(vector: Vector, rows: int) -> Vector:
    """The vector with one value per row, so that it can be indexed."""
    values, valid, dictionary = vector
    if values.ndim == 0:
        values = np.broadcast_to(values, (rows,))
    if valid is not None and valid.ndim == 0:
        valid = np.broadcast_to(valid, (rows,))
    return Vector(values, valid, dictionary)


def ranks(vector: Vector) -> Array:
    """int64[n]: numbers in the order of the values, equal where the values are."""
    values = vector.values
    if vector.dictionary is not None:
        used, inverse = np.unique(values, return_inverse=True)
        texts = [vector.dictionary[code] for code in used.tolist()]
        order = {text: rank for rank, text in enumerate(sorted(set(texts)))}
        table = np.array([order[text] for text in texts], np.int64)
        return table[inverse] if len(table) else np.zeros(len(values), np.int64)
    if values.dtype.kind == "f":
        return np.unique(values + 0.0, return_inverse=True)[1].astype(np.int64)
    if values.dtype == object:  # decimals of more than 64 bits of units
        return np.unique(values, return_inverse=True)[1].astype(np.int64)
    return values.astype(np.int64)


def joint_codes(a: Vector, b: Vector) -> tuple[Array, Array, int]:
    """(codes of a, codes of b, bound): below bound, equal where the values are. Nulls any code."""
    if a.dictionary is not None and b.dictionary is not None:
        if a.dictionary is b.dictionary and _is_interner(a.dictionary):
            return a.values.astype(np.int64), b.values.astype(np.int64), len(a.dictionary)
        known: dict[str, int] = {}
        x, y = (_text_codes(vector, known) for vector in (a, b))
        return x, y, max(1, len(known))
    x, y = a.values, b.values
    if "f" in (x.dtype.kind, y.dtype.kind):
        x, y = x.astype(np.float64) + 0.0, y.astype(np.float64) + 0.0
    elif object not in (x.dtype, y.dtype):
        x, y = x.astype(np.int64), y.astype(np.int64)
        lows = [int(part.min()) for part in (x, y) if part.size]
        highs = [int(part.max()) for part in (x, y) if part.size]
        if lows and max(highs) - min(lows) < 1 << 31:
            return x - min(lows), y - min(lows), max(highs) - min(lows) + 1
    distinct, inverse = np.unique(np.concatenate([x, y]), return_inverse=True)
    return inverse[: len(x)], inverse[len(x) :], max(1, len(distinct))


def _is_interner(dictionary: Any) -> bool:
    """Whether each text stands in it once: tuples may repeat one."""
    return not isinstance(dictionary, tuple)


def _text_codes(vector: Vector, known: dict[str, int]) -> Array:
    assert vector.dictionary is not None
    used, inverse = np.unique(vector.values, return_inverse=True)
    table = [known.setdefault(vector.dictionary[code], len(known)) for code in used.tolist()]
    return np.array(table, np.int64)[inverse] if table else np.zeros(len(vector.values), np.int64)


def paired(high: Array, low: Array, high_bound: int, bound: int) -> tuple[Array, int]:
    """One code for two: (codes, bound). Order is that of (high, low)."""
    if high_bound * bound >= _ROOM:
        distinct, high = np.unique(high, return_inverse=True)
        high_bound = max(1, len(distinct))
    if high_bound * bound >= _ROOM:
        distinct, low = np.unique(low, return_inverse=True)
        bound = max(1, len(distinct))
    return high * np.int64(bound) + low, high_bound * bound


# Functions of lists.


def count(many: Many) -> Vector:
    """How many elements each list has."""
    return Vector(np.bincount(many.owner, minlength=many.rows)[: many.rows].astype(np.int64))


def total(many: Many, is_decimal: bool = False) -> Vector:
    """Exact sums: of integers null beyond int64, of decimals Python integers there, of doubles
    correctly rounded (see ``exact_sums``)."""
    values = many.item
    assert isinstance(values, Vector), values
    starts = starts_of(many.owner)
    at = many.owner[starts]
    if values.values.dtype.kind == "f":
        return _sums_of_doubles(values.values, starts, at, many.rows)
    if values.values.dtype == object:
        sums_of_all = np.zeros(many.rows, object)
        if len(starts):
            sums_of_all[at] = np.add.reduceat(values.values, starts)
        return Vector(sums_of_all)
    numbers = values.values.astype(np.int64)
    high = np.zeros(many.rows, np.int64)
    low = np.zeros(many.rows, np.int64)
    if len(starts):
        high[at] = np.add.reduceat(numbers >> np.int64(32), starts)
        low[at] = np.add.reduceat(numbers & np.int64(0xFFFFFFFF), starts)
    high, low = high + (low >> np.int64(32)), low & np.int64(0xFFFFFFFF)
    fits = (high >= -(1 << 31)) & (high < (1 << 31))
    if is_decimal and not fits.all():
        return Vector((high.astype(object) << 32) + low.astype(object))
    return Vector((high << np.int64(32)) | low, None if bool(fits.all()) else fits)


def _sums_of_doubles(values: Array, starts: Array, at: Array, rows: int) -> Vector:
    out = np.zeros(rows)
    if len(starts) == 0:
        return Vector(out)
    high, low, wide = exact_sums.split(values)
    high, low = exact_sums.carry(np.add.reduceat(high, starts), np.add.reduceat(low, starts))
    out[at] = exact_sums.read_out(high, low)
    for group in np.unique(starts.searchsorted(wide.nonzero()[0], side="right") - 1):
        end = starts[group + 1] if group + 1 < len(starts) else len(values)
        exact = sum(exact_sums.to_wide(value) for value in values[starts[group] : end].tolist())
        out[at[group]] = exact_sums.from_wide(exact)
    finite = np.isfinite(out)
    return Vector(out, None if bool(finite.all()) else finite)


def extreme(many: Many, is_max: bool) -> Vector:
    """The greatest or least element of each list; null of none. Numbers, texts, instants."""
    values = many.item
    assert isinstance(values, Vector), values
    starts = starts_of(many.owner)
    at = many.owner[starts]
    valid = np.zeros(many.rows, np.bool_)
    valid[at] = True
    better = np.maximum if is_max else np.minimum
    column = ranks(values) if values.dictionary is not None else values.values
    best = np.zeros(many.rows, column.dtype)
    if len(starts):
        best[at] = better.reduceat(column, starts)
    if values.dictionary is None:
        return Vector(best, None if bool(valid.all()) else valid)
    place = np.zeros(int(column.max()) + 1 if len(column) else 1, np.int64)
    place[column] = np.arange(len(column))
    codes = values.values[place[best]] if len(column) else np.zeros(many.rows, np.int32)
    return Vector(codes, None if bool(valid.all()) else valid, values.dictionary)


def first(many: Many) -> Array:
    """Index of each list's first element; -1 where it is empty. intp[rows]"""
    out = np.full(many.rows, -1, np.intp)
    starts = starts_of(many.owner)
    out[many.owner[starts]] = starts
    return out


def distinct(many: Many) -> Many:
    """Each value once, where it first stood."""
    values = many.item
    assert isinstance(values, Vector), values
    codes = joint_codes(values, values)[0]
    order = np.lexsort((codes, many.owner))
    owner, codes = many.owner[order], codes[order]
    mark = np.ones(len(order), np.bool_)
    mark[1:] = (owner[1:] != owner[:-1]) | (codes[1:] != codes[:-1])
    return picked(many, np.sort(order[mark]))


def best(many: Many, keys: Vector, count: int, highest: bool) -> Many:
    """topN or bottomN: the elements of the ``count`` highest or lowest keys; ties keep order."""
    places = ranks(keys)
    # The complement turns the order about without overflow: -x of the least integer is itself.
    order = np.lexsort((~places if highest else places, many.owner))
    owner = many.owner[order]
    starts = starts_of(owner)
    rank = np.arange(len(order)) - np.repeat(starts, np.diff(starts, append=len(order)))
    kept = order[rank < count]
    return Many(many.owner[kept], take(many.item, kept), many.rows)


def grouped(many: Many, keys: Vector) -> Mapped:
    """groupBy: per row a map from key to the list of its elements, in order."""
    places = ranks(keys)
    order = np.lexsort((places, many.owner))
    owner, places = many.owner[order], places[order]
    mark = np.ones(len(order), np.bool_)
    mark[1:] = (owner[1:] != owner[:-1]) | (places[1:] != places[:-1])
    starts = mark.nonzero()[0]
    group = np.cumsum(mark) - 1
    lists = Many(group, take(many.item, order), len(starts), many.in_time)
    return Mapped(owner[starts], take_vector(keys, order[starts]), lists, many.rows)


def mapped_of(owner: Array, keys: Vector, values: Item, rows: int) -> Mapped:
    """A map per row of entries in order: of equal keys the last counts."""
    places = ranks(keys)
    order = np.lexsort((places, owner))
    sorted_owner, places = owner[order], places[order]
    last = np.ones(len(order), np.bool_)
    last[:-1] = (sorted_owner[1:] != sorted_owner[:-1]) | (places[1:] != places[:-1])
    kept = order[last]
    return Mapped(owner[kept], take_vector(keys, kept), take(values, kept), rows)
