"""Has the damaged change feed of a partition made anew while readers wait, and says so."""

from __future__ import annotations

from collections.abc import Callable
from threading import Lock, Thread
from typing import TypeVar

from profile_actors.engine.partition.feed_mending import mend
from profile_actors.engine.partition.partition import Partition
from profile_actors.errors import FeedDamaged, Pending, ProfileActorsError

T = TypeVar("T")


class Mender:
    """Of one partition. account: what was wrong with the feed and what became of it, or empty."""

    def __init__(
        self, partition: Partition, wait_ms: int, pace: Callable[[], Callable[[], bool]]
    ) -> None:
        """wait_ms: how long a read waits. pace: makes the ``go_on`` of ``mend``."""
        self._partition = partition
        self._wait_s = wait_ms / 1000
        self._pace = pace
        self._starting = Lock()
        self._thread: Thread | None = None
        self._failed: ProfileActorsError | None = None
        self.account = ""

    def mended(self, read: Callable[[], T]) -> T:
        """What ``read`` gives, after mending if it meets damage. Raises Pending while that takes
        longer than a reader waits, FeedDamaged if it cannot be done now.
        """
        try:
            return read()
        except FeedDamaged as error:
            if self._failed is not None:
                raise self._failed from error
            self._mend(error)
        return read()

    def read(self, after: int, limit_bytes: int) -> list[tuple[int, bytes]]:
        """The feed's blocks, mended if need be; see ``LmdbFeed.read``. Raises as ``mended``."""
        return self.mended(lambda: self._partition.feed.read(after, limit_bytes))

    def _mend(self, error: FeedDamaged) -> None:
        with self._starting:
            thread = self._thread
            if thread is None or not thread.is_alive():
                self.account = str(error)
                thread = Thread(target=self._run, name="mending", daemon=True)
                self._thread = thread
                thread.start()
        thread.join(self._wait_s)
        if thread.is_alive():
            raise Pending(f"{error}; ask again in a while") from error
        if self._failed is not None:
            raise self._failed from error

    def _run(self) -> None:
        try:
            count = mend(self._partition, self._pace())
            if count:
                self.account = f"{count} damaged blocks of the change feed were made anew"
        except ProfileActorsError as error:
            self._failed = error
            self.account = str(error)
