"""A backup of a running store, step by step; the copying is done where the files are.

Theory: ends are read and lowered to one frontier (``engine/shipping/frontiers``), every sequencer
copies its log up to there, then the coordinator copies catalogue and quarantine, and the manifest
is written last. Whatever ends it before leaves files that the next backup finds copied.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Protocol

import msgspec

from profile_actors.actors.logs.backup_steps import Begun, ShippedBeside
from profile_actors.engine.identity.messages import LEDGER
from profile_actors.engine.shipping.frontiers import Mails, largest_frontier
from profile_actors.errors import CorruptLog, Pending, StoreUnavailable
from profile_actors.storage.files.layout import LEDGER as LEDGER_LOG
from profile_actors.storage.shipping.backups import (
    BackupManifest,
    KeptCheckpoint,
    KeptLog,
    backup_ids,
    drop_backup,
    load_backup,
    own,
    prune,
    save_backup,
)
from profile_actors.storage.shipping.depot import Depot
from profile_actors.storage.shipping.known_backups import KnownBackup

AT_ONCE = 8
"""Sequencers that copy at a time."""


class Backup(msgspec.Struct, frozen=True):
    """A backup that is whole. id: names it at its place; at: ms UTC when it began.

    positions: per sequencer ("0", "1", ... and "L", the ledger of links) how many entries of its
    log it has. bytes: of all files that it names; new_bytes: of those that were not there before.
    """

    id: str
    uri: str
    at: int
    store: str
    positions: dict[str, int]
    bytes: int
    new_bytes: int


class Called(Protocol):
    """An actor, or what stands in its place."""

    def call(self, method: str, *args: Any, timeout_s: float | None = None) -> Any:
        """Call and wait."""


def backed_up(
    coordinator: Called,
    sequencers: Callable[[], Mapping[str, Called]],
    depot: Depot,
    timeout_s: float,
    at_once: int = AT_ONCE,
) -> Backup:
    """Make a backup. sequencers: asked for the partitions and the ledger, if it runs, by name.
    at_once: how many are asked at a time.

    Raises CallerError for a place of another store, Pending while a person is erased, CorruptLog
    for what the disk has damaged, StoreUnavailable, StorageFull.
    """
    begun: Begun = coordinator.call(
        "backup", "begin", depot.uri, max(backup_ids(depot), default="")
    )
    try:
        own(depot, begun.backup.store)
    except Exception:  # nothing of anybody is there, or will be
        coordinator.call("backup", "forget", begun.backup)
        raise
    there = set(backup_ids(depot))
    gone = [one for one in begun.known if one.uri == depot.uri and one.id not in there]
    base = _base(depot, begun, there)
    copying = _Copying(sequencers, depot, base, timeout_s, at_once)
    logs = copying.logs()
    if begun.has_ledger and not any(log.name == LEDGER for log in logs):
        raise StoreUnavailable(
            "expected the ledger of links, which the store has, got partitions alone - at backup;"
            " it is just starting: try again"
        )
    beside: ShippedBeside = coordinator.call("backup", "ship", depot.uri, timeout_s=timeout_s)
    if beside.erasures != begun.erasures:
        raise Pending(
            "expected to copy one store, got one that has erased a person meanwhile - at backup;"
            " back up again"
        )
    new = beside.new_bytes + copying.new_bytes
    manifest = BackupManifest(
        begun.backup.id, begun.backup.store, begun.backup.at, begun.partitions, begun.erasures,
        tuple(logs), beside.catalogue, beside.quarantine, beside.erased, new,
    )  # fmt: skip
    _check_there(depot, manifest)
    save_backup(depot, manifest)
    try:
        _check_there(depot, manifest)  # who prunes has not seen the manifest, perhaps
    except StoreUnavailable:
        drop_backup(depot, manifest.id)  # one that lacks a file is none
        raise
    coordinator.call("backup", "note", msgspec.structs.replace(begun.backup, state="whole"))
    _forget(coordinator, depot, gone)
    return told(depot, manifest)


def _forget(coordinator: Called, depot: Depot, gone: list[KnownBackup]) -> None:
    """Forget backups that are not there; what one that was begun has left goes first, and stays
    known while nobody can say what a damaged manifest needs."""
    is_clean = True
    if any(one.state == "begun" for one in gone):
        try:
            prune(depot, ())
        except CorruptLog:  # `verify` names it; this backup is whole
            is_clean = False
    for one in gone:
        if is_clean or one.state != "begun":
            coordinator.call("backup", "forget", one)


def told(depot: Depot, manifest: BackupManifest) -> Backup:
    """What is said of a backup."""
    files = {stored.name: stored.bytes for stored in manifest.files()}
    return Backup(
        manifest.id, depot.uri, manifest.at, manifest.store,
        {log.name: log.end for log in manifest.logs}, sum(files.values()), manifest.new_bytes,
    )  # fmt: skip


def _base(depot: Depot, begun: Begun, there: set[str]) -> BackupManifest | None:
    """The newest backup of this place that this very store remembers; see ``known_backups``."""
    mine = [one for one in begun.known if _is_base(one, begun.backup) and one.id in there]
    for one in reversed(mine):
        try:
            return load_backup(depot, one.id)
        except CorruptLog:  # what it needs is copied again, and it stays named by `verify`
            continue
    return None


def _is_base(one: KnownBackup, new: KnownBackup) -> bool:
    return one.uri == new.uri and one.store == new.store


class _Copying:
    """What is asked of all sequencers, and how much of it was new at the place."""

    def __init__(
        self,
        sequencers: Callable[[], Mapping[str, Called]],
        depot: Depot,
        base: BackupManifest | None,
        timeout_s: float,
        at_once: int,
    ) -> None:
        self._find = sequencers
        self._sequencers: dict[str, Called] = {}
        self._uri = depot.uri
        self._base = base
        self._timeout_s = timeout_s
        self._at_once = at_once
        self._frontier: dict[str, int] = {}
        self._new: list[int] = []

    def logs(self) -> list[KeptLog]:
        """All logs up to one frontier. Checkpoints come first, for what they know of others'
        (``LogShipping.checkpoint``), and then who is there: a ledger that they know of is."""
        with ThreadPoolExecutor(self._at_once, thread_name_prefix="backup") as pool:
            self._sequencers = dict(self._find())
            copied = dict(pool.map(self._checkpoint, self._sequencers))
            self._sequencers = dict(self._find())
            lows = dict(pool.map(self._head, self._sequencers))
            ends = dict(pool.map(self._head, self._sequencers))
            asked = [(name, lows[name], ends[name]) for name in ends]
            self._frontier = largest_frontier(dict(pool.map(self._mails, asked)))
            logs = list(pool.map(self._log, self._sequencers))
        return [log.with_checkpoint(copied.get(log.name)) for log in logs]

    @property
    def new_bytes(self) -> int:
        """Of all that was copied."""
        return sum(self._new)

    def _head(self, name: str) -> tuple[str, int]:
        return name, self._sequencers[name].call("log_step", "head")

    def _mails(self, asked: tuple[str, int, int]) -> tuple[str, Mails]:
        name, low, end = asked
        return name, self._sequencers[name].call("log_step", "mails", low, end, name)

    def _copy(self, name: str, step: str, *args: Any) -> Any:
        """A step that copies something; what was."""
        actor = self._sequencers[name]
        found, new = actor.call("log_step", step, self._uri, *args, timeout_s=self._timeout_s)
        self._new.append(new)
        return found

    def _checkpoint(self, name: str) -> tuple[str, KeptCheckpoint | None]:
        return name, self._copy(name, "checkpoint")

    def _log(self, name: str) -> KeptLog:
        index = LEDGER_LOG if name == LEDGER else int(name)
        held = None if self._base is None else self._base.log_of(name)
        while True:
            log: KeptLog = self._copy(name, "ship", name, index, self._frontier[name], held)
            if log.end == self._frontier[name]:
                return log
            held = log


def _check_there(depot: Depot, manifest: BackupManifest) -> None:
    missing = {stored.name for stored in manifest.files()} - depot.whole()
    if missing:
        raise StoreUnavailable(
            f"expected all files of backup {manifest.id}, got none of {min(missing)} - at"
            f" {depot.uri}; somebody prunes this place (back up again when that is done), or a"
            " machine of the store has another directory of that name: all must reach one place"
        )
