"""What a partition actor is started with, and what it says of itself."""

from __future__ import annotations

import msgspec

from profile_actors.actors.consumers import Consumer
from profile_actors.actors.mail.postman import Outbox
from profile_actors.actors.replicas.shipped_log import Standing
from profile_actors.config import Config
from profile_actors.engine.reading.answers import PartitionStatus


class ActorStatus(msgspec.Struct, frozen=True):
    """A partition actor's account of itself. halted: why it no longer writes, empty if it does.

    queued: sub-batches waiting. checkpoint_error: why the last checkpoint failed, or empty. feed:
    what was wrong with the change feed and what became of it. consumers: its named readers. outbox:
    what other partitions, by number, and the ledger ("L") have not acknowledged. standby: how the
    log's second copy stands, None without one.
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


class PartitionPlace(msgspec.Struct, frozen=True):
    """What a partition actor is started with. namespace: Ray's, where the coordinator is found."""

    namespace: str
    path: str
    index: int
    config: Config
