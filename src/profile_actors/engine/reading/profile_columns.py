"""Profiles as columns, as they travel from a partition to whoever asked; and objects made of them.

Theory: a profile with a hundred memberships is a hundred small objects. To make them in the
partition and pickle them one by one cost forty times what it costs to read their columns; so the
columns travel, and the objects are made once, where they are wanted, by functions of the
interpreter that go through whole lists.
"""

from __future__ import annotations

from typing import Any

import msgspec
import numpy as np

from profile_actors.columnar.vectors import FOREVER, Array
from profile_actors.engine.identity.identity import Identity
from profile_actors.engine.reading.answers import Membership, Profile

EXITED, REALIZED, PENDING = 0, 1, 2
STATUS = np.array(["exited", "realized", "pending"], object)


class ProfileColumns(msgspec.Struct, array_like=True, gc=False):
    """n profiles as of ``now`` ms.

    namespaces, ids: of their identities, empty if not asked. modified: int64[n] ms. attributes: per
    profile, None: none. segments, versions: names and versions of the asked segments. ends:
    int64[n], where each profile's memberships end among all p; segment: their numbers, status:
    uint8 (``STATUS``), last, until: int64 ms, FOREVER for none. computed: names; values: per name a
    list of n; validity: int64[n, names] ms, FOREVER for none. refused: (name, why, from which
    profile on) of computed attributes without an answer.
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
    values: list[list[Any]]
    validity: Array
    refused: list[tuple[str, str, int]]


class Answer(msgspec.Struct, array_like=True, gc=False):
    """The profiles of n asked keys. parts: what was found; rows: int64[n], the row of each among
    all parts, -1 where nobody has the key."""

    parts: list[ProfileColumns]
    rows: Array

    def profiles(self) -> list[Profile | None]:
        """As objects, None for unknown keys. A key that is asked twice has the same object."""
        known: list[Profile | None] = [p for part in self.parts for p in made(part)]
        known.append(None)
        return [known[row] for row in self.rows.tolist()]


def made(columns: ProfileColumns) -> list[Profile]:
    """The profiles. Cost: some 200 ns a membership, 100 ns a computed attribute."""
    names, computed = columns.segments, columns.computed
    numbers = columns.segment
    named = [names[number] for number in numbers.tolist()]
    members = list(map(
        Membership,
        STATUS[columns.status].tolist(),
        or_none(columns.last),
        or_none(columns.until),
        columns.versions[numbers].tolist(),
    ))  # fmt: skip
    ends = columns.ends.tolist()
    count = len(ends)
    identities: list[list[Identity]] = [[] for _ in range(count)]
    if columns.ids:
        identities = [[one] for one in map(Identity, columns.namespaces, columns.ids)]
    attributes = columns.attributes or [{} for _ in range(count)]
    values = list(zip(*columns.values, strict=True)) if computed else [()] * count
    validity, width = or_none(columns.validity.ravel()), len(computed)
    # Maps of plain values and of structs that the collector does not visit are not visited either.
    return [
        Profile(
            identities[row],
            attributes[row],
            dict(zip(named[begin:end], members[begin:end], strict=True)),
            dict(zip(computed, values[row], strict=True)),
            dict(zip(computed, validity[row * width : (row + 1) * width], strict=True)),
            modified,
            columns.now,
            {name: why for name, why, first in columns.refused if row >= first},
        )
        for row, (begin, end, modified) in enumerate(
            zip([0, *ends[:-1]], ends, columns.modified.tolist(), strict=True)
        )
    ]


def or_none(instants: Array) -> list[int | None]:
    """Instants as Python's, None for FOREVER."""
    out: list[int | None] = instants.tolist()
    for place in np.flatnonzero(instants == FOREVER).tolist():
        out[place] = None
    return out
