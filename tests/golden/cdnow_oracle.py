"""Brute force over the CDNOW file: what every store answer about it must equal.

Shares no code with the package: csv, datetime and loops. Other suites import ``oracle``.
"""

from __future__ import annotations

import csv
import math
from collections import defaultdict
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

CSV = Path(__file__).resolve().parents[2] / "examples" / "cdnow" / "cdnow_sample.csv"
DEFINITIONS = CSV.with_name("definitions.yaml")
DAY_MS = 86_400_000
SEGMENTS = ("big-spenders", "lapsed-90d", "repeat-30d", "week-since")
# Instant (00:00 UTC) -> profiles, then the sizes of SEGMENTS in their order.
TABLE = {
    "1997-04-01": (2357, 8, 0, 154, 2272),
    "1997-07-01": (2357, 17, 1828, 42, 2285),
    "1998-01-01": (2357, 48, 1955, 37, 2327),
    "1998-06-30": (2357, 76, 2057, 29, 2330),
}


@dataclass(frozen=True)
class Answer:
    """Everything the demo's definitions say at one instant.

    computed: customer -> {lifetimeSpend, orders, lastPurchase (ms), spend30d}.
    """

    profiles: int
    members: dict[str, set[str]]
    computed: dict[str, dict[str, float | int]]


def at(day: str) -> int:
    """Midnight UTC of an ISO day, in ms."""
    return int(datetime.fromisoformat(day).replace(tzinfo=UTC).timestamp() * 1000)


def purchases(until: int | None = None) -> list[tuple[str, int, int, float]]:
    """(customer, ms, CDs, dollars) in file order; only those not later than ``until`` ms."""
    with CSV.open(newline="") as file:
        rows = [
            (r["customer_id"], at(r["date"]), int(r["number_of_cds"]), float(r["dollar_value"]))
            for r in csv.DictReader(file)
        ]
    return [row for row in rows if until is None or row[1] <= until]


def oracle(now: int) -> Answer:
    """Recompute all memberships and computed attributes at ``now`` ms from the file."""
    history: dict[str, list[tuple[int, float]]] = defaultdict(list)
    for customer, when, _, dollars in purchases(now):
        history[customer].append((when, dollars))
    members: dict[str, set[str]] = {name: set() for name in SEGMENTS}
    computed: dict[str, dict[str, float | int]] = {}
    for customer, bought in history.items():
        spend = math.fsum(dollars for _, dollars in bought)
        last = max(when for when, _ in bought)
        recent = [dollars for when, dollars in bought if now - 30 * DAY_MS <= when]
        computed[customer] = {
            "lifetimeSpend": spend,
            "orders": len(bought),
            "lastPurchase": last,
            "spend30d": math.fsum(recent),
        }
        claims = {
            "big-spenders": spend > 500,
            "lapsed-90d": last < now - 90 * DAY_MS,
            "repeat-30d": len(recent) >= 2,
            "week-since": last <= now - 7 * DAY_MS,
        }
        for name, holds in claims.items():
            if holds:
                members[name].add(customer)
    return Answer(len(history), members, computed)
