"""The units of time that rules know: those of a fixed length, and those made of months."""

from __future__ import annotations

SECOND_MS = 1_000


MINUTE_MS = 60_000


HOUR_MS = 3_600_000


DAY_MS = 86_400_000


WEEK_MS = 7 * DAY_MS


EXACT_MS = {
    "millisecond": 1,
    "second": SECOND_MS,
    "minute": MINUTE_MS,
    "hour": HOUR_MS,
    "day": DAY_MS,
    "week": WEEK_MS,
}
"""Unit -> its length in milliseconds."""


MONTHS = {
    "month": 1,
    "quarter": 3,
    "year": 12,
    "decade": 120,
    "century": 1_200,
    "millennium": 12_000,
}
"""Unit -> how many months it has; a month has no length of its own."""
