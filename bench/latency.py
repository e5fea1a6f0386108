"""How long from one event to its membership, and from a due instant to the exit?

One event at a time on an idle store under the wall clock, W1's 20 computed attributes and 100
segments plus one with a two-second window:

``submit_ms``   from calling ``submit`` with one row until ``profile()`` shows its membership;
``exit_lag_ms`` from the instant a windowed membership ends until the change feed shows its exit
                (the feed is polled every 2 ms, so up to that much is the poll's).
"""

from __future__ import annotations

import argparse
import shutil
import time
from typing import Any

import profile_actors as pf
from machine import note, percentiles, say
from workload import DATASET, NAMESPACE, make_input, options, save_definitions

ENTERED = "g_3"  # c_3 >= 4: a profile enters it with its fourth purchase
BURST = "burst"
BURST_MS = 2_000
BURST_SIZE = 50


def wall_ms() -> int:
    """The wall clock that the store runs on."""
    return time.time_ns() // 1_000_000


def purchase(user: str, number: int, when: int) -> dict[str, Any]:
    """One purchase row."""
    return {
        "_id": f"{user}-{number}",
        "user_id": user,
        "timestamp": when,
        "eventType": "purchase",
        "price": 10.0,
        "url": "https://shop.example/p/1",
    }


def is_in(store: Any, user: str, segment: str) -> bool:
    """Whether a look-up shows the membership as realized."""
    profile = store.profile(NAMESPACE, user)
    membership = None if profile is None else profile.segments.get(segment)
    return membership is not None and membership.status == "realized"


def entry_latency(store: Any, name: str, count: int) -> list[float]:
    """ms from submit to visible membership, one new user ``name``N at a time."""
    out = []
    for n in range(count):
        user = f"{name}{n:06d}"
        store.submit(DATASET, [purchase(user, i, wall_ms()) for i in range(3)])
        if is_in(store, user, ENTERED):
            raise SystemExit(f"{user} is in {ENTERED} with three purchases; the rule says four")
        started = time.perf_counter()
        store.submit(DATASET, [purchase(user, 3, wall_ms())])
        while not is_in(store, user, ENTERED):
            pass
        out.append((time.perf_counter() - started) * 1e3)
    return out


def exit_lag(store: Any, rounds: int) -> list[float]:
    """ms from each exit's due instant until the feed shows it; ``BURST_SIZE`` exits a round.

    A round's entries are over before the first of them is due, so nothing but time is at work.
    """
    lags: list[float] = []
    feed = store.changes()
    for _ in feed:  # what the load left; afterwards the cursor stands at the present
        pass
    for number in range(rounds):
        due: dict[str, int] = {}
        for n in range(BURST_SIZE):
            user, when = f"burst{number:03d}-{n:03d}", wall_ms()
            store.submit(DATASET, [purchase(user, 0, when)])
            due[user] = when + BURST_MS + 1
        if wall_ms() > min(due.values()):
            raise SystemExit("a round of entries took longer than its window: lower BURST_SIZE")
        deadline = wall_ms() + BURST_MS + 10_000
        while due and wall_ms() < deadline:
            feed = store.changes(after=feed.cursor)
            for change in feed:
                if change.name == BURST and change.new == "exited":
                    expected = due.pop(change.identity.value)
                    if change.at != expected:
                        raise SystemExit(f"expected an exit stamped {expected}, got {change}")
                    lags.append(wall_ms() - expected)
            time.sleep(0.002)
        if due:
            raise SystemExit(f"{len(due)} exits are not in the feed 10 s after they were due")
    return lags


def main() -> None:
    """Load ``--events`` of W1 first, then measure on the idle store."""
    parser = options(__doc__, events=200_000, profiles=20_000)
    parser.add_argument("--probes", type=int, default=500)
    args: argparse.Namespace = parser.parse_args()
    data = make_input(args.out, args, args.seed)
    folder = args.out / "latency-store"
    shutil.rmtree(folder, ignore_errors=True)
    rule = f'xEvent[eventType = "purchase" and timestamp occurs <= {BURST_MS // 1000} seconds'
    burst = {"name": BURST, "rule": f"{rule} before now].count() >= 1"}
    declared = save_definitions(folder.with_suffix(".json"), extra_segments=[burst])
    with pf.start(str(folder), partitions=args.partitions, clock="wall") as store:
        store.apply_file(declared)
        store.ingest(DATASET, str(data.path))
        note("loaded; measuring")
        time.sleep(1.0)
        entry_latency(store, "warm", 20)  # warm: connections, code paths
        submit = entry_latency(store, "probe", args.probes)
        time.sleep(BURST_MS / 1e3 + 1)  # the probes leave the short window as well
        lag = exit_lag(store, max(1, args.probes // BURST_SIZE))
    shutil.rmtree(folder, ignore_errors=True)
    say(
        "latency",
        events=args.events,
        profiles=args.profiles,
        seed=args.seed,
        partitions=args.partitions,
        submit_ms=percentiles(submit),
        exit_lag_ms=percentiles(lag),
        budget={"submit_p99_ms": 15, "exit_lag_ms": 1000},
    )


if __name__ == "__main__":
    main()
