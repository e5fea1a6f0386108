"""The processes of a Ray that this process has started: whether they live, and their end.

Theory: Ray keeps them in objects that are its own business. What is asked of those is here, so that
a release that moves them is felt in one place.
"""

from __future__ import annotations

import functools
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import ray
from ray._private import node, parameter, worker
from ray.util import serialization_addons


def is_head_here() -> bool:
    """Whether the Ray of this process was started by this process, and ends with it."""
    own: Any = worker._global_node
    return bool(own is not None and own.is_head())


def dead_processes() -> str:
    """Which processes of a Ray that was started here have ended by themselves; empty if none."""
    own: Any = worker._global_node
    return ", ".join(name for name, _ in own.dead_processes()) if is_head_here() else "ray"


def end_at_once() -> None:
    """End the processes of a Ray that was started here, when one of them is dead already."""
    own: Any = worker._global_node
    if is_head_here():
        own.kill_all_processes(check_alive=False, allow_graceful=False)


@contextmanager
def lean_start() -> Iterator[None]:
    """What is started within is a head without three processes that a store has no use for.

    They are the autoscaler's monitor, the one that prints workers' logs at drivers, and the server
    behind the dashboard, which ``ray.init`` starts without a dashboard too. Each imports Ray anew:
    together they take half of the processor time that a start costs, and poll for ever after. What
    is lost with them: ``ray list`` and ``ray job`` on this Ray. Not for two threads at once.
    """
    known: tuple[Any, Any] = parameter.RayParams, node.Node.start_api_server
    patched: tuple[Any, Any] = parameter, node.Node
    patched[0].RayParams = functools.partial(known[0], no_monitor=True, include_log_monitor=False)
    patched[1].start_api_server = lambda self, **_: None
    try:
        yield
    finally:
        patched[0].RayParams, patched[1].start_api_server = known


def without_addons() -> None:
    """For a process that is ours alone: a verb, a keeper.

    Ray sends bytes and structs of ours for it. To send models of pydantic too (which Typer brings
    along) it would import all of that, most of the processor time that attaching takes: 0.3 s. A
    program's own process keeps it.
    """
    addons: Any = serialization_addons
    addons.apply = lambda context: None


def end_half_started(error: BaseException) -> None:
    """End the processes of a Ray that did not come up, or was interrupted.

    Ray forgets them, and each attempt would leave its own until this process ends: what they belong
    to is still named in the frames that the error came through.
    """
    frames = traceback.walk_tb(error.__traceback__)
    nodes = [frame.f_locals.get("self") for frame, _ in frames]
    for started in {id(one): one for one in nodes if isinstance(one, node.Node)}.values():
        started.kill_all_processes(check_alive=False)
    ray.shutdown()  # what came up, but was not joined


def one_line_of(error: Exception) -> str:
    """What an error says, in one line."""
    return " ".join(str(error).split()) or type(error).__name__
