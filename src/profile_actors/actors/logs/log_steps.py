"""What a sequencer does for a backup or by hand, in its process: it alone may read its open log.

Theory: every step may be asked again, and what was copied is there, so a call that was lost with
its process costs nothing that was done. Copying a long log takes many calls, each of some seconds.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

from profile_actors.actors.hooks import Hook
from profile_actors.actors.logs.compactor import Compactor
from profile_actors.actors.logs.scrubber import Scrubber
from profile_actors.actors.replicas.shipped_log import ShippedLog
from profile_actors.engine.shipping.frontiers import mails_of
from profile_actors.errors import StorageFull, StoreUnavailable
from profile_actors.storage.files.atomic_files import FULL_ERRNOS
from profile_actors.storage.shipping.depot import Depot
from profile_actors.storage.shipping.log_shipping import LogShipping

CALL_S = 10.0
"""After so long a copy answers with what it has, to be asked again from there."""


class Enlisted(Protocol):
    """An ``EnlistedLog``. path: of its directory. since: the epoch under which this copy of the log
    came in force, 0 for the first."""

    path: str
    log: ShippedLog
    scrubber: Scrubber
    compactor: Compactor

    @property
    def since(self) -> int: ...


def log_step(
    enlisted: Enlisted, pause: Callable[[], object], hook: Hook, step: str, *args: Any
) -> Any:
    """One of: ``checkpoint``, ``head``, ``mails`` (``frontiers.mails_of``), ``ship``; of what is
    copied (``LogShipping``) it answers what it has and how many bytes were new. Or ``scrub``, a
    part of a pass (``scrubber``), or ``compact``, some seconds of it (``compactor``), which have
    nothing to do with backups.

    pause: called between pieces of work; hook: before and after each write. Raises CorruptLog,
    StorageFull, StoreUnavailable if the place is not reached.
    """
    if step == "scrub":
        (mark,) = args
        return enlisted.scrubber.step(mark, pause)
    if step == "compact":
        return enlisted.compactor.step()
    if step == "head":
        return enlisted.log.head()
    if step == "mails":
        return mails_of(enlisted.log.local, *args)
    assert step in ("checkpoint", "ship"), step
    uri, *rest = args
    with reached(uri):
        shipping = LogShipping(enlisted.log.local, Path(enlisted.path), Depot(uri, hook), pause)
        if step == "checkpoint":
            return shipping.checkpoint(), shipping.new_bytes
        deadline = time.monotonic() + CALL_S
        name, index, end, base = rest
        if base is not None and base.epoch < enlisted.since:
            base = None  # of another copy, whose log segments have the same names
        found = shipping.ship(name, index, end, base, lambda: time.monotonic() > deadline)
        return found, shipping.new_bytes


@contextmanager
def reached(uri: str) -> Iterator[None]:
    """While a place is read or written. Raises StorageFull, StoreUnavailable for what OSErrors
    say."""
    try:
        yield
    except OSError as error:
        if error.errno in FULL_ERRNOS:
            raise StorageFull(
                f"expected room for a backup, got '{error}' - at {uri}; free some (`profile-actors"
                " backup prune`), then back up again: what was copied is there"
            ) from error
        raise StoreUnavailable(
            f"expected to reach the place of a backup, got {type(error).__name__}: {error} - at"
            f" {uri}; check that it is there and may be written, then try again"
        ) from error
