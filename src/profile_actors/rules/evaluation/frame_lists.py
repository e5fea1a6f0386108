"""Lists and maps of a frame's rows: how each form of them is made, all rows at once.

Theory: a list is the elements of all rows end to end with the row of each (``columnar.lists``), so
every form is a few array operations: kept events are those that count now, a filter is a join, what
is made of each element is one inner frame over all of them, grouping is one sort.
"""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np

from profile_actors.columnar import kernels, lists
from profile_actors.columnar.lists import Events, Item, KeptRows, Many, Mapped, full, take
from profile_actors.columnar.vectors import Array, Vector, both
from profile_actors.rules.evaluation.joins import Found, Join, Rows
from profile_actors.rules.tree.clock_reads import varies
from profile_actors.rules.tree.nodes import Call, Each, Let, Literal, Node, Variable
from profile_actors.rules.tree.plan import Kept
from profile_actors.rules.tree.walks import conjuncts


class ListFrame(Rows, Protocol):
    """What lists ask of the frame that they stand in (``frames.Frame``)."""

    @property
    def earliest(self) -> int: ...

    names: dict[str, Item | Mapped]

    def home(self, node: Node) -> ListFrame: ...

    def let(self, node: Let) -> ListFrame: ...

    def within(self, up: Array | None, rows: int, names: dict[str, Any]) -> ListFrame: ...

    def inside(self, many: Many, name: str, scope: Any = None) -> ListFrame: ...

    def any(self, node: Node) -> Item | Mapped: ...

    def map(self, node: Node) -> Mapped: ...

    def kept_rows(self, node: Kept) -> KeptRows: ...

    def found(self, node: Each) -> Found: ...


def list_of(frame: ListFrame, node: Node) -> Many:
    """The list of each row of the frame that is the node's home."""
    if isinstance(node, Kept):
        return _kept(frame, node)
    if isinstance(node, Each):
        return _each(frame, node)
    if isinstance(node, Let):
        return frame.let(node).many(node.body)
    if isinstance(node, Call) and node.function == "distinct":
        return lists.distinct(frame.many(node.args[0]))
    if isinstance(node, Call) and node.function in ("keys", "values"):
        mapped = frame.map(node.args[0])
        part = mapped.keys if node.function == "keys" else mapped.values
        return Many(mapped.owner, part, mapped.rows)
    if isinstance(node, Call) and node.function == "get":
        mapped = frame.map(node.args[0])
        assert isinstance(mapped.values, Many), "scalars are asked for by value()"
        entry = entry_of(frame, mapped, node.args[1])
        has = np.flatnonzero(entry >= 0)
        found = lists.spread(mapped.values, entry[has])
        return Many(has[found.owner], found.item, frame.rows, found.in_time)
    assert isinstance(node, Variable), node
    item = frame.names[node.name]
    assert isinstance(item, Many), f"expected a list, got {type(item).__name__}"
    return item


def entry_of(frame: ListFrame, mapped: Mapped, key: Node) -> Array:
    """The index of each row's entry with the key; -1 where there is none."""
    wanted = lists.take_vector(frame.value(key), mapped.owner)
    hits = np.flatnonzero(kernels.compare("=", mapped.keys, wanted).values)
    out = np.full(frame.rows, -1, np.intp)
    out[mapped.owner[hits]] = hits
    return out


def _kept(frame: ListFrame, node: Kept) -> Many:
    rows = frame.kept_rows(node)
    if rows.leave is None and rows.max_enter <= frame.earliest:
        index = np.arange(len(rows.owner))
        return Many(rows.owner, Events(rows, index), frame.rows, in_time=True)
    now = frame.now if frame.now.ndim == 0 else frame.now[rows.owner]
    counts = rows.enter <= now
    if rows.leave is not None:
        counts &= rows.leave > now
    if counts.all():
        index = np.arange(len(rows.owner))
        return Many(rows.owner, Events(rows, index), frame.rows, in_time=True)
    index = np.flatnonzero(counts)
    return Many(rows.owner[index], Events(rows, index), frame.rows, in_time=True)


