"""Profiles as columns, as they travel from a partition to whoever asked; and objects made of them.

Theory: a profile with a hundred memberships is a hundred small objects. To make them in the
partition and pickle them one by one cost forty times what it costs to read their columns; so the
columns travel, and the objects are made where they are wanted, when they are read, by functions of
the interpreter that go through whole lists.
"""

from __future__ import annotations

from functools import cached_property
from typing import Any

import msgspec
import numpy as np

from profile_actors.columnar.vectors import FOREVER, Array
from profile_actors.engine.identity.identity import Identity
from profile_actors.engine.merge.record_union import Place, Stated, document_of
from profile_actors.engine.reading.answers import Membership, Profile, Source
from profile_actors.engine.reading.fields import is_picked, picked

EXITED, REALIZED, PENDING = 0, 1, 2
STATUS = np.array(["exited", "realized", "pending"], object)


class Numbers(msgspec.Struct, array_like=True, gc=False):
    """Values of some computed attributes. places: their numbers; values: [places, n], of integers,
    doubles or instants; missing: bool, likewise, where there is none; None: nowhere."""

    places: tuple[int, ...]
    values: Array
    missing: Array | None


class ProfileColumns(msgspec.Struct, array_like=True, gc=False):
    """n profiles as of ``now`` ms.

    namespaces, ids: of their identities, empty if not asked. modified: int64[n] ms. attributes: per
    profile, None: none. segments, versions: names and versions of the asked segments. ends:
    int64[n], where each profile's memberships end among all p; segment: their numbers, status:
    uint8 (``STATUS``), last, until: int64 ms, FOREVER for none. computed: names; numbers: the
    values of those that are columns of numbers, plain: of the others n each, by their place;
    validity: int64[n, names] ms, FOREVER for none. refused: (name, why, from which profile on) of
    computed attributes without an answer. more: the further identities of those that have some, as
    (namespace, id), by their number. sources: of
    attributes, per profile, if asked.
    """

    now: int
    namespaces: list[str]
    ids: list[str]
    modified: Array
    attributes: list[dict[str, Any]] | None
    segments: tuple[str, ...]
    versions: Array
    ends: Array
    segment: Array
    status: Array
    last: Array
    until: Array
    computed: tuple[str, ...]
    numbers: list[Numbers]
    plain: dict[int, list[Any]]
    validity: Array
    refused: list[tuple[str, str, int]]
    more: dict[int, list[tuple[str, str]]] = {}
    sources: list[dict[str, Source]] | None = None

    def __reduce__(self) -> tuple[Any, ...]:
        """All arrays travel as one text of bytes, integers of eight bytes first: to pickle an array
        by itself takes as long as to fill it. They come back read-only."""
        arrays = [self.modified, self.versions, self.ends, self.last, self.until, self.validity]
        numbers = [(of.places, of.values.dtype.str, of.missing is None) for of in self.numbers]
        arrays += [of.values for of in self.numbers]
        arrays += [self.segment, self.status]
        arrays += [of.missing for of in self.numbers if of.missing is not None]
        data = b"".join([np.ascontiguousarray(of).data for of in arrays])
        return _unpacked, (
            data, len(self.ends), len(self.segment),
            self.now, self.namespaces, self.ids, self.attributes, self.segments, self.computed,
            numbers, self.plain, self.refused, self.more, self.sources,
        )  # fmt: skip

    def put_attributes(
        self,
        leaves: list[dict[Place, Stated]],
        paths: tuple[str, ...] | None,
        owners: list[Identity] | None,
    ) -> None:
        """Put in what records come to, per profile. paths: what is asked of it, None: all; owners:
        whose it is, if it is asked where attributes are from."""
        views = [document_of(one) for one in leaves]
        self.attributes = views if paths is None else [picked(view, paths) for view in views]
        if owners is not None:
            pairs = zip(leaves, owners, strict=True)
            self.sources = [sources_of(stated, own, paths) for stated, own in pairs]

    def table(self) -> Array:
        """The computed attributes as plain values, None where there is none. object[n, names]"""
        out = np.full((len(self.ends), len(self.computed)), None)
        for of in self.numbers:
            cells = of.values.astype(object)
            if of.missing is not None:
                cells[of.missing] = None
            out[:, of.places] = cells.T
        for place, values in self.plain.items():
            # One by one: values that are lists are not to be taken for rows of a matrix.
            for row, value in enumerate(values):
                out[row, place] = value
        for name, _, first in self.refused:
            out[first:, self.computed.index(name)] = None
        return out


