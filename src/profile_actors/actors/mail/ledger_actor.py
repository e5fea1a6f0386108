"""The ledger as a Ray actor: opens its log, takes messages of partitions, and brings them answers.

Theory: thin, as a partition's shell is. Deliveries leave their messages in a queue; one thread
makes an entry of all that is there (one synced commit, however many partitions sent), and the
postman brings what it tells. The actor is named, detached and restarts without limit; ``__init__``
is the recovery. A constructor that raises would make Ray give the actor up for good: it stands, and
answers every call with the reason.

It is started by the first partition that has evidence to send, and with a store that has one: so a
store whose rows have one identity each has none. While it is down only new links wait.

After a failed write nobody knows what of it reached the disk, and LMDB opens a file once in a
process: so the process ends a while later, and Ray starts the actor again.
"""

from __future__ import annotations

import os
import signal
import time
from concurrent.futures import Future
from contextlib import suppress
from pathlib import Path
from threading import Condition, Event, Lock, Thread
from typing import Any

import ray

from profile_actors.actors.actor_status import LedgerAccount, LedgerPlace, StandbyPlace
from profile_actors.actors.calls import Remote, Session, Stopped
from profile_actors.actors.hooks import Hook, no_hook
from profile_actors.actors.logs.enlisted_log import REPLICA, EnlistedLog
from profile_actors.actors.logs.log_steps import log_step
from profile_actors.actors.logs.opening import refusal_of
from profile_actors.actors.logs.standing_still import leave
from profile_actors.actors.mail.interpreter import tune, uncollected
from profile_actors.actors.mail.peers import LEDGER_ACTOR, Peers
from profile_actors.actors.mail.postman import Delivered, Postman
from profile_actors.actors.replicas.disk_labels import pinned
from profile_actors.actors.replicas.placed_standby import standby_at
from profile_actors.actors.shell import shell_of
from profile_actors.actors.wall_clock import wall_ms
from profile_actors.definitions.declared import Catalogue
from profile_actors.engine.identity.ledger import Ledger
from profile_actors.engine.identity.linking import Judged
from profile_actors.engine.identity.messages import LEDGER, Message, Named, decode_messages
from profile_actors.engine.trials.linking_trials import LinkingTrial, try_linking
from profile_actors.engine.trials.past_entries import entries_until
from profile_actors.engine.trials.past_evidence import PastEvidence, Together
from profile_actors.errors import (
    FencedOut,
    Halt,
    LostLog,
    ProfileActorsError,
    StoreUnavailable,
)
from profile_actors.storage.checkpoint_files import FileCheckpoints
from profile_actors.storage.files.atomic_files import Room
from profile_actors.storage.files.layout import LEDGER as LEDGER_LOG

REST_S = 2.0
"""How long a ledger stands still after a failed write, before its process ends."""


MAIL_THREADS = 8
"""Deliveries that wait at a time; those of more partitions wait at Ray."""


READ_THREADS = 4


TRIAL_PAUSE_S = 0.1
"""Between two steps of a dry run while messages wait: they share the interpreter."""


TELL_LOOK_S = 1.0
"""How often is looked whether its files are there, and it is time to tell the coordinator."""


LAST_TELL_S = 5.0


