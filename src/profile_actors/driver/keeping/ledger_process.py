"""The actor of a store's ledger: who begins it, and who finds it.

It is begun by the first partition that has evidence of links (``actors/mail``), and with a store
that has one.
"""

from __future__ import annotations

from collections.abc import Callable

import ray

from profile_actors.actors.actor_status import LedgerAccount, LedgerPlace
from profile_actors.actors.calls import Lost, Patience, Remote, Session
from profile_actors.actors.mail.peers import LEDGER_ACTOR
from profile_actors.driver.keeping.edge_processes import Host
from profile_actors.errors import StoreUnavailable
from profile_actors.storage.files.layout import StoreLayout

STATUS_PATIENCE_S = 1.0
"""How long the ledger is waited for by ``status``, from when partitions are asked as well."""


def begin_known(host: Host) -> None:
    """Start the ledger of a store that has one: it may still have something to tell."""
    if host.coordinator.call("copies", "has_ledger"):
        from profile_actors.actors.mail.ledger_actor import ledger_class
        from profile_actors.actors.replicas.disk_labels import pinned

        path = str(StoreLayout(host.path).ledger)
        place = LedgerPlace(host.namespace, path, host.config, host.home)
        host.create(ledger_class(), LEDGER_ACTOR, True, place, **pinned(host.home))


def running_ledger(namespace: str, session: Session, timeout_s: float) -> Remote | None:
    """The ledger's actor if it runs."""
    try:
        handle = ray.get_actor(LEDGER_ACTOR, namespace=namespace)
    except ValueError:
        return None
    return Remote(handle, LEDGER_ACTOR, timeout_s, session)


def begun_account(namespace: str, session: Session) -> Callable[[], LedgerAccount | None]:
    """Ask the ledger for its account of itself; what gives it, None where none runs. One that does
    not answer is told."""
    remote = running_ledger(namespace, session, STATUS_PATIENCE_S)
    if remote is None:
        return lambda: None
    patience, begun = Patience(STATUS_PATIENCE_S), remote.begin("status")

    def account() -> LedgerAccount:
        answer = begun
        while True:
            try:
                found: LedgerAccount = remote.finish(answer, patience)
            except Lost:
                try:
                    patience.wait_or_raise(remote.name)
                except StoreUnavailable as error:
                    return LedgerAccount(None, str(error), 0)
                answer = remote.begin("status")
            else:
                return found

    return account
