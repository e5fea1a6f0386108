"""A log's standby as a Ray actor: another disk's copy of it, and no engine.

Theory: it asks the coordinator which copy it is, opens the files, and takes what the log's primary
sends (``engine/shipping/standby_copy``). It promotes itself, by command or when the primary has
been silent for ``Config.failover_after_ms``: the coordinator notes that, it promises the new epoch,
waits until nobody can read the old copy any more, and lets go of the files. Then both processes
begin anew, and find by the coordinator's record that they have changed places. A crash at any step
is one more start: a promotion that was noted is carried on.

Like a partition's, its constructor never raises: it stands and answers with the reason.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import ray
from msgspec import structs

from profile_actors.actors.actor_status import (
    StandbyPlace,
    StandbyStatus,
)
from profile_actors.actors.calls import Remote, Session, Stopped
from profile_actors.actors.comeback import Comeback
from profile_actors.actors.hooks import Hook, no_hook
from profile_actors.actors.logs.compactor import CompactionPart, Compactor
from profile_actors.actors.logs.opening import refusal_of
from profile_actors.actors.logs.scrubber import Scrubber, ScrubPart
from profile_actors.actors.replicas.copies_registry import StandbyRole
from profile_actors.actors.replicas.standby_line import ENCODER, FETCH_S, primary_name
from profile_actors.actors.replicas.standby_node import StandbyNode
from profile_actors.engine.shipping.shipper import Shipment
from profile_actors.engine.shipping.standby_copy import StandbyCopy
from profile_actors.errors import (
    FencedOut,
    LostLog,
    ProfileActorsError,
    StoreUnavailable,
)
from profile_actors.storage.files.atomic_files import Room, remove_tree
from profile_actors.storage.files.layout import LEDGER, PartitionLayout, StoreLayout, whose
from profile_actors.storage.files.lock import DirectoryLock
from profile_actors.storage.replicas.copied_checkpoints import (
    begin_feed,
    copy_saved,
    drop_beyond,
)
from profile_actors.storage.replicas.copied_log import CopiedLog
from profile_actors.storage.replicas.lost_end import LostEnd, lost_end
from profile_actors.storage.replicas.roles import as_standby
from profile_actors.storage.replicas.standby_files import (
    copy_at,
    found_disk,
    name_copy,
)

LOOK_S = 0.25
"""How often is looked whether the primary is silent, and files that are missing are back."""


START_FACTOR = 6
"""A primary that was not heard yet is waited for so many times as long as one that falls silent:
its process may be starting."""


CHECKPOINT_LOOK_S = 5.0
"""How often is asked whether the primary has a newer checkpoint."""


END_WAIT_S = 10.0
"""How long the process of a copy that is no longer in force is waited for."""


RETIRE_S = 0.5
"""How long a standby that retires waits for its checkpoint's copy to stop."""


SHIPMENT = msgspec.msgpack.Decoder(Shipment)


