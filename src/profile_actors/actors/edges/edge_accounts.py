"""What an edge is started with, and what it says of itself."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from profile_actors.config import Config

if TYPE_CHECKING:
    from profile_actors.storage.edge_files import EdgeIndex


class EdgePlace(msgspec.Struct, frozen=True):
    """What an edge actor is started with. namespace: Ray's; about: the store and the destination,
    for its files, without the boot."""

    namespace: str
    name: str
    path: str
    about: EdgeIndex
    config: Config


class EdgeStatus(msgspec.Struct, frozen=True):
    """An edge's account of itself.

    profiles, bytes: what it has. is_complete: it has copied every profile since it began.
    progress: of a copy under way, the share of profiles that it has, 0 to 1; else 1. lag_ms: how
    long ago it last knew that it had everything. positions: per partition, the log entries that it
    has; lag_entries: how many more there were, over all partitions. brought: of a reactive
    edge, identities that it asked the store for since it was started. expired: profiles that left
    since it was started because nobody asked (``ttl_s``). trouble: why it does not get on, or
    empty.
    """

    profiles: int
    bytes: int
    is_complete: bool
    progress: float
    lag_ms: int
    positions: list[int]
    lookups: int
    expired: int
    trouble: str
    pid: int
    path: str
    lag_entries: int = 0
    brought: int = 0
