"""``store.access``: all that a store holds on a person, as files that a person can read.

Theory: what is held on her is what was said of her identities, and what follows from it. The former
are the rows of each identity, which stand in the log of its owner however the store puts people
together (``engine/trials/held_rows``); the latter her profile, memberships and links, as look-ups
show them. Files are written aside and get their directory's name when they are whole.

Identities that are not hers, which links and rows name beside her own, are those of others: they
are counted and dated, and their values withheld. What a row says in its fields is left as it came.

Cost: her own rows; one pass over the feed, for the history of her memberships (0.2 us a change of
anybody's), and one over the quarantine (some 10 us a row). Memory: a page of each.
"""

from __future__ import annotations

import os
import shutil
import time
import uuid
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec
import pyarrow as pa
import pyarrow.compute as pc

from profile_actors.actors.calls import Remote
from profile_actors.definitions.declared import Catalogue
from profile_actors.driver.connection import Connection
from profile_actors.driver.edges.remote_edge import Edge
from profile_actors.driver.files.naming_rows import names_one_of
from profile_actors.driver.files.whole_files import check_place
from profile_actors.driver.identity_graphs import IdentityGraph, identity_graph
from profile_actors.driver.iterators import Changes, oldest_cursor
from profile_actors.engine.identity.identity import Identity
from profile_actors.engine.reading.answers import PROFILE_FIELDS, Profile
from profile_actors.engine.trials.held_rows import HeldPage, HeldRow
from profile_actors.errors import CallerError, CursorExpired, Pending, StoreUnavailable
from profile_actors.ingest.files.places import is_remote, local_path
from profile_actors.ingest.identity_keys import normalised
from profile_actors.rules.catalogue.merge_views import is_single

PAGE_ROWS = 5_000
"""Rows of one call: each looks through the places of all rows of an identity."""


PAUSE_S = 0.05
"""Between looks at who she is, while she is being put together."""


FILES = {
    "profile.json": "the profile as look-ups show it: identities, attributes and their sources,"
    " memberships, computed attributes; views: the attributes by each other merge policy",
    "events.ndjson": "every event of each of her identities, in the order in which they came",
    "records.ndjson": "every row of records, those too that newer ones have replaced",
    "links.ndjson": "every link at one of her identities: its newest evidence, what became of it",
    "changes.ndjson": "each change of a membership or computed attribute that the feed still has",
    "rejected.ndjson": "rejected rows in the quarantine that name one of her identities",
    "edges.json": "what each edge keeps of her",
}


class AccessReport(msgspec.Struct, frozen=True):
    """What was written. asked: the identity that was asked for; identities: all of hers, the
    canonical one first. files: the objects in each file. now: ms, of the profile; None if she has
    none. positions: partition -> entries of its log whose rows were looked at. feed: the cursor
    from which the feed reaches, and the instant (ms) of the oldest change in it, None if there is
    none. notes: what could not be looked at, and why. bytes: of these files."""

    path: str
    asked: Identity
    identities: list[Identity]
    files: dict[str, int]
    now: int | None
    positions: dict[int, int]
    feed: tuple[str, int | None]
    notes: list[str]
    bytes: int
    seconds: float


def accessed(
    connection: Connection,
    ledger: Remote | None,
    newest: Catalogue,
    edges: dict[str, Edge | None],
    asked: tuple[str, str],
    path: str | Path,
) -> AccessReport:
    """See ``Store.access``. ledger: None while none runs; edges: None for one that does not run."""
    place = _place(path, connection.path)
    namespace, value = asked[0], normalised(connection.namespace(asked[0]), asked[1])
    began = time.perf_counter()
    aside = place.with_name(f"{place.name}.{uuid.uuid4().hex[:8]}.aside")
    place.parent.mkdir(parents=True, exist_ok=True)
    aside.mkdir(mode=0o700)
    try:
        folder = _Folder(aside)
        one = _Person(connection, ledger, newest, Identity(namespace, value), folder)
        one.write(edges)
        report = AccessReport(
            str(place), one.asked, one.identities, folder.files,
            None if one.profile is None else one.profile.now, one.positions, one.feed, one.notes,
            folder.bytes, time.perf_counter() - began,
        )  # fmt: skip
        about = msgspec.to_builtins(report, str_keys=True)
        about["contents"] = FILES
        folder.write("access.json", [msgspec.json.format(msgspec.json.encode(about))])
        folder.sync()
        _rename(aside, place)
    except BaseException:
        shutil.rmtree(aside, ignore_errors=True)
        raise
    return report


def _place(path: str | Path, data: str) -> Path:
    """Where the directory is to be. Raises CallerError."""
    if is_remote(str(path)):
        raise CallerError(
            f"expected a local directory, got {str(path)!r} - at access; copy it there afterwards"
        )
    check_place(str(path), data, "access")
    place = Path(os.path.realpath(local_path(str(path))))
    _refuse_full(place)
    return place


