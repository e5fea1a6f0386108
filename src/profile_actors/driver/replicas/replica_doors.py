"""The doors to standbys: copies of logs, of partitions and of the ledger, on other disks."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import msgspec
import ray
from msgspec import structs

from profile_actors.actors.actor_status import StandbyStatus, Standing
from profile_actors.actors.calls import Remote
from profile_actors.actors.replicas.disk_labels import labelled_nodes
from profile_actors.actors.replicas.standby_line import standby_name
from profile_actors.driver.arguments import whole_number
from profile_actors.driver.connection import Connection
from profile_actors.driver.keeping.standby_processes import (
    begun,
    end_standby,
    restart_primary,
)
from profile_actors.driver.replicas.disks_of_nodes import (
    LogName,
    disk_named,
    evened,
    know_disks,
)
from profile_actors.engine.shipping.replication import Copies
from profile_actors.errors import CallerError, ConfigError, Pending, StoreUnavailable
from profile_actors.storage.files.layout import LEDGER, name_of, whose

if TYPE_CHECKING:
    from profile_actors.driver.keeping.placement import Placement
    from profile_actors.storage.replicas.lost_end import LostEnd

LOOK_S = 0.1


RETIRE_S = 10.0
"""How long a standby is waited for that is to delete its files."""


STATUS_S = 2.0
"""How long a standby is asked for its account of itself."""


class Replica(msgspec.Struct, frozen=True):
    """A log and its standby, as ``Store.replicas`` tells. partition: whose log it is, a partition's
    number or 'ledger'. primary, standby: the directories of their disks; standby is "" where there
    is none.

    state: 'in sync' (nothing is acknowledged without it), 'catching up', 'silent' (its primary
    goes on without it, or will), or 'none'. lag_entries: log entries that the standby has not.
    is_async: entries are acknowledged before the standby has them. reason: what keeps the standby
    from working, or "". lost: of a promotion that this tells of, what the standby had not.
    disks: the ids of the two.
    """

    partition: LogName
    primary: str
    standby: str
    state: str
    lag_entries: int
    is_async: bool = False
    reason: str = ""
    disks: tuple[str, str] = "", ""
    lost: LostEnd | None = None


class ReplicaDoors:
    """The part of ``Store`` that knows of standbys."""

    _connection: Connection
    _placement: Placement
    _ledger: Callable[[], Remote | None]

    def _check_open(self) -> None:
        raise NotImplementedError

    def add_disk(self, directory: str | Path) -> str:
        """Let the store keep copies in a directory, of another disk; returns the disk's id.

        Idempotent. Raises ConfigError for one that cannot be written, or is another store's.
        """
        self._check_open()
        path = str(Path(directory).resolve())
        if self._connection.coordinator.call("copies", "labelled"):
            raise ConfigError(
                f"expected a disk of this machine's store, got {path}, of a store whose disks come"
                " with their nodes - at add_disk; start a node with the disk's label"
                f" (profile-actors disk-id {path}): it is known then"
            )
        disk: str = self._connection.coordinator.call("copies", "add_disk", path)
        return disk

    def remove_disk(self, directory: str | Path) -> None:
        """Keep no copies on a disk any more, by its id or directory; what is in it stays. Raises
        ConfigError for one that was not added, or that has a log or standby."""
        self._check_open()
        named = str(directory)
        if named not in self.disks():
            named = str(Path(directory).resolve())
        self._connection.coordinator.call("copies", "remove_disk", named)

    def disks(self) -> dict[str, str]:
        """The disks of the store: the directory of each, by its id."""
        self._check_open()
        found: dict[str, str] = self._connection.coordinator.call("copies", "disks")
        return found

    def set_replicas(self, replicas: int, mode: Literal["sync", "async"] = "sync") -> list[Replica]:
        """Keep so many standbys of each log, 0 or 1, from now on (docs/REPLICAS.md): of all
        partitions, and of the ledger of links, also if that begins later.

        'sync': what is acknowledged is durable on both disks. 'async': before the standby has it,
        so that the loss of a disk may lose the newest entries; of the ledger none. Returns at once:
        standbys catch up beside the work (``replicas``, ``wait_for_replicas``). 0: standbys' files
        are deleted, each once its primary has answered that it goes on alone. Raises ConfigError
        without a second disk (``add_disk``), StoreUnavailable for a partition that does not answer.
        """
        self._check_open()
        if replicas not in (0, 1):
            raise CallerError(f"expected 0 or 1 replicas, got {replicas!r} - at set_replicas")
        if mode not in ("sync", "async"):
            raise CallerError(f"expected 'sync' or 'async', got {mode!r} - at set_replicas")
        if replicas:
            know_disks(self._connection, self._placement)
        records = self._let_go(replicas, mode == "async")
        for index, copies in records.items():
            if copies.standby:
                begun(self._placement, index, copies)
            else:
                end_standby(self._placement, index)
            self._primary(index).call("replica", "follow", copies)
        return self.replicas()

    def _primary(self, index: int) -> Remote:
        """The actor with the log of a partition, or of LEDGER, in force. Raises
        StoreUnavailable."""
        found = self._ledger() if index == LEDGER else self._connection.partitions[index]
        if found is None:
            raise StoreUnavailable(
                "expected the ledger of links to run, got none - at its copies; it is just"
                " beginning: try again"
            )
        return found

    def _let_go(self, replicas: int, is_async: bool) -> dict[int, Copies]:
        """The records with so many standbys; who is to go is let go of by its primary first."""
        coordinator = self._connection.coordinator
        records: dict[int, Copies] = coordinator.call("copies", "all")
        for index, copies in records.items():
            if copies.standby and replicas == 0:
                self._retire(index)
            elif copies.in_sync and is_async and index != LEDGER:
                self._primary(index).call("replica", "let_go")
                end_standby(self._placement, index)
        found: dict[int, Copies] = coordinator.call("copies", "keep", replicas, is_async)
        return found

    def _retire(self, index: int) -> None:
        """End a standby and delete its files. A primary that is gone cannot let go of it: it lives
        on then, to be promoted. Raises StoreUnavailable."""
        self._primary(index).call("replica", "let_go")
        with suppress(StoreUnavailable):  # a disk that is gone has nothing to delete
            self._standby(index).call("retire", timeout_s=RETIRE_S)
        end_standby(self._placement, index)

    def replicas(self) -> list[Replica]:
        """How each log's standby stands: the partitions' in their order, then the ledger's, if the
        store has one."""
        self._check_open()
        coordinator = self._connection.coordinator
        records: dict[int, Copies] = coordinator.call("copies", "all")
        disks = self.disks()
        return [self._replica(index, records.get(index), disks) for index in self._logs()]

    def _logs(self) -> list[int]:
        has_ledger = self._connection.coordinator.call("copies", "has_ledger")
        return [*range(len(self._connection.partitions)), *([LEDGER] if has_ledger else [])]

    def _replica(self, index: int, copies: Copies | None, disks: dict[str, str]) -> Replica:
        if copies is None:
            return Replica(name_of(index), str(self._placement.path), "", "none", 0)
        standing: Standing | None = None
        reason = ""
        try:
            standing = self._primary(index).call("replica", "standing", timeout_s=STATUS_S)
        except StoreUnavailable as error:
            reason = str(error)
        account = self._account(index) if copies.standby else None
        if account is not None and account.refusal:
            reason = account.refusal
        state = "none" if not copies.standby else "silent"
        lag = 0
        if standing is not None:
            state, lag = standing.state, standing.lag_entries
        if copies.promised:
            state = "being promoted"
        return Replica(
            name_of(index), disks.get(copies.primary, copies.primary),
            disks.get(copies.standby, copies.standby), state, lag, copies.is_async, reason,
            (copies.primary, copies.standby),
        )  # fmt: skip

    def _one(self, index: int) -> Replica:
        return next(one for one in self.replicas() if one.partition == name_of(index))

    def _account(self, index: int) -> StandbyStatus | None:
        try:
            found: StandbyStatus = self._found_standby(index).call("status", timeout_s=STATUS_S)
        except StoreUnavailable:
            return None
        return found

    def wait_for_replicas(self, timeout_s: float | None = None) -> list[Replica]:
        """Wait until every standby has everything. Raises Pending after ``timeout_s`` (default:
        that of calls)."""
        end = time.monotonic() + (timeout_s or self._connection.config.call_timeout_s)
        while True:
            found = self.replicas()
            late = [one for one in found if one.standby and one.state != "in sync"]
            late = [one for one in late if not (one.is_async and not one.lag_entries)]
            if not late:
                return found
            if time.monotonic() > end:
                raise Pending(
                    f"expected every standby to have everything, got {late[0]} - at"
                    " wait_for_replicas; it goes on"
                )
            time.sleep(LOOK_S)

    def promote(self, partition: LogName, *, accept_loss: bool = False) -> Replica:
        """Put the standby of a partition, or of the 'ledger', in force: its disk's copy is the log
        from then on, the other one becomes its standby. Calls wait meanwhile.

        accept_loss: also one that is not in sync, or async; entries that it lacks are gone then,
        and ``Replica.lost`` says which. Never of the ledger: partitions know what it lacks.
        Raises ConfigError unless it may be, CallerError for a partition that there is not,
        StoreUnavailable if the standby does not answer. Again after a crash it goes on.
        """
        self._check_open()
        index = self._number(partition, "promote")
        timeout_s = self._connection.config.call_timeout_s
        lost = self._standby(index).call("promote", accept_loss, timeout_s=timeout_s)
        return structs.replace(self._answering(index, "promotion"), lost=lost)

    def abandon_promotion(self, partition: LogName) -> Replica:
        """Take back a promotion that does not come to its end, since its standby is gone for good:
        the copy that was in force goes on, if it is there. Nothing that was acknowledged is lost.

        Raises ConfigError where no promotion is under way, CallerError for a partition that there
        is not, StoreUnavailable if the old copy does not answer.
        """
        self._check_open()
        index = self._number(partition, "abandon_promotion")
        copies = self._record(index)
        if copies is None or not copies.promised:
            raise ConfigError(
                f"expected a promotion of {whose(index)} under way, got none - at"
                " abandon_promotion; profile-actors replicas shows them"
            )
        # Who was to be promoted would carry on; who was in force opens anew, above that epoch.
        end_standby(self._placement, index)
        self._connection.coordinator.call("copies", "abandon", index)
        restart_primary(self._placement.namespace, index)
        self._standby(index)
        return self._answering(index, "opening")

    def _answering(self, index: int, after: str) -> Replica:
        """How a log stands once its primary answers. Raises StoreUnavailable."""
        timeout_s = self._connection.config.call_timeout_s
        end = time.monotonic() + timeout_s
        while True:
            with suppress(StoreUnavailable):
                self._primary(index).call("hello", timeout_s=timeout_s)
                found = self._one(index)
                if found.state != "being promoted":
                    return found
            if time.monotonic() > end:
                raise StoreUnavailable(
                    f"expected {whose(index)} to answer within {timeout_s:g} s of its {after}, got"
                    " nothing - at its copies; see profile-actors status"
                )
            time.sleep(LOOK_S)

    def change_disk(self, partition: LogName, disk: str) -> Replica:
        """Bring a partition, or the 'ledger', to another disk of the store, by its id or its
        directory, while it works: a standby there, and its promotion. What is on the old disk is
        deleted then.

        A standby that it had on another disk stays its standby. Calls wait while the copy is put in
        force. Again after a crash it goes on. Raises ConfigError, CallerError, StoreUnavailable,
        Pending if the copy takes longer than ``Config.call_timeout_s`` times 20: it goes on.
        """
        self._check_open()
        home = know_disks(self._connection, self._placement)
        wanted = disk_named(disk, self.disks(), bool(home))
        index = self._number(partition, "change_disk")
        before = self._record(index)
        standby = "" if before is None else before.standby
        if before is None or before.primary != wanted:
            if standby != wanted:
                self._put(index, wanted)
            self._wait(index, self._connection.long_timeout_s)
            self.promote(partition)
        now = self._record(index)
        kept = standby if standby not in ("", wanted) else ""
        if before is not None and standby == wanted and self._keeps_standbys:
            kept = before.primary  # the two change places
        if now is not None and now.standby not in ("", kept):
            self._put(index, kept)
        return self._one(index)

    @property
    def _keeps_standbys(self) -> bool:
        """Whether all have standbys: a lone one is of a move that a crash cut short."""
        records: dict[int, Copies] = self._connection.coordinator.call("copies", "all")
        count = len(self._connection.partitions)
        return all(index in records and records[index].standby for index in range(count))

    def plan_of_disks(self) -> list[tuple[LogName, str, str]]:
        """Which logs to bring to which disk (whose: a partition's number or 'ledger', from, to:
        directories; where disks are on nodes, their ids), so that each disk has as many in force
        as the others, or one more; [] where that is so. Disks whose nodes are away are none."""
        self._check_open()
        home = know_disks(self._connection, self._placement)
        found = self.replicas()
        if home:
            disks = [*{*labelled_nodes()} & {*self.disks()}]
            return evened({one.partition: one.disks[0] or home for one in found}, disks)
        directories = [*{str(self._placement.path), *self.disks().values()}]
        return evened({one.partition: one.primary for one in found}, directories)

    def _number(self, partition: LogName, at: str) -> int:
        """The number of a log. Raises CallerError for one that the store has not."""
        count = len(self._connection.partitions)
        if partition == "ledger":
            if LEDGER not in self._logs():
                raise CallerError(
                    f"expected a partition below {count}, got 'ledger' of a store that links nobody"
                    f" yet - at {at}"
                )
            return LEDGER
        if whole_number(partition, "partition", at, 0) >= count:
            raise CallerError(f"expected a partition below {count}, got {partition} - at {at}")
        return partition

    def _record(self, index: int) -> Copies | None:
        records: dict[int, Copies] = self._connection.coordinator.call("copies", "all")
        return records.get(index)

    def _put(self, index: int, disk: str) -> None:
        """Have a log's standby on that disk, "" for none; what another one has is deleted."""
        before = self._record(index)
        if before is not None and before.standby:
            self._retire(index)
        copies = self._connection.coordinator.call("copies", "put", index, disk)
        if disk:
            self._standby(index)
        self._primary(index).call("replica", "follow", copies)

    def _wait(self, index: int, timeout_s: float) -> None:
        end = time.monotonic() + timeout_s
        while (found := self._one(index)).state != "in sync":
            if time.monotonic() > end:
                raise Pending(f"expected a copy that has everything, got {found} - it goes on")
            time.sleep(LOOK_S)

    def _standby(self, index: int) -> Remote:
        """A partition's standby, begun if it does not run."""
        records: dict[int, Copies] = self._connection.coordinator.call("copies", "all")
        return begun(self._placement, index, records.get(index, Copies(primary="")))

    def _found_standby(self, index: int) -> Remote:
        """A partition's standby. Raises StoreUnavailable if it does not run."""
        name, placement = standby_name(index), self._placement
        try:
            handle: Any = ray.get_actor(name, namespace=placement.namespace)
        except ValueError:
            raise StoreUnavailable(f"expected {name} to run, got none; try again") from None
        return Remote(handle, name, self._connection.config.call_timeout_s, placement.session)
