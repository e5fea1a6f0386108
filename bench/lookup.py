"""How long does one look-up take while the store ingests?

``profile(namespace, value)`` of random users, one at a time through the client, first on the
idle store that holds the first quarter of a W1 file, then while another thread of the same driver
ingests the rest. The whole profile comes back: 20 computed attributes, all memberships, their
``valid_until``.
"""

from __future__ import annotations

import argparse
import shutil
import threading
import time
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

import profile_actors as pf
from machine import note, percentiles, say
from workload import DATASET, NAMESPACE, Input, make_input, options, save_definitions


def look_up(store: Any, profiles: int, until: Any) -> list[float]:
    """ms per look-up of random users until ``until()``."""
    rng = np.random.default_rng(3)
    out: list[float] = []
    while not until(len(out)):
        user = f"u{int(rng.integers(profiles)):08d}"
        started = time.perf_counter()
        store.profile(NAMESPACE, user)
        out.append((time.perf_counter() - started) * 1e3)
    return out


def parts_of(data: Input) -> tuple[Path, Path]:
    """The file cut in two after a quarter of its rows, each part with the header."""
    first, second = (data.path.with_suffix(f".part{n}.csv") for n in (1, 2))
    with data.path.open() as source, first.open("w") as head, second.open("w") as tail:
        header = next(source)
        head.write(header)
        tail.write(header)
        head.writelines(islice(source, data.events // 4))
        tail.writelines(source)
    return first, second


def main() -> None:
    """Load a quarter; look up idle; look up while the rest loads."""
    parser = options(__doc__, events=4_000_000, profiles=100_000)
    args: argparse.Namespace = parser.parse_args()
    first, second = parts_of(make_input(args.out, args, args.seed))
    folder = args.out / "lookup-store"
    shutil.rmtree(folder, ignore_errors=True)
    declared = save_definitions(folder.with_suffix(".json"))
    with pf.start(str(folder), partitions=args.partitions, clock="event") as store:
        store.apply_file(declared)
        store.ingest(DATASET, str(first))
        note("loaded; looking up")
        idle = look_up(store, args.profiles, lambda n: n >= 2_000)
        reports: list[Any] = []
        loader = threading.Thread(
            target=lambda: reports.append(store.ingest(DATASET, str(second), progress=False))
        )
        loader.start()
        loaded = look_up(store, args.profiles, lambda _: not loader.is_alive())
        loader.join()
        if not reports or reports[0].accepted != args.events - args.events // 4:
            raise SystemExit(f"the load beside the look-ups failed: {reports}")
    shutil.rmtree(folder, ignore_errors=True)
    first.unlink()
    second.unlink()
    rest = args.events - args.events // 4
    say(
        "lookup",
        events=args.events,
        profiles=args.profiles,
        seed=args.seed,
        partitions=args.partitions,
        idle=percentiles(idle),
        under_load=percentiles(loaded),
        load_events_per_s=round(rest / reports[0].seconds),
        budget={"under_load_p99_ms": 20},
    )


if __name__ == "__main__":
    main()
