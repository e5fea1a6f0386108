"""The actors of a store's edges: one for each destination that the catalogue has, and no others.

Theory: an edge's actor is named after its destination and what that says, so a destination that has
changed has another actor. ``settle`` lists actors and directories before it reads the catalogue:
what is listed was begun for a definition that was committed, and has lost it since if it is not
there. Whoever begins an edge looks once more, since another driver may have deleted it meanwhile.

An edge that cannot be begun, or does not end, is its own trouble: the store goes on.
"""

from __future__ import annotations

import contextlib
import re
import time
from pathlib import Path
from typing import Any, Protocol

import msgspec
import ray
import xxhash
from ray.util import list_named_actors

from profile_actors.actors.calls import Remote, Session
from profile_actors.actors.shell import shell_of
from profile_actors.config import Config
from profile_actors.definitions.declared import EdgeDestination
from profile_actors.errors import ProfileActorsError
from profile_actors.storage.files.atomic_files import remove_tree
from profile_actors.storage.files.layout import StoreLayout
from profile_actors.storage.store_settings import StoreSettings

PREFIX = "edge-"


END_S = 10.0
"""For an edge to let go of its files, and for Ray to end its process."""


class Host(Protocol):
    """What of a store's placement is used here."""

    path: Path
    namespace: str
    config: Config
    settings: StoreSettings
    coordinator: Remote
    home: str

    def create(self, actor: Any, name: str, may_exist: bool, *args: Any, **options: Any) -> Remote:
        """Start a named actor of the store, or find it."""
        ...


def actor_name(destination: EdgeDestination) -> str:
    """The name of its actor."""
    said = xxhash.xxh3_64_hexdigest(msgspec.json.encode(destination))
    return f"{PREFIX}{destination.name}-{said}"


def directory_of(path: Path, name: str) -> Path:
    """Where a destination's files are, in a store's directory."""
    plain = re.sub(r"[^A-Za-z0-9_-]", "_", name)[:40]
    said = xxhash.xxh3_64_hexdigest(name.encode("utf-8", "surrogatepass"))[:8]
    return StoreLayout(path).edges / f"{plain}-{said}"


def named_actors(namespace: str, prefixes: tuple[str, ...]) -> list[str]:
    """The names of a store's actors that begin so."""
    found = list_named_actors(all_namespaces=True)
    return [
        one["name"]
        for one in found
        if one["namespace"] == namespace and one["name"].startswith(prefixes)
    ]


def named_edges(namespace: str) -> list[str]:
    """The names of the actors of a store's edges."""
    return named_actors(namespace, (PREFIX,))


def settle(host: Host) -> None:
    """Begin the edges that the newest definitions have, end others and delete their files. Raises
    StoreUnavailable if the definitions are not to be had."""
    if _settled(host):
        _settled(host)


def _settled(host: Host) -> bool:
    """Whether an edge was begun."""
    directory = StoreLayout(host.path).edges
    running = named_edges(host.namespace)
    found = list(directory.iterdir()) if directory.is_dir() else []
    destinations: dict[str, EdgeDestination] = host.coordinator.call("catalogue").destinations
    wanted = {actor_name(one): one for one in destinations.values()}
    for name in running:
        if name not in wanted:
            with contextlib.suppress(Exception):  # whoever settles next ends it
                _end(host, name)
    kept = {directory_of(host.path, name) for name in destinations}
    for path in found:
        if path not in kept:
            with contextlib.suppress(OSError):  # another driver deletes it, or it is no directory
                remove_tree(path)
    has_begun = False
    for name, destination in wanted.items():
        if name not in running:
            with contextlib.suppress(Exception):  # ``Store.edge`` tries again, and says why
                begun(host, destination)
                has_begun = True
    return has_begun


def begun(host: Host, destination: EdgeDestination) -> Remote:
    """The actor of an edge, started if it does not run."""
    from profile_actors.actors.edges.edge_accounts import EdgePlace
    from profile_actors.actors.edges.edge_actor import READ_THREADS, EdgeActor
    from profile_actors.engine.edges.edge_rows import ROW_FORM
    from profile_actors.storage.edge_files import EdgeIndex

    settings = host.settings
    about = EdgeIndex(
        0, settings.id, "", settings.clock, settings.hash_seed, settings.partitions,
        ttl_s=destination.ttl_s, policy=destination.policy, form=ROW_FORM,
    )  # fmt: skip
    path = str(directory_of(host.path, destination.name))
    place = EdgePlace(host.namespace, destination.name, path, about, host.config)
    how: dict[str, Any] = {"num_cpus": 0, "concurrency_groups": {"read": READ_THREADS}}
    actor: Any = ray.remote(**how)(shell_of(EdgeActor))
    options = {"label_selector": destination.labels} if destination.labels else {}
    return host.create(actor, actor_name(destination), True, place, **options)


def _end(host: Host, name: str) -> None:
    try:
        handle = ray.get_actor(name, namespace=host.namespace)
    except ValueError:
        return
    own = Session(str(host.path))
    with contextlib.suppress(ProfileActorsError):  # a dead one has nothing to let go of
        Remote(handle, name, END_S, own).call("stop")
    ray.kill(handle, no_restart=True)
    end = time.monotonic() + END_S
    while name in named_edges(host.namespace) and time.monotonic() < end:
        time.sleep(0.02)
