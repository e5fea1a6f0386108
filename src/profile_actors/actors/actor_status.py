"""What a partition actor is started with, and what it says of itself."""

from __future__ import annotations

import os
import socket
import time

import msgspec

from profile_actors.actors.consumers import Consumer
from profile_actors.actors.logs.compactor import CompactionStatus
from profile_actors.actors.logs.scrubber import ScrubStatus
from profile_actors.actors.mail.postman import Outbox
from profile_actors.actors.replicas.shipped_log import Standing
from profile_actors.config import Config
from profile_actors.engine.reading.answers import PartitionStatus

TICKS = os.sysconf("SC_CLK_TCK")


def _began_ms() -> int:
    """When this process began, ms UTC."""
    with open("/proc/self/stat", "rb") as stat:
        ticks = int(stat.read().rpartition(b")")[2].split()[19])
    return int((time.time() - time.clock_gettime(time.CLOCK_BOOTTIME) + ticks / TICKS) * 1000)


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
