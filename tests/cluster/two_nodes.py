"""What ``test_placement`` runs in processes of their own: a store on the disks of two nodes."""

from __future__ import annotations

import json
import sys
import threading
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import ray
from msgspec import structs
from ray.cluster_utils import Cluster

import profile_actors as pf
from profile_actors.actors.replicas.disk_labels import DATA, LABEL, labelled_nodes
from profile_actors.storage.replicas.standby_files import named_disk
from tests.cluster.shop import order, shop
from tests.waiting import PATIENCE_S, until

HEALTH = {
    "health_check_initial_delay_ms": 1_000, "health_check_period_ms": 1_000,
    "health_check_timeout_ms": 2_000, "health_check_failure_threshold": 3,
}  # fmt: skip


QUICK = pf.Config(failover_after_ms=3_000, lease_ms=2_000, standby_timeout_ms=2_000)


def disk_of(directory: Path) -> str:
    return named_disk(directory, uuid.uuid4().hex)


def node_of(directory: Path, disk: str = "") -> dict[str, Any]:
    """How a node is started; each has a directory of its own."""
    labels = {LABEL: disk or disk_of(directory)}
    return {"num_cpus": 1, "labels": labels, "env_vars": {DATA: str(directory)}}


class Driver:
    """Submits all the time; what was acknowledged counts. longest: the longest submission."""

    def __init__(self, store: pf.Store) -> None:
        self.store = store
        self.told = 0
        self.errors: list[str] = []
        self.is_done = False
        self.thread = threading.Thread(target=self.run, daemon=True)
        self.thread.start()

    def run(self) -> None:
        while not self.is_done:
            rows = [order(n, n % 40) for n in range(self.told, self.told + 5)]
            try:
                self.store.submit("orders", rows)
            except Exception as error:
                self.errors.append(repr(error))
                return
            self.told += 5

    def wait(self, rows: int, seconds: float = 60.0) -> None:
        wanted, end = self.told + rows, time.monotonic() + seconds
        while self.told < wanted and not self.errors and time.monotonic() < end:
            time.sleep(0.02)


class Reader:
    """Looks profiles of the other partitions up all the time. longest_s: the longest look-up."""

    def __init__(self, store: pf.Store, names: list[str]) -> None:
        self.store, self.names = store, names
        self.longest_s, self.is_done = 0.0, False
        self.thread = threading.Thread(target=self.run, daemon=True)
        self.thread.start()

    def run(self) -> None:
        while not self.is_done:
            for name in self.names:
                began = time.monotonic()
                assert self.store.profile("CRMID", name) is not None
                self.longest_s = max(self.longest_s, time.monotonic() - began)
            time.sleep(0.02)


def lost_and_back(cluster: Any, second: Any, a: Path, b: Path, c: Path) -> dict[str, Any]:
    """One node is lost without grace under load, and its disk comes back in another place."""
    out: dict[str, Any] = {}
    with pf.start(a, partitions=4) as store:
        store.apply(*shop())
        out["logs"] = [
            sorted(path.parent.name for path in place.glob("partitions/*/log.json"))
            for place in (a, b)
        ]
        driver = Driver(store)
        driver.wait(100)
        place_of = {one.disk for one in store.status().partitions}
        out["disks"] = place_of == {disk_of(a), disk_of(b)}
        here = [f"c{n:04}" for n in range(40) if owner(store, f"c{n:04}") in (0, 2)]
        reader = Reader(store, here[:3])
        cluster.remove_node(second, allow_graceful=False)
        began = time.monotonic()
        while len(labelled_nodes()) > 1:
            time.sleep(0.05)
        out["noticed_s"] = round(time.monotonic() - began, 1)
        now = store.status()
        out["waiting"] = [i for i, one in enumerate(now.partitions) if one.partition is None]
        out["halted"] = now.halted.get(1, "")
        b.rename(c)
        second = cluster.add_node(**node_of(c))
        joined = time.monotonic()
        store.profile("CRMID", next(f"c{n:04}" for n in range(40) if f"c{n:04}" not in here))
        out["back_s"] = round(time.monotonic() - joined, 1)
        driver.wait(50)
        driver.is_done = reader.is_done = True
        driver.thread.join()
        out |= {"longest_read_s": round(reader.longest_s, 2), "errors": driver.errors}
        out |= {"told": driver.told, "events": store.status().events, "verify": store.verify()}
    return out


