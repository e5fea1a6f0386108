"""Is a store that works for long as quick and as small at the end as it was at first?

A store with ``--events`` events of ``--profiles`` people already, on the wall clock, with a
standby, checkpoints and compaction, gets a mixture for ``--seconds``: single events, batches,
records, and look-ups; windows let events go all the time. Every sample says of each process its
anonymous memory, file handles and threads, and of the store its disks and what calls took.

Flat is: anonymous memory of each process in the last quarter at most 1.03 times what it was in the
second (and ``--slack-mb``); no more file handles and threads than then, but for a few; the p99 of
submits and look-ups at most twice; disks grow by no more than ``MAX_BYTES`` a row of each copy.
"""

from __future__ import annotations

import os
import shutil
import statistics
import threading
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

import profile_actors as pf
from machine import descendants, note, percentiles, say
from workload import options

ROLES = ("PartitionActor", "StandbyActor", "CoordinatorActor")
WAIT_S = 600.0
BLOCK = 500_000
MAX_BYTES = 2_500
"""A single event's log entry until it is compacted, twice: here, and in what is made of it."""
SPARE_BYTES = 512 << 20
"""Feed, checkpoints and log segments that are being written anew, whatever the rows."""
SPARE_HANDLES = 32
"""Log segments that are open while eight become one, and lines of look-ups."""
SPARE_THREADS = 8


def declared(window_s: int) -> list[Any]:
    """Lifetime and windowed values over events, and a record's field."""
    recent = f"xEvent[timestamp occurs <= {window_s} seconds before now]"
    return [
        pf.Namespace("CRMID", "cross_device"),
        pf.Schema("hit", "event", {"page": "string", "price": "double"}),
        pf.Schema("person", "record", {"tier": "string", "city": "string"}),
        pf.Dataset("hits", "hit", {"who": "CRMID"}, timestamp="at", id="n", event_type="hit"),
        pf.Dataset("crm", "person", {"who": "CRMID"}, timestamp="at"),
        pf.ComputedAttribute("visits", "xEvent.count()"),
        pf.ComputedAttribute("spent", "xEvent.sum(price)"),
        pf.ComputedAttribute("recent", f"{recent}.sum(price)"),
        pf.SegmentDefinition("gold", 'tier = "gold" and xEvent.count() > 3'),
        *(pf.SegmentDefinition(f"busy{n}", f"{recent}.count() >= {n}") for n in range(1, 9)),
    ]


def wall_ms() -> int:
    """The store's clock."""
    return time.time_ns() // 1_000_000


class Rows:
    """Rows of people who are there already, each event with an id of its own."""

    def __init__(self, profiles: int, seed: int) -> None:
        self._rng = np.random.default_rng(seed)
        self._profiles = profiles
        self._lock = threading.Lock()
        self.given = 0

    def events(self, count: int, at: int, span_ms: int = 1) -> pa.Table:
        """So many, spread over the time up to an instant (ms)."""
        with self._lock:
            first, self.given = self.given, self.given + count
            who = self._rng.integers(0, self._profiles, count)
            times = at - self._rng.integers(0, span_ms, count)
        return pa.table({
            "who": [f"p{one}" for one in who.tolist()],
            "at": times,
            "n": [f"e{number}" for number in range(first, first + count)],
            "page": pa.array(np.char.add("page-", (who % 50).astype(str))),
            "price": (who % 97).astype(np.float64),
        })  # fmt: skip

    def people(self, count: int) -> list[str]:
        """Some of those who are there."""
        with self._lock:
            return [f"p{one}" for one in self._rng.integers(0, self._profiles, count).tolist()]


class Load:
    """Threads that each do one thing at a rate, and how long each took. rows: that were sent."""

    def __init__(self) -> None:
        self.rows = 0
        self.failed: list[str] = []
        self._took: dict[str, list[float]] = defaultdict(list)
        self._lock = threading.Lock()
        self._end = threading.Event()
        self._threads: list[threading.Thread] = []

    def begin(self, name: str, every_s: float, act: Callable[[], int]) -> None:
        """act: returns how many rows it sent. A late one is not made up for."""

        def run() -> None:
            while not self._end.wait(every_s):
                began = time.perf_counter()
                try:
                    rows = act()
                except Exception as error:
                    self.failed.append(f"{name}: {error!r}")
                    return
                with self._lock:
                    self._took[name].append(1e3 * (time.perf_counter() - began))
                    self.rows += rows

        thread = threading.Thread(target=run, name=name, daemon=True)
        thread.start()
        self._threads.append(thread)

    def taken(self) -> dict[str, list[float]]:
        """ms of each call since the last time this was asked, by name."""
        with self._lock:
            took, self._took = self._took, defaultdict(list)
        return took

    def end(self) -> None:
        """Wait for all of them."""
        self._end.set()
        for thread in self._threads:
            thread.join(WAIT_S)


