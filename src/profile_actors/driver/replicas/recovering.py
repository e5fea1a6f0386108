"""A store whose own disk is lost, made anew on the disk that has copies of its logs."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import msgspec

from profile_actors.actors.wall_clock import wall_ms
from profile_actors.errors import ConfigError, FencedOut
from profile_actors.storage.files.layout import StoreLayout, name_of
from profile_actors.storage.files.lock import KEEPER_WAIT_S, DirectoryLock
from profile_actors.storage.shipping.home_copies import Lost, Recovering, check_place, home_told


class Recovered(msgspec.Struct, frozen=True):
    """A store that has its home on another disk now. told: ms UTC, when the lost disk's catalogue
    was copied last. entries: of each partition's log, and of the 'ledger', if it has one. lost:
    partitions that may lack entries which were acknowledged, with why."""

    path: str
    store: str
    told: int
    entries: dict[int | Literal["ledger"], int]
    lost: list[Lost]


def recover(directory: str | Path, *, accept_loss: bool = False) -> Recovered:
    """Make a store of a disk that has copies of its logs, when the disk with its catalogue is lost
    (docs/REPLICAS.md). directory: as it was given to ``add_disk``. Start it there from then on.

    It keeps its id: the old one must never run again. Everything that was acknowledged is there, if
    each standby was in sync; one that was not is taken with ``accept_loss`` alone, and not at all
    where identities are linked: logs count each other's messages. Rejected rows,
    and the history of files loaded in the last seconds, were on the lost disk. No process of the
    store may run. Again after a crash it goes on.

    Raises ConfigError for a directory without a copy of a catalogue, for one that runs, or if a
    log is on no disk that is there; CorruptLog, StorageFull.
    """
    path = Path(directory).resolve()
    if not path.is_dir():
        raise ConfigError(f"expected a directory, got none - at {path}")
    check_place(path)  # before a lock's file is made there
    try:
        lock = DirectoryLock(StoreLayout(path).keeper, KEEPER_WAIT_S)
    except FencedOut as error:
        raise ConfigError(f"{error}; somebody runs a store there") from None
    try:
        told = home_told(path)
        one = Recovering(path, wall_ms())
        try:
            found, lost = one.survey()
            if lost and (one.has_ledger or not accept_loss):
                then = (
                    "others of the store count what it had, so it cannot go on without that: mount"
                    " the disk that has it, or restore a backup"
                    if one.has_ledger
                    else "accept_loss (--accept-loss) goes on without what is lost"
                )
                who = ", ".join(_whose(each) for each in lost)
                raise ConfigError(
                    "expected standbys that have all that was acknowledged, got some that have not:"
                    f" {who} - at {path}; nothing was changed: {then}"
                )
            one.publish(found)
        except FencedOut as error:
            raise ConfigError(f"{error}; end the processes of the store first") from None
        finally:
            one.close()
    finally:
        lock.release()
    entries = {name_of(each.index): each.head for each in found}
    return Recovered(str(path), one.store, round((told or 0) * 1000), entries, lost)


def _whose(lost: Lost) -> str:
    return "the ledger" if lost.partition == "ledger" else f"partition {lost.partition}"
