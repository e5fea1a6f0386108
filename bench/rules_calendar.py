"""(c) How long is the longest pause when 100 calendar windows roll over at midnight?

Ten windows (this and last day, week, month, quarter, year), for each ten thresholds on counts and
sums of all events, of views, and of purchases. The midnight is that of Sunday, 2023-01-01, when
all ten roll over at once. One partition with its writer thread and a real log, on a wall clock that
is the machine's, shifted to a few seconds before; the load (in the two years before, denser towards
the end) is folded and checkpointed by then.

Meanwhile one thread submits small batches and another looks profiles up, each every few
milliseconds. A pause is the time from a call to its answer. The product runs several partitions
in processes of their own, each with its share of the profiles: this is the harder case.
"""

from __future__ import annotations

import argparse
import datetime
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa

from gen_w1 import TYPES
from machine import note, percentiles, say
from profile_actors.actors.mail.interpreter import SWITCH_INTERVAL_S
from profile_actors.actors.writer import Writer
from profile_actors.columnar.vectors import FOREVER
from rules_engine import DAY_MS, Engine, check, declare, user_id
from workload import DATASET

MIDNIGHT = datetime.datetime(2023, 1, 1, tzinfo=datetime.UTC)
MIDNIGHT_MS = int(MIDNIGHT.timestamp() * 1000)
LEAD_MS = 3_000
TAIL_S = 1.5
EVERY_S = 0.005
ROWS = 10
UNITS = ("day", "week", "month", "quarter", "year")
FILTERS = ("", f'eventType = "{TYPES[0]}" and ', f'eventType = "{TYPES[3]}" and ')
KIND = (-1, 0, 3)
# (filter, aggregate, threshold); no sum of cents equals a threshold with half a cent
FORMS = (
    (0, "count()", 1), (0, "count()", 2), (0, "count()", 4), (1, "count()", 1), (1, "count()", 2),
    (2, "count()", 1), (0, "sum(price)", 100.005), (0, "sum(price)", 200.005),
    (1, "sum(price)", 60.005), (2, "sum(price)", 50.005),
)  # fmt: skip


@dataclass(frozen=True)
class Case:
    """``aggregate >= threshold`` over the events of a filter in this or the last unit."""

    name: str
    which: str
    unit: str
    filter: int
    aggregate: str
    threshold: float

    @property
    def rule(self) -> str:
        """The rule text."""
        window = f"timestamp occurs on {self.which} {self.unit}"
        return f"xEvent[{FILTERS[self.filter]}{window}].{self.aggregate} >= {self.threshold}"


CASES = tuple(
    Case(f"{which}_{unit}_{number}", which, unit, *form)
    for which in ("this", "last")
    for unit in UNITS
    for number, form in enumerate(FORMS)
)


def bounds(which: str, unit: str) -> tuple[int, int]:
    """First and one past the last ms of this or the last unit, on the day that begins."""
    start = {
        "day": (datetime.date(2023, 1, 1), datetime.date(2022, 12, 31)),
        "week": (datetime.date(2023, 1, 1), datetime.date(2022, 12, 25)),
        "month": (datetime.date(2023, 1, 1), datetime.date(2022, 12, 1)),
        "quarter": (datetime.date(2023, 1, 1), datetime.date(2022, 10, 1)),
        "year": (datetime.date(2023, 1, 1), datetime.date(2022, 1, 1)),
    }[unit]
    this, last = (
        int(datetime.datetime(d.year, d.month, d.day, tzinfo=datetime.UTC).timestamp() * 1000)
        for d in start
    )
    return (this, this + DAY_MS) if which == "this" else (last, this)


