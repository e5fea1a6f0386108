"""Workload W1 as a plain Python loop over csv.reader with dicts: the ceiling of per-event Python.

The same work minus durability, in one process: validate, catch duplicates, keep the rows, 20
values, 7-day expiry by the clock, 100 segments, every membership change in a list. Two arms:

``plain`` is the loop a careful engineer writes first: per event only its own type's columns, and
for each the handful of segments that read it. ``ladder`` adds the trick that the engine itself
uses: sorted thresholds, one bisect, and only changed levels touch memberships.

Neither is handicapped: no classes, no logging, cyclic garbage collection off.
"""

from __future__ import annotations

import csv
import gc
import json
import math
import sys
import time
from bisect import bisect_right
from collections import deque
from pathlib import Path
from typing import Any

from gen_w1 import TYPES
from workload import COLUMNS, WINDOW_MS, segments

Result = tuple[dict[str, Any], list[tuple[int, str, str, bool]], int]


def plain(path: Path) -> Result:
    """Run the loop. Returns (user -> state, changes as (ms, user, segment, entered), rejected).

    A state is [counts, sums' rows, maxima, last times, window counts, memberships, rows, newest].
    """
    kinds = {name: i for i, name in enumerate(TYPES)}
    rules = {c: [(s.name, s.threshold) for s in segments() if s.column == c] for c in COLUMNS}
    reading = [[rules[f"{letter}_{i}"] for letter in "csmd"] for i in range(4)]
    profiles: dict[str, Any] = {}
    changes: list[tuple[int, str, str, bool]] = []
    leaving: deque[tuple[int, str, Any, int]] = deque()
    rejected = 0
    with path.open(newline="") as file:
        rows = csv.reader(file)
        next(rows)
        for row in rows:
            try:
                identifier, user, when_text, kind_text, price_text, _ = row
                when, price, kind = int(when_text), float(price_text), kinds[kind_text]
            except (ValueError, KeyError):
                rejected += 1
                continue
            if not user or not math.isfinite(price):
                rejected += 1
                continue
            while leaving and leaving[0][0] < when:
                due, whose, state, old_kind = leaving.popleft()
                windows, members = state[4], state[5]
                value = windows[old_kind] = windows[old_kind] - 1
                for name, threshold in reading[old_kind][3]:
                    if value < threshold and name in members:
                        members.discard(name)
                        changes.append((due + 1, whose, name, False))
            state = profiles.get(user)
            if state is None:
                state = profiles[user] = [
                    [0] * 4,
                    [0.0] * 4,
                    [-math.inf] * 4,
                    [-1] * 4,
                    [0] * 4,
                    set(),
                    [],
                    -1,
                ]
            counts, sums, maxima, lasts, windows, members, log, newest = state
            if when <= newest:
                if any(old[0] == identifier and int(old[2]) == when for old in log):
                    continue
            else:
                state[7] = when
            log.append(row)
            count = counts[kind] = counts[kind] + 1
            total = sums[kind] = sums[kind] + price
            if price > maxima[kind]:
                maxima[kind] = price
            if when > lasts[kind]:
                lasts[kind] = when
            inside = windows[kind] = windows[kind] + 1
            leaving.append((when + WINDOW_MS, user, state, kind))
            values = (count, total, maxima[kind], inside)
            for value, readers in zip(values, reading[kind], strict=True):
                for name, threshold in readers:
                    if value >= threshold and name not in members:
                        members.add(name)
                        changes.append((when, user, name, True))
    return profiles, changes, rejected


def ladder(path: Path) -> Result:
    """The same loop with sorted thresholds: memberships are the levels. Returns what plain does.

    A state is [counts, sums, maxima, last times, window counts, levels (16), rows, newest].
    """
    kinds = {name: i for i, name in enumerate(TYPES)}
    steps, names = [], []
    for column in COLUMNS:
        rungs = sorted((s.threshold, s.name) for s in segments() if s.column == column)
        steps.append([threshold for threshold, _ in rungs])
        names.append([name for _, name in rungs])
    profiles: dict[str, Any] = {}
    changes: list[tuple[int, str, str, bool]] = []
    leaving: deque[tuple[int, str, Any, int]] = deque()
    rejected = 0
    isfinite = math.isfinite
    with path.open(newline="") as file:
        rows = csv.reader(file)
        next(rows)
        for row in rows:
            try:
                identifier, user, when_text, kind_text, price_text, _ = row
                when, price, kind = int(when_text), float(price_text), kinds[kind_text]
            except (ValueError, KeyError):
                rejected += 1
                continue
            if not user or not isfinite(price):
                rejected += 1
                continue
            while leaving and leaving[0][0] < when:
                due, whose, state, old_kind = leaving.popleft()
                value = state[4][old_kind] = state[4][old_kind] - 1
                at = 12 + old_kind
                level, old = bisect_right(steps[at], value), state[5][at]
                if level != old:
                    state[5][at] = level
                    for name in names[at][level:old]:
                        changes.append((due + 1, whose, name, False))
            state = profiles.get(user)
            if state is None:
                state = profiles[user] = [
                    [0] * 4,
                    [0.0] * 4,
                    [-math.inf] * 4,
                    [-1] * 4,
                    [0] * 4,
                    [0] * 16,
                    [],
                    -1,
                ]
            counts, sums, maxima, lasts, windows, levels, log, newest = state
            if when <= newest:
                if any(old[0] == identifier and int(old[2]) == when for old in log):
                    continue
            else:
                state[7] = when
            log.append(row)
            count = counts[kind] = counts[kind] + 1
            total = sums[kind] = sums[kind] + price
            if price > maxima[kind]:
                maxima[kind] = price
            if when > lasts[kind]:
                lasts[kind] = when
            inside = windows[kind] = windows[kind] + 1
            leaving.append((when + WINDOW_MS, user, state, kind))
            at = kind
            for value in (count, total, maxima[kind], inside):
                level, old = bisect_right(steps[at], value), levels[at]
                if level > old:
                    levels[at] = level
                    for name in names[at][old:level]:
                        changes.append((when, user, name, True))
                at += 4
    return profiles, changes, rejected


ARMS = {"plain": plain, "ladder": ladder}


def members_of(changes: list[tuple[int, str, str, bool]]) -> dict[str, set[str]]:
    """Fold an arm's changes into segment -> member ids (untimed, for the check)."""
    out: dict[str, set[str]] = {s.name: set() for s in segments()}
    for _, user, name, entered in changes:
        if entered:
            out[name].add(user)
        else:
            out[name].discard(user)
    return out


if __name__ == "__main__":
    # A process of its own, so that neither side's memory or collector state touches the other's.
    gc.disable()
    arm, source = sys.argv[1], Path(sys.argv[2])
    started = time.perf_counter()
    _, feed, refused = ARMS[arm](source)
    seconds = time.perf_counter() - started
    sizes = {name: len(users) for name, users in members_of(feed).items()}
    print(
        json.dumps(
            {"arm": arm, "seconds": seconds, "changes": len(feed), "rejected": refused}
            | {"sizes": sizes}
        )
    )
