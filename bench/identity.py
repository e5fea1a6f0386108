"""How fast do events that name several identities become whole people? Pipelined, checked.

Each person has a customer number, an address and two devices, all of them linked in the end; every
fifth event names two of them, the others one. People's identities lie on all partitions.
``events_per_s`` counts from the first event until everybody is whole and shown (``advance_to`` is a
barrier); ``submit_per_s`` until the last receipt. The answer is checked for everybody: which
identities are of one person, and how many events she has, are what a union-find over the same rows
says. The peer is that union-find with a count per person, in one Python process, nothing durable.

Then one component of ``--crowd`` identities grows link by link beside look-ups of others. Bars:
100,000 events/s; p99 of the others at most 2 times what it was.
"""

from __future__ import annotations

import shutil
import threading
import time
from collections import Counter
from pathlib import Path

import numpy as np
import pyarrow as pa

import profile_actors as pf
from machine import note, percentiles, say
from workload import options

START = 1_709_100_000_000
BATCH = 20_000
One = tuple[str, str]
"""A namespace and a value."""


def rows_of(events: int, people: int, seed: int) -> pa.Table:
    """The events. Everybody's identities are linked by somebody's fifth events."""
    rng = np.random.default_rng(seed)
    who = rng.integers(0, people, events)
    links = rng.random(events) < 0.2
    # The first four fifths name one identity each; a link names the customer and another one.
    which = rng.integers(0, 4, events)
    other = np.where(links, rng.integers(1, 4, events), -1)
    every = np.arange(people)
    who = np.concatenate([who, np.repeat(every, 3)])
    which = np.concatenate([np.where(links, 0, which), np.zeros(3 * people, np.int64)])
    other = np.concatenate([other, np.tile([1, 2, 3], people)])
    order = rng.permutation(len(who))
    who, which, other = who[order], which[order], other[order]

    def column(prefix: str, kinds: tuple[int, ...]) -> pa.Array:
        out: list[str | None] = [None] * len(who)
        for kind in kinds:
            for at in ((which == kind) | (other == kind)).nonzero()[0].tolist():
                out[at] = f"{prefix}{who[at]}-{kind}"
        return pa.array(out)

    return pa.table({
        "crm": column("c", (0,)), "mail": column("m", (1,)), "device": column("d", (2, 3)),
        "at": pa.array(START + 10 * np.arange(len(who))),
        "kind": pa.array(np.array(["buy", "call"])[rng.integers(0, 2, len(who))].tolist()),
    })  # fmt: skip


def united(table: pa.Table) -> tuple[dict[One, One], Counter[One]]:
    """The peer: the representative of each identity, and the events of each person."""
    parent: dict[One, One] = {}
    counts: Counter[One] = Counter()

    def find(one: One) -> One:
        root = one
        while parent.setdefault(root, root) != root:
            root = parent[root]
        while parent[one] != root:
            parent[one], one = root, parent[one]
        return root

    spaces = ("CRMID", "Email", "ECID")
    columns = [table.column(name).to_pylist() for name in ("crm", "mail", "device")]
    for row in zip(*columns, strict=True):
        named = [(space, value) for space, value in zip(spaces, row, strict=True) if value]
        for other in named[1:]:
            parent[find(other)] = find(named[0])
        counts[named[0]] += 1
    people: Counter[One] = Counter()
    for one, count in counts.items():
        people[find(one)] += count
    return {one: find(one) for one in parent}, people


def definitions() -> list[pf.Definition]:
    """Three namespaces, one data set, one segment and one computed attribute."""
    return [
        pf.Namespace("CRMID", "cross_device", unique=True, priority=1),
        pf.Namespace("Email", "email", priority=2),
        pf.Namespace("ECID", "cookie", priority=3),
        pf.Schema("hit", "event", {"place": "string"}),
        pf.Dataset(
            "hits", "hit", {"crm": "CRMID", "mail": "Email", "device": "ECID"}, timestamp="at",
            event_type_field="kind",
        ),
        pf.SegmentDefinition("buyers", 'xEvent[eventType = "buy"].count() >= 5'),
        pf.ComputedAttribute("count", "xEvent.count()"),
    ]  # fmt: skip


