"""How soon is an event at an edge, how fast is it looked up there, and what does following cost?

W1's events with its 20 computed attributes and 100 segments; the edge has 10 segments and 8 of the
computed attributes. What the edge has is compared with the hub, field by field of every profile.

``submit_ms``        idle store, wall clock: from ``submit`` of one event until the edge shows the
                     membership that it brings (asked again and again, so that counts too);
``lookups_per_s``    ``edge.profiles`` in batches of 100 by one caller, and by 8 threads at once
                     (``in_flight``); ``read``: each profile is decoded too;
``inside_us``        one ``open_edge`` look-up in this process, decoded; ``loop_us``: arithmetic
                     between them, which says how far p99 is from p50 on this machine anyway;
``projected_per_s``  profiles out of one partition, page by page, everybody touched;
``ratio``            W1's events/s with an edge that follows over those without, same round;
``beside_ratio``     with ``--standing N``: W1's events/s into a store of N profiles while a new
                     edge copies all of them, over those before and after (``copied``: the share of
                     profiles that the edge had when W1 was through);
``cpu_ratio``, ``beside_cpu_ratio``: the same of the processor time of all processes, which is what
             the speed of a machine without a free core comes from, and says it on a busy one too.
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import statistics
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import profile_actors as pf
from latency import ENTERED, purchase, wall_ms
from machine import family_cpu_s, note, percentiles, say
from profile_actors.actors.wire import loads
from profile_actors.engine.edges.edge_pages import Place
from workload import ATTRIBUTES, DATASET, NAMESPACE, Input, make_input, options, save_definitions

EDGE = "window"
SEGMENTS = tuple(f"g_{number}" for number in range(10))
COMPUTED = ATTRIBUTES[:8]
BATCH = 100
CALLERS = 8
BARS = {
    "submit_p99_ms": 50, "lookups_per_s": 25_000, "in_flight_per_s": 60_000,
    "inside_p99_us": 50, "projected_per_s": 30_000, "ratio": 0.7, "beside_ratio": 0.8,
}  # fmt: skip


def follow(store: Any) -> Any:
    """Give the store an edge with what the bench asks of it."""
    store.apply(
        pf.EdgeDestination(EDGE),
        pf.ProjectionConfiguration("bench", EDGE, segments=SEGMENTS, computed=COMPUTED),
    )
    return store.edge(EDGE)


def check(store: Any, edge: Any, profiles: int) -> None:
    """The edge has everybody, and says of each what the hub says."""
    edge.wait(600)
    found = edge.status()
    if found.profiles != profiles:
        raise SystemExit(f"expected {profiles} profiles at the edge, got {found.profiles}")
    if wrong := store.verify(sample=0):
        raise SystemExit(f"the edge differs from the hub: {wrong[:5]}")


class Speed(NamedTuple):
    """Events/s, by the wall and by the processor time of all processes."""

    wall: float
    cpu: float


def measured(store: Any, data: Input) -> Speed:
    """W1 into a store."""
    began, own = time.perf_counter(), family_cpu_s()
    accepted = store.ingest(DATASET, data.path).accepted
    took, own = time.perf_counter() - began, family_cpu_s() - own
    if accepted != data.events:
        raise SystemExit(f"expected {data.events} accepted, got {accepted}")
    return Speed(data.events / took, data.events / own)


def events_per_s(data: Input, folder: Path, args: argparse.Namespace, has_edge: bool) -> Speed:
    """W1 into a new store, with an edge or without."""
    shutil.rmtree(folder, ignore_errors=True)
    with pf.start(folder, partitions=args.partitions, clock="event") as store:
        store.apply_file(save_definitions(args.out / "edge-definitions.json"))
        edge = follow(store) if has_edge else None
        if edge is not None:
            edge.wait()
        speed = measured(store, data)
        if edge is not None:
            check(store, edge, store.status().profiles)
    shutil.rmtree(folder, ignore_errors=True)
    return speed


def beside(folder: Path, args: argparse.Namespace) -> dict[str, float]:
    """What a new edge of a store with many profiles takes from W1's speed, in one run."""
    sizes = argparse.Namespace(**{**vars(args), "profiles": args.standing})
    standing = argparse.Namespace(**{**vars(sizes), "events": 2 * args.standing})
    shutil.rmtree(folder, ignore_errors=True)

    def speed(store: Any, seed: int) -> Speed:
        return measured(store, make_input(args.out, sizes, seed))

    with pf.start(folder, partitions=args.partitions, clock="event") as store:
        store.apply_file(save_definitions(args.out / "edge-definitions.json"))
        store.ingest(DATASET, make_input(args.out, standing, args.seed).path)
        before = speed(store, args.seed + 1)
        edge = follow(store)
        followed = speed(store, args.seed + 2)
        found = edge.status()
        profiles = store.status().profiles
        copied = found.progress if not found.is_complete else 1.0
        check(store, edge, profiles)
        store.delete("bench")
        store.delete(EDGE)
        after = speed(store, args.seed + 3)
    shutil.rmtree(folder, ignore_errors=True)
    note(
        f"new edge: {before.wall:,.0f} events/s before, {followed.wall:,.0f} beside it,"
        f" {after.wall:,.0f} after"
    )
    return {
        "beside_ratio": round(2 * followed.wall / (before.wall + after.wall), 2),
        "beside_cpu_ratio": round(2 * followed.cpu / (before.cpu + after.cpu), 2),
        "standing": profiles,
        "copied": round(copied, 2),
    }


