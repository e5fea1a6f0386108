"""Brings what a sequencer's log says to whoever it is for: one thread, one call at a time to each.

Theory: the log is the outbox. The postman reads from it what a destination has not acknowledged
(``outgoing``) and sends it again until it is, with pauses that grow while there is no answer; the
answer is the receiver's cursor. Lost calls, lost answers and repeats are all the same to it. After
a start it knows of nothing that was acknowledged, and asks for the cursor first. A receiver that
answers 'behind' lacks definitions, and is given them.

Rules for editors: no log is written here, and no lock is held over a call.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from threading import Condition, Thread
from typing import Any, NamedTuple, Protocol

import msgspec

from profile_actors.definitions.declared import Catalogue
from profile_actors.engine.identity.mailbox import Mailbox
from profile_actors.engine.identity.messages import Message, encode_messages
from profile_actors.errors import Halt, ProfileActorsError

MESSAGES_PER_CALL = 64


FIRST_PAUSE_S = 0.01


LONGEST_PAUSE_S = 1.0
"""Pauses between tries: a restart takes 0.1 s (process) to 17 s (machine)."""


IDLE_S = 3600.0
"""Wake-up where nothing is to be sent; all else notifies."""


Call = Callable[..., "Future[Any]"]
"""(destination, method, arguments): calls one of ``deliver``, ``cursor_of``, ``define`` there."""


Delivered = tuple[str, int]
"""('ok' or 'behind', the receiver's cursor): the answer to ``deliver``."""


class Look(NamedTuple):
    """What a sequencer says when it is asked whether all is at rest. waits: messages that nobody
    has acknowledged, or that are still to be made of rows from before. talks: whether it ever sent
    one. now: its clock, ms."""

    position: int
    waits: int
    talks: bool
    now: int | None


class Sequencer(Protocol):
    """What a postman works for."""

    @property
    def mailbox(self) -> Mailbox: ...

    @property
    def catalogue(self) -> Catalogue: ...

    def outgoing(self, to: str, after: int, limit: int) -> list[Message]: ...


@dataclass(slots=True, eq=False)
class _Route:
    """To one destination. answer: of the call under way, begun at ``begun_s``. due_s: not before.
    since_s: when something was acknowledged last, or the first came that is not; None if all is."""

    since_s: float | None = None
    answer: Future[Any] | None = None
    begun_s: float = 0.0
    asked: str = ""
    is_known: bool = False
    is_behind: bool = False
    due_s: float = 0.0
    pause_s: float = FIRST_PAUSE_S
    error: str = ""


class Outbox(msgspec.Struct, frozen=True):
    """Messages that a destination has not acknowledged. depth: how many; age_ms: for how long none
    was; error: why the last try failed, empty if it did not."""

    depth: int
    age_ms: int
    error: str = ""


class Postman:
    """See the module. me: the sequencer's name. timeout_s: after which a call counts as lost."""

    def __init__(self, me: str, sequencer: Sequencer, call: Call, timeout_s: float) -> None:
        self._me = me
        self._sequencer = sequencer
        self._call = call
        self._timeout_s = timeout_s
        self._routes: dict[str, _Route] = {}
        self._wake = Condition()
        self._has_news = False
        self._is_stopping = False
        self._thread = Thread(target=self._loop, name="postman", daemon=True)
        self.acknowledged: Callable[[], None] = lambda: None  # called when something was

    def start(self) -> None:
        self._thread.start()

    def notify(self) -> None:
        """There may be something new to send. Cost: a microsecond."""
        with self._wake:
            self._has_news = True
            self._wake.notify()

    def has_work(self) -> bool:
        """Whether there is something that was not acknowledged."""
        return not self._sequencer.mailbox.is_quiet()

    def stop(self) -> None:
        """End the thread; calls under way are not waited for."""
        with self._wake:
            self._is_stopping = True
            self._wake.notify()
        self._thread.join()

    def account(self) -> dict[str, Outbox]:
        """By destination what is not acknowledged. Any thread."""
        now = time.monotonic()
        box = self._sequencer.mailbox
        found: dict[str, Outbox] = {}
        for to in box.heads():
            route = self._routes.get(to)
            since_s = None if route is None else route.since_s
            age_ms = 0 if since_s is None else int(1000 * (now - since_s))
            found[to] = Outbox(box.unacknowledged(to), age_ms, "" if route is None else route.error)
        return found

    def _loop(self) -> None:
        while True:
            pause_s = self._step()
            with self._wake:
                if not self._has_news and not self._is_stopping:
                    self._wake.wait(pause_s)
                self._has_news = False
                if self._is_stopping:
                    return

    def _step(self) -> float:
        """Take the answers that are there, send what may be sent; returns for how long nothing
        else is to be done, in seconds."""
        pause_s = IDLE_S
        box = self._sequencer.mailbox
        for to in box.heads():
            now = time.monotonic()
            route = self._routes.get(to)
            if route is None:
                route = self._routes[to] = _Route()
            if route.since_s is None and box.unacknowledged(to):
                route.since_s = now
            answer = route.answer
            if answer is not None and answer.done():
                route.answer = None
                self._take(to, route, answer)
            elif answer is not None and now - route.begun_s > self._timeout_s:
                route.answer = None
                self._note_failure(route, f"no answer within {self._timeout_s:g} s")
            if route.answer is None and (not route.is_known or box.unacknowledged(to)):
                if now < route.due_s:
                    pause_s = min(pause_s, route.due_s - now)
                    continue
                self._begin(to, route)
            if route.answer is not None:
                pause_s = min(pause_s, self._timeout_s)
            elif route.due_s > now:
                pause_s = min(pause_s, route.due_s - now)
        return pause_s

    def _begin(self, to: str, route: _Route) -> None:
        try:
            if not route.is_known:
                route.asked = "cursor_of"
                answer = self._call(to, "cursor_of", self._me)
            elif route.is_behind:
                route.asked = "define"
                answer = self._call(to, "define", self._sequencer.catalogue)
            else:
                route.asked = "deliver"
                after = self._sequencer.mailbox.acknowledged(to)
                messages = self._sequencer.outgoing(to, after, MESSAGES_PER_CALL)
                answer = self._call(to, "deliver", self._me, encode_messages(messages))
        except Exception as error:  # no such actor yet, or a log that is damaged: said in status
            self._note_failure(route, _text(error))
            return
        route.begun_s = time.monotonic()
        route.answer = answer
        answer.add_done_callback(lambda _: self.notify())

    def _take(self, to: str, route: _Route, answer: Future[Any]) -> None:
        try:
            found = answer.result()
            if route.asked == "define":
                route.is_behind = False
                return
            if route.asked == "cursor_of":
                self._acknowledge(to, route, found)
                route.is_known = True
            else:
                status, cursor = found
                route.is_behind = status == "behind"
                before = self._sequencer.mailbox.acknowledged(to)
                self._acknowledge(to, route, cursor)
                if cursor == before:
                    why = "it lacks definitions" if route.is_behind else "nothing was taken"
                    self._note_failure(route, why)
                    return
        except Exception as error:  # whatever it is, the message stays in the log
            self._note_failure(route, _text(error))
            return
        route.pause_s, route.due_s, route.error = FIRST_PAUSE_S, 0.0, ""

    def _acknowledge(self, to: str, route: _Route, cursor: int) -> None:
        box = self._sequencer.mailbox
        before = box.acknowledged(to)
        if cursor < before:
            raise Halt(
                f"expected {to!r} to have messages up to {before}, as it said, got {cursor}: it has"
                " lost some; restore all logs of the store from one backup"
            )
        box.acknowledge(to, cursor)
        if cursor > before:
            self.acknowledged()
        if not box.unacknowledged(to):
            route.since_s = None
        elif cursor > before:
            route.since_s = time.monotonic()

    def _note_failure(self, route: _Route, why: str) -> None:
        route.error = why
        route.due_s = time.monotonic() + route.pause_s
        route.pause_s = min(2 * route.pause_s, LONGEST_PAUSE_S)


def _text(error: BaseException) -> str:
    cause = getattr(error, "cause", None)  # what an actor raised, as Ray hands it on
    told = cause if isinstance(cause, ProfileActorsError) else error
    return f"{type(told).__name__}: {str(told).splitlines()[0] if str(told) else ''}"
