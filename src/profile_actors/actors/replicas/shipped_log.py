"""A log in force that keeps a standby: an entry is written when both have it.

Theory: ``engine/shipping/shipper`` decides; here are its two hands. One thread sends the standby
what it lacks, one message at a time, the entry that is being written among it, so both disks work
at the same time; another has the catalogue note what must be noted. ``append_at`` returns when the
entry may be acknowledged, so whoever writes needs to know nothing of standbys. ``head`` says how
many entries that holds for.

A standby that does not answer within ``Config.standby_timeout_ms`` is left behind, once the
catalogue has noted it; if the catalogue cannot be reached either, writing waits. Reads go on for
``Config.lease_ms`` after the last word of either: by then the standby may be in force.

Without a standby it is the log itself, and no thread runs.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager

from profile_actors.actors.actor_status import Standing
from profile_actors.actors.calls import LeaseEnded
from profile_actors.config import Config
from profile_actors.engine.log.ports import Buffer, RowGroup
from profile_actors.engine.shipping.replication import Copies, Request
from profile_actors.engine.shipping.shipper import Arrival, Shipment, Shipper
from profile_actors.errors import FencedOut, Halt, ProfileActorsError
from profile_actors.storage.lmdb_log import LmdbLog
from profile_actors.storage.replicas.copied_log import digest_of

MESSAGE_BYTES = 8 << 20
"""Entries that travel to a standby together end after so many bytes; one that is larger goes
alone."""


IDLE_S = 0.25
"""Between two words to a standby that has everything: so long a lost one is not noticed."""


FIRST_PAUSE_S = 0.02


LONGEST_PAUSE_S = 1.0


class ShippedLog:
    """See the module. ``send`` and ``note`` may raise ProfileActorsError: no answer. end:
    called once this copy may not go on: before FencedOut is raised, since another one is in force,
    or when the standby is to be left behind and ``is_there`` says that the files here are gone."""

    def __init__(
        self,
        log: LmdbLog,
        config: Config,
        end: Callable[[], None] = lambda: None,
        is_there: Callable[[], bool] = lambda: True,
    ) -> None:
        self._end = end
        self._is_there = is_there
        self._log = log
        self._config = config
        self._changed = threading.Condition()
        self._shipper: Shipper | None = None
        self._disk, self._is_async = "", False
        self._coming: tuple[int, bytes] | None = None
        self._head = log.head()
        self._closed = False
        self._answered_s = self._contact_s = time.monotonic()
        self._threads: list[threading.Thread] = []

    # -- keeping a standby ------------------------------------------------------------------------

    def follow(
        self,
        copies: Copies,
        send: Callable[[Shipment], Arrival],
        note: Callable[[Request], tuple[bool, Copies]],
    ) -> None:
        """Keep the standby that the catalogue names, from now on; none where it names none. One
        that it names already goes on."""
        with self._changed:
            known = self._shipper
            if known is not None and (known.copy == copies.copy or not copies.standby):
                if copies.standby:
                    known.recall(is_async=copies.is_async)
                    return
                self._shipper = None
                self._changed.notify_all()
                return
            if not copies.standby:
                return
            self._disk, self._is_async = copies.standby, copies.is_async
            self._shipper = Shipper(
                self._log.epoch, copies.copy, self._log.head(), lambda at: digest_of(self._log, at),
                in_sync=copies.in_sync, is_async=copies.is_async,
            )  # fmt: skip
            self._answered_s = self._contact_s = time.monotonic()
            if self._threads:
                self._changed.notify_all()
                return
            self._threads = [
                threading.Thread(target=self._ship, args=(send,), name="shipping", daemon=True),
                threading.Thread(target=self._ask, args=(note,), name="copies", daemon=True),
            ]
        for thread in self._threads:
            thread.start()

    def settle(self) -> None:
        """Wait until all that the log has may be acknowledged: the entry that was being written
        when the last process ended may not be at the standby, which may be in force soon. Nobody is
        answered by it before, and nobody told of it: whoever was would count it, and take what
        comes in its place for the same. Raises FencedOut."""
        with self._changed:
            self._changed.wait_for(lambda: self._may_acknowledge(self._log.head() - 1))
            if self._shipper is not None and self._shipper.fenced:
                raise self._fenced(self._shipper)

    def let_go(self) -> None:
        """Leave the standby behind, as if it were silent, and wait until the catalogue has noted
        that. Raises FencedOut, Halt."""
        with self._changed:
            shipper = self._shipper
            if shipper is None:
                return
            shipper.dismiss()
            self._changed.notify_all()
            self._changed.wait_for(
                lambda: self._closed or bool(shipper.fenced) or not shipper.needs
            )
            if shipper.fenced:
                raise self._fenced(shipper)
            if shipper.needs:
                raise Halt(
                    "expected the catalogue to note that the standby was let go of, got the log"
                    " closed - at the log on this disk; ask again"
                )

    def standing(self) -> Standing | None:
        """How the standby stands; None without one."""
        with self._changed:
            shipper = self._shipper
            if shipper is None:
                return None
            is_silent = time.monotonic() - self._answered_s > self._timeout_s
            state = "in sync" if shipper.needs and shipper.there >= self._head else "catching up"
            if shipper.fenced:
                state = "fenced"
            elif is_silent:
                state = "silent"
            is_async = self._is_async
            return Standing(self._disk, state, self._head, shipper.there, is_async)

    def check_lease(self) -> None:
        """Raises FencedOut if another copy is in force, LeaseEnded if one may be."""
        shipper = self._shipper
        if shipper is None:
            return
        if shipper.fenced:
            raise self._fenced(shipper)
        silent_s = time.monotonic() - self._contact_s
        if shipper.needs and silent_s > self._config.lease_ms / 1000:
            raise LeaseEnded(
                f"expected a word of the standby or of the coordinator within"
                f" {self._config.lease_ms} ms, got none for {silent_s:.1f} s - at the log on this"
                " disk; its standby may be in force by now: it is asked on by itself"
            )

    @property
    def is_fenced(self) -> bool:
        """Whether another copy is in force."""
        return self._shipper is not None and bool(self._shipper.fenced)

    @property
    def _timeout_s(self) -> float:
        return self._config.standby_timeout_ms / 1000

    def _fenced(self, shipper: Shipper) -> FencedOut:
        self._end()
        return FencedOut(
            f"expected this copy of the log to be in force, got epoch {shipper.fenced} in another"
            " one - at the log on this disk; that one goes on, this one becomes its standby",
            epoch=shipper.fenced,
        )

    def _entries(self, first: int) -> Sequence[bytes]:
        """The entries from a position on that one message takes. The caller holds the lock."""
        out: list[bytes] = []
        size = 0
        position = first
        while position < self._log.head() and size < MESSAGE_BYTES:
            with self._log.view(position) as view:
                out.append(bytes(view))
            size += len(out[-1])
            position += 1
        if self._coming is not None and self._coming[0] == position and size < MESSAGE_BYTES:
            out.append(self._coming[1])
        return out

    def _ship(self, send: Callable[[Shipment], Arrival]) -> None:
        pause_s = FIRST_PAUSE_S
        while True:
            with self._changed:
                if self._closed:
                    return
                shipper = self._shipper
                message = None if shipper is None else shipper.message(self._entries)
                if message is None:
                    self._changed.wait(IDLE_S)
                    if shipper is None or shipper.fenced or self._closed:
                        continue
                    message = shipper.message(self._entries) or shipper.greeting()
            asked_s = time.monotonic()
            try:
                answer = send(message)
            except ProfileActorsError:
                answer = None
            with self._changed:
                if answer is not None and shipper is not None and shipper is self._shipper:
                    shipper.heard(message, answer)
                    self._answered_s = time.monotonic()
                    self._contact_s = max(self._contact_s, asked_s)
                    pause_s = FIRST_PAUSE_S
                if shipper is not None and time.monotonic() - self._answered_s > self._timeout_s:
                    shipper.silent()
                self._changed.notify_all()
                if answer is None or answer.copy != message.copy:
                    self._changed.wait_for(lambda: self._closed, pause_s)
                    pause_s = min(2 * pause_s, LONGEST_PAUSE_S)

    def _ask(self, note: Callable[[Request], tuple[bool, Copies]]) -> None:
        pause_s = FIRST_PAUSE_S
        while True:
            with self._changed:
                shipper = self._shipper
                request = None if shipper is None else shipper.request()
                if self._closed:
                    return
                if shipper is None or request is None:
                    self._changed.wait()
                    continue
            if request.wish == "leave" and not self._is_there():
                self._end()  # the standby has all that was acknowledged: it goes on, not this one
                with self._changed:
                    self._changed.wait_for(lambda: self._closed)
                return
            asked_s = time.monotonic()
            try:
                is_noted, copies = note(request)
            except ProfileActorsError:
                time.sleep(pause_s)
                pause_s = min(2 * pause_s, LONGEST_PAUSE_S)
                continue
            pause_s = FIRST_PAUSE_S
            with self._changed:
                if is_noted:
                    shipper.noted(request)
                    self._contact_s = max(self._contact_s, asked_s)
                else:
                    shipper.refused(request, copies)
                    self._disk = copies.standby or self._disk
                self._changed.notify_all()

    # -- the log ----------------------------------------------------------------------------------

    @property
    def local(self) -> LmdbLog:
        """This disk's log; its newest entry may not be acknowledged yet."""
        return self._log

    @property
    def id(self) -> str:
        return self._log.id

    @property
    def epoch(self) -> int:
        return self._log.epoch

    def head(self) -> int:
        return self._head

    def append_at(self, position: int, parts: Sequence[Buffer], epoch: int) -> None:
        """As ``LmdbLog``; and the standby has it too, or was left behind. Raises FencedOut."""
        if self._shipper is None:
            self._log.append_at(position, parts, epoch)
            self._head = self._log.head()
            return
        entry = b"".join(parts)
        with self._changed:
            self._coming = position, entry
            self._changed.notify_all()
        self._log.append_at(position, (entry,), epoch)
        with self._changed:
            self._coming = None
            if self._shipper is not None:
                self._shipper.written(self._log.head())
            self._changed.notify_all()
            self._changed.wait_for(lambda: self._may_acknowledge(position))
            shipper = self._shipper
            if shipper is not None and shipper.reached <= position:
                raise self._fenced(shipper) if shipper.fenced else _closing()
            self._head = self._log.head()

    def _may_acknowledge(self, position: int) -> bool:
        shipper = self._shipper
        return self._closed or shipper is None or bool(shipper.fenced) or shipper.reached > position

    def view(self, position: int) -> AbstractContextManager[memoryview]:
        return self._log.view(position)

    def group(self, position: int) -> RowGroup | None:
        return self._log.group(position)

    def size_bytes(self) -> int:
        return self._log.size_bytes()

    def verify(self) -> Iterator[str]:
        return self._log.verify()

    def told(self, entries: int) -> None:
        self._log.told(entries)

    def close(self) -> None:
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        for thread in self._threads:
            thread.join(self._timeout_s)
        self._log.close()


def _closing() -> Halt:
    return Halt(
        "expected the standby's word for an entry, got the log closed - at the log on this disk;"
        " it was not acknowledged: send it again"
    )
