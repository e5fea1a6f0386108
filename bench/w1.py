"""How fast does a CSV file become durable, folded, qualified events? Workload W1, checked.

Runs ``profile_actors.start(...).ingest(...)`` on real Ray actors under the event clock, then
compares the members of all 100 segments and a sample of computed attributes with a one-shot
recomputation; a run whose answer differs states no speed. The plain dict loop runs on the same
file, before, with the machine to itself; ``ratio`` is ours over its events/s in the same round.
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

import profile_actors as pf
from answer import Answer, differences, recompute
from machine import PeakMemory, note, say
from workload import DATASET, NAMESPACE, Input, make_input, options, save_definitions

# DESIGN section 16: core-time per event at the goal, ns, by the stage names that status() uses.
BUDGET_NS = {
    "parse": 150,
    "validate": 60,
    "hash": 110,
    "split": 60,
    "transport": 60,
    "resolve": 100,
    "sort": 45,
    "log": 170,
    "fold": 190,
    "expiry": 55,
    "segments": 120,
}
SAMPLE = 500


def peer(arm: str, path: Path) -> dict[str, Any]:
    """Run one arm of the dict loop in a process of its own."""
    script = Path(__file__).with_name("dict_loop.py")
    done = subprocess.run(
        [sys.executable, str(script), arm, str(path)], check=True, capture_output=True, text=True
    )
    return dict(json.loads(done.stdout))


def wrong_computed(store: Any, answer: Answer) -> list[str]:
    """Computed attributes of a sample of profiles that differ from the recomputation."""
    rows = np.random.default_rng(1).choice(
        len(answer.users), min(SAMPLE, len(answer.users)), replace=False
    )
    wrong = []
    profiles = store.profiles([(NAMESPACE, str(answer.users[row])) for row in rows])
    for row, profile in zip(rows, profiles, strict=True):
        expected = answer.computed(int(row))
        got = None if profile is None else {name: profile.computed.get(name) for name in expected}
        if got != expected:
            wrong.append(f"{answer.users[row]}: expected {expected}, got {got}")
    return wrong


def ours(data: Input, folder: Path, partitions: int) -> dict[str, Any]:
    """One run of the store over the file; raises SystemExit if any answer is wrong."""
    shutil.rmtree(folder, ignore_errors=True)
    declared = save_definitions(folder.with_suffix(".json"))
    with pf.start(str(folder), partitions=partitions, clock="event") as store:
        store.apply_file(declared)
        with PeakMemory() as memory:
            started = time.perf_counter()
            report = store.ingest(DATASET, str(data.path))
            seconds = time.perf_counter() - started
        note(f"  ingested in {seconds:.2f} s; checking")
        status = store.status()
        answer = recompute(data.path)
        wrong = differences(answer, lambda name: (m.value for m in store.members(name)))
        wrong += wrong_computed(store, answer)
        if (report.accepted, report.duplicate, report.rejected_count) != (data.events, 0, 0):
            wrong.append(f"expected {data.events} accepted, got {report}")
        if wrong:
            for line in wrong[:20]:
                note(f"  wrong: {line}")
            raise SystemExit(f"{len(wrong)} answers differ; a wrong run has no speed")
    shutil.rmtree(folder, ignore_errors=True)
    parts = [actor.partition for actor in status.partitions if actor.partition is not None]
    entries = sum(part.position for part in parts)
    return {
        "seconds": seconds,
        "events_per_s": data.events / seconds,
        "changes": status.changes,
        "changes_by_clock": status.changes_by_clock,
        "rows_per_entry": round(data.events / max(1, entries)),
        "log_bytes_per_event": round(sum(p.log_bytes for p in parts) / data.events, 1),
        "state_bytes_per_profile": round(sum(p.state_bytes for p in parts) / len(answer.users)),
        "peak_rss_mb": memory.peak_rss >> 20,
        "peak_private_mb": memory.peak_private >> 20,
        "stage_ns": _stages(report, parts, data.events),
    }


def _stages(report: Any, parts: list[Any], events: int) -> dict[str, float]:
    """ns of core time per event by stage: the door's from the report, the actors' from status."""
    total: dict[str, float] = {}
    for source in (report, *parts):
        for stage, seconds in (getattr(source, "stage_s", None) or {}).items():
            total[stage] = total.get(stage, 0.0) + seconds
    return {stage: round(seconds / events * 1e9, 1) for stage, seconds in total.items()}


def main() -> None:
    """Run ``--repeat`` rounds of peer then store; one JSON line with the medians."""
    parser = options(__doc__, events=1_000_000, profiles=100_000)
    parser.add_argument("--repeat", type=int, default=1, help="rounds; the medians are reported")
    parser.add_argument("--no-peer", action="store_true", help="skip the dict loop (no ratio)")
    args: argparse.Namespace = parser.parse_args()
    data = make_input(args.out, args, args.seed)
    rounds: list[dict[str, Any]] = []
    for number in range(args.repeat):
        note(f"round {number + 1}: {args.events:,} events, {args.profiles:,} profiles")
        one: dict[str, Any] = {}
        for arm in () if args.no_peer else ("plain", "ladder"):
            loop = peer(arm, data.path)
            one[f"peer_{arm}_per_s"] = args.events / loop["seconds"]
            note(f"  dict loop, {arm}: {one[f'peer_{arm}_per_s']:,.0f} events/s")
        one |= ours(data, args.out / "w1-store", args.partitions)
        note(f"  ours: {one['events_per_s']:,.0f} events/s")
        for arm in () if args.no_peer else ("plain", "ladder"):
            one[f"ratio_{arm}"] = one["events_per_s"] / one[f"peer_{arm}_per_s"]
        rounds.append(one)
    middle = statistics.median_low([one["events_per_s"] for one in rounds])
    chosen = next(one for one in rounds if one["events_per_s"] == middle)
    medians = {
        name: round(statistics.median(one[name] for one in rounds), 2)
        for name in chosen
        if name.startswith(("ratio", "peer", "events_per_s", "seconds"))
    }
    say(
        "w1",
        events=args.events,
        profiles=args.profiles,
        seed=args.seed,
        zipf=args.zipf,
        partitions=args.partitions,
        rounds=args.repeat,
        checked="100 segments exactly; computed attributes of a sample",
        **(chosen | medians),
        budget_ns=BUDGET_NS,
    )


if __name__ == "__main__":
    main()
