"""The names of everything in a store's data directory.

::

    <data>/store.json               the store's settings, for people; the catalogue is the truth
    <data>/keeper.lock              held by who keeps the store running (``driver/keeping``)
    <data>/attach.json              where it runs, while it does; attach.token: its Ray's token
    <data>/keeper.log               what the process of ``profile-actors start`` had to say
    <data>/catalogue/               LMDB: definitions, settings, assignment, epochs
    <data>/quarantine/              LMDB: rejected rows
    <data>/partitions/<i>/lock      who owns the partition
    <data>/partitions/<i>/log.json  whose log this is: store, partition, log id
    <data>/partitions/<i>/log/      manifest.json and segment-<first position>/: the ground state
    <data>/partitions/<i>/feed/     derived, like checkpoints/ and runs/: may be deleted at any time
                                    when no process has the partition open
    <data>/disk.json                names this disk, of a store that has several
    <data>/standbys/<i>/            a partition's log once more, of a store with replicas, in
                                    standbys/ledger/ the ledger's
    <data>/ledger/                  the log of who belongs together, like a partition's; only in a
                                    store where rows came with several identities
    <data>/erasures.json            the erasure under way, and how many there were
                                    (``storage/erasure/erasure_record.py``)
    <data>/restoring/               while a backup is restored here: this is no store yet
    <data>/home/                    a copy of the catalogue of the store whose other disk this is
    <data>/standbys/<i>/            that store's copies of logs, as partitions/<i>/
    <data>/edges/<name>/            copies of profiles (``storage/edge_files.py``): derived too
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from profile_actors.engine.identity.messages import LEDGER as SEQUENCER
from profile_actors.storage.files.atomic_files import remove_tree

LEDGER = 65_535
"""In the place of a partition's number: the log of the ledger of links. No partition has it, since
an assignment names partitions by 16 bits, and there are fewer than buckets."""


def whose(number: int) -> str:
    """How errors call whoever owns a log."""
    return "the ledger" if number == LEDGER else f"partition {number}"


def name_of(number: int) -> int | Literal["ledger"]:
    """How programs and commands name whoever owns a log: a partition by its number."""
    return "ledger" if number == LEDGER else number


def sequencer_of(number: int) -> str:
    """The name of a partition, or of the ledger, as a sequencer."""
    return SEQUENCER if number == LEDGER else str(number)


@dataclass(frozen=True, slots=True)
class PartitionLayout:
    """Paths of one log and what is made of it. directory: ``<data>/partitions/<i>``, or as it."""

    directory: Path

    @property
    def lock(self) -> Path:
        return self.directory / "lock"

    @property
    def log(self) -> Path:
        return self.directory / "log"

    @property
    def log_id(self) -> Path:
        return self.directory / "log.json"

    @property
    def manifest(self) -> Path:
        return self.log / "manifest.json"

    @property
    def feed(self) -> Path:
        return self.directory / "feed"

    @property
    def checkpoints(self) -> Path:
        return self.directory / "checkpoints"

    @property
    def runs(self) -> Path:
        return self.directory / "runs"


@dataclass(frozen=True, slots=True)
class StoreLayout:
    """Paths of one store. data: its root directory."""

    data: Path

    @property
    def settings(self) -> Path:
        return self.data / "store.json"

    @property
    def keeper(self) -> Path:
        return self.data / "keeper.lock"

    @property
    def attach(self) -> Path:
        return self.data / "attach.json"

    @property
    def token(self) -> Path:
        return self.data / "attach.token"

    @property
    def keeper_log(self) -> Path:
        return self.data / "keeper.log"

    @property
    def catalogue(self) -> Path:
        return self.data / "catalogue"

    @property
    def quarantine(self) -> Path:
        return self.data / "quarantine"

    @property
    def restoring(self) -> Path:
        return self.data / "restoring"

    @property
    def home(self) -> Path:
        return self.data / "home"

    @property
    def edges(self) -> Path:
        return self.data / "edges"

    @property
    def ledger(self) -> Path:
        return self.partition(LEDGER).directory

    @property
    def partitions(self) -> Path:
        return self.data / "partitions"

    @property
    def disk(self) -> Path:
        return self.data / "disk.json"

    def standby(self, number: int) -> PartitionLayout:
        """A copy of the log of a partition, or of LEDGER."""
        name = "ledger" if number == LEDGER else str(number)
        return PartitionLayout(self.data / "standbys" / name)

    def existing(self) -> Iterator[Path]:
        """The data directory and all of the store that is in it, and nothing else that may be."""
        yield self.data
        yield self.settings
        for directory in (self.catalogue, self.quarantine, self.ledger, self.partitions):
            yield directory
            yield from directory.rglob("*")

    def partition(self, number: int) -> PartitionLayout:
        """The log in force of a partition, or of LEDGER."""
        own = self.data / "ledger"
        return PartitionLayout(own if number == LEDGER else self.partitions / str(number))


def reset_derived(directory: Path) -> None:
    """Delete every derived file of a partition (feed, checkpoints, runs); its log stays.

    directory: the partition's. The caller has the feed closed. Cost: one directory removal each.
    """
    paths = PartitionLayout(directory)
    for path in (paths.checkpoints, paths.runs, paths.feed):
        remove_tree(path)
