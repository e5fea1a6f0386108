"""(a) What does an event cost with 10, 100, 1,000 segments?

The first 100 are W1's own. Every ten further ones are: two thresholds on a lifetime count, sum or
maximum; a threshold on a count and one on a sum in a sliding window (1, 3, 14 or 30 days); the time
since the last event of a type; a conjunction of two aggregates, and one of three with a negation
and a window; a condition on the profile's attributes alone, and one together with an aggregate; an
average or a ratio of sums. Half of them compare one aggregate with a constant, half are more
than that.

Costs are microseconds per event of the whole partition (admission, synced log entry, fold, feed)
and of the door before it; the records of the attributes are loaded before. What is held against the
bar is the event's whole cost, door and partition; the partition's alone is told beside it.
"""

from __future__ import annotations

import argparse
import statistics
import time
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from gen_w1 import START_MS, TYPES
from machine import note, say
from rules_engine import (
    Declared,
    Engine,
    Raw,
    check,
    declare,
    expected_members,
    members_among,
    read_w1,
    user_id,
)
from workload import DATASET, NAMESPACE, make_input, segments

SIZES = (10, 100, 1_000)
BLOCK = 100_000
TIERS = ("bronze", "silver", "gold", "platinum")
CITIES = ("Oslo", "Lima", "Kyoto", "Accra", "Turin", "Quito", "Perth", "Porto")


@dataclass(frozen=True)
class Rung:
    """``value >= threshold``: what brute force recomputes."""

    letter: str
    kind: int
    days: int
    threshold: float


@dataclass(frozen=True)
class Case:
    """One segment. rung: None if the rule is more than a threshold on one aggregate."""

    name: str
    rule: str
    rung: Rung | None = None


def value(letter: str, kind: int, days: int = 0) -> str:
    """The rule text of a count, sum or max of one event type, in the last days if given."""
    window = f" and timestamp occurs <= {days} days before now" if days else ""
    tail = {"c": "count()", "s": "sum(price)", "m": "max(price)"}[letter]
    return f'xEvent[eventType = "{TYPES[kind]}"{window}].{tail}'


def rung(name: str, letter: str, kind: int, days: int, threshold: float) -> Case:
    """A threshold on one aggregate."""
    rule = f"{value(letter, kind, days)} >= {threshold}"
    return Case(name, rule, Rung(letter, kind, days, threshold))


def cases(count: int) -> list[Case]:
    """The first ``count`` segments of the mix."""
    out = []
    for own in segments(min(count, 100)):
        letter, kind = own.column[0], int(own.column[-1])
        days = 7 if letter == "d" else 0
        own_rung = Rung("c" if days else letter, kind, days, own.threshold)
        out.append(Case(own.name, own.rule, own_rung))
    return out + [_mixed(k) for k in range(100, count)]


