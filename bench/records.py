"""How fast are records taken in, and does a look-up cost what was written last, or all there was?

A million upserts of customer records, each with some of six leaves, over many people, in one
partition: from rows to a durable, folded entry, the door included; three of the leaves are read by
rules. Then people whose record was written once, 3,000 times whole, and 3,000 times a leaf at a
time, each upsert an entry of its own, are looked up in turn. Answers are checked against the rows.
"""

from __future__ import annotations

import statistics
import time
from typing import Any

import numpy as np
import pyarrow as pa

from machine import note, say
from profile_actors.config import Config
from rules_engine import Declared, Engine, check, user_id
from workload import NAMESPACE, options

START_MS = 1_709_251_200_000
TIERS = ("none", "silver", "gold", "platinum")
CITIES = tuple(f"city {n}" for n in range(2_000))
LEAVES = ("tier", "score", "balance", "home.city", "consent", "note")
BLOCK = 50_000
UPSERTS = 3_000
READS = 400


def declared() -> Declared:
    """One record dataset, and rules that read three of its leaves."""
    return {
        "namespaces": [{"code": NAMESPACE, "kind": "cross_device"}],
        "schemas": [
            {
                "name": "person", "behavior": "record",
                "fields": {
                    "tier": "string", "score": "integer", "balance": "double",
                    "home.city": "string", "consent": "boolean", "note": "string",
                },
            }
        ],
        "datasets": [
            {
                "name": "crm", "schema": "person", "identities": {"user_id": NAMESPACE},
                "timestamp": "changed_at",
            }
        ],
        "computed_attributes": [{"name": "points", "rule": "score"}],
        "segments": [
            {"name": "gold", "rule": 'tier = "gold"'},
            {"name": "rich", "rule": "balance > 900"},
        ],
    }  # fmt: skip


def upserts(rows: int, people: int, seed: int) -> tuple[pa.Table, np.ndarray]:
    """Rows in the order of their times, and who each is of. Each leaf is null in half of them."""
    draw = np.random.default_rng(seed)
    who = draw.integers(0, people, rows)
    values: dict[str, Any] = {
        "tier": np.array(TIERS)[draw.integers(0, len(TIERS), rows)],
        "score": draw.integers(0, 1_000, rows),
        "balance": np.round(draw.random(rows) * 1_000, 2),
        "home.city": np.array(CITIES)[draw.integers(0, len(CITIES), rows)],
        "consent": draw.random(rows) < 0.5,
        "note": np.array([f"call {n}" for n in range(5_000)])[draw.integers(0, 5_000, rows)],
    }
    columns = {
        name: pa.array(column, mask=draw.random(rows) < 0.5) for name, column in values.items()
    }
    names = np.array([user_id(n) for n in range(people)])
    columns["user_id"] = pa.array(names[who])
    columns["changed_at"] = pa.array(START_MS + np.arange(rows))
    return pa.table(columns), who


def flat(attributes: dict[str, Any]) -> dict[str, Any]:
    """Attributes by dotted path."""
    out = dict(attributes)
    out |= {f"home.{name}": value for name, value in out.pop("home", {}).items()}
    return out


def check_answers(engine: Engine, table: pa.Table, who: np.ndarray, people: list[int]) -> None:
    """The newest statement of each leaf, by a walk over the rows."""
    for person in people:
        wanted: dict[str, Any] = {}
        for row in table.take(pa.array(np.flatnonzero(who == person))).to_pylist():
            wanted |= {name: row[name] for name in LEAVES if row[name] is not None}
        (profile,) = engine.profiles([user_id(person)])
        got = {} if profile is None else flat(profile.attributes)
        check(f"the record of {person}", got, wanted)


def one_by_one(engine: Engine, person: int, leaves: int, upserts: int, at: int) -> None:
    """So many entries of one row, each with so many of the leaves in turn."""
    values = {
        "tier": "gold", "score": 1, "balance": 2.0, "home.city": "city 1", "consent": True,
        "note": "x",
    }  # fmt: skip
    for n in range(upserts):
        mine = [LEAVES[(n + k) % len(LEAVES)] for k in range(leaves)]
        row = {name: values[name] for name in mine} | {"score": n} if "score" in mine else {}
        row = row or {name: values[name] for name in mine}
        home = row.pop("home.city", None)
        if home is not None:
            row["home"] = {"city": home}
        row |= {"user_id": user_id(person), "changed_at": at + n}
        engine.commit(engine.batch("crm", [row]))


def look_ups(engine: Engine, people: list[int]) -> list[float]:
    """Median core microseconds of a look-up of each, asked in turn."""
    spent: list[list[int]] = [[] for _ in people]
    for _ in range(READS):
        for place, person in enumerate(people):
            began = time.process_time_ns()
            (profile,) = engine.profiles([user_id(person)])
            assert profile is not None
            assert profile.attributes
            spent[place].append(time.process_time_ns() - began)
    return [round(statistics.median(one) / 1e3, 1) for one in spent]


def main() -> None:
    """Ask both questions, then open the partition again."""
    parser = options(__doc__, 1_000_000, 200_000)
    asked = parser.parse_args()
    table, who = upserts(asked.events, asked.profiles, asked.seed)
    config = Config(max_profiles=asked.profiles + 1_000)
    with Engine(asked.out / "records", declared(), config) as engine:
        began, core = time.perf_counter(), time.process_time()
        engine.load("crm", table, BLOCK)
        seconds, core = time.perf_counter() - began, time.process_time() - core
        note(f"{asked.events} upserts in {seconds:.1f} s")
        check_answers(engine, table, who, list(range(20)))
        people = [asked.profiles + n for n in range(3)]
        at = START_MS + asked.events
        for person, leaves, count in zip(people, (6, 6, 1), (1, UPSERTS, UPSERTS), strict=True):
            one_by_one(engine, person, leaves, count, at)
        once, whole, by_leaf = look_ups(engine, people)
        state = engine.partition.state
        records = state.bytes_by_kind(state.profiles)["records"]
        job = engine.partition.checkpoint_job(force=True)
        assert job is not None
        job()
        began = time.perf_counter()
        engine.reopen()
        opened = time.perf_counter() - began
        check_answers(engine, table, who, list(range(20, 25)))
    say(
        "records", upserts=asked.events, people=asked.profiles, seed=asked.seed,
        upserts_per_s=round(asked.events / seconds),
        core_us_per_upsert=round(core / asked.events * 1e6, 2),
        look_up_us={"once": once, "3,000 whole": whole, "3,000 a leaf each": by_leaf},
        ratio_whole=round(whole / once, 2), ratio_by_leaf=round(by_leaf / once, 2),
        living_rows_bytes_per_person=round(records / asked.profiles), opened_s=round(opened, 2),
    )  # fmt: skip


if __name__ == "__main__":
    main()
