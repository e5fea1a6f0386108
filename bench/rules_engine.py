"""One partition over a real log in this process, and W1's events as columns, for ``rules.py``.

A partition here is what one actor holds, with the door in front of it: rows in, synced log entries,
folded columns, the feed. No Ray, so that a cost is the engine's own. ``Raw`` is the other side: the
events as numpy arrays, for answers that owe the engine nothing.
"""

from __future__ import annotations

import json
import math
import shutil
import time
from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv

from gen_w1 import TYPES
from machine import note
from profile_actors.config import Config
from profile_actors.definitions.catalogue_changes import extended
from profile_actors.definitions.declared import Catalogue
from profile_actors.engine.log.in_memory import MemoryCheckpoints, MemoryFeed, MemoryLog
from profile_actors.engine.log.sub_batch import SubBatch
from profile_actors.engine.partition.partition import Partition
from profile_actors.engine.reading.answers import Profile
from profile_actors.ingest.definition_files import parse_definitions
from profile_actors.ingest.door import Door
from profile_actors.ingest.identity_keys import key_of
from profile_actors.rules.language.parser import parse
from profile_actors.rules.reference.validity import value_at
from profile_actors.storage.checkpoint_files import FileCheckpoints
from profile_actors.storage.files.layout import PartitionLayout
from profile_actors.storage.lmdb_feed import LmdbFeed
from profile_actors.storage.scrub.mendable_log import MendableLog
from workload import NAMESPACE, definitions

SEED = 7
DAY_MS = 86_400_000
Declared = dict[str, list[dict[str, Any]]]


