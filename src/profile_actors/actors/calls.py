"""Calls to one named actor that wait and retry while it restarts.

Theory: Ray may lose a call or its answer when a process dies, and never says which. So every call
made here must be harmless when it runs twice: reads are, control work is idempotent, sub-batches
carry offsets. Retrying is ours (``max_task_retries=0``), since Ray's own retries run out of order
and would hide from the partition that a sub-batch is a resend.

A store that is closed ends its calls: whoever waits in one gets StoreUnavailable within
``LONGEST_WAIT_S``, whatever thread it is in, and Ray is left only when nobody is inside it.

An actor that was begun anew by its name, since its files are on another node's disk now, is found
by it: of the same store, that is as long as the coordinator is the one that was found at first.

A store that somebody else runs may stop, and start again on another Ray. Calls wait for that as for
a restart: each is sent again there, by the actor's name, for no handle or answer outlives its Ray.
"""

from __future__ import annotations

import threading
import time
from typing import Any, NamedTuple

import ray
from ray.exceptions import ActorDiedError, GetTimeoutError, RayError, RayTaskError

from profile_actors.errors import ProfileActorsError, StoreUnavailable

COORDINATOR = "coordinator"
"""Its actor's name."""


PARTITION = "partition-"
"""What the names of partitions' actors begin with."""


FIRST_PAUSE_S = 0.01


LONGEST_PAUSE_S = 0.25
"""Pauses between retries: a restart takes 0.1 s (process) to 17 s (machine)."""


LONG_CALL_FACTOR = 20
"""Opening, back-filling and verifying read the whole log: so many times a call's patience."""


DIED_PATIENCE_S = 5.0
"""An actor that Ray calls dead is gone for good (it restarts without limit); wait no longer."""


LONGEST_WAIT_S = 0.5
"""One wait for an answer; then whether the store was closed meanwhile is looked at."""


class Away(Exception):
    """The store is not running just now; it may come again."""


class Stopped(StoreUnavailable):
    """An actor's answer once it was stopped. Who attached to the store waits for the next one."""


class LeaseEnded(StoreUnavailable):
    """An actor's answer whose standby may be in force by now: one of the two answers soon."""


class Session:
    """Whether a store's calls may be made, and how many are being made. Thread-safe.

    may_come_again: whether the store is somebody else's, who may stop it and start it again.
    generation: counts the Rays that it was found on. coordinator: the handle of the store's, None
    where no actor is found anew by its name.
    """

    def __init__(self, path: str, namespace: str = "") -> None:
        """namespace: Ray's, in which the store's actors have their names."""
        self._path = path
        self.namespace = namespace
        self._changed = threading.Condition()
        self._inside = 0
        self._away = ""
        self.generation = 0
        self.may_come_again = False
        self.is_closed = False
        self.coordinator: Any = None

    def __enter__(self) -> None:
        """Be inside Ray until the block ends.

        Raises StoreUnavailable once the store is closed, Away while it is not running.
        """
        with self._changed:
            if self._away and not self.is_closed:
                raise Away(self._away)
            if self.is_closed or not ray.is_initialized():
                raise closed_store(self._path, self.is_closed)
            self._inside += 1

    def __exit__(self, *_: object) -> None:
        with self._changed:
            self._inside -= 1
            self._changed.notify_all()

    def close(self) -> None:
        """Refuse calls from now on, and wait until nobody is inside one."""
        with self._changed:
            self.is_closed = True
            self._wait_until_empty()

    def go_away(self, why: str) -> None:
        """Let calls wait from now on, and wait until nobody is inside one."""
        with self._changed:
            self._away = why
            self._wait_until_empty()

    def come_back(self) -> None:
        """Let calls go on, by the actors of the Ray that this process has joined now."""
        with self._changed:
            self.generation += 1
            self._away = ""
            self.coordinator = None

    def _wait_until_empty(self) -> None:
        self._changed.wait_for(lambda: self._inside == 0, 4 * LONGEST_WAIT_S)


def closed_store(path: str, was_closed: bool = True) -> StoreUnavailable:
    """What a caller of a store that is no longer open is told."""
    got = "one that was closed" if was_closed else "one whose Ray the program has shut down"
    return StoreUnavailable(f"expected an open store, got {got} - at {path}; start it again")


class Gone(StoreUnavailable):
    """The actor has ended for good; its name may be another's by now."""


class Lost(Exception):
    """A call without an answer: it may or may not have run."""


