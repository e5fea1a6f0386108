"""Waiting in tests: for conditions, never for a time that is hoped to be enough."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import TypeVar

PATIENCE_S = 120.0
"""Far above what anything takes, on a machine five times slower as well: only a hang is longer."""
PROMPT_S = 45.0
"""What is said at once is said within; a call's patience (60 s) and Ray's own tries are longer."""
LEADS_MS = (1_000, 8_000, 60_000)
"""How far ahead of itself a test plans, one try after the other."""

T = TypeVar("T")


def wall_ms() -> int:
    return time.time_ns() // 1_000_000


def until(condition: Callable[[], T | None], what: str | Callable[[], str] = "it never came") -> T:
    """The condition's first truth. what: said if it never comes."""
    end = time.monotonic() + PATIENCE_S
    while not (found := condition()):
        assert time.monotonic() < end, what if isinstance(what, str) else what()
        time.sleep(0.005)
    return found


def in_time(act: Callable[[int], object], leads_ms: Sequence[int] = LEADS_MS) -> int:
    """Act before an instant: ``act(instant)`` with one that is ahead. Returns the first instant by
    which the acting was over; a machine that is busy is given later ones."""
    for lead_ms in leads_ms:
        instant = wall_ms() + lead_ms
        act(instant)
        if wall_ms() < instant:
            return instant
    raise AssertionError(f"what takes moments took more than {leads_ms[-1]} ms")
