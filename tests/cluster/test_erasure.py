"""A person is erased from a real store: no file has a byte of hers, and the others stay."""

from __future__ import annotations

import os
import signal
import threading
import time
from pathlib import Path
from typing import Any

import pytest

import profile_actors as pf
from profile_actors.ingest.identity_keys import key_of
from tests.cluster.keeping import contents
from tests.cluster.shop import DAY, START
from tests.cluster.test_people import SPACES, definitions, hit
from tests.waiting import until

pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("ray_runtime")]

HERS = ["ann-the-customer", "ann-phone-1", "ann-tablet-2"]
MARKS = [*HERS, "her-favourite-page", "her-rejected-row"]
BEN = ("CRMID", "ben-the-customer")


def marks(seed: int) -> list[bytes]:
    """The texts, and the keys in both orders of bytes."""
    keys = [key_of(SPACES[n > 0], value, seed) for n, value in enumerate(HERS)]
    forms = [half.to_bytes(8, order) for key in keys for half in key for order in ("little", "big")]
    return [*(text.encode() for text in MARKS), *forms]


def found(path: Path, seed: int) -> list[tuple[str, bytes]]:
    mine = marks(seed)
    return [(str(file), mark) for file, data in contents(path) for mark in mine if mark in data]


def rows_of_her() -> list[dict[str, Any]]:
    page = {"page": "her-favourite-page"}
    return [
        hit(1, START, device=HERS[1]) | page,
        hit(2, START + 1, customer=HERS[0], device=HERS[1]) | page,
        hit(3, START + 2, customer=HERS[0], device=HERS[2]) | page,
        hit(4, START + 3, device=HERS[2]) | page,
    ]


def told(profile: Any) -> tuple[list[str], dict[str, Any]]:
    """Of a profile: its identities, its values."""
    return [one.value for one in profile.identities], dict(profile.computed)


def other(store: pf.Store) -> Any:
    return told(store.profile(*BEN)), store.events(*BEN).events, list(store.members("twice"))


def folded(changes: Any) -> set[str]:
    """Who is in the segment, by what is told of it."""
    inside: set[str] = set()
    for change in changes:
        if (change.kind, change.name) == ("membership", "twice"):
            who = change.identity.value
            (inside.add if change.new == "realized" else inside.discard)(who)
    return inside


def followed(store: Any) -> tuple[str, Any]:
    """A cursor at the present, and a reader that has come as far and follows."""
    past, follower = store.changes(), store.changes(follow=True)
    changes = list(past)
    assert folded(changes) == {one.value for one in store.members("twice")} >= {HERS[0]}
    for _ in changes:
        next(follower)
    return past.cursor, follower


def check_cursors(store: Any, cursor: str, follower: Any) -> None:
    """L14 over an erasure: nobody goes on who still has her for a member."""
    with pytest.raises(pf.CursorExpired, match="somebody was erased since"):
        list(store.changes(cursor))
    with pytest.raises(pf.CursorExpired, match="somebody was erased since") as caught:
        next(follower)
    anew = store.changes()
    assert folded(anew) == {one.value for one in store.members("twice")}
    assert list(store.changes(anew.cursor)) == []
    told = str(caught.value).split("'")[1]
    assert folded(store.changes(told)) <= folded(store.changes())


class Watch:
    """Asks for the status of a store from when an erasure has begun."""

    def __init__(self, store: Any) -> None:
        self._store, self._found = store, list[Any]()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._look)
        self._thread.start()

    def _look(self) -> None:
        coordinator = self._store._connection.coordinator
        while not self._stop.wait(0.01):
            if coordinator.call("erasures", "progress") is not None:
                self._found.append(coordinator.call("erasures", "progress"))
                self._store.status()  # it answers while partitions do not

    def check(self, identities: int) -> None:
        self._stop.set()
        self._thread.join()
        found = next(one for one in self._found if one is not None)
        assert (found.number, found.identities, found.holders) == (1, identities, 4)
        assert self._store.status().erasure is None


def test_an_erased_person_leaves_no_byte_in_any_file(tmp_path: Path) -> None:
    with pf.start(tmp_path / "store", partitions=3, clock="event") as store:
        store.apply(
            *definitions(),
            pf.EdgeDestination("shop"),
            pf.ProjectionConfiguration("all", "shop", "*", segments="all", computed="all"),
        )
        for row in rows_of_her():
            store.submit("hits", [row])
        store.submit("hits", [hit(9, START, device="a"), {"_id": "her-rejected-row", "at": "no",
                                                          "customer": HERS[0]}])  # fmt: skip
        for n in range(20, 24):
            # Once Ben had her tablet in his hands: evidence that is not followed.
            more = {"device": HERS[2]} if n == 20 else {}
            store.submit("hits", [hit(n, START - n, customer=BEN[1], **more)])
        store.advance_to(START + DAY)
        edge = store.edge("shop")
        until(lambda: edge.profile("CRMID", HERS[0]) is not None, "she is at the edge")
        before, seed = other(store), store._connection.seed
        cursors = followed(store)
        assert told(store.profile("ECID", HERS[2])) == (HERS, {"hits": 4})
        assert {mark for _, mark in found(tmp_path, seed)} == set(marks(seed))

        watch = Watch(store)
        receipt = store.delete_profile("ECID", HERS[1])
        watch.check(len(HERS))
        check_cursors(store, *cursors)
        assert receipt.identities[0].value == HERS[0]
        assert {one.value for one in receipt.identities} == set(HERS)
        assert receipt.rows >= 8
        assert receipt.rejected == 1
        assert receipt.files
        until(lambda: not found(tmp_path, seed), lambda: f"left: {found(tmp_path, seed)}")
        for one in receipt.identities:
            assert store.profile(one.namespace, one.value) is None
        assert edge.profile("CRMID", HERS[0]) is None
        profile, events, members = before
        left = [one for one in members if one.value not in HERS]
        assert other(store) == (profile, events, left)
        assert store.verify() == []

        again = store.delete_profile("ECID", HERS[1])
        assert (again.rows, again.rejected, again.files) == (0, 0, [])
        store.submit("hits", [hit(50, START + 5, device=HERS[1])])
        store.advance_to(START + 2 * DAY)
        assert told(store.profile("ECID", HERS[1])) == ([HERS[1]], {"hits": 1})
        assert found(tmp_path, seed)
    with pf.start(tmp_path / "store") as store:
        assert told(store.profile("ECID", HERS[1])) == ([HERS[1]], {"hits": 1})
        assert store.profile("CRMID", HERS[0]) is None


@pytest.mark.slow
def test_an_erasure_goes_on_while_everything_is_killed(tmp_path: Path) -> None:
    with pf.start(tmp_path / "store", partitions=2, clock="event") as store:
        store.apply(*definitions())
        for row in rows_of_her():
            store.submit("hits", [row])
        store.advance_to(START + DAY)
        seed, stop = store._connection.seed, threading.Event()

        def kill() -> None:
            """A process of the store now and then, the coordinator too."""
            for _ in range(4):
                if stop.wait(0.7):
                    return
                status = store.status()
                for pid in [one.pid for one in status.partitions if one.pid][:1]:
                    os.kill(pid, signal.SIGKILL)

        killer = threading.Thread(target=kill)
        killer.start()
        time.sleep(0.1)
        receipt = store.delete_profile("CRMID", HERS[0])
        stop.set()
        killer.join()
        assert receipt.rows >= 6
        until(lambda: not found(tmp_path, seed), lambda: f"left: {found(tmp_path, seed)}")
        assert store.verify() == []
