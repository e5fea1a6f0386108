"""How long does a look-up take: idle, in batches, of events, and while the store ingests?

``profile(namespace, value)`` of random users, one at a time through the client, on the idle store
that holds the first quarter of a W1 file, then while another thread of the same driver ingests: at
70 % of the full rate, and the rest at full speed. Beside each an empty call of Ray to the same
actors: by turns, 200 of each in a row on the idle store, one of each beside ingest. The whole
profile comes back: 20 computed attributes, all memberships, their ``valid_until``. Then
``profiles()`` in batches, and pages of events. A sample of profiles is compared with a
recomputation. If Debian's redis-server is there, HGETALL of 120 fields stands
beside: it computes nothing.
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
import pyarrow as pa
import pyarrow.csv

import profile_actors as pf
import redis_lua
from answer import recompute
from machine import note, percentiles, say
from w1 import wrong_computed
from workload import DATASET, NAMESPACE, Input, make_input, options, save_definitions

PACED_ROWS = 5_000
"""Rows of one submission where the load is paced."""


def look_up(store: Any, profiles: int, until: Any, in_a_row: int = 1) -> dict[str, Any]:
    """Look-ups of random users until ``until()``, and empty calls of Ray, so many of each in a row:
    after one of these its threads in three processes still run, which the next look-up pays for."""
    rng = np.random.default_rng(3)
    found: list[float] = []
    empty: list[float] = []
    while not until(len(found)):
        for _ in range(in_a_row):
            user = f"u{int(rng.integers(profiles)):08d}"
            started = time.perf_counter()
            store.profile(NAMESPACE, user)
            found.append((time.perf_counter() - started) * 1e3)
        for _ in range(in_a_row):
            started = time.perf_counter()
            store._connection.read(len(empty) % len(store._connection.partitions), "head")
            empty.append((time.perf_counter() - started) * 1e3)
    return {"profile": percentiles(found), "empty_call": percentiles(empty)}


def batches(
    store: Any, profiles: int, size: int, fields: list[str] | None = None, *, is_read: bool = False
) -> int:
    """Profiles/s of ``profiles()`` in batches of a size. is_read: all memberships and attributes of
    each are looked at besides, which is when they are made."""
    rng = np.random.default_rng(4)
    asked = [
        [(NAMESPACE, f"u{int(i):08d}") for i in rng.integers(profiles, size=size)]
        for _ in range(max(3, 20_000 // size))
    ]
    store.profiles(asked[0], fields)
    started = time.perf_counter()
    for pairs in asked:
        for profile in store.profiles(pairs, fields):
            if is_read and profile is not None:
                _ = profile.segments, profile.computed, profile.computed_valid_until
    return round(size * len(asked) / (time.perf_counter() - started))


def pages(store: Any, profiles: int, count: int = 1_000) -> dict[str, Any]:
    """Pages of events of random users, of a hundred events at most."""
    rng = np.random.default_rng(5)
    events, started = 0, time.perf_counter()
    for user in rng.integers(profiles, size=count).tolist():
        events += len(store.events(NAMESPACE, f"u{user:08d}").events)
    seconds = time.perf_counter() - started
    return {"per_s": round(count / seconds), "events_each": round(events / count, 1)}


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


def beside(store: Any, profiles: int, load: Any) -> tuple[dict[str, Any], float]:
    """Look-ups while ``load`` runs in a thread, and how long that took, s."""
    failed: list[BaseException] = []

    def work() -> None:
        try:
            load()
        except BaseException as error:
            failed.append(error)

    loader = threading.Thread(target=work)
    started = time.perf_counter()
    loader.start()
    found = look_up(store, profiles, lambda _: not loader.is_alive())
    loader.join()
    if failed:
        raise SystemExit(f"the load beside the look-ups failed: {failed[0]!r}")
    return found, time.perf_counter() - started


def paced(store: Any, table: pa.Table, per_s: float) -> None:
    """Submit rows at a rate."""
    started = time.perf_counter()
    waiting = []
    for first in range(0, table.num_rows, PACED_ROWS):
        wait_s = started + first / per_s - time.perf_counter()
        if wait_s > 0:
            time.sleep(wait_s)
        waiting.append(store.submit_async(DATASET, table.slice(first, PACED_ROWS)))
    for one in waiting:
        one.result()


def redis_peer(count: int = 2_000) -> dict[str, Any] | str:
    """HGETALL of hashes of 120 fields, one at a time."""
    if shutil.which(redis_lua.SERVER) is None:
        return "no redis-server here"
    values = [word for i in range(120) for word in (f"field_{i}", str(i * 1_000_003))]
    with redis_lua.Redis() as redis:
        for user in range(100):
            redis.send([["HSET", f"u{user}", *values]])
            redis.reply()
        took = []
        for number in range(count):
            started = time.perf_counter()
            redis.send([["HGETALL", f"u{number % 100}"]])
            found = redis.reply()
            took.append((time.perf_counter() - started) * 1e3)
            if len(found) != 240:
                raise SystemExit(f"expected 240 words of redis, got {len(found)}")
    return percentiles(took)


def main() -> None:
    """Load a quarter; look up idle; then beside the other three, one of them faster than paced."""
    parser = options(__doc__, events=4_000_000, profiles=100_000)
    args: argparse.Namespace = parser.parse_args()
    first, second = parts_of(make_input(args.out, args, args.seed))
    folder = args.out / "lookup-store"
    shutil.rmtree(folder, ignore_errors=True)
    declared = save_definitions(folder.with_suffix(".json"))
    rest = pa.csv.read_csv(second)
    rest = rest.set_column(
        rest.schema.get_field_index("timestamp"), "timestamp", rest["timestamp"].cast(pa.int64())
    )
    full, paced_rows = rest.slice(0, rest.num_rows // 2), rest.slice(rest.num_rows // 2)
    with pf.start(str(folder), partitions=args.partitions, clock="event") as store:
        store.apply_file(declared)
        store.ingest(DATASET, str(first), progress=False)
        wrong = wrong_computed(store, recompute(first))
        if wrong:
            raise SystemExit(f"{len(wrong)} answers differ, so no speed is stated: {wrong[:3]}")
        note("loaded and checked; looking up")
        look_up(store, args.profiles, lambda n: n >= 200)
        idle = look_up(store, args.profiles, lambda n: n >= 2_000, in_a_row=200)
        by_size = {str(size): batches(store, args.profiles, size) for size in (100, 1_000)}
        read = {
            str(size): batches(store, args.profiles, size, is_read=True) for size in (100, 1_000)
        }
        some = batches(store, args.profiles, 1_000, ["segments(g_1,g_20)", "computed.c_0"])
        event_pages = pages(store, args.profiles)
        note("beside ingest")
        at_full, seconds = beside(store, args.profiles, lambda: paced(store, full, 1e12))
        per_s = full.num_rows / seconds
        at_70, _ = beside(store, args.profiles, lambda: paced(store, paced_rows, 0.7 * per_s))
    shutil.rmtree(folder, ignore_errors=True)
    first.unlink()
    second.unlink()
    say(
        "lookup",
        events=args.events,
        profiles=args.profiles,
        seed=args.seed,
        partitions=args.partitions,
        idle=idle,
        profiles_per_s=by_size,
        profiles_read_per_s=read,
        three_fields_per_s=some,
        event_pages=event_pages,
        at_full_rate=at_full,
        at_70_percent=at_70,
        load_events_per_s=round(per_s),
        peer_redis_hgetall=redis_peer(),
        budget={
            "idle_p50_ms": 1.2, "idle_p99_ms": 3, "p99_at_full_rate_ms": 20,
            "p99_at_70_percent_ms": 10, "profiles_per_s": {"100": 25_000, "1000": 40_000},
            "pages_per_s": 2_000,
        },
    )  # fmt: skip


if __name__ == "__main__":
    main()
