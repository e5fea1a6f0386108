"""How fast do events go in one at a time, and how long until each is visible? Workload W1, checked.

``full``    events/s from the first ``send`` of one row until all are folded, from 1 and 4 threads
            (event clock; the rows are dicts in memory before);
``submits`` rows/s of ``submit_async`` with 10, 100 and 1,000 dicts a call;
``offered`` ms from ``send`` until the row's fold is visible, at 100, 1,000 and 10,000 events/s
            (wall clock, one thread). A row is visible when its stream's receipt counts it; that is
            looked at every 0.2 ms, and checked by look-ups of new users' first membership and of
            everybody's at the end.

Peers do the same work on the same rows in the same run: the plain dict loop, and Redis with one
call of a Lua function per event.
"""

from __future__ import annotations

import argparse
import csv
import shutil
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np

import profile_actors as pf
import redis_lua
from answer import Answer, differences, recompute
from gen_w1 import HEADER, TYPES
from machine import note, percentiles, say
from w1 import peer, wrong_computed
from workload import DATASET, NAMESPACE, make_input, options, save_definitions

BARS = {
    "full_per_s": 40_000,
    "submits_per_s": {"10": 60_000, "100": 100_000, "1000": 200_000},
    "offered_p99_ms": {"100": 15, "1000": 20, "10000": 40},
}
LOOK_S = 0.0002
FIRST = "g_35"  # c_3 >= 1: a user enters it with the first purchase
PROBES_PER_S = 20

Row = dict[str, Any]


def read(path: Path) -> list[Row]:
    """The file's rows, typed."""
    with path.open(newline="") as file:
        return [
            row | {"timestamp": int(row["timestamp"]), "price": float(row["price"])}
            for row in csv.DictReader(file)
        ]


def write(path: Path, rows: list[Row]) -> Path:
    """Rows as the file that ``answer`` reads."""
    with path.open("w") as file:
        file.write(HEADER)
        file.writelines(",".join(map(str, row.values())) + "\n" for row in rows)
    return path


def check(store: pf.Store, answer: Answer) -> None:
    """All segments' members, and a sample of computed attributes. Raises SystemExit."""
    wrong = differences(answer, lambda name: (m.value for m in store.members(name)))
    wrong += wrong_computed(store, answer)
    if wrong:
        for line in wrong[:20]:
            note(f"  wrong: {line}")
        raise SystemExit(f"{len(wrong)} answers differ; a wrong run has no speed")


def fresh(folder: Path, args: argparse.Namespace, clock: Any) -> pf.Store:
    """An empty store with W1's definitions."""
    shutil.rmtree(folder, ignore_errors=True)
    store = pf.start(folder, args.partitions, clock)
    store.apply_file(save_definitions(folder.with_suffix(".json")))
    return store


def full_speed(store: pf.Store, rows: list[Row], threads: int) -> float:
    """Events/s of single sends from so many threads."""
    stream = store.stream(DATASET)

    def drive(mine: list[Row]) -> None:
        for row in mine:
            stream.send(row)

    drivers = [threading.Thread(target=drive, args=(rows[n::threads],)) for n in range(threads)]
    began = time.perf_counter()
    for driver in drivers:
        driver.start()
    for driver in drivers:
        driver.join()
    stream.close()
    seconds = time.perf_counter() - began
    if stream.receipt().accepted != len(rows):
        raise SystemExit(f"expected {len(rows)} accepted, got {stream.receipt()}")
    return len(rows) / seconds


def submits(store: pf.Store, rows: list[Row], size: int) -> float:
    """Rows/s of ``submit_async`` with so many dicts a call."""
    began = time.perf_counter()
    pending = [
        store.submit_async(DATASET, rows[at : at + size]) for at in range(0, len(rows), size)
    ]
    accepted = sum(one.result().accepted for one in pending)
    seconds = time.perf_counter() - began
    if accepted != len(rows):
        raise SystemExit(f"expected {len(rows)} accepted, got {accepted}")
    return len(rows) / seconds


class Watch(threading.Thread):
    """Notes when each row of a stream, sent by one thread, was counted by its receipt."""

    def __init__(self, stream: pf.RowStream, count: int) -> None:
        super().__init__(daemon=True)
        self.seen_s = np.zeros(count)
        self.counted = 0
        self._stream = stream

    def run(self) -> None:
        while self.counted < len(self.seen_s):
            receipt = self._stream.receipt()
            if receipt.duplicate or receipt.rejected_count:
                raise SystemExit(f"expected accepted rows only, got {receipt}")
            self.seen_s[self.counted : receipt.accepted] = time.perf_counter()
            self.counted = receipt.accepted
            time.sleep(LOOK_S)


