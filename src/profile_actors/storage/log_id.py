"""Whose log a directory holds: the log's id, and what the catalogue last knew of it.

Theory. A log is begun once. The catalogue promises a log id, the partition writes it into
``log.json`` and every log segment, and tells the catalogue that the log is there *before* it
appends anything. From then on the catalogue's word is that there is a log: where its directory,
manifest, a segment or ``log.json`` is missing, where another log lies in its place, where it is
shorter than it once was or was not yet opened as often, opening raises LostLog. Nothing is begun in
its place. So

    promised    never created: an empty place may (again) become the log; a crash before the
                catalogue was told left nothing that was acknowledged
    accepting   a store from before logs had ids: there must be a log, whose id is then written
    kept        the log must be there, with this id and at least this many entries

Limits: that a log is shorter is known as of the last position told (at openings and checkpoints,
and every ``Config.tell_position_ms``). Log segments sealed before the log had an id have none.
"""

from __future__ import annotations

import datetime
from pathlib import Path
from typing import Literal

import msgspec

from profile_actors.errors import UNDECODED, CorruptLog, LostLog
from profile_actors.storage.files.atomic_files import write_whole
from profile_actors.storage.files.layout import PartitionLayout, whose

FORMAT = 1


class LogId(msgspec.Struct, frozen=True, kw_only=True):
    """What ``log.json`` says. since: log segments that begin before it carry no id."""

    store: str
    partition: int
    log: str
    since: int = 0
    format: int = FORMAT


class LogClaim(msgspec.Struct, frozen=True, kw_only=True):
    """What the catalogue knows of a partition's log; see the module.

    entries: how many it had when the catalogue was told last, at ``told`` ms (0: never), from
    ``directory``; epoch: the one recorded in it then (0: not told, by an earlier release).
    """

    id: LogId
    state: Literal["promised", "accepting", "kept"]
    entries: int = 0
    told: int = 0
    directory: str = ""
    epoch: int = 0

    def check(self, entries: int, epoch: int, directory: Path) -> None:
        """Raises LostLog for a log that says less of itself than the catalogue was told."""
        if entries < self.entries:
            raise self.lost(f"one with {entries} entries", directory)
        if epoch < self.epoch:
            got = f"a copy from before its last opening (epoch {epoch}, told of {self.epoch})"
            raise self.lost(got, directory)

    def lost(self, got: str, directory: Path) -> LostLog:
        """The error that says which log is not where it should be."""
        if self.state == "kept":
            seen = datetime.datetime.fromtimestamp(self.told / 1000, datetime.UTC)
            last = (
                f"last seen with {self.entries} entries at {seen:%Y-%m-%d %H:%M:%S} UTC in"
                f" {self.directory}"
            )
        else:
            last = "which an earlier release wrote" if self.state == "accepting" else "not begun"
        name = f"log {self.id.log} of {whose(self.id.partition)}"
        return LostLog(
            f"expected the {name} of store {self.id.store} ({last}), got {got} - at {directory};"
            " nothing was written: put its directory back, or restore it from a replica or backup"
            " that has all of these entries, then start again (what is gone for good is loaded"
            " into a new store)"
        )


_LOG_ID = msgspec.json.Decoder(LogId)


def load_log_id(paths: PartitionLayout) -> LogId | None:
    """What ``log.json`` says, None if there is none. Raises CorruptLog."""
    try:
        content = paths.log_id.read_bytes()
    except FileNotFoundError:
        return None
    try:
        found = _LOG_ID.decode(content)
    except UNDECODED as error:
        raise CorruptLog(
            f"expected a log id, got '{error}' - at {paths.log_id}; restore the file from a replica"
            " or backup"
        ) from error
    if found.format != FORMAT:
        raise CorruptLog(
            f"expected log id format {FORMAT}, got {found.format} - at {paths.log_id}; a newer"
            " release wrote it, use that one"
        )
    return found


def save_log_id(paths: PartitionLayout, log_id: LogId) -> None:
    """Write ``log.json`` durably. Raises OSError."""
    write_whole(paths.log_id, (msgspec.json.format(msgspec.json.encode(log_id)), b"\n"))


def check_place(paths: PartitionLayout, claim: LogClaim) -> LogId | None:
    """What is in a partition's directory, checked against the claim before anything is made there.

    Returns what ``log.json`` says, None if it is still to be written. Raises LostLog, CorruptLog.
    """
    directory = paths.directory
    if claim.state != "promised" and not directory.is_dir():
        raise claim.lost("no directory", directory)
    found = load_log_id(paths)
    has_manifest = paths.manifest.is_file()
    if found is None:
        if claim.state == "kept" or (claim.state == "promised" and has_manifest):
            raise claim.lost(f"a directory without {paths.log_id.name}", directory)
    elif (found.store, found.partition) != (claim.id.store, claim.id.partition) or (
        claim.state == "kept" and found.log != claim.id.log
    ):
        raise claim.lost(
            f"log {found.log} of {whose(found.partition)} of store {found.store}", directory
        )
    if claim.state != "promised" and not has_manifest:
        raise claim.lost(f"no {paths.manifest.parent.name}/{paths.manifest.name}", directory)
    return found
