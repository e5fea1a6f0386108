"""A failing world made small: fewer steps, rules, rows and fields, while it fails the same way.

Theory: greedy removal, over and over, of whatever can go: a world's steps are plain data, and one
that makes no sense any more (a rule that reads what is gone) fails in another way, and stays. Two
failures are the same if the same kind of error comes from the same line.

The result is printed as a call of ``replay``, to be put into a test.
"""

from __future__ import annotations

import pprint
import time
import traceback
from collections.abc import Iterator

from tests.differential.harness import Kind, Step, World
from tests.differential.worlds import Draws, done

BUDGET_S = 90.0
"""A run takes some tens of milliseconds once a few steps are gone."""

Failure = tuple[str, str, int | None]


def replay(seed: int, kind: Kind, steps: list[Step]) -> int:
    """Do steps in a world of a seed's schemas; how many checks were made. Raises what fails."""
    world = World(seed, kind)
    for step in steps:
        world.do(*step)
    return world.checks


def shrunk(seed: int, kind: Kind) -> str:
    """The smallest failing case found for a seed, as text, or why there is none."""
    draws = Draws(seed, kind)
    try:
        done(draws)
        return f"seed {seed} does not fail"
    except Exception as error:
        wanted = _failure(error)
    steps = draws.world.journal
    if _replayed(seed, kind, steps) != wanted:
        return f"the steps of seed {seed} do not fail again in the same way"
    end = time.monotonic() + BUDGET_S
    is_smaller = True
    while is_smaller and time.monotonic() < end:
        is_smaller = False
        for smaller in _smaller(steps):
            if _replayed(seed, kind, smaller) == wanted:
                steps, is_smaller = smaller, True
                break
            if time.monotonic() > end:
                break
    try:
        replay(seed, kind, steps)
        words = ""
    except Exception as error:
        words = "".join(f"# {line}\n" for line in str(error)[:3000].splitlines())
    shown = pprint.pformat(steps, width=100, sort_dicts=False)
    return f"{words}replay({seed}, {kind!r}, {shown})"


def _failure(error: Exception) -> Failure:
    frame = traceback.extract_tb(error.__traceback__)[-1]
    return type(error).__name__, frame.filename, frame.lineno


def _replayed(seed: int, kind: Kind, steps: list[Step]) -> Failure | None:
    try:
        replay(seed, kind, steps)
    except Exception as error:
        return _failure(error)
    return None


def _smaller(steps: list[Step]) -> Iterator[list[Step]]:
    """Everything a little smaller, the largest cuts first."""
    for half in (len(steps) // 2, len(steps) // 4):
        for begin in range(0, len(steps), half or 1):
            yield steps[:begin] + steps[begin + (half or 1) :]
    for i in reversed(range(len(steps))):
        yield steps[:i] + steps[i + 1 :]
    for i, step in enumerate(steps):
        for smaller in _smaller_step(step):
            yield [*steps[:i], smaller, *steps[i + 1 :]]


def _smaller_step(step: Step) -> Iterator[Step]:
    name = step[0]
    if name in ("define", "prepare"):
        for place in (1, 2):
            for gone in step[place]:
                rest = {key: text for key, text in step[place].items() if key != gone}
                yield (*step[:place], rest, *step[place + 1 :])
    if name in ("submit", "submit_early"):
        place = 2 if name == "submit" else 1
        batch = step[place]
        for i in range(len(batch)):
            if len(batch) > 1:
                yield (*step[:place], batch[:i] + batch[i + 1 :], *step[place + 1 :])
            for gone in set(batch[i]) - {"who", "at", "kind"}:
                row = {key: value for key, value in batch[i].items() if key != gone}
                yield (*step[:place], [*batch[:i], row, *batch[i + 1 :]], *step[place + 1 :])
    if name == "submit" and step[3] > 1:
        yield (*step[:3], 1)
    if name == "check" and len(step[1]) > 1:
        yield from ((name, [instant]) for instant in step[1])
