"""What a partition can be asked of the stored log that nothing is kept of: previews, dry runs,
all rows of an identity.

Each reads the log beside the writer, in the thread that asks.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from profile_actors.definitions.declared import Catalogue
from profile_actors.engine.partition.partition import Partition
from profile_actors.engine.reading.rule_preview import PartPreview
from profile_actors.engine.trials.held_rows import HeldPage, held_rows
from profile_actors.engine.trials.people_trials import OwnRows, memberships, own_rows
from profile_actors.engine.trials.rule_trials import RuleTrial, try_rules
from profile_actors.rules.tree.plan import Key


def _rule(partition: Partition, wall: int | None, rule: str, sample: int) -> PartPreview:
    """The profiles that a rule would hold for."""
    return partition.preview(rule, wall, sample)


def _rules(
    partition: Partition, wall: int | None, tried: Catalogue, keys: list[Key], now: int | None
) -> RuleTrial:
    """What rules would say else under tried definitions."""
    return try_rules(partition.state, partition.log, partition.lock, tried, keys, now)


def _rows(partition: Partition, wall: int | None, keys: list[tuple[int, int]]) -> list[OwnRows]:
    """The rows of identities."""
    return own_rows(partition.state, partition.log, partition.lock, keys)


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


TRIALS: dict[str, Callable[..., Any]] = {
    "rule": _rule, "rules": _rules, "rows": _rows, "people": _people, "held": _held,
}  # fmt: skip
"""By name; given the partition and its wall clock's ms (None on the event clock)."""
