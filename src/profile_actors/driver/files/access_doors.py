"""The door through which a person is told what is held on her."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from profile_actors.driver.arguments import identity_pairs
from profile_actors.driver.definition_edits import newest
from profile_actors.driver.edges.watching_doors import WatchingDoors
from profile_actors.driver.files.file_doors import FileDoors
from profile_actors.driver.people.people_doors import PeopleDoors

if TYPE_CHECKING:
    from profile_actors.driver.files.access_request import AccessReport


class AccessDoors(WatchingDoors, PeopleDoors, FileDoors):
    """What needs the doors to edges, people and files together."""

    def access(self, namespace: str, value: str, path: str | Path) -> AccessReport:
        """Write all that is held on the person with an identity into a new directory
        (docs/ACCESS.md).

        Her profile, with where each attribute is from; every row of each of her identities, events
        and records, those too that newer ones have replaced; links with their evidence; changes of
        memberships as far as the feed reaches; rejected rows that name her; what edges keep of
        her. ``access.json`` says what is in which file, and as of which positions of the logs.
        Values of identities that are not hers are withheld.

        Of somebody of whom nothing is known the files are empty, which is what there is to tell.
        path: a local directory that is new or empty, not among the store's own files; it is there
        when it is whole, and its owner alone may read it. Cost: her rows, and a pass over the feed
        and the quarantine. Raises CallerError, DefinitionError for an unknown namespace, Pending
        while she is just being put together or rules are being evaluated again, CursorExpired if
        the feed drops what is just being read (ask again), StoreUnavailable, OSError.
        """
        from profile_actors.driver.files.access_request import accessed

        self._check_open()
        named = identity_pairs([(namespace, value)])[0]
        edges = {
            name: self._running(destination)
            for name, destination in sorted(self._destinations().items())
        }
        known = newest(self._connection)
        return accessed(self._connection, self._ledger(), known, edges, named, path)
