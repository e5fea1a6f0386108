"""Ctrl-C while Ray is joined or left: kept until that is done.

Theory: Ray that is left in the midst of either by an exception crashes the process at its end, or
leaves processes of its own. Both take a second or so, so the interrupt waits for them; then it is
raised as ever. (A start of Ray takes longer: what was started of it is ended then.)
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any


@contextmanager
def interrupts_later() -> Iterator[None]:
    """Let SIGINT be handled at the end of the block, once, however often it came.

    Elsewhere than in the main thread, which alone handles signals, nothing is done.
    """
    before: Any = signal.getsignal(signal.SIGINT)
    if threading.current_thread() is not threading.main_thread() or not callable(before):
        yield
        return
    came: list[tuple[int, FrameType | None]] = []
    signal.signal(signal.SIGINT, lambda *call: came.append(call))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
        if came:
            before(*came[0])
