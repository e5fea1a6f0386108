"""Deleting definitions, previewing rules, and which definitions are in force, over all partitions.

Theory: a deletion asks the partitions whether rows need the definition, then commits the next
version at the coordinator; telling the partitions is done as after ``apply``. Each step may run
twice: a definition that a later version lacks is deleted already.

A committed version is in force once every partition has taken it. While one back-fills for it, the
older one is: a driver that asked for the newer would have to wait for as long.

A preview adds up what every partition finds in its own log, each as of one position of its own.
"""

from __future__ import annotations

import time
from contextlib import suppress
from typing import TYPE_CHECKING

from profile_actors.actors.calls import call_all
from profile_actors.definitions.declared import Catalogue, Dataset, Namespace, name_of
from profile_actors.driver.connection import Connection
from profile_actors.engine.reading.answers import Preview
from profile_actors.errors import DefinitionError, Pending, StoreUnavailable

if TYPE_CHECKING:
    from profile_actors.engine.reading.rule_preview import PartPreview

OWED_PAUSE_S = 0.02
"""Between two looks at how far rescans have come."""


DELIVERY_PATIENCE_S = 2.0
"""Taking definitions without new rules takes milliseconds; what takes longer reads a log."""


def in_force(connection: Connection) -> Catalogue:
    """The newest definitions that every partition has taken, or takes at once.

    Partitions that know nothing of newer ones (their driver died, say) are told, and may still be
    at it when this returns. Cost: a call to each; DELIVERY_PATIENCE_S at most while one is silent.
    """
    newest: Catalogue = connection.coordinator.call("catalogue")
    try:
        actors = call_all(connection.partitions, "status", timeout_s=DELIVERY_PATIENCE_S)
    except StoreUnavailable:
        return newest  # nothing can be read from a partition that is away, nor waited for
    parts = [actor.partition for actor in actors if actor.partition is not None]
    behind = [part for part in parts if part.catalogue < newest.version]
    if not behind:
        return newest
    if all(part.backfill is None for part in behind):
        told = [connection.partitions[part.partition] for part in behind]
        with suppress(StoreUnavailable):
            call_all(told, "define", newest, timeout_s=DELIVERY_PATIENCE_S)
            return newest
    taken: Catalogue = connection.coordinator.call(
        "catalogue", min(part.catalogue for part in behind)
    )
    return taken


def newest(connection: Connection) -> Catalogue:
    """The definitions in force, which this driver uses from now on."""
    found = in_force(connection)
    if found.version > connection.catalogue.version:  # not behind this driver's own ``apply``
        connection.catalogue = found
    return connection.catalogue


def delete(connection: Connection, name: str, kind: str | None) -> None:
    """Delete one definition everywhere. Raises DefinitionError; nothing was changed then."""
    catalogue = connection.coordinator.call("catalogue")
    from profile_actors.rules.catalogue.change_check import find, removed

    item = find(catalogue, name, kind)
    removed(catalogue, item)  # refuses what is referred to, before a log is read for nothing
    if isinstance(item, Dataset | Namespace):
        word = "dataset" if isinstance(item, Dataset) else "namespace"
        answers = call_all(
            connection.partitions,
            "has_rows_of",
            word,
            name_of(item),
            timeout_s=connection.long_timeout_s,
        )
        if any(answers):
            what = "rows" if word == "dataset" else "identities"
            raise DefinitionError(
                f"expected a {word} without {what}, got {name!r}, of which the store has some - at"
                " delete; what came is kept, and needs its definition"
            )
    tell(connection, connection.coordinator.call("delete", name, kind, catalogue.version))


def tell(connection: Connection, catalogue: Catalogue) -> None:
    """Have every partition take the definitions, and wait until rules answer from the history.

    Until then this driver writes and reads under the old ones, since nobody waits for those.

    Raises Pending if rules that are evaluated profile by profile take longer than that.
    """
    end = time.monotonic() + connection.long_timeout_s
    call_all(connection.partitions, "define", catalogue, timeout_s=connection.long_timeout_s)
    connection.catalogue = catalogue
    for partition in connection.partitions:
        head, owed = partition.call("owed")
        while owed is not None and owed < head:
            if time.monotonic() > end:
                raise Pending(
                    f"expected new rules to be evaluated within {connection.long_timeout_s:g} s,"
                    f" got {partition.name} still at it - at apply; the definitions are applied,"
                    " and status() tells the lag"
                )
            time.sleep(OWED_PAUSE_S)
            _, owed = partition.call("owed")


def preview(connection: Connection, rule: str, sample: int) -> Preview:
    """What a rule would say of everybody. Raises RuleError."""
    arguments = (connection.catalogue.version, "rule", rule, sample)
    answers = call_all(
        connection.partitions, "preview", *arguments, timeout_s=connection.long_timeout_s
    )
    parts: list[PartPreview] = []
    for partition, answer in enumerate(answers):
        while answer is None:  # behind the definitions this driver knows
            connection.deliver(partition)
            remote = connection.partitions[partition]
            answer = remote.call("preview", *arguments, timeout_s=connection.long_timeout_s)
        parts.append(answer)
    kind = parts[0].kind
    shown = [
        (part.sample[i], part.values[i] if kind == "computed" else None)
        for i in range(max(len(part.sample) for part in parts))
        for part in parts
        if i < len(part.sample)
    ][:sample]
    return Preview(
        kind=kind,
        count=sum(part.count for part in parts),
        sample=[who for who, _ in shown],
        values=[value for _, value in shown] if kind == "computed" else [],
        profiles=sum(part.profiles for part in parts),
        positions=[part.position for part in parts],
        now=max((part.now for part in parts if part.now is not None), default=None),
    )
