"""The backups of a place: listed, verified, pruned. No store needs to run."""

from __future__ import annotations

from pathlib import Path

from profile_actors.actors.logs.log_steps import reached
from profile_actors.driver.arguments import Instant, instant_ms, whole_number
from profile_actors.driver.shipping.backing_up import Backup, told
from profile_actors.errors import CallerError
from profile_actors.storage.shipping.backups import (
    Pruned,
    backup_id,
    backup_ids,
    faults,
    load_backup,
    newest_backup,
    prune,
)
from profile_actors.storage.shipping.depot import Depot, absolute


def backups(uri: str | Path) -> list[Backup]:
    """The backups of a place, oldest first. Raises CallerError for a place that has none,
    CorruptLog for one whose manifest is damaged (``verified`` says of each), StoreUnavailable."""
    depot = Depot(absolute(uri))
    with reached(depot.uri):
        newest_backup(depot)
        return [told(depot, load_backup(depot, name)) for name in backup_ids(depot)]


def verified(uri: str | Path, at: str | None = None) -> dict[str, list[str]]:
    """Of every backup of a place, or the one with the id ``at``, what is wrong with its files: one
    sentence for each that is missing or damaged. Cost: each file is read once."""
    depot = Depot(absolute(uri))
    with reached(depot.uri):
        newest_backup(depot)
        return faults(depot, backup_ids(depot) if at is None else [at])


def pruned(uri: str | Path, keep: int | None = None, before: Instant | None = None) -> Pruned:
    """Delete old backups of a place, and what no other needs: all but the ``keep`` newest, or those
    that were made before an instant. The newest stays. Not while a backup is made there.

    Raises CallerError, CorruptLog if a backup that stays cannot be read: nothing is deleted then.
    """
    depot = Depot(absolute(uri))
    if (keep is None) == (before is None):
        raise CallerError(
            "expected how many to keep, or an instant, got both or neither - at prune"
        )
    with reached(depot.uri):
        newest = newest_backup(depot)
        found = backup_ids(depot)
        if keep is not None:
            drop = found[: -whole_number(keep, "keep", "prune", 1)]
        else:
            assert before is not None
            limit = backup_id(instant_ms(before))
            drop = [name for name in found if name < limit and name != newest]
        return prune(depot, drop)
