"""What the suites on real Ray share: one Ray for all, a shop's definitions, its rows."""

from __future__ import annotations

import logging
import os
import secrets
import shutil
import tempfile
from collections.abc import Iterator
from typing import Any

import pytest

import profile_actors as pf
from profile_actors.driver.keeping.head import lean_start

DAY = 86_400_000
START = 1_760_000_000_000
SPENT = 'xEvent[eventType = "purchase"].sum(price)'


@pytest.fixture(scope="session")
def ray_runtime() -> Iterator[None]:
    """One local Ray for the session, in a folder of its own; stores come and go in it."""
    os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(16))
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    os.environ["RAY_DEDUP_LOGS"] = "0"
    os.environ["RAY_worker_niceness"] = "0"  # noqa: SIM112
    import ray

    if ray.is_initialized():  # another folder's conftest brought the same fixture
        yield
        return
    # Sockets want a short path; nothing of this Ray is where another one would look for it.
    folder = tempfile.mkdtemp(prefix="pa-", dir="/tmp")
    os.environ["RAY_TMPDIR"] = folder
    with lean_start():
        ray.init(
            address="local",
            num_cpus=4,
            include_dashboard=False,
            log_to_driver=False,
            logging_level=logging.ERROR,
            object_store_memory=150 << 20,
        )
    yield
    ray.shutdown()
    shutil.rmtree(folder, ignore_errors=True)


def shop() -> list[pf.Definition]:
    """Purchases by customer, with an id; two segments, one of which time alone leaves."""
    return [
        pf.Namespace("CRMID", kind="cross_device", unique=True, priority=1),
        pf.Schema(
            "order",
            behavior="event",
            fields={"price": pf.Field("double", minimum=0), "sku": "string"},
        ),
        pf.Dataset(
            "orders",
            schema="order",
            identities={"customer": "CRMID"},
            timestamp="at",
            id="_id",
            event_type="purchase",
        ),
        pf.ComputedAttribute("orders", 'xEvent[eventType = "purchase"].count()'),
        pf.ComputedAttribute("spent", SPENT),
        pf.SegmentDefinition("big", f"{SPENT} > 100"),
        pf.SegmentDefinition("fresh", "xEvent[timestamp occurs <= 7 days before now].count() >= 1"),
    ]


def order(number: int, customer: int, at: int = START, price: float = 10.0) -> dict[str, Any]:
    """One row; ``number`` is its id."""
    return {
        "_id": f"o{number}",
        "customer": f"c{customer:04}",
        "at": at,
        "price": price,
        "sku": "x",
    }


def orders(
    count: int, customers: int = 50, first: int = 0, step: int = 1000
) -> list[dict[str, Any]]:
    """Rows in time order, customers taking turns; prices are whole, so sums are obvious."""
    return [
        order(n, n % customers, START + n * step, float(n % 7)) for n in range(first, first + count)
    ]


def answers(store: pf.Store, customers: int = 50) -> dict[str, Any]:
    """Everything a reader can ask, for comparing before and after."""
    found = store.profiles([("CRMID", f"c{n:04}") for n in range(customers)])
    return {
        "profiles": found,
        "members": {name: sorted(store.members(name)) for name in ("big", "fresh")},
        "events": [
            store.events("CRMID", f"c{n:04}", limit=1000).events for n in range(0, customers, 7)
        ],
        "changes": [
            (c.identity, c.name, c.old, c.new, c.at, c.cause)
            for c in store.changes()
            if c.kind == "membership"
        ],
    }
