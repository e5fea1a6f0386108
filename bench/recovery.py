"""How long from the death of every partition to the first right answer?

Loads W1 (10 M events, 1 M profiles unless told otherwise), then kills all partition actors at once
with SIGKILL and times, through the same client, the first look-up that each partition answers. The
look-ups, the segment sizes and the event count must be what they were before the kill.

SIGKILL loses no page cache, so this says nothing about power loss.
"""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import time
from typing import Any

import profile_actors as pf
from machine import note, say
from workload import DATASET, NAMESPACE, make_input, options, save_definitions, segments

PROBES = 64  # enough random identities that each of a few partitions owns some


def seen(store: Any, users: list[str]) -> Any:
    """What must be the same before and after."""
    return [
        (p.computed, sorted((n, m.status) for n, m in p.segments.items()), p.now)
        for p in store.profiles([(NAMESPACE, user) for user in users])
    ]


def sizes(store: Any) -> dict[str, int]:
    """Members of every segment."""
    return {s.name: store.members(s.name).count() for s in segments()}


def main() -> None:
    """Load, kill, time, compare."""
    parser = options(__doc__, events=10_000_000, profiles=1_000_000)
    args: argparse.Namespace = parser.parse_args()
    data = make_input(args.out, args, args.seed)
    users = [f"u{n * args.profiles // PROBES:08d}" for n in range(PROBES)]
    folder = args.out / "recovery-store"
    shutil.rmtree(folder, ignore_errors=True)
    declared = save_definitions(folder.with_suffix(".json"))
    with pf.start(str(folder), partitions=args.partitions, clock="event") as store:
        store.apply_file(declared)
        report = store.ingest(DATASET, str(data.path))
        note(f"loaded {report.accepted:,} events in {report.seconds:.1f} s; killing")
        before, members, status = seen(store, users), sizes(store), store.status()
        victims = [actor.pid for actor in status.partitions]
        started = time.perf_counter()
        for pid in victims:
            os.kill(pid, signal.SIGKILL)
        after = seen(store, users)
        seconds = time.perf_counter() - started
        now = store.status()
        if any(actor.pid in victims for actor in now.partitions):
            raise SystemExit("a killed actor answered; nothing was measured")
        if after != before or sizes(store) != members or now.events != status.events:
            raise SystemExit("the answers differ after the kill; a wrong recovery has no speed")
    parts = [actor.partition for actor in status.partitions if actor.partition is not None]
    shutil.rmtree(folder, ignore_errors=True)
    say(
        "recovery",
        events=args.events,
        profiles=args.profiles,
        seed=args.seed,
        partitions=args.partitions,
        first_answer_s=round(seconds, 3),
        entries=sum(part.position for part in parts),
        entries_after_checkpoint=sum(part.position - part.checkpoint for part in parts),
        budget_s=30,
    )


if __name__ == "__main__":
    main()
