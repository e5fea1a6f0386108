"""Primary, standby, coordinator and drivers over a bad network: what was acknowledged stays.

One thread, the engine's own ``replication``, ``Shipper`` and ``StandbyCopy``; everything that
chooses is drawn from one seed: which message arrives next, is lost or comes twice, who crashes at
which durable step, who is cut off, which disk dies. What must hold:

    whatever was acknowledged is in the log of every later primary, once;
    of one epoch at most one process acknowledges;
    what others were told by a log, as partitions and ledger are, stays in its place: they count it.
"""

from __future__ import annotations

import os
import random
from collections.abc import Callable
from dataclasses import dataclass, field

import pytest
from msgspec import structs

from profile_actors.engine.shipping import replication
from profile_actors.engine.shipping.replication import Copies, Refused, Request
from profile_actors.engine.shipping.shipper import Arrival, Shipment, Shipper
from profile_actors.engine.shipping.standby_copy import StandbyCopy

FIRST = int(os.environ.get("SIM_SEED", "0"))
SEEDS = int(os.environ.get("SIM_N", "120"))
STEPS = 2_500


WEIGHTS = {
    "submit": 40, "ship": 70, "ask": 30, "arrive": 200, "silent": 2, "start": 60, "stop": 1.5,
    "cut": 0.7, "heal": 8, "promote": 3, "abandon": 0.7, "lose_disk": 0.7, "replace": 0.7,
}  # fmt: skip
"""How often each thing happens, among all."""


class CrashedHere(Exception):
    """The process is gone, before or after its durable step."""


@dataclass
class Disk:
    """What outlives a process. entries: epoch:row. copy: as a standby. is_lost: it was emptied, and
    has not been a standby since."""

    name: str
    copy: str
    entries: list[bytes] = field(default_factory=list)
    epoch: int = 0
    is_lost: bool = False


class DiskLog:
    """The log on a disk; a crash comes before or after a durable step."""

    def __init__(self, disk: Disk, crash: Callable[[], None]) -> None:
        self.disk = disk
        self._crash = crash

    @property
    def epoch(self) -> int:
        return self.disk.epoch

    def head(self) -> int:
        return len(self.disk.entries)

    def promise(self, epoch: int) -> None:
        self._crash()
        assert epoch > self.disk.epoch
        self.disk.epoch = epoch
        self._crash()

    def trim(self, head: int) -> None:
        self._crash()
        del self.disk.entries[head:]
        self._crash()

    def append_at(self, position: int, parts: tuple[bytes, ...], epoch: int) -> None:
        self._crash()
        assert position == len(self.disk.entries)
        assert epoch == self.disk.epoch
        self.disk.entries.append(b"".join(parts))
        self._crash()

    def digest(self, position: int) -> int:
        return hash(self.disk.entries[position])


def row_of(entry: bytes) -> int:
    return int(entry.split(b":")[1])


