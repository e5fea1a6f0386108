"""(d) How long does the back-fill of one new rule take beside ingest, and what does ingest lose?

A store that holds W1's 20 computed attributes and 100 segments and ``--backfill-events`` of its
stream (10 M, 1 M profiles) ingests what follows: first alone, then while a new rule is applied. The
rule shares nothing with the others: few events, a condition of its own, a window. Speeds are those
of the partitions' own event counters: of the whole ingest when alone; from the call of ``apply``
until it returns (the rule answers from the whole history) or the file ends when not.
"""

from __future__ import annotations

import argparse
import shutil
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, TextIO

import numpy as np

import profile_actors as pf
from gen_w1 import TYPES
from machine import note, say
from rules_engine import DAY_MS, Raw, check, read_w1
from workload import DATASET, Input, make_input, save_definitions

NAME = "lately_dear"
RULE = (
    f'xEvent[eventType = "{TYPES[1]}" and price > 150 and timestamp occurs <= 14 days before now]'
    ".count() >= 1"
)
BAR_S, BAR_KEPT = 20.0, 0.7


def parts_of(data: Input, sizes: tuple[int, int, int]) -> list[Path]:
    """The file cut into three, each with the header."""
    out = []
    with data.path.open() as source:
        header = next(source)
        for number, size in enumerate(sizes):
            path = data.path.with_suffix(f".fill{number}.csv")
            with path.open("w") as file:
                file.write(header)
                file.writelines(_lines(source, size))
            out.append(path)
    return out


def _lines(source: TextIO, count: int) -> Iterator[str]:
    return islice(source, count)


@dataclass(frozen=True)
class Filled:
    """What happened while the rule was applied. covered_s: seconds of it beside ingest."""

    seconds: float
    covered_s: float
    ingest_per_s: float


def alone(store: Any, path: Path, rows: int) -> float:
    """Events/s of an ingest with nothing beside it."""
    started = time.perf_counter()
    report = store.ingest(DATASET, str(path), progress=False)
    seconds = time.perf_counter() - started
    if report.accepted != rows:
        raise SystemExit(f"expected {rows} events accepted, got {report}")
    return rows / seconds


def beside(store: Any, path: Path, rows: int) -> Filled:
    """Apply the rule while a file is ingested."""
    reports: list[Any] = []
    finished: list[float] = []

    def load() -> None:
        reports.append(store.ingest(DATASET, str(path), progress=False))
        finished.append(time.perf_counter())

    loader = threading.Thread(target=load)
    before = store.status().events
    loader.start()
    while store.status().events == before and loader.is_alive():
        time.sleep(0.01)  # the ingest is under way when the rule comes
    first, started = store.status().events, time.perf_counter()
    store.apply(pf.SegmentDefinition(NAME, RULE))
    ended = time.perf_counter()
    last = store.status().events
    loader.join()
    if not reports or reports[0].accepted != rows:
        raise SystemExit(f"the ingest beside the back-fill failed: {reports}")
    covered = min(ended, finished[0]) - started
    if covered <= 0:
        raise SystemExit("the file ended before the rule was applied: raise --backfill-more")
    return Filled(ended - started, covered, (last - first) / covered)


def expected_size(path: Path) -> int:
    """Members of the rule at the end of the file, counted over the raw events."""
    raw = Raw(read_w1(path))
    mask = (raw.kind == 1) & (raw.price > 150) & (raw.when >= raw.now - 14 * DAY_MS)
    return len(np.unique(raw.user[mask]))


def ask(args: argparse.Namespace) -> None:
    """Load, ingest alone, ingest beside a back-fill, check; one JSON line."""
    history, more = args.backfill_events, args.backfill_more
    options = argparse.Namespace(
        events=history + 2 * more, profiles=args.backfill_profiles, zipf=args.zipf
    )
    data = make_input(args.out, options, args.seed)
    sizes = (history, more, more)
    paths = parts_of(data, sizes)
    folder = args.out / "rules-backfill"
    shutil.rmtree(folder, ignore_errors=True)
    declared = save_definitions(folder.with_suffix(".json"))
    with pf.start(str(folder), partitions=args.partitions, clock="event") as store:
        store.apply_file(declared)
        loaded = alone(store, paths[0], history)
        note(f"loaded at {loaded:,.0f} events/s")
        calm = alone(store, paths[1], more)
        note(f"alone {calm:,.0f} events/s; applying a rule beside the next")
        filled = beside(store, paths[2], more)
        got = store.members(NAME).count()
        entries = sum(p.partition.position for p in store.status().partitions if p.partition)
    for path in paths:
        path.unlink()
    shutil.rmtree(folder, ignore_errors=True)
    check("sizes", {NAME: expected_size(data.path)}, {NAME: got})
    kept = filled.ingest_per_s / calm
    say(
        "rules_d",
        asked="back-fill of a new rule beside ingest",
        command=args.command,
        events_before=history + more,
        profiles=args.backfill_profiles,
        seed=args.seed,
        partitions=args.partitions,
        entries=entries,
        backfill_s=round(filled.seconds, 2),
        beside_ingest_s=round(filled.covered_s, 2),
        ingest_alone_per_s=round(calm),
        ingest_beside_per_s=round(filled.ingest_per_s),
        ingest_kept=round(kept, 3),
        bar_s=BAR_S,
        bar_kept=BAR_KEPT,
        ok=filled.seconds <= BAR_S and kept >= BAR_KEPT,
        checked=f"{got} members by brute force",
    )
