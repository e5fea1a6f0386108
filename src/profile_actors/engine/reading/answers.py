"""What reads return: identities, memberships, profiles, event pages, changes, status."""

from __future__ import annotations

from typing import Any

import msgspec

from profile_actors.engine.identity.identity import Identity


class Membership(msgspec.Struct, frozen=True, gc=False):
    """A profile in (or once in) a segment. Times are ms UTC.

    status: 'realized' | 'exited' | 'pending'. last_qualification_time: the instant of the last
    entry or exit. valid_until: the first later instant at which status differs if no data arrives.
    version: of the segment's definition that says so.
    """

    status: str
    last_qualification_time: int | None
    valid_until: int | None
    version: int = 1


class Profile(msgspec.Struct, frozen=True):
    """The subject as of ``now`` ms. segments: every segment it is or ever was in. computed: one key
    per computed attribute (None when null). computed_valid_until: likewise, first later change.
    pending: the computed attributes that have no answer (their value is None), and why."""

    identities: list[Identity]
    attributes: dict[str, Any]
    segments: dict[str, Membership]
    computed: dict[str, Any]
    computed_valid_until: dict[str, int | None]
    last_modified: int
    now: int
    pending: dict[str, str] = {}


class Preview(msgspec.Struct, frozen=True):
    """What a rule would say of everybody, as of ``now`` ms and one log position per partition.

    count: for a boolean rule (kind 'segment') the profiles for which it is true, for any other
    ('computed') those that have a value. sample: some of them; values: theirs, if 'computed'.
    profiles: how many were looked at.
    """

    kind: str
    count: int
    sample: list[Identity]
    values: list[Any]
    profiles: int
    positions: list[int]
    now: int | None


class EventPage(msgspec.Struct, frozen=True):
    """events: documents in order-key order. next: cursor of the following page, None on the
    last."""

    events: list[dict[str, Any]]
    next: str | None


class Change(msgspec.Struct, frozen=True, gc=False):
    """One difference of a membership ('exited'/'realized', None before the first) or of a computed
    attribute (old is not kept: None; new: its value at delivery).

    kind: 'membership' | 'computed'. cause: event | clock | definition | identity | late. at: ms.
    """

    partition: int
    position: int
    at: int
    kind: str
    name: str
    identity: Identity
    old: Any
    new: Any
    cause: str


class PartitionStatus(msgspec.Struct, frozen=True):
    """One partition's own account of itself. now, next_due: ms, None if unset or nothing is due.

    lag: log entries not yet folded plus sub-batches queued. degraded: rules without an answer, by
    kind and name ('segment loyal', 'computed visits') -> reason.
    stage_s: processor seconds of the writer's thread by stage.
    backfill: of definitions that are being taken, entries folded so far, and of how many.
    clock_goal: the instant (ms) that the clock is on its way to in several steps, else None.
    slices: of the work of one instant, the profiles that are done, and of how many.
    state_bytes: memory of what is kept per profile. state_by_kind: where it goes: identities;
    instants (when each membership last changed); levels (memberships); aggregates; attributes;
    lines (what falls due later), timers; kept_events; modified (when each profile last changed);
    and log_index, not in state_bytes: where the newest rows stand in the log, until the next
    checkpoint puts that into mapped files.
    """

    partition: int
    position: int
    now: int | None
    catalogue: int
    profiles: int
    events: int
    records: int
    late: int
    duplicate: int
    changes: int
    changes_by_clock: int
    lag: int
    next_due: int | None
    log_bytes: int
    feed_bytes: int
    state_bytes: int
    checkpoint: int
    degraded: dict[str, str] = {}
    stage_s: dict[str, float] = {}
    backfill: tuple[int, int] | None = None
    clock_goal: int | None = None
    slices: tuple[int, int] | None = None
    state_by_kind: dict[str, int] = {}