class World:
    """See the module."""

    def __init__(self, seed: int) -> None:
        self.rng = random.Random(seed)
        self.disks = {name: Disk(name, name + "0") for name in "abc"}
        self.copies = Copies(primary="a", standby="b", copy="b0")
        self.epochs = 0
        self.clock = 0
        self.net: list[tuple[str, str, int, Callable[[], None]]] = []
        self.cut_off: set[str] = set()
        self.primaries: dict[str, tuple[DiskLog, Shipper, dict[int, int], str]] = {}
        self.standbys: dict[str, StandbyCopy] = {}
        self.rows = 0
        self.acknowledged: dict[int, int] = {}
        self.acknowledging: dict[int, str] = {}
        self.calm = False
        self.promotions = self.alone = self.together = self.disks_lost = 0
        self.wanted: set[int] = set()
        self.told: list[bytes] = []

    # -- faults -----------------------------------------------------------------------------------

    def crash(self) -> None:
        if not self.calm and self.rng.random() < 0.004:
            raise CrashedHere

    def send(self, source: str, to: str, act: Callable[[], None]) -> None:
        """``act`` runs when the message arrives, if it does; some take long, some come twice."""
        for _ in range(1 if self.calm else self.rng.choice([0, *[1] * 16, 2, 2])):
            is_late = not self.calm and self.rng.random() < 0.15
            due = self.clock + (self.rng.randrange(300) if is_late else self.rng.randrange(4))
            self.net.append((source, to, due, act))

    def arrive(self) -> None:
        due = [at for at, message in enumerate(self.net) if self.calm or message[2] <= self.clock]
        if not due:
            return
        source, to, _, act = self.net.pop(self.rng.choice(due))
        if {source, to} & self.cut_off:
            return
        try:
            act()
        except CrashedHere:
            self.stop(to)

    def stop(self, name: str) -> None:
        self.primaries.pop(name, None)
        self.standbys.pop(name, None)

    # -- the catalogue ----------------------------------------------------------------------------

    def note(self, step: Callable[[Copies], Copies]) -> Copies:
        """One durable change of the catalogue, which may crash after it."""
        self.copies = step(self.copies)
        return self.copies

    def next_epoch(self) -> int:
        self.epochs += 1
        return self.epochs

    # -- processes --------------------------------------------------------------------------------

    def start(self, name: str) -> None:
        """The process of a disk: a primary if the catalogue says so, else a standby."""
        disk, copies = self.disks[name], self.copies
        self.stop(name)
        log = DiskLog(disk, self.crash)
        try:
            if copies.primary == name and not disk.is_lost:
                epoch = self.next_epoch()
                try:
                    self.note(lambda c: replication.opened(c, name, epoch))
                except Refused:
                    return
                log.promise(epoch)
                self.check_rows(disk, epoch)
                shipper = Shipper(
                    epoch, copies.copy, log.head(), log.digest, in_sync=copies.in_sync
                )
                self.primaries[name] = log, shipper, {}, copies.standby
                self.tell(name)
            elif copies.standby == name:
                if disk.copy != copies.copy:
                    # Files that are not those of this standby: the catalogue gives them an id.
                    copy = f"{name}{self.next_epoch()}"
                    try:
                        self.note(lambda c: replication.placed(c, name, copy))
                    except Refused:
                        return
                    self.crash()
                    if self.copies.is_anew:
                        disk.entries, disk.epoch = [], 0
                    self.crash()
                    disk.copy, disk.is_lost = copy, False
                self.crash()
                self.note(lambda c: replication.begun(c, disk.copy))
                self.standbys[name] = StandbyCopy(log, disk.copy, self.next_epoch())  # type: ignore[arg-type]
        except CrashedHere:
            self.stop(name)

    def check_rows(self, disk: Disk, epoch: int) -> None:
        rows = [row_of(entry) for entry in disk.entries]
        assert len(rows) == len(set(rows)), f"epoch {epoch}: rows twice"
        missing = self.acknowledged.keys() - set(rows)
        assert not missing, f"epoch {epoch} on {disk.name}: acknowledged and gone: {missing}"
        known = disk.entries[: len(self.told)]
        assert known == self.told, f"epoch {epoch} on {disk.name}: told, and something else by now"

    # -- the primary ------------------------------------------------------------------------------

    def submit(self, name: str) -> None:
        """A driver offers a new row, or one again that was not acknowledged."""
        log, shipper, offered, _ = self.primaries[name]
        open_rows = sorted(self.wanted - self.acknowledged.keys())
        if open_rows and self.rng.random() < 0.4:
            row = self.rng.choice(open_rows)
        else:
            row, self.rows = self.rows, self.rows + 1
            self.wanted.add(row)
        known = [at for at, entry in enumerate(log.disk.entries) if row_of(entry) == row]
        try:
            if not known and shipper.reached == log.head() and not shipper.fenced:
                known = [log.head()]
                if shipper.epoch != log.epoch:
                    return self.stop(name)
                entry = b"%d:%d" % (shipper.epoch, row)
                log.append_at(known[0], (entry,), shipper.epoch)
                shipper.written(log.head())
        except CrashedHere:
            return self.stop(name)
        if known:
            offered[row] = known[0]
        self.answer(name)

    def answer(self, name: str) -> None:
        """Acknowledge what may be."""
        _, shipper, offered, _ = self.primaries[name]
        for row, at in list(offered.items()):
            if at < shipper.reached:
                del offered[row]
                self.acknowledged.setdefault(row, shipper.epoch)
                who = self.acknowledging.setdefault(shipper.epoch, name)
                assert who == name, f"epoch {shipper.epoch}: {who} and {name} acknowledge"
        self.tell(name)

    def tell(self, name: str) -> None:
        """Others take the entries of this log that they may be told of, as soon as that is so; they
        go by numbers, and take another one with the same number for the same."""
        log, shipper, _, _ = self.primaries[name]
        self.told += log.disk.entries[len(self.told) : shipper.reached]

    def ship(self, name: str) -> None:
        log, shipper, _, to = self.primaries[name]
        message = shipper.message(lambda at: log.disk.entries[at : at + 3])
        if message is not None and to:
            self.send(name, to, lambda: self.take(name, shipper, to, message))

    def take(self, name: str, shipper: Shipper, to: str, message: Shipment) -> None:
        standby = self.standbys.get(to)
        if standby is not None:
            if standby.copy != message.copy and standby.copy != self.copies.copy:
                self.start(to)  # it asks the catalogue which copy it is
                return
            answer = standby.take(message)
            self.send(to, name, lambda: self.hear(name, shipper, message, answer))

    def hear(self, name: str, shipper: Shipper, message: Shipment, answer: Arrival) -> None:
        if self.primaries.get(name, (None, None))[1] is shipper:
            shipper.heard(message, answer)
            self.settle(name)

    def settle(self, name: str) -> None:
        shipper = self.primaries[name][1]
        if shipper.fenced:
            self.stop(name)
            return
        self.answer(name)
        self.together += shipper.is_complete
        self.alone += not shipper.needs

    def ask(self, name: str) -> None:
        shipper = self.primaries[name][1]
        request = shipper.request()
        if request is not None:
            self.send(name, "coordinator", lambda: self.decide(name, shipper, request))

    def decide(self, name: str, shipper: Shipper, request: Request) -> None:
        try:
            self.note(lambda c: replication.asked(c, request))
            answer: Callable[[], None] = lambda: shipper.noted(request)  # noqa: E731
        except Refused:
            copies = self.copies
            answer = lambda: shipper.refused(request, copies)  # noqa: E731

        def told() -> None:
            if self.primaries.get(name, (None, None))[1] is shipper:
                answer()
                self.settle(name)

        self.send("coordinator", name, told)

    # -- promotion --------------------------------------------------------------------------------

    def promote(self) -> None:
        epoch = self.next_epoch()
        try:
            copies = self.note(lambda c: replication.promised(c, epoch))
        except Refused:
            return
        to, promised = copies.standby, copies.promised

        def fence() -> None:
            standby = self.standbys.get(to)
            if standby is None or standby.copy != copies.copy:
                return
            if standby.fence(promised).epoch == promised:
                self.send(to, "coordinator", lambda: self.complete(promised))

        self.send("coordinator", to, fence)

    def complete(self, epoch: int) -> None:
        old = self.copies.primary
        copy = f"{old}{epoch}"
        try:
            self.note(lambda c: replication.promoted(c, epoch, copy))
        except Refused:
            return
        # The old one, if it lives, goes on as what it was until somebody tells it.
        self.promotions += 1

    def abandon(self) -> None:
        self.note(replication.abandoned)

    def lose_disk(self) -> None:
        """A disk is empty all at once, while another one has everything."""
        copies = self.copies
        if copies.in_sync and not copies.promised:
            name = self.rng.choice([copies.primary, copies.standby])
            other = copies.primary if name == copies.standby else copies.standby
            if not self.disks[other].is_lost and self.disks[other].copy in (
                copies.copy,
                other + "0",
            ):
                self.disks_lost += 1
                self.stop(name)
                self.disks[name] = Disk(name, "", is_lost=True)
                # A standby that was silent just before cannot be promoted, only by accepting a
                # loss that may be none: not what is shown here.
                self.net = [one for one in self.net if one[0] != name]

    def replace(self) -> None:
        """The log gets its standby elsewhere; who runs knows nothing of it."""
        free = sorted(self.disks.keys() - {self.copies.primary, self.copies.standby})
        try:
            name = self.rng.choice(free)
            self.note(lambda c: replication.placed(c, name, f"{name}{self.next_epoch()}"))
        except Refused:
            return

    # -- running ----------------------------------------------------------------------------------

    def step(self) -> None:
        self.clock += 1
        name = self.rng.choice(sorted(self.disks))
        (act,) = self.rng.choices(list(WEIGHTS), list(WEIGHTS.values()))
        if act in ("arrive", "promote", "abandon", "lose_disk", "replace"):
            getattr(self, act)()
        elif act == "cut":
            self.cut_off = {self.rng.choice([*self.disks, "coordinator"])}
        elif act == "heal":
            self.cut_off = set()
        elif act == "stop":
            self.stop(name)
        elif act == "start":
            is_primary = name == self.copies.primary
            if name not in self.primaries and (is_primary or name not in self.standbys):
                self.start(name)
        elif name in self.primaries:
            if act == "silent":
                self.primaries[name][1].silent()
            elif act != "submit" or name not in self.cut_off:
                getattr(self, act)(name)

    def rest(self) -> None:
        """No more faults: everything offered is acknowledged, and both copies are equal."""
        self.calm, self.cut_off = True, set()
        self.net = []
        for name in self.disks:
            self.stop(name)
        for _ in range(4_000):
            copies = self.copies
            for name in (copies.primary, copies.standby):
                role = self.primaries if name == copies.primary else self.standbys
                if name not in role:
                    self.start(name)
            if copies.promised and self.disks[copies.standby].copy != copies.copy:
                self.abandon()  # who is to be promoted has lost its disk
            elif copies.promised or self.disks[copies.primary].is_lost:
                self.promote()
            if copies.primary in self.primaries:
                if copies.standby not in self.standbys:
                    self.primaries[copies.primary][1].silent()
                self.ship(copies.primary)
                self.ask(copies.primary)
            while self.net:
                self.arrive()
            if copies.primary in self.primaries:
                shipper = self.primaries[copies.primary][1]
                if shipper.is_complete and self.copies.in_sync:
                    if self.wanted <= self.acknowledged.keys():
                        break
                    self.submit(copies.primary)
        copies = self.copies
        first, second = self.disks[copies.primary], self.disks[copies.standby]
        self.check_rows(first, copies.epoch)
        assert self.wanted == self.acknowledged.keys()
        assert first.entries == second.entries

    def run(self, steps: int = STEPS) -> None:
        for _ in range(steps):
            self.step()
        self.rest()


