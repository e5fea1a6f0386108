"""Workload W1 on Redis: one call of a Lua function per event, on a server of its own.

It does what the store does, as exactly: duplicates, each profile's log, 20 values, 100 segments,
every change in a list, and 7-day windows by a sorted set of what is due, which each event first
works off. Events go pipelined over a Unix socket, ``DEPTH`` of them at a time. The server keeps
nothing on the disk.
"""

from __future__ import annotations

import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from gen_w1 import TYPES
from workload import COLUMNS, segments

SERVER = "redis-server"
DEPTH = 100
SCRIPT = Path(__file__).with_name("redis_w1.lua")
KINDS = {name: str(number) for number, name in enumerate(TYPES)}


class Redis:
    """A server in a directory of its own, and one connection; enough of RESP for this bench."""

    def __enter__(self) -> Redis:
        self._folder = tempfile.TemporaryDirectory()
        path = Path(self._folder.name) / "s"
        options = {"port": 0, "unixsocket": path, "save": "", "appendonly": "no"}
        words = [str(word) for name, value in options.items() for word in (f"--{name}", value)]
        self._server = subprocess.Popen(
            [SERVER, *words], stdout=subprocess.DEVNULL, cwd=self._folder.name
        )
        self._socket = socket.socket(socket.AF_UNIX)
        for _ in range(200):
            try:
                self._socket.connect(str(path))
                break
            except OSError:
                time.sleep(0.02)
        self._replies = self._socket.makefile("rb")
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()
        self._server.terminate()
        self._server.wait()
        self._folder.cleanup()

    def send(self, commands: Sequence[Sequence[str]]) -> None:
        """Put commands on their way."""
        self._socket.sendall("".join(map(_encoded, commands)).encode())

    def reply(self) -> Any:
        """The next reply: an integer, a text, or a list of them."""
        line = self._replies.readline().rstrip().decode()
        kind, rest = line[:1], line[1:]
        if kind == "-":
            raise SystemExit(f"redis: {rest}")
        if kind == "*":
            return [self.reply() for _ in range(int(rest))]
        if kind == "$":
            return self._replies.read(int(rest) + 2)[:-2].decode()
        return int(rest) if kind == ":" else rest

    def ask(self, *words: str) -> Any:
        self.send([words])
        return self.reply()


def _encoded(words: Sequence[str]) -> str:
    parts = "".join(f"${len(word.encode())}\r\n{word}\r\n" for word in words)
    return f"*{len(words)}\r\n{parts}"


def script() -> str:
    """The function's text, with each column's thresholds and the segments that have them."""
    lines = []
    for column in COLUMNS:
        mine = (f"{{{s.threshold}, '{s.name}'}}" for s in segments() if s.column == column)
        lines.append(f"{column} = {{{', '.join(mine)}}}")
    return SCRIPT.read_text(encoding="utf-8").replace("--[[LADDERS]]", ",\n".join(lines))


def command(row: dict[str, Any]) -> tuple[str, ...]:
    """The command of one event."""
    return (
        "FCALL", "event", "1", row["user_id"], row["_id"], str(row["timestamp"]),
        KINDS[row["eventType"]], repr(row["price"]), row["url"],
    )  # fmt: skip


def members(redis: Redis) -> dict[str, set[str]]:
    """Segment -> ids of its members, from the changes."""
    out: dict[str, set[str]] = {segment.name: set() for segment in segments()}
    for change in redis.ask("LRANGE", "changes", "0", "-1"):
        _, user, name, entered = change.split(",")
        (out[name].add if entered == "1" else out[name].discard)(user)
    return out


def run(rows: Sequence[dict[str, Any]], expected: dict[str, set[str]]) -> dict[str, Any] | str:
    """Events/s, pipelined; and one at a time with its answer awaited, ms. A text: why not.

    wrong: memberships that differ from the exact answer; sums are added as doubles here.
    """
    if shutil.which(SERVER) is None:
        return f"{SERVER} is not installed"
    alone = rows[-2_000:]
    rows = rows[:-2_000]
    with Redis() as redis:
        redis.ask("FUNCTION", "LOAD", script())
        began = time.perf_counter()
        awaited = 0
        for first in range(0, len(rows), DEPTH):
            batch = rows[first : first + DEPTH]
            redis.send([command(row) for row in batch])
            for _ in range(awaited):  # of those before, while these are on their way
                redis.reply()
            awaited = len(batch)
        for _ in range(awaited):
            redis.reply()
        seconds = time.perf_counter() - began
        took = []
        for row in alone:
            began = time.perf_counter()
            redis.ask(*command(row))
            took.append((time.perf_counter() - began) * 1e3)
        found = members(redis)
    wrong = sum(len(found[name] ^ expected[name]) for name in expected)
    if wrong > len(rows) // 100_000 + 2:
        raise SystemExit(f"{wrong} memberships of the Redis peer are wrong")
    took.sort()
    return {
        "per_s": round(len(rows) / seconds),
        "one_p50_ms": round(took[len(took) // 2], 3),
        "one_p99_ms": round(took[len(took) * 99 // 100], 3),
        "wrong": wrong,
    }
