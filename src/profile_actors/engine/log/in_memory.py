"""Log, feed and checkpoints in memory: for tests, for trials, for the simulator."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext

import numpy as np

from profile_actors.engine.log.ports import Arrays, Buffer, RowGroup
from profile_actors.errors import FeedDamaged


class MemoryLog:
    """A Log in a list; nothing survives the process. groups: what tests have made of entries."""

    groups: Sequence[RowGroup] = ()

    def __init__(self) -> None:
        self.entries: list[bytes] = []

    def head(self) -> int:
        return len(self.entries)

    def append_at(self, position: int, parts: Sequence[Buffer], epoch: int) -> None:
        assert position == len(self.entries), (position, len(self.entries))
        self.entries.append(b"".join(bytes(part) for part in parts))

    def view(self, position: int) -> AbstractContextManager[memoryview]:
        if not 0 <= position < len(self.entries):
            raise IndexError(f"expected a position below {len(self.entries)}, got {position}")
        return nullcontext(memoryview(self.entries[position]))

    def group(self, position: int) -> RowGroup | None:
        return next((one for one in self.groups if one.first <= position < one.end), None)

    def size_bytes(self) -> int:
        return sum(map(len, self.entries))

    def verify(self) -> Iterator[str]:
        return iter(())

    def close(self) -> None:
        pass


class MemoryFeed:
    """A Feed in a dict."""

    def __init__(self) -> None:
        self.blocks: dict[int, bytes] = {}

    def append(self, position: int, block: bytes) -> None:
        self.blocks[position] = block

    def read(self, after: int, limit_bytes: int) -> list[tuple[int, bytes]]:
        out, size = [], 0
        for position in sorted(p for p in list(self.blocks) if p > after):
            out.append((position, self.blocks[position]))
            size += len(self.blocks[position])
            if size > limit_bytes:
                break
        return out

    def get(self, position: int) -> bytes | None:
        return self.blocks.get(position)

    def first_kept(self) -> int:
        return 0

    def firsts(self) -> list[int]:
        return [0]

    def turn(self, position: int) -> None:
        """It is one piece."""

    def drop(self, before: int) -> None:
        """Which stays."""

    def end(self) -> int:
        return max(self.blocks, default=-1) + 1

    def reset(self) -> None:
        self.blocks = {}

    def faults(self) -> list[int]:
        return []

    def condemn(self, reason: str) -> FeedDamaged:
        self.blocks = {}
        return FeedDamaged(reason)

    def flush(self) -> None:
        pass

    def size_bytes(self) -> int:
        return sum(map(len, self.blocks.values()))

    def close(self) -> None:
        pass


class MemoryCheckpoints:
    """Checkpoints in memory: what a reopening in a test finds."""

    def __init__(self) -> None:
        self.saved: list[tuple[int, bytes, dict[str, np.ndarray]]] = []
        self.runs: dict[str, dict[str, np.ndarray]] = {}

    def save(self, position: int, meta: bytes, arrays: Arrays) -> None:
        self.saved = [*self.saved[-1:], (position, meta, {k: v.copy() for k, v in arrays.items()})]

    def load(self) -> tuple[int, bytes, dict[str, np.ndarray]] | None:
        if not self.saved:
            return None
        position, meta, arrays = self.saved[-1]
        return position, meta, {k: v.copy() for k, v in arrays.items()}

    def save_run(self, name: str, arrays: Arrays) -> None:
        self.runs[name] = dict(arrays)

    def load_run(self, name: str) -> dict[str, np.ndarray]:
        return self.runs[name]

    def drop_runs(self, keep: set[str]) -> None:
        self.runs = {name: run for name, run in self.runs.items() if name in keep}
