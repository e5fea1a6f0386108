"""What an entry changes, into the change feed: one block per entry, in log order.

Theory: the feed is derived, so it is written after the log and may lack its newest blocks, or hold
them from before a restart. Writing a block again is no harm: it says the same.
"""

from __future__ import annotations

from profile_actors.engine.fold.state import State
from profile_actors.engine.log import change_blocks
from profile_actors.engine.log.ports import Feed
from profile_actors.engine.refold.rescans import Task
from profile_actors.errors import CorruptLog, FeedDamaged


class FeedWriter:
    """Writes the blocks of one feed. For the writer's thread. end: the position of the next one."""

    def __init__(self, feed: Feed, end: int) -> None:
        self._feed = feed
        self.end = end

    def emit(self, position: int, block: change_blocks.Packed) -> None:
        """Write the block of an entry. Raises FeedDamaged where the feed cannot take it."""
        # A replay comes by what retention has dropped; it stays dropped.
        if position >= self._feed.first_kept():
            try:
                self._feed.append(position, change_blocks.encode(block))
            except CorruptLog as error:
                raise self._feed.condemn(str(error)) from error
        self.end = max(self.end, position + 1)

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
