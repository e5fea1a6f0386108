"""Logs on two disks, with real processes: silence, promotion, a lost disk, an erasure."""

from __future__ import annotations

import glob
import os
import random
import re
import resource
import shutil
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import nullcontext, suppress
from pathlib import Path
from typing import Any

import pytest
import ray
from typer.testing import CliRunner

import profile_actors as pf
from profile_actors.cli import application, copy_verbs, keeping_verbs
from profile_actors.cli.follower_lines import follower_lines
from profile_actors.cli.metrics_text import metrics_text
from profile_actors.driver.keeping.standby_processes import end_standby
from tests.cluster.keeping import contents
from tests.cluster.shop import START, order, shop
from tests.waiting import PATIENCE_S, until

pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("ray_runtime")]

DOCUMENT = (Path(__file__).resolve().parents[2] / "docs" / "REPLICAS.md").read_text("utf-8")
CONFIG = pf.Config(
    failover_after_ms=5_000, lease_ms=3_000, standby_timeout_ms=2_000,
    replace_standby_after_ms=6_000,
)  # fmt: skip
"""A machine that is busy, or a slow disk, keeps processes silent for a second or two."""


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("replicas")


@pytest.fixture(scope="module")
def store(place: Path) -> Iterator[pf.Store]:
    with pf.start(place / "a", partitions=2, clock="event", config=CONFIG) as made:
        made.apply(*shop())
        yield made


VISITS: list[pf.Definition] = [
    pf.Namespace("ECID", kind="cookie", priority=2),
    pf.Schema("visit", behavior="event", fields={"page": "string"}),
    pf.Dataset(
        "visits", "visit", {"customer": "CRMID", "device": "ECID"}, timestamp="at", id="_id"
    ),
]
"""Whose rows link a device with a customer."""


def visits(store: pf.Store, numbers: range) -> None:
    """Link each device with the customer of its number."""
    store.submit("visits", [
        {"_id": f"v{n}", "at": START, "page": "home", "customer": f"k{n}", "device": f"d{n}"}
        for n in numbers
    ])  # fmt: skip


def links(store: pf.Store) -> list[int]:
    """The numbers of the devices that are linked with their customers, and with nobody else."""
    assert store.comes_to_rest()
    graphs = {n: store.identity_graph("ECID", f"d{n}") for n in range(40)}
    found = {n: [one.value for one in graph.members] for n, graph in graphs.items()}
    return [n for n, people in found.items() if people == [f"k{n}", f"d{n}"]]


class Rows:
    """A driver that submits all the time; what was acknowledged counts."""

    def __init__(self, store: pf.Store, first: int) -> None:
        self.store = store
        self.first = self.next = first
        self.is_done = False
        self.errors: list[Exception] = []
        self.thread = threading.Thread(target=self._run)
        self.thread.start()

    def _run(self) -> None:
        while not self.is_done:
            rows = [order(n, n % 20) for n in range(self.next, self.next + 5)]
            try:
                self.store.submit("orders", rows)
            except pf.StoreUnavailable:
                continue  # the same rows again: those that are there count once
            except Exception as error:
                self.errors.append(error)
                return
            self.next += 5

    def stop(self) -> int:
        """How many rows were acknowledged, all that were offered."""
        self.is_done = True
        self.thread.join()
        assert self.errors == []
        return self.next - self.first


def promoted(store: pf.Store) -> pf.Replica:
    """Partition 0 after its standby was put in force, as soon as that may be: a standby that was
    silent for a moment comes back by itself."""

    def tried() -> pf.Replica | None:
        store.wait_for_replicas(PATIENCE_S)
        with suppress(pf.ConfigError):
            return store.promote(0)
        return None

    found = until(tried)
    assert found is not None
    return found


def pid_of(store: pf.Store, partition: int) -> int:
    """Its process, as soon as it answers: 0, for one that does not, is to ``os.kill`` the group of
    this process."""
    return until(lambda: store.status().partitions[partition].pid)


