"""What does an event of a profile with a million others cost, and whom does it hold up?

One hot profile (a bot, a shared "anonymous" id) beside many quiet ones, in one partition, with
every operator over rows in order: distinct counts (lifetime and in a window), first and last,
extremes in a window of which each that leaves is the greatest, counts and sums. Four kinds of rows,
in blocks of the same size, from the hot profile and from quiet ones in turn: in order, late within
the window, repeated, and in order all in one second. Costs are core time of the partition per
event; the answers of the hot profile and of some quiet ones are checked against numpy over the raw
rows before they are told. Rows of quiet profiles are measured before the hot one has any history as
well. The run fails where a row of the hot profile costs more than HOT_RATIO rows of quiet ones, or
where a row of quiet ones costs more than OTHERS_RATIO times what it did before.

And whom does a look-up of it hold up? It folds half a million rows ahead. Quiet profiles are looked
up, and rows written, first alone and then beside a thread that looks up nothing else; in wall time.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import threading
import time
from typing import Any

import numpy as np
import pyarrow as pa

from machine import note, say
from profile_actors.actors.mail.interpreter import SWITCH_INTERVAL_S
from profile_actors.config import Config
from rules_engine import Declared, Engine, check, user_id
from workload import NAMESPACE, options

START_MS = 1_709_251_200_000
HOUR_MS = 3_600_000
BLOCK = 1_000
ROUNDS = 12
READS = 400
HOT = 0
HOT_RATIO = 4.0
OTHERS_RATIO = 4.0
IN_WINDOW = "xEvent[timestamp occurs <= 1 hour before now]"
ATTRIBUTES = {
    "texts": "xEvent.s.distinct().count()",
    "texts_1h": f"{IN_WINDOW}.s.distinct().count()",
    "numbers": "xEvent.n.distinct().count()",
    "first": "xEvent.min(timestamp)",
    "last": "xEvent.max(timestamp)",
    "most_1h": f"{IN_WINDOW}.max(n)",
    "least_1h": f"{IN_WINDOW}.min(n)",
    "count_1h": f"{IN_WINDOW}.count()",
    "sum": "xEvent.sum(n)",
}


def declared() -> Declared:
    """One event dataset with an id, the attributes, and a segment on each kind of operator."""
    return {
        "namespaces": [{"code": NAMESPACE, "kind": "cross_device"}],
        "schemas": [
            {"name": "hit", "behavior": "event", "fields": {"s": "string", "n": "integer"}}
        ],
        "datasets": [
            {
                "name": "hits", "schema": "hit", "identities": {"user_id": NAMESPACE},
                "timestamp": "timestamp", "id": "_id", "event_type": "hit",
            }
        ],
        "computed_attributes": [{"name": n, "rule": rule} for n, rule in ATTRIBUTES.items()],
        "segments": [
            {"name": "many", "rule": f"{ATTRIBUTES['texts']} > 100"},
            {"name": "high", "rule": f"{ATTRIBUTES['most_1h']} > -1000"},
        ],
    }  # fmt: skip


class Rows:
    """Rows as they are sent, and what must be known of them after."""

    def __init__(self, quiet: int, spacing_ms: float) -> None:
        self.quiet, self.spacing = quiet, spacing_ms
        self.serial = 0
        self.sent: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []

    def block(self, user: np.ndarray, when: np.ndarray, *, is_new: bool = True) -> pa.Table:
        """Rows whose number falls from row to row, so that the oldest is always the greatest."""
        number = np.arange(self.serial, self.serial + len(user))
        if is_new:
            self.serial += len(user)
            self.sent.append((user, when, number))
        return pa.table({
            "user_id": [user_id(u) for u in user.tolist()],
            "timestamp": when,
            "_id": [f"e{i}" for i in number.tolist()],
            "s": [f"text {i}" for i in number.tolist()],
            "n": -number,
        })  # fmt: skip

    def expected(self, user: int, now: int) -> dict[str, Any]:
        """The attributes of one user, by numpy over everything that was sent."""
        mine = [(when[u == user], n[u == user]) for u, when, n in self.sent]
        when, number = (np.concatenate([part[i] for part in mine]) for i in range(2))
        inside = when >= now - HOUR_MS
        return {
            "texts": len(when), "texts_1h": int(inside.sum()), "numbers": len(when),
            "first": int(when.min()), "last": int(when.max()),
            "most_1h": -int(number[inside].min()) if inside.any() else None,
            "least_1h": -int(number[inside].max()) if inside.any() else None,
            "count_1h": int(inside.sum()), "sum": -int(number.sum()),
        }  # fmt: skip


def spent(engine: Engine, table: pa.Table, *, repeated: bool = False) -> float:
    """Core microseconds of the partition per row of one entry."""
    batch = engine.batch("hits", table)
    began = time.process_time()
    (reply,) = engine.partition.commit([batch], None)
    took: float = time.process_time() - began
    taken = reply.duplicate if repeated else reply.accepted
    if reply.status != "ok" or taken != table.num_rows:
        raise SystemExit(f"expected {table.num_rows} rows taken, got {reply}")
    return 1e6 * took / len(table)


def load(engine: Engine, rows: Rows, users: np.ndarray, start_ms: int, what: str) -> None:
    """These users' rows, one after the other from start_ms on."""
    block = 50_000
    for start in range(0, len(users), block):
        part = users[start : start + block]
        steps = np.arange(start, start + len(part)) * rows.spacing
        engine.commit(engine.batch("hits", rows.block(part, start_ms + steps.astype(np.int64))))
        note(f"  {start + len(part)} events of {what}")


