"""The doors through which a program backs up a running store, and has its disks read."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from profile_actors.actors.calls import Remote, call_all
from profile_actors.driver.connection import Connection
from profile_actors.driver.definition_edits import tell
from profile_actors.driver.keeping.standby_processes import begun
from profile_actors.engine.identity.messages import LEDGER
from profile_actors.engine.shipping.replication import Copies
from profile_actors.errors import CallerError
from profile_actors.storage.files.layout import whose

if TYPE_CHECKING:
    from profile_actors.driver.keeping.placement import Placement
    from profile_actors.driver.people.erasing import Erasure
    from profile_actors.driver.shipping.backing_up import Backup
    from profile_actors.driver.shipping.compactions import CompactionReport
    from profile_actors.driver.shipping.scrubs import ScrubReport


class BackupDoors:
    """The part of ``Store`` that copies it elsewhere, and reads all of it."""

    _connection: Connection
    _placement: Placement
    _ledger: Callable[[], Remote | None]

    def _check_open(self) -> None:
        raise NotImplementedError

    def backup(self, uri: str | Path) -> Backup:
        """Copy the running store to a directory or an object store (docs/BACKUP.md).

        uri: a directory, or a URI that ``pyarrow.fs`` knows (s3://, gs://, abfs://). A place has
        the backups of one store; each names all that it needs, and adds only what is new. Rows are
        taken meanwhile. There is a backup when this returns, and none that is half there before.
        ``pf.restore`` makes a store from it. Raises CallerError for the place of another store,
        Pending while a person is erased, CorruptLog for what the disk has damaged (nothing is
        copied over it), StoreUnavailable, StorageFull.
        """
        from profile_actors.actors.logs.log_steps import reached
        from profile_actors.driver.shipping.backing_up import backed_up
        from profile_actors.storage.shipping.depot import Depot, absolute

        self._check_open()
        connection = self._connection
        depot = Depot(absolute(uri))
        own = self._placement.path
        if Path(depot.uri) == own or own in Path(depot.uri).parents:
            raise CallerError(
                f"expected a place apart from the store, got {depot.uri} - at backup of {own}; what"
                " is lost with the store's disk is no backup: name another directory"
            )

        def sequencers() -> Mapping[str, Remote]:
            ledger = self._ledger()
            found = {str(index): one for index, one in enumerate(connection.partitions)}
            return found if ledger is None else found | {LEDGER: ledger}

        with reached(depot.uri):
            return backed_up(connection.coordinator, sequencers, depot, connection.long_timeout_s)

    def scrub(self) -> list[ScrubReport]:
        """Read everything that partitions, their standbys and the ledger of links have on their
        disks, and compare it with its checksums, while the store works (docs/BACKUP.md).

        A damaged log entry is fetched from the other copy of the log, where there is one; a damaged
        block of the change feed is made anew; whatever else is damaged is named, with what to do.
        The store does the same in the background (``Config.scrub_bytes_per_s``), and ``status``
        says how that stands. Cost: each file is read once, paced while rows come in. Raises
        StoreUnavailable for a partition that does not answer.
        """
        from profile_actors.driver.shipping.scrubs import scrubbed

        return scrubbed(self._copies("scrub"))

    def compact(self) -> list[CompactionReport]:
        """Put small log entries together now, in partitions, their standbys and the ledger of
        links, while the store works (docs/OPERATIONS.md): those below the newest checkpoint.

        The store does the same in the background (``Config.compact_entries``), and ``status`` says
        how that stands. Cost: some 0.3 ms an entry of a core. Raises StoreUnavailable for a
        partition that does not answer.
        """
        from profile_actors.driver.shipping.compactions import compacted

        return compacted(self._copies("compact"))

    def expire(self) -> dict[str, int]:
        """Let rows of events leave whose dataset's ``retention_days`` are over, in whole days by
        the store's now; returns per dataset the oldest instant (ms) whose rows count from then on.

        On the wall clock a store does so by itself, once a day; on the event clock when it is asked
        here, so that a replay says when. Answers are then as if the rows had never come
        (docs/OPERATIONS.md). Returns when they are; ingest goes on meanwhile. Cost: operators that
        hold rows which leave are folded from the log again. Raises Pending, StoreUnavailable.
        """
        self._check_open()
        connection = self._connection
        clocks = call_all(connection.partitions, "hello", timeout_s=connection.long_timeout_s)
        known = [now for now in clocks if now is not None]
        if len(known) == len(clocks):
            tell(connection, connection.coordinator.call("expire", min(known)))
        return dict(connection.catalogue.expired)

    def purge(self) -> Erasure:
        """Take the rows that have left by retention out of all logs, feeds, checkpoints, standbys
        and edges, as the rows of an erased person are; returns when no file of the store has them
        but the quarantine's, where rows lie that were refused.

        For now and then: all stands still meanwhile, as for an erasure (docs/OPERATIONS.md). Cost:
        one pass over the logs and a full fold. Raises Pending if it takes longer than
        ``Config.call_timeout_s`` times ten: it goes on then.
        """
        from profile_actors.driver.people.erasing import purge

        self._check_open()
        return purge(self._connection)

    def _copies(self, step: str) -> dict[str, Callable[..., Any]]:
        """How each copy of each log is asked for a step, by its name."""
        self._check_open()
        connection = self._connection
        timeout_s = connection.long_timeout_s

        def asking(remote: Remote) -> Callable[..., Any]:
            return lambda *args: remote.call("log_step", step, *args, timeout_s=timeout_s)

        copies = {
            f"partition {index}": asking(one) for index, one in enumerate(connection.partitions)
        }
        records: dict[int, Copies] = connection.coordinator.call("copies", "all")
        kept = [index for index, one in records.items() if one.standby]
        for index in kept:
            standby = begun(self._placement, index, records[index])
            copies[f"standby of {whose(index)}"] = asking(standby)
        ledger = self._ledger()
        if ledger is not None:
            copies["ledger"] = asking(ledger)
        return copies
