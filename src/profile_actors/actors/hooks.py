"""What is called at named points of an actor's work: nothing, unless a drill passes a hook.

By itself so that the coordinator, which folds nothing, imports no engine: a third of its start.
"""

from __future__ import annotations

from collections.abc import Callable

Hook = Callable[[str], None]


def no_hook(point: str) -> None:
    """The hook of production: go on. Named points: storage's, and 'writer.before_reply'."""
