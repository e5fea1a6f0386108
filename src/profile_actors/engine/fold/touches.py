"""Which profiles changed since when: one number per profile, the *revision* of its last touch.

Theory: whoever keeps a copy of profiles elsewhere asks for those touched since the revision that
the copy is of. There is no journal to keep or to drop: a profile that is touched a hundred times is
asked for once, and everybody is "touched since before the beginning". Touched are the profiles of
an entry's rows, those of its changes, each one that a rescan writes, and all of them when rules
change or fail. What a profile says at an instant, until when included, moves through these alone:
time by itself only brings it past a ``valid_until`` that it said.

A revision is ``position << SHIFT | n``: the entries that were folded, and what was published since
the last of them. A replay comes to the same positions, not to the same n, so a revision from before
a restart counts as its position's first (``floor``): some profiles are sent again, none is missed.

Law: a profile whose answer differs from that of revision r has a touch later than r.
"""

from __future__ import annotations

import threading
from collections.abc import Hashable, Set

import numpy as np

from profile_actors.columnar.state_columns import reserve
from profile_actors.columnar.vectors import Array

SHIFT = 24
"""Bits of n. More publications than it counts, between two entries, share its last value, which
nobody is told as the revision that was reached (``reached``)."""


MAX_N = (1 << SHIFT) - 1


NEVER = -1
"""Before the first revision: everybody was touched since."""


def floor(revision: int) -> int:
    """What a revision of another process counts as here."""
    return NEVER if revision < 0 else revision >> SHIFT << SHIFT


def position_of(revision: int) -> int:
    """How many entries had been folded at a revision."""
    return revision >> SHIFT


class Touches:
    """The revisions of one partition. Its writer touches under the partition's lock, before others
    read what was published; ``wait`` is for any thread.

    column: int64 per slot. revision: of the newest touch.
    """

    def __init__(self, capacity: int) -> None:
        self.column = reserve(capacity, np.int64)
        self.revision = 0
        self._failing: frozenset[Hashable] = frozenset()
        self._moved = threading.Condition()
        self._waiting = 0

    @property
    def reached(self) -> int:
        """The revision to go on from for who has read everything by now."""
        return min(self.revision, self.revision >> SHIFT << SHIFT | MAX_N - 1)

    def begin(self, position: int, profiles: int) -> None:
        """Go on with a column of so many profiles, from a checkpoint of so many entries."""
        newest = int(self.column[:profiles].max(initial=0))
        self.revision = max(position << SHIFT, newest)

    def touch(self, position: int, *slots: Array) -> None:
        """These slots change in a publication after which so many entries are folded."""
        revision = self._next(position)
        for some in slots:
            self.column[some] = revision

    def touch_all(self, position: int, profiles: int) -> None:
        """All of so many profiles do. Cost: one pass."""
        self.column[:profiles] = self._next(position)

    def know_failures(self, failing: Set[Hashable]) -> None:
        """These rules have no answer, and everybody has been touched since."""
        self._failing = frozenset(failing)

    def note_failures(self, failing: Set[Hashable], position: int, profiles: int) -> None:
        """These rules have no answer by now: everybody's answer differs if one of them had."""
        if failing == self._failing:
            return
        if failing - self._failing:
            self.touch_all(position, profiles)
        self.know_failures(failing)

    def _next(self, position: int) -> int:
        first = position << SHIFT
        revision = self.revision + 1 if self.revision >= first else first
        # Of an n that is used up the last one stays, until the next entry.
        if revision & MAX_N == 0 and revision > first:
            revision -= 1
        self.revision = revision
        if self._waiting:
            with self._moved:
                self._moved.notify_all()
        return revision

    def wait(self, revision: int, seconds: float) -> bool:
        """Wait until there is a revision newer than this; whether there is."""
        with self._moved:
            self._waiting += 1
            try:
                return self._moved.wait_for(lambda: self.revision > revision, seconds)
            finally:
                self._waiting -= 1
