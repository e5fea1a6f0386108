"""A reader between any two lines of the writer: interleavings of threads, drawn without threads.

Theory: a reader thread can run between any two steps of the writer's thread, but hardly ever does
just where it would matter. So the writer is traced, and before every line of the watched modules
the reader is called in its place, on the same thread. Where the writer holds the partition's lock
a reader thread would wait, so nothing is called there; what the writer does without the lock is
done between readers, at any place. What a reader is told must be the answer of a committed state:
``Committed`` has them, from second partitions that folded just so many entries.

Each line is visited ``visits`` times in one block, since loops come by the same lines.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import cycle, islice
from pathlib import Path
from types import FrameType, ModuleType
from typing import Any

from profile_actors.config import Config
from profile_actors.engine.log.in_memory import MemoryCheckpoints, MemoryFeed, MemoryLog
from profile_actors.engine.partition.partition import Partition


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


NO_ANSWER = "none"
"""Of a question that is not answered just now, or of a state in which no partition rests."""
Questions = dict[str, Callable[[Partition], Any]]
Version = tuple[int, int]
"""Which committed state: entries folded, and how many of them have rescans outstanding."""


class Committed:
    """What a store's committed states answer: of each, a second partition over the same entries.

    log, config: of the partition that is watched. at_once: how many of the questions are asked at
    one place; they come in turn.
    """

    def __init__(
        self, log: MemoryLog, config: Config, questions: Questions, at_once: int = 1 << 10
    ) -> None:
        self._log = log
        self._config = config
        self._questions = questions
        self._names = cycle(questions)
        self._at_once = min(at_once, len(questions))
        self._known: dict[Version, Partition | None] = {}
        self._answers: dict[tuple[Version, str], Any] = {}

    def answer(self, version: Version, name: str) -> Any:
        """What this state answers; NO_ANSWER if no partition rests there (several entries' rescans
        were done at once)."""
        if (version, name) not in self._answers:
            one = self._partition(version)
            self._answers[version, name] = NO_ANSWER if one is None else self._questions[name](one)
        return self._answers[version, name]

    def _partition(self, version: Version) -> Partition | None:
        if version not in self._known:
            position, pending = version
            log = MemoryLog()
            log.entries = self._log.entries[:position]
            one = Partition(log, MemoryFeed(), MemoryCheckpoints(), self._config)
            while one.owed.rescans.pending > pending:
                one.work(1)
            self._known[version] = one if one.owed.rescans.pending == pending else None
        return self._known[version]

    def ask(self, partition: Partition) -> tuple[Version, dict[str, Any]]:
        """Some of the questions, and which state it is that answers (the writer stands still)."""
        version = partition.position, partition.owed.rescans.pending
        names = islice(self._names, self._at_once)
        return version, {name: self._questions[name](partition) for name in names}

    def watch(
        self,
        partition: Partition,
        step: Callable[[], object],
        modules: Sequence[ModuleType],
        visits: int = 1,
    ) -> Counter[str]:
        """Do a step of the writer and ask between its lines: whatever is told at one place is what
        one committed state says. Returns the visited places."""
        told: list[tuple[Version, dict[str, Any]]] = []
        with beside(partition, lambda: told.append(self.ask(partition)), modules, visits) as seen:
            step()
        positions = [position for (position, _), _ in told]
        assert positions == sorted(positions)
        places = [place for place, count in seen.items() for _ in range(min(count, visits))]
        for place, (version, answers) in zip(places, told, strict=visits == 1):
            for name, got in answers.items():
                wanted = self.answer(version, name)
                assert got == wanted or NO_ANSWER in (got, wanted), (
                    f"{name} of state {version}: expected {wanted}, got {got} - at {place}"
                )
        return seen
