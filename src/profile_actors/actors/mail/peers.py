"""Calls from one sequencer's actor to another's, by name, whose answers are futures."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from concurrent.futures import Future
from typing import Any

import ray
from ray.exceptions import ActorDiedError

from profile_actors.engine.identity.messages import LEDGER

LEDGER_ACTOR = "ledger"


def actor_of(sequencer: str) -> str:
    """The name of a sequencer's actor."""
    return LEDGER_ACTOR if sequencer == LEDGER else f"partition-{sequencer}"


class Peers:
    """See the module. begin: how an actor that is not there is started, by sequencer.

    For one thread.
    """

    def __init__(
        self, namespace: str, begin: Mapping[str, Callable[[], Any]] | None = None
    ) -> None:
        self._namespace = namespace
        self._begin = begin or {}
        self._handles: dict[str, Any] = {}

    def call(self, to: str, method: str, *args: Any) -> Future[Any]:
        """Call without waiting. Raises ValueError if there is no such actor, RayError."""
        handle = self._handles.get(to)
        if handle is None:
            handle = self._handles[to] = self._found(to)
        try:
            answer: Future[Any] = getattr(handle, method).remote(*args).future()
        except ActorDiedError:
            self._handles.pop(to, None)
            raise
        answer.add_done_callback(lambda done: self._look(to, done))
        return answer

    def _found(self, to: str) -> Any:
        try:
            return ray.get_actor(actor_of(to), namespace=self._namespace)
        except ValueError:
            if to not in self._begin:
                raise
            return self._begin[to]()

    def _look(self, to: str, done: Future[Any]) -> None:
        # Gone for good; its name may be another's by now.
        if not done.cancelled() and isinstance(done.exception(), ActorDiedError):
            self._handles.pop(to, None)
