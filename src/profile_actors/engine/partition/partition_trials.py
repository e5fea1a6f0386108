"""What a partition can be asked of the stored log that nothing is kept of: previews, dry runs,
all rows of an identity, answers of earlier instants.

Each reads the log beside the writer, in the thread that asks.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from profile_actors.definitions import catalogue_changes
from profile_actors.definitions.declared import Catalogue
from profile_actors.engine.identity.messages import Named
from profile_actors.engine.partition.partition import Partition
from profile_actors.engine.reading.answers import Profile
from profile_actors.engine.reading.fields import Fields
from profile_actors.engine.reading.rule_preview import PartPreview
from profile_actors.engine.trials.held_rows import HeldPage, held_rows
from profile_actors.engine.trials.past_entries import definitions_at, entries_until, version_at
from profile_actors.engine.trials.past_profiles import past_profile
from profile_actors.engine.trials.people_trials import OwnRows, memberships, own_rows
from profile_actors.engine.trials.rule_trials import RuleTrial, try_rules
from profile_actors.rules.catalogue.merge_views import is_single
from profile_actors.rules.tree.plan import Key


def _rule(partition: Partition, wall: int | None, rule: str, sample: int) -> PartPreview:
    """The profiles that a rule would hold for."""
    return partition.preview(rule, wall, sample)


def _rules(
    partition: Partition, wall: int | None, tried: Catalogue, keys: list[Key], now: int | None
) -> RuleTrial:
    """What rules would say else under tried definitions."""
    return try_rules(partition.state, partition.log, partition.lock, tried, keys, now)


def _rows(
    partition: Partition, wall: int | None, keys: list[tuple[int, int]], at: int | None = None
) -> list[OwnRows]:
    """The rows of identities; those of an earlier instant."""
    return own_rows(partition.state, partition.log, partition.lock, keys, at)


def _people(
    partition: Partition, wall: int | None, people: list[list[OwnRows]], now: int | None
) -> list[list[str] | None]:
    """The segments that people would be in."""
    return memberships(partition.state, partition.log, people, now)


def _held(
    partition: Partition,
    wall: int | None,
    key: tuple[int, int],
    is_record: bool,
    after: tuple[int, int],
    upto: int | None,
    limit: int,
) -> HeldPage:
    """A page of all rows of an identity."""
    return held_rows(
        partition.state, partition.log, partition.lock, key, is_record, after, upto, limit
    )


def _version(partition: Partition, wall: int | None, at: int) -> int:
    """The version of the definitions that were in force at an instant."""
    return version_at(partition.log, entries_until(partition.log, partition.position, at))


def _is_single(partition: Partition, wall: int | None, at: int, policy: str | None) -> bool:
    """Whether profiles were single identities by a policy of then. Raises DefinitionError."""
    entries = entries_until(partition.log, partition.position, at)
    return is_single(catalogue_changes.decode(definitions_at(partition.log, entries)), policy)


def _past(
    partition: Partition,
    wall: int | None,
    person: list[tuple[Named, OwnRows]],
    at: int,
    fields: Fields,
) -> tuple[Profile | None]:
    """What rules said of a person at an instant. A tuple: None would say that definitions here are
    older."""
    return (past_profile(partition.state, partition.log, partition.lock, person, at, fields),)


TRIALS: dict[str, Callable[..., Any]] = {
    "rule": _rule, "rules": _rules, "rows": _rows, "people": _people, "held": _held,
    "version": _version, "past": _past, "is_single": _is_single,
}  # fmt: skip
"""By name; given the partition and its wall clock's ms (None on the event clock)."""
