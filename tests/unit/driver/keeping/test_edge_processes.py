"""Settling the edges of a store, below Ray: races with other drivers, and edges that fail."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import pytest
from msgspec import structs

from profile_actors.actors.calls import Remote
from profile_actors.config import Config
from profile_actors.definitions.declared import Catalogue, EdgeDestination
from profile_actors.driver.keeping import edge_processes
from profile_actors.driver.keeping.edge_processes import directory_of, settle
from profile_actors.storage.store_settings import StoreSettings


class Coordinator:
    """The newest definitions; meanwhile: what others do before it answers."""

    def __init__(self, *names: str) -> None:
        destinations = {name: EdgeDestination(name) for name in names}
        self.catalogue = structs.replace(Catalogue(1), destinations=destinations)
        self.meanwhile: Callable[[], object] = lambda: None

    def call(self, _: str) -> Catalogue:
        self.meanwhile()
        return self.catalogue


class Host:
    """A store's placement without Ray, on which no actor can begin."""

    namespace = "n"
    home = ""
    config = Config()
    settings = StoreSettings(partitions=1, clock="event", hash_seed=7, created=0)

    def __init__(self, path: Path, coordinator: Coordinator) -> None:
        self.path = path
        self.coordinator = cast(Remote, coordinator)
        self.tried: list[str] = []
        self.options: list[dict[str, Any]] = []

    def create(self, actor: Any, name: str, may_exist: bool, *args: Any, **options: Any) -> Remote:
        self.tried.append(name)
        self.options.append(options)
        raise ValueError("Ray does not take it")


@pytest.fixture(autouse=True)
def nobody_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(edge_processes, "named_edges", lambda namespace: [])


def test_an_edge_that_cannot_begin_does_not_keep_the_store_from_opening(tmp_path: Path) -> None:
    host = Host(tmp_path, Coordinator("one", "two"))
    settle(host)
    assert [name.split("-")[1] for name in host.tried] == ["one", "two"]


def test_an_edge_runs_where_its_labels_say(tmp_path: Path) -> None:
    coordinator = Coordinator("anywhere")
    known = coordinator.catalogue.destinations
    known["west"] = EdgeDestination("west", labels={"region": "us-west"})
    host = Host(tmp_path, coordinator)
    settle(host)
    assert host.options == [{}, {"label_selector": {"region": "us-west"}}]


def test_the_files_of_another_drivers_new_edge_are_not_deleted(tmp_path: Path) -> None:
    coordinator = Coordinator()
    ours, theirs = directory_of(tmp_path, "old"), directory_of(tmp_path, "new")
    ours.mkdir(parents=True)
    (ours.parent / "a file").touch()
    coordinator.meanwhile = lambda: theirs.mkdir(exist_ok=True)
    settle(Host(tmp_path, coordinator))
    assert theirs.exists()
    assert not ours.exists()