def _unpacked(
    data: bytes,
    count: int,
    memberships: int,
    now: int,
    namespaces: list[str],
    ids: list[str],
    attributes: list[dict[str, Any]] | None,
    segments: tuple[str, ...],
    computed: tuple[str, ...],
    numbers: list[tuple[tuple[int, ...], str, bool]],
    *rest: Any,
) -> ProfileColumns:
    """What ``ProfileColumns.__reduce__`` has made ready. count: profiles."""
    at = 0

    def taken(kind: str, size: int, width: int = 0) -> Array:
        nonlocal at
        found = np.frombuffer(data, kind, size * max(1, width), at)
        at += found.nbytes
        return found.reshape(size, width) if width else found

    sizes = count, len(segments), count, memberships, memberships
    modified, versions, ends, last, until = [taken("i8", size) for size in sizes]
    validity = taken("i8", count * len(computed)).reshape(count, len(computed))
    values = [taken(kind, len(places), count) for places, kind, _ in numbers]
    segment, status = taken("i4", memberships), taken("u1", memberships)
    every = [
        Numbers(places, of, None if is_whole else taken("?", len(places), count))
        for (places, _, is_whole), of in zip(numbers, values, strict=True)
    ]
    plain, refused, more, sources = rest
    return ProfileColumns(
        now, namespaces, ids, modified, attributes, segments, versions, ends, segment, status, last,
        until, computed, every, plain, validity, refused, more, sources,
    )  # fmt: skip


Elsewhere = tuple[int, tuple[int, int], tuple[int, int]]
"""(which of the asked keys, the key of a person's smallest identity, the key of her book): to be
asked for by the book's key where that identity is at home."""


class Answer(msgspec.Struct, array_like=True, gc=False):
    """The profiles of n asked keys. parts: what was found; rows: int64[n], the row of each among
    all parts, -1 where nobody has the key. elsewhere: those of them that another partition has."""

    parts: list[ProfileColumns]
    rows: Array
    elsewhere: list[Elsewhere] = []

    def profiles(self) -> list[Profile | None]:
        """As objects, None for unknown keys. A key that is asked twice has the same object."""
        known: list[Profile | None] = [p for part in self.parts for p in made(part)]
        known.append(None)
        return [known[row] for row in self.rows.tolist()]


class MadeRows:
    """The fields of some profiles as objects. What is read of one is made ready for all of them, in
    a few passes; what nobody reads is never made."""

    def __init__(self, columns: ProfileColumns) -> None:
        self._columns = columns
        self._ends: list[int] = columns.ends.tolist()

    def field(self, name: str, row: int) -> Any:
        """One field of one profile. Cost: of ``segments`` some 200 ns a membership, of the others
        100 ns an attribute; most of it for all of the answer's with the first."""
        columns = self._columns
        if name == "now":
            return columns.now
        if name == "last_modified":
            return int(columns.modified[row])
        if name == "identities":
            if not columns.ids:
                return []
            own = (columns.namespaces[row], columns.ids[row])
            return [Identity(*one) for one in (own, *columns.more.get(row, ()))]
        if name == "attributes":
            return columns.attributes[row] if columns.attributes else {}
        if name == "sources":
            return columns.sources[row] if columns.sources else {}
        if name == "pending":
            return {rule: why for rule, why, first in columns.refused if row >= first}
        if name == "segments":
            named, members = self._members
            part = slice(self._ends[row - 1] if row else 0, self._ends[row])
            return dict(zip(named[part], members[part], strict=True))
        cells = self._values if name == "computed" else self._validity
        return dict(zip(columns.computed, cells[row], strict=True))

    @cached_property
    def _members(self) -> tuple[list[str], list[Membership]]:
        columns = self._columns
        names, numbers = columns.segments, columns.segment.tolist()
        return [names[number] for number in numbers], list(map(
            Membership,
            STATUS[columns.status].tolist(),
            or_none(columns.last),
            or_none(columns.until),
            columns.versions[columns.segment].tolist(),
        ))  # fmt: skip

    @cached_property
    def _values(self) -> list[list[Any]]:
        out: list[list[Any]] = self._columns.table().tolist()
        return out

    @cached_property
    def _validity(self) -> list[list[int | None]]:
        return rows_or_none(self._columns.validity)


def made(columns: ProfileColumns) -> list[Profile]:
    """The profiles. Cost: some 500 ns each; the rest when they are read."""
    rows = MadeRows(columns)
    return [Profile.of(rows, row) for row in range(len(columns.ends))]


def rows_or_none(instants: Array) -> list[list[int | None]]:
    """Rows of instants as Python's, None for FOREVER."""
    out = instants.astype(object)
    out[instants == FOREVER] = None
    rows: list[list[int | None]] = out.tolist()
    return rows


def or_none(instants: Array) -> list[int | None]:
    """Instants as Python's, None for FOREVER."""
    out: list[int | None] = instants.tolist()
    for place in np.flatnonzero(instants == FOREVER).tolist():
        out[place] = None
    return out


def sources_of(
    leaves: dict[Place, Stated], own: Identity, paths: tuple[str, ...] | None
) -> dict[str, Source]:
    """Where each leaf is from. own: the profile's identity; paths: what is asked, None: all."""
    out = {}
    for (path, key), one in sorted(leaves.items(), key=lambda item: (item[0][0], item[0][1] or "")):
        name = path if key is None else f"{path}.{key}"
        if paths is None or is_picked(name, paths):
            who = own if one.named is None else Identity(*one.named)
            out[name] = Source(one.dataset, who, one.time)
    return out
