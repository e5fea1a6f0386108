"""A real store is backed up while rows come in; what is restored answers, and goes on."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

import profile_actors as pf
from profile_actors.cli import application, keeping_verbs
from tests.cluster.shop import START
from tests.cluster.test_people import definitions, hit
from tests.waiting import until

pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("ray_runtime")]

TEXT = Path(__file__).resolve().parents[2].joinpath("docs", "BACKUP.md").read_text("utf-8")
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


def test_the_document_runs_beside_rows_and_what_is_restored_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """docs/BACKUP.md as printed."""
    monkeypatch.chdir(tmp_path)
    (program,) = re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL)
    words, scrub = re.findall(r"```console\n(.*?)```", TEXT, re.DOTALL)
    is_enough = threading.Event()
    with pf.start("data", partitions=2, clock="event") as store:
        store.apply(*definitions())
        send(store, lambda at: at >= 400)
        sender = threading.Thread(target=send, args=(store, lambda _: is_enough.is_set()))
        sender.start()
        names: dict[str, Any] = {"store": store}
        try:
            exec(program, names)
            sent = store.cursor(PRODUCER)
            until(lambda: store.cursor(PRODUCER) > sent, "rows go on")
        finally:
            is_enough.set()
            sender.join()
        end, made = store.cursor(PRODUCER), names["made"]
        assert store.comes_to_rest()
        store.advance_to(START + 86_400_000)
        at_rest, cursor = answers(store), store.changes().cursor

    with pf.start("restored") as store:
        assert 400 <= store.cursor(PRODUCER) < end
        with pytest.raises(pf.CursorExpired):
            list(store.changes(cursor))
        send(store, lambda at: at >= end)
        assert store.comes_to_rest()
        store.advance_to(START + 86_400_000)
        assert answers(store) == at_rest
        assert store.verify() == []
        with monkeypatch.context() as patch:
            patch.setattr(keeping_verbs, "open_store", lambda _: nullcontext(store))
            read = run(*scrub.splitlines()[0].removeprefix("$ profile-actors ").split())
        assert [one["name"] for one in read] == ["partition 0", "partition 1", "ledger"]
        assert all(one["read"] and not one["faults"] for one in read)
        with pytest.raises(pf.CallerError, match=made.store):
            store.backup("backups")
        with pytest.raises(pf.CallerError, match="apart from the store"):
            store.backup("restored/backups")

    said = [run(*line.removeprefix("$ profile-actors ").split()) for line in words.splitlines()]
    backed, listed, verified, restored, pruned = said
    assert [one["id"] for one in listed] == [made.id, names["again"].id, backed["id"]]
    assert verified == {one["id"]: [] for one in listed}
    assert restored["positions"] == backed["positions"]
    assert (pruned["backups"], pruned["kept"]) == ([made.id, names["again"].id], [backed["id"]])
