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
from collections.abc import Callable
from importlib import import_module
from types import SimpleNamespace
from typing import Any


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