def history(events: int, profiles: int, seed: int) -> pa.Table:
    """Events of the two years before: a fifth each on the last day, in the last week, in the last
    month, in the last quarter, and in all of the two years; in time order."""
    rng = np.random.default_rng(seed)
    span = np.array([1, 7, 31, 92, 730])[rng.integers(0, 5, events)] * DAY_MS
    back = (rng.random(events) * (span - 2 * LEAD_MS)).astype(np.int64) + 2 * LEAD_MS
    return rows_of(rng, np.sort(MIDNIGHT_MS - back), profiles, 0)


def rows_of(rng: np.random.Generator, when: np.ndarray, profiles: int, first: int) -> pa.Table:
    """Rows at the given instants, of random users, types and prices as W1's."""
    n = len(when)
    users, kinds = rng.integers(0, profiles, n), rng.choice(4, n, p=[0.70, 0.15, 0.10, 0.05])
    return pa.table(
        {
            "_id": pa.array([f"ev-{first + i}" for i in range(n)]),
            "user_id": pa.array([user_id(user) for user in users.tolist()]),
            "timestamp": pa.array(when),
            "eventType": pa.array(TYPES).take(pa.array(kinds)),
            "price": pa.array(np.round(rng.gamma(2, 30, n), 2)),
        }
    )


@dataclass(slots=True)
class Seen:
    """Measurements as (instant on the shifted clock, ms it took), and the rows submitted.

    entries: the writer's own, whether made of rows or by the clock alone; core_ms: processor time
    of each, since another process may have had the core.
    """

    submits: list[tuple[int, float]] = field(default_factory=list)
    look_ups: list[tuple[int, float]] = field(default_factory=list)
    entries: list[tuple[int, float]] = field(default_factory=list)
    core_ms: list[float] = field(default_factory=list)
    rows: list[pa.Table] = field(default_factory=list)


def roll(engine: Engine, profiles: int, seed: int) -> Seen:
    """Run the writer over midnight, with submissions and look-ups, until nothing is due."""
    seen, partition = Seen(), engine.partition
    sys.setswitchinterval(SWITCH_INTERVAL_S)  # as the actor does
    begun = time.perf_counter()

    def wall() -> int:
        return MIDNIGHT_MS - LEAD_MS + int((time.perf_counter() - begun) * 1e3)

    def timed(into: list[tuple[int, float]], call: Callable[..., Any], *given: Any) -> Any:
        at, started = wall(), time.perf_counter()
        result = call(*given)
        into.append((at, (time.perf_counter() - started) * 1e3))
        return result

    def entered(call: Callable[..., Any], *given: Any) -> Any:
        core = time.thread_time()
        result = timed(seen.entries, call, *given)
        seen.core_ms.append((time.thread_time() - core) * 1e3)
        return result

    commit, tick = partition.commit, partition.tick
    # The writer makes its entries by these two; an instance's own attribute hides the method.
    partition.commit = lambda *given: entered(commit, *given)  # type: ignore[method-assign]
    partition.tick = lambda now: entered(tick, now)  # type: ignore[method-assign]
    writer = Writer(partition, engine.config, clock="wall", wall=wall)
    writer.start()
    done = threading.Event()

    def look_up() -> None:
        rng = np.random.default_rng(seed + 1)
        while not done.is_set():
            user = user_id(int(rng.integers(profiles)))
            timed(seen.look_ups, engine.profiles, [user])
            time.sleep(EVERY_S)

    reader = threading.Thread(target=look_up)
    reader.start()
    rng = np.random.default_rng(seed + 2)
    finish = float("inf")
    try:
        while time.perf_counter() < finish:
            rows = rows_of(rng, np.full(ROWS, wall()), profiles, 1 << 40 | len(seen.rows) * ROWS)
            batch = engine.batch(DATASET, rows, on_event_clock=False)
            reply = timed(seen.submits, writer.submit, batch)
            if (reply.status, reply.accepted) != ("ok", ROWS):
                raise SystemExit(f"expected {ROWS} rows accepted, got {reply}")
            seen.rows.append(rows)
            due = partition.next_due()
            if finish == float("inf") and wall() > MIDNIGHT_MS and (due > wall() or due == FOREVER):
                finish = time.perf_counter() + TAIL_S
            time.sleep(EVERY_S)
    finally:
        done.set()
        reader.join()
        writer.stop()
    return seen


