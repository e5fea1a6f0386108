"""What do very many log entries of one row cost: opening again, memory, look-ups, pages?

One event a submission, which is what an interactive producer sends: every row is an entry, with its
synced commit, its fold and its feed block. Checkpoints are written as they fall due. The partition
is opened again as after a crash at the worst moment, right before the next checkpoint, and, with
``--without``, from the log's start. Look-ups and pages are timed after that, and their answers are
checked against the rows as they were sent before anything is told.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pyarrow as pa

from hot import START_MS
from machine import note, percentiles, say
from profile_actors.config import Config
from profile_actors.ingest.identity_keys import key_of
from rules_engine import SEED, Declared, Engine, user_id
from workload import NAMESPACE, options

STEP_MS = 1_000
PROBES = 200
ATTRIBUTES = {
    "count": "xEvent.count()",
    "sum": "xEvent.sum(n)",
    "least": "xEvent.min(n)",
    "last_1h": "xEvent[timestamp occurs <= 1 hour before now].count()",
}


def declared() -> Declared:
    """One event dataset with an id, the attributes, and some segments on them."""
    return {
        "namespaces": [{"code": NAMESPACE, "kind": "cross_device"}],
        "schemas": [{"name": "hit", "behavior": "event", "fields": {"n": "integer"}}],
        "datasets": [
            {
                "name": "hits", "schema": "hit", "identities": {"user_id": NAMESPACE},
                "timestamp": "timestamp", "id": "_id", "event_type": "hit",
            }
        ],
        "computed_attributes": [{"name": n, "rule": rule} for n, rule in ATTRIBUTES.items()],
        "segments": [
            {"name": f"s{limit}", "rule": f"xEvent.count() >= {limit}"} for limit in (1, 3, 10, 30)
        ],
    }  # fmt: skip


def write(engine: Engine, users: np.ndarray) -> int:
    """One entry per row, checkpoints as they fall due; returns how many of those were written."""
    checkpoints = 0
    for number, user in enumerate(users.tolist()):
        row = pa.table({
            "user_id": [user_id(user)],
            "timestamp": [START_MS + number * STEP_MS],
            "_id": [f"e{number}"],
            "n": [number],
        })  # fmt: skip
        engine.commit(engine.batch("hits", row))
        job = engine.partition.checkpoint_job()
        if job is not None:
            job()
            checkpoints += 1
            note(f"  {number + 1} entries, checkpoint {checkpoints}")
    return checkpoints


def check(engine: Engine, users: np.ndarray, probes: list[int]) -> None:
    """The attributes and the newest events of the probes, against the rows. Raises SystemExit."""
    recent = np.arange(len(users)) >= len(users) - 1 - 3600_000 // STEP_MS
    found = engine.profiles(user_id(user) for user in probes)
    for user, profile in zip(probes, found, strict=True):
        mine = np.flatnonzero(users == user)
        wanted = {
            "count": len(mine), "sum": int(mine.sum()), "least": int(mine.min()),
            "last_1h": int(recent[mine].sum()),
        }  # fmt: skip
        page = [event["_id"] for event in page_of(engine, user)]
        if profile is None or profile.computed != wanted:
            raise SystemExit(f"expected {wanted} of {user_id(user)}, got {profile}")
        if page != [f"e{number}" for number in mine[::-1][:10].tolist()]:
            raise SystemExit(f"wrong events of {user_id(user)}: {page}")


def page_of(engine: Engine, user: int) -> list[dict[str, Any]]:
    """The ten newest events of a user."""
    key = key_of(engine.catalogue.namespaces[NAMESPACE], user_id(user), SEED)
    return engine.partition.events(key, order="desc", limit=10).events


def timed(step: Callable[[int], object], probes: list[int]) -> dict[str, float]:
    """Percentiles of one step for each probe."""
    took = []
    for user in probes:
        began = time.perf_counter()
        step(user)
        took.append((time.perf_counter() - began) * 1e3)
    return percentiles(took)


def opened_again(engine: Engine) -> tuple[float, float]:
    """Seconds and core seconds of an opening."""
    began, core = time.perf_counter(), time.process_time()
    engine.reopen()
    return time.perf_counter() - began, time.process_time() - core


def resident_mb() -> dict[str, float]:
    """This process's memory now, mapped pages of files apart."""
    with open("/proc/self/status") as file:
        lines = dict(line.split(":", 1) for line in file)
    names = {"anonymous_mb": "RssAnon", "mapped_mb": "RssFile"}
    return {name: round(int(lines[key].split()[0]) / 1024, 1) for name, key in names.items()}


def main() -> None:
    """Write, open again, ask, check."""
    parser = options(__doc__, events=100_000, profiles=10_000)
    parser.add_argument("--checkpoint-entries", type=int, default=Config().checkpoint_entries)
    parser.add_argument("--without", action="store_true", help="also open without checkpoints")
    args: argparse.Namespace = parser.parse_args()
    rng = np.random.default_rng(args.seed)
    config = Config(max_profiles=1 << 18, checkpoint_entries=args.checkpoint_entries)
    # The definitions are the log's first entry; the last row is one before a checkpoint is due.
    rows = max(args.events // config.checkpoint_entries, 1) * config.checkpoint_entries - 2
    users = rng.integers(0, args.profiles, rows)
    probes = rng.choice(users, PROBES).tolist()
    with Engine(args.out / "tiny-store", declared(), config) as engine:
        began = time.perf_counter()
        checkpoints = write(engine, users)
        wrote = time.perf_counter() - began
        seconds, core = opened_again(engine)
        tail = engine.partition.position - engine.partition.owed.checkpointed
        check(engine, users, probes)
        found: dict[str, Any] = {
            "look_up": timed(lambda user: engine.profiles([user_id(user)]), probes),
            "page": timed(lambda user: page_of(engine, user), probes),
            "runs": len(engine.partition.state.locator.runs),
            **resident_mb(),
        }
        if args.without:
            engine.forget_checkpoints()
            whole, whole_core = opened_again(engine)
            check(engine, users, probes)
            found |= {"whole_s": round(whole, 2), "whole_core_s": round(whole_core, 2)}
    say(
        "tiny_entries", entries=rows + 1, profiles=args.profiles, seed=args.seed,
        checkpoint_entries=config.checkpoint_entries, checkpoints=checkpoints,
        write_ms_per_entry=round(1e3 * wrote / rows, 2), tail=tail, reopen_s=round(seconds, 2),
        reopen_core_s=round(core, 2), tail_core_ms_per_entry=round(1e3 * core / tail, 2),
        probes_checked=PROBES, **found,
    )  # fmt: skip


if __name__ == "__main__":
    main()
