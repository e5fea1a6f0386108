"""The process that the crash tests kill: it appends, or saves checkpoints, and says what it did.

Arguments: directory, mode (``log``, ``checkpoint`` or ``steered``), epoch, crash point, how many
times the point is passed before the process kills itself there (0: it runs until somebody else
kills it). It writes one line per step to its standard output, unbuffered: ``sent <n>`` before and
``acked <n>`` after.

``steered`` is told what to do by lines of its standard input: ``open <directory> <epoch>``,
``append <n> [crash point]`` (n entries; it halts at the point, says ``at <point>`` and goes on with
the next line), ``check 0``. It answers ``acked <head>``, ``fenced <head>`` or ``whole <head>``.
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

import numpy as np

from profile_actors.config import Config
from profile_actors.errors import FencedOut
from profile_actors.storage.checkpoint_files import FileCheckpoints
from profile_actors.storage.lmdb_log import LmdbLog

CONFIG = Config(log_segment_bytes=100_000, log_map_bytes=2_000_000)


SMALL = Config(log_segment_bytes=30_000, log_map_bytes=2_000_000)
"""A steered writer's: it rotates after every third entry or so."""


def entry(position: int) -> bytes:
    """Known from its position; sizes from nothing to several pages."""
    return position.to_bytes(8, "big") * (position * 37 % 1_500)


def arrays(number: int) -> dict[str, np.ndarray]:
    return {"n": np.full(20_000, number), "half": np.full((number % 5, 3), number / 2)}


def say(line: str) -> None:
    os.write(1, f"{line}\n".encode())


def steered() -> None:
    stop_at = ""

    def hook(name: str) -> None:
        nonlocal stop_at
        if name == stop_at:
            stop_at = ""
            say(f"at {name}")
            sys.stdin.readline()

    log: LmdbLog | None = None
    for line in iter(sys.stdin.readline, ""):
        word, what, *more = line.split()
        answer = "acked"
        if word == "open":
            if log is not None:
                log.close()
            log = LmdbLog(Path(what), SMALL, epoch=int(more[0]), crash_point=hook)
        assert log is not None
        if word == "append":
            stop_at = more[0] if more else ""
            for _ in range(int(what)):
                try:
                    log.append_at(log.head(), [entry(log.head())], log.epoch)
                except FencedOut:
                    answer = "fenced"
        if word == "check":
            answer = "whole" if is_whole(log) else "damaged"
        say(f"{answer} {log.head()}")


def is_whole(log: LmdbLog) -> bool:
    """Whether every entry is there, as its position says."""
    for position in range(log.head()):
        with log.view(position) as view:
            if view != entry(position):
                return False
    return not list(log.verify())


def main(directory: str, mode: str, epoch: int, point: str, after: int) -> None:
    if mode == "steered":
        steered()
        return
    passed = 0

    def hook(name: str) -> None:
        nonlocal passed
        if after and name == point:
            passed += 1
            if passed > after:
                os.kill(os.getpid(), signal.SIGKILL)

    log = LmdbLog(Path(directory), CONFIG, epoch=epoch, crash_point=hook)
    if mode == "log":
        say(f"head {log.head()}")
        while True:
            position = log.head()
            say(f"sent {position}")
            log.append_at(position, [entry(position)], epoch)
            say(f"acked {position}")
    checkpoints = FileCheckpoints(Path(directory), crash_point=hook)
    found = checkpoints.load()
    number = found[0] if found else 0
    while True:
        number += 1
        say(f"sent {number}")
        checkpoints.save(number, f"meta {number}".encode(), arrays(number))
        checkpoints.save_run(f"run-{number}", arrays(number))
        say(f"acked {number}")


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]), sys.argv[4], int(sys.argv[5]))
