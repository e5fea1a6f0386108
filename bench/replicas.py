"""What does a standby cost, and how soon is it in force? Workload W1 and single events, checked.

Both "disks" are directories of one disk here, and both processes share its cores.

``ingest_ratio``  W1's events/s with a standby in sync over those without, in one run;
``single_ms``     one event, ``submit`` until it is acknowledged: without, and with a standby;
``promotion_s``   from ``promote`` until the partition answers a look-up from the other copy.

Members of every segment, events and verification are the same after it as before.
Bars: ratio 0.6; single events' p99 at most 8 ms more than without, and at most 23 ms; 5 s.
"""

from __future__ import annotations

import shutil
import time
from pathlib import Path

import profile_actors as pf
from latency import purchase, wall_ms
from machine import note, percentiles, say
from workload import DATASET, NAMESPACE, Input, make_input, options, save_definitions, segments

WAIT_S = 300.0


def loaded(store: pf.Store, source: Input) -> float:
    """Events/s of the file."""
    begin = time.perf_counter()
    report = store.ingest(DATASET, source.path)
    seconds = time.perf_counter() - begin
    if report.accepted != source.events:
        raise SystemExit(f"expected {source.events} rows, got {report.accepted}")
    return source.events / seconds


def singles(store: pf.Store, name: str, count: int) -> list[float]:
    """ms until one event is acknowledged, one at a time."""
    out = []
    for number in range(count):
        row = purchase(f"{name}{number}", number, wall_ms())
        begin = time.perf_counter()
        store.submit(DATASET, [row])
        out.append(1e3 * (time.perf_counter() - begin))
    return out


def members(store: pf.Store) -> dict[str, int]:
    """How many are in each segment."""
    return {one.name: sum(1 for _ in store.members(one.name)) for one in segments()[::10]}


def main() -> None:
    """One JSON line."""
    parser = options(__doc__, events=1_000_000, profiles=100_000)
    parser.add_argument("--singles", type=int, default=300)
    args = parser.parse_args()
    source = make_input(args.out, args, args.seed)
    out = Path(args.out)
    rates: dict[bool, float] = {}
    waits: dict[bool, dict[str, float]] = {}
    config = pf.Config(checkpoint_rows=max(10_000, args.events // 8))
    for has_standby in (False, True):
        for name in ("replicas-a", "replicas-b"):
            shutil.rmtree(out / name, ignore_errors=True)
        with pf.start(out / "replicas-a", partitions=args.partitions, config=config) as store:
            store.apply_file(save_definitions(out / "replicas-definitions.json"))
            if has_standby:
                store.add_disk(out / "replicas-b")
                store.set_replicas(1)
                store.wait_for_replicas(WAIT_S)
            rates[has_standby] = loaded(store, source)
            waits[has_standby] = percentiles(singles(store, "single", args.singles))
            note(
                f"  standby {has_standby}: {rates[has_standby]:,.0f} events/s, {waits[has_standby]}"
            )
            if not has_standby:
                continue
            store.wait_for_replicas(WAIT_S)
            time.sleep(12)  # standbys look for checkpoints every 5 s
            before = members(store)
            begin = time.perf_counter()
            store.promote(0)
            if store.profile(NAMESPACE, "single0") is None:
                raise SystemExit("expected a profile, got none")
            promotion = time.perf_counter() - begin
            store.wait_for_replicas(WAIT_S)
            if members(store) != before or store.verify():
                raise SystemExit("the promoted copy answers otherwise")
    for name in ("replicas-a", "replicas-b"):
        shutil.rmtree(out / name, ignore_errors=True)
    say(
        "replicas", events=args.events, profiles=args.profiles, seed=args.seed,
        partitions=args.partitions, events_per_s={"alone": round(rates[False]),
        "with_standby": round(rates[True])}, ingest_ratio=round(rates[True] / rates[False], 3),
        single_ms={"alone": waits[False], "with_standby": waits[True]},
        promotion_s=round(promotion, 2),
        bars={"ingest_ratio": 0.6, "single_p99_ms": 23, "promotion_s": 5},
    )  # fmt: skip


if __name__ == "__main__":
    main()
