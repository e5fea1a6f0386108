"""A partition after a restart: the newest checkpoint, and the log's tail replayed over it.

Theory: the log is the ground; state and feed are folds of it. A checkpoint is a state that need
not be folded again, good only as far as the feed has the blocks that it covers. Replay runs the
same fold, publication and slices as the writer did, over entries that are durable already.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from functools import partial

import numpy as np

from profile_actors.config import Config
from profile_actors.definitions import catalogue_changes
from profile_actors.engine.exchange.letters import letters_of, note_untold
from profile_actors.engine.fold.state import State, add_entities, record_parts
from profile_actors.engine.identity.mailbox import Post
from profile_actors.engine.log.entry import Entry, NewIdentities, decode
from profile_actors.engine.log.ports import Checkpoints, Feed, Log
from profile_actors.engine.merge.documents import read_records
from profile_actors.engine.partition import checkpoint_image
from profile_actors.engine.partition.entry_writer import EntryWriter
from profile_actors.engine.partition.partition_clock import PartitionClock
from profile_actors.engine.refold.backfill import Backfill
from profile_actors.errors import CorruptLog
from profile_actors.ingest.hidden_columns import K0, K1, NAMESPACE, VALUE


def newest_checkpoint(
    checkpoints: Checkpoints, feed: Feed, config: Config, head: int, post: Post
) -> checkpoint_image.Loaded | None:
    """The newest checkpoint that log and feed bear out; None when all is to be folded again.

    A damaged feed is dropped: it is derived. Raises CorruptLog for a log that has lost entries.
    """
    loaded = checkpoint_image.load(checkpoints, config, head, post)
    try:
        fed = feed.end()
    except CorruptLog:
        feed.reset()
        fed = 0
    if fed > head:
        raise CorruptLog(
            f"expected a log of at least {fed} entries, which the change feed covers, got"
            f" {head}: the log has lost its newest entries; restore it from a replica or backup"
            " (to go on without them, delete the partition's checkpoints/ and feed/)"
        )
    return loaded if loaded is not None and loaded.fed <= fed else None


class Replay:
    """The entries of a log, folded into a state that stands before them.

    finish: does all slices and rescans that are owed; asked for before rules change.
    """

    def __init__(
        self,
        log: Log,
        state: State,
        writer: EntryWriter,
        clock: PartitionClock,
        finish: Callable[[], None],
    ) -> None:
        self._log = log
        self._state = state
        self._writer = writer
        self._clock = clock
        self._finish = finish

    def up_to(self, head: int) -> None:
        """Fold the entries from the state's position up to ``head``."""
        if not len(self._state.live_rows):
            self._find_living()
        if not len(self._state.entities.living):
            self._find_living_entities()
        for position in range(self._state.position, head):
            with self._log.view(position) as view:
                self._entry(decode(view, f"position {position}"))

    def _entry(self, entry: Entry) -> None:
        envelope = entry.envelope
        if envelope.definition:
            catalogue = catalogue_changes.decode(envelope.definition)
            self._finish()
            self._writer.apply(Backfill(self._state, self._log, catalogue), envelope.now)
        elif envelope.slots is not None:
            self._clock.apply_slice(*envelope.slots, envelope.now)
        else:
            state, first = self._state, self._state.directory.slots
            if entry.identities is not None:
                self._restore(entry.identities)
            letters = letters_of(state, entry.mail, entry.blocks, f"position {state.position}")
            if state.homes.owner_of is not None:
                note_untold(state, letters, entry.blocks)
            state.homes.take(letters.told, state.position, first)
            state.homes.begin(first, state.directory.count - first)
            self._writer.fold_again(
                entry.blocks, envelope.batches, envelope.now, first, envelope.hearing, letters
            )

    def _find_living(self) -> None:
        """Which record rows live, of a checkpoint from before that was kept: each is read once."""
        state = self._state
        runs = [run.position for run in state.record_locator.runs]
        for position in np.unique(np.concatenate(runs)).tolist() if runs else ():
            with self._log.view(position) as view:
                blocks = decode(view, f"position {position}").blocks
                parts = record_parts(state, blocks, position)
                delta = state.live_rows.step(
                    parts, position, state.directory.slot_of, partial(read_records, self._log)
                )
                state.live_rows.publish(delta)

    def _find_living_entities(self) -> None:
        """The same of rows of lookup datasets."""
        state, read = self._state, partial(read_records, self._log)
        runs = [run.position for run in state.entities.locator.runs]
        for position in np.unique(np.concatenate(runs)).tolist() if runs else ():
            with self._log.view(position) as view:
                first, things = 0, []
                for block in decode(view, f"position {position}").blocks:
                    if state.behavior(block.dataset) == "lookup":
                        things.append((first, block))
                    first += block.rows
                add_entities(state, position, things, nullcontext(), read, is_known=True)
                state.entities.publish()

    def _restore(self, identities: NewIdentities) -> None:
        table = identities.table
        self._state.directory.restore_identities(
            table.column(K0).to_numpy(),
            table.column(K1).to_numpy(),
            table.column(NAMESPACE),
            table.column(VALUE).combine_chunks(),
        )
