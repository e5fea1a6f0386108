"""What a backup is made of, and the backups of a place: listed, verified, pruned.

Theory: a manifest names the files of one backup by content, and is written when all of them are
there. Its first line is the xxh3-64 of the rest, which is JSON. Manifests are independent of each
other: a later one names the same files again. So one that is deleted takes nothing from the others,
and a file that no manifest names is what a backup left that did not come to its end, or what
pruned ones needed.

Limits: one backup or prune of a place at a time. A backup looks once more whether all of its files
are there when its manifest is, and says so if they are not.
"""

from __future__ import annotations

import datetime
from collections.abc import Iterable, Iterator
from pathlib import PurePosixPath

import msgspec
import xxhash

from profile_actors.engine.shipping.pieces import Piece, Stored
from profile_actors.errors import UNDECODED, CallerError, CorruptLog
from profile_actors.storage.shipping.depot import FILES, MANIFESTS, Depot, damaged
from profile_actors.storage.shipping.known_backups import ErasedMarks, KnownBackup

FORMAT = 1


OWNER = "backup.json"


SUFFIX = ".json"


class KeptCheckpoint(msgspec.Struct, frozen=True):
    """A checkpoint below a log's end. files: by their names below the partition's directory."""

    position: int
    files: dict[str, Stored]


class KeptLog(msgspec.Struct, frozen=True):
    """A sequencer's log below ``end``. name: "0", "1", ... of partitions, and that of the ledger.

    log, since, index: as ``log_id`` has them. epoch: of its writer. pieces: in order, from 0 on.
    """

    name: str
    index: int
    log: str
    since: int
    epoch: int
    end: int
    pieces: tuple[Piece, ...]
    checkpoint: KeptCheckpoint | None = None

    def files(self) -> Iterator[Stored]:
        """The contents that it names."""
        yield from (piece.stored for piece in self.pieces)
        if self.checkpoint is not None:
            yield from self.checkpoint.files.values()

    def with_checkpoint(self, one: KeptCheckpoint | None) -> KeptLog:
        """The same with a checkpoint; without one that knows of entries which the log has not: it
        was saved, and then the log's end was lowered to what all others have."""
        usable = one if one is not None and one.position <= self.end else None
        return msgspec.structs.replace(self, checkpoint=usable)


class BackupManifest(msgspec.Struct, frozen=True):
    """One backup. at: ms UTC when it began. erasures: how many the store had had; erased: whom, as
    far as it is known by keys, for who restores an older one.

    catalogue, quarantine: LMDB data files. new_bytes: what it added to the place.
    """

    id: str
    store: str
    at: int
    partitions: int
    erasures: int
    logs: tuple[KeptLog, ...]
    catalogue: Stored
    quarantine: Stored | None = None
    erased: tuple[ErasedMarks, ...] = ()
    new_bytes: int = 0
    format: int = FORMAT

    def files(self) -> Iterator[Stored]:
        """The contents that it names, some more than once."""
        for log in self.logs:
            yield from log.files()
        yield self.catalogue
        if self.quarantine is not None:
            yield self.quarantine

    def log_of(self, name: str) -> KeptLog | None:
        """What it has of a sequencer."""
        return next((log for log in self.logs if log.name == name), None)


class Owner(msgspec.Struct, frozen=True):
    """Whose backups a place has."""

    store: str
    format: int = FORMAT


class Pruned(msgspec.Struct, frozen=True):
    """What ``prune`` deleted: manifests by their ids, and files that no other names."""

    backups: tuple[str, ...]
    kept: tuple[str, ...]
    files: int
    bytes: int


_MANIFEST = msgspec.json.Decoder(BackupManifest)
_OWNER = msgspec.json.Decoder(Owner)


def backup_id(at: int) -> str:
    """The id of a backup that begins at ``at`` ms UTC; they sort as they were made."""
    when = datetime.datetime.fromtimestamp(at / 1000, datetime.UTC)
    return f"{when:%Y%m%dT%H%M%S}.{at % 1000:03d}Z"


def made_at(name: str) -> int:
    """When a backup with that id began, ms UTC; 0 if it is no such id."""
    try:
        found = datetime.datetime.strptime(f"{name.removesuffix('Z')}+0000", "%Y%m%dT%H%M%S.%f%z")
    except ValueError:
        return 0
    return round(found.timestamp() * 1000)


def own(depot: Depot, store: str) -> None:
    """Make a place this store's, or see that it is. Raises CallerError if it is another's."""
    try:
        found = _OWNER.decode(depot.read(OWNER))
    except FileNotFoundError:
        if depot.listed(MANIFESTS):
            raise damaged(f"{depot.uri}/{OWNER}", "a file", "none") from None
        depot.write(OWNER, [msgspec.json.encode(Owner(store))])
        return
    except UNDECODED as error:
        raise damaged(f"{depot.uri}/{OWNER}", "the id of a store", str(error)) from error
    if found.store != store:
        raise CallerError(
            f"expected a place for backups of store {store}, got one of store {found.store} - at"
            f" {depot.uri}; name another place"
        )


