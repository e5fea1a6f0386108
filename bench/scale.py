"""Does an event cost more in a larger store, and what does a profile cost there?

W1's definitions over 10 k, 1 M and 5 M profiles, each a partition over a real log in this process.
First every profile comes in with one event; eight days later, when those have left the windows,
come the measured ones: as many in each store, in entries of one size, over a fortnight, of users
drawn alike from all. So entries are the same work, exits by the clock included, and what differs is
how far apart in memory the profiles lie that an entry touches. (With as many events a profile in
each, the small store would see an entry or two. As it is, its events meet rather the same profiles,
which is cheaper: the ratio is no better than the truth.) CPU time of ``commit`` is counted,
with its disk thread; not the door, nor the wait for fsync. Then a checkpoint is taken while small
entries come in: how long the writer stands still for it, how long an entry takes at most without it
and beside it, how long it takes, how long opening from it. Counts, sums, maxima, windows and
members of a sample are recomputed from the events, before and after.
"""

from __future__ import annotations

import argparse
import gc
import time
from collections.abc import Iterable, Iterator
from itertools import count, islice, takewhile
from threading import Thread
from typing import Any

import numpy as np
import pyarrow as pa

from gen_w1 import START_MS, TYPES
from machine import note, say
from profile_actors.config import Config
from rules_engine import DAY_MS, Engine, Raw, check, user_id
from tiny_entries import resident_mb
from workload import DATASET, definitions, options, segments

SIZES = (10_000, 1_000_000, 5_000_000)
SPAN_MS = 14 * DAY_MS
PROBES = 200
WINDOW_DAYS = 7
SMALL = 100


def rows(users: np.ndarray, first: int, when: int, step: int, rng: np.random.Generator) -> pa.Table:
    """One event of each user, from the given number and instant on, a step (ms) apart."""
    count = len(users)
    kind = rng.choice(4, count, p=[0.70, 0.15, 0.10, 0.05]).astype(np.int32)
    kinds = pa.DictionaryArray.from_arrays(pa.array(kind), pa.array(TYPES))
    numbers = pa.array(np.arange(first, first + count)).cast(pa.string())
    names = pa.compute.utf8_lpad(pa.array(users).cast(pa.string()), 8, "0")
    texts = {"_id": ("ev-", numbers), "user_id": ("u", names), "url": ("/p/", numbers)}
    joined = {
        name: pa.compute.binary_join_element_wise(pa.scalar(head), tail, "")
        for name, (head, tail) in texts.items()
    }
    return pa.table({
        **joined, "eventType": kinds.cast(pa.string()),
        "timestamp": when + step * np.arange(count),
        "price": np.round(rng.gamma(2, 30, count), 2),
    })  # fmt: skip


def blocks(profiles: int, args: argparse.Namespace) -> Iterator[tuple[pa.Table, str]]:
    """Every profile once, in any order; then the 'measured' events, after an entry that lets the
    clock's arrears happen; then small entries without end."""
    rng = np.random.default_rng(args.seed)
    sent, when, step = 0, START_MS, SPAN_MS // args.events
    phases = (
        (rng.permutation(profiles), 1, "first"),
        (rng.integers(0, profiles, args.block), step, "second"),
        (rng.integers(0, profiles, args.events), step, "measured"),
    )
    for users, apart, phase in phases:
        for start in range(0, len(users), args.block):
            part = rows(users[start : start + args.block], sent, when, apart, rng)
            sent, when = sent + part.num_rows, when + apart * part.num_rows
            yield part, phase
        when += 8 * DAY_MS if phase == "first" else 0
    while True:
        part = rows(rng.integers(0, profiles, SMALL), sent, when, 1, rng)
        sent, when = sent + SMALL, when + SMALL
        yield part, "small"


def longest(engine: Engine, parts: Iterable[pa.Table]) -> float:
    """The longest time that an entry took, in seconds."""
    most = 0.0
    for part in parts:
        batch = engine.batch(DATASET, part)
        began = time.perf_counter()
        engine.commit(batch)
        most = max(most, time.perf_counter() - began)
    return most


def answers(engine: Engine, users: list[int]) -> dict[str, Any]:
    """What the store says of the users: computed attributes and memberships."""
    out: dict[str, Any] = {}
    for user, profile in zip(users, engine.profiles(map(user_id, users)), strict=True):
        assert profile is not None, user
        inside = {n for n, m in profile.segments.items() if m.status == "realized"}
        values = {n: v for n, v in profile.computed.items() if n[0] in "csmd"}
        out[user_id(user)] = (values, inside)
    return out


