"""A store made from a backup; no store needs to run."""

from __future__ import annotations

import uuid
from pathlib import Path

import msgspec

from profile_actors.actors.logs.log_steps import reached
from profile_actors.actors.wall_clock import wall_ms
from profile_actors.definitions.catalogue_changes import decode
from profile_actors.definitions.declared import Catalogue
from profile_actors.errors import ConfigError, FencedOut
from profile_actors.storage.files.atomic_files import CrashPoint, make_directory, no_crash
from profile_actors.storage.files.layout import StoreLayout
from profile_actors.storage.files.lock import KEEPER_WAIT_S, DirectoryLock
from profile_actors.storage.shipping.backups import BackupManifest, load_backup, newest_backup
from profile_actors.storage.shipping.depot import Depot, absolute
from profile_actors.storage.shipping.erased_again import erase_again, erased_since
from profile_actors.storage.shipping.known_backups import ErasedMarks, KnownBackup, KnownBackups
from profile_actors.storage.shipping.restoring import Restoring

DRAWN_CHARS = 8
"""Of what tells the cursors of one restored store from those of others."""


class Restored(msgspec.Struct, frozen=True):
    """A store that was made from a backup. store: its id; backup, at: what it is as of.

    positions: entries of each log, as of ``Backup``: what was acknowledged later is to be sent
    again. erasures: after the backup, that were done again; identities: of which there was
    something.
    """

    path: str
    store: str
    backup: str
    at: int
    positions: dict[str, int]
    erasures: int
    identities: int


def restore(
    uri: str | Path,
    path: str | Path,
    at: str | None = None,
    *,
    same: bool = False,
    original: str | Path | None = None,
    crash_point: CrashPoint = no_crash,
) -> Restored:
    """Make a store in a directory from the newest backup of a place, or the one with the id ``at``.

    All of its files are compared with their checksums before anything is made. The store has an id
    of its own; same: that of the original, which must never run again beside it. A driver that asks
    for its producer's cursor and goes on from there ends with every row once.

    People who were erased after the backup are erased again, before there is a store: those that
    later backups of the place know, and the original's directory, if ``original`` names it.
    Cost: the backup read twice, and written once.

    Raises ConfigError for a directory that has a store, CallerError for a place without such a
    backup, CorruptLog naming each damaged file, StoreUnavailable, StorageFull.
    """
    depot, directory = Depot(absolute(uri)), Path(path).resolve()
    with reached(depot.uri):
        manifest = load_backup(depot, newest_backup(depot) if at is None else at)
        store = manifest.store if same else uuid.uuid4().hex
        drawn = uuid.uuid4().hex[:DRAWN_CHARS]
        one = Restoring(depot, manifest, directory, store, drawn, wall_ms(), crash_point)
        one.check_place()
        one.check_whole()
        later = erased_since(depot, manifest, None if original is None else Path(original))
        try:
            make_directory(directory)
            lock = DirectoryLock(StoreLayout(directory).keeper, KEEPER_WAIT_S)
        except OSError as error:
            raise ConfigError(
                f"expected a directory that may be made and written, got {type(error).__name__}:"
                f" {error} - at {directory}; name another directory"
            ) from error
        except FencedOut as error:
            raise ConfigError(f"{error}; somebody else restores, or runs, a store there") from None
        try:
            one.check_place()
            one.logs()
            identities = _finish(one, depot, manifest, later)
        finally:
            lock.release()
    return Restored(
        str(directory), store, manifest.id, manifest.at,
        {log.name: log.end for log in manifest.logs}, len(later), identities,
    )  # fmt: skip


def _finish(
    one: Restoring, depot: Depot, manifest: BackupManifest, later: list[ErasedMarks]
) -> int:
    """Everything beside the logs, people who are to be erased, and then there is a store."""
    catalogue = one.catalogue()
    try:
        settings = catalogue.settings()
        assert settings is not None, depot.uri
        newest = catalogue.newest_version()
        content = catalogue.get(newest) if newest else None
        env, (backups, erased) = catalogue.beside("backups", "erased")
        known = KnownBackups(env, backups, erased, depot.uri)
        known.note(KnownBackup(manifest.id, depot.uri, manifest.at, manifest.store, "whole"))
        identities = erase_again(
            map(one.directory_of, manifest.logs), one.quarantine,
            Catalogue() if content is None else decode(content), later, settings.hash_seed,
        ) if later else 0  # fmt: skip
        for erasure in later:
            known.note_erased(erasure)
    finally:
        catalogue.close()
    one.publish(settings, max([manifest.erasures, *(erasure.number for erasure in later)]))
    return identities
