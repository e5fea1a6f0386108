"""Whether a store's catalogue and logs are of one age, or put back from backups of several times.

Theory. The catalogue is ahead of every log, durably and in this order: an epoch is given before it
is recorded in the log, and the catalogue is told of an epoch and of a number of entries before the
log notes that it was told. A crash at any step leaves that so. Hence

    a log that says more than the catalogue knows      the catalogue is an older copy
    a log that says less than the catalogue was told   the log is (``lmdb_log.py`` refuses it)

An older catalogue whose logs all say more than it knows is healed from them. Beside one that says
no more than it knows nobody can tell whether that log was left alone since, or comes from the same
backup and lacks what it wrote since: it is refused. Who knows that it is the newest there is says
so by deleting what is derived from it, feed/ and checkpoints/: both are made anew.

Limits: what was written after the last word (``Config.tell_position_ms``) is not missed, and logs
of two ages that are both newer than the catalogue are not told apart.
"""

from __future__ import annotations

from typing import NamedTuple

import lmdb

from profile_actors.errors import Halt, LostLog
from profile_actors.storage.catalogue_store import CatalogueStore
from profile_actors.storage.environment import open_environment
from profile_actors.storage.files.layout import PartitionLayout, StoreLayout
from profile_actors.storage.files.manifest import load_manifest
from profile_actors.storage.log_segment import DATABASES, LogSegment, Stamp

NO_LOG = Stamp(0, 0)


MAP_BYTES = 64 << 30
"""Address space while a log is looked at whose size nobody knows."""


class Ages(NamedTuple):
    """newer: partitions whose logs said more than the catalogue knew; none of one that is as new as
    they are. accepted: partitions whose logs may be older ones."""

    newer: list[int]
    accepted: list[int]


def check_ages(known: CatalogueStore, layout: StoreLayout, map_bytes: int) -> Ages:
    """Compare all logs with the catalogue, before any of them is opened; heal an older catalogue.

    map_bytes: see ``Config.log_map_bytes``. A log that cannot be read is left to its partition to
    refuse. Cost: one log segment per partition opened. Raises LostLog, CorruptLog, StorageFull.
    """
    settings = known.settings()
    assert settings is not None, "settings come first"
    ahead: dict[int, Stamp] = {}
    behind: list[tuple[int, Stamp]] = []
    for index in range(settings.partitions):
        claim = known.log(index)
        stamp = stamp_of(layout.partition(index), map_bytes)
        if stamp is None:
            continue
        is_longer = claim is not None and claim.state == "kept" and stamp.told > claim.entries
        if is_longer or stamp.epoch > known.epoch(str(index)):
            ahead[index] = stamp
        else:
            behind.append((index, stamp))
    if not ahead:
        return Ages([], [])
    for index, stamp in behind:
        paths = layout.partition(index)
        if stamp == NO_LOG or paths.feed.exists() or paths.checkpoints.exists():
            newer = ", ".join(map(str, ahead))
            raise LostLog(
                f"expected the catalogue and the log of partition {index} as they were together"
                f" with the log of partition {newer}, got older ones, as from a backup - at"
                f" {layout.catalogue} and {paths.directory}; nothing was written: put the newest"
                " ones back, or the catalogue and all partitions from one backup (if only the"
                f" catalogue is an older one, and {paths.directory} the newest there is, delete"
                f" its {paths.feed.name}/ and {paths.checkpoints.name}/, which are made anew), then"
                " start again"
            )
    known.catch_up(ahead)
    return Ages([*ahead], [index for index, _ in behind])


def stamp_of(paths: PartitionLayout, map_bytes: int) -> Stamp | None:
    """What a log says of itself; None if that cannot be read."""
    try:
        manifest = load_manifest(paths.manifest)
        if manifest is None:
            return NO_LOG
        newest = manifest.segments[-1]
        path = paths.log / newest.name
        # With its lock: a partition may be writing while the coordinator starts anew.
        env = open_environment(path, map_bytes, len(DATABASES), sync=True)
        log_segment = LogSegment(path, newest.first, env, writable=False)
        try:
            return log_segment.stamp()
        finally:
            log_segment.discard()
    except (Halt, lmdb.Error, OSError):
        return None
