"""(b) How fast are 20 CHAIN and join rules over W1's events?

W1's file with one more column, a campaign (eight of them, at random); no other rules than the
twenty of ``rules_loop.py``: RULES.md section 7 rule 3 and variants of it, and chains with gaps,
counts, windows and references to earlier steps. Real store, real actors; the clock runs from the
call of ``ingest`` until every rule answers (rescans included). The plain Python loop that evaluates
the same rules on each event runs before, in a process of its own.
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv

import profile_actors as pf
from gen_w1 import TYPES
from machine import note, say
from rules_engine import (
    Raw,
    check,
    declare,
    expected_members,
    members_among,
    read_w1,
    user_id,
)
from rules_loop import CAMPAIGNS, CASES, History
from workload import DATASET, NAMESPACE, make_input

BAR = 150_000
REFERENCE = 100


def with_campaigns(args: argparse.Namespace) -> tuple[Path, pa.Table]:
    """W1's file with a campaign in each row, and the same as a table."""
    options = argparse.Namespace(
        events=args.sequence_events, profiles=args.sequence_profiles, zipf=args.zipf
    )
    source = make_input(args.out, options, args.seed).path
    table = read_w1(source)
    drawn = np.random.default_rng(args.seed).integers(0, len(CAMPAIGNS), table.num_rows)
    table = table.append_column("campaign", pa.array(CAMPAIGNS).take(pa.array(drawn)))
    path = source.with_name(source.stem + "-campaigns.csv")
    pyarrow.csv.write_csv(
        table, path, pyarrow.csv.WriteOptions(quoting_style="none", quoting_header="none")
    )
    return path, table


def ours(path: Path, raw: Raw, args: argparse.Namespace) -> dict[str, Any]:
    """One run of the store; seconds until everything answers, and what was checked."""
    folder = args.out / "rules-sequence"
    shutil.rmtree(folder, ignore_errors=True)
    rules = [(case.name, case.text) for case in CASES]
    declared = args.out / "rules-sequence.json"
    declared.write_text(json.dumps(declare(rules, {"campaign": "string"})))
    with pf.start(str(folder), partitions=args.partitions, clock="event") as store:
        store.apply_file(declared)
        rescanned = [name for name, rule in rules if "by rescan" in str(store.explain(rule))]
        started = time.perf_counter()
        report = store.ingest(DATASET, str(path), progress=False)
        ingested = time.perf_counter() - started
        sizes = {name: _count(store, name) for name, _ in rules}
        seconds = time.perf_counter() - started
        if report.accepted != raw.table.num_rows:
            raise SystemExit(f"expected {raw.table.num_rows} events accepted, got {report}")
        checked = _checked(store, rules, sizes, raw, args.sequence_sample)
        parts = [p.partition for p in store.status().partitions if p.partition is not None]
        entries = sum(part.position for part in parts)
        bytes_ = sum(part.state_bytes for part in parts)
        profiles = sum(part.profiles for part in parts)
    shutil.rmtree(folder, ignore_errors=True)
    return {
        "seconds": seconds,
        "ingest_seconds": ingested,
        "events_per_s": raw.table.num_rows / seconds,
        "rescanned": rescanned,
        "rows_per_entry": round(raw.table.num_rows / max(1, entries)),
        "state_bytes_per_profile": round(bytes_ / max(1, profiles)),
        "sizes": sizes,
        "checked": checked,
    }


def _count(store: Any, name: str) -> int:
    """Members of a segment, however long its rescans take."""
    while True:
        try:
            return int(store.members(name).count())
        except pf.Pending:
            note(f"  {name} is pending")


def _checked(
    store: Any, rules: list[tuple[str, str]], sizes: dict[str, int], raw: Raw, sample: int
) -> dict[str, int]:
    """Members against the hand-written rules, and of some against the reference evaluator."""
    users = np.unique(raw.user)
    chosen = np.random.default_rng(2).permutation(users)[:sample].tolist()
    histories = histories_of(raw, chosen)
    expected = {c.name: {u for u, h in histories.items() if c.holds(h, raw.now)} for c in CASES}
    profiles = store.profiles([(NAMESPACE, user_id(user)) for user in chosen])
    got = members_among(dict(zip(chosen, profiles, strict=True)), sizes)
    check("memberships by the hand-written rules", expected, got)
    if len(chosen) == len(users):
        check("sizes", {name: len(found) for name, found in expected.items()}, sizes)
    few = chosen[:REFERENCE]
    by_reference = expected_members(rules, raw.events_of(few), raw.now)
    check(
        "memberships by the reference evaluator",
        by_reference,
        {name: found & set(few) for name, found in got.items()},
    )
    return {"by_hand": len(chosen), "by_reference": len(few)}


def histories_of(raw: Raw, users: list[int]) -> dict[int, History]:
    """Histories of users as ``rules_loop`` takes them."""
    out: dict[int, History] = {}
    for user, events in raw.events_of(users).items():
        out[user] = [
            [(e["timestamp"], e["campaign"], e["price"]) for e in events if e["eventType"] == kind]
            for kind in TYPES
        ]
    return out


def peer(path: Path) -> float:
    """Seconds of the plain loop, in a process of its own."""
    script = Path(__file__).with_name("rules_loop.py")
    done = subprocess.run(
        [sys.executable, str(script), str(path)], check=True, capture_output=True, text=True
    )
    return float(json.loads(done.stdout)["seconds"])


def ask(args: argparse.Namespace) -> None:
    """Peer, then store, ``--repeat`` times; one JSON line with the medians."""
    path, table = with_campaigns(args)
    raw = Raw(table)
    rounds = []
    for number in range(args.repeat):
        loop = table.num_rows / peer(path)
        note(f"round {number + 1}: plain loop {loop:,.0f} events/s")
        one = ours(path, raw, args) | {"peer_per_s": loop}
        one["ratio"] = one["events_per_s"] / loop
        note(f"  ours {one['events_per_s']:,.0f} events/s")
        rounds.append(one)
    names = ("events_per_s", "peer_per_s", "ratio", "seconds", "ingest_seconds")
    medians = {name: round(statistics.median(one[name] for one in rounds), 3) for name in names}
    say(
        "rules_b",
        asked="events/s with 20 CHAIN and join rules",
        command=args.command,
        events=table.num_rows,
        profiles=args.sequence_profiles,
        seed=args.seed,
        partitions=args.partitions,
        rounds=args.repeat,
        **(rounds[-1] | medians),
        bar=BAR,
        ok=medians["events_per_s"] >= BAR,
    )