def recomputed(raw: Raw, users: list[int]) -> dict[str, Any]:
    """The same, from the events."""
    values: dict[str, np.ndarray] = {}
    for kind in range(4):
        values[f"d_{kind}"] = raw.value("c", kind, WINDOW_DAYS)
        values |= {f"{letter}_{kind}": raw.value(letter, kind) for letter in "csm"}
    out: dict[str, Any] = {}
    for user in users:
        mine = {name: column[user].item() for name, column in values.items()}
        inside = {s.name for s in segments() if mine[s.column] >= s.threshold}
        none = {name for name, value in mine.items() if value == -np.inf}
        out[user_id(user)] = ({n: None if n in none else v for n, v in mine.items()}, inside)
    return out


def one_size(args: argparse.Namespace, profiles: int) -> dict[str, Any]:
    """Load, measure, check, save and open again one store."""
    gc.collect()
    before = resident_mb()["anonymous_mb"]
    users = np.random.default_rng(args.seed).choice(profiles, PROBES, replace=False).tolist()
    kept: list[pa.Table] = []
    core = 0.0
    with Engine(args.out / "scale-store", definitions(), Config()) as engine:
        stream = blocks(profiles, args)

        def next_part() -> tuple[pa.Table, str]:
            part, phase = next(stream)
            kept.append(part.select(["user_id", "eventType", "price", "timestamp"]))
            return part, phase

        while (found := next_part())[1] != "small":
            batch = engine.batch(DATASET, found[0])
            began = time.process_time()
            engine.commit(batch)
            core += time.process_time() - began if found[1] == "measured" else 0.0
        small = (next_part()[0] for _ in count())
        alone = longest(engine, [found[0], *islice(small, 100)])
        note(f"{profiles:,} profiles are loaded; checking")
        wanted = recomputed(Raw(pa.concat_tables(kept).combine_chunks()), users)
        checked = check("profiles", wanted, answers(engine, users))
        status = engine.partition.status()
        began = time.perf_counter()
        job = engine.partition.checkpoint_job(force=True)
        pause = time.perf_counter() - began
        assert job is not None
        saver = Thread(target=job)
        began = time.perf_counter()
        saver.start()
        beside = longest(engine, takewhile(lambda _: saver.is_alive(), small))
        saving = time.perf_counter() - began
        wanted = recomputed(Raw(pa.concat_tables(kept[:-1]).combine_chunks()), users)
        kept.clear()
        del job, batch, found
        began = time.perf_counter()
        engine.reopen()
        opening = time.perf_counter() - began
        check("profiles after opening", wanted, answers(engine, users))
        gc.collect()
        resident = resident_mb()["anonymous_mb"] - before
    return {
        "profiles": profiles,
        "ns_per_event": round(core / args.events * 1e9),
        "state_bytes_per_profile": round(status.state_bytes / profiles, 1),
        "by_kind": {name: round(n / profiles, 1) for name, n in status.state_by_kind.items()},
        "resident_bytes_per_profile": round(resident * 2**20 / profiles, 1),
        "checkpoint_pause_ms": round(pause * 1e3, 1), "checkpoint_save_s": round(saving, 2),
        "longest_entry_ms": {"alone": round(alone * 1e3, 1), "beside": round(beside * 1e3, 1)},
        "reopen_s": round(opening, 2), "profiles_checked": 2 * checked,
    }  # fmt: skip


def main() -> None:
    """Each size in turn."""
    parser = options(__doc__, events=1_000_000, profiles=0)
    parser.add_argument("--block", type=int, default=100_000, help="rows of an entry")
    parser.add_argument("--sizes", type=int, nargs="*", default=SIZES)
    args: argparse.Namespace = parser.parse_args()
    found = [one_size(args, size) for size in args.sizes]
    costs = [one["ns_per_event"] for one in found]
    say(
        "scale", events=args.events, seed=args.seed, block_rows=args.block, sizes=found,
        cost_ratio=round(costs[-1] / costs[0], 2),
        budget={"cost_ratio": 3, "state_bytes_per_profile": 450, "checkpoint_pause_ms": 50},
    )  # fmt: skip


if __name__ == "__main__":
    main()
