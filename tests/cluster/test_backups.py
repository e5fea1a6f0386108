"""A real store is backed up while rows come in; what is restored answers, and goes on."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

import profile_actors as pf
from profile_actors.cli import application
from tests.cluster.shop import START
from tests.cluster.test_people import definitions, hit, until

pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("ray_runtime")]

PEOPLE = 40
PRODUCER = "orders-of-the-shop"


def rows(first: int, end: int) -> list[dict[str, Any]]:
    """Each person on two devices, which her rows name in turn."""
    out = []
    for n in range(first, end):
        who = n % PEOPLE
        out.append(hit(n, START + n, customer=f"c{who}", device=f"d{who}-{n // PEOPLE % 2}"))
    return out


def answers(store: pf.Store) -> Any:
    people = [("CRMID", f"c{n}") for n in range(PEOPLE)]
    return (
        [(p.identities, p.computed, p.segments) if p else None for p in store.profiles(people)],
        sorted(store.members("twice")),
        [store.events(*one).events for one in people[:5]],
    )


def run(*words: object) -> Any:
    done = CliRunner().invoke(application.app, [*map(str, words), "--json"])
    assert done.exit_code == 0, (done.output, done.exception)
    return json.loads(done.output)


def send(store: pf.Store, is_done: Callable[[int], bool]) -> None:
    """Rows from where the store is, as a driver does that was restarted."""
    while not is_done(at := store.cursor(PRODUCER)):
        store.submit("hits", rows(at, at + 100), producer=PRODUCER, offset=at)


def test_a_store_is_backed_up_beside_its_rows_and_restored(tmp_path: Path) -> None:
    place, is_enough = tmp_path / "backups", threading.Event()
    with pf.start(tmp_path / "store", partitions=2, clock="event") as store:
        store.apply(*definitions())
        send(store, lambda at: at >= 400)
        sender = threading.Thread(target=send, args=(store, lambda _: is_enough.is_set()))
        sender.start()
        made = [store.backup(place) for _ in range(2)]
        sent = store.cursor(PRODUCER)
        until(lambda: store.cursor(PRODUCER) > sent, "rows go on")
        is_enough.set()
        sender.join()
        end = store.cursor(PRODUCER)
        assert store.comes_to_rest()
        store.advance_to(START + 86_400_000)
        at_rest, cursor = answers(store), store.changes().cursor
    listed = run("backup", "list", place)
    assert [one["id"] for one in listed] == [one.id for one in made]
    assert set(made[0].positions) == {"0", "1", "L"}
    assert listed[1]["new_bytes"] < listed[1]["bytes"]
    assert not any(run("backup", "verify", place).values())

    told = run("restore", place, tmp_path / "again", "--at", made[0].id)
    with pf.start(tmp_path / "again") as store:
        assert told["store"] != made[0].store
        assert 400 <= store.cursor(PRODUCER) < end
        with pytest.raises(pf.CursorExpired):
            list(store.changes(cursor))
        send(store, lambda at: at >= end)
        assert store.comes_to_rest()
        store.advance_to(START + 86_400_000)
        assert answers(store) == at_rest
        assert store.verify() == []
        with pytest.raises(pf.CallerError, match=made[0].store):
            store.backup(place)

    assert run("backup", "prune", place, "--keep", 1)["backups"] == [made[0].id]
    assert not any(run("backup", "verify", place).values())
