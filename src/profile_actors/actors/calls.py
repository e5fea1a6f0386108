"""Calls to one named actor that wait and retry while it restarts.

Theory: Ray may lose a call or its answer when a process dies, and never says which. So every call
made here must be harmless when it runs twice: reads are, control work is idempotent, sub-batches
carry offsets. Retrying is ours (``max_task_retries=0``), since Ray's own retries run out of order
and would hide from the partition that a sub-batch is a resend.
"""

from __future__ import annotations

import time
from typing import Any

import ray
from ray.exceptions import ActorDiedError, GetTimeoutError, RayError, RayTaskError

from profile_actors.errors import ProfileActorsError, StoreUnavailable

FIRST_PAUSE_S = 0.01
LONGEST_PAUSE_S = 0.25
"""Pauses between retries: a restart takes 0.1 s (process) to 17 s (machine)."""
LONG_CALL_FACTOR = 20
"""Opening, back-filling and verifying read the whole log: so many times a call's patience."""
DIED_PATIENCE_S = 5.0
"""An actor that Ray calls dead is gone for good (it restarts without limit); wait no longer."""


class Lost(Exception):
    """A call without an answer: it may or may not have run."""


class Patience:
    """How long one call still retries, and its growing pauses."""

    def __init__(self, timeout_s: float) -> None:
        self._timeout_s = timeout_s
        self._deadline = time.monotonic() + timeout_s
        self._pause = FIRST_PAUSE_S
        self.reason = "no answer"

    def remaining_s(self) -> float:
        return max(0.0, self._deadline - time.monotonic())

    def shorten(self, seconds: float) -> None:
        self._deadline = min(self._deadline, time.monotonic() + seconds)

    def wait_or_raise(self, actor: str) -> None:
        """Sleep before the next try. Raises StoreUnavailable when time is up."""
        if self.remaining_s() == 0.0:
            raise StoreUnavailable(
                f"expected an answer within {self._timeout_s:g} s, got: {self.reason} - at {actor};"
                " check that the store is running, then retry (repeated rows are recognised)"
            )
        time.sleep(min(self._pause, self.remaining_s()))
        self._pause = min(self._pause * 2, LONGEST_PAUSE_S)


class Remote:
    """A named actor, as the doors see it."""

    def __init__(self, handle: Any, name: str, timeout_s: float) -> None:
        self.handle = handle
        self.name = name
        self.timeout_s = timeout_s

    def begin(self, method: str, *args: Any) -> Any:
        """Send a call without waiting; returns Ray's reference to its answer."""
        try:
            return getattr(self.handle, method).remote(*args)
        except RayError as error:  # a handle that knows of its actor's death refuses at once
            return error

    def finish(self, answer: Any, patience: Patience) -> Any:
        """Wait for a call sent by ``begin``.

        Raises Lost when it has to be sent again, and what the actor raised on purpose.
        """
        try:
            if isinstance(answer, RayError):
                raise answer
            return ray.get(answer, timeout=max(0.001, patience.remaining_s()))
        except RayTaskError as error:
            if isinstance(error.cause, ProfileActorsError):
                raise error.cause from None
            raise
        except GetTimeoutError:
            patience.reason = "no answer in time"
            patience.shorten(0.0)
            raise Lost from None
        except RayError as error:
            patience.reason = f"{type(error).__name__}"
            if isinstance(error, ActorDiedError):
                patience.shorten(DIED_PATIENCE_S)
            raise Lost from None

    def call(self, method: str, *args: Any, timeout_s: float | None = None) -> Any:
        """Call and wait, again while the actor restarts. Raises StoreUnavailable."""
        patience = Patience(self.timeout_s if timeout_s is None else timeout_s)
        answer = self.begin(method, *args)
        while True:
            try:
                return self.finish(answer, patience)
            except Lost:
                patience.wait_or_raise(self.name)
                answer = self.begin(method, *args)


def call_all(
    actors: list[Remote], method: str, *args: Any, timeout_s: float | None = None
) -> list[Any]:
    """Call every actor at the same time; answers in their order.

    Raises the first error, after all of them have answered.
    """
    answers = [actor.begin(method, *args) for actor in actors]
    out: list[Any] = []
    errors: list[Exception] = []
    for actor, answer in zip(actors, answers, strict=True):
        try:
            out.append(actor.finish(answer, Patience(timeout_s or actor.timeout_s)))
        except Lost:
            out.append(actor.call(method, *args, timeout_s=timeout_s))
        except Exception as error:
            errors.append(error)
    if errors:
        raise errors[0]
    return out
