"""What reads return: identities, memberships, profiles, event pages, changes, status."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any, Protocol, Self

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


class Source(msgspec.Struct, frozen=True, gc=False):
    """Where an attribute is from: the dataset and identity that stated it, and when (ms UTC)."""

    dataset: str
    identity: Identity
    time: int


class ProfileRows(Protocol):
    """Profiles that share one answer, one a row."""

    def field(self, name: str, row: int) -> Any:
        """One field of one profile."""


@dataclass(frozen=True)
class Profile:
    """The subject as of ``now`` ms. segments: every segment it is or ever was in. computed: one key
    per computed attribute (None when null). computed_valid_until: likewise, first later change.
    pending: the computed attributes that have no answer (their value is None), and why. sources:
    where each attribute is from, by dotted path (of a map: each key), if that was asked for.

    Of what a store answers, each field is made when it is first read: of a thousand profiles that
    were asked for, few are read whole. Until they are, they share and keep their answer's columns.
    """

    identities: list[Identity]
    attributes: dict[str, Any]
    segments: dict[str, Membership]
    computed: dict[str, Any]
    computed_valid_until: dict[str, int | None]
    last_modified: int
    now: int
    pending: dict[str, str] = field(default_factory=dict)
    sources: dict[str, Source] = field(default_factory=dict)

    @classmethod
    def of(cls, answer: ProfileRows, row: int) -> Self:
        """The profile of a row, whose fields are made when they are read. Any thread."""
        made = object.__new__(cls)
        made.__dict__["_made_of"] = answer, row
        return made

    if not TYPE_CHECKING:  # or every misspelt field would be one

        def __getattr__(self, name: str) -> Any:
            own = self.__dict__
            source = own.get("_made_of")
            if source is not None and name in self.__dataclass_fields__:
                answer, row = source
                value = own.setdefault(name, answer.field(name, row))
                if len(own) > len(self.__dataclass_fields__):
                    own.pop("_made_of", None)
                return value
            if name in own:  # another thread has made it meanwhile
                return own[name]
            raise AttributeError(f"'Profile' object has no attribute {name!r}")

    def __getstate__(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in self.__dataclass_fields__}


PROFILE_FIELDS = tuple(one.name for one in fields(Profile))


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
    """events: documents in order-key order. next: cursor of the following page, None on the last.
    elsewhere: of a person who is at home in another partition, the key of her smallest identity
    and that of her book, to be asked for there; never in what a store answers."""

    events: list[dict[str, Any]]
    next: str | None
    elsewhere: tuple[tuple[int, int], tuple[int, int]] | None = None


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
    expired: rows of events that have left by their dataset's retention.
    backfill: of definitions that are being taken, entries folded so far, and of how many.
    clock_goal: the instant (ms) that the clock is on its way to in several steps, else None.
    slices: of the work of one instant, the profiles that are done, and of how many.
    state_bytes: memory of what is kept per profile. state_by_kind: where it goes: identities;
    instants (when each membership last changed); levels (memberships); aggregates; attributes;
    lines (what falls due later), timers; kept_events; modified and touches (when, and after how
    many entries, each profile last changed);
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
    expired: int = 0
