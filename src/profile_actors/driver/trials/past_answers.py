"""What the store would have answered at an earlier instant, asked of whoever has it in a log.

Theory: an answer as of an instant is a function of what each log had when its clock stood there.
Whoever owns the asked identity says which definitions were in force, the ledger who was one person
by them, the owners of her identities which rows they had, and one partition what rules said of
these. So an answer says what was known; what had been told but not heard yet, at an instant of the
wall clock, was not.
"""

from __future__ import annotations

import time
from collections import defaultdict

from profile_actors.actors.calls import Remote, call_all
from profile_actors.driver.connection import Connection
from profile_actors.driver.identity_graphs import IdentityGraph, graph_of, named_by
from profile_actors.driver.trials.dry_runs import asked_of
from profile_actors.engine.identity.messages import Named
from profile_actors.engine.reading.answers import Profile
from profile_actors.engine.reading.fields import Fields
from profile_actors.engine.trials.past_evidence import Together
from profile_actors.engine.trials.people_trials import OwnRows
from profile_actors.errors import CallerError
from profile_actors.ingest.identity_keys import BUCKET_SHIFT


def past_profile(
    connection: Connection,
    ledger: Remote | None,
    identity: tuple[str, str],
    at: int,
    fields: Fields,
) -> Profile | None:
    """See ``Store.profile``. at: ms; ledger: None while none runs; fields.policy: of then."""
    named = named_by(connection, *identity)
    members, _ = _together(connection, ledger, identity, at)
    if asked_of(connection, _owner(connection, named), "is_single", at, fields.policy):
        members = [named]
    rows = _rows_at(connection, members, at)
    person = [(one, rows[one]) for one in members]
    found: tuple[Profile | None] = asked_of(
        connection, _owner(connection, members[0]), "past", person, at, fields
    )
    return found[0]


def past_graph(
    connection: Connection, ledger: Remote | None, identity: tuple[str, str], at: int
) -> IdentityGraph:
    """See ``Store.identity_graph``."""
    return graph_of(*_together(connection, ledger, identity, at))


def _together(
    connection: Connection, ledger: Remote | None, identity: tuple[str, str], at: int
) -> Together:
    named = named_by(connection, *identity)
    _refuse_future(connection, at)
    if ledger is None:
        return [named], []
    version = asked_of(connection, _owner(connection, named), "version", at)
    timeout_s = connection.long_timeout_s
    found: Together = ledger.call("past_graph", named, at, version, timeout_s=timeout_s)
    return found


def _refuse_future(connection: Connection, at: int) -> None:
    """Raises CallerError for an instant of which the store does not know all yet."""
    clocks = call_all(connection.partitions, "hello")
    now = max((clock for clock in clocks if clock is not None), default=None)
    if connection.clock == "wall":
        now = max(now or 0, time.time_ns() // 1_000_000)
    if now is None or at > now:
        stands = "has not begun" if now is None else f"stands at {now} ms"
        raise CallerError(
            f"expected an instant that is past, got {at} ms - at as_of; the store's clock {stands},"
            " and rows of later instants may still come"
        )


def _rows_at(connection: Connection, ones: list[Named], at: int) -> dict[Named, OwnRows]:
    """The rows that the owners of identities had by then."""
    owned: defaultdict[int, list[Named]] = defaultdict(list)
    for one in ones:
        owned[_owner(connection, one)].append(one)
    out: dict[Named, OwnRows] = {}
    for partition, mine in owned.items():
        found = asked_of(connection, partition, "rows", [one.key for one in mine], at)
        out |= zip(mine, found, strict=True)
    return out


def _owner(connection: Connection, named: Named) -> int:
    return int(connection.assignment[named.k0 >> BUCKET_SHIFT])
