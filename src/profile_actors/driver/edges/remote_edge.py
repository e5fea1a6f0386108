"""An edge, asked from any process of the cluster, or read beside it from its files."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np

from profile_actors.actors.calls import Remote
from profile_actors.actors.edges.edge_accounts import EdgeStatus
from profile_actors.actors.wall_clock import wall_ms
from profile_actors.actors.wire import loads
from profile_actors.driver.arguments import identity_pair, identity_pairs
from profile_actors.driver.connection import LOOK_UPS_PER_CALL
from profile_actors.driver.read_lines import ReadLines, Unanswered
from profile_actors.engine.edges import edge_copy
from profile_actors.engine.edges.edge_rows import (
    KEY_BYTES,
    Damaged,
    EdgeBodies,
    EdgeProfile,
    body_of,
    profile_of,
)
from profile_actors.engine.identity.identity import Identity
from profile_actors.errors import CorruptLog, DefinitionError, StoreUnavailable
from profile_actors.ingest.identity_keys import key_packer
from profile_actors.storage.edge_files import EdgeIndex, EdgeReader

WAIT_PAUSE_S = 0.01


Pairs = Iterable[tuple[str, str] | Identity]


class Edge:
    """One edge of a store (``Store.edge``). name: of its destination."""

    def __init__(
        self,
        name: str,
        remote: Remote,
        keys: Callable[[Any], np.ndarray],
        heads: Callable[[], list[int]],
        lines: ReadLines,
    ) -> None:
        """keys: of pairs of namespace and value, uint64[n, 2]. heads: log entries by partition.
        lines: to the edge's process, if it is on this machine."""
        self.name = name
        self._remote = remote
        self._lines = lines
        self._keys = keys
        self._heads = heads

    @property
    def path(self) -> str:
        """The directory of its files, on the edge's machine: what ``open_edge`` takes."""
        return self.status().path

    def profile(self, namespace: str, value: str) -> EdgeProfile | None:
        """The profile that has an identity, as the edge knows it; None if it has none. See
        ``profiles``."""
        return self.profiles([(namespace, value)])[0]

    def profiles(self, identities: Pairs) -> list[EdgeProfile | None]:
        """Many profiles at once, in the order asked, None for those that the edge does not have.

        Each has what the destination's projections chose. ``stale`` says that something has passed
        its ``valid_until``, and the hub has not said yet what came after. Each profile is decoded
        when it is first read. Cost: 0.3 ms a call on the edge's machine, else 2 ms; 8 us a profile,
        and 10 us for one that is read. Raises StoreUnavailable if the edge does not answer within
        ``Config.call_timeout_s``; the hub need not answer.
        """
        return self.by_keys(self._keys(identity_pairs(identities)).tobytes())

    def by_keys(self, keys: bytes) -> list[EdgeProfile | None]:
        """The same by identity keys of 16 bytes, one after the other."""
        out: list[EdgeProfile | None] = []
        size = KEY_BYTES * LOOK_UPS_PER_CALL
        for first in range(0, len(keys), size):
            now, sizes, data = loads(self._read(keys[first : first + size]))
            out += _made(now, sizes, data, self._renew)
        return out

    def _read(self, keys: bytes) -> bytes:
        """By a direct line if there is one; else by Ray, which knows what to do about an edge that
        restarts."""
        asked = self._lines.begin(0, keys)
        if asked is not None:
            with contextlib.suppress(Unanswered):
                answer = self._lines.finish(asked)
                assert answer is not None, "an edge knows of no definitions that could be older"
                return answer
        found: bytes = self._remote.call("read", keys)
        return found

    def _renew(self, damage: str) -> None:
        """Raises StoreUnavailable."""
        self._remote.call("renew", damage)
        raise StoreUnavailable(
            f"expected whole profiles, got '{damage}' - at edge {self.name!r}; its files are made"
            " anew: ask again in a while, or ask the store"
        ) from None

    def keys(self) -> Iterator[list[bytes]]:
        """The keys of all profiles that it has, in pages."""
        after = b""
        while page := self._remote.call("keys", after, LOOK_UPS_PER_CALL):
            yield page
            after = page[-1]

    def status(self, timeout_s: float | None = None) -> EdgeStatus:
        """Its account of itself."""
        found: EdgeStatus = self._remote.call("status", timeout_s=timeout_s)
        return found

    def wait(self, timeout_s: float = 60.0) -> None:
        """Wait until the edge has everything that the store has acknowledged by now. Raises
        StoreUnavailable if it has not in time."""
        heads, end = self._heads(), time.monotonic() + timeout_s
        while True:
            found = self.status()
            if found.is_complete and all(map(int.__ge__, found.positions, heads)):
                return
            if time.monotonic() > end:
                raise StoreUnavailable(
                    f"expected edge {self.name!r} to have all within {timeout_s:g} s, got"
                    f" {found.positions} of {heads} log entries"
                    f" ({found.trouble or f'{100 * found.progress:.0f} % copied'}); it goes on:"
                    " ask status() for its lag"
                )
            time.sleep(WAIT_PAUSE_S)


