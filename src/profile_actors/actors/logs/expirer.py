"""Rows leave by their dataset's retention once a day: a partition on the wall clock asks for it.

Theory: cutoffs are definitions, which the coordinator gives, so all partitions have the same ones;
whichever of them sees a new day first has them made, and each takes them as it takes any others,
folded beside its writer. Who asks is the partition, since its clock does not jump ahead unseen. On
the event clock nobody asks but a program (``store.expire``): when rows leave is part of a replay.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from threading import Thread

from profile_actors.actors.calls import Remote
from profile_actors.columnar.time_units import DAY_MS
from profile_actors.definitions.declared import Catalogue
from profile_actors.definitions.retention import expired, has_retention
from profile_actors.engine.partition.partition import Partition
from profile_actors.errors import ProfileActorsError


class Expirer:
    """Of one partition. take: has it take definitions, and waits until it has."""

    def __init__(
        self,
        coordinator: Remote,
        partition: Partition,
        take: Callable[[Catalogue], int],
        *,
        is_wall: bool,
    ) -> None:
        self._coordinator = coordinator
        self._partition = partition
        self._take = take
        self._is_wall = is_wall
        self._done = (-1, -1)
        self._thread: Thread | None = None

    def look(self) -> None:
        """Begin to let rows leave, if there is a new day or a new definition. Cost: a comparison,
        mostly."""
        partition = self._partition
        if not self._is_wall or partition.now is None:
            return
        seen = partition.now // DAY_MS, partition.catalogue.version
        is_at_it = self._thread is not None and self._thread.is_alive()
        if seen == self._done or is_at_it:
            return
        if not has_retention(partition.catalogue):
            self._done = seen
            return
        self._thread = Thread(target=self._expire, args=(seen,), name="expire", daemon=True)
        self._thread.start()

    def _expire(self, seen: tuple[int, int]) -> None:
        with suppress(ProfileActorsError):  # the next look tries again
            catalogue = self._coordinator.call("expire", self._partition.now)
            self._take(catalogue)
            # Where the coordinator's clock is behind, it may be yesterday still: ask again.
            if expired(catalogue, seen[0] * DAY_MS) is catalogue:
                self._done = seen[0], catalogue.version
