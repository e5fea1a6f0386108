"""The wall clock, in whole milliseconds: the one place where production reads it."""

from __future__ import annotations

import time


def wall_ms() -> int:
    return time.time_ns() // 1_000_000
