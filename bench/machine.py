"""What a bench says besides its number: one JSON line, the machine, the commit, the memory."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np

_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
_TICK_S = 1 / os.sysconf("SC_CLK_TCK")


def say(question: str, **fields: Any) -> None:
    """Print one JSON line: the question, its fields, and where and on what it was asked."""
    line = {"bench": question, **fields, "commit": _commit(), "machine": _machine()}
    print(json.dumps(line, default=_plain), flush=True)


def _plain(value: Any) -> Any:
    if isinstance(value, np.generic):
        return value.item()
    raise TypeError(f"expected a plain value, got {type(value).__name__}")


def _commit() -> str:
    found = subprocess.run(
        ["git", "describe", "--always", "--dirty"],
        cwd=Path(__file__).parent,
        capture_output=True,
        text=True,
        check=False,
    )
    return found.stdout.strip() or "unknown"


def _machine() -> str:
    name = platform.machine()
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text().splitlines():
            if line.startswith("model name"):
                name = line.split(":", 1)[1].strip()
                break
    return f"{len(os.sched_getaffinity(0))} cores, {name}, Python {platform.python_version()}"


def percentiles(values_ms: list[float]) -> dict[str, float]:
    """p50, p99 and the largest of measurements in ms, rounded to the microsecond."""
    array = np.array(values_ms)
    return {
        "p50_ms": round(float(np.percentile(array, 50)), 3),
        "p99_ms": round(float(np.percentile(array, 99)), 3),
        "max_ms": round(float(array.max()), 3),
        "n": len(values_ms),
    }


def _processes() -> dict[int, tuple[int, str]]:
    """pid -> (parent's pid, command line) of every process that can be read."""
    out = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                stat = (entry / "stat").read_text()
                words = (
                    (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
                )
            except (FileNotFoundError, ProcessLookupError, PermissionError):
                continue
            out[int(entry.name)] = (int(stat.rsplit(")", 1)[1].split()[1]), words.strip())
    return out


def descendants(root: int) -> dict[int, str]:
    """pid -> command line of every living process below ``root``."""
    everyone = _processes()
    found: dict[int, str] = {}
    level = {root}
    while level:
        level = {pid for pid, (parent, _) in everyone.items() if parent in level} - set(found)
        found |= {pid: everyone[pid][1] for pid in level}
    return found


def family_cpu_s() -> float:
    """Processor time so far of this process and of all living ones below it: what work has cost,
    however busy the machine is with other things."""
    total = 0.0
    for pid in (os.getpid(), *descendants(os.getpid())):
        try:
            words = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
        except (FileNotFoundError, ProcessLookupError):
            continue
        total += (int(words[11]) + int(words[12])) * _TICK_S
    return total


def actor_pids(word: str = "PartitionActor") -> list[int]:
    """Processes below this one that Ray runs for actors of the named class."""
    below = descendants(os.getpid())
    return sorted(
        pid for pid, words in below.items() if words.startswith("ray::") and word in words
    )


class PeakMemory:
    """Samples the resident memory of this process and its actors; ``peak`` in bytes.

    rss counts mapped log pages and shared blocks once per process; private does not count shared
    ones. Sampled every 100 ms, so a shorter spike is missed.
    """

    def __init__(self) -> None:
        self.peak_rss = 0
        self.peak_private = 0
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> PeakMemory:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._thread.join()

    def _run(self) -> None:
        rounds = 0
        pids: list[int] = []
        while not self._done.is_set():
            if rounds % 20 == 0:
                pids = [os.getpid(), *actor_pids("Actor")]
            rounds += 1
            rss = private = 0
            for pid in pids:
                try:
                    words = Path(f"/proc/{pid}/statm").read_text().split()
                except (FileNotFoundError, ProcessLookupError):
                    continue
                rss += int(words[1]) * _PAGE_BYTES
                private += (int(words[1]) - int(words[2])) * _PAGE_BYTES
            self.peak_rss = max(self.peak_rss, rss)
            self.peak_private = max(self.peak_private, private)
            self._done.wait(0.1)


def note(text: str) -> None:
    """Say what is going on to a person, apart from the JSON on stdout."""
    print(text, file=sys.stderr, flush=True)