def _made(now: int, sizes: list[int], data: bytes, damaged: Damaged) -> list[EdgeProfile | None]:
    view, end = memoryview(data), 0
    bodies = []
    for size in sizes:
        if size >= 0:
            bodies.append(view[end : end + size])
            end += size
    rows, numbers = EdgeBodies(now, bodies, damaged), iter(range(len(bodies)))
    return [None if size < 0 else EdgeProfile.of(rows, next(numbers)) for size in sizes]


class OpenEdge:
    """An edge's files, read in this process beside the actor that writes them (``open_edge``)."""

    def __init__(self, directory: Path) -> None:
        self._reader = EdgeReader(directory)
        self._packers: dict[str, Callable[[str], bytes]] = {}
        self._packers_of: EdgeIndex | None = None
        self._looking = Lock()

    def __enter__(self) -> OpenEdge:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the files."""
        with self._looking:
            self._reader.close()

    def profile(self, namespace: str, value: str) -> EdgeProfile | None:
        """The profile that has an identity; None if the edge has none. See ``Edge.profiles``: a
        look-up here does not keep a profile from leaving the edge (``ttl_s``). Cost: some 10
        us."""
        if type(value) is str and value.isascii():
            with self._looking, contextlib.suppress(CorruptLog, StoreUnavailable):
                generation = self._reader.current(time.monotonic())
                index = self._reader.index
                if index is self._packers_of and index.clock == "wall":
                    packer = self._packers.get(namespace)
                    if packer is not None:
                        data = generation.found(packer(value))
                        return None if data is None else profile_of(body_of(data), wall_ms())
        return self._looked_up([identity_pair((namespace, value))])[0]

    def profiles(self, identities: Pairs) -> list[EdgeProfile | None]:
        """Many at once, as of one moment. Any thread; they take turns."""
        return self._looked_up(identity_pairs(identities))

    def _looked_up(self, pairs: list[tuple[str, str]]) -> list[EdgeProfile | None]:
        with self._looking:
            try:
                return self._profiles(pairs)
            except (CorruptLog, StoreUnavailable):  # another generation took its place just then
                return self._profiles(pairs)

    def _profiles(self, pairs: list[tuple[str, str]]) -> list[EdgeProfile | None]:
        generation = self._reader.current(time.monotonic())
        index = self._reader.index
        keys = [self._packer(index, code)(value) for code, value in pairs]
        with generation.reading() as rows:
            now = wall_ms() if index.clock == "wall" else _newest(rows, index.partitions)
            every = edge_copy.found_of(rows, keys)
        return [None if one is None else profile_of(body_of(one[1]), now) for one in every]

    def _packer(self, index: EdgeIndex, code: str) -> Callable[[str], bytes]:
        if index is not self._packers_of:
            self._packers = {
                code: key_packer(one, index.seed) for code, one in index.namespaces.items()
            }
            self._packers_of = index
        packer = self._packers.get(code)
        if packer is None:
            known = ", ".join(sorted(self._packers)) or "none yet"
            raise DefinitionError(
                f"expected the code of a namespace, got {code!r} - at a look-up; known: {known}"
            )
        return packer


def _newest(rows: edge_copy.EdgeRows, partitions: int) -> int:
    return max(edge_copy.standing(rows, partition).now for partition in range(partitions))


def open_edge(directory: str | Path) -> OpenEdge:
    """Read an edge's files in this process: no call leaves it, nor waits for the actor.

    directory: ``store.edge(name).path``, on the edge's machine; once per process. Raises
    StoreUnavailable where there is no edge.
    """
    return OpenEdge(Path(directory))