def owner(store: pf.Store, name: str) -> int:
    connection = store._connection
    return int(connection.owner("CRMID", name)[0])


def without_the_catalogue(cluster: Any, first: Any, a: Path, b: Path) -> dict[str, Any]:
    """The node with the catalogue is lost: what it is not needed for goes on."""
    out: dict[str, Any] = {}
    with pf.start(a, partitions=4, config=pf.Config(call_timeout_s=6.0)) as store:
        store.apply(*shop())
        there = [n for n in range(40) if owner(store, f"c{n:04}") in (1, 3)]
        assert store.status().partitions[1].disk == disk_of(b)
        accepted = store.submit("orders", [order(n, who) for n, who in enumerate(there)]).accepted
        cluster.remove_node(first, allow_graceful=False)
        while len(labelled_nodes()) > 1:
            time.sleep(0.05)
        longest_s = 0.0
        for n, who in enumerate(there):
            began = time.monotonic()
            accepted += store.submit("orders", [order(1_000 + n, who)]).accepted
            found = store.profile("CRMID", f"c{who:04}")
            assert found is not None
            longest_s = max(longest_s, time.monotonic() - began)
        out["longest_s"] = round(longest_s, 2)
        out["waits"] = [
            kind_of(lambda: store.submit("orders", [order(2_000, there[0]) | {"price": ""}])),
            kind_of(lambda: store.apply(pf.Namespace("Email", kind="email"))),
        ]
        cluster.add_node(**node_of(a))
        end = time.monotonic() + 120
        while kind_of(lambda: store.apply(pf.Namespace("Email", kind="email"))):
            assert time.monotonic() < end
        accepted += store.submit("orders", [order(3_000 + n, n) for n in range(40)]).accepted
        out |= {"accepted": accepted, "events": store.status().events, "verify": store.verify()}
    return out


def kind_of(call: Callable[[], object]) -> str:
    """The error that a call raises, "" for none."""
    try:
        call()
    except pf.ProfileActorsError as error:
        return type(error).__name__
    return ""


def refused(cluster: Any, a: Path, node: dict[str, Any]) -> str:
    """What a start says while another node is there."""
    added = cluster.add_node(**node)
    try:
        pf.start(a).close()
    except pf.ProfileActorsError as error:
        return f"{type(error).__name__}: {error}"
    finally:
        cluster.remove_node(added)
        time.sleep(0.2)
    return ""


def kept_twice(cluster: Any, second: Any, a: Path, b: Path) -> dict[str, Any]:
    """One node is lost without grace under load: the other one's copies go on, it comes back to
    have their standbys, and is given its part of the work again."""
    out: dict[str, Any] = {}
    with pf.start(a, partitions=2, config=QUICK) as store:
        store.apply(*shop())
        driver = Driver(store)
        store.set_replicas(1)
        out["first"] = [one.disks for one in store.wait_for_replicas(PATIENCE_S)]
        driver.wait(50)
        cluster.remove_node(second, allow_graceful=False)
        began = time.monotonic()
        until(lambda: store.replicas()[1].disks[0] == disk_of(a))
        driver.wait(50)
        out["promoted_s"] = round(time.monotonic() - began, 1)
        cluster.add_node(**node_of(b))
        out["back"] = [one.disks for one in store.wait_for_replicas(PATIENCE_S)]
        out["plan"] = store.plan_of_disks()
        for partition, _, disk in out["plan"]:
            store.change_disk(partition, disk)
        out["moved"] = [one.disks for one in store.wait_for_replicas(PATIENCE_S)]
        driver.wait(50)
        driver.is_done = True
        driver.thread.join()
        out |= {"errors": driver.errors, "told": driver.told, "events": store.status().events}
        out |= {"verify": store.verify(), "disks": [disk_of(a), disk_of(b)]}
        out["files"] = [files_of(place) for place in (a, b)]
    return out


def files_of(place: Path) -> list[str]:
    """Which logs a disk has, in force or as standbys."""
    return sorted(
        f"{path.parent.parent.name}/{path.parent.name}" for path in place.glob("[ps]*/*/log")
    )


