"""Edges on real actors: an edge comes to say what the hub says, whoever dies meanwhile (L7).

That pages and files do so at every step is in ``tests/property/test_copies_equal_hub.py``.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import re
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
import ray
from typer.testing import CliRunner

import profile_actors as pf
from profile_actors.cli import application, copy_verbs, people_verbs
from profile_actors.driver.keeping.edge_processes import named_edges
from profile_actors.engine.edges.edge_copy import ROOMS, EdgeRows
from profile_actors.storage.edge_files import EdgeIndex, Generation
from profile_actors.storage.environment import open_environment
from tests.cluster.shop import order, orders, shop
from tests.waiting import PATIENCE_S, in_time, until, wall_ms

pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("ray_runtime")]

NAME = "us west"
HOUR = 3_600_000


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory, ray_runtime: None) -> Iterator[pf.Store]:
    """One store on the wall clock with an edge, for this file."""
    config = pf.Config(edge_page_profiles=50, checkpoint_rows=500)
    with pf.start(tmp_path_factory.mktemp("e") / "e", 2, "wall", config) as store:
        store.apply(
            *shop(),
            pf.SegmentDefinition(
                "this hour", "xEvent[timestamp occurs <= 1 hour before now].count() > 0"
            ),
            pf.EdgeDestination(NAME),
            pf.ProjectionConfiguration("all", NAME, segments="all", computed="all"),
        )
        yield store
        assert store.verify() == []


def restarted(store: pf.Store, meanwhile: Callable[[], object] = lambda: None) -> None:
    """The edge's process is killed, and another one has begun."""
    pid = pid_of_edge(store)
    os.kill(pid, signal.SIGKILL)
    meanwhile()
    until(lambda: pid_of_edge(store) != pid)


def pid_of_edge(store: pf.Store) -> int:
    """Its process, as soon as there is one: 0, for one that does not answer, is to ``os.kill`` the
    group of this process."""
    return until(lambda: store.status().edges[NAME].pid)


def has_everybody(store: pf.Store) -> bool:
    """Whether the edge has as many profiles as the store. It may take its time to say so."""
    status = store.status()
    return status.edges[NAME].profiles == status.profiles


def test_an_edge_follows_and_flips_by_itself(store: pf.Store) -> None:
    edge = store.edge(NAME)
    store.submit("orders", [order(1, 2)])
    edge.wait()  # it has begun to follow, which takes its time on a busy machine
    names = iter(["c0001", "c0003", "c0004"])
    name = ""
    shown: list[Any] = []

    def look(leaves: int) -> None:
        nonlocal name
        name = next(names)
        store.submit("orders", [order(1, 1, at=leaves - HOUR - 1) | {"customer": name}])
        until(lambda: edge.profile("CRMID", name) is not None)
        shown[:] = [edge.profile("CRMID", name), store.profile("CRMID", name)]

    leaves = in_time(look)
    found, hub = shown
    assert found is not None
    assert hub is not None
    assert found.segments["this hour"].status == "realized"
    assert found.segments["this hour"] == hub.segments["this hour"]
    assert found.computed == hub.computed
    assert found.identities == [pf.Identity("CRMID", name)]
    assert not found.stale
    assert edge.profile("CRMID", "nobody") is None
    edge.wait()
    with pf.open_edge(edge.path) as beside:
        inside = beside.profile("CRMID", name)
        assert inside is not None
        assert inside.segments.keys() == found.segments.keys()
        until(lambda: wall_ms() >= leaves)
        late = edge.profile("CRMID", name)
        assert late is not None
        assert late.segments["this hour"].status == "exited"
        assert late.segments["this hour"].last_qualification_time == leaves
        until(lambda: not (beside.profile("CRMID", name) or found).stale)
    assert store.verify() == []


