"""What an entry changes, into the change feed: one block per entry, in log order.

Theory: the feed is derived, so it is written after the log and may lack its newest blocks, or hold
them from before a restart. Writing a block again is no harm: it says the same.

What is older than retention goes by whole pieces of the feed, of an eighth of that time each: a
quiet store's newest piece is ended by time too, and is let go in the end.
"""

from __future__ import annotations

from profile_actors.columnar.state_columns import UNSET as NEVER
from profile_actors.engine.fold.state import State
from profile_actors.engine.log import change_blocks
from profile_actors.engine.log.ports import Feed
from profile_actors.engine.refold.rescans import Task
from profile_actors.errors import CorruptLog, FeedDamaged

PIECES = 8
"""Of the time that the feed is kept, so many pieces."""


DAY_MS = 86_400_000


WALL_DAYS = 30
"""How long a feed is kept where the time that passes is the world's, unless told otherwise."""


class FeedWriter:
    """Writes the blocks of one feed. For the writer's thread. end: the position of the next one.
    days: for how long they are kept, None: as is usual on either clock."""

    def __init__(self, feed: Feed, end: int, days: int | None = None) -> None:
        self._feed = feed
        self.end = end
        self._days = days
        self._look_at = NEVER

    def emit(self, position: int, block: change_blocks.Packed) -> None:
        """Write the block of an entry. Raises FeedDamaged where the feed cannot take it."""
        # A replay comes by what retention has dropped; it stays dropped.
        if position >= self._feed.first_kept():
            try:
                self._feed.append(position, change_blocks.encode(block))
            except CorruptLog as error:
                raise self._feed.condemn(str(error)) from error
        self.end = max(self.end, position + 1)
        if self._days is not None:
            self._keep(block.now, self._days * DAY_MS)

    def tick(self, now: int) -> None:
        """The wall clock has come to ``now`` ms; there may be no entry for long."""
        self._keep(now, (WALL_DAYS if self._days is None else self._days) * DAY_MS)

    def _keep(self, now: int, kept_ms: int) -> None:
        """Let go of what is older than retention. Cost: a comparison; four times in the time of a
        piece, a look at the edges of all of them."""
        if now < self._look_at:
            return
        self._look_at = now + kept_ms // (4 * PIECES)
        feed = self._feed
        try:
            newest = feed.read(feed.firsts()[-1] - 1, 0)
            if newest and now - change_blocks.now_of(newest[0][1]) >= kept_ms // PIECES:
                feed.turn(self.end)
            for following in feed.firsts()[1:]:
                # An entry without changes has no block: the next one that has is no older.
                last = feed.get(following - 1)
                found = feed.read(following - 1, 0) if last is None else [(0, last)]
                if not found or change_blocks.now_of(found[0][1]) >= now - kept_ms:
                    break
                feed.drop(following)
        except FeedDamaged:
            return  # whoever reads the block has it made anew

    def join(self, task: Task, groups: list[change_blocks.Group], state: State) -> None:
        """Put a completed task's changes into the block of its entry."""
        try:
            block = self._feed.get(task.position)
        except FeedDamaged:
            return  # whoever reads the block has it made anew, these changes included
        packed = (
            change_blocks.Packed(task.now, state.layouts_at, [])
            if block is None
            else change_blocks.decode(block)
        )
        # After a restart the block may hold them from before: the same groups, then, once.
        packed.groups[:] = [group for group in packed.groups if group not in groups] + groups
        self.emit(task.position, packed)