def check(store: pf.Store, whose: dict[One, One], counts: Counter[One]) -> int:
    """Everybody is whole: returns how many people there are."""
    members: dict[One, set[One]] = {}
    for one, root in whose.items():
        members.setdefault(root, set()).add(one)
    asked = list(whose)
    for first in range(0, len(asked), 1_000):
        page = asked[first : first + 1_000]
        for one, profile in zip(page, store.profiles(page), strict=True):
            if profile is None:
                raise SystemExit(f"expected a profile of {one}, got none")
            got = {(i.namespace, i.value) for i in profile.identities}
            if got != members[whose[one]] or profile.computed["count"] != counts[whose[one]]:
                raise SystemExit(
                    f"expected {one} to be one of {sorted(members[whose[one]])} with"
                    f" {counts[whose[one]]} events, got {sorted(got)} with {profile.computed}"
                )
    if store.status().profiles != len(members):
        raise SystemExit(f"expected {len(members)} people, got {store.status().profiles}")
    return len(members)


def crowded(store: pf.Store, size: int, now: int) -> dict[str, object]:
    """Look-ups of others before and while one person gets ``size`` identities."""

    def looks(stop: threading.Event, most: int) -> list[float]:
        took: list[float] = []
        while not stop.is_set() and len(took) < most:
            begin = time.perf_counter()
            store.profile("CRMID", f"c{len(took) % 500}-0")
            took.append(1e3 * (time.perf_counter() - begin))
        return took

    alone = percentiles(looks(threading.Event(), 1_500))
    stop, found = threading.Event(), list[float]()
    thread = threading.Thread(target=lambda: found.extend(looks(stop, 1 << 30)))
    thread.start()
    begin = time.perf_counter()
    for first in range(0, size, 200):
        rows = [
            {"crm": "crowd", "device": f"x{n}", "at": now + n, "kind": "call"}
            for n in range(first, min(size, first + 200))
        ]
        store.submit("hits", rows)
    seconds = time.perf_counter() - begin
    stop.set()
    thread.join()
    beside = percentiles(found)
    store.advance_to(now + size + 1)
    crowd = store.profile("CRMID", "crowd")
    got = 0 if crowd is None else len(crowd.identities)
    if got != size + 1:
        raise SystemExit(f"expected {size + 1} identities, got {got}")
    ratio = round(float(beside["p99_ms"]) / float(alone["p99_ms"]), 2)
    return {
        "identities": got, "links_per_s": round(size / seconds), "others_alone": alone,
        "others_beside": beside, "p99_ratio": ratio, "bar": 2.0,
    }  # fmt: skip


def main() -> None:
    """One JSON line."""
    parser = options(__doc__, events=400_000, profiles=50_000)
    parser.add_argument("--crowd", type=int, default=10_000, help="identities of one person")
    args = parser.parse_args()
    table = rows_of(args.events, args.profiles, args.seed)
    begin = time.perf_counter()
    whose, counts = united(table)
    peer = table.num_rows / (time.perf_counter() - begin)
    folder = Path(args.out) / "identity-store"
    shutil.rmtree(folder, ignore_errors=True)
    with pf.start(folder, partitions=args.partitions, clock="event") as store:
        store.apply(*definitions())
        begin = time.perf_counter()
        batches = (table.slice(first, BATCH) for first in range(0, table.num_rows, BATCH))
        for receipt in [store.submit_async("hits", rows) for rows in batches]:
            receipt.result()
        submitted = table.num_rows / (time.perf_counter() - begin)
        now = START + 10 * table.num_rows
        store.advance_to(now)
        seconds = time.perf_counter() - begin
        note(f"  {table.num_rows / seconds:,.0f} events/s until everybody is whole")
        people = check(store, whose, counts)
        crowd = crowded(store, args.crowd, now) if args.crowd else None
    shutil.rmtree(folder, ignore_errors=True)
    joins = len(whose) - people
    say(
        "identity", events=table.num_rows, people=people, identities=len(whose), seed=args.seed,
        partitions=args.partitions, events_per_s=round(table.num_rows / seconds),
        submit_per_s=round(submitted), joins_per_s=round(joins / seconds),
        peer_events_per_s=round(peer), ratio=round(table.num_rows / seconds / peer, 3),
        bars={"events_per_s": 100_000}, crowd=crowd,
    )  # fmt: skip


if __name__ == "__main__":
    main()
