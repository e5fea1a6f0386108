"""Comparison operators, and what each becomes when its two sides change places."""

from __future__ import annotations

MIRRORED = {"=": "=", "!=": "!=", "<": ">", "<=": ">=", ">": "<", ">=": "<="}
"""``a < b`` says what ``b > a`` says."""


COMPARISONS = tuple(MIRRORED)
