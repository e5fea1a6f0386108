"""Gauges: the state from which memberships are read, one small level per profile.

Theory: comparisons of one measure with constants form a *ladder*: the sorted constants cut the
line into levels, one ``searchsorted`` gives a profile's level, and a pair (old level, new level)
names exactly the memberships that changed. Rules that are one such comparison are the ladder's
segments; those of larger rules are *hidden* breaks, whose crossings say when such a rule must be
looked at, and whose levels answer it (``levels``). Any other boolean rule is a gauge with two
levels. So membership, counting, the change feed and back-fill have one representation: (gauge,
slot, level).

Levels: 0 = the profile does not exist yet (no memberships), 1 = the measure is null (a comparison
with null is false) or the rule is false, 2… = the rungs, or true.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from profile_actors.columnar.state_columns import reserve
from profile_actors.columnar.vectors import Array, Vector, compact
from profile_actors.engine.log.change_blocks import Layout
from profile_actors.engine.membership.timers import Timer
from profile_actors.rules.planning.thresholds import Measure, Threshold
from profile_actors.rules.tree.walks import inputs_of

ABSENT, NULL, FIRST = 0, 1, 2
OUT, IN = NULL, FIRST
"""The levels of a profile that exists, in a gauge of one boolean rule."""


FEW_BREAKS = 24
"""Up to here one comparison per break beats a binary search: 0.2 ns each against 7 ns in all."""


FEW_VALUES = 256
"""Of so few values a search is cheaper in any case: a pass of its own costs as much as 1 µs."""


FEW_CHANGES = 2_048
"""Up to so many changes, one pass over segments times changes beats some passes per segment."""


class Reading:
    """Which levels mean true. truth: bool[levels]. edge: the level from which on they all do, or 0.

    Nearly always they are one range, and two passes over bytes find them: 0.1 ns a level.
    """

    __slots__ = ("_high", "_low", "_size", "rise", "truth")

    def __init__(self, truth: Array) -> None:
        self.truth = truth
        self._size = len(truth)
        turns = np.diff(truth, prepend=False, append=False).nonzero()[0].tolist()
        self._low, self._high = turns if len(turns) == 2 else (-1, len(turns))
        self.rise = self._low if self._high == self._size else 0

    def of(self, levels: Array) -> Array:
        """Whether each level is one of them. bool, of the shape of the levels"""
        if self._low < 0:
            if self._high == 0:
                return np.zeros(levels.shape, np.bool_)
            return np.asarray(self.truth.take(levels))
        kind = levels.dtype.type
        if self._high == self._size:
            return np.asarray(levels >= kind(self._low))
        # Below the range the difference of unsigned numbers is large.
        return np.asarray(levels - kind(self._low) < kind(self._high - self._low))


def flags(truths: Array) -> Array:
    """Levels of a boolean rule: OUT or IN. truths: bool[n]. uint8[n]"""
    return truths.view(np.uint8) + np.uint8(OUT)


def turned(levels: Array) -> Array:
    """The other level of each: OUT for IN, IN for OUT. uint8[n]"""
    return np.uint8(OUT + IN) - levels


class Gauge:
    """One level column. Not thread-safe; the partition's lock covers ``store``."""

    def __init__(self, layout: Layout, capacity: int) -> None:
        self.layout = layout
        truth = layout.truth
        self.level = reserve(capacity, np.uint8 if len(truth) <= 256 else np.uint16)
        self._truths = np.ascontiguousarray(truth.T)
        self._readings = [Reading(truth[:, column]) for column in range(truth.shape[1])]

    def flips(self, old: Array, new: Array) -> Sequence[tuple[Array | int, Array]]:
        """(columns of segments, indexes of the changes that flip them), of unequal levels: of each
        index its column, ascending, or one of all.

        Cost: a few passes over bytes per segment; of few changes, a few passes in all.
        """
        if not self._readings:
            return ()
        if len(old) <= FEW_CHANGES:
            truths = self._truths
            return ((truths.take(old, 1) != truths.take(new, 1)).nonzero(),)
        found = []
        low, kind = np.minimum(old, new), self.level.dtype.type
        span = np.maximum(old, new) - low
        for column, reading in enumerate(self._readings):
            if reading.rise > 0:
                # low < edge <= high: below low the difference of unsigned numbers is large.
                rows = (kind(reading.rise - 1) - low < span).nonzero()[0]
            else:
                rows = (reading.of(old) != reading.of(new)).nonzero()[0]
            if len(rows):
                found.append((column, rows))
        return found

    def store(self, slots: Array, levels: Array) -> None:
        """Set levels; of equal slots the last counts."""
        self.level[slots] = levels


