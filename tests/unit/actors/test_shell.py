"""A shell has what an actor has, hands it on, and brings nothing that the actor is made of."""

from __future__ import annotations

import importlib
import inspect
import pickle
import subprocess
import sys
from typing import Any

import pytest
from ray import cloudpickle

from profile_actors.actors.coordinator import CoordinatorActor
from profile_actors.actors.edges.edge_actor import EdgeActor
from profile_actors.actors.mail.ledger_actor import LedgerActor
from profile_actors.actors.partition_actor import PartitionActor
from profile_actors.actors.replicas.standby_actor import StandbyActor
from profile_actors.actors.shell import shell_of

ACTORS = [PartitionActor, CoordinatorActor, LedgerActor, EdgeActor, StandbyActor]


class Tally:
    """An actor."""

    def __init__(self, start: int, step: int = 1) -> None:
        self._sum = start
        self._step = step

    def add(self, times: int, *, twice: bool = False) -> int:
        self._sum += self._step * times * (2 if twice else 1)
        return self._sum

    def fail(self) -> None:
        raise ValueError("expected nothing")


def sent(actor: type) -> bytes:
    """What Ray sends of it."""
    made: Any = cloudpickle
    found: bytes = made.dumps(shell_of(actor))
    return found


@pytest.fixture(autouse=True)
def _own_imports(monkeypatch: pytest.MonkeyPatch) -> None:
    """A shell forbids its process to import pandas, and this one has other tests too."""
    monkeypatch.setattr(sys, "meta_path", sys.meta_path[:])


def test_an_actor_does_not_import_pandas(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "pandas", raising=False)
    pickle.loads(sent(Tally))(1)
    with pytest.raises(ModuleNotFoundError, match="no use of it in an actor"):
        importlib.import_module("pandas")


def test_a_shell_hands_on_arguments_answers_and_errors() -> None:
    tally = pickle.loads(sent(Tally))(10, 2)
    assert tally.add(3) == 16
    assert tally.add(1, twice=True) == 20
    with pytest.raises(ValueError, match="expected nothing"):
        tally.fail()


@pytest.mark.parametrize("actor", ACTORS)
def test_a_shell_has_the_methods_and_groups_of_its_actor(actor: type) -> None:
    def methods(owner: type) -> dict[str, object]:
        """Each with what ``ray.method`` said of it."""
        found = inspect.getmembers(owner, inspect.isfunction)
        return {name: vars(one) for name, one in found if not name.startswith("_")}

    shell = shell_of(actor)
    assert shell.__name__ == actor.__name__
    assert methods(shell) == methods(actor) != {}


@pytest.mark.parametrize("actor", ACTORS)
def test_who_loads_a_shell_imports_nothing_of_the_actor(actor: type) -> None:
    code = (
        "import pickle, sys; pickle.load(sys.stdin.buffer);"
        "print(sorted(n for n in sys.modules if n.startswith('profile_actors.')))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        input=sent(actor),
        capture_output=True,
        timeout=240,
        check=True,
    )
    loaded = done.stdout.decode()
    assert actor.__module__ not in loaded
    assert "engine" not in loaded
