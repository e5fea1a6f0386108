"""What look-ups of some rules need of a rulebook, worked out once.

Theory: a look-up of a thousand profiles is a fixed number of array passes, and one of a single
profile must not spend its time on what is the same for all of them: which rules are asked, in what
order, which gauge says what, which streams hold what may still move them. All that is a *sheet*,
made once per rulebook and set of asked rules.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace

import numpy as np

from profile_actors.columnar.instant_columns import ColumnSet
from profile_actors.columnar.vectors import Array
from profile_actors.definitions.declared import Catalogue
from profile_actors.engine.membership.gauges import Gauge, Ladder
from profile_actors.engine.membership.rulebook import Rescanned, Rulebook
from profile_actors.engine.membership.rulebook_builder import indexed
from profile_actors.engine.membership.timers import Timer
from profile_actors.engine.operators.aggregates import Operator
from profile_actors.engine.operators.alike import Alike, Whole, alike
from profile_actors.engine.operators.crews import Crew
from profile_actors.rules.tree.plan import Aggregate, AggregateLeaf, Key, Rule
from profile_actors.rules.tree.walks import leaves_of


@dataclass(frozen=True, slots=True)
class Reader:
    """The segments of one gauge. truth: bool[segments, levels]; columns: theirs in the sheet."""

    gauge: Gauge
    truth: Array
    columns: Array


@dataclass(frozen=True, slots=True)
class Truths:
    """All memberships in one pass: which cell of the gauges' tables says it of a segment, by level.

    columns: those of the segments that gauges know; gauge_of: each one's place among the gauges;
    first: its cell of level 0. cells: all tables, one after the other.
    """

    gauges: tuple[Gauge, ...]
    columns: Array
    gauge_of: Array
    first: Array
    cells: Array

    def of(self, slots: Array, width: int) -> Array:
        """bool[n, width]; false where no gauge says anything."""
        out = np.zeros((len(slots), width), np.bool_)
        if self.gauges:
            levels = np.empty((len(slots), len(self.gauges)), np.intp)
            for place, gauge in enumerate(self.gauges):
                levels[:, place] = gauge.level.take(slots)
            out[:, self.columns] = self.cells.take(levels.take(self.gauge_of, axis=1) + self.first)
        return out


@dataclass(frozen=True, slots=True)
class Sheet:
    """The asked rules of one rulebook.

    book: with those ladders, trees, marks and rescans alone that the asked rules need; its gauges,
    streams and columns are the rulebook's own. segments: names, planned ones in alphabetical order,
    then rescanned ones. versions: of the definitions, by segment. streams: the numbers of those
    that the asked rules read. rules: the planned computed attributes; computed: the names of all,
    rescanned ones last. stored: those that are one aggregate, by shape; evaluated: the places of
    the other planned ones. timed: rules whose own clock moves them; age_timers: of the ladders of
    ages.
    """

    whole: Rulebook
    catalogue: Catalogue
    book: Rulebook
    segments: tuple[str, ...]
    versions: Array
    readers: dict[int, Reader]
    truths: Truths
    qualified: ColumnSet
    streams: tuple[int, ...]
    rules: tuple[Rule, ...]
    computed: tuple[str, ...]
    stored: tuple[Alike, ...]
    evaluated: tuple[int, ...]
    timed: tuple[Rule, ...]
    age_timers: tuple[Timer, ...]
    row_of: dict[Key, int]

    def inside(self, slots: Array) -> Array:
        """Who is in which segment, as the state stands. bool[n, segments]; false for rescans."""
        return self.truths.of(slots, len(self.segments))

    def last(self, slots: Array) -> Array:
        """When each slot last entered or left. int64[n, segments] ms, below UNSET where never."""
        return self.qualified.at(slots)


def sheet_over(sheet: Sheet, book: Rulebook) -> Sheet:
    """The same rules over an excerpt of the sheet's book."""

    def mine(group: Alike) -> Alike:
        roots = [sheet.rules[place].root for place in group.places]
        places = [book.place[root.aggregate] for root in roots if isinstance(root, AggregateLeaf)]
        return group.over([book.streams[s].operators[i] for s, i in places])

    timers = tuple(ladder.timer for ladder in _ladders(book) if ladder.timer is not None)
    return replace(sheet, book=book, stored=tuple(map(mine, sheet.stored)), age_timers=timers)