def _mixed(k: int) -> Case:
    """The k-th segment: its form by the last digit, its numbers by the rest, no two alike."""
    name, form, n = f"g_{k}", k % 10, k // 10 - 9
    kind, other, days = n % 4, (n // 4) % 4, (1, 3, 14, 30)[n // 4 % 4]
    few, much = n // 4 + 1, n * 13.505
    if form == 0:
        return rung(name, "c", kind, 0, few)
    if form == 1:
        return rung(name, "sm"[n % 2], kind, 0, much)
    if form == 2:
        return rung(name, "c", kind, days, n // 16 + 1)
    if form == 3:
        return rung(name, "s", kind, days, much / 2)
    tier, city = TIERS[n % 4], CITIES[n % 8]
    rules = {
        4: f'xEvent[eventType = "{TYPES[kind]}"].max(timestamp) occurs >= {few} days before now',
        5: f"{value('c', kind)} >= {few // 4 + 1} and {value('s', other)} >= {much}",
        6: f"{value('c', 0)} >= {few // 3 + 1} and not {value('c', kind, days)} >= {n // 16 + 1}"
        f" and {value('m', other)} < {much + 40}",
        7: f'tier = "{tier}" and score >= {n}',
        8: f'city = "{city}" and score < {100 - n} and {value("c", kind)} >= {few // 4 + 1}',
        9: f"{value('s', kind)} > {n / 30} * {value('s', (kind + 1) % 4)}"
        if n % 2
        else f'xEvent[eventType = "{TYPES[kind]}"].average(price) > {much / 4}',
    }
    return Case(name, rules[form])


def declared_for(chosen: list[Case]) -> Declared:
    """W1 with these segments and a dataset of profile attributes."""
    declared = declare([(c.name, c.rule) for c in chosen], keep_attributes=True)
    fields = {"tier": "string", "city": "string", "score": "integer"}
    declared["schemas"].append({"name": "person", "behavior": "record", "fields": fields})
    declared["datasets"].append(
        {
            "name": "crm",
            "schema": "person",
            "identities": {"user_id": NAMESPACE},
            "timestamp": "at",
        }
    )
    return declared


def people(profiles: int) -> pa.Table:
    """One record for each user."""
    rng = np.random.default_rng(5)
    return pa.table(
        {
            "user_id": pa.array([user_id(number) for number in range(profiles)]),
            "at": pa.array(np.full(profiles, START_MS)),
            "tier": pa.array(TIERS).take(pa.array(rng.integers(0, len(TIERS), profiles))),
            "city": pa.array(CITIES).take(pa.array(rng.integers(0, len(CITIES), profiles))),
            "score": pa.array(rng.integers(0, 100, profiles)),
        }
    )


def run(count: int, raw: Raw, crm: pa.Table, args: argparse.Namespace) -> dict[str, Any]:
    """One pass over the events with ``count`` segments: microseconds per event, checked."""
    chosen = cases(count)
    with Engine(args.out / "rules-scale", declared_for(chosen)) as engine:
        engine.load("crm", crm)
        before = engine.partition.stage_seconds()
        door = partition = 0.0
        events = raw.table.num_rows
        for start in range(0, events, BLOCK):
            rows = raw.table.slice(start, BLOCK).combine_chunks()
            begun = time.perf_counter()
            batch = engine.batch(DATASET, rows)
            prepared = time.perf_counter()
            engine.commit(batch)
            engine.drain()
            door += prepared - begun
            partition += time.perf_counter() - prepared
        stages = engine.partition.stage_seconds()
        checked = _checked(engine, chosen, raw, crm, args.sample)
        changes = engine.partition.state.counters.changes
        rescanned = engine.rescanned()
    return {
        "door_us": door / events * 1e6,
        "partition_us": partition / events * 1e6,
        "core_us": sum(stages.values(), -sum(before.values())) / events * 1e6,
        "stage_us": {
            name: round((s - before.get(name, 0.0)) / events * 1e6, 3) for name, s in stages.items()
        },
        "changes": changes,
        "rescanned": len(rescanned),
        "checked": checked,
    }


def _checked(
    engine: Engine, chosen: list[Case], raw: Raw, crm: pa.Table, sample: int
) -> dict[str, int]:
    """Sizes of all ladders by brute force; all segments of a sample by the reference evaluator."""
    sizes = {
        case.name: int((raw.value(r.letter, r.kind, r.days) >= r.threshold).sum())
        for case in chosen
        if (r := case.rung) is not None
    }
    counted = check("sizes", sizes, {name: engine.partition.count(name) for name in sizes})
    profiles = crm.num_rows
    users = np.random.default_rng(1).choice(profiles, min(sample, profiles), replace=False).tolist()
    rules = [(case.name, case.rule) for case in chosen]
    records = dict(zip(users, crm.take(pa.array(users)).to_pylist(), strict=True))
    expected = expected_members(rules, raw.events_of(users), raw.now, records)
    found = dict(zip(users, engine.profiles(map(user_id, users)), strict=True))
    check("memberships of the sample", expected, members_among(found, expected))
    return {"sizes": counted, "profiles": len(users), "memberships": len(users) * len(rules)}


def _whole(cost: dict[str, float]) -> float:
    return cost["door_us"] + cost["partition_us"]


def ask(args: argparse.Namespace) -> None:
    """Run the sizes in turn, ``--repeat`` times; one JSON line with the medians."""
    events, profiles = args.scale_events, args.scale_profiles
    options = argparse.Namespace(events=events, profiles=profiles, zipf=args.zipf)
    raw = Raw(read_w1(make_input(args.out, options, args.seed).path))
    crm = people(profiles)
    rounds: dict[int, list[dict[str, Any]]] = {count: [] for count in SIZES}
    for number in range(args.repeat):
        for count in SIZES:
            one = run(count, raw, crm, args)
            rounds[count].append(one)
            note(f"round {number + 1}, {count} segments: {one['partition_us']:.2f} us an event")
    cost = {
        count: {
            part: round(statistics.median(one[part] for one in rounds[count]), 3)
            for part in ("door_us", "partition_us", "core_us")
        }
        for count in SIZES
    }
    few, many = cost[100], cost[1_000]
    ratio = _whole(many) / _whole(few)
    say(
        "rules_a",
        asked="cost of an event with 10, 100, 1,000 segments",
        command=args.command,
        events=events,
        profiles=profiles,
        seed=args.seed,
        rounds=args.repeat,
        rows_per_entry=BLOCK,
        **{
            f"at_{count}": cost[count]
            | {name: rounds[count][-1][name] for name in ("changes", "rescanned", "stage_us")}
            for count in SIZES
        },
        ratio_1000_to_100=round(ratio, 2),
        ratio_of_partition=round(many["partition_us"] / few["partition_us"], 2),
        ratio_of_core_time=round(many["core_us"] / few["core_us"], 2),
        bar=4.0,
        goal=1.5,
        ok=ratio <= 4.0,
        checked={str(count): rounds[count][-1]["checked"] for count in SIZES},
    )
