"""Erasing a person from a store, as a program asks for it.

Theory: who she is is asked of the ledger once everything that was sent is where it belongs. From
then on the coordinator has it, and it goes on by itself, whatever becomes of the caller
(``actors/logs/erasures``).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

import msgspec

from profile_actors.actors.calls import Remote, call_all
from profile_actors.driver.connection import Connection
from profile_actors.driver.identity_graphs import person_of, rest
from profile_actors.engine.identity.identity import Identity
from profile_actors.engine.identity.messages import LEDGER, Named
from profile_actors.errors import Pending
from profile_actors.storage.erasure.erasure_record import Erased
from profile_actors.storage.shipping.backups import left_of
from profile_actors.storage.shipping.known_backups import KnownBackup

LOOK_S = 0.1


COPIES_S = 10.0
"""How long edges are waited for: they copy everybody else anew."""


class Erasure(msgspec.Struct, frozen=True):
    """What ``delete_profile`` or ``purge`` did. number: counts the store's erasures.

    identities: those of the person, all of which are erased; of a purge none. rows: that were taken
    out of logs; of a person of several identities they were there twice. rejected: rows of the
    quarantine that named her. files: of the store's directory, written anew without her; beside
    them everything that is made from logs was deleted and made anew. edges: copies that still have
    her, and that are deleted as soon as their edge has another one, or runs again. standbys:
    directories of replicas that could not be reached; they are deleted before their disk is used
    again.

    backups: that were made or begun before, and are there still: they have her until
    `profile-actors backup prune` has removed them (docs/BACKUP.md). After a purge they may have
    rows that have left: those made since an earlier one have none of that one's.
    """

    number: int
    identities: list[Identity]
    rows: int
    rejected: int
    files: list[str]
    edges: list[str]
    standbys: list[str] = []
    backups: list[KnownBackup] = []


def delete_profile(
    connection: Connection, ledger: Callable[[], Remote | None], namespace: str, value: str
) -> Erasure:
    """Erase everything of a person, and wait until it is done. Raises DefinitionError for a
    namespace that is unknown, Pending if it takes longer than calls may: it goes on then."""
    with suppress(Pending):  # rows come and come: who she is by now is enough
        rest(connection, ledger)
    return _erased(connection, person_of(connection, ledger(), namespace, value), {})


def purge(connection: Connection) -> Erasure:
    """Take all rows out of logs that have left by retention, and wait until it is done. Raises
    Pending if it takes longer than calls may: it goes on then."""
    cutoffs = connection.coordinator.call("catalogue").expired
    return _erased(connection, [], cutoffs)


def _erased(connection: Connection, ones: Sequence[Named], cutoffs: dict[str, int]) -> Erasure:
    coordinator, at = connection.coordinator, "delete_profile" if ones else "purge"
    deadline = time.monotonic() + connection.long_timeout_s
    before = coordinator.call("backup", "known")
    while not (number := coordinator.call("erasures", "begin", ones, cutoffs)):
        _wait(deadline, "another erasure goes on", at)
    done: Erased | None
    while (done := coordinator.call("erasures", "result", number)) is None:
        _wait(deadline, "it goes on", at)
    call_all(connection.partitions, "hello", timeout_s=connection.long_timeout_s)
    latest = time.monotonic() + COPIES_S
    while time.monotonic() < latest:
        stale = coordinator.call("copies", "stale")
        done = coordinator.call("erasures", "result", number) or done
        if not (stale or done.copies):
            break
        time.sleep(LOOK_S)
    return Erasure(
        number,
        [Identity(one.namespace, one.value) for one in ones],
        sum(part.rows for part in done.parts.values()),
        done.rejected,
        [
            str(_directory(name) / file)
            for name, part in sorted(done.parts.items())
            for file in part.files
        ],
        list(done.copies),
        coordinator.call("copies", "stale"),
        left_of(before),
    )


def _wait(deadline: float, got: str, at: str) -> None:
    if time.monotonic() > deadline:
        raise Pending(
            f"expected an erasure to be over, got none yet: {got} - at {at}; it goes on by"
            " itself, ask again"
        )
    time.sleep(LOOK_S)


def _directory(name: str) -> Path:
    return Path("ledger") if name == LEDGER else Path("partitions") / name