def new_rows(args: argparse.Namespace, rate: int, rng: np.random.Generator) -> list[Row]:
    """Rows for one offered load: users of W1, and new ones whose first event is a purchase."""
    count = int(rate * args.seconds)
    users = [f"u{n:08d}" for n in rng.integers(0, args.profiles, count).tolist()]
    kinds = rng.choice(4, count, p=[0.70, 0.15, 0.10, 0.05])
    probes = np.arange(0, count, max(1, rate // PROBES_PER_S))
    kinds[probes] = TYPES.index("purchase")
    for at in probes.tolist():
        users[at] = f"new{rate}-{at}"
    prices = np.round(rng.gamma(2, 30, count), 2).tolist()
    return [
        {
            "_id": f"load{rate}-{n}", "user_id": users[n], "timestamp": 0,
            "eventType": TYPES[kind], "price": prices[n], "url": "https://shop.example/p/1",
        }
        for n, kind in enumerate(kinds.tolist())
    ]  # fmt: skip


def offered(store: pf.Store, rows: list[Row], rate: int) -> dict[str, Any]:
    """Send at a steady rate; percentiles of the time until a row is visible."""
    sent = np.zeros(len(rows))
    probes = 0
    with store.stream(DATASET) as stream:
        watch = Watch(stream, len(rows))
        watch.start()
        began = time.perf_counter()
        for number, row in enumerate(rows):
            due = began + number / rate
            while (now := time.perf_counter()) < due:
                time.sleep(min(due - now, 0.0005))
            row["timestamp"] = time.time_ns() // 1_000_000
            sent[number] = time.perf_counter()
            stream.send(row)
        late_s = time.perf_counter() - began - len(rows) / rate
        watch.join()
        for row in rows[:: max(1, rate // PROBES_PER_S)]:
            profile = store.profile(NAMESPACE, row["user_id"])
            if profile is None or profile.segments[FIRST].status != "realized":
                raise SystemExit(f"{row['user_id']} is acknowledged and not in {FIRST}")
            probes += 1
    return {
        **percentiles(((watch.seen_s - sent) * 1e3).tolist()),
        "probes": probes,
        "behind_ms": round(1e3 * max(0.0, late_s), 1),
    }


def main() -> None:
    """Peers, full speed, submits, offered loads; one JSON line."""
    parser = options(__doc__, events=300_000, profiles=30_000)
    parser.add_argument("--seconds", type=float, default=5.0, help="of each offered load")
    parser.add_argument("--no-peer", action="store_true")
    args: argparse.Namespace = parser.parse_args()
    data = make_input(args.out, args, args.seed)
    rows, answer = read(data.path), recompute(data.path)
    found: dict[str, Any] = {}
    if not args.no_peer:
        note("peers")
        found["peer_plain_per_s"] = round(args.events / peer("plain", data.path)["seconds"])
        members = {name: set(users.tolist()) for name, users in answer.members().items()}
        found["peer_redis"] = redis_lua.run(rows, members)
    folder = args.out / "stream-store"
    full: dict[str, int] = {}
    for threads in (1, 4):
        note(f"full speed, {threads} threads")
        with fresh(folder, args, "event") as store:
            full[str(threads)] = round(full_speed(store, rows, threads))
            check(store, answer)
    loads: dict[str, Any] = {}
    submitted: dict[str, int] = {}
    rng = np.random.default_rng(args.seed)
    with fresh(folder, args, "wall") as store:
        store.ingest(DATASET, str(data.path))
        part = rows[: min(len(rows), 100_000)]
        for size in (10, 100, 1_000):
            note(f"submits of {size}")
            renamed = [row | {"_id": f"{size}-{row['_id']}"} for row in part[: size * 1_000]]
            submitted[str(size)] = round(submits(store, renamed, size))
            rows += renamed
        for rate in (100, 1_000, 10_000):
            note(f"{rate} events/s offered")
            load = new_rows(args, rate, rng)
            loads[str(rate)] = offered(store, load, rate)
            rows += load
        # W1's own rows have left their windows by this clock: they are not in these counts.
        check(store, recompute(write(args.out / "stream-all.csv", rows)))
    shutil.rmtree(folder, ignore_errors=True)
    for name in ("peer_plain_per_s", "peer_redis"):
        if name in found:
            each = found[name]["per_s"] if isinstance(found[name], dict) else found[name]
            if isinstance(each, int):
                found[f"ratio_{name.removesuffix('_per_s')}"] = round(full["1"] / each, 2)
    say(
        "stream", events=args.events, profiles=args.profiles, seed=args.seed,
        partitions=args.partitions, full_per_s=full, submits_per_s=submitted, offered=loads,
        **found, bars=BARS,
    )  # fmt: skip


if __name__ == "__main__":
    main()
