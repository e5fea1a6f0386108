"""The ladders of one crew, climbed by one search: which level each value of each member reaches.

Theory: the ladders over one aggregate of many streams differ in their points only. All points of
one place together cut the line into stretches, and a table says of every member in which of its
own levels each stretch lies. So a step's values of all members are searched for once, and so it is
with what follows: which memberships a change of level flips is one look into a table of all
ladders, and the columns in which their instants are kept are found by one index.

Law: a group says of each member what its ladders say one by one.

Limits: one ladder for an aggregate, of numbers, with levels of one byte; small tables (``CELLS``).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from profile_actors.columnar.instant_columns import Columns
from profile_actors.columnar.vectors import Array, Vector
from profile_actors.engine.membership.gauges import FIRST, NULL, Ladder
from profile_actors.engine.membership.reach import Reach
from profile_actors.engine.membership.rulebook import Rulebook
from profile_actors.engine.operators.crews import Crew

CELLS = 1 << 20
"""Cells of a group's largest table; ladders of more are climbed one by one."""


@dataclass(frozen=True, slots=True)
class Climb:
    """One aggregate's place in the streams of a crew. points: ascending, of all its ladders. table:
    uint8[members, points + 2], the level of each stretch, and last that of no value; 0 of a member
    that has no ladder here."""

    place: int
    points: Array
    table: Array

    def levels(self, values: Vector, members: Array) -> Array:
        """uint8[n]. members: the number of each value's."""
        where = self.points.searchsorted(values.values, side="right")
        if values.valid is not None:
            where[~values.valid] = len(self.points) + 1
        where += members * self.table.shape[1]
        return self.table.take(where)


@dataclass(frozen=True, slots=True)
class LadderGroup:
    """What depends on a crew's aggregates alone, for its members together.

    streams: the members' numbers, -1 of one that the rulebook does not have. gauges: by ladder
    (places times members) its number, -1 where there is none. truths: bool[ladders * levels,
    width], which segments a ladder's level means; columns: where their instants are kept, ``width``
    for a ladder. marks: of computed attributes: the place, and of each member the name's number in
    ``names``, -1 without one.
    """

    streams: tuple[int, ...]
    climbs: tuple[Climb, ...]
    members: int
    gauges: list[int]
    truths: Array
    levels: int
    columns: Columns
    width: int
    names: tuple[str, ...]
    marks: tuple[tuple[int, Array], ...]


def group_of(book: Rulebook, crew: Crew) -> LadderGroup | None:
    """The group of a crew of this rulebook's streams; None where its members must go one by one.
    Made once: whoever gives the rulebook other columns forgets it (``Rulebook.groups``)."""
    known = book.groups.get(id(crew), book)
    if known is book:
        known = book.groups[id(crew)] = _made(book, crew)
    assert known is None or isinstance(known, LadderGroup)
    return known


def _made(book: Rulebook, crew: Crew) -> LadderGroup | None:
    place_of = {id(stream): number for number, stream in enumerate(book.streams)}
    streams = [place_of.get(id(member), -1) for member in crew.members]
    ladders = _ladders(book, book.reach, streams)
    if ladders is None:
        return None
    places = sorted({place for _, place in ladders})
    every = list(ladders.values())
    levels = max((len(one.layout.truth) for _, one in every), default=1)
    width = max((len(one.layout.segments) for _, one in every), default=1) or 1
    count = len(crew.members)
    if levels > 256 or len(places) * count * levels * width > CELLS:
        return None
    climbs = []
    truths = np.zeros((len(places), count, levels, width), np.bool_)
    numbers = [-1] * (len(places) * count)
    # Where no segment is, any column stands: it is never asked for.
    columns = list(book.qualified.values())[:1] * (len(places) * count * width)
    for row, place in enumerate(places):
        mine = {member: one for (member, at), one in ladders.items() if at == place}
        points = np.unique(np.concatenate([one.breaks for _, one in mine.values()]))
        if count * (len(points) + 2) > CELLS:
            return None
        table = np.zeros((count, len(points) + 2), np.uint8)
        for member, (number, ladder) in mine.items():
            numbers[row * count + member] = number
            table[member, 0], table[member, -1] = FIRST, NULL
            table[member, 1:-1] = ladder.levels(Vector(points))  # a stretch begins at its point
            truth = ladder.layout.truth
            truths[row, member, : truth.shape[0], : truth.shape[1]] = truth
            for column, segment in enumerate(ladder.layout.segments):
                columns[(row * count + member) * width + column] = book.qualified[segment]
        climbs.append(Climb(place, points, table))
    names, marks = _marks(book, streams)
    return LadderGroup(
        tuple(streams), tuple(climbs), count, numbers, truths.reshape(-1, width), levels,
        Columns(columns), width, names, marks,
    )  # fmt: skip


def _ladders(
    book: Rulebook, reach: Reach, streams: Sequence[int]
) -> dict[tuple[int, int], tuple[int, Ladder]] | None:
    """By (member, place) the ladder of an aggregate; None if some cannot go with the others."""
    found: dict[tuple[int, int], tuple[int, Ladder]] = {}
    for member, stream in enumerate(streams):
        for rungs in reach.climbs.get(stream, ()):
            ladder = book.gauges[rungs.ladder]
            assert isinstance(ladder, Ladder)
            if (member, rungs.place) in found or ladder.measure.kind == "string":
                return None
            found[member, rungs.place] = rungs.ladder, ladder
    return found


def _marks(
    book: Rulebook, streams: Sequence[int]
) -> tuple[tuple[str, ...], tuple[tuple[int, Array], ...]]:
    """The names of the members' computed attributes, and where they are."""
    names: list[str] = []
    layers: list[dict[int, Array]] = []
    for member, stream in enumerate(streams):
        depth: dict[int, int] = {}
        for mark in book.reach.marks.get(stream, ()):
            layer = depth[mark.place] = depth.get(mark.place, -1) + 1
            if layer == len(layers):
                layers.append({})
            rows = layers[layer].setdefault(mark.place, np.full(len(streams), -1))
            rows[member] = len(names)
            names.append(mark.name)
    return tuple(names), tuple(pair for layer in layers for pair in layer.items())