def test_what_was_acknowledged_stays() -> None:
    met = [0, 0, 0, 0]
    for seed in range(FIRST, FIRST + SEEDS):
        world = World(seed)
        try:
            world.run()
        except AssertionError as error:
            raise AssertionError(f"seed {seed}") from error
        met[0] += world.promotions
        met[1] += world.disks_lost
        met[2] += world.alone > 0
        met[3] += world.together > 0
    # Worlds in which nothing happens would show nothing.
    assert met[0] > SEEDS / 2, met
    assert met[1] > SEEDS / 8, met
    assert min(met[2], met[3]) > SEEDS / 2, met


def acknowledge_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Shipper, "reached", property(lambda self: self.here))


def tell_what_is_here(monkeypatch: pytest.MonkeyPatch) -> None:
    def tell(self: World, name: str) -> None:
        log = self.primaries[name][0]
        self.told += log.disk.entries[len(self.told) :]

    monkeypatch.setattr(World, "tell", tell)


def promote_whoever(monkeypatch: pytest.MonkeyPatch) -> None:
    right = replication.promised
    monkeypatch.setattr(
        replication, "promised", lambda copies, epoch: right(copies, epoch, accept_loss=True)
    )


def trim_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(DiskLog, "trim", lambda self, head: None)


def leave_while_promised(monkeypatch: pytest.MonkeyPatch) -> None:
    right = replication.asked
    monkeypatch.setattr(
        replication,
        "asked",
        lambda copies, request: structs.replace(
            right(structs.replace(copies, promised=0), request), promised=copies.promised
        ),
    )


