"""What the suites on started stores share: the command line as users run it, its processes."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]


@contextmanager
def own_ray() -> Iterator[dict[str, str]]:
    """An environment in which Ray has a folder of its own, short enough for its sockets."""
    folder = tempfile.mkdtemp(prefix="pk", dir="/tmp")
    yield environment(folder)
    left = left_running(folder)
    for line in left:  # of a test that failed; all of them are its own
        with suppress(ProcessLookupError):
            os.kill(int(line.split()[0]), signal.SIGKILL)
    shutil.rmtree(folder, ignore_errors=True)
    assert left == []


def environment(folder: str) -> dict[str, str]:
    unset = ("RAY_ADDRESS", "RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH")
    known = {name: value for name, value in os.environ.items() if name not in unset}
    return known | {"RAY_TMPDIR": folder, "PYTHONPATH": f"{ROOT / 'src'}{os.pathsep}{ROOT}"}


def command(*words: object, env: dict[str, str]) -> subprocess.CompletedProcess[str]:
    """One call of the command line, in a process of its own."""
    return subprocess.run(
        [sys.executable, "-m", "profile_actors", *map(str, words)],
        env=env, capture_output=True, text=True, timeout=240,
    )  # fmt: skip


def told(*words: object, env: dict[str, str]) -> Any:
    """What a call with --json says. It must succeed."""
    done = command(*words, "--json", env=env)
    assert done.returncode == 0, done.stdout + done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def program(code: str, *words: object, env: dict[str, str]) -> subprocess.Popen[str]:
    """A driver in a process of its own."""
    return subprocess.Popen(
        [sys.executable, "-c", code, *map(str, words)],
        env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip


def said(process: subprocess.Popen[str], word: str = "") -> Any:
    """The last line that a program prints, as JSON; word: what is said to it."""
    out, _ = process.communicate(word, timeout=240)
    assert process.returncode == 0
    return json.loads(out.splitlines()[-1])


def contents(*roots: Path) -> Iterator[tuple[Path, bytes]]:
    """Each file below, with what is in it. What a running store, or its Ray, deletes or gives
    another name meanwhile is passed over, as ``Path.rglob`` would not."""
    for root in roots:
        for folder, _, names in os.walk(root):
            for path in (Path(folder, name) for name in names):
                with suppress(FileNotFoundError):
                    if path.is_file():
                        yield path, path.read_bytes()


def left_running(folder: str, patience_s: float = 30.0, but: Collection[int] = ()) -> list[str]:
    """Processes that still have a Ray folder in their environment or arguments after so long."""
    end = time.monotonic() + patience_s
    while True:
        found = [line for line in processes_of(folder) if int(line.split()[0]) not in but]
        if not found or time.monotonic() > end:
            return found
        time.sleep(0.1)


def processes_of(folder: str) -> list[str]:
    """Number and command line of each process with a folder in its environment or arguments."""
    found = []
    for place in Path("/proc").glob("[0-9]*"):
        try:
            words = (place / "cmdline").read_bytes()
            if int(place.name) == os.getpid() or not words:  # a zombie has none
                continue
            if folder.encode() in words + (place / "environ").read_bytes():
                text = words.replace(b"\0", b" ").decode(errors="replace")
                found.append(f"{place.name} {text}")
        except OSError:
            continue
    return found
