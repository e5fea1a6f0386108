"""People who were erased after a backup was made are erased in what is restored from it.

Theory: a store's erasures, by marks, are in each of its later backups, and in its catalogue. What
is restored has her names, so she is found there by them, and taken out as she was then: before the
directory is a store, so nobody is ever told of her.

Limits: an erasure that no later backup knows is known to the original's directory alone, and not at
all once that is lost; erasures of releases without marks are not known.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from profile_actors.config import Config
from profile_actors.definitions.declared import Catalogue
from profile_actors.engine.erasure.eraser import Eraser
from profile_actors.engine.erasure.marks import Marked
from profile_actors.engine.erasure.rejected_rows import naming
from profile_actors.errors import CallerError, CorruptLog
from profile_actors.ingest.rejects import QuarantineRecord
from profile_actors.storage.catalogue_store import ADDED, DATABASES, MAP_BYTES
from profile_actors.storage.environment import open_databases, open_environment
from profile_actors.storage.erasure.rewriting import rewrite
from profile_actors.storage.files.layout import PartitionLayout, StoreLayout
from profile_actors.storage.files.manifest import load_manifest
from profile_actors.storage.log_segment import LogSegment
from profile_actors.storage.rejects.quarantine import Quarantine
from profile_actors.storage.shipping.backups import BackupManifest, backup_ids, load_backup
from profile_actors.storage.shipping.depot import Depot
from profile_actors.storage.shipping.known_backups import ErasedMarks, KnownBackups
from profile_actors.storage.store_settings import load_settings_file


def erased_since(
    depot: Depot, manifest: BackupManifest, original: Path | None
) -> list[ErasedMarks]:
    """Erasures that a backup does not have, oldest first: of the backups beside it, and of the
    directory of the original, if that is there. Raises CallerError, CorruptLog."""
    found = set(_of_store(original, manifest.store)) if original is not None else set()
    for name in backup_ids(depot):
        if name > manifest.id:
            found |= set(load_backup(depot, name).erased)
    return sorted(found - set(manifest.erased), key=lambda one: (one.number, one.at))


def _of_store(path: Path, store: str) -> list[ErasedMarks]:
    """What a store's catalogue knows; it may be running. Where nothing can be written, as on a disk
    that is mounted to be read only, nobody runs it: then no lock is taken."""
    layout = StoreLayout(path)
    if not layout.catalogue.is_dir():
        raise CallerError(f"expected the directory of a store, got none - at {path}")
    settings = load_settings_file(layout.settings)
    if settings is not None and settings.id != store:
        raise CallerError(
            f"expected the directory of store {store}, got that of store {settings.id} - at {path};"
            " it does not know whom the original has erased: name the original's"
        )
    names = DATABASES + ADDED
    is_fixed = not os.access(layout.catalogue, os.W_OK)
    env = open_environment(layout.catalogue, MAP_BYTES, len(names), sync=True, readonly=is_fixed)
    try:
        opened = open_databases(env, ("backups", "erased"), writable=False)
        known = KnownBackups(env, opened["backups"], opened["erased"], str(layout.catalogue))
        return known.erased()
    finally:
        env.close()


def erase_again(
    directories: Iterable[Path],
    quarantine: Path,
    catalogue: Catalogue,
    erased: Iterable[ErasedMarks],
    seed: int,
) -> int:
    """Take people out of logs that nobody has open, and of the quarantine; of how many identities
    there was something. Cost: two passes over all logs. Raises CorruptLog, StorageFull."""
    directories, config = list(directories), Config()
    marked = Marked([mark for one in erased for mark in one.marks], seed)
    for directory in directories:
        _search(PartitionLayout(directory), marked)
    ones = sorted(marked.found)
    if not ones:
        return 0
    for directory in directories:
        rewrite(directory, config.log_map_bytes, Eraser(ones).erased)
    if quarantine.is_dir():
        kept: Quarantine[Any] = Quarantine(quarantine, config, QuarantineRecord)
        try:
            kept.without(naming(ones, catalogue))
        finally:
            kept.close()
    return len(ones)


def _search(paths: PartitionLayout, marked: Marked) -> None:
    manifest = load_manifest(paths.manifest)
    if manifest is None:
        raise CorruptLog(f"expected a log, got none - at {paths.log}")
    for entry in manifest.segments:
        segment = LogSegment.open(
            paths.log / entry.name, entry.first, MAP_BYTES, sync=True, sealed=True
        )
        try:
            for position in segment.positions():
                marked.search(segment.get(position) or b"", segment.where(position))
        finally:
            segment.discard()
