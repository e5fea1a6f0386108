"""Workload W1: its input file, its 20 computed attributes and its 100 segments.

One workload for every speed figure, so that ours and a peer's are the same work: for each event
validate, catch duplicates by (dataset, identity, timestamp, ``_id``), keep it in the profile's log,
keep 20 computed attributes and 100 segments up to date, exits by the clock included, and write
every membership change to the feed. ``now`` is the newest timestamp seen.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gen_w1 import TYPES, write

WINDOW_MS = 7 * 86_400_000
DATASET = "shop"
NAMESPACE = "CRMID"
# The 16 columns that segments read, in the order that k mod 16 counts.
COLUMNS = tuple(f"{letter}_{i}" for letter in "csmd" for i in range(4))
FIELDS = {"price": "double", "url": "string"}


def expression(column: str) -> str:
    """The rule text of one computed attribute: c, s, m, l or d, and the event type's index."""
    letter, kind = column[0], TYPES[int(column[-1])]
    events = f'xEvent[eventType = "{kind}"]'
    if letter == "d":
        return f'xEvent[eventType = "{kind}" and timestamp occurs <= 7 days before now].count()'
    tail = {"c": "count()", "s": "sum(price)", "m": "max(price)", "l": "max(timestamp)"}[letter]
    return f"{events}.{tail}"


@dataclass(frozen=True)
class Segment:
    """``g_k``: true where its column is at least its threshold."""

    name: str
    column: str
    threshold: int

    @property
    def rule(self) -> str:
        """The rule text, with the column's expression written out: sharing is the planner's job."""
        return f"{expression(self.column)} >= {self.threshold}"


def segments(count: int = 100) -> list[Segment]:
    """The first ``count`` of W1's segments."""
    out = []
    for k in range(count):
        column = COLUMNS[k % 16]
        out.append(Segment(f"g_{k}", column, (k % 7 + 1) * (50 if column[0] in "sm" else 1)))
    return out


ATTRIBUTES = tuple(f"{letter}_{i}" for letter in "csmld" for i in range(4))


def definitions() -> dict[str, list[dict[str, Any]]]:
    """Everything W1 declares, in the shape of a definitions file."""
    return {
        "namespaces": [{"code": NAMESPACE, "kind": "cross_device", "unique": True, "priority": 1}],
        "schemas": [{"name": "shop_event", "behavior": "event", "fields": dict(FIELDS)}],
        "datasets": [
            {
                "name": DATASET,
                "schema": "shop_event",
                "identities": {"user_id": NAMESPACE},
                "timestamp": "timestamp",
                "id": "_id",
                "event_type_field": "eventType",
            }
        ],
        "computed_attributes": [{"name": a, "rule": expression(a)} for a in ATTRIBUTES],
        "segments": [{"name": s.name, "rule": s.rule} for s in segments()],
    }


def save_definitions(path: Path, extra_segments: Sequence[dict[str, str]] = ()) -> Path:
    """Write W1's definitions (and more segments) as a file that ``store.apply_file`` reads."""
    declared = definitions()
    declared["segments"].extend(extra_segments)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(declared))
    return path


@dataclass(frozen=True)
class Input:
    """One generated file and what made it."""

    path: Path
    events: int
    profiles: int
    seed: int
    zipf: bool


def make_input(folder: Path, args: argparse.Namespace, seed: int) -> Input:
    """Generate W1's CSV into ``folder``, or reuse the one that is there."""
    law = "-zipf" if args.zipf else ""
    path = folder / f"w1-{args.events}-{args.profiles}{law}-{seed}.csv"
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        aside = path.with_suffix(".part")
        write(aside, args.events, args.profiles, zipf=args.zipf, seed=seed)
        aside.rename(path)
    return Input(path, args.events, args.profiles, seed, args.zipf)


def options(description: str | None, events: int, profiles: int) -> argparse.ArgumentParser:
    """The options that every bench over W1 shares."""
    parser = argparse.ArgumentParser(description=(description or "").splitlines()[0])
    parser.add_argument("--events", type=int, default=events)
    parser.add_argument("--profiles", type=int, default=profiles)
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--zipf", action="store_true", help="few profiles get most events")
    parser.add_argument("--partitions", type=int, default=2)
    parser.add_argument(
        "--out", type=Path, default=Path(__file__).parent / "out", help="generated files and stores"
    )
    return parser