def sheet_of(
    book: Rulebook,
    catalogue: Catalogue,
    segments: Collection[str] | None,
    computed: Collection[str] | None,
    single: bool = False,
) -> Sheet:
    """The sheet of these rules (None: of all) about people, or about single identities; names that
    the rulebook does not know, or knows of the other kind, are left out."""
    kinds = {"segment": segments, "computed": computed}

    def is_asked(key: Key) -> bool:
        names = kinds[key[0]]
        return (key in book.single) == single and (names is None or key[1] in names)

    rescans = [rescan for rescan in book.rescans if is_asked(rescan.rule.key)]
    again = {rescan.rule.name: rescan for rescan in book.rescans if rescan.gauge >= 0}
    planned = sorted(n for n in book.qualified if n not in again and is_asked(("segment", n)))
    names = [*planned, *(r.rule.name for r in rescans if r.gauge >= 0)]
    rules = tuple(r for r in book.plan.rules if r.kind == "computed" and is_asked(r.key))
    values = [*(r.name for r in rules), *(r.rule.name for r in rescans if r.gauge < 0)]
    row_of = {("segment", name): row for row, name in enumerate(names)}
    row_of |= {("computed", name): row for row, name in enumerate(values)}
    part = _part(book, row_of, rescans)
    readers = _readers(book, {name: row for row, name in enumerate(planned)})
    stored, known = _stored(book, rules)
    return Sheet(
        whole=book,
        catalogue=catalogue,
        book=part,
        segments=tuple(names),
        versions=np.array([catalogue.segments[name].version for name in names], np.int64),
        readers=readers,
        truths=_truths(list(readers.values())),
        qualified=ColumnSet(
            [again[name].qualified if name in again else book.qualified[name] for name in names]
        ),
        streams=_streams(part, rules),
        rules=rules,
        computed=tuple(values),
        stored=stored,
        evaluated=tuple(number for number in range(len(rules)) if number not in known),
        timed=tuple(tree.rule for tree in part.trees if tree.timer is not None),
        age_timers=tuple(ladder.timer for ladder in _ladders(part) if ladder.timer is not None),
        row_of=row_of,
    )


def _stored(book: Rulebook, rules: Sequence[Rule]) -> tuple[tuple[Alike, ...], set[int]]:
    """Those of the rules that are one aggregate, in groups (``alike``)."""
    operators: list[tuple[int, Operator]] = []
    wholes: dict[int, Whole] = {}
    for number, rule in enumerate(rules):
        if not isinstance(rule.root, AggregateLeaf):
            continue
        place, index = book.place[rule.root.aggregate]
        stream = book.streams[place]
        operators.append((number, stream.operators[index]))
        if isinstance(stream.crew, Crew):
            begin = int(stream.crew.cells_of(stream, np.zeros(1, np.uint32))[0])
            wholes[number] = stream.crew.operators[index], begin
    return alike(operators, wholes)


def _part(book: Rulebook, asked: Collection[Key], rescans: list[Rescanned]) -> Rulebook:
    """The rulebook with what the asked rules need alone; all columns and failures are shared."""
    ladders = {
        measure: number
        for (measure, number), ladder in zip(book.ladders.items(), _ladders(book), strict=True)
        if any(key in asked for key in ladder.readers)
    }
    marks = {
        aggregate: [name for name in names if ("computed", name) in asked]
        for aggregate, names in book.marks.items()
    }
    part = replace(
        book,
        ladders=ladders,
        trees=[tree for tree in book.trees if tree.rule.key in asked],
        marks={aggregate: names for aggregate, names in marks.items() if names},
        rescans=rescans,
        groups={},
        columns={},
    )
    part.reach = indexed(part)
    return part


def _ladders(book: Rulebook) -> list[Ladder]:
    """The gauges that are ladders, in the order in which the rulebook lists them."""
    gauges = [book.gauges[number] for number in book.ladders.values()]
    return [gauge for gauge in gauges if isinstance(gauge, Ladder)]


def _readers(book: Rulebook, columns: dict[str, int]) -> dict[int, Reader]:
    """By gauge, what it says of the segments that have these columns in a sheet."""
    out = {}
    for number, gauge in enumerate(book.gauges):
        place = np.array([columns.get(name, -1) for name in gauge.layout.segments], np.intp)
        some = np.flatnonzero(place >= 0)
        if len(some):
            truth = np.ascontiguousarray(gauge.layout.truth[:, some].T)
            out[number] = Reader(gauge, truth, place[some])
    return out


def _truths(readers: Sequence[Reader]) -> Truths:
    """The tables of all readers, one after the other."""
    nothing = np.zeros(0, np.intp)
    sizes = [len(reader.columns) for reader in readers]
    widths = np.repeat([reader.truth.shape[1] for reader in readers], sizes)
    tables = [np.zeros(0, np.bool_), *(reader.truth.ravel() for reader in readers)]
    return Truths(
        gauges=tuple(reader.gauge for reader in readers),
        columns=np.concatenate([nothing, *(reader.columns for reader in readers)]),
        gauge_of=np.repeat(np.arange(len(readers)), sizes),
        first=np.cumsum(widths) - widths,
        cells=np.concatenate(tables),
    )


def _streams(part: Rulebook, rules: tuple[Rule, ...]) -> tuple[int, ...]:
    """The streams whose lines may move what is asked."""
    read: set[Aggregate] = set(part.marks)
    for ladder in _ladders(part):
        read.update(ladder.aggregates)
    for tree in part.trees:
        read.update(tree.aggregates)
    for rule in rules:
        leaves = leaves_of(rule.root)
        read.update(leaf.aggregate for leaf in leaves if isinstance(leaf, AggregateLeaf))
    return tuple(sorted({part.place[aggregate][0] for aggregate in read}))
