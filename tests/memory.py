"""Directories for tests that open and close stores by the hundred."""

from __future__ import annotations

import tempfile
from pathlib import Path

MEMORY = Path("/dev/shm")


def scratch() -> tempfile.TemporaryDirectory[str]:
    """A directory in memory where the system has such a place: a synced commit costs nothing there.

    For tests that do not depend on what a crash of the machine keeps.
    """
    return tempfile.TemporaryDirectory(dir=MEMORY if MEMORY.is_dir() else None)
