"""Where a partition's time goes: seconds by stage, by whatever clock it is given.

Theory: the engine knows no clock, so one is passed in; the shell passes the processor time of the
writer's thread, tests and the simulator none. A lap costs one call of the clock.
"""

from __future__ import annotations

from collections.abc import Callable


def no_clock() -> float:
    """The clock of those who do not ask."""
    return 0.0


class Stages:
    """Laps of one thread. seconds: stage -> total so far."""

    def __init__(self, clock: Callable[[], float] = no_clock) -> None:
        self._clock = clock
        self._last = 0.0
        self.seconds: dict[str, float] = {}

    def start(self) -> None:
        """Begin a lap."""
        self._last = self._clock()

    def lap(self, stage: str) -> None:
        """End a lap that counts for the stage, and begin the next."""
        if self._clock is no_clock:
            return
        now = self._clock()
        self.seconds[stage] = self.seconds.get(stage, 0.0) + now - self._last
        self._last = now