class LedgerActor:
    """The shell; see the module."""

    def __init__(self, place: LedgerPlace, hook: Hook = no_hook) -> None:
        """hook: called at named points; crash tests kill the process there."""
        tune()
        self._place = place
        self._hook = hook
        self._opening = Lock()
        self._wake = Condition()
        self._queue: list[tuple[list[Message], Catalogue | None, Future[None]]] = []
        self._is_stopping = False
        self._stopped = Event()
        self._failed_s: float | None = None
        self._saving: Thread | None = None
        self._refusal: ProfileActorsError | None = None
        self._try_to_open()

    def _try_to_open(self) -> None:
        self._refusal = refusal_of(self._open, "the ledger of links", self._place.path)

    def _open(self) -> None:
        place = self._place
        coordinator = Remote(
            ray.get_actor("coordinator", namespace=place.namespace),
            "coordinator", place.config.call_timeout_s, Session(place.path, place.namespace),
        )  # fmt: skip
        self._enlisted = EnlistedLog(coordinator, LEDGER_LOG, place.path, place.config, self._hook)
        log, known, directory = (one := self._enlisted).log, one.known, Path(one.path)
        try:
            if known.copies is not None and known.copies.standby:  # it may be the first to know
                store = str(Path(place.path).parent)
                own = StandbyPlace(place.namespace, store, LEDGER_LOG, place.config, known.home)
                standby_at(own, known.copies.standby if known.home else "")(True)
            self._enlisted.tell()
            checkpoints = FileCheckpoints(directory, crash_point=self._hook)
            with uncollected():
                self._ledger = Ledger(
                    log, known.assignment, epoch=known.epoch, checkpoints=checkpoints
                )
            self._past = PastEvidence(log)
            self._lack = Room(directory, place.config.min_free_bytes).lack
            self._now = wall_ms if known.clock == "wall" else lambda: None
            self._ledger.commit((), self._now(), known.catalogue)
        except BaseException:
            log.close()
            raise
        # A replay reads a group as it does single entries, and few checkpoints are made.
        self._enlisted.tend(below=log.head)
        peers = Peers(place.namespace)
        timeout_s = place.config.call_timeout_s
        self._postman = Postman(LEDGER, self._ledger, peers.call, timeout_s)
        self._postman.start()
        self._thread = Thread(target=self._loop, name="ledger", daemon=True)
        self._thread.start()
        Thread(target=self._tell, name="positions", daemon=True).start()

    def _opened(self) -> Ledger:
        # A predecessor that Ray wrongly thinks dead holds the lock until it is, files that were
        # missing may be back, and so may the coordinator: try again.
        may_open = isinstance(self._refusal, FencedOut | LostLog | StoreUnavailable)
        if may_open and not self._is_stopping and self._opening.acquire(blocking=False):
            try:
                self._try_to_open()
            finally:
                self._opening.release()
        if self._failed_s is not None and time.monotonic() - self._failed_s > REST_S:
            os.kill(os.getpid(), signal.SIGKILL)
        if self._refusal is not None:
            raise self._refusal
        return self._ledger

    def _in_force(self) -> Ledger:
        """The ledger, unless another copy of its log may be in force."""
        ledger = self._opened()
        self._enlisted.log.check_lease()
        return ledger

    # -- writing ----------------------------------------------------------------------------------

    @ray.method(concurrency_group="mail")
    def deliver(self, source: str, data: bytes) -> Delivered:
        """Take messages of a partition; answers when what was taken is durable and folded."""
        ledger = self._opened()
        messages = decode_messages(data)
        self._write(messages, None)
        is_behind = any(message.catalogue > ledger.version for message in messages)
        return "behind" if is_behind else "ok", ledger.mailbox.cursor(source)

    @ray.method(concurrency_group="mail")
    def define(self, catalogue: Catalogue) -> int:
        """Take the definitions if they are newer; returns the version that holds. Idempotent."""
        ledger = self._opened()
        if catalogue.version > ledger.version:
            self._write([], catalogue)
        return ledger.version

    def _write(self, messages: list[Message], catalogue: Catalogue | None) -> None:
        done: Future[None] = Future()
        with self._wake:
            if self._is_stopping or self._refusal is not None:
                raise self._refusal or self._stopped_error()
            self._queue.append((messages, catalogue, done))
            self._wake.notify()
        done.result()

    def _loop(self) -> None:
        while True:
            with self._wake:
                if not self._queue and not self._is_stopping:
                    self._wake.wait()
                taken, self._queue = self._queue, []
                if not taken and self._is_stopping:
                    return
            error: ProfileActorsError | None = self._lack()
            if error is None:
                error = self._commit(taken)
            for _, _, done in taken:
                if error is None:
                    done.set_result(None)
                else:
                    done.set_exception(error)
            if self._refusal is not None and not self._is_stopping:
                return
            self._postman.notify()
            is_saving = self._saving is not None and self._saving.is_alive()
            if self._ledger.is_checkpoint_due and not is_saving:
                self._saving = Thread(target=self._save, name="checkpoint", daemon=True)
                self._saving.start()

    def _save(self) -> None:
        with suppress(ProfileActorsError):  # without it the next opening takes longer
            self._ledger.checkpoint()

    def _commit(
        self, taken: list[tuple[list[Message], Catalogue | None, Future[None]]]
    ) -> ProfileActorsError | None:
        newest = max(
            (catalogue for _, catalogue, _ in taken if catalogue is not None),
            key=lambda catalogue: catalogue.version,
            default=None,
        )
        mail = [message for messages, _, _ in taken for message in messages]
        try:
            self._ledger.commit(mail, self._now(), newest)
            self._hook("ledger.before_reply")
        except Exception as error:
            reason = error
            if not isinstance(error, ProfileActorsError):
                reason = Halt(
                    f"expected the ledger to go on, got {type(error).__name__}: {error} - at"
                    f" position {self._ledger.position}; this is a defect: report it"
                )
                reason.__cause__ = error
            assert isinstance(reason, ProfileActorsError)
            with self._wake:
                self._refusal, self._failed_s = reason, time.monotonic()
                waiting, self._queue = self._queue, []
            for _, _, done in waiting:
                done.set_exception(reason)
            return reason
        return None

    # -- questions --------------------------------------------------------------------------------

    @ray.method(concurrency_group="read")
    def replica(self, name: str, *args: Any) -> Any:
        """One of REPLICA: what is asked of the log's standby, and by it."""
        self._opened()
        assert name in REPLICA, name
        return getattr(self._enlisted, name)(*args)

    @ray.method(concurrency_group="read")
    def cursor_of(self, source: str) -> int:
        """The number of the last message taken from a partition."""
        return self._opened().mailbox.cursor(source)

    @ray.method(concurrency_group="read")
    def identity_graph(
        self, version: int, named: Named
    ) -> tuple[list[Named], list[tuple[Named, Named, Judged]]] | None:
        """See ``Ledger``; None if the definitions here are older than ``version``."""
        ledger = self._in_force()
        return ledger.identity_graph(named) if ledger.version >= version else None

    @ray.method(concurrency_group="read")
    def past_graph(self, named: Named, at: int, version: int) -> Together:
        """Who was one person, by what was known when the clock stood at an instant (ms) and under
        definitions of a version; see ``PastEvidence``."""
        ledger = self._in_force()
        return self._past.person(named, entries_until(ledger.log, ledger.position, at), version)

    @ray.method(concurrency_group="read")
    def tried(self, catalogue: Catalogue) -> LinkingTrial:
        """What other linking rules would change; the ledger goes on meanwhile, and first."""

        def let_go_on() -> None:
            if self._queue:
                time.sleep(TRIAL_PAUSE_S)

        limit = self._place.config.max_dry_run_people
        return try_linking(self._in_force(), catalogue, limit, let_go_on)

    @ray.method(concurrency_group="read")
    def rest(self) -> tuple[int, int]:
        """The next position, and how many messages nobody has acknowledged yet."""
        ledger = self._in_force()
        return ledger.position, ledger.mailbox.waiting()

    @ray.method(concurrency_group="read")
    def verify(self) -> list[str]:
        """See ``Ledger``."""
        return self._opened().verify()

    @ray.method(concurrency_group="read")
    def status(self) -> LedgerAccount:
        """Never raises: a ledger that is in trouble says so here."""
        if self._refusal is not None:
            return LedgerAccount(None, str(self._refusal), os.getpid())
        lack = self._lack()
        return LedgerAccount(
            self._ledger.status(), "" if lack is None else str(lack), os.getpid(),
            self._postman.account(), self._enlisted.scrubber.status(), self._enlisted.standing(),
        )  # fmt: skip

    @ray.method(concurrency_group="backups")
    def log_step(self, name: str, *args: Any) -> Any:
        """A step of a backup (``log_steps``)."""
        self._opened()
        return log_step(self._enlisted, lambda: None, self._hook, name, *args)

    # -- its life ---------------------------------------------------------------------------------

    def leave(self, number: int) -> None:
        """End this process if its log was opened before the erasure of this number."""
        leave(self._enlisted.known.erasures if self._refusal is None else None, number)

    def hello(self) -> int:
        """The next position, once it is open. Raises what kept it from opening."""
        return self._opened().position

    def _tell(self) -> None:
        """Tell the coordinator now and then how long the log is."""
        told = self._ledger.log.head()
        pause_s = self._place.config.tell_position_ms / 1000
        due = time.monotonic() + pause_s
        while not self._stopped.wait(min(TELL_LOOK_S, pause_s)):
            self._enlisted.end_if_lost()
            if self._ledger.log.head() != told and time.monotonic() > due:
                with suppress(ProfileActorsError):  # the next look tells it
                    told, due = self._enlisted.tell(), time.monotonic() + pause_s

    def _stopped_error(self) -> Stopped:
        return Stopped("expected a running ledger, got a stopped one - start the store")

    def stop(self) -> None:
        """Commit what is queued, close the files. The actor can be killed then."""
        if self._refusal is not None:
            return
        with self._wake:
            self._is_stopping = True
            self._refusal = self._stopped_error()  # nobody opens it anew
            self._wake.notify()
        self._stopped.set()
        self._thread.join()
        self._postman.stop()
        if self._saving is not None:
            self._saving.join()
        self._save()
        with suppress(ProfileActorsError):
            self._enlisted.tell(LAST_TELL_S)
        self._ledger.close()


def ledger_class() -> Any:
    """What Ray makes the actor of."""
    groups = {"mail": MAIL_THREADS, "read": READ_THREADS, "backups": 1}
    options: dict[str, Any] = {"num_cpus": 0, "concurrency_groups": groups}
    return ray.remote(**options)(shell_of(LedgerActor))


def begun_ledger(place: LedgerPlace) -> Any:
    """The handle of the store's ledger, which is started if it does not run."""
    return (
        ledger_class()
        .options(
            name=LEDGER_ACTOR,
            namespace=place.namespace,
            lifetime="detached",
            get_if_exists=True,
            max_restarts=-1,
            max_task_retries=0,
            **pinned(place.disk),
        )
        .remote(place)
    )