@dataclass(frozen=True, slots=True)
class Rung:
    """A segment that is one comparison."""

    segment: str
    threshold: Threshold


class Ladder(Gauge):
    """Comparisons of one measure. hidden: cuts of larger rules. readers: the keys of all rules that
    read it, which are segments. timer: of an age, when each slot reaches its next break.
    aggregates, attributes (their paths): what the measure reads."""

    def __init__(
        self,
        measure: Measure,
        rungs: Sequence[Rung],
        capacity: int,
        hidden: Iterable[Threshold] = (),
        readers: Iterable[str] = (),
    ) -> None:
        self.measure = measure
        self.aggregates, self.attributes = inputs_of(measure.node)
        hidden = list(hidden)
        self.is_read = bool(hidden)
        segments = dict.fromkeys([*readers, *(rung.segment for rung in rungs)])
        self.readers = tuple(("segment", name) for name in segments)
        thresholds = [rung.threshold for rung in rungs]
        self.points = sorted({b for threshold in (*thresholds, *hidden) for b in threshold.breaks})
        kind = measure.kind
        self.breaks = np.zeros(0, np.int64)
        if kind != "string":
            self.breaks = np.array(self.points, np.float64 if kind == "double" else np.int64)
        self.timer = Timer(capacity) if measure.is_age else None
        columns = [self.truth_of(threshold) for threshold in thresholds]
        size = FIRST + len(self.points) + 1
        truth = np.array(columns, np.bool_).reshape(len(columns), size).T
        super().__init__(Layout(tuple(r.segment for r in rungs), truth), capacity)

    def truth_of(self, threshold: Threshold) -> Array:
        """What a cut of this measure says at each level. bool[levels]"""
        truth = np.zeros(FIRST + len(self.points) + 1, np.bool_)
        truth[NULL] = threshold.null
        turns = [FIRST + 1 + bisect_left(self.points, b) for b in threshold.breaks]
        for low, value in zip([FIRST, *turns], threshold.truth, strict=True):
            truth[low:] = value
        return truth

    def is_like(self, other: Gauge) -> bool:
        """Whether both read any value as the same level, for the same segments."""
        return (
            isinstance(other, Ladder)
            and self.layout.segments == other.layout.segments
            and self.measure == other.measure
            and self.points == other.points
            and np.array_equal(self.layout.truth, other.layout.truth)
        )

    def levels(self, values: Vector) -> Array:
        """Levels of values; of ages in ms, for an age. uint8[n] (or uint16)"""
        if values.dictionary is not None:
            rank = self._ranks(values)
        elif len(self.breaks) <= FEW_BREAKS and len(values.values) > FEW_VALUES:
            rank = np.full(len(values.values), FIRST, self.level.dtype)
            for rung in self.breaks.tolist():
                rank += values.values >= rung
        else:
            found = self.breaks.searchsorted(values.values, side="right") + FIRST
            rank = found.astype(self.level.dtype)
        if values.valid is not None:
            rank[~values.valid] = NULL
        return rank

    def _ranks(self, texts: Vector) -> Array:
        texts = compact(texts)
        table = [FIRST + bisect_right(self.points, text) for text in texts.dictionary or ()]
        return np.array(table, self.level.dtype).take(texts.values)


class Flag(Gauge):
    """One boolean rule of any shape: false or true."""

    def __init__(self, segment: str, capacity: int) -> None:
        truth = np.array([[False], [False], [True]])
        super().__init__(Layout((segment,), truth), capacity)
