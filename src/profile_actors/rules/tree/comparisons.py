"""Comparison operators, and what each becomes with its sides changed."""

from __future__ import annotations

_MIRRORED = {"=": "=", "!=": "!=", "<": ">", "<=": ">=", ">": "<", ">=": "<="}


COMPARISONS = ("=", "!=", "<", "<=", ">", ">=")
