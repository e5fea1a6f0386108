"""(d) How long does the back-fill of one new rule take beside ingest, and what does ingest lose?

A store that holds W1's 20 computed attributes and 100 segments and ``--backfill-events`` of its
stream (10 M, 1 M profiles) ingests what follows: first a file alone, then one while new rules are
applied, one after the other, until the file ends. Each is a back-fill of its own: few events, a
condition that no other rule has, a window; the time is that of ``apply``, which returns when the
rule answers from the whole history. So nearly all of the second file is beside a back-fill, and the
two speeds can be compared without knowing when exactly a row was folded.
"""

from __future__ import annotations

import argparse
import shutil
import statistics
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

PRICE = 150


def name_of(number: int) -> str:
    """The number-th new rule's segment."""
    return f"lately_dear_{number}"


def rule_of(number: int) -> str:
    """Its rule: something dear in the cart lately."""
    return (
        f'xEvent[eventType = "{TYPES[1]}" and price > {PRICE + number} and timestamp occurs <= 14'
        " days before now].count() >= 1"
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
    """What happened beside an ingest. seconds: of each back-fill that ended before it did."""

    seconds: list[float]
    rules: int
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
    """Apply rule after rule while a file is ingested."""
    reports: list[Any] = []
    ended: list[float] = []

    def load() -> None:
        reports.append(store.ingest(DATASET, str(path), progress=False))
        ended.append(time.perf_counter())

    loader = threading.Thread(target=load)
    begun = time.perf_counter()
    loader.start()
    spans: list[tuple[float, float]] = []
    while loader.is_alive():
        started = time.perf_counter()
        store.apply(pf.SegmentDefinition(name_of(len(spans)), rule_of(len(spans))))
        spans.append((started, time.perf_counter()))
    loader.join()
    if not reports or reports[0].accepted != rows:
        raise SystemExit(f"the ingest beside the back-fills failed: {reports}")
    within = [stop - start for start, stop in spans if stop <= ended[0]]
    # A rule that outlived the file was not beside ingest all the time: it counts if it is alone.
    seconds = within or [spans[0][1] - spans[0][0]]
    return Filled(seconds, len(spans), rows / (ended[0] - begun))


def expected_sizes(path: Path, rules: int) -> dict[str, int]:
    """Members of the rules at the end of the file, counted over the raw events."""
    raw = Raw(read_w1(path))
    lately = (raw.kind == 1) & (raw.when >= raw.now - 14 * DAY_MS)
    return {
        name_of(n): len(np.unique(raw.user[lately & (raw.price > PRICE + n)])) for n in range(rules)
    }


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
        note(f"alone {calm:,.0f} events/s; applying rules beside the next")
        filled = beside(store, paths[2], more)
        got = {name_of(n): store.members(name_of(n)).count() for n in range(filled.rules)}
        entries = sum(p.partition.position for p in store.status().partitions if p.partition)
    for path in paths:
        path.unlink()
    shutil.rmtree(folder, ignore_errors=True)
    checked = check("sizes", expected_sizes(data.path, filled.rules), got)
    kept = filled.ingest_per_s / calm
    say(
        "rules_d",
        asked="back-fill of a new rule beside ingest",
        command=args.command,
        events_before=history + more,
        events_beside=more,
        profiles=args.backfill_profiles,
        seed=args.seed,
        partitions=args.partitions,
        entries=entries,
        backfills=len(filled.seconds),
        backfill_s=round(statistics.median(filled.seconds), 2),
        backfill_longest_s=round(max(filled.seconds), 2),
        ingest_alone_per_s=round(calm),
        ingest_beside_per_s=round(filled.ingest_per_s),
        ingest_kept=round(kept, 3),
        bar=[BAR_S, BAR_KEPT],
        ok=max(filled.seconds) <= BAR_S and kept >= BAR_KEPT,
        checked=f"{checked} sizes by brute force",
    )
