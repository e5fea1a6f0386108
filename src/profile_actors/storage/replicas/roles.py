"""Which role a log's directory on a disk has: that of a log in force, or of a standby.

Theory: ``<disk>/partitions/<i>`` is a log in force, ``<disk>/standbys/<i>`` a copy, with the same
files and ``copy.json``. A role changes by renaming. What a log in force has derived goes before it
is a standby, since another primary's entries may come in place of those it was made of.

A disk that came back may have both: a log that was in force there once, and the copy that it has
had since. Epochs only rise, so the one with the higher epoch is the one that was used since.
"""

from __future__ import annotations

import os
from pathlib import Path

from profile_actors.storage.files.atomic_files import make_directory, remove_tree, sync_directory
from profile_actors.storage.files.layout import PartitionLayout, StoreLayout, reset_derived
from profile_actors.storage.log_ages import MAP_BYTES, stamp_of
from profile_actors.storage.replicas.standby_files import COPY


def newest_at(data: Path, index: int) -> PartitionLayout:
    """Where a disk has a log: as in force, or as a standby; where it has both, the newer one. Cost:
    two log segments opened there. The caller knows that nobody has them open in this process."""
    paths = StoreLayout(data)
    own, standby = paths.partition(index), paths.standby(index)
    if not (own.log_id.is_file() and standby.log_id.is_file()):
        return standby if standby.log_id.is_file() else own
    first, second = stamp_of(own, MAP_BYTES), stamp_of(standby, MAP_BYTES)
    is_newer = first is not None and second is not None and second.epoch > first.epoch
    return standby if is_newer else own


def as_standby(data: Path, index: int) -> Path:
    """The directory of a standby on a disk; a log that was in force there is one from now on. The
    caller knows that nobody has it open. Raises OSError."""
    paths = StoreLayout(data)
    old, new = paths.partition(index).directory, paths.standby(index).directory
    if not new.exists() and PartitionLayout(old).log_id.is_file():
        reset_derived(old)
    return _renamed(old, new)


def as_partition(data: Path, index: int) -> Path:
    """The directory of a log in force; a standby that was promoted is that from now on, and what
    lay in its place, of an epoch before, is deleted. Raises OSError."""
    paths = StoreLayout(data)
    old, new = paths.standby(index).directory, paths.partition(index).directory
    if new.exists() and newest_at(data, index).directory == old:
        remove_tree(new)
    directory = _renamed(old, new)
    (directory / COPY).unlink(missing_ok=True)
    return directory


def _renamed(old: Path, new: Path) -> Path:
    if not new.exists() and PartitionLayout(old).log_id.is_file():
        make_directory(new.parent)
        os.rename(old, new)
        sync_directory(new.parent)
        sync_directory(old.parent)
    return new
