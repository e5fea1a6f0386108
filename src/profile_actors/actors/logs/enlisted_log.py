"""A sequencer's log, opened under a new epoch that the coordinator gave, and told of again.

Theory: an epoch is given before it is recorded in the log, and the coordinator is told that there
is a log before anything is appended (``storage/log_id.py``). So a log that is missing, or older
than it was, is noticed at the next opening. While a person is erased an opening begins with that.
"""

from __future__ import annotations

from pathlib import Path

from profile_actors.actors.calls import Remote
from profile_actors.actors.coordinator import Enlistment
from profile_actors.actors.hooks import Hook
from profile_actors.actors.logs.standing_still import erase_here
from profile_actors.config import Config
from profile_actors.errors import FencedOut
from profile_actors.storage.lmdb_log import LmdbLog


class EnlistedLog:
    """See the module. index: of the partition, or ``log_id.LEDGER``. path: its directory.

    Raises FencedOut, LostLog, CorruptLog, StorageFull, StoreUnavailable.
    """

    def __init__(
        self, coordinator: Remote, index: int, path: str, config: Config, hook: Hook
    ) -> None:
        self._coordinator = coordinator
        self._index = index
        self._path = path
        self.log, self.known = self._open(config, hook)

    def _open(self, config: Config, hook: Hook) -> tuple[LmdbLog, Enlistment]:
        """Open the log under a new epoch. One from a catalogue that is older than the log, which a
        backup may be, is too low: then under the next one above the log's.
        """
        above = 0
        while True:
            known: Enlistment = self._coordinator.call("enlist", self._index, above)
            if known.erasing is not None:
                erase_here(self._coordinator, self._index, known.erasing, self._path, config, hook)
            try:
                log = LmdbLog(
                    Path(self._path),
                    config,
                    epoch=known.epoch,
                    claim=known.claim,
                    crash_point=hook,
                )
            except FencedOut as error:
                if above or error.epoch <= known.epoch:
                    raise
                above = error.epoch
            else:
                return log, known

    def tell(self, timeout_s: float | None = None) -> int:
        """Tell the coordinator how long the log is; returns that."""
        log = self.log
        head = log.head()
        told = (self._index, log.id, head, self._path, log.epoch)
        self._coordinator.call("tell", *told, timeout_s=timeout_s)
        log.told(head)
        return head
