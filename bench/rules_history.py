"""(e) What does a rescan cost per touched profile, by the length of its history?

The rule is over an array inside events, which no operator keeps up to date:
``xEvent[productListItems[SKU = "x"].count() > 1].count() > n``. Every event has three items of
three SKUs at random, and n is such that about half of the profiles are members. One partition; then
each entry touches every profile with one event, and the rescans that it owes are timed. The
profiles get fewer as histories get longer, so that the events in all stay about ``--history-rows``.
"""

from __future__ import annotations

import argparse
import statistics
import time
from typing import Any

import numpy as np

from machine import note, say
from profile_actors.engine.log.sub_batch import SubBatch
from rules_engine import Engine, check, declare, expected_members, members_among, user_id
from workload import DATASET

LENGTHS = (10, 100, 1_000, 10_000)
START_MS = 1_760_000_000_000
STEP_MS = 1_000
NAME = "collectors"
Row = dict[str, Any]


def rule_of(length: int) -> str:
    """Of three items two or three are an x in 7 of 27 events."""
    return f'xEvent[productListItems[SKU = "x"].count() > 1].count() > {length * 7 // 27}'


def rows_of(rng: np.random.Generator, profiles: int, numbers: range) -> list[Row]:
    """The events with these numbers of every profile, in time order."""
    drawn = rng.integers(0, 3, (len(numbers), profiles, 3))
    return [
        {
            "_id": f"ev-{number}-{user}",
            "user_id": user_id(user),
            "timestamp": START_MS + number * STEP_MS + user,
            "eventType": "purchase",
            "productListItems": [{"SKU": "xyz"[k]} for k in items],
        }
        for number, each in zip(numbers, drawn.tolist(), strict=True)
        for user, items in enumerate(each)
    ]


def run(length: int, args: argparse.Namespace) -> dict[str, Any]:
    """Costs of one length, in microseconds per touched profile."""
    profiles = min(1_000, max(2, args.history_rows // length))
    rng = np.random.default_rng(args.seed)
    rows = rows_of(rng, profiles, range(length))
    declared = declare([(NAME, rule_of(length))], {"productListItems[].SKU": "string"})
    with Engine(args.out / "rules-history", declared) as engine:
        if engine.rescanned() != [NAME]:
            raise SystemExit("the rule is not rescanned any more: take another for this question")
        engine.commit(engine.batch(DATASET, rows))
        engine.drain()
        commits, rescans = [], []
        for number in range(length, length + max(1, args.repeat)):
            fresh = rows_of(rng, profiles, range(number, number + 1))
            rows += fresh
            took = _touch(engine, engine.batch(DATASET, fresh))
            commits.append(took[0] / profiles * 1e6)
            rescans.append(took[1] / profiles * 1e6)
        _check(engine, rows, profiles, rule_of(length))
        members = engine.partition.count(NAME)
    note(f"{length} events: {statistics.median(rescans):,.0f} us a touched profile")
    return {
        "profiles": profiles,
        "members": members,
        "commit_us": round(statistics.median(commits), 1),
        "rescan_us": round(statistics.median(rescans), 1),
        "rescan_us_per_event": round(statistics.median(rescans) / length, 3),
    }


def _touch(engine: Engine, batch: SubBatch) -> tuple[float, float]:
    """Seconds of the entry itself, and of the rescans that it owes."""
    started = time.perf_counter()
    engine.commit(batch)
    committed = time.perf_counter()
    engine.drain()
    return committed - started, time.perf_counter() - committed


def _check(engine: Engine, rows: list[Row], profiles: int, rule: str) -> None:
    """Members by counting items, and by the reference evaluator over the rows as they were sent."""
    events: dict[int, list[Row]] = {user: [] for user in range(profiles)}
    for row in rows:
        events[int(row["user_id"][1:])].append(row)
    least = int(rule.rsplit(" ", 1)[1])

    def doubles(own: list[Row]) -> int:
        return sum(sum(i["SKU"] == "x" for i in row["productListItems"]) > 1 for row in own)

    found = dict(zip(events, engine.profiles(map(user_id, events)), strict=True))
    got = members_among(found, [NAME])
    by_hand = {user for user, own in events.items() if doubles(own) > least}
    now = max(row["timestamp"] for row in rows)
    check("memberships by counting", {NAME: by_hand}, got)
    check("memberships by reference", expected_members([(NAME, rule)], events, now), got)
    check("sizes", {NAME: len(by_hand)}, {NAME: engine.partition.count(NAME)})


def ask(args: argparse.Namespace) -> None:
    """One JSON line with all lengths."""
    lengths = [n for n in LENGTHS if n <= max(args.history_rows // 2, LENGTHS[0])]
    say(
        "rules_e",
        asked="cost of a rescan per touched profile by length of its history",
        command=args.command,
        seed=args.seed,
        rounds=args.repeat,
        rule=rule_of(LENGTHS[0]),
        by_events={str(length): run(length, args) for length in lengths},
        bar=None,
        ok=True,
        checked="all memberships by counting and by the reference evaluator",
    )