def taken_over(cluster: Any, a: Path, b: Path, c: Path) -> dict[str, Any]:
    """Three nodes: one is lost for good under load, and the third one's disk takes its place. A
    fourth comes with the lost one's disk, and is rid of what it has."""
    out: dict[str, Any] = {}
    nodes = [cluster.add_node(**node_of(place)) for place in (b, c)]
    config = structs.replace(QUICK, replace_standby_after_ms=4_000)
    with pf.start(a, partitions=3, config=config) as store:
        store.apply(*shop())
        driver = Driver(store)
        store.set_replicas(1)
        store.wait_for_replicas(PATIENCE_S)
        driver.wait(50)
        names = {disk_of(place): name for place, name in zip((a, b, c), "abc", strict=True)}

        def places() -> list[str]:
            return ["".join(names[one] for one in each.disks) for each in store.replicas()]

        out["first"] = places()
        cluster.remove_node(nodes[0], allow_graceful=False)
        until(lambda: not any("b" in place for place in places()))
        out["then"] = [one.state for one in store.wait_for_replicas(PATIENCE_S)]
        out["places"] = sorted("".join(sorted(place)) for place in places())
        driver.wait(50)
        left = files_of(b)
        cluster.add_node(**node_of(b))
        until(lambda: left and not files_of(b))
        driver.wait(50)
        driver.is_done = True
        driver.thread.join()
        out |= {"errors": driver.errors, "told": driver.told, "events": store.status().events}
        out["verify"] = store.verify()
        out["home"] = [(place / "home" / "catalogue").is_dir() for place in (b, c)]
    return out


def third_disk(folder: Path) -> None:
    in_cluster(folder, lambda cluster, a: taken_over(cluster, a, folder / "b", folder / "c"))


def two_copies(folder: Path) -> None:
    """Two nodes with a disk each, and both have every log."""

    def drill(cluster: Any, a: Path) -> dict[str, Any]:
        b = folder / "b"
        return kept_twice(cluster, cluster.add_node(**node_of(b)), a, b)

    in_cluster(folder, drill)


def in_cluster(folder: Path, drill: Callable[[Any, Path], dict[str, Any]]) -> None:
    """Say what a drill found, whose store is started at the head's directory."""
    a = folder / "a"
    head = node_of(a) | {"_system_config": HEALTH, "include_dashboard": False}
    cluster: Any = Cluster(initialize_head=True, head_node_args=head)
    try:
        ray.init(address=cluster.address, log_to_driver=False)
        out = drill(cluster, a)
    finally:
        cast(Any, ray).shutdown()
        cluster.shutdown()
    print(json.dumps(out))


def three(folder: Path) -> None:
    """The head has no disk, so that the node with the catalogue may be lost."""
    a, b = folder / "a", folder / "b"
    head = {"num_cpus": 0, "_system_config": HEALTH, "include_dashboard": False}
    cluster: Any = Cluster(initialize_head=True, head_node_args=head)
    try:
        first = cluster.add_node(**node_of(a))
        cluster.add_node(**node_of(b))
        ray.init(address=cluster.address, log_to_driver=False)
        out = without_the_catalogue(cluster, first, a, b)
    finally:
        cast(Any, ray).shutdown()
        cluster.shutdown()
    print(json.dumps(out))  # nodes that end may say something, too


def main(folder: Path) -> None:
    a, b, c, d = (folder / name for name in "abcd")
    head = node_of(a) | {"_system_config": HEALTH, "include_dashboard": False}
    cluster: Any = Cluster(initialize_head=True, head_node_args=head)
    try:
        second = cluster.add_node(**node_of(b))
        ray.init(address=cluster.address, log_to_driver=False)
        out = lost_and_back(cluster, second, a, b, c)
        out["twice"] = refused(cluster, a, node_of(c))
        d.mkdir()
        (d / "disk.json").write_text(json.dumps({"disk": "dd", "store": "another"}))
        out["another"] = refused(cluster, a, node_of(d))
    finally:
        cast(Any, ray).shutdown()
        cluster.shutdown()
    print(json.dumps(out))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