def submit_latency(store: Any, edge: Any, name: str, count: int) -> list[float]:
    """ms from submit to the membership at the edge, one new user at a time."""
    out = []
    for number in range(count):
        user = f"{name}{number:06d}"
        store.submit(DATASET, [purchase(user, i, wall_ms()) for i in range(3)])
        edge.wait()
        began = time.perf_counter()
        store.submit(DATASET, [purchase(user, 3, wall_ms())])
        while True:
            found = edge.profile(NAMESPACE, user)
            member = None if found is None else found.segments.get(ENTERED)
            if member is not None and member.status == "realized":
                break
        out.append((time.perf_counter() - began) * 1e3)
    return out


def users_of(data: Input, count: int) -> list[tuple[str, str]]:
    """Random customers of the file."""
    lines = data.path.read_text().splitlines()
    where = lines[0].split(",").index("user_id")
    users = sorted({line.split(",")[where] for line in lines[1:]})
    drawn = random.Random(1)
    return [(NAMESPACE, drawn.choice(users)) for _ in range(count)]


def whole(found: Any) -> bool:
    """Whether a profile has all that was projected; reads all of it."""
    parts = (found.identities, found.computed_valid_until, found.stale, found.segments)
    return len(found.computed) == len(COMPUTED) and None not in parts


def look_up(edge: Any, asked: list[tuple[str, str]], seconds: float, is_read: bool) -> float:
    """Profiles/s in batches; each one must be somebody. is_read: and is decoded."""
    done = 0
    at = random.randrange(len(asked) - BATCH)
    began = time.perf_counter()
    while (spent := time.perf_counter() - began) < seconds:
        found = edge.profiles(asked[at : at + BATCH])
        if None in found or (is_read and not all(map(whole, found))):
            raise SystemExit("expected everybody at the edge")
        done += len(found)
        at = (at + BATCH) % (len(asked) - BATCH)
    return done / spent


def looked_up(edge: Any, asked: list[tuple[str, str]], seconds: float) -> dict[str, int]:
    """Profiles/s by one caller and by several at once."""
    out = {}
    for name, callers, is_read in (
        ("lookups", 1, False), ("lookups_read", 1, True), ("in_flight", CALLERS, False),
    ):  # fmt: skip
        look_up(edge, asked, 0.3, is_read)
        words = [(edge, asked, seconds, is_read)] * callers
        with ThreadPoolExecutor(callers) as pool:
            speeds = list(pool.map(lambda one: look_up(*one), words))
        out[f"{name}_per_s"] = round(sum(speeds))
    return out