def alone(engine: Engine, rows: Rows, now: int, rng: np.random.Generator) -> float:
    """Median core microseconds of quiet profiles' rows in order, up to ``now``."""
    costs = []
    for turn in range(ROUNDS):
        steps = (np.arange(1, BLOCK + 1) + (turn - ROUNDS) * BLOCK) * rows.spacing
        people = rng.integers(1, rows.quiet, BLOCK)
        costs.append(spent(engine, rows.block(people, now + steps.astype(np.int64))))
    return statistics.median(costs)


def measure(engine: Engine, rows: Rows, now: int, rng: np.random.Generator) -> dict[str, Any]:
    """Medians by kind of row, the hot profile's and the quiet ones' blocks in turn."""
    costs: dict[tuple[str, str], list[float]] = {}
    for _ in range(ROUNDS):
        for kind in ("in_order", "late", "repeated", "one_second"):
            for whose in ("hot", "quiet"):
                people = (
                    np.full(BLOCK, HOT) if whose == "hot" else rng.integers(1, rows.quiet, BLOCK)
                )
                if kind == "late":
                    when = now - rng.integers(1, HOUR_MS, BLOCK)
                else:
                    steps = np.arange(1, BLOCK + 1)
                    when = now + (steps * rows.spacing).astype(np.int64)
                    if kind == "one_second":
                        when[:] = (now // 1000 + 1) * 1000
                    now = int(when[-1])
                table = rows.block(people, when)
                cost = spent(engine, table)
                if kind == "repeated":
                    cost = spent(engine, table, repeated=True)
                costs.setdefault((kind, whose), []).append(cost)
    out: dict[str, Any] = {"now": now}
    for kind in dict.fromkeys(kind for kind, _ in costs):
        hot, quiet = (statistics.median(costs[kind, whose]) for whose in ("hot", "quiet"))
        out[kind] = {"hot_us": round(hot, 2), "quiet_us": round(quiet, 2), "ratio": hot / quiet}
    return out


def waits(engine: Engine, rows: Rows, now: int, rng: np.random.Generator) -> dict[str, float]:
    """Milliseconds of look-ups of quiet profiles, and of entries of one row, in turn."""
    reads, writes = [], []
    for turn in range(READS):
        user = user_id(int(rng.integers(1, rows.quiet)))
        began = time.perf_counter()
        engine.profiles([user])
        reads.append(1e3 * (time.perf_counter() - began))
        if turn % 10 == 0:
            batch = engine.batch("hits", rows.block(np.array([1]), np.array([now])))
            began = time.perf_counter()
            engine.commit(batch)
            writes.append(1e3 * (time.perf_counter() - began))
    found = {"read": reads, "write": writes}
    return {
        f"{what}_p{share}_ms": round(float(np.percentile(times, share)), 2)
        for what, times in found.items()
        for share in (50, 99, 100)
    }


def beside(engine: Engine, rows: Rows, now: int, rng: np.random.Generator) -> dict[str, Any]:
    """The same alone, and beside look-ups of the hot profile, one after the other."""
    sys.setswitchinterval(SWITCH_INTERVAL_S)  # as in a partition's process
    alone, over, looked_up = waits(engine, rows, now, rng), threading.Event(), []

    def look_up() -> None:
        while not over.is_set():
            began = time.perf_counter()
            engine.profiles([user_id(HOT)])
            looked_up.append(1e3 * (time.perf_counter() - began))

    thread = threading.Thread(target=look_up)
    thread.start()
    try:
        with_it = waits(engine, rows, now, rng)
    finally:
        over.set()
        thread.join()
    hot = {"hot_look_ups": len(looked_up), "hot_ms": round(statistics.median(looked_up), 1)}
    return {"alone": alone, "beside": with_it | hot}


def main() -> None:
    """Load, measure, check."""
    parser = options(__doc__, events=1_000_000, profiles=100_000)
    args: argparse.Namespace = parser.parse_args()
    rng = np.random.default_rng(args.seed)
    # The hour holds half of the hot profile's events: each new one makes an old one leave.
    spacing = 2 * HOUR_MS / args.events
    rows = Rows(args.profiles, spacing)
    config = Config(max_profiles=max(1 << 18, 2 * args.profiles))
    with Engine(args.out / "hot-store", declared(), config) as engine:
        others = rng.integers(1, args.profiles, args.events // 2)
        load(engine, rows, others, START_MS - 3 * HOUR_MS, "quiet profiles")
        before = alone(engine, rows, START_MS, rng)
        load(engine, rows, np.full(args.events, HOT), START_MS, "the hot profile")
        found = measure(engine, rows, START_MS + 2 * HOUR_MS, rng)
        now = found.pop("now")
        people = [HOT, *rng.integers(1, args.profiles, 50).tolist()]
        known = [user for user in people if any((u == user).any() for u, _, _ in rows.sent)]
        profiles = engine.profiles(user_id(user) for user in known)
        computed = {u: p.computed for u, p in zip(known, profiles, strict=True) if p is not None}
        compared = check("profiles", {u: rows.expected(u, now) for u in known}, computed)
        began = time.process_time()
        engine.profiles([user_id(HOT)])
        look_up_ms = (time.process_time() - began) * 1e3
        waited = beside(engine, rows, now, rng)
        runs = len(engine.partition.state.locator.runs)
    worst = max(cost["ratio"] for cost in found.values())
    others_ratio = found["in_order"]["quiet_us"] / before
    say(
        "hot", events=args.events, profiles=args.profiles, seed=args.seed, rows_per_entry=BLOCK,
        worst_ratio=worst, others_ratio=others_ratio, alone_us=round(before, 2), **found,
        hot_look_up_ms=round(look_up_ms, 1), runs=runs, profiles_checked=compared, waits=waited,
    )  # fmt: skip
    if worst > HOT_RATIO or others_ratio > OTHERS_RATIO:
        raise SystemExit(
            f"expected a row of the hot profile within {HOT_RATIO} rows of quiet ones and those"
            f" within {OTHERS_RATIO} times their cost before, got {worst:.2f} and"
            f" {others_ratio:.2f}"
        )


if __name__ == "__main__":
    main()
