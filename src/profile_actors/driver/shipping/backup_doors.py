"""The doors through which a program backs up a running store."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from profile_actors.actors.calls import Remote
from profile_actors.actors.logs.log_steps import reached
from profile_actors.driver.connection import Connection
from profile_actors.driver.shipping.backing_up import Backup, backed_up
from profile_actors.engine.identity.messages import LEDGER
from profile_actors.errors import CallerError
from profile_actors.storage.shipping.depot import Depot, absolute

if TYPE_CHECKING:
    from profile_actors.driver.keeping.placement import Placement


class BackupDoors:
    """The part of ``Store`` that copies it elsewhere."""

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
