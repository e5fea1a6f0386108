"""The processes of a Ray that this process has started: whether they live, and their end.

Theory: Ray keeps them in objects that are its own business. What is asked of those is here, so that
a release that moves them is felt in one place.
"""

from __future__ import annotations

import traceback
from typing import Any

import ray
from ray._private import node, worker


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


def end_half_started(error: Exception) -> None:
    """End the processes of a Ray that did not come up.

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
