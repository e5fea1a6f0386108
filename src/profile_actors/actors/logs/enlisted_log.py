"""A sequencer's log, opened under a new epoch that the coordinator gave, and told of again.

Theory: an epoch is given before it is recorded in the log, and the coordinator is told that there
is a log before anything is appended (``storage/log_id.py``). So a log that is missing, or older
than it was, is noticed at the next opening. While a person is erased an opening begins with that.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import ray

from profile_actors.actors.actor_status import Standing
from profile_actors.actors.calls import Remote
from profile_actors.actors.coordinator import Enlistment
from profile_actors.actors.hooks import Hook
from profile_actors.actors.logs.compactor import Compactor
from profile_actors.actors.logs.scrubber import Scrubber
from profile_actors.actors.logs.standing_still import erase_here
from profile_actors.actors.replicas.disk_labels import directory_here, own_label
from profile_actors.actors.replicas.shipped_log import ShippedLog
from profile_actors.actors.replicas.standby_line import StandbyLine, primary_name
from profile_actors.config import Config
from profile_actors.engine.shipping.replication import Copies, Request
from profile_actors.errors import FencedOut, LostLog, ProfileActorsError, StoreUnavailable
from profile_actors.storage.files.layout import PartitionLayout, whose
from profile_actors.storage.replicas.copied_checkpoints import SavedFile, read_part, saved_in
from profile_actors.storage.replicas.roles import as_partition
from profile_actors.storage.scrub.mendable_log import MendableLog
from profile_actors.storage.scrub.scrubbing import Blocks

REPLICA = frozenset({"follow", "let_go", "standing", "saved", "saved_part", "entry"})
"""What a driver may ask of a log and its standby."""


LOOK_S = 0.1
"""How often is looked whether the other copy is in force."""


PROMOTION_S = 5.0
"""A promotion is waited for so much longer than it takes to begin."""


def _end() -> None:
    """End this process; whoever waits for it waits for the next one, which finds the log."""
    os.kill(os.getpid(), signal.SIGKILL)


def _promoted(index: int) -> StoreUnavailable:
    return StoreUnavailable(
        f"expected the log of {whose(index)} to open, got its standby being promoted - at the"
        " coordinator; it goes on by itself"
    )


def _failing_over(index: int, error: ProfileActorsError) -> StoreUnavailable:
    return StoreUnavailable(
        f"expected the log of {whose(index)} to open, got {error}; its standby has all that was"
        " acknowledged and is put in force by itself: try again"
    )


class EnlistedLog:
    """See the module. index: of the partition, or ``layout.LEDGER``. path: its directory, unless
    the coordinator knows that another disk's copy is in force; ``path`` is where it is then.

    Raises FencedOut, LostLog, CorruptLog, StorageFull, StoreUnavailable.
    """

    def __init__(
        self, coordinator: Remote, index: int, path: str, config: Config, hook: Hook
    ) -> None:
        self._coordinator = coordinator
        self._index = index
        self.path = path
        self._config = config
        self._alone_s = time.monotonic()
        log, self.known = self._open(config, hook)
        self.log = ShippedLog(log, config, _end, self._is_there)
        self._local = log
        if self.known.copies is not None:
            self.follow(self.known.copies)

    @property
    def since(self) -> int:
        """The epoch under which this copy of the log came in force; 0 for the first one."""
        return 0 if self.known.copies is None else self.known.copies.since

    def follow(self, copies: Copies) -> None:
        """Keep the standby that the coordinator's record names, or none."""
        index, coordinator = self._index, self._coordinator

        def note(request: Request) -> tuple[bool, Copies]:
            found: tuple[bool, Copies] = coordinator.call("copies", "note", index, request)
            return found

        self.log.follow(copies, self._line().send, note)

    def _line(self) -> StandbyLine:
        namespace = self._coordinator.session.namespace
        return StandbyLine(namespace, self._index, self._config.standby_timeout_ms / 1000)

    def let_go(self) -> None:
        """Go on without the standby, from when the catalogue has noted that."""
        self.log.let_go()

    def standing(self) -> Standing | None:
        """How the standby stands; None without one."""
        return self.log.standing()

    def tend(
        self,
        blocks: Blocks | None = None,
        queued: Callable[[], int] = lambda: 0,
        swapped: Callable[[], None] = lambda: None,
        below: Callable[[], int] | None = None,
    ) -> None:
        """The log is open once all of it may be acknowledged, which this waits for; read the disk
        through, and compact the log, in the background from then on. blocks: of the change feed.
        The others: see ``Compactor``."""
        self.log.settle()
        directory, config = Path(self.path), self._config
        self.scrubber = Scrubber(self._local, directory, config, self._fetch, blocks)
        self.scrubber.start()
        self.compactor = Compactor(self._local, directory, config, queued, swapped, below)
        self.compactor.start()

    def _fetch(self, position: int) -> bytes:
        """An entry as the standby has it. Raises StoreUnavailable unless it is known to have it."""
        standing = self.log.standing()
        if standing is None or standing.state == "fenced" or position >= standing.there:
            got = "none" if standing is None else f"one that is {standing.state}"
            raise StoreUnavailable(
                f"expected a standby that has log entry {position}, got {got}; restore a backup, or"
                " load what is damaged anew"
            )
        return self._line().entry(position)

    def entry(self, position: int) -> bytes:
        """A log entry, for a standby of which it is damaged. Raises CorruptLog."""
        return self._local.whole(position)

    def saved(self) -> list[SavedFile]:
        """The files of the newest checkpoint, for a standby."""
        return saved_in(Path(self.path))

    def saved_part(self, path: str, offset: int) -> bytes:
        """A part of one of them. Raises LostLog once it was replaced."""
        return read_part(Path(self.path), path, offset)

    def end_if_lost(self) -> None:
        """Begin the process anew if another copy is in force, or this one's files are gone: it
        finds that then. What is written to files that have no name is gone with the process."""
        if self.log.is_fenced or not self._is_there():
            _end()
        self._replace_standby()

    def _replace_standby(self) -> None:
        """Where disks are on nodes, who goes on without a standby asks for another one, once its
        disk was away for long: of the standby nobody is left to do so."""
        after_ms, standing = self._config.replace_standby_after_ms, self.log.standing()
        is_alone = self.known.home and standing is not None and standing.state == "silent"
        if not is_alone or after_ms is None:
            self._alone_s = time.monotonic()
        elif standing is not None and time.monotonic() - self._alone_s > after_ms / 1000:
            self._alone_s = time.monotonic()
            with suppress(ProfileActorsError):  # none is there, or it is called in sync still
                self._coordinator.call("copies", "replace", self._index, standing.disk)

    def _is_there(self) -> bool:
        return PartitionLayout(Path(self.path)).log_id.is_file()

    def _open(self, config: Config, hook: Hook) -> tuple[MendableLog, Enlistment]:
        """Open the log under a new epoch. One from a catalogue that is older than the log, which a
        backup may be, is too low: then under the next one above the log's.

        Where its standby is being promoted, or will be since the files are gone, that is waited
        for, and whoever calls this process with it: then the log is on the other disk.
        """
        above = 0
        silence_s = config.failover_after_ms / 1000
        ask = time.monotonic() + silence_s
        end = ask + config.lease_ms / 1000 + PROMOTION_S
        while True:
            known: Enlistment = self._coordinator.call("enlist", self._index, above)
            copies = known.copies
            try:
                if copies is not None and copies.promised:
                    raise _promoted(self._index)
                if known.home and copies is not None and own_label() != copies.primary:
                    self._have_it_placed()  # ends this process, and begins it there
                    time.sleep(LOOK_S)
                    continue
                if known.data and copies is not None:
                    data = directory_here(known.data, copies.primary)
                    self.path = str(as_partition(Path(data), self._index))
                if known.erasing is not None:
                    coordinator, index = self._coordinator, self._index
                    erase_here(coordinator, index, known.erasing, self.path, config, hook)
                    continue  # what is known of its standby is another thing now
                place, epoch = Path(self.path), known.epoch
                return MendableLog(
                    place, config, epoch=epoch, claim=known.claim, crash_point=hook
                ), known
            except FencedOut as error:
                if above or error.epoch <= known.epoch:
                    raise
                above = error.epoch
            except (LostLog, StoreUnavailable) as error:
                if copies is None or not (copies.in_sync or copies.promised):
                    raise
                if time.monotonic() > end:
                    raise _failing_over(self._index, error) from None
                if isinstance(error, LostLog) and time.monotonic() > ask:
                    # Its process may be new, and would give this one more time to be heard of.
                    self._line().ask_promotion()
                    ask = time.monotonic() + silence_s
                time.sleep(LOOK_S)

    def _have_it_placed(self) -> None:
        """The copy in force is on another node's disk."""
        name, me = primary_name(self._index), ray.get_runtime_context().get_actor_id()
        self._coordinator.call("copies", "place", self._index, name, me)

    def tell(self, timeout_s: float | None = None) -> int:
        """Tell the coordinator how long the log is; returns that."""
        log = self.log
        head = log.head()
        told = (self._index, log.id, head, self.path, log.epoch)
        self._coordinator.call("tell", *told, timeout_s=timeout_s)
        log.told(head)
        return head