def anonymous_bytes(pid: int) -> int:
    """Memory of a process that no file is behind."""
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith("Anonymous:"):
            return int(line.split()[1]) << 10
    return 0


def processes() -> dict[str, int]:
    """The store's processes by what they are, in the order in which they began."""
    found = {"driver": os.getpid()}
    for pid, words in sorted(descendants(os.getpid()).items()):
        role = next((r for r in ROLES if words.startswith("ray::") and r in words), None)
        if role is not None:
            number = sum(name.startswith(role) for name in found)
            found[f"{role}{number}"] = pid
    return found


def disk_bytes(folders: list[Path]) -> int:
    """Blocks that the store's files have on their disks."""
    total = 0
    for folder in folders:
        for path in folder.rglob("*"):
            try:
                total += path.stat().st_blocks * 512
            except FileNotFoundError:  # replaced meanwhile
                continue
    return total


def sampled(known: dict[str, int], folders: list[Path], load: Load) -> dict[str, Any]:
    """One row of the table."""
    took = load.taken()
    return {
        "rows": load.rows,
        "memory": {name: anonymous_bytes(pid) for name, pid in known.items()},
        "handles": {
            name: len(list(Path(f"/proc/{pid}/fd").iterdir())) for name, pid in known.items()
        },
        "threads": {
            name: len(list(Path(f"/proc/{pid}/task").iterdir())) for name, pid in known.items()
        },
        "disk": disk_bytes(folders),
        "took": took,
    }


def line_of(sample: dict[str, Any], second: float) -> str:
    """A row of the table, as people read it."""
    memory = " ".join(f"{value >> 20}" for value in sample["memory"].values())
    handles, threads = (sum(sample[name].values()) for name in ("handles", "threads"))
    took = " ".join(
        f"{name} {percentiles(ms)['p99_ms']:.1f}" for name, ms in sorted(sample["took"].items())
    )
    return (
        f"{second:6.0f} s {sample['rows']:>10,} rows  MB {memory}  handles {handles}  threads"
        f" {threads}  disk {sample['disk'] >> 20} MB  p99 ms {took}"
    )


def judged(samples: list[dict[str, Any]], slack_bytes: int) -> dict[str, Any]:
    """What was flat: the last quarter of the samples against the second."""
    quarter = len(samples) // 4
    second, last = samples[quarter : 2 * quarter], samples[-quarter:]
    growth, wrong = {}, []
    for name in second[0]["memory"]:
        was, now = (statistics.mean(s["memory"][name] for s in part) for part in (second, last))
        growth[name] = round(now / was, 3)
        if now > 1.03 * was + slack_bytes:
            wrong.append(f"memory of {name}: {was:.0f} to {now:.0f} bytes")
    for kind, spare in (("handles", SPARE_HANDLES), ("threads", SPARE_THREADS)):
        for name in second[0][kind]:
            was, now = (max(s[kind][name] for s in part) for part in (second, last))
            if now > was + spare:
                wrong.append(f"{kind} of {name}: {was} to {now}")
    p99 = {}
    for name in sorted({name for s in second for name in s["took"]}):
        was, now = (
            float(np.percentile([ms for s in part for ms in s["took"].get(name, ())], 99))
            for part in (second, last)
        )
        p99[name] = [round(was, 2), round(now, 2)]
    rows = samples[-1]["rows"] - samples[0]["rows"]
    grown = samples[-1]["disk"] - samples[0]["disk"]
    if grown > 2 * MAX_BYTES * rows + SPARE_BYTES:
        wrong.append(f"disks: {grown} bytes for {rows} rows")
    return {
        "memory_ratio": growth, "p99_ms": p99, "disk_bytes_per_row": round(grown / max(rows, 1)),
        "rows": rows, "not_flat": wrong,
        "slower": [name for name, (was, now) in p99.items() if now > 2 * was],
    }  # fmt: skip


