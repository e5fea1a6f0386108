"""What the process of an actor that folds asks of Python's interpreter."""

from __future__ import annotations

import gc
import sys
from collections.abc import Iterator
from contextlib import contextmanager

SWITCH_INTERVAL_S = 0.0005
"""Readers share the interpreter with the fold: hand it over ten times sooner than Python's 5 ms."""


COLLECT_EVERY = 100_000
"""Objects made before Python looks for circles among the newest. Links and people are millions of
objects and have none: looking as often as usual takes a quarter of the time that they cost."""


def tune() -> None:
    """Set both, for this process."""
    sys.setswitchinterval(SWITCH_INTERVAL_S)
    gc.set_threshold(COLLECT_EVERY)


@contextmanager
def uncollected() -> Iterator[None]:
    """Make millions of objects, none of them in circles, without looking for circles."""
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