def events(store: pf.Store) -> int:
    """Every event that pages tell, each counted once."""
    ids = set[str]()
    for customer in range(20):

        def page_of(who: str = f"c{customer:04}") -> pf.EventPage | None:
            with suppress(pf.StoreUnavailable):  # whose lease ran out, for a moment
                return store.events("CRMID", who, limit=10_000)
            return None

        page = until(page_of)
        assert page is not None
        told = [event["_id"] for event in page.events]
        assert len(told) == len(set(told))
        ids.update(told)
    return len(ids)


def test_replicas_need_a_second_disk_of_this_store(store: pf.Store, place: Path) -> None:
    with pytest.raises(pf.ConfigError, match="second disk"):
        store.set_replicas(1)
    with pytest.raises(pf.CallerError, match="0 or 1"):
        store.set_replicas(2)
    (place / "foreign").mkdir()
    (place / "foreign" / "disk.json").write_text('{"disk": "d", "store": "another"}')
    with pytest.raises(pf.ConfigError, match="another"):
        store.add_disk(place / "foreign")
    assert [one.state for one in store.replicas()] == ["none", "none"]
    assert "standby" not in metrics_text(store.status())


def test_a_standby_that_ends_and_one_that_is_promoted_lose_nothing(
    store: pf.Store, place: Path
) -> None:
    store.submit("orders", [order(n, n % 20) for n in range(200)])
    assert store.add_disk(place / "b") == store.add_disk(place / "b")
    rows = Rows(store, 200)
    store.set_replicas(1)
    replicas = store.wait_for_replicas(PATIENCE_S)
    assert [(one.primary, one.standby) for one in replicas] == [
        (str(place / "a"), str(place / "b"))
    ] * 2
    assert replicas[0].state == "in sync"
    told = 'profile_actors_standby_in_sync{partition="1"} 1.0'
    until(lambda: told in metrics_text(store.status()))
    told = "standby of partition 0: in sync"
    until(lambda: told in "".join(map(str, follower_lines(store.status()))))
    found = promoted(store)
    assert (found.primary, found.standby) == (str(place / "b"), str(place / "a"))
    assert found.lost is None
    store.wait_for_replicas(PATIENCE_S)
    acknowledged = rows.stop()
    assert acknowledged > 0
    assert events(store) == 200 + acknowledged
    assert store.verify() == []
    assert (place / "b" / "partitions" / "0").is_dir()
    assert not (place / "a" / "partitions" / "0").exists()


def test_damage_on_either_disk_is_mended_from_the_other(store: pf.Store, place: Path) -> None:
    """An entry changes on the disk of the partition, another one on that of its standby."""
    for first in (600_000, 610_000):
        store.submit("orders", [order(n, n % 20) for n in range(first, first + 200)])
    store.wait_for_replicas(PATIENCE_S)
    before = events(store)
    damage(place, "partitions", 600_000)
    damage(place, "standbys", 610_000)
    found = {one.name: one for one in store.scrub()}
    assert sorted(found) == [
        "partition 0", "partition 1", "standby of partition 0", "standby of partition 1"
    ]  # fmt: skip
    assert [one.faults for one in found.values()] == [[], [], [], []]
    assert found["partition 1"].mended == found["standby of partition 1"].mended == 1
    assert events(store) == before
    assert store.verify() == []
    until(lambda: store.status().partitions[1].scrub.mended == 1)
    assert 'scrub_damaged{partition="1"} 0.0' in metrics_text(store.status())
    assert [one.mended for one in store.scrub()] == [0, 0, 0, 0]


