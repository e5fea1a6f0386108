"""What does a person's page cost after years of single events, and what do those take on the disk?

One event a submission, each an entry of its own, of few people. Their pages are timed as the log
came, compacted, and with the same rows in one batch; the events of all three must be the same.
Blocks are opened anew for each page. Then single events go on, some beside a compaction and some
not, in turns: what part of its speed ingest keeps.
"""

from __future__ import annotations

import argparse
import statistics
import threading
import time
from typing import Any

import numpy as np
import pyarrow as pa

from hot import START_MS
from machine import note, say
from profile_actors.actors.logs.compactor import Compactor
from profile_actors.config import Config
from profile_actors.ingest.identity_keys import key_of
from profile_actors.storage.compaction.compacting import compact, due
from rules_engine import SEED, Engine, user_id
from tiny_entries import STEP_MS, declared
from workload import NAMESPACE, options

PAGE = 1_000
PROBES = 10
TURNS = 6


def rows_of(users: np.ndarray, first: int = 0) -> pa.Table:
    """Events of these users, one a second."""
    numbers = range(first, first + len(users))
    return pa.table({
        "user_id": [user_id(user) for user in users.tolist()],
        "timestamp": [START_MS + number * STEP_MS for number in numbers],
        "_id": [f"e{number}" for number in numbers],
        "n": list(numbers),
    })  # fmt: skip


def write(engine: Engine, rows: pa.Table) -> None:
    """One entry per row, checkpoints as they fall due."""
    for number in range(rows.num_rows):
        engine.commit(engine.batch("hits", rows.slice(number, 1).combine_chunks()))
        job = engine.partition.checkpoint_job()
        if job is not None:
            job()
        if number % 20_000 == 19_999:
            note(f"  {number + 1} entries")


def pages(engine: Engine, probes: list[int]) -> tuple[float, list[Any]]:
    """ms of a core for a page (the median), and the events of all."""
    took, events = [], []
    for user in probes:
        key = key_of(engine.catalogue.namespaces[NAMESPACE], user_id(user), SEED)
        engine.partition.reader.let_go()
        began = time.thread_time()
        events.append(engine.partition.events(key, order="desc", limit=PAGE).events)
        took.append((time.thread_time() - began) * 1e3)
    return statistics.median(took), events


def compacted(engine: Engine) -> float:
    """Compact all that is sealed, without rest; core seconds."""
    log: Any = engine.partition.log
    if engine.partition.position > log.listed[-1].first:
        log.sealed_with(engine.partition.position - 1)
    began = time.thread_time()
    while entries := due(log, log.head(), engine.config.log_segment_bytes):
        compact(log, entries, engine.config.log_map_bytes, lambda: True)
    engine.partition.reader.let_go()
    return time.thread_time() - began


def beside(engine: Engine, turn: int, first: int) -> dict[str, Any]:
    """Single events, in turns with and without a compaction beside them that is paced as in a
    store."""
    log: Any = engine.partition.log
    write(engine, rows_of(np.arange(turn), first))
    log.sealed_with(log.head() - 1)
    gate = threading.Event()
    paced = Compactor(log, engine.folder, engine.config, below=log.head)
    done = [0]

    def go_on() -> bool:
        gate.wait()
        done[0] += 1
        return paced.go_on()

    def work() -> None:
        while entries := due(log, log.head(), engine.config.log_segment_bytes):
            compact(log, entries, engine.config.log_map_bytes, go_on)

    threading.Thread(target=work, daemon=True).start()
    speeds: dict[bool, list[float]] = {False: [], True: []}
    at = first + turn
    for number in range(2 * TURNS):
        is_beside = bool(number % 2)
        (gate.set if is_beside else gate.clear)()
        began = time.perf_counter()
        write(engine, rows_of(np.arange(turn // 4), at))
        speeds[is_beside].append(turn // 4 / (time.perf_counter() - began))
        at += turn // 4
    gate.set()
    alone, both = (statistics.median(speeds[key]) for key in (False, True))
    return {
        "alone_per_s": round(alone), "beside_per_s": round(both), "beside": round(both / alone, 3),
        "steps_beside": done[0],
    }  # fmt: skip


def main() -> None:
    """Write, ask, compact, ask again; and both at a time."""
    parser = options(__doc__, events=200_000, profiles=100)
    parser.add_argument("--turn", type=int, default=4_000, help="entries beside a compaction")
    args: argparse.Namespace = parser.parse_args()
    rng = np.random.default_rng(args.seed)
    config = Config(max_profiles=1 << 18, min_free_bytes=1)
    users = rng.integers(0, args.profiles, args.events)
    probes = list(range(min(PROBES, args.profiles)))
    rows = rows_of(users)
    with Engine(args.out / "batch-store", declared(), config) as engine:
        engine.load("hits", rows, block=args.events)
        batch_ms, wanted = pages(engine, probes)
    with Engine(args.out / "single-store", declared(), config) as engine:
        write(engine, rows)
        single_bytes = engine.partition.log.size_bytes() / args.events
        single_ms, found = pages(engine, probes)
        core_s = compacted(engine)
        compacted_bytes = engine.partition.log.size_bytes() / args.events
        compacted_ms, again = pages(engine, probes)
        if not wanted == found == again:
            raise SystemExit("the pages of the three forms differ")
        both = beside(engine, args.turn, args.events)
    say(
        "compaction", events=args.events, profiles=args.profiles, seed=args.seed, page=PAGE,
        batch_ms=round(batch_ms, 2), single_ms=round(single_ms, 2),
        compacted_ms=round(compacted_ms, 2), ratio=round(compacted_ms / batch_ms, 2),
        single_bytes=round(single_bytes), compacted_bytes=round(compacted_bytes),
        core_us_per_entry=round(1e6 * core_s / args.events), **both,
    )  # fmt: skip


if __name__ == "__main__":
    main()
