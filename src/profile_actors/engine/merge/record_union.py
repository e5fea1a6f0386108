"""What the record rows of one profile come to: its union view, by the slow and obvious way.

Theory: a *fragment* is what one dataset says of one identity. A row states leaves at its source
time; of each leaf the newest statement counts, whatever arrived last. A row of a dataset that
replaces, and the deletion of a record, hide what the same fragment stated before. A map is stated
key by key. A row that appends to an array adds to what was stated whole at its time or before.
Everything here is a function of the set of rows, and the oracle of whoever is faster
(``live_rows``, ``attribute_columns``).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import date
from decimal import Decimal
from typing import Any, NamedTuple

import msgspec

from profile_actors.engine.merge.documents import Primary, Row, document

UNSTATED = ("timestamp", "_id")
"""What a row's document says of the row itself."""


class Merging(NamedTuple):
    """How rows become a union view. replaces: datasets whose rows stand for whole records. order:
    the datasets that count, the most trusted first; None: all do, and the newest statement wins."""

    replaces: Mapping[str, bool]
    order: tuple[str, ...] | None = None


class Stated(NamedTuple):
    """A leaf of a union view and where it is from. named: namespace and value of the row's
    identity; None: the profile's own."""

    value: Any
    dataset: str
    named: tuple[str, str] | None
    time: int


class _Said(NamedTuple):
    """What one row says of one leaf, or of one key of a map. is_added: it appends."""

    value: Any
    dataset: str
    named: tuple[str, str] | None
    time: int
    is_added: bool


Place = tuple[str, str | None]
"""A leaf's dotted path, and the key if it is a map."""


def union_of(rows: Iterable[Row], merging: Merging) -> dict[str, Any]:
    """The union view of record rows, as a document."""
    return document_of(stated_by(rows, merging))


def document_of(leaves_by_place: Mapping[Place, Stated]) -> dict[str, Any]:
    """Leaves as a document."""
    leaves: dict[str, Any] = {}
    for (path, key), stated in sorted(leaves_by_place.items(), key=_by_place):
        if key is None:
            leaves[path] = stated.value
        else:
            leaves.setdefault(path, {})[key] = stated.value
    return document(leaves)


def _by_place(item: tuple[Place, Stated]) -> tuple[str, str]:
    return item[0][0], item[0][1] or ""


def stated_by(rows: Iterable[Row], merging: Merging) -> dict[Place, Stated]:
    """The leaves of the union view of record rows, and where each is from.

    Of several statements the newest wins; at equal times that of the dataset whose name sorts
    first, within it the larger value. With an order of datasets the first one that states a leaf
    has it alone.
    """
    said: dict[Place, list[_Said]] = {}
    for fragment in _fragments(rows).values():
        floor = max((_floor(row, merging.replaces) for row in fragment), default=None)
        for row in fragment:
            if not row.deletes and (floor is None or row.timestamp >= floor):
                for place, value in places_of(row):
                    told = _Said(
                        value, row.dataset, row.named, row.timestamp, place[0] in row.appends
                    )
                    said.setdefault(place, []).append(told)
    out = {}
    for place, statements in said.items():
        chosen = _reduced(statements, merging.order)
        if chosen is not None:
            out[place] = chosen
    return out


def _fragments(rows: Iterable[Row]) -> dict[tuple[str, Primary | None], list[Row]]:
    out: dict[tuple[str, Primary | None], list[Row]] = {}
    for row in rows:
        out.setdefault((row.dataset, row.primary), []).append(row)
    return out


def _floor(row: Row, replaces: Mapping[str, bool]) -> int:
    """What the row's fragment stated before this instant is hidden."""
    if row.deletes:
        return row.timestamp + 1
    return row.timestamp if replaces.get(row.dataset) else _NEVER


_NEVER = -(1 << 62)


def places_of(row: Row) -> Iterable[tuple[Place, Any]]:
    """What the row states. Of a map: each of its keys that has a value."""
    for path, value in row.fields.items():
        if path in UNSTATED:
            continue
        if isinstance(value, dict):
            yield from (((path, key), one) for key, one in value.items() if one is not None)
        else:
            yield (path, None), value


def _reduced(said: Sequence[_Said], order: tuple[str, ...] | None) -> Stated | None:
    """The statement that counts, with what was appended to it since."""
    if order is not None:
        first = min((order.index(one.dataset) for one in said if one.dataset in order), default=-1)
        said = [one for one in said if first >= 0 and one.dataset == order[first]]
    whole = [one for one in said if not one.is_added]
    newest = max((one.time for one in whole), default=_NEVER)
    whole = [one for one in whole if one.time == newest]
    least = min((one.dataset for one in whole), default="")
    whole = [one for one in whole if one.dataset == least]
    stated = max(whole, key=lambda one: sort_key(one.value), default=None)
    # A row that is repeated appends nothing new.
    added = {(one.time, _json(one.value)): one for one in said if one.is_added}
    later = [added[key] for key in sorted(added) if key[0] >= newest]
    if later:
        value = [] if stated is None else list(stated.value)
        for one in later:
            value += one.value
        return Stated(value, *later[-1][1:4])
    return None if stated is None else Stated(*stated[:4])


def sort_key(value: Any) -> Any:
    return value if isinstance(value, bool | int | float | str | Decimal | date) else _json(value)


def _json(value: Any) -> bytes:
    return msgspec.json.encode(value, order="deterministic", enc_hook=str)
