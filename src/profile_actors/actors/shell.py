"""What Ray is given of an actor: its methods by name, and where it is, but nothing it is made of.

Theory: whoever finds an actor by its name is given its class by Ray, and loads that class before it
may ask anything. Were it the class itself, then a process that attaches to look up one profile
would import the engine, the rules and the files of a partition: most of the processor time that
such a process takes. So it is a class that hands its calls on to one of the same name, which is
imported where the actor runs.

No actor has a use for pandas, which Arrow would import with its first array where it is installed:
0.4 s of each start, and 30 MB.

Rules for editors: nothing here may be looked up by name where it is loaded, but modules that every
process has; what ``shell_of`` makes is sent whole.
"""

from __future__ import annotations

import inspect
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from importlib import import_module
from types import SimpleNamespace
from typing import Any

import ray

END_S = 10.0
"""For Ray to end a process, so that its name is free: it kills later than it says."""


LOOK_S = 0.02


def shell_of(actor: type) -> type:
    """A class with an actor's public methods, each in its concurrency group, that hands them on.

    Made where the actor is begun; it and what it holds travel by value. Cost: 0.2 us a call.
    """
    place, name = actor.__module__, actor.__name__

    def begin(self: Any, *args: Any) -> None:
        def find_spec(name: str, *_: Any) -> None:
            if name == "pandas":
                raise ModuleNotFoundError("expected no use of it in an actor", name=name)

        finders: list[Any] = sys.meta_path
        finders.insert(0, SimpleNamespace(find_spec=find_spec))
        self.inside = getattr(import_module(place), name)(*args)

    members: dict[str, Any] = {
        word: _handed_on(word, function)
        for word, function in inspect.getmembers(actor, inspect.isfunction)
        if not word.startswith("_")
    }
    return type(name, (), {"__init__": begin, "__doc__": actor.__doc__, **members})


def _handed_on(word: str, function: Callable[..., Any]) -> Callable[..., Any]:
    def handed_on(self: Any, *args: Any, **named: Any) -> Any:
        return getattr(self.inside, word)(*args, **named)

    # What ``ray.method`` said of it.
    handed_on.__dict__.update(function.__dict__)
    handed_on.__name__ = word
    return handed_on


def begun(
    actor: Any, name: str, namespace: str, may_exist: bool, *args: Any, **options: Any
) -> Any:
    """Start a named actor of a store, or find it, if that may be. Raises ValueError otherwise."""
    return actor.options(
        name=name,
        namespace=namespace,
        lifetime="detached",
        get_if_exists=may_exist,
        max_restarts=-1,
        max_task_retries=0,
        **options,
    ).remote(*args)


def ended(name: str, namespace: str) -> None:
    """End an actor for good, where one has the name, and wait until it is free: who asks for a new
    one by that name would get the dying one."""
    end = time.monotonic() + END_S
    with suppress(ValueError):
        ray.kill(ray.get_actor(name, namespace=namespace), no_restart=True)
        while time.monotonic() < end:
            ray.get_actor(name, namespace=namespace)
            time.sleep(LOOK_S)
