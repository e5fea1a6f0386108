"""What a store is asked to be, and whether that agrees with what it is.

Theory: better said before Ray is started than after. What may never change (partitions, clock) is
read from ``store.json``, for people; the catalogue decides, and is asked again when it is open. A
process has each store open once (``claim``).
"""

from __future__ import annotations

import os
import secrets
import threading
from pathlib import Path

from profile_actors.actors.actor_status import CoordinatorPlace
from profile_actors.actors.wall_clock import wall_ms
from profile_actors.config import Config
from profile_actors.driver.terminal import instant_text
from profile_actors.errors import ConfigError
from profile_actors.ingest.identity_keys import BUCKETS
from profile_actors.storage.files.atomic_files import DIRECTORY_MODE
from profile_actors.storage.files.layout import StoreLayout
from profile_actors.storage.store_settings import StoreSettings, load_settings_file

DEFAULT_PARTITIONS_MAX = 8
"""Partitions of a new store unless told otherwise: one per core, up to this."""


EVENT_SEED = 1
"""Seed of identity keys where replays shall be equal; elsewhere nobody can foresee a partition."""


_OPEN: dict[Path, int] = {}
"""Directories of the stores that this process has open, and since when (ms)."""


_CLAIMING = threading.Lock()


def wanted_place(
    path: Path, partitions: int | None, clock: str | None, config: Config
) -> CoordinatorPlace:
    """What to open, checked as far as that goes without opening it. Raises ConfigError."""
    if clock not in (None, "wall", "event"):
        raise ConfigError(f"expected clock 'wall' or 'event', got {clock!r} - at start")
    is_number = isinstance(partitions, int) and not isinstance(partitions, bool)
    if partitions is not None and not (is_number and 1 <= partitions <= BUCKETS):
        raise ConfigError(f"expected 1 to {BUCKETS} partitions, got {partitions!r} - at start")
    if not isinstance(config, Config):
        raise ConfigError(f"expected a pf.Config, got {config!r} - at start")
    kept = load_settings_file(StoreLayout(path).settings)
    if kept is not None:  # better said before Ray is started than after
        check_agreed(path, kept, partitions=partitions, clock=clock)
    try:
        path.mkdir(DIRECTORY_MODE, parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(
            f"expected a directory, or a place for one, got {error.strerror} - at {path}; name"
            " another"
        ) from None
    new = StoreSettings(
        partitions=partitions or min(os.cpu_count() or 1, DEFAULT_PARTITIONS_MAX),
        clock="event" if clock == "event" else "wall",
        # On the event clock a replay repeats everything, the order between partitions included.
        hash_seed=EVENT_SEED if clock == "event" else secrets.randbits(63),
        created=wall_ms(),
    )
    return CoordinatorPlace(str(path), new, config)


def check_agreed(path: Path, settings: StoreSettings, **asked: object) -> None:
    """Raises ConfigError if a store is asked to be what it was not made as. None asks nothing."""
    for name, wanted in asked.items():
        kept = getattr(settings, name)
        if wanted is not None and wanted != kept:
            raise ConfigError(
                f"expected {name}={kept!r} as the store was made with, got {wanted!r} - at {path};"
                f" leave {name} out to open it, or start elsewhere"
            )


def check_config(path: Path, asked: Config | None, running: Config) -> None:
    """Raises ConfigError if a running store is asked to be run otherwise. None asks nothing."""
    if asked is None or asked == running:
        return
    differ = [
        name for name in Config.__struct_fields__ if getattr(asked, name) != getattr(running, name)
    ]
    told = ", ".join(f"{name}={getattr(running, name)!r}" for name in differ)
    got = ", ".join(f"{name}={getattr(asked, name)!r}" for name in differ)
    raise ConfigError(
        f"expected the Config that the store runs with ({told}), got {got} - at {path}; leave"
        " config out, or stop the store and start it anew with this one"
    )


def claim(path: Path) -> None:
    """Raises ConfigError if this process has the store open, or another thread opens it."""
    with _CLAIMING:
        if path in _OPEN:
            raise ConfigError(
                f"expected a store that this process has not open, got one that process"
                f" {os.getpid()} has open since {instant_text(_OPEN[path])} - at {path}; use the"
                " Store that start() returned, or close it first"
            )
        _OPEN[path] = wall_ms()


def unclaim(path: Path) -> None:
    with _CLAIMING:
        _OPEN.pop(path, None)


os.register_at_fork(after_in_child=_OPEN.clear)  # the child has none of its parent's stores open
