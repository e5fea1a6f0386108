"""How an actor opens what it stands for, though its constructor may not raise.

Theory: a constructor that raises would make Ray give the actor up for good. So it stands without
its files, and answers every call with the reason.
"""

from __future__ import annotations

from collections.abc import Callable

from profile_actors.errors import Halt, ProfileActorsError


def refusal_of(open_files: Callable[[], None], who: str, where: str) -> ProfileActorsError | None:
    """Call ``open_files``; why it failed, None if it did not."""
    try:
        open_files()
    except ProfileActorsError as error:
        return error
    except Exception as error:
        return Halt(
            f"expected {who} to open, got {type(error).__name__}: {error} - at {where}; this is a"
            " defect: report it"
        )
    return None