class StandbyActor:
    """The shell; see the module."""

    def __init__(self, place: StandbyPlace, hook: Hook = no_hook) -> None:
        """hook: called at named points; crash tests kill the process there."""
        self._place = place
        self._who = whose(place.index)
        self._hook = hook
        self._lock = threading.RLock()
        self._stopped = threading.Event()
        self._heard_s = time.monotonic()
        self._has_heard = False
        self._away = "", 0.0
        self._log: CopiedLog | None = None
        self._refusal: ProfileActorsError | None = None
        self._coordinator = Remote(
            ray.get_actor("coordinator", namespace=place.namespace), "coordinator",
            place.config.call_timeout_s, Session(place.path, place.namespace),
        )  # fmt: skip
        self._node = StandbyNode(place.home, place.index, self._coordinator)
        with self._lock:
            self._try_to_open()
        threading.Thread(target=self._watch, name="failover", daemon=True).start()
        copying = self._copy_checkpoints
        self._copier = threading.Thread(target=copying, name="checkpoints", daemon=True)
        self._copier.start()

    def _try_to_open(self) -> None:
        self._refusal = refusal_of(self._open, f"the standby of {self._who}", self._place.path)

    def _open(self) -> None:
        index, config = self._place.index, self._place.config
        data = self._disk_there()
        old = StoreLayout(data).partition(index)
        if old.log_id.is_file():  # it was in force, and its process may live
            self._free(old.lock)
        directory = as_standby(data, index)
        role: StandbyRole = self._coordinator.call("copies", "standby", index, copy_at(directory))
        if copy_at(directory) != role.copies.copy:
            if role.copies.is_anew:
                remove_tree(directory)
            name_copy(directory, role.copies.copy)
            role = self._coordinator.call("copies", "standby", index, role.copies.copy)
        self._hook("standby.named")
        self._directory = directory
        lack = Room(directory, config.min_free_bytes).lack
        self._log = log = CopiedLog(
            directory, config, role.claim, crash_point=self._hook, lack=lack
        )
        self._comeback = Comeback(lambda: log.halted, PartitionLayout(directory), lack)
        self._copy = StandbyCopy(self._log, role.copies.copy, role.opening)
        self._role = role
        self._scrubber = Scrubber(self._log, directory, config, self._fetch)
        self._scrubber.start()
        self._compactor = Compactor(self._log, directory, config).start()
        self._heard_s = time.monotonic()

    def _disk_there(self) -> Path:
        """The directory of this copy's disk; of another one, once that was away for too long.
        Raises StoreUnavailable while it is."""
        index, after_ms = self._place.index, self._place.config.replace_standby_after_ms
        disk, directory = self._coordinator.call("copies", "standby_disk", index)
        if self._node.home:
            return self._node.directory(disk, directory)
        found = found_disk(Path(directory))
        if found is not None and found.disk == disk:
            self._away = "", 0.0
            return Path(directory)
        if self._away[0] != disk:
            self._away = disk, time.monotonic()
        away_s = time.monotonic() - self._away[1]
        if after_ms is not None and away_s > after_ms / 1000:
            return Path(self._coordinator.call("copies", "replace", index, disk)[1])
        then = "" if after_ms is None else (
            f"; another one takes its place in {after_ms / 1000 - away_s:.0f} s, if there is one"
        )  # fmt: skip
        raise StoreUnavailable(
            f"expected disk {disk} of the standby of {self._who}, got"
            f" {found.disk if found is not None else 'none'} - at {directory}; mount it{then}"
        )

    def _free(self, lock: Path) -> None:
        """Have the primary's process end that still has the files of an old copy open."""
        end = time.monotonic() + END_WAIT_S
        while True:
            try:
                DirectoryLock(lock, 0.0).release()
            except FencedOut:
                if time.monotonic() > end:
                    raise
                self._restart_primary()
                time.sleep(LOOK_S)
            else:
                return

    def _primary(self) -> Any:
        """The actor with the log in force. Raises ValueError where there is none."""
        return ray.get_actor(primary_name(self._place.index), namespace=self._place.namespace)

    def _restart_primary(self) -> None:
        """Have the primary's process begin anew: it asks where its log is."""
        with suppress(ValueError, ray.exceptions.RayError):
            ray.kill(self._primary(), no_restart=False)

    def _opened(self) -> StandbyCopy:
        if self._refusal is not None and not self._stopped.is_set():
            self._try_to_open()
        if self._refusal is not None:
            raise self._refusal
        return self._copy

    def take(self, data: bytes) -> bytes:
        """A message of the primary (``Shipment``); the answer to it (``Arrival``)."""
        shipment = SHIPMENT.decode(data)
        with self._lock:
            copy = self._opened()
            self._hook("standby.before_take")
            if shipment.copy == copy.copy:  # heard, also if the disk is too full to do it
                self._heard_s, self._has_heard = time.monotonic(), True
            answer = copy.take(shipment)
            if answer.copy != shipment.copy and shipment.epoch >= answer.epoch:
                self._ask_again()
        self._hook("standby.before_answer")
        return ENCODER.encode(answer)

    def _ask_again(self) -> None:
        """The primary knows this standby by another id: the files may be another copy by now."""
        self._close()
        self._try_to_open()

    def _close(self) -> None:
        if self._log is not None:
            self._log.close()
            self._log = None

    def promote(self, accept_loss: bool = False, is_wanted: bool = True) -> LostEnd | None:
        """Put this copy in force. Again, it goes on where it was. What is lost thereby; None of one
        that had all that was acknowledged.

        Raises ConfigError unless it has all that was acknowledged, or a loss is accepted.
        """
        with self._lock:
            self._opened()
            index = self._place.index
            self._check_files()
            copies = self._coordinator.call("copies", "promise", index, accept_loss, is_wanted)
            self._role = structs.replace(self._role, copies=copies)  # it is carried on if it fails
            return self._carry_on(copies.promised)

    def _check_files(self) -> None:
        """Raises LostLog if this copy's files went away below it: so did what was written."""
        if copy_at(self._directory) != self._copy.copy:
            self._close()
            self._refusal = LostLog(
                f"expected copy {self._copy.copy} of {self._who}, got its files"
                f" gone - at {self._directory}; they are made anew once it goes on without them"
            )
            raise self._refusal

    def _carry_on(self, epoch: int) -> LostEnd | None:
        """A promotion that was noted: promise, wait, and change places; what is lost."""
        self._hook("standby.promised")
        answer = self._copy.fence(epoch)
        if answer.epoch != epoch:
            raise FencedOut(
                f"expected to promise epoch {epoch}, got {answer.epoch} promised already - at the"
                f" standby of {self._who}",
                epoch=answer.epoch,
            )
        # Its next process waits for the record; one that cannot be ended here ends when it hears
        # that it is fenced, and is read by nobody after the lease.
        self._restart_primary()
        time.sleep(self._place.config.lease_ms / 1000)
        lost = None if self._role.copies.in_sync else self._losing()
        if self._log is not None:
            drop_beyond(self._directory, self._log.head())
            if self._place.index != LEDGER:  # which tells nobody of changes
                begin_feed(self._directory)
        self._hook("standby.fenced")
        self._coordinator.call("copies", "promoted", self._place.index, epoch)
        self._hook("standby.noted")
        self._close()
        self._refusal = Stopped("expected a standby, got a copy that is in force by now")
        self._stopped.set()
        threading.Thread(target=self._end_soon, daemon=True).start()
        return lost

    def _end_soon(self) -> None:
        """After the answer to the call at hand has gone out; the process begins anew."""
        time.sleep(LOOK_S)
        with suppress(ProfileActorsError):  # the next process asks again
            if self._node.home:
                self._node.have_it_placed()
        os.kill(os.getpid(), signal.SIGKILL)

    def _losing(self) -> LostEnd | None:
        """What the other copy has and this one has not."""
        if self._log is None:
            return None
        other, told = self._coordinator.call("copies", "other_copy", self._place.index)
        if self._node.home:  # it is on another machine
            return LostEnd(self._log.head(), max(self._log.head(), told), {}, is_whole=False)
        return lost_end(self._log, Path(other), told, self._place.config.log_map_bytes)

    def _watch(self) -> None:
        """Carry on a promotion that a crash cut short; begin one when the primary is silent."""
        while not self._stopped.wait(LOOK_S):
            with self._lock, suppress(ProfileActorsError):
                if self._stopped.is_set():
                    return
                if self._refusal is not None:
                    self._try_to_open()
                    continue
                self._check_files()
                self._comeback.look()
                if self._role.copies.promised:
                    self._carry_on(self._role.copies.promised)
                elif self._is_primary_silent():
                    self._heard_s = time.monotonic()  # where it may not be, the next look is later
                    self.promote(is_wanted=False)

    def _is_primary_silent(self) -> bool:
        silence_s = self._place.config.failover_after_ms / 1000
        patience_s = silence_s * (1 if self._has_heard else START_FACTOR)
        is_lost = self._node.is_lost(self._role.copies.primary, silence_s)
        return is_lost or self._silent_s() > patience_s

    def _copy_checkpoints(self) -> None:
        """Have the primary's newest checkpoint here, too; and the catalogue on this disk."""
        while not self._stopped.wait(CHECKPOINT_LOOK_S):
            if self._refusal is not None or self._role.copies.promised:
                continue
            if self._log is None or self._log.refusal is not None:
                continue  # what room there is, is the log's
            with suppress(ValueError, ray.exceptions.RayError, ProfileActorsError, OSError):
                primary = self._primary()
                self._coordinator.call("copies", "keep_home")
                self._node.take_home(self._directory.parents[1])
                self._coordinator.call("copies", "sweep")
                ask = partial(self._asked, primary)
                copy_saved(self._directory, ask("saved"), partial(ask, "saved_part"))

    def _asked(self, primary: Any, *words: Any) -> Any:
        found = ray.get(primary.replica.remote(*words), timeout=self._place.config.call_timeout_s)
        if self._stopped.is_set():  # nothing may be written: the files may be deleted
            raise Stopped("expected a running standby, got one that was stopped meanwhile")
        return found

    def _silent_s(self) -> float:
        return time.monotonic() - self._heard_s

    def status(self) -> StandbyStatus:
        """Never raises: a standby that is in trouble says so here."""
        log, index, silent_s = self._log, self._place.index, round(self._silent_s(), 3)
        if log is None or self._refusal is not None:
            return StandbyStatus(index, "", 0, 0, silent_s, os.getpid(), str(self._refusal))
        return StandbyStatus(
            index, self._copy.copy, log.head(), log.epoch, silent_s, os.getpid(),
            str(log.refusal or ""), self._scrubber.status(),
        )  # fmt: skip

    def entry(self, position: int) -> bytes:
        """A log entry, for a primary of which it is damaged. Raises CorruptLog."""
        if self._log is None:
            raise StoreUnavailable("expected an open log, got a standby without one")
        return self._log.whole(position)

    def _fetch(self, position: int) -> bytes:
        """An entry as the primary has it, whose log this one is known to be a beginning of."""
        if not self._copy.is_agreed:
            raise StoreUnavailable("expected a standby that has compared its log, got a new one")
        try:
            answer = self._primary().replica.remote("entry", position)
            found: bytes = ray.get(answer, timeout=FETCH_S)
        except (ValueError, ray.exceptions.RayError) as error:
            raise StoreUnavailable(
                f"expected log entry {position} of {self._who}, got"
                f" {type(error).__name__}; it is asked again by the next pass"
            ) from None
        return found

    def log_step(self, name: str, *args: Any) -> ScrubPart | CompactionPart:
        """``scrub`` or ``compact``, some seconds of it, by hand (``scrubber``, ``compactor``)."""
        self._opened()
        return self._scrubber.step(*args) if name == "scrub" else self._compactor.step()

    def retire(self) -> None:
        """Close the files and delete them: the standby goes to another disk, or there is none."""
        self.stop()
        self._copier.join(RETIRE_S)  # longer only if it waits for an answer, and writes none then
        disk, data = self._coordinator.call("copies", "standby_disk", self._place.index)
        data = str(self._node.directory(disk, data)) if self._node.home else data
        remove_tree(StoreLayout(Path(data)).standby(self._place.index).directory)

    def stop(self) -> None:
        """Close the files. The actor can be killed then."""
        self._stopped.set()
        with self._lock:
            self._close()
            self._refusal = Stopped("expected a running standby, got a stopped one")