def save_backup(depot: Depot, manifest: BackupManifest) -> None:
    """Write a manifest: from then on there is this backup. Raises OSError."""
    body = msgspec.json.format(msgspec.json.encode(manifest))
    line = f"{xxhash.xxh3_64_hexdigest(body)}\n".encode()
    depot.write(f"{MANIFESTS}/{manifest.id}{SUFFIX}", (line, body))


def drop_backup(depot: Depot, name: str) -> None:
    """Delete a manifest; the files stay for the next backup, or ``prune``. Raises OSError."""
    depot.delete(f"{MANIFESTS}/{name}{SUFFIX}")


def load_backup(depot: Depot, name: str) -> BackupManifest:
    """A backup by its id. Raises CallerError if there is none, CorruptLog."""
    where = f"{depot.uri}/{MANIFESTS}/{name}{SUFFIX}"
    try:
        if name not in backup_ids(depot):  # a path, or a text that no file can have as its name
            raise FileNotFoundError(name)
        line, _, body = depot.read(f"{MANIFESTS}/{name}{SUFFIX}").partition(b"\n")
    except FileNotFoundError:
        there = ", ".join(backup_ids(depot)) or "none"
        raise CallerError(
            f"expected the id of a backup ({there}), got {name!r} - at {depot.uri}"
        ) from None
    digest = xxhash.xxh3_64_hexdigest(body).encode()
    if digest != line:
        raise damaged(where, f"checksum {line[:16]!r}", repr(digest))
    try:
        manifest = _MANIFEST.decode(body)
    except UNDECODED as error:
        raise damaged(where, "a manifest of a backup", f"'{error}'") from error
    if manifest.format != FORMAT:
        raise CorruptLog(
            f"expected backup format {FORMAT}, got {manifest.format} - at {where}; a newer release"
            " wrote it, use that one"
        )
    for log in manifest.logs:
        _check_log(log, where)
    return manifest


def _check_log(log: KeptLog, where: str) -> None:
    """Pieces follow each other up to the end, and files go below the directory of their log."""
    end = 0
    for piece in log.pieces:
        if piece.first != end or piece.end <= end:
            break
        end = piece.end
    if end != log.end:
        raise damaged(where, f"positions 0 to {log.end - 1} of {log.name}", f"a gap at {end}")
    names = {piece.segment: 1 for piece in log.pieces}
    names |= dict.fromkeys(() if log.checkpoint is None else log.checkpoint.files, 2)
    for name, parts in names.items():
        path = PurePosixPath(name)
        if path.is_absolute() or ".." in path.parts or len(path.parts) != parts:
            raise damaged(where, f"a file below the directory of {log.name}", repr(name))


def backup_ids(depot: Depot) -> list[str]:
    """The ids of the backups that are there, oldest first."""
    names = depot.listed(MANIFESTS)
    return sorted(name.removesuffix(SUFFIX) for name in names if name.endswith(SUFFIX))


def left_of(known: Iterable[KnownBackup]) -> list[KnownBackup]:
    """The backups of these that are at their places still, or whose places are not reached. One
    that was begun and not finished has left files, until the next one of its place is whole."""
    by_place: dict[str, set[str] | None] = {}
    left = []
    for one in known:
        if one.uri not in by_place:
            try:
                by_place[one.uri] = set(backup_ids(Depot(one.uri)))
            except (OSError, CallerError):
                by_place[one.uri] = None
        there = by_place[one.uri]
        if there is None or one.state == "begun" or one.id in there:
            left.append(one)
    return left


def newest_backup(depot: Depot) -> str:
    """The id of the newest backup. Raises CallerError if there is none."""
    found = backup_ids(depot)
    if not found:
        raise CallerError(f"expected a backup, got none - at {depot.uri}; is this the place?")
    return found[-1]


def faults(depot: Depot, names: Iterable[str]) -> dict[str, list[str]]:
    """Of each of these backups what is wrong with it, in sentences; each file is read once."""
    read: dict[str, str | None] = {}
    found: dict[str, list[str]] = {}
    for name in names:
        found[name] = []
        try:
            manifest = load_backup(depot, name)
        except CorruptLog as error:
            found[name].append(str(error))
            continue
        for stored in {stored.name: stored for stored in manifest.files()}.values():
            if stored.name not in read:
                read[stored.name] = depot.fault(stored)
            fault = read[stored.name]
            if fault is not None:
                found[name].append(fault)
    return found


def prune(depot: Depot, drop: Iterable[str]) -> Pruned:
    """Delete backups, then the files that no other backup names. Manifests go first: what a crash
    leaves is files too many. Raises CorruptLog, before anything is deleted, if one that stays
    cannot be read: nobody knows what it needs."""
    drop = set(drop)
    kept = [name for name in backup_ids(depot) if name not in drop]
    needed = {stored.name for name in kept for stored in load_backup(depot, name).files()}
    for name in sorted(drop):
        drop_backup(depot, name)
    depot.drop_asides()
    idle = {name: size for name, size in depot.listed(FILES).items() if name not in needed}
    for name in sorted(idle):
        depot.delete(f"{FILES}/{name}")
    return Pruned(tuple(sorted(drop)), tuple(kept), len(idle), sum(idle.values()))