def _refuse_full(place: Path) -> None:
    if place.exists() and not (place.is_dir() and not any(place.iterdir())):
        raise CallerError(
            f"expected a directory that is new or empty, got {str(place)!r}, which has something in"
            " it - at access; name another, or delete what is there"
        )


def _rename(aside: Path, place: Path) -> None:
    try:
        os.rename(aside, place)  # over an empty directory too
    except OSError:
        _refuse_full(place)  # somebody else was faster
        raise
    parent = os.open(place.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(parent)
    finally:
        os.close(parent)


class _Folder:
    """The directory that is written. files: the objects in each; bytes: of all together."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.files: dict[str, int] = {}
        self.bytes = 0

    def json(self, name: str, value: Any, count: int) -> None:
        """One document, laid out for people."""
        self.write(name, [msgspec.json.format(_ENCODE(value))])
        self.files[name] = count

    def lines(self, name: str, objects: Iterable[Any]) -> None:
        """One object a line."""
        count = 0

        def encoded() -> Iterator[bytes]:
            nonlocal count
            for one in objects:
                yield _ENCODE(one)
                count += 1

        self.write(name, encoded())
        self.files[name] = count

    def write(self, name: str, lines: Iterable[bytes]) -> None:
        """A file that its owner alone may read."""
        handle = os.open(self._path / name, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with open(handle, "wb") as file:
            for line in lines:
                self.bytes += file.write(line) + file.write(b"\n")
            file.flush()
            os.fsync(file.fileno())

    def sync(self) -> None:
        handle = os.open(self._path, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


class _Person:
    """She who is asked for, and what is found on her."""

    def __init__(
        self,
        connection: Connection,
        ledger: Remote | None,
        newest: Catalogue,
        asked: Identity,
        folder: _Folder,
    ) -> None:
        self._connection = connection
        self._ledger = ledger
        self._catalogue = newest
        self._folder = folder
        self.asked = asked
        self.notes: list[str] = []
        self.positions: dict[int, int] = {}
        self.feed: tuple[str, int | None] = ("", None)
        self.profile, self.graph = self._settled()
        self.identities = self.graph.members
        self._hers = set(self.identities)

    def _settled(self) -> tuple[Profile | None, IdentityGraph]:
        """Profile and graph that say the same of who she is: while they differ, what is hers and
        what is another's cannot be told apart. Raises Pending."""
        pair = (self.asked.namespace, self.asked.value)
        end = time.monotonic() + self._connection.config.pending_wait_ms / 1000
        while True:
            graph = identity_graph(self._connection, self._ledger, *pair)
            profile = self._view(None)
            shown = [self.asked] if profile is None else profile.identities
            if set(shown) == set(graph.members) or is_single(self._catalogue, None):
                return profile, graph
            if time.monotonic() > end:
                raise Pending(
                    f"expected a profile of {len(graph.members)} identities, as the links say, got"
                    f" one of {len(shown)} - at access; the person is just being put together, ask"
                    " again in a moment (status() says what messages wait for)"
                )
            time.sleep(PAUSE_S)

    def _view(self, policy: str | None) -> Profile | None:
        return self._views(policy, [self.asked])[0]

    def _views(self, policy: str | None, ones: Sequence[Identity]) -> list[Profile | None]:
        fields = self._connection.asked_under(None, lambda: self._catalogue, policy, True)
        return self._connection.profiles([(one.namespace, one.value) for one in ones], fields)

    def write(self, edges: dict[str, Edge | None]) -> None:
        """All files but the index."""
        out = self._folder
        out.json("profile.json", self._profile(), int(self.profile is not None))
        out.lines("events.ndjson", self._rows(False))
        out.lines("records.ndjson", self._rows(True))
        out.lines("links.ndjson", self._evidence())
        out.lines("changes.ndjson", self._changes())
        out.lines("rejected.ndjson", self._rejected())
        copies = self._copies(edges)
        out.json("edges.json", copies, sum(map(len, copies.values())))

    def _profile(self) -> dict[str, Any] | None:
        if self.profile is None:
            return None
        found = _plain(self.profile)
        views: dict[str, Any] = {}
        for name, policy in sorted(self._catalogue.merge_policies.items()):
            if policy.stitching == "none":
                each = self._views(name, self.identities)
                views[name] = [_plain(one) for one in each if one is not None]
                continue
            if policy.default:
                continue
            one = self._view(name)
            if one is None or set(one.identities) != self._hers:
                raise Pending(
                    "expected the person to stay who she is while she is read, got one of other"
                    " identities - at access; ask again"
                )
            views[name] = {"attributes": one.attributes, "sources": one.sources}
        return found | {"views": views}

    def _rows(self, is_record: bool) -> Iterator[dict[str, Any]]:
        """The rows of each identity, at its owner."""
        for one in self.identities:
            partition, key = self._connection.owner(one.namespace, one.value)
            after: tuple[int, int] | None = (-1, -1)
            upto: int | None = None
            while after is not None:
                page = self._page(partition, key, is_record, after, upto)
                after, upto = page.after, page.upto
                self.positions[partition] = max(upto, self.positions.get(partition, 0))
                yield from (self._row(one, partition, row) for row in page.rows)

    def _page(self, partition: int, *asked: Any) -> HeldPage:
        actor, version = self._connection.partitions[partition], self._connection.catalogue.version
        while True:
            page: HeldPage | None = actor.call("preview", version, "held", *asked, PAGE_ROWS)
            if page is not None:
                return page
            self._connection.deliver(partition)

    def _row(self, one: Identity, partition: int, row: HeldRow) -> dict[str, Any]:
        out: dict[str, Any] = {
            "identity": one,
            "dataset": row.dataset,
            "time": row.time,
            "received": row.received,
            "partition": partition,
            "position": row.position,
            "row": row.row,
        }
        if row.others:
            out["others"] = [self._known(other) for other in row.others]
        if row.deletes:
            out["deletes"] = True
        if row.appends:
            out["appends"] = row.appends
        return out | {"fields": row.fields}

    def _known(self, one: Identity) -> dict[str, str | None]:
        """An identity; of one that is not hers only the namespace."""
        return {"namespace": one.namespace, "value": one.value if one in self._hers else None}

    def _evidence(self) -> Iterator[dict[str, Any]]:
        for found in self.graph.links:
            yield {
                "one": self._known(found.one),
                "other": self._known(found.other),
                "at": found.at,
                "verdict": found.verdict,
                "by": found.by,
            }

    def _changes(self) -> Iterator[dict[str, Any]]:
        """Changes under any of her identities, oldest first in each partition."""
        while True:
            cursor = oldest_cursor(self._connection)
            batches = Changes(self._connection, cursor, False).batches()
            try:
                first = next(batches, None)
                break
            except CursorExpired:  # some were dropped just now
                continue
        values = pa.array(sorted({one.value for one in self.identities}), pa.string())
        oldest = None if first is None else _milliseconds(first)
        self.feed = (cursor, oldest)
        batch = first
        while batch is not None:
            some = batch.filter(pc.is_in(batch.column("id").cast(pa.string()), values))
            instants = some.column("at").cast(pa.int64()).to_pylist()
            for at, change in zip(instants, some.to_pylist(), strict=True):
                if Identity(change["namespace"], change["id"]) in self._hers:
                    yield {k: v for k, v in change.items() if v is not None} | {"at": at}
            batch = next(batches, None)

    def _rejected(self) -> Iterator[dict[str, Any]]:
        coordinator = self._connection.coordinator
        for name, dataset in sorted(self._catalogue.datasets.items()):
            names = names_one_of(self.identities, dataset, self._catalogue.namespaces)
            start, rows = 0, [None]
            while rows:
                rows, start = coordinator.call("quarantine_page", name, start, PAGE_ROWS)
                for row in filter(names, rows):
                    yield {"dataset": name} | msgspec.to_builtins(row)

    def _copies(self, edges: dict[str, Edge | None]) -> dict[str, list[dict[str, Any]]]:
        """What each edge keeps of her."""
        out: dict[str, list[dict[str, Any]]] = {}
        pairs = [(one.namespace, one.value) for one in self.identities]
        for name, edge in edges.items():
            out[name] = []
            if edge is None:
                self.notes.append(f"edge {name!r} does not run: what it keeps was not looked at")
                continue
            try:
                found = edge.profiles(pairs)
            except StoreUnavailable as error:
                self.notes.append(f"edge {name!r} was not looked at: {error}")
                continue
            for copy in found:
                if copy is None:
                    continue
                if not self._hers.issuperset(copy.identities):
                    self.notes.append(
                        f"edge {name!r} still shows one of her identities as somebody else's: that"
                        " copy was left out; ask again when it has caught up"
                    )
                elif (plain := _plain(copy)) not in out[name]:
                    out[name].append(plain)
        self.notes = list(dict.fromkeys(self.notes))
        return out


def _plain(profile: Profile) -> dict[str, Any]:
    return {name: getattr(profile, name) for name in PROFILE_FIELDS}


def _milliseconds(batch: pa.RecordBatch) -> int | None:
    """The instant of a batch's first change."""
    if not batch.num_rows:
        return None
    return int(batch.column("at").cast(pa.int64())[0].as_py())


_ENCODE = msgspec.json.Encoder(enc_hook=str, decimal_format="number").encode
