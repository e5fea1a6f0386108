"""Actors go where their files are: nodes are labelled with the disk that they have.

Theory: a node is started with ``--labels=profile-actors/disk=<id>``, where the id is what
``disk.json`` in the store's directory there says (``profile-actors disk-id DIR``). Identity follows
the disk, not the machine: an actor with such a ``label_selector`` waits while no node has its disk,
and Ray makes it again wherever the disk comes up. (A node's affinity would end it for good, or open
an empty directory elsewhere: decision 0065.)

The data directory has the same path on every node. Where it cannot, DATA names it in the
environment that the node's ``ray start`` has.

A store whose Ray has no node with a label of its own disk is not placed by labels and pays nothing.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import ray
from ray.exceptions import GetTimeoutError, RayError

from profile_actors.errors import ConfigError, LostLog, StoreUnavailable
from profile_actors.storage.files.layout import StoreLayout
from profile_actors.storage.replicas.standby_files import Disk, found_disk

LABEL = "profile-actors/disk"


DATA = "PROFILE_ACTORS_DATA"
"""Names a node's data directory where that is not the store's path."""


FIND_S = 30.0
"""How long a node that is alive is asked for its disk: its first process takes seconds."""


def own_label() -> str:
    """The disk that the label of this process's node names, "" if it has none."""
    labels: Any = ray.get_runtime_context().get_node_labels()
    return str(labels.get(LABEL, ""))


def pinned(disk: str) -> dict[str, Any]:
    """Options of an actor that has its files on a disk; of none for ""."""
    return {"label_selector": {LABEL: disk}} if disk else {}


def directory_here(known: str, disk: str) -> str:
    """The directory of a disk on this node, of which the catalogue knows another node's. Raises
    LostLog if another disk is there, or none."""
    named = os.environ.get(DATA)
    directory = named or known
    found = found_disk(Path(directory))
    if found is None or found.disk != disk:
        got = f"disk {found.disk}" if found is not None else "no disk.json"
        raise LostLog(
            f"expected disk {disk}, last seen at {known}, got {got} - at {directory} on"
            f" {socket.gethostname()}; nothing was written: start this node with the label of the"
            f" disk that it has (profile-actors disk-id {directory}), and the node that has disk"
            f" {disk} with its"
        )
    return directory


def labelled_nodes() -> dict[str, str]:
    """Which node, its address and number, has which disk, of the nodes that are alive. Raises
    ConfigError for a disk that two nodes say they have."""
    found: dict[str, str] = {}
    alive: Any = ray.nodes  # untyped
    for node in alive():
        disk = node.get("Labels", {}).get(LABEL, "")
        if not node["Alive"] or not disk:
            continue
        name = f"{node['NodeManagerAddress']} (node {node['NodeID'][:8]})"
        if disk in found:
            raise ConfigError(
                f"expected one node with disk {disk}, got two: {found[disk]} and {name} - at their"
                f" label {LABEL}; label each with what profile-actors disk-id says of its own"
                " directory (a node that was just lost is forgotten after some seconds)"
            )
        found[disk] = name
    return found


def own_disk(path: Path, nodes: Mapping[str, str]) -> str:
    """The disk with the catalogue, which is in this machine's directory; "" for a store that is not
    placed by labels. Raises ConfigError where that cannot be told."""
    here = found_disk(path) if nodes else None
    if here is None:
        return ""
    if here.disk not in nodes:
        known = ", ".join(f"{disk} on {node}" for disk, node in sorted(nodes.items()))
        raise ConfigError(
            f"expected a node with the label {LABEL}={here.disk}, got {known} - at {path}; start"
            " this machine's node with that label, and the store where its catalogue is"
        )
    return here.disk


def found_directories(path: Path, disks: Iterable[str], store: str, home: str) -> dict[str, str]:
    """The directory of each of these disks, asked of their nodes: those that this store has files
    on, or may have. home: the one with the catalogue. Raises ConfigError for another disk or store
    there, or another catalogue, StoreUnavailable."""
    look = ray.remote(num_cpus=0, max_retries=0)(_look)
    asked = {
        disk: look.options(**pinned(disk)).remote(str(path)) for disk in disks
    }  # all at the same time
    out: dict[str, str] = {}
    for disk, answer in asked.items():
        try:
            directory, host, found, is_home = ray.get(answer, timeout=FIND_S)
        except (GetTimeoutError, RayError) as error:
            raise StoreUnavailable(
                f"expected the node with disk {disk} to say where it is, got"
                f" {type(error).__name__} - at start; try again"
            ) from None
        if found is None:  # another store's node: its path is another
            continue
        if found.disk != disk:
            raise ConfigError(
                f"expected disk {disk}, as the node's label says, got disk {found.disk} - at"
                f" {directory} on {host}; start the node with the label of what it has"
            )
        if found.store not in ("", store):
            raise ConfigError(
                f"expected a disk of store {store}, of {path}, got one of store {found.store} - at"
                f" {directory} on {host}; a disk belongs to one store: name another directory"
            )
        if is_home and disk != home:
            raise ConfigError(
                "expected a disk to keep copies on, got one with a store's own catalogue, this"
                f" one's of before or another's - at {directory} on {host}; name another directory,"
                " or delete it if that store will never run again"
            )
        out[disk] = directory
    return out


def _look(path: str) -> tuple[str, str, Disk | None, bool]:
    directory = os.environ.get(DATA) or path
    layout = StoreLayout(Path(directory))
    return directory, socket.gethostname(), found_disk(layout.data), layout.catalogue.exists()
