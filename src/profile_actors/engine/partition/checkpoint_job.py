"""A checkpoint in the making: the state is copied in slices beside its writer, then written.

Theory: a checkpoint is of the state between two entries. What changes in place is copied by a
helper thread while the writer goes on; the writer says what it is about to change, and rows that
were not copied yet are copied then (``Image``, decision 0042). Large locator runs are written once;
from then on the state, too, has them mapped from there and their memory is given back.
"""

from __future__ import annotations

import msgspec

from profile_actors.columnar.state_columns import Image
from profile_actors.columnar.vectors import Array
from profile_actors.config import Config
from profile_actors.engine.fold.state import State
from profile_actors.engine.log.ports import Checkpoints, Feed
from profile_actors.engine.log.row_locator import Locator, Run
from profile_actors.engine.partition.checkpoint_image import (
    Meta,
    broken_parts,
    plan_name,
    savings,
)
from profile_actors.engine.refold.owed import Owed
from profile_actors.ingest.offsets import packed

SEALED_ROWS = 1 << 18


class Job:
    """Saves a state as it is when this is made, by its writer between two entries; for a helper
    thread, while the writer goes on. fed: one past the newest block of the
    feed.

    Memory: a copy of the columns that change in place; the rest is held, and copied array by array
    while it is written.
    """

    def __init__(self, state: State, checkpoints: Checkpoints, feed: Feed, fed: int) -> None:
        finish(state)
        self._state, self._checkpoints, self._feed = state, checkpoints, feed
        self._position = state.position
        parts = list(savings(state))
        names = self._name_runs()
        self._meta = msgspec.msgpack.encode(_meta_of(state, names, fed))
        # The checkpoint before this one stays, and so do the runs that it names.
        self._kept, state.sealed = state.sealed.union(names), frozenset(names)
        self._image = state.image = Image(parts, state.directory.slots)

    def _name_runs(self) -> list[str]:
        """The runs' names; large ones that have none yet are to be files of their own, small ones
        are written with the rest."""
        state = self._state
        self._unsaved: list[tuple[Locator, Run, str]] = []
        self._inline: dict[str, Array] = {}
        names: list[str] = []
        for kind, locator in (
            ("event", state.locator),
            ("record", state.record_locator),
            ("entity", state.entities.locator),
        ):
            for run in locator.runs:
                name = run.name
                if not name and len(run) >= SEALED_ROWS:
                    name = f"{kind}-{run.position.min()}-{run.position.max()}-{len(run)}"
                    self._unsaved.append((locator, run, name))
                elif not name:
                    for part in ("keys", "position", "row"):
                        self._inline[f"locator/{len(names)}/{part}"] = getattr(run, part)
                names.append(name)
        return names

    def step(self) -> bool:
        """Copy a slice; whether there was one left."""
        return self._image.step()

    def __call__(self) -> None:
        """Copy what is left, and write. Raises StorageFull, CorruptLog."""
        checkpoints = self._checkpoints
        try:
            while self.step():
                pass
        finally:
            if self._state.image is self._image:
                self._state.image = None
        self._feed.flush()  # a checkpoint is good only as far as the feed is
        for locator, run, name in self._unsaved:
            checkpoints.save_run(name, {"keys": run.keys, "position": run.position, "row": run.row})
            locator.saved(run, Run(**checkpoints.load_run(name), name=name))
        arrays = {**self._image.arrays(), **self._inline}
        checkpoints.save(self._position, self._meta, arrays)
        checkpoints.drop_runs(set(self._kept - {""}))


def is_due(state: State, owed: Owed, config: Config, force: bool) -> bool:
    """Whether there is something to save, and enough of it or ``force``."""
    entries = state.position - owed.checkpointed
    is_much = owed.unsaved_rows >= config.checkpoint_rows or entries >= config.checkpoint_entries
    # In the midst of slices a look at the columns would need to know whose part is done.
    return (is_much or force) and entries > 0 and state.drain is None


def finish(state: State) -> None:
    """Copy at once what an image of the state still lacks. For its writer's thread."""
    image, state.image = state.image, None
    while image is not None and image.step():
        pass


def _meta_of(state: State, names: list[str], fed: int) -> Meta:
    counters = state.counters
    of_events, of_records = len(state.locator.runs), len(state.record_locator.runs)
    return Meta(
        state.now, state.layouts_at, state.catalogue, plan_name(state), dict(state.cursors),
        {producer: list(notes) for producer, notes in state.receipts.items()},
        (
            counters.events, counters.records, counters.late, counters.duplicate,
            counters.changes, counters.changes_by_clock, counters.expired,
        ),
        list(state.directory.namespaces), names, of_events, fed,
        {
            producer: (packed(mine.open.ranges), packed(mine.taken.ranges), mine.fence)
            for producer, mine in state.rejects.items()
        },
        broken_parts(state.book), [(*key, why) for key, why in state.book.pending.items()],
        (state.connections.wall, dict(state.connections.heard)), of_records,
        None if state.homes.owner_of is None else state.homes.to_plain(),
    )  # fmt: skip
