"""What does one log entry of 1, 10, 100 or 1,000 rows cost the partition that writes it?

W1's definitions over a loaded store. Sub-batches are made beforehand; the time is the writing
thread's own, from the call of ``Partition.commit`` to the acknowledgement: what the disk takes is
not in it (``--memory``: no disk at all). Beside it stand the Python calls of one entry, C functions
included, which no neighbour on the machine can change. In the end all attributes and memberships of
a sample, and of all profiles the state folded again from the log, must be right.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from types import FrameType
from typing import Any

import numpy as np

from machine import note, say
from profile_actors.engine.log.sub_batch import SubBatch
from rules_engine import Engine, Raw, check, members_among, read_w1, user_id
from workload import ATTRIBUTES, DATASET, definitions, make_input, options, segments

SIZES = (1, 10, 100, 1_000)
ROWS = 40_000
"""Of each size so many rows at most are committed, and so many entries at most:"""
ENTRIES = 400
COUNTED = 20
"""Entries whose calls are counted."""


def calls_of(engine: Engine, batch: SubBatch) -> int:
    """Calls of Python and C functions in one commit."""
    count = 0

    def called(_frame: FrameType, event: str, _arg: Any) -> None:
        nonlocal count
        count += event in ("call", "c_call")

    sys.setprofile(called)
    try:
        engine.commit(batch)
    finally:
        sys.setprofile(None)
    return count


def measure(engine: Engine, batches: list[SubBatch]) -> dict[str, float]:
    """ms of the writing thread's time and calls per entry, medians."""
    calls = [calls_of(engine, batch) for batch in batches[:COUNTED]]
    times = []
    for batch in batches[COUNTED:]:
        began = time.thread_time()
        engine.commit(batch)
        times.append((time.thread_time() - began) * 1e3)
    return {"ms": round(statistics.median(times), 3), "calls": statistics.median(calls)}


def checked(engine: Engine, raw: Raw, sample: list[int]) -> int:
    """Compare W1's answers of some users with those recomputed from the events."""
    found = dict(zip(sample, engine.profiles(map(user_id, sample)), strict=True))
    expected: dict[str, Any] = {}
    got: dict[str, Any] = {}
    for column in ATTRIBUTES:
        if column[0] == "l":
            continue
        kind, letter = int(column[-1]), column[0]
        values = raw.value("c", kind, 7) if letter == "d" else raw.value(letter, kind)
        of_sample = ((user, values[user]) for user in sample)
        expected[column] = {user: None if v == -np.inf else v for user, v in of_sample}
        got[column] = {u: None if p is None else p.computed[column] for u, p in found.items()}
    for segment in segments():
        expected[segment.name] = {
            user for user, value in expected[segment.column].items()
            if value is not None and value >= segment.threshold
        }  # fmt: skip
    got |= members_among(found, [s.name for s in segments()])
    return check("columns and segments", expected, got)


def main() -> None:
    """Load, commit entries of each size, check."""
    parser = options(__doc__, events=400_000, profiles=20_000)
    parser.add_argument("--memory", action="store_true", help="a log in memory instead of LMDB's")
    parser.add_argument("--sizes", type=int, nargs="*", default=SIZES)
    args: argparse.Namespace = parser.parse_args()
    table = read_w1(make_input(args.out, args, args.seed).path)
    wanted = {size: min(ENTRIES, ROWS // size) + COUNTED for size in args.sizes}
    start = table.num_rows - sum(size * count for size, count in wanted.items())
    with Engine(args.out / "entry-store", definitions(), in_memory=args.memory) as engine:
        engine.load(DATASET, table.slice(0, start))
        note(f"{start} events loaded")
        found = {}
        for size, count in wanted.items():
            batches = [
                engine.batch(DATASET, table.slice(start + i * size, size)) for i in range(count)
            ]
            start += size * count
            found[str(size)] = measure(engine, batches)
            note(f"  {size} rows an entry: {found[str(size)]}")
        raw = Raw(table)
        users = np.random.default_rng(args.seed).choice(raw.count, 200, replace=False).tolist()
        users += raw.user[-100:].tolist()
        right = checked(engine, raw, sorted(set(users)))
        wrong = engine.partition.verify(sample=10)
        if wrong:
            raise SystemExit(f"the log says otherwise: {wrong[:5]}; a wrong run has no speed")
    say(
        "entry", events=args.events, profiles=args.profiles, seed=args.seed,
        log="memory" if args.memory else "lmdb", entries=found, columns_checked=right,
    )  # fmt: skip


if __name__ == "__main__":
    main()