def prefill(store: pf.Store, rows: Rows, events: int, days: int = 30) -> None:
    """So many events of the last month."""
    while rows.given < events:
        count = min(BLOCK, events - rows.given)
        store.submit("hits", rows.events(count, wall_ms() - 60_000, days * 86_400_000))
        note(f"  {rows.given:,} events are there")


def begin(store: pf.Store, rows: Rows, load: Load, args: Any) -> None:
    """The mixture."""

    def single() -> int:
        store.submit("hits", rows.events(1, wall_ms()))
        return 1

    def batch() -> int:
        store.submit("hits", rows.events(args.batch, wall_ms(), 1_000))
        return int(args.batch)

    def record() -> int:
        at = wall_ms()
        said = [{"who": who, "at": at, "tier": "gold", "city": "Bern"} for who in rows.people(20)]
        store.submit("crm", said)
        return 20

    def look_up() -> int:
        found = store.profiles([("CRMID", who) for who in rows.people(20)])
        assert any(one is not None for one in found)
        return 0

    def page() -> int:
        store.events("CRMID", rows.people(1)[0], order="desc", limit=20)
        return 0

    for number in range(4):
        load.begin("single", 4 / args.singles_per_s, single)
        if number == 0:
            load.begin("batch", 1.0, batch)
            load.begin("record", 0.2, record)
            load.begin("look_up", 0.02, look_up)
            load.begin("page", 0.05, page)


def main() -> None:
    """One JSON line, and a table over time."""
    parser = options(__doc__, events=20_000_000, profiles=500_000)
    parser.add_argument("--seconds", type=float, default=1_200.0)
    parser.add_argument("--sample-s", type=float, default=10.0)
    parser.add_argument("--singles-per-s", type=float, default=200.0)
    parser.add_argument("--batch", type=int, default=5_000, help="events of a batch, one a second")
    parser.add_argument("--compact-entries", type=int, default=20_000)
    parser.add_argument("--checkpoint-entries", type=int, default=4_096)
    parser.add_argument("--slack-mb", type=float, default=0.0)
    args = parser.parse_args()
    folders = [args.out / "soak-a", args.out / "soak-b"]
    for folder in folders:
        shutil.rmtree(folder, ignore_errors=True)
    window_s = max(2, int(args.seconds / 20))
    config = pf.Config(
        compact_entries=args.compact_entries, checkpoint_entries=args.checkpoint_entries
    )
    rows, load, samples = Rows(args.profiles, args.seed), Load(), []
    with pf.start(folders[0], partitions=args.partitions, clock="wall", config=config) as store:
        store.apply(*declared(window_s))
        prefill(store, rows, args.events)
        store.add_disk(folders[1])
        store.set_replicas(1)
        store.wait_for_replicas(WAIT_S)
        known = processes()
        note(f"  memory of {', '.join(known)}")
        begin(store, rows, load, args)
        began = time.monotonic()
        while time.monotonic() < began + args.seconds and not load.failed:
            time.sleep(args.sample_s)
            samples.append(sampled(known, folders, load))
            note(line_of(samples[-1], time.monotonic() - began))
        load.end()
        if load.failed:
            raise SystemExit(f"a call failed: {load.failed[0]}")
        if processes() != known:
            raise SystemExit(f"expected the processes {known}, got {processes()}")
        store.wait_for_replicas(WAIT_S)
        status = store.status()
        accounts = [one.compaction for one in status.partitions]
        compacted = sum(one.entries for one in accounts if one is not None)
        if differences := store.verify(sample=10):
            raise SystemExit(f"expected no differences, got {differences[0]}")
    for folder in folders:
        shutil.rmtree(folder, ignore_errors=True)
    found = judged(samples, int(args.slack_mb * (1 << 20)))
    say(
        "soak", events=args.events, profiles=args.profiles, seed=args.seed, seconds=args.seconds,
        compacted_entries=compacted, **found,
        bars={"memory_ratio": 1.03, "p99": 2.0, "disk_bytes_per_row": 2 * MAX_BYTES},
    )  # fmt: skip
    if found["not_flat"]:
        raise SystemExit("; ".join(found["not_flat"]))


if __name__ == "__main__":
    main()
