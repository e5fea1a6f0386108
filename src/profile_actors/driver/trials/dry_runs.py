"""``store.dry_run``: what a changed definition would do to who there is, nothing saved.

Theory: rules and merge policies change what is said of each profile, so partitions compare it
before and after, each over its own log (``engine/trials/rule_trials``). Linking rules change who is
one profile: the ledger judges all its evidence by them, as it does when they are applied, and where
people differ, their memberships are compared: those of the people as they are, and as they would
be, over the rows of their identities.

Rows go on coming meanwhile; each partition is looked at as of one position.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import msgspec

from profile_actors.actors.calls import Remote, call_all
from profile_actors.definitions.catalogue_changes import extended
from profile_actors.definitions.declared import (
    Catalogue,
    ComputedAttribute,
    Definition,
    LinkingRules,
    MergePolicy,
    Namespace,
    Relationship,
    SegmentDefinition,
    label_of,
)
from profile_actors.driver.connection import Connection
from profile_actors.driver.definition_edits import newest
from profile_actors.engine.identity.messages import Named
from profile_actors.engine.trials.linking_trials import LinkingTrial, Person, Region, regions
from profile_actors.engine.trials.people_trials import OwnRows
from profile_actors.engine.trials.rule_trials import RuleTrial
from profile_actors.errors import DefinitionError
from profile_actors.ingest.identity_keys import BUCKET_SHIFT
from profile_actors.rules.catalogue.change_check import check_change
from profile_actors.rules.catalogue.one_rule import reached
from profile_actors.rules.tree.plan import WORDS

PEOPLE_PER_CALL = 200


class DryRun(msgspec.Struct, frozen=True):
    """What a definition would change if it were applied now.

    affected: the definitions whose members or values it may change, as "segment 'gold'". entered,
    left: how many profiles would come into and leave a segment, by name, those of 0 left out.
    values: of how many profiles a computed attribute would be another. split: people of several
    identities who would come apart; joined: people who would be made of several of now's.
    profiles: how many were looked at; of linking rules, the people of now and then whose
    memberships were compared (``Config.max_dry_run_people``: if fewer than differ, the counts of
    memberships are those of these alone).
    """

    affected: list[str]
    entered: dict[str, int]
    left: dict[str, int]
    values: dict[str, int]
    split: int
    joined: int
    profiles: int


NOTHING = DryRun([], {}, {}, {}, 0, 0, 0)


def dry_run(
    connection: Connection, ledger: Callable[[], Remote | None], definition: Definition
) -> DryRun:
    """See ``Store.dry_run``. ledger: None while none runs."""
    known = newest(connection)
    tried = extended(known, [definition])
    if tried is known:
        return NOTHING
    check_change(known, tried)
    if isinstance(definition, LinkingRules | Namespace):
        return _of_people(connection, ledger(), tried)
    rules = SegmentDefinition | ComputedAttribute | MergePolicy | Relationship
    if not isinstance(definition, rules):
        raise DefinitionError(
            "expected a segment, a computed attribute, a merge policy, a relationship, linking"
            f" rules or a namespace, got {label_of(definition)} - at dry_run; it changes nothing"
            " that is stored"
        )
    return _of_rules(connection, known, tried)


def _of_rules(connection: Connection, known: Catalogue, tried: Catalogue) -> DryRun:
    keys = reached(known, tried)
    if not keys:
        return NOTHING
    now = _now(connection)
    count = len(connection.partitions)
    parts: list[RuleTrial] = [
        asked_of(connection, p, "rules", tried, keys, now) for p in range(count)
    ]
    totals = [Counter[str](), Counter[str](), Counter[str]()]
    for part in parts:
        for total, some in zip(totals, (part.entered, part.left, part.values), strict=True):
            total.update(some)
    entered, left, values = ({name: n for name, n in one.items() if n} for one in totals)
    return DryRun(
        [f"{WORDS[kind]} {name!r}" for kind, name in keys],
        entered, left, values, 0, 0, sum(part.profiles for part in parts),
    )  # fmt: skip


def _of_people(connection: Connection, ledger: Remote | None, tried: Catalogue) -> DryRun:
    if ledger is None:
        return NOTHING
    timeout_s = connection.long_timeout_s
    found: LinkingTrial = ledger.call("tried", tried, timeout_s=timeout_s)
    now = _now(connection)

    def inside(people: list[Person]) -> list[list[str] | None]:
        rows = _rows_of(connection, {one for person in people for one in person})
        wanted = [[rows[one] for one in person] for person in people]
        names: list[list[str] | None] = asked_of(connection, 0, "people", wanted, now)
        return names

    return compared(found, inside)


def compared(
    trial: LinkingTrial, inside: Callable[[list[Person]], list[list[str] | None]]
) -> DryRun:
    """Two ways to put the same identities together, by what they change. inside: the segments of
    each person; None for no profile."""
    entered, left = Counter[str](), Counter[str]()
    count = 0
    for were, will_be in _batches(regions(trial.before, trial.after)):
        count += len(were) + len(will_be)
        was, now = (
            {
                (name, person[0])
                for person, names in zip(people, inside(people), strict=True)
                for name in names or ()
            }
            for people in (were, will_be)
        )
        entered.update(name for name, _ in now - was)
        left.update(name for name, _ in was - now)
    names = sorted(entered.keys() | left.keys())
    affected = [f"{WORDS['segment']} {name!r}" for name in names]
    return DryRun(affected, dict(entered), dict(left), {}, trial.split, trial.joined, count)


def _batches(found: Iterable[Region]) -> Iterator[Region]:
    """Regions together, so many people at a time."""
    were: list[Person] = []
    will_be: list[Person] = []
    for some, others in found:
        were += some
        will_be += others
        if len(were) + len(will_be) >= PEOPLE_PER_CALL:
            yield were, will_be
            were, will_be = [], []
    if were:
        yield were, will_be


def _rows_of(connection: Connection, ones: set[Named]) -> dict[Named, OwnRows]:
    """The rows of identities, from the partitions that own them."""
    owned: defaultdict[int, list[Named]] = defaultdict(list)
    for one in sorted(ones):
        owned[int(connection.assignment[one.k0 >> BUCKET_SHIFT])].append(one)
    out: dict[Named, OwnRows] = {}
    for partition, mine in owned.items():
        found = asked_of(connection, partition, "rows", [one.key for one in mine])
        out |= zip(mine, found, strict=True)
    return out


def _now(connection: Connection) -> int | None:
    """The newest of the partitions' instants, as of which all are asked."""
    clocks = call_all(connection.partitions, "hello")
    return max((clock for clock in clocks if clock is not None), default=None)


def asked_of(connection: Connection, partition: int, name: str, *args: Any) -> Any:
    """One of the partition's trials, under the definitions that this driver knows at least."""
    while True:
        answer = connection.partitions[partition].call(
            "preview", connection.catalogue.version, name, *args,
            timeout_s=connection.long_timeout_s,
        )  # fmt: skip
        if answer is not None:
            return answer
        connection.deliver(partition)
