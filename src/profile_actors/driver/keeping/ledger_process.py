"""The actor of a store's ledger: who begins it, and who finds it.

It is begun by the first partition that has evidence of links (``actors/mail``), by a driver that
asks about links, and with a store that has one.
"""

from __future__ import annotations

import ray

from profile_actors.actors.calls import Remote
from profile_actors.actors.mail.ledger_actor import LedgerPlace, ledger_class
from profile_actors.actors.mail.peers import LEDGER_ACTOR
from profile_actors.driver.keeping.edge_processes import Host
from profile_actors.storage.files.layout import StoreLayout


def ledger_of(host: Host) -> Remote:
    """The ledger's actor, started if it does not run."""
    place = LedgerPlace(host.namespace, str(StoreLayout(host.path).ledger), host.config)
    return host.create(ledger_class(), LEDGER_ACTOR, True, place)


def begin_known(host: Host) -> None:
    """Start the ledger of a store that has one: it may still have something to tell."""
    if StoreLayout(host.path).ledger.is_dir():
        ledger_of(host)


def named_ledger(namespace: str) -> list[str]:
    """Its name if it runs."""
    try:
        ray.get_actor(LEDGER_ACTOR, namespace=namespace)
    except ValueError:
        return []
    return [LEDGER_ACTOR]
