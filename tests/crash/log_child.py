"""The process that the crash tests kill: it appends, or saves checkpoints, and says what it did.

Arguments: directory, mode (``log`` or ``checkpoint``), epoch, crash point, how many times the point
is passed before the process kills itself there (0: it runs until somebody else kills it). It writes
one line per step to its standard output, unbuffered: ``sent <n>`` before and ``acked <n>`` after.
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

import numpy as np

from profile_actors.config import Config
from profile_actors.storage.checkpoint_files import FileCheckpoints
from profile_actors.storage.lmdb_log import LmdbLog

CONFIG = Config(log_segment_bytes=100_000, log_map_bytes=2_000_000)


def entry(position: int) -> bytes:
    """Known from its position; sizes from nothing to several pages."""
    return position.to_bytes(8, "big") * (position * 37 % 1_500)


def arrays(number: int) -> dict[str, np.ndarray]:
    return {"n": np.full(20_000, number), "half": np.full((number % 5, 3), number / 2)}


def say(line: str) -> None:
    os.write(1, f"{line}\n".encode())


def main(directory: str, mode: str, epoch: int, point: str, after: int) -> None:
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
