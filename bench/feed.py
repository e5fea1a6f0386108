"""How fast is the change feed read, as Arrow batches and as objects, and does a consumer keep up?

A W1 file is ingested; then the whole feed is read twice, as record batches and as ``Change``
objects, and both must be the same number of changes and of each segment's entries and exits. A
consumer that follows in a thread of its own while the second half is ingested says how far behind
it was when the last row was acknowledged.
"""

from __future__ import annotations

import argparse
import shutil
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pyarrow.compute as pc

import profile_actors as pf
from lookup import parts_of
from machine import note, say
from workload import DATASET, make_input, options, save_definitions

PAUSE_S = 0.02
"""Pause of the consumer where nothing has come."""


def as_batches(store: Any) -> tuple[float, int, Counter[tuple[str, str]]]:
    """Seconds, changes, and members gained and lost by segment, from record batches."""
    flips: Counter[tuple[str, str]] = Counter()
    count, started = 0, time.perf_counter()
    batches = []
    for batch in store.changes().batches():
        count += batch.num_rows
        batches.append(batch.select(["kind", "name", "new"]))
    seconds = time.perf_counter() - started
    for batch in batches:
        part = batch.filter(pc.equal(batch["kind"], "membership"))
        flips.update(zip(part["name"].to_pylist(), part["new"].to_pylist(), strict=True))
    return seconds, count, flips


def as_objects(store: Any) -> tuple[float, int, Counter[tuple[str, str]]]:
    """The same from ``Change`` objects."""
    flips: Counter[tuple[str, str]] = Counter()
    count, started = 0, time.perf_counter()
    for change in store.changes():
        count += 1
        if change.kind == "membership":
            flips[change.name, change.new] += 1
    return time.perf_counter() - started, count, flips


def follow(store: Any, after: str, seen: list[int], is_over: threading.Event) -> None:
    """Read batches from a cursor on until told to stop, adding up the changes."""
    while True:
        last, before = is_over.is_set(), seen[0]
        feed = store.changes(after)
        for batch in feed.batches():
            seen[0] += batch.num_rows
        after = feed.cursor
        if last:
            return
        if seen[0] == before:
            time.sleep(PAUSE_S)


def beside_ingest(store: Any, path: Path, before: int) -> dict[str, Any]:
    """A consumer beside an ingest: the speed of both, and how far it was behind at the end."""
    feed = store.changes()
    for _ in feed.batches():
        pass
    seen, is_over = [0], threading.Event()
    reader = threading.Thread(target=follow, args=(store, feed.cursor, seen, is_over))
    reader.start()
    started = time.perf_counter()
    report = store.ingest(DATASET, str(path), progress=False)
    ingested = time.perf_counter() - started
    at_end = seen[0]
    is_over.set()
    reader.join()
    caught_up = time.perf_counter() - started
    if report.rejected_count or seen[0] <= 0 or before <= 0:
        raise SystemExit(f"the load beside the consumer failed: {report}")
    return {
        "events_per_s": round(report.accepted / ingested),
        "changes_per_s": round(seen[0] / caught_up),
        "behind_at_end": seen[0] - at_end,
        "caught_up_after_ms": round((caught_up - ingested) * 1e3),
    }


def main() -> None:
    """Load a quarter, read it both ways, then load the rest beside a consumer."""
    parser = options(__doc__, events=1_000_000, profiles=100_000)
    args: argparse.Namespace = parser.parse_args()
    first, second = parts_of(make_input(args.out, args, args.seed))
    folder = args.out / "feed-store"
    shutil.rmtree(folder, ignore_errors=True)
    declared = save_definitions(folder.with_suffix(".json"))
    with pf.start(str(folder), partitions=args.partitions, clock="event") as store:
        store.apply_file(declared)
        store.ingest(DATASET, str(first), progress=False)
        note("loaded; reading the feed")
        batch_s, count, flips = as_batches(store)
        object_s, again, flips_again = as_objects(store)
        members = {name: store.members(name).count() for name in store.definitions().segments}
        for name, inside in members.items():
            if flips[name, "realized"] - flips[name, "exited"] != inside:
                raise SystemExit(f"{name}: {inside} members, but the feed says {flips}")
        if (count, flips) != (again, flips_again):
            raise SystemExit(f"batches say {count} changes, objects {again}")
        beside = beside_ingest(store, second, count)
    shutil.rmtree(folder, ignore_errors=True)
    first.unlink()
    second.unlink()
    say(
        "feed",
        events=args.events,
        profiles=args.profiles,
        seed=args.seed,
        partitions=args.partitions,
        changes=count,
        batch_changes_per_s=round(count / batch_s),
        object_changes_per_s=round(count / object_s),
        beside_ingest=beside,
        budget={"batch_changes_per_s": 3_000_000, "object_changes_per_s": 200_000},
    )


if __name__ == "__main__":
    main()
