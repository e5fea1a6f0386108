"""Who is one person, as a store answers and is told: the identity graph, unlinking, and rest.

Theory: links are the ledger's. What withdraws one is a row like any other, in the log of the
partition that owns its first identity, so that the logs of partitions are the whole truth; the
ledger hears of it as of evidence. Without rows of several identities there is no ledger, and
nothing here costs a call.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Literal

import msgspec

from profile_actors.actors.calls import Remote, call_all
from profile_actors.driver.connection import Connection
from profile_actors.engine.identity.identity import Identity
from profile_actors.engine.identity.linking import Judged
from profile_actors.engine.identity.messages import CUT, Named, Op
from profile_actors.errors import CallerError, Pending
from profile_actors.ingest.identity_keys import normalised

if TYPE_CHECKING:
    from profile_actors.actors.mail.postman import Look

REST_PAUSE_S = 0.002
"""Between two looks whether messages are on their way."""


LONGEST_REST_PAUSE_S = 0.05


class IdentityLink(msgspec.Struct, frozen=True):
    """Two identities that stood together in rows, and what became of it.

    at: the newest time (ms) that they did. verdict: used; redundant (they are together without
    it); skipped (by: the unique namespace of which a person has one identity, or ``max_size``);
    withdrawn (by ``unlink``); void (one of the two is linked with too many people, or a
    placeholder's link).
    """

    one: Identity
    other: Identity
    at: int
    verdict: Literal["used", "redundant", "skipped", "withdrawn", "void"]
    by: str = ""


class IdentityGraph(msgspec.Struct, frozen=True):
    """A person: her identities, the canonical one first, and every link at one of them, the newest
    evidence first."""

    members: list[Identity]
    links: list[IdentityLink]


class Unlinked(msgspec.Struct, frozen=True):
    """What ``unlink`` did: evidence up to ``at`` (ms) is withdrawn, durably. is_shown: whether
    look-ups of the identities concerned say so already; if not, they will shortly."""

    at: int
    is_shown: bool


def person_of(
    connection: Connection, actor: Remote | None, namespace: str, value: str
) -> list[Named]:
    """All identities of a person, the canonical one first. actor: the ledger; None: there is none.
    Raises as ``identity_graph``."""
    named = named_by(connection, namespace, value)
    if actor is None:
        return [named]
    members, _ = _asked(connection, actor, named)
    return members


def identity_graph(
    connection: Connection, actor: Remote | None, namespace: str, value: str
) -> IdentityGraph:
    """Ask the ledger; None: there is none, so nobody is linked. Raises DefinitionError for an
    unknown namespace, StoreUnavailable."""
    named = named_by(connection, namespace, value)
    return graph_of(*([named], []) if actor is None else _asked(connection, actor, named))


def graph_of(members: list[Named], links: list[tuple[Named, Named, Judged]]) -> IdentityGraph:
    """What the ledger says, as it is answered."""
    return IdentityGraph(
        [_identity(one) for one in members],
        [
            IdentityLink(_identity(one), _identity(other), judged.time, judged.verdict, judged.by)
            for one, other, judged in links
        ],
    )


def _asked(
    connection: Connection, actor: Remote, named: Named
) -> tuple[list[Named], list[tuple[Named, Named, Judged]]]:
    """What the ledger says, under the definitions that are known here."""
    version = connection.catalogue.version
    found: tuple[list[Named], list[tuple[Named, Named, Judged]]] | None
    while (found := actor.call("identity_graph", version, named)) is None:
        actor.call("define", connection.catalogue)
    members, links = found
    return members, links


def unlink(
    connection: Connection,
    one: tuple[str, str],
    other: tuple[str, str] | None,
    at: int | None,
) -> Unlinked:
    """Withdraw evidence. at: ms; None: the store's now."""
    first = named_by(connection, *one)
    second = None if other is None else named_by(connection, *other)
    if second == first:
        raise CallerError(f"expected two identities that differ, got {one!r} twice - at unlink")
    if at is None:
        clocks = call_all(connection.partitions, "hello")
        known = [clock for clock in clocks if clock is not None]
        at = max(known, default=0)
        if connection.clock == "wall":
            at = max(at, time.time_ns() // 1_000_000)
    partition, _ = connection.owner(*one)
    ops = [Op(CUT, first, second, version=at)]
    while True:
        answer: bool | None = connection.partitions[partition].call(
            "withdraw", connection.catalogue.version, ops
        )
        if answer is not None:
            return Unlinked(at, answer)
        connection.deliver(partition)


def rest(connection: Connection, ledger: Callable[[], Remote | None]) -> list[int | None]:
    """Wait until everything that rows so far cause is in the profiles it belongs to; the clocks of
    the partitions, ms.

    Where no partition ever sent a message, one look is enough. Else two in a row that find no
    message on its way and no log longer: then none was sent between them. ledger: None while none
    runs. Raises Pending after ``Config.call_timeout_s``.
    """
    end = time.monotonic() + connection.config.call_timeout_s
    before: list[tuple[int, int]] | None = None
    pause_s = REST_PAUSE_S
    while True:
        looks: list[Look] = call_all(connection.partitions, "rest")
        now = [(one.position, one.waits) for one in looks]
        if any(one.talks or one.waits for one in looks):
            running = ledger()
            now += [] if running is None else [running.call("rest")]
        else:
            before = now
        on_their_way = sum(waits for _, waits in now)
        if not on_their_way and now == before:
            return [one.now for one in looks]
        if time.monotonic() > end:
            raise Pending(
                f"expected all messages to arrive within {connection.config.call_timeout_s:g} s,"
                f" got {on_their_way} on their way - at advance_to; the clock stands where it was,"
                " and status() says what they wait for"
            )
        if on_their_way:
            time.sleep(pause_s)
            pause_s = min(2 * pause_s, LONGEST_REST_PAUSE_S)
        before = now


def named_by(connection: Connection, namespace: str, value: str) -> Named:
    """The identity in full. Raises DefinitionError for an unknown namespace."""
    space = connection.namespace(namespace)
    _, key = connection.owner(namespace, value)
    return Named(*key, namespace, normalised(space, value))


def _identity(named: Named) -> Identity:
    return Identity(named.namespace, named.value)
