"""Disks as people name them, those of nodes among them, and an even share of logs for each."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from profile_actors.actors.replicas.disk_labels import found_directories, labelled_nodes
from profile_actors.errors import CallerError

if TYPE_CHECKING:
    from profile_actors.driver.connection import Connection
    from profile_actors.driver.keeping.placement import Placement

LogName = int | Literal["ledger"]
"""Whose log: a partition's number, or the ledger's."""


def know_disks(connection: Connection, placement: Placement) -> str:
    """The disk with the catalogue, where disks are on nodes, else "". Those of nodes that were
    added are the store's from now on. Raises ConfigError for one of another store,
    StoreUnavailable."""
    home: str = connection.coordinator.call("copies", "labelled")
    if home:
        store = placement.settings.id
        found = found_directories(placement.path, labelled_nodes(), store, home)
        connection.coordinator.call("copies", "deal", found)
    return home


def disk_named(disk: str, disks: Mapping[str, str], is_on_node: bool) -> str:
    """The id of the disk that has this id, or directory, or is on a node with this address. disks:
    the directory of each. Raises CallerError, also where several are."""
    nodes = labelled_nodes() if is_on_node else {}
    path = str(Path(disk).resolve())
    found = [
        one for one, at in disks.items()
        if one == disk or (at == path and not nodes) or nodes.get(one, "").split(" ")[0] == disk
    ]  # fmt: skip
    if len(found) == 1:
        return found[0]
    got = f"{disk!r}, where {' and '.join(sorted(found))} are" if found else repr(disk)
    how = "start its node with its label" if nodes else "add it with store.add_disk(directory)"
    raise CallerError(
        f"expected a disk of the store, got {got} - at change_disk; known:"
        f" {', '.join(sorted(disks))}; {how}"
    )


def evened(at: dict[LogName, str], disks: list[str]) -> list[tuple[LogName, str, str]]:
    """Which logs to bring from where to where, so that each disk has as many as the others, or one
    more. at: where each is; logs elsewhere stay."""
    counts = dict.fromkeys(sorted(disks), 0)
    at = {whose: place for whose, place in at.items() if place in counts}
    for place in at.values():
        counts[place] += 1
    plan: list[tuple[LogName, str, str]] = []
    while True:
        most = max(counts, key=lambda path: (counts[path], path))
        least = min(counts, key=lambda path: (counts[path], path))
        if counts[most] - counts[least] < 2:
            return plan
        partition = [whose for whose, path in at.items() if path == most][-1]
        plan.append((partition, most, least))
        at[partition] = least
        counts[most] -= 1
        counts[least] += 1