def _each(frame: ListFrame, node: Each) -> Many:
    if node.function == "filter":
        return _filtered(frame, node)
    source = frame.many(node.source)
    inner = frame.inside(source, node.variables[0])
    if node.function == "map":
        return _mapped(node, source, inner)
    keys = full(inner.value(node.body), inner.rows)
    source, keys = _with_keys(source, keys)
    amount = node.extra[0]
    assert isinstance(amount, Literal)
    return lists.best(source, keys, int(amount.value), node.function == "topn")


def _mapped(node: Each, source: Many, inner: ListFrame) -> Many:
    item = inner.any(node.body)
    assert not isinstance(item, Mapped), "a list of maps is not planned"
    if isinstance(item, Events):
        valid = item.place >= 0
    elif isinstance(item, Vector) and item.valid is not None:
        valid = item.valid
    else:
        return Many(source.owner, item, source.rows)
    index = np.flatnonzero(valid)
    return Many(source.owner[index], _known(take(item, index)), source.rows)


def joined(frame: ListFrame, node: Each) -> Found:
    """The pairs of a row and an element of the filter's source that meet the conditions which
    do not move with the clock."""
    fixed = [part for part in conjuncts(node.body) if not varies(part)]
    home = frame.home(node.source)
    return Join(frame, home, home.many(node.source), node.variables[0]).found(fixed)


def _filtered(frame: ListFrame, node: Each) -> Many:
    found = frame.found(node)
    left, right = found.pairs()
    parts = moving_parts(node)
    if parts and len(left):
        inner = frame.of_elements(left, take(found.source.item, right), node.variables[0])
        index = np.flatnonzero(inner.all_of(parts))
        left, right = left[index], right[index]
    return Many(left, take(found.source.item, right), frame.rows, found.source.in_time)


def map_of(frame: ListFrame, node: Node) -> Mapped:
    """The map of each row of the frame that is the node's home."""
    if isinstance(node, Let):
        return frame.let(node).map(node.body)
    if not isinstance(node, Each):
        assert isinstance(node, Variable), node
        item = frame.names[node.name]
        assert isinstance(item, Mapped), f"expected a map, got {type(item).__name__}"
        return item
    if node.function == "groupby":
        source = frame.many(node.source)
        keys = frame.inside(source, node.variables[0]).value(node.body)
        source, keys = _with_keys(source, full(keys, len(source.owner)))
        return lists.grouped(source, keys)
    assert node.function == "mapentries", node.function
    before = frame.map(node.source)
    names: dict[str, Item | Mapped] = dict(
        zip(node.variables, (before.keys, before.values), strict=True)
    )
    inner = frame.within(before.owner, len(before.owner), names)
    keys, values = full(inner.value(node.body), inner.rows), inner.any(node.extra[0])
    assert not isinstance(values, Mapped), "a map of maps is not planned"
    valid = keys.valid
    if isinstance(values, Vector):
        valid = both(valid, values.valid)
    if valid is None:
        return lists.mapped_of(before.owner, keys, values, frame.rows)
    index = np.flatnonzero(valid)
    keys = Vector(keys.values[index], None, keys.dictionary)
    return lists.mapped_of(before.owner[index], keys, _known(take(values, index)), frame.rows)


def moving_parts(node: Each) -> list[Node]:
    """The filter's conditions that the clock can change."""
    return [part for part in conjuncts(node.body) if varies(part)]


def _known(item: Item) -> Item:
    """Elements of which none is null."""
    return Vector(item.values, None, item.dictionary) if isinstance(item, Vector) else item


def _with_keys(source: Many, keys: Vector) -> tuple[Many, Vector]:
    """The elements whose key is not null, and their keys."""
    if keys.valid is None:
        return source, keys
    index = np.flatnonzero(keys.valid)
    return lists.picked(source, index), Vector(keys.values[index], None, keys.dictionary)
