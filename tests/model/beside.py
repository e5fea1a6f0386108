"""A reader between any two lines of the writer: interleavings of threads, drawn without threads.

Theory: a reader thread can run between any two steps of the writer's thread, but hardly ever does
just where it would matter. So the writer is traced, and before every line of the watched modules
the reader is called in its place, on the same thread. Where the writer holds the partition's lock
a reader thread would wait, so nothing is called there; what the writer does without the lock is
done between readers, at any place. What a reader is told must be the answer of a committed state:
``committed`` says so for a whole set of questions that is asked at one place.

Each line is visited ``visits`` times in one block, since loops come by the same lines.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType, ModuleType
from typing import Any, TypeVar

from profile_actors.engine.partition import Partition

T = TypeVar("T")


@contextmanager
def beside(
    partition: Partition,
    read: Callable[[], object],
    modules: Sequence[ModuleType],
    visits: int = 1,
) -> Iterator[Counter[str]]:
    """Within the block, call ``read`` before each line of these modules that this thread comes to
    without the partition's lock. Yields the visited places ("module:line") and how often.

    An error that ``read`` raises ends the visits, and is raised by the block when the writer is
    done (he catches what operators raise), with the place as a note.
    """
    failed: list[BaseException] = []
    names = {str(Path(str(module.__file__))): module.__name__ for module in modules}
    seen: Counter[str] = Counter()

    def on_line(frame: FrameType, event: str, _: Any) -> Any:
        # A trace function is not itself traced, so the reader's own lines are not visited.
        if event == "line" and not partition.lock._is_owned():  # type: ignore[attr-defined]
            place = f"{names[frame.f_code.co_filename]}:{frame.f_lineno}"
            seen[place] += 1
            if seen[place] <= visits and not failed:
                try:
                    read()
                except Exception as error:
                    error.add_note(f"with the writer at {place}")
                    failed.append(error)
        return on_line

    def on_call(frame: FrameType, event: str, _: Any) -> Any:
        return on_line if frame.f_code.co_filename in names else None

    before = sys.gettrace()
    sys.settrace(on_call)
    try:
        yield seen
    finally:
        sys.settrace(before)
    if failed:
        raise failed[0]


def committed(
    step: Callable[[], T],
    ask: Callable[[], dict[str, Any]],
    partition: Partition,
    modules: Sequence[ModuleType],
    visits: int = 1,
) -> Counter[str]:
    """Do a writer's step that makes one entry, and check that what is asked between its lines is
    all as before the step, or all as after it, and never as before again.

    ask: questions and their answers; asked as a whole at each place. Returns the visited places.
    """
    told: list[dict[str, Any]] = [ask()]
    with beside(partition, lambda: told.append(ask()), modules, visits) as seen:
        step()
    first, last = told[0], ask()
    is_over = False
    places = ["before", *seen]
    for place, answers in enumerate(told):
        is_over = is_over or answers != first
        wanted = last if is_over else first
        wrong = {name: (got, wanted[name]) for name, got in answers.items() if got != wanted[name]}
        where = places[place] if visits == 1 else f"visit {place}"
        assert not wrong, f"(got, expected) {wrong} - with the writer at {where}"
    return seen