class Patience:
    """How long one call still retries, and its growing pauses."""

    def __init__(self, timeout_s: float) -> None:
        self._timeout_s = timeout_s
        self._deadline = self._whole = time.monotonic() + timeout_s
        self._pause = FIRST_PAUSE_S
        self._has_died = False
        self.reason = "no answer"

    def remaining_s(self) -> float:
        return max(0.0, self._deadline - time.monotonic())

    def shorten(self, seconds: float) -> None:
        self._deadline = min(self._deadline, time.monotonic() + seconds)

    def restore(self, reason: str) -> None:
        """Who was said to be dead has a successor, which is waited for as for a restart."""
        self._deadline, self._has_died, self.reason = self._whole, False, reason

    def note(self, error: RayError, may_come_again: bool = False) -> None:
        """Why there was no answer; an actor that is said to be dead is not waited for long, unless
        whoever runs the store may start it again."""
        self.reason = type(error).__name__
        self._has_died = isinstance(error, ActorDiedError) and not may_come_again
        if self._has_died:
            self.shorten(DIED_PATIENCE_S)

    def wait_or_raise(self, actor: str) -> None:
        """Sleep before the next try. Raises StoreUnavailable when time is up, Gone if dead."""
        if self.remaining_s() == 0.0:
            raise (Gone if self._has_died else StoreUnavailable)(
                f"expected an answer within {self._timeout_s:g} s, got: {self.reason} - at {actor};"
                " check that the store is running, then retry (repeated rows are recognised)"
            )
        time.sleep(min(self._pause, self.remaining_s()))
        self._pause = min(self._pause * 2, LONGEST_PAUSE_S)


class Sent(NamedTuple):
    """A call on its way. reference: Ray's, to the answer; of the Ray of that generation alone."""

    generation: int
    reference: Any


class Remote:
    """A named actor, as the doors see it."""

    def __init__(self, handle: Any, name: str, timeout_s: float, session: Session) -> None:
        self.handle = handle
        self.name = name
        self.timeout_s = timeout_s
        self.session = session
        self._generation = session.generation

    def begin(self, method: str, *args: Any) -> Any:
        """Send a call without waiting; returns what ``finish`` takes."""
        try:
            with self.session:
                generation = self.session.generation
                if generation != self._generation:
                    self._find(generation)
                return Sent(generation, getattr(self.handle, method).remote(*args))
        except (RayError, Away) as error:  # a handle that knows of its actor's death refuses
            return error

    def _find(self, generation: int) -> None:
        """The actor of that name on the Ray that this process has joined since. Raises Away."""
        try:
            self.handle = ray.get_actor(self.name, namespace=self.session.namespace)
        except ValueError:
            raise Away("it is not there yet") from None
        self._generation = generation

    def finish(self, answer: Any, patience: Patience) -> Any:
        """Wait for a call sent by ``begin``.

        Raises Lost when it has to be sent again, and what the actor raised on purpose.
        """
        try:
            if isinstance(answer, Exception):
                raise answer
            return self._wait(answer, patience)
        except RayTaskError as error:
            if isinstance(error.cause, Stopped) and self.session.may_come_again:
                patience.reason = "the store was stopped"
                raise Lost from None
            if isinstance(error.cause, LeaseEnded):
                patience.reason = str(error.cause)
                raise Lost from None
            if isinstance(error.cause, ProfileActorsError):
                raise error.cause from None
            raise
        except Away as error:
            patience.reason = str(error)
            raise Lost from None
        except GetTimeoutError:
            patience.reason = "no answer in time"
            patience.shorten(0.0)
            raise Lost from None
        except RayError as error:
            if isinstance(error, ActorDiedError) and self._has_successor():
                patience.restore("it was begun anew in another place")
            else:
                patience.note(error, self.session.may_come_again)
            raise Lost from None

    def _has_successor(self) -> bool:
        """Whether another actor of this store has the name by now, or a partition is about to: no
        running store is without one. Calls are sent to it then."""
        try:
            with self.session:
                known, namespace = self.session.coordinator, self.session.namespace
                if known is None or ray.get_actor(COORDINATOR, namespace=namespace) != known:
                    return False
                try:
                    found = ray.get_actor(self.name, namespace=namespace)
                except ValueError:
                    return self.name.startswith(PARTITION)
        except (ValueError, RayError, Away, StoreUnavailable):
            return False
        was, self.handle = self.handle, found
        return bool(was != found)

    def _wait(self, answer: Sent, patience: Patience) -> Any:
        """Ray's answer, looked for in short waits, so that closing the store ends it."""
        while True:
            left_s = patience.remaining_s()
            with self.session:
                if answer.generation != self.session.generation:
                    raise Away("the store was stopped and started")
                try:
                    wait_s = max(0.001, min(left_s, LONGEST_WAIT_S))
                    return ray.get(answer.reference, timeout=wait_s)
                except GetTimeoutError:
                    if left_s <= LONGEST_WAIT_S:
                        raise

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