def inside(edge: Any, asked: list[tuple[str, str]]) -> dict[str, dict[str, float]]:
    """us of look-ups in this process, one by one; and of a loop of arithmetic between them, which
    says how far this machine's p99 is from its p50 when nothing is waited for."""
    times: list[float] = []
    loop: list[float] = []
    with pf.open_edge(edge.path) as beside:
        for namespace, value in asked:
            began = time.perf_counter()
            found = beside.profile(namespace, value)
            is_whole = found is not None and whole(found)
            ended = time.perf_counter()
            times.append((ended - began) * 1e6)
            sum(number * number for number in range(300))
            loop.append((time.perf_counter() - ended) * 1e6)
            if not is_whole:
                raise SystemExit(f"expected {value} at the edge, got {found}")
    return {"inside_us": _as_us(times[200:]), "loop_us": _as_us(loop[200:])}


def _as_us(times: list[float]) -> dict[str, float]:
    return {name.replace("_ms", "_us"): value for name, value in percentiles(times).items()}


def projected(store: Any) -> float:
    """Profiles/s out of partition 0, as an edge that begins anew pulls them."""
    partition = store._connection.partitions[0]
    place, done, total = Place(), 0, 0
    began = time.perf_counter()
    while True:
        page = loads(partition.call("project", EDGE, place, 0.0))
        place, total = page.place, page.total
        done += len(page.ends)
        if not page.has_more:
            break
    seconds = time.perf_counter() - began
    if done != total:
        raise SystemExit(f"expected {total} profiles out of the partition, got {done}")
    return done / seconds


def main() -> None:
    """One JSON line. The load of the machine is part of what it says."""
    parser = options(__doc__, events=1_000_000, profiles=100_000)
    parser.add_argument("--repeat", type=int, default=1, help="rounds of W1 with and without")
    parser.add_argument("--probes", type=int, default=300)
    parser.add_argument("--standing", type=int, default=0, help="profiles that a new edge copies")
    parser.add_argument("--only-beside", action="store_true", help="measure that alone")
    parser.add_argument("--seconds", type=float, default=4.0, help="of look-ups, each form")
    args = parser.parse_args()
    load = os.getloadavg()[0]
    folder = args.out / "edge-store"
    beside_found = beside(folder, args) if args.standing else {}
    if args.only_beside:
        say("edge-beside", events=args.events, load=round(load, 1), **beside_found, bars=BARS)
        return
    data = make_input(args.out, args, args.seed)
    rounds = []
    for number in range(args.repeat):
        without = events_per_s(data, folder, args, has_edge=False)
        followed = events_per_s(data, folder, args, has_edge=True)
        note(f"round {number + 1}: {without.wall:,.0f} events/s without, {followed.wall:,.0f} with")
        rounds.append((without, followed))
    shutil.rmtree(folder, ignore_errors=True)
    asked = users_of(data, 20_000)
    with pf.start(folder, partitions=args.partitions, clock="wall") as store:
        store.apply_file(save_definitions(args.out / "edge-definitions.json"))
        store.ingest(DATASET, data.path)
        edge = follow(store)
        check(store, edge, store.status().profiles)
        note("loaded; measuring")
        submit_latency(store, edge, "warm", 20)
        found = {
            "submit_ms": percentiles(submit_latency(store, edge, "probe", args.probes)),
            "projected_per_s": round(max(projected(store) for _ in range(3))),
            **inside(edge, asked),
        }
        found |= looked_up(edge, asked, args.seconds)
        check(store, edge, store.status().profiles)
        size = edge.status().bytes
    shutil.rmtree(folder, ignore_errors=True)
    say(
        "edge", events=args.events, profiles=args.profiles, seed=args.seed,
        partitions=args.partitions, load=round(load, 1), rounds=args.repeat, **found,
        ratio=round(statistics.median(b.wall / a.wall for a, b in rounds), 2),
        cpu_ratio=round(statistics.median(b.cpu / a.cpu for a, b in rounds), 2),
        events_per_s=round(statistics.median(a.wall for a, _ in rounds)),
        events_per_s_followed=round(statistics.median(b.wall for _, b in rounds)),
        edge_bytes=size, **beside_found, bars=BARS,
    )  # fmt: skip


if __name__ == "__main__":
    main()