def _checked(engine: Engine, table: pa.Table, profiles: int) -> int:
    """Sizes of all segments against counting and adding up the raw events."""
    users = np.array([int(user[1:]) for user in table["user_id"].to_pylist()])
    when, price = table["timestamp"].to_numpy(), table["price"].to_numpy()
    kind = np.array([TYPES.index(name) for name in table["eventType"].to_pylist()])
    sums: dict[tuple[str, str, int, str], np.ndarray] = {}
    expected = {}
    for case in CASES:
        key = (case.which, case.unit, case.filter, case.aggregate)
        if key not in sums:
            first, end = bounds(case.which, case.unit)
            mask = (when >= first) & (when < end)
            if KIND[case.filter] >= 0:
                mask &= kind == KIND[case.filter]
            weights = price[mask] if case.aggregate != "count()" else None
            sums[key] = np.bincount(users[mask], weights, profiles)
        expected[case.name] = int((sums[key] >= case.threshold).sum())
    return check("sizes", expected, {name: engine.partition.count(name) for name in expected})


def ask(args: argparse.Namespace) -> None:
    """Load, roll over, check; one JSON line."""
    profiles, events = args.calendar_profiles, args.calendar_events
    rules = [(case.name, case.rule) for case in CASES]
    table = history(events, profiles, args.seed)
    # A start for everybody, so that all profiles exist; long before every window.
    old = np.full(profiles, MIDNIGHT_MS - 1_000 * DAY_MS)
    start = rows_of(np.random.default_rng(0), old, profiles, 1 << 41)
    everybody = pa.array([user_id(number) for number in range(profiles)])
    start = start.set_column(1, "user_id", everybody)
    with Engine(args.out / "rules-calendar", declare(rules)) as engine:
        started = time.perf_counter()
        engine.load(DATASET, start)
        engine.load(DATASET, table)
        note(f"loaded in {time.perf_counter() - started:.1f} s; rolling over")
        job = engine.partition.checkpoint_job(force=True)
        if job is not None:
            job()
        before = engine.partition.state.counters.changes_by_clock
        seen = roll(engine, profiles, args.seed)
        by_clock = engine.partition.state.counters.changes_by_clock - before
        rescanned = engine.rescanned()
        checked = _checked(engine, pa.concat_tables([start, table, *seen.rows]), profiles)
    _say(args, seen, by_clock, rescanned, checked)


def _say(
    args: argparse.Namespace, seen: Seen, by_clock: int, rescanned: list[str], checked: int
) -> None:
    calm = [ms for at, ms in seen.submits if at + ms < MIDNIGHT_MS]
    longest = max(ms for _, ms in [*seen.submits, *seen.look_ups])
    entries = [ms for at, ms in seen.entries if at + ms >= MIDNIGHT_MS]
    if not calm or seen.submits[-1][0] < MIDNIGHT_MS:
        raise SystemExit("expected submissions before and after midnight; nothing was measured")
    say(
        "rules_c",
        asked="longest pause while 100 calendar windows roll over midnight",
        command=args.command,
        profiles=args.calendar_profiles,
        events=args.calendar_events,
        seed=args.seed,
        longest_pause_ms=round(longest, 1),
        submit=percentiles([ms for _, ms in seen.submits]),
        submit_before=percentiles(calm),
        look_up=percentiles([ms for _, ms in seen.look_ups]),
        entry_longest_ms=round(max(entries), 1),
        entry_longest_core_ms=round(max(seen.core_ms), 1),
        entry_after=percentiles(entries),
        changes_by_clock=by_clock,
        rescanned=len(rescanned),
        bar=250,
        ok=longest <= 250,
        checked=f"{checked} sizes by brute force",
    )