def test_the_verb_shows_an_edge_and_a_profile_there(
    store: pf.Store, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for verbs in (copy_verbs, people_verbs):
        monkeypatch.setattr(verbs, "open_store", lambda _: contextlib.nullcontext(store))
    store.submit("orders", [order(1, 1)])
    store.edge(NAME).wait(PATIENCE_S)

    def run(*words: str) -> str:
        done = CliRunner().invoke(application.app, ["edge", *words], catch_exceptions=False)
        assert done.exit_code == 0, done.output
        return done.stdout

    assert "follows" in run(NAME)
    account = json.loads(run(NAME, "--json"))
    assert account["is_complete"]
    assert account["profiles"] == store.status().profiles
    there = json.loads(run(NAME, "CRMID", "c0001", "--json"))
    assert there["identities"] == [{"namespace": "CRMID", "value": "c0001"}]
    assert "c0001" in run(NAME, "CRMID", "c0001")
    assert run(NAME, "CRMID", "nobody") == "the edge has no profile of CRMID nobody\n"
    with pytest.raises(pf.CallerError, match="a namespace and a value"):
        run(NAME, "CRMID")
    with pytest.raises(pf.DefinitionError, match="known: us west"):
        run("elsewhere")
    words = ["access", "CRMID", "c0001", str(tmp_path / "held"), "--json"]
    done = CliRunner().invoke(application.app, words, catch_exceptions=False)
    assert json.loads(done.stdout)["files"]["edges.json"] == 1
    (copy,) = json.loads((tmp_path / "held" / "edges.json").read_text())[NAME]
    assert copy["identities"] == there["identities"]


def test_whoever_dies_under_load_an_edge_converges(store: pf.Store) -> None:
    wrong: list[BaseException] = []

    def load() -> None:
        try:
            for number in range(12):
                store.submit("orders", orders(300, customers=150, first=300 * number))
        except BaseException as error:
            wrong.append(error)

    thread = threading.Thread(target=load)
    thread.start()
    for _ in range(2):
        os.kill(pid_of_edge(store), signal.SIGKILL)
        time.sleep(0.2)
        os.kill(store.status().partitions[0].pid, signal.SIGKILL)
        time.sleep(0.3)
    thread.join()
    assert wrong == []
    store.edge(NAME).wait(PATIENCE_S)
    until(lambda: has_everybody(store))
    assert store.verify() == []


def test_cut_off_an_edge_answers_and_catches_up(store: pf.Store) -> None:
    """Its minute is in ``tests/unit/actors/edges/test_edge_actor.py``."""
    edge = store.edge(NAME)
    store.submit("orders", [order(1, 2)])
    edge.wait()
    stopped = [one.pid for one in store.status().partitions]
    for pid in stopped:
        os.kill(pid, signal.SIGSTOP)
    try:
        end = time.monotonic() + 3
        while time.monotonic() < end:
            assert edge.profile("CRMID", "c0002") is not None
            time.sleep(0.05)
        assert edge.status().is_complete
    finally:
        for pid in stopped:
            os.kill(pid, signal.SIGCONT)
    store.submit("orders", [order(2, 900)])
    edge.wait()
    assert edge.profile("CRMID", "c0900") is not None
    until(lambda: edge.status().trouble == "")


def test_files_that_are_torn_or_of_another_boot_are_made_anew(store: pf.Store) -> None:
    store.edge(NAME).wait(PATIENCE_S)
    path = Path(store.edge(NAME).path)
    index = msgspec.json.decode((path / "edge.json").read_bytes(), type=EdgeIndex)
    data = path / f"generation-{index.generation}" / "data.mdb"

    def other_boot() -> None:
        other = msgspec.structs.replace(index, boot="another")
        (path / "edge.json").write_bytes(msgspec.json.encode(other))

    for damage in (other_boot, lambda: os.truncate(data, 20_000)):
        restarted(store, damage)
        store.edge(NAME).wait(PATIENCE_S)
    until(lambda: has_everybody(store))


@contextlib.contextmanager
def writing(path: Path) -> Iterator[EdgeRows]:
    """In an edge's files, behind its back."""
    generation = Generation(path, 0, open_environment(path, 64 << 30, len(ROOMS), sync=False))
    with generation.writing() as rows:
        yield rows
    generation.close()


def test_a_planted_difference_is_named(store: pf.Store) -> None:
    store.edge(NAME).wait(PATIENCE_S)
    path = Path(store.edge(NAME).path)
    index = msgspec.json.decode((path / "edge.json").read_bytes(), type=EdgeIndex)
    with writing(path / f"generation-{index.generation}") as rows:
        (key, value), *_ = rows.after("profiles", b"", 1)
        rows.put("profiles", key, value.replace(b"CRMID", b"CRMIX", 1))
    (line,) = store.verify()
    assert NAME in line
    assert "expected identities" in line
    with writing(path / f"generation-{index.generation}") as rows:
        rows.put("profiles", key, value)


def test_what_is_copied_changes_and_ends(store: pf.Store) -> None:
    edge, data = store.edge(NAME), store.path
    store.submit("orders", [order(1, 1)])
    edge.wait()
    store.apply(pf.ProjectionConfiguration("all", NAME, segments=("this hour",)))
    until(lambda: (edge.profile("CRMID", "c0001") or pytest.fail("gone")).computed == {})
    until(lambda: len(list(Path(edge.path).glob("generation-*"))) == 1)
    with pytest.raises(pf.DefinitionError, match="unknown"):
        store.apply(pf.ProjectionConfiguration("more", NAME, segments=("unknown",)))
    with pytest.raises(pf.DefinitionError, match="elsewhere"):
        store.apply(pf.ProjectionConfiguration("more", "elsewhere"))
    with pytest.raises(pf.DefinitionError, match="projection 'all'"):
        store.delete("this hour")
    store.apply(pf.EdgeDestination("second"), pf.ProjectionConfiguration("some", "second"))
    other = store.edge("second")
    until(lambda: other.profile("CRMID", "c0001") is not None)
    path = Path(other.path)
    store.delete("some")
    until(lambda: other.profile("CRMID", "c0001") is None)
    older = store._connection.catalogue
    store.delete("second")
    assert not path.exists()
    # A driver that has not heard of it yet does not bring the edge back.
    store._connection.catalogue = older
    with pytest.raises(pf.DefinitionError, match="second"):
        store.edge("second")
    assert list(store.status().edges) == [NAME]
    assert store.verify() == []
    assert not path.exists()
    namespace = store._placement.namespace
    assert [name for name in named_edges(namespace) if "second" in name] == []
    assert ray.is_initialized()
    assert data.exists()


DOCUMENT = (Path(__file__).resolve().parents[2] / "docs" / "EDGES.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```python\n(.*?)```\n\n```text\n(.*?)```", DOCUMENT, re.DOTALL)


def test_the_document_runs_as_printed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert len(BLOCKS) == DOCUMENT.count("```python") == 5
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {}
    for program, printed in BLOCKS:
        out = io.StringIO()
        with contextlib.redirect_stdout(out):
            exec(program, names)
        assert out.getvalue() == printed, program
