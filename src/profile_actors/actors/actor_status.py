"""What actors are started with, and what they say of themselves.

Structs alone: who asks an actor how it is, or starts one, needs nothing that it is made of.
"""

from __future__ import annotations

import os
import socket
import time
from typing import TYPE_CHECKING

import msgspec

from profile_actors.actors.consumers import Consumer
from profile_actors.actors.mail.postman import Outbox
from profile_actors.config import Config
from profile_actors.engine.reading.answers import PartitionStatus

if TYPE_CHECKING:
    from profile_actors.engine.identity.ledger import LedgerStatus
    from profile_actors.storage.store_settings import StoreSettings

TICKS = os.sysconf("SC_CLK_TCK")


def _began_ms() -> int:
    """When this process began, ms UTC."""
    with open("/proc/self/stat", "rb") as stat:
        ticks = int(stat.read().rpartition(b")")[2].split()[19])
    return int((time.time() - time.clock_gettime(time.CLOCK_BOOTTIME) + ticks / TICKS) * 1000)


class CompactionStatus(msgspec.Struct, frozen=True):
    """What became of small log entries since the process began. entries: put into groups, or moved
    with theirs; bytes_before, bytes_after: of the log segments that they were in, and are in.
    waiting: entries below the checkpoint that are single and small. error: why some could not be
    compacted, or empty: their log segment is as it was."""

    entries: int = 0
    bytes_before: int = 0
    bytes_after: int = 0
    waiting: int = 0
    error: str = ""


class ScrubStatus(msgspec.Struct, frozen=True):
    """How the disk was found when it was read through. finished: when the last whole pass ended, ms
    UTC, None before the first. bytes: read since the process began. damaged: how many log entries
    and files are damaged, as far as was read; faults: what, where, and what to do, at most
    MAX_DAMAGE. mended: log entries that were fetched from another copy since the process began."""

    finished: int | None = None
    bytes: int = 0
    damaged: int = 0
    faults: tuple[str, ...] = ()
    mended: int = 0


class Standing(msgspec.Struct, frozen=True):
    """How a partition's standby stands. there: entries it is known to have, of ``here``. state:
    'in sync' (nothing is acknowledged without it), 'catching up', 'silent', or 'fenced'. is_async:
    entries are acknowledged before it has them."""

    disk: str
    state: str
    here: int
    there: int
    is_async: bool = False

    @property
    def lag_entries(self) -> int:
        """Entries that it is not known to have."""
        return max(0, self.here - self.there)

    @property
    def is_in_sync(self) -> bool:
        """Whether nothing is acknowledged without it."""
        return self.state == "in sync"


class ActorStatus(msgspec.Struct, frozen=True):
    """A partition actor's account of itself. halted: why it no longer writes, empty if it does.

    queued: sub-batches waiting. checkpoint_error: why the last checkpoint failed, or empty. feed:
    what was wrong with the change feed and what became of it. consumers: its named readers. outbox:
    what other partitions, by number, and the ledger ("L") have not acknowledged. standby: how the
    log's second copy stands, None without one. node: the name of the machine; since: when the
    process began, ms UTC; disk: the id of the one with its log, where partitions are placed by the
    labels of disks. scrub: how the disk was found when it was read through. compaction: what
    became of small log entries.
    """

    partition: PartitionStatus | None
    halted: str
    queued: int
    checkpoint_error: str
    pid: int
    feed: str = ""
    consumers: dict[str, Consumer] = {}
    outbox: dict[str, Outbox] = {}
    standby: Standing | None = None
    node: str = msgspec.field(default_factory=socket.gethostname)
    since: int = msgspec.field(default_factory=_began_ms)
    disk: str = ""
    scrub: ScrubStatus = ScrubStatus()
    compaction: CompactionStatus = CompactionStatus()


class PartitionPlace(msgspec.Struct, frozen=True):
    """What a partition actor is started with. namespace: Ray's, where the coordinator is found.
    home: the disk with the catalogue, and the ledger of links, "" unless placed by labels."""

    namespace: str
    path: str
    index: int
    config: Config
    home: str = ""


class CoordinatorPlace(msgspec.Struct, frozen=True):
    """What the coordinator is started with. new: the settings if the store does not exist yet.

    is_keeper: it holds the store's lock itself, since it outlives the driver that started it.
    namespace: Ray's, where the store's other actors are.
    """

    path: str
    new: StoreSettings
    config: Config
    is_keeper: bool = False
    namespace: str = ""


class LedgerPlace(msgspec.Struct, frozen=True):
    """What the ledger is started with. namespace: Ray's; path: its directory, on disk
    ``disk`` ("" unless placed by labels)."""

    namespace: str
    path: str
    config: Config
    disk: str = ""


class LedgerAccount(msgspec.Struct, frozen=True):
    """The actor's account of itself. halted: why it does not write, empty if it does. outbox: by
    partition, what it has not acknowledged. scrub: how its disk was found. standby: how the log's
    second copy stands, None without one."""

    ledger: LedgerStatus | None
    halted: str
    pid: int
    outbox: dict[str, Outbox] = {}
    scrub: ScrubStatus = ScrubStatus()
    standby: Standing | None = None


class StandbyPlace(msgspec.Struct, frozen=True):
    """What a standby is started with. namespace: Ray's, where the coordinator is found; path: the
    store's directory. index: of the partition whose log it copies, or ``layout.LEDGER``. home: see
    ``PartitionPlace``."""

    namespace: str
    path: str
    index: int
    config: Config
    home: str = ""


class StandbyStatus(msgspec.Struct, frozen=True):
    """A standby's account of itself. refusal: why its files are not open, or not written to, as
    where its disk is full; else empty.
    silent_s: since when nothing was heard of its primary. scrub: how its disk was found."""

    index: int
    copy: str
    head: int
    epoch: int
    silent_s: float
    pid: int
    refusal: str = ""
    scrub: ScrubStatus = ScrubStatus()


class ErasureProgress(msgspec.Struct, frozen=True):
    """How far the erasure is that goes on. number: counts the store's. identities: of the person.

    holders: the partitions, and the ledger if there is one. standing: those that stand still: when
    all do, each changes its files. done: those that have; rows: taken out of logs so far.
    """

    number: int
    identities: int
    holders: int
    standing: int
    done: int
    rows: int