def test_every_copy_of_a_log_is_compacted_by_hand(
    store: pf.Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By its own process; what no checkpoint covers stays as it is."""
    names = ["partition 0", "partition 1", "standby of partition 0", "standby of partition 1"]
    found = store.compact()
    assert [(one.name, one.error) for one in found] == [(name, "") for name in names]
    monkeypatch.setattr(keeping_verbs, "open_store", lambda _: nullcontext(store))
    told = CliRunner().invoke(application.app, ["compact"])
    assert told.exit_code == 0, told.output
    assert [line.split(":")[0] for line in told.output.splitlines()] == names
    assert 'compaction_waiting_entries{partition="1"} ' in metrics_text(store.status())
    assert store.verify() == []


def damage(place: Path, role: str, first: int) -> None:
    """Change a byte of a batch in the log of partition 1 that has this role."""
    for path in place.glob(f"*/{role}/1/log/*/data.mdb"):
        content = path.read_bytes()
        found = [content.find(str(order(n, 0)["_id"]).encode()) for n in range(first, first + 200)]
        at = min(one for one in found if one > 0)
        with open(path, "r+b") as file:
            file.seek(at)
            file.write(b"!")


def test_a_disk_that_is_lost_costs_time_alone(store: pf.Store, place: Path) -> None:
    """The process is killed and its directory deleted, and the standby's process is a new one: it
    is in force by itself, and what is left of the disk becomes the standby."""
    before = events(store)
    rows = Rows(store, 100_000)
    until(lambda: rows.next > rows.first)
    pid = pid_of(store, 1)
    shutil.rmtree(place / "a" / "partitions" / "1")
    os.kill(pid, signal.SIGKILL)
    kill(store, "standby-1")
    until(lambda: store.replicas()[1].primary == str(place / "b"))
    acknowledged = rows.stop()
    found = store.wait_for_replicas(PATIENCE_S)
    assert [one.state for one in found] == ["in sync", "in sync"]
    assert events(store) == before + acknowledged
    assert store.verify() == []


def test_a_promotion_whose_standby_is_gone_is_taken_back(store: pf.Store, place: Path) -> None:
    before = events(store)
    with pytest.raises(pf.ConfigError, match="under way"):
        store.abandon_promotion(0)
    primary = store.replicas()[0].primary
    end_standby(store._placement, 0)
    store._connection.coordinator.call("copies", "promise", 0, False, True)
    found = store.abandon_promotion(0)
    assert found.primary == primary
    store.submit("orders", [order(n, n % 20) for n in range(500_000, 500_010)])
    assert events(store) == before + 10


def test_a_store_whose_own_disk_is_lost_goes_on_from_the_other(tmp_path: Path) -> None:
    """Catalogue, quarantine and logs in force are gone, the ledger's too; what was acknowledged is
    there, once."""
    home, other = tmp_path / "a", tmp_path / "b"
    with pf.start(home, partitions=2, clock="event", config=CONFIG) as store:
        store.apply(*shop(), *VISITS)
        store.add_disk(other)
        visits(store, range(5))
        assert store.comes_to_rest()
        store.set_replicas(1)
        store.wait_for_replicas(PATIENCE_S)
        visits(store, range(5, 9))
        assert links(store) == [*range(9)]
        store.submit("orders", [order(n, n % 20) for n in range(100)])
        promoted(store)  # one log is in force on the disk that stays
        store.wait_for_replicas(PATIENCE_S)
        store.submit("orders", [order(n, n % 20) for n in range(100, 200)])
        before = [store.profile("CRMID", f"c{n:04}") for n in range(20)]
    with pytest.raises(pf.ConfigError, match="a store's own"):
        pf.recover(home)
    shutil.rmtree(home)
    told = CliRunner().invoke(application.app, ["recover", str(other)], catch_exceptions=False)
    assert "profile-actors start" in told.stdout
    with pf.start(other, config=CONFIG) as store:
        assert [store.profile("CRMID", f"c{n:04}") for n in range(20)] == before
        store.submit("orders", [order(n, n % 20) for n in range(150, 250)])
        assert events(store) == 250
        visits(store, range(9, 12))
        assert links(store) == [*range(12)]
        assert store.verify() == []
        assert [(one.primary, one.state) for one in store.replicas()] == [(str(other), "none")] * 3


@pytest.mark.slow
def test_whoever_is_erased_is_on_no_disk(store: pf.Store, place: Path) -> None:
    mark = "c0007"
    store.wait_for_replicas(PATIENCE_S)
    assert len(_with(place, mark)) > 1
    receipt = store.delete_profile("CRMID", mark)
    assert receipt.standbys == []
    found = store.wait_for_replicas(PATIENCE_S)
    assert [one.state for one in found] == ["in sync", "in sync"]
    assert _with(place, mark) == []
    assert store.profile("CRMID", mark) is None


def _with(place: Path, mark: str) -> list[Path]:
    return [path for path, content in contents(place) if mark.encode() in content]


@pytest.mark.slow
def test_a_partition_is_brought_to_another_disk_under_load(store: pf.Store, place: Path) -> None:
    """Without replicas: it has no standby before and after, and the old files are deleted."""
    store.set_replicas(0)
    assert [one.standby for one in store.replicas()] == ["", ""]
    before = events(store)
    rows = Rows(store, 900_000)
    assert [(one, to) for one, _, to in store.plan_of_disks()] == [(1, str(place / "a"))]
    with pytest.raises(pf.CallerError, match="a disk of the store"):
        store.change_disk(1, str(place / "nowhere"))
    found = store.change_disk(1, str(place / "a"))
    assert (found.primary, found.standby) == (str(place / "a"), "")
    assert store.change_disk(1, str(place / "a")) == found
    acknowledged = rows.stop()
    assert events(store) == before + acknowledged
    assert store.verify() == []
    assert store.plan_of_disks() == []
    assert not list(place.glob("*/standbys/1"))
    assert not (place / "b" / "partitions" / "1").exists()


@pytest.mark.slow
def test_a_loss_that_is_accepted_is_told_and_standbys_that_are_not_kept_are_deleted(
    store: pf.Store, place: Path
) -> None:
    store.wait_for_replicas(PATIENCE_S)
    before = events(store)
    store.set_replicas(1, "async")
    store.wait_for_replicas(PATIENCE_S)
    lost = store.promote(0, accept_loss=True).lost
    assert lost is not None
    assert (lost.entries, lost.rows, lost.is_whole) == (0, {}, True)
    assert [one.standby for one in store.set_replicas(0)] == ["", ""]
    assert not list(place.glob("*/standbys/*"))
    assert events(store) == before
    store.set_replicas(1)
    assert [one.state for one in store.wait_for_replicas(PATIENCE_S)] == ["in sync", "in sync"]


def test_a_standby_whose_disk_is_full_is_left_behind_and_comes_back_by_itself(
    store: pf.Store,
) -> None:
    """A limit on the size of its process's files stands for the disk: it stays up, says why, and
    begins anew once, when there is room."""
    store.wait_for_replicas(PATIENCE_S)
    before = events(store)
    account = store._account(0)
    assert account is not None
    disk = Path(store.replicas()[0].standby)
    size = max(path.stat().st_size for path in disk.glob("standbys/0/log/*/data.mdb"))
    resource.prlimit(account.pid, resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))
    sent = 0

    def is_full() -> bool:
        nonlocal sent
        numbers = range(900_000 + sent, 900_000 + sent + 500)
        store.submit("orders", [order(n, n % 20) for n in numbers])  # the primary goes on
        sent += 500
        found = store.replicas()[0]
        return found.state != "in sync" and "the disk is full" in found.reason

    until(is_full)
    store.submit("orders", [order(n, n % 20) for n in range(990_000, 990_500)])
    found = store._account(0)
    assert found is not None
    assert found.pid == account.pid
    assert store.replicas()[0].lag_entries > 0
    resource.prlimit(account.pid, resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY,) * 2)
    replicas = store.wait_for_replicas(PATIENCE_S)
    assert [(one.state, one.reason) for one in replicas] == [("in sync", "")] * 2
    assert events(store) == before + sent + 500
    assert store.verify() == []


def test_a_third_disk_takes_the_place_of_one_that_is_gone(store: pf.Store, place: Path) -> None:
    """A whole disk goes away under load: its logs in force fail over, its standbys are made on the
    third one. When it comes back, what it has is deleted, and it may be forgotten."""
    store.add_disk(place / "b")
    store.set_replicas(1)
    store.wait_for_replicas(PATIENCE_S)
    store.add_disk(place / "c")
    before = events(store)
    rows = Rows(store, 700_000)
    old = [n for n in range(2) if store.replicas()[n].primary == str(place / "b")]
    pids = [pid_of(store, index) for index in old]
    os.rename(place / "b", place / "away")
    for pid in pids:
        os.kill(pid, signal.SIGKILL)
    wanted = [(str(place / "a"), str(place / "c"), "in sync")] * 2
    until(lambda: [(one.primary, one.standby, one.state) for one in store.replicas()] == wanted)
    acknowledged = rows.stop()
    assert events(store) == before + acknowledged
    assert store.verify() == []
    assert list((place / "away").glob("[ps]*/*/log"))
    os.rename(place / "away", place / "b")
    until(lambda: not glob.glob(f"{place}/b/[ps]*/[0-9]*"))  # unlike Path's, over what vanishes
    with pytest.raises(pf.ConfigError, match=r"partition 0's standby .* replicas 0"):
        store.remove_disk(place / "c")
    store.remove_disk(place / "b")
    assert sorted(store.disks().values()) == [str(place / "a"), str(place / "c")]
    assert events(store) == before + acknowledged


def test_a_ledger_that_begins_later_has_a_standby_and_may_be_lost(
    store: pf.Store, place: Path
) -> None:
    """SIGKILL, and its directory deleted: the standby is in force by itself, with all links."""
    store.add_disk(place / "c")
    store.set_replicas(1)
    with pytest.raises(pf.CallerError, match="links nobody yet"):
        store.promote("ledger")
    store.apply(*VISITS)
    visits(store, range(10))
    until(lambda: store.replicas()[-1].partition == "ledger")
    found = store.wait_for_replicas(PATIENCE_S)[-1]
    assert (found.partition, found.state) == ("ledger", "in sync")
    visits(store, range(10, 20))
    assert links(store) == [*range(20)]
    told = 'profile_actors_standby_in_sync{partition="ledger"} 1.0'
    until(lambda: told in metrics_text(store.status()))
    assert "standby of the ledger: in sync" in "".join(map(str, follower_lines(store.status())))
    account = store.status().ledger
    assert account is not None
    shutil.rmtree(Path(found.primary) / "ledger")
    os.kill(account.pid, signal.SIGKILL)
    visits(store, range(20, 30))
    until(lambda: store.replicas()[-1].primary == found.standby)
    assert links(store) == [*range(30)]
    assert store.wait_for_replicas(PATIENCE_S)[-1].standby == found.primary
    assert (Path(found.standby) / "ledger" / "log.json").is_file()
    assert (Path(found.primary) / "standbys" / "ledger" / "log.json").is_file()
    assert store.verify() == []


@pytest.mark.slow
def test_the_ledger_is_promoted_moved_backed_up_and_erases_by_command(
    store: pf.Store, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def said(*words: str) -> str:
        told = CliRunner().invoke(application.app, words)
        assert told.exit_code == 0, told.output
        return told.output

    for verbs in (copy_verbs, keeping_verbs):
        monkeypatch.setattr(verbs, "open_store", lambda _: nullcontext(store))
    before = store.wait_for_replicas(PATIENCE_S)[-1]
    known = links(store)
    until(lambda: "in sync" in said("replicas"))
    with pytest.raises(pf.CallerError, match="or ledger"):
        copy_verbs.log_name("ledgers")
    said("promote", "ledger")
    now = store.wait_for_replicas(PATIENCE_S)[-1]
    assert (now.primary, now.standby) == (before.standby, before.primary)
    assert links(store) == known
    assert "ledger" in said("disks")
    assert {one.name for one in store.scrub()} >= {"ledger", "standby of the ledger"}
    assert store.backup(place / "kept").positions["L"] > 0
    pf.restore(place / "kept", place / "again")
    with pf.start(place / "again", config=CONFIG) as again:
        assert links(again) == known
        assert [one.state for one in again.replicas()] == ["none"] * 3
    shutil.rmtree(place / "kept")
    shutil.rmtree(place / "again")
    assert store.delete_profile("CRMID", "k3").standbys == []
    store.wait_for_replicas(PATIENCE_S)
    assert _with(place, '"d3"') == []
    assert links(store) == [n for n in known if n != 3]
    said("move", "ledger", before.primary)
    assert store.wait_for_replicas(PATIENCE_S)[-1].primary == before.primary
    visits(store, range(30, 35))
    assert links(store) == [*(n for n in known if n != 3), *range(30, 35)]
    assert [one.standby for one in store.set_replicas(0)] == ["", "", ""]
    assert not list(place.glob("*/standbys/ledger"))
    assert store.verify() == []


@pytest.mark.slow
def test_the_document_runs_as_printed(tmp_path: Path) -> None:
    (block,) = re.findall(r"^```python\n(.*?)^```$", DOCUMENT, re.DOTALL | re.MULTILINE)
    block = block.replace("data/shop", str(tmp_path / "shop"))
    exec(block.replace("/mnt/second/shop", str(tmp_path / "second")), {})


@pytest.mark.slow
@pytest.mark.parametrize("seed", [1, 2])
def test_whoever_dies_under_load_nothing_acknowledged_is_lost(tmp_path: Path, seed: int) -> None:
    """Partitions, standbys and the coordinator are killed at random moments, directories are lost
    while the other copy is in sync, and standbys are promoted, all beside a driver."""
    rng = random.Random(seed)
    with pf.start(tmp_path / "a", partitions=2, clock="event", config=CONFIG) as store:
        store.apply(*shop())
        store.add_disk(tmp_path / "b")
        store.set_replicas(1)
        store.wait_for_replicas(PATIENCE_S)
        rows = Rows(store, 0)
        for _ in range(12):
            time.sleep(rng.random() * 2)
            partition = rng.randrange(2)
            what = rng.choice(["partition", "standby", "coordinator", "promote", "disk", "both"])
            if what in ("partition", "both"):
                kill(store, f"partition-{partition}")
            if what in ("standby", "both"):
                kill(store, f"standby-{partition}")
            if what == "coordinator":
                kill(store, "coordinator")
            if what == "promote":
                with suppress(pf.ConfigError, pf.StoreUnavailable):  # it may be out of sync
                    store.promote(partition)
            if what == "disk":
                found = store.wait_for_replicas(PATIENCE_S)[partition]
                kill(store, f"partition-{partition}")
                shutil.rmtree(Path(found.primary) / "partitions" / str(partition))
        acknowledged = rows.stop()
        assert [one.state for one in store.wait_for_replicas(PATIENCE_S)] == ["in sync", "in sync"]
        assert events(store) == acknowledged
        assert store.verify() == []


def kill(store: pf.Store, name: str) -> None:
    """The actor's process, where it has one just now."""
    handle = ray.get_actor(name, namespace=store._placement.namespace)
    ask: Any = handle.pid if name == "coordinator" else handle.status
    with suppress(ray.exceptions.RayError, ProcessLookupError):
        told: Any = ray.get(ask.remote(), timeout=PATIENCE_S)
        os.kill(told if name == "coordinator" else told.pid, signal.SIGKILL)