def believe_any_opening(monkeypatch: pytest.MonkeyPatch) -> None:
    right = StandbyCopy.take
    monkeypatch.setattr(
        StandbyCopy,
        "take",
        lambda self, s: right(self, structs.replace(s, opening=self._opening)),
    )


def ask_of_any_copy(monkeypatch: pytest.MonkeyPatch) -> None:
    right = replication.asked
    monkeypatch.setattr(
        replication,
        "asked",
        lambda copies, request: right(copies, structs.replace(request, copy=copies.copy)),
    )


# Each with a seed from which on it shows soon.
PLANTED: dict[Callable[[pytest.MonkeyPatch], None], int] = {
    acknowledge_at_once: 0,
    tell_what_is_here: 0,
    promote_whoever: 0,
    trim_nothing: 3,
    leave_while_promised: 128,
    believe_any_opening: 700,
    ask_of_any_copy: 1,
}


@pytest.mark.parametrize("plant", PLANTED, ids=lambda plant: plant.__name__)
def test_a_planted_fault_is_found(
    plant: Callable[[pytest.MonkeyPatch], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    plant(monkeypatch)

    def run() -> None:
        for seed in range(PLANTED[plant], PLANTED[plant] + 40):
            World(seed).run()

    with pytest.raises(AssertionError):
        run()