class Engine:
    """A partition with its log, feed and checkpoints in a folder that is made anew.

    in_memory: all three in memory instead, for a partition that is not opened again."""

    def __init__(
        self,
        folder: Path,
        declared: Declared,
        config: Config | None = None,
        *,
        in_memory: bool = False,
    ) -> None:
        self.config = config or Config()
        self._in_memory = in_memory
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        self.folder = folder
        self.catalogue = extended(Catalogue(), parse_definitions(json.dumps(declared), ".json"))
        self.doors = {
            name: Door(self.catalogue, name, SEED, self.config) for name in self.catalogue.datasets
        }
        self._sent: dict[str, int] = {}
        self.partition = self._opened()
        self.partition.define(self.catalogue, None)

    def _opened(self) -> Partition:
        if self._in_memory:
            parts = (MemoryLog(), MemoryFeed(), MemoryCheckpoints())
            return Partition(*parts, self.config, epoch=1, clock=time.thread_time)
        return Partition(
            MendableLog(self.folder, self.config, epoch=1),
            LmdbFeed(self.folder, self.config),
            FileCheckpoints(self.folder),
            self.config,
            epoch=1,
            clock=time.thread_time,
        )

    def reopen(self) -> None:
        """Open the partition again as after a crash: its newest checkpoint, and the log's tail."""
        self.partition.close()
        self.partition = self._opened()

    def forget_checkpoints(self) -> None:
        """Delete them: the next opening replays the whole log."""
        shutil.rmtree(PartitionLayout(self.folder).checkpoints)

    def __enter__(self) -> Engine:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.partition.close()
        shutil.rmtree(self.folder, ignore_errors=True)

    def batch(self, dataset: str, rows: Any, *, on_event_clock: bool = True) -> SubBatch:
        """Rows through the door, as the next sub-batch of this engine; none may be refused."""
        after = self._sent.get(dataset, 0)
        prepared = self.doors[dataset].prepare(rows, after, time.time_ns() // 1_000_000)
        if prepared.rejects:
            raise SystemExit(f"the door refused a row of the bench: {prepared.rejects[0]}")
        through = self._sent[dataset] = after + prepared.rows
        clock = prepared.clock if on_event_clock else None
        version = self.catalogue.version
        return SubBatch(dataset, dataset, after, through, version, clock, prepared.table)

    def load(self, dataset: str, table: pa.Table, block: int = 250_000) -> None:
        """Commit a table in blocks, rescans included."""
        for start in range(0, table.num_rows, block):
            self.commit(self.batch(dataset, table.slice(start, block).combine_chunks()))
            self.drain()

    def commit(self, batch: SubBatch) -> None:
        """One entry; all rows must be accepted."""
        (reply,) = self.partition.commit([batch], None)
        rows = 0 if batch.table is None else batch.table.num_rows
        if reply.status != "ok" or reply.accepted != rows:
            raise SystemExit(f"expected {rows} rows accepted, got {reply}")

    def drain(self) -> None:
        """Finish the rescans that are owed."""
        while self.partition.work(1 << 10):
            pass

    def profiles(self, users: Iterable[str]) -> list[Profile | None]:
        """Profiles of W1's users, in order."""
        namespace = self.catalogue.namespaces[NAMESPACE]
        return self.partition.profiles([key_of(namespace, user, SEED) for user in users])

    def rescanned(self) -> list[str]:
        """Names of the rules that no operator keeps up to date."""
        return sorted(rule.rule.name for rule in self.partition.state.book.rescans)


class Raw:
    """W1's events as arrays, one element per event in time order. user: the number in its id."""

    def __init__(self, table: pa.Table) -> None:
        self.table = table
        self.user = users_of(table)
        kinds = pc.index_in(table["eventType"], pa.array(TYPES))
        self.kind = kinds.to_numpy().astype(np.int64)
        self.price = table["price"].to_numpy()
        self.when = table["timestamp"].to_numpy()
        self.now = int(self.when.max())
        self.count = int(self.user.max()) + 1
        self._known: dict[tuple[str, int, int], np.ndarray] = {}

    def value(self, letter: str, kind: int, days: int = 0) -> np.ndarray:
        """Per user (0 …) the count, sum or max of price ('c', 's', 'm') of one type's events.

        days: only of the last so many, if given. A sum is correctly rounded, the max of none -inf.
        """
        key = (letter, kind, days)
        if key not in self._known:
            mask = self.kind == kind
            if days:
                mask &= self.when >= self.now - days * DAY_MS
            self._known[key] = _aggregated(letter, self.user[mask], self.price[mask], self.count)
        return self._known[key]

    def events_of(self, users: Sequence[int]) -> dict[int, list[dict[str, Any]]]:
        """The events of some users as plain documents, in order."""
        out: dict[int, list[dict[str, Any]]] = {user: [] for user in users}
        rows = np.flatnonzero(np.isin(self.user, np.array(list(out))))
        found = self.table.take(pa.array(rows)).to_pylist()
        for user, row in zip(self.user[rows].tolist(), found, strict=True):
            del row["user_id"]
            out[user].append(row)
        for events in out.values():
            events.sort(key=lambda event: (event["timestamp"], event["_id"]))
        return out


def _aggregated(letter: str, user: np.ndarray, price: np.ndarray, count: int) -> np.ndarray:
    if letter == "c":
        return np.bincount(user, minlength=count)
    if letter == "m":
        most = np.full(count, -np.inf)
        np.maximum.at(most, user, price)
        return most
    order = np.argsort(user, kind="stable")
    ends = np.concatenate(([0], np.cumsum(np.bincount(user, minlength=count)))).tolist()
    prices = price[order].tolist()
    return np.array([math.fsum(prices[a:b]) for a, b in pairwise(ends)])


def users_of(table: pa.Table) -> np.ndarray:
    """The numbers in ``user_id`` (u00000012 -> 12)."""
    return np.asarray(pc.cast(pc.utf8_slice_codeunits(table["user_id"], 1), pa.int64()).to_numpy())


def user_id(number: int) -> str:
    """W1's user by number."""
    return f"u{number:08d}"


def read_w1(path: Path) -> pa.Table:
    """A W1 file as one table with whole milliseconds and doubles."""
    types = {"timestamp": pa.int64(), "price": pa.float64()}
    options = pyarrow.csv.ConvertOptions(column_types=types, strings_can_be_null=False)
    return pyarrow.csv.read_csv(path, convert_options=options).combine_chunks()


def declare(
    rules: Iterable[tuple[str, str]],
    fields: Mapping[str, str] | None = None,
    *,
    keep_attributes: bool = False,
) -> Declared:
    """W1's namespace, schema and dataset with these segments instead of its own.

    fields: more of an event's fields. keep_attributes: with W1's 20 computed attributes.
    """
    declared = definitions()
    declared["schemas"][0]["fields"] |= fields or {}
    declared["segments"] = [{"name": name, "rule": rule} for name, rule in rules]
    if not keep_attributes:
        declared["computed_attributes"] = []
    return declared


def expected_members(
    rules: Iterable[tuple[str, str]],
    events: dict[int, list[dict[str, Any]]],
    now: int,
    records: dict[int, dict[str, Any]] | None = None,
) -> dict[str, set[int]]:
    """Members by rule among the given users, by the reference evaluator over plain documents."""
    out = {}
    for name, rule in rules:
        tree = parse(rule)
        out[name] = {
            user
            for user, own in events.items()
            if value_at(tree, (records or {}).get(user), own, now)
        }
    return out


def check(what: str, expected: dict[str, Any], got: dict[str, Any]) -> int:
    """Compare answers by name; returns how many, and ends the run if any differs."""
    wrong = [name for name in expected if expected[name] != got.get(name)]
    for name in wrong[:10]:
        note(f"  wrong: {name}: expected {_short(expected[name])}, got {_short(got.get(name))}")
    if wrong:
        raise SystemExit(f"{len(wrong)} of {len(expected)} {what} differ; a wrong run has no speed")
    return len(expected)


def _short(value: Any) -> str:
    if isinstance(value, set | frozenset):
        return f"{len(value)}: {sorted(value)[:5]}"
    return str(value)[:80]


def members_among(profiles: dict[int, Profile | None], names: Iterable[str]) -> dict[str, set[int]]:
    """Members by segment among looked-up profiles (user -> profile)."""
    out: dict[str, set[int]] = {name: set() for name in names}
    for user, profile in profiles.items():
        for name, membership in (profile.segments if profile else {}).items():
            if membership.status == "realized":
                out[name].add(user)
    return out
