"""Look-ups at an edge, below Ray: beside its files in this process, and through a caller."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any, cast

import msgspec
import numpy as np
import pytest

import profile_actors as pf
from profile_actors.actors.read_line import ReadLine
from profile_actors.actors.wire import dumps
from profile_actors.definitions.declared import Namespace
from profile_actors.driver.edges.remote_edge import Edge
from profile_actors.driver.read_lines import ReadLines
from profile_actors.engine.edges.edge_copy import IDS, META, OWNER, PROFILES, Standing
from profile_actors.engine.edges.edge_rows import Row, row_bytes
from profile_actors.ingest.identity_keys import key_packer
from profile_actors.storage.edge_files import EdgeFiles, EdgeIndex

MAIL = Namespace("Email", "email", normalize=("trim", "lower"))
ABOUT = EdgeIndex(0, "a store", "a boot", "event", 7, 2)


def body(value: str, spent: float) -> bytes:
    who, spent_by = [("Email", value)], {"spent": spent}
    return msgspec.msgpack.encode(
        Row(who, 5, {}, {"in": 1}, [3], [1_000], [2], spent_by, [None], 1_000, {})
    )


def put(files: EdgeFiles, value: str, spent: float, now: int) -> None:
    key = key_packer(MAIL, ABOUT.seed)(value)
    with files.current.writing() as rows:
        rows.put(PROFILES, key, row_bytes(0, key, body(value, spent)))
        rows.put(IDS, key, OWNER.pack(0, key))
        rows.put(META, b"place 1", msgspec.msgpack.encode(Standing(now=now)))


@pytest.fixture
def files(tmp_path: Path) -> EdgeFiles:
    """An edge's files with ann in them, as another process writes them: this one reads them, which
    it may do but once."""
    made = EdgeFiles(tmp_path / "e", ABOUT, 1 << 24)
    put(made, "ann@x", 12.5, now=900)
    made.tell({"Email": MAIL})
    made.close()
    return made


def test_an_edge_is_read_beside_its_actor(files: EdgeFiles) -> None:
    with pf.open_edge(files.directory) as beside:
        ann = beside.profile("Email", " ANN@x")
        assert ann is not None
        assert (ann.computed, ann.now, ann.stale) == ({"spent": 12.5}, 900, False)
        assert beside.profiles([("Email", "bob@x"), pf.Identity("Email", "ann@x")]) == [None, ann]
        assert beside.profiles([]) == []
        with pytest.raises(pf.DefinitionError, match="known: Email"):
            beside.profile("Phone", "1")
        with pytest.raises(pf.CallerError):
            beside.profiles(cast(Any, "ann@x"))
        with pytest.raises(pf.ConfigError, match="does not read yet"):
            pf.open_edge(files.directory)
    with pytest.raises(pf.StoreUnavailable, match="the files of an edge"):
        pf.open_edge(files.directory.parent)


def test_the_edges_now_is_the_newest_of_all_partitions(files: EdgeFiles) -> None:
    again = EdgeFiles(files.directory, ABOUT, 1 << 24)
    put(again, "ann@x", 12.5, now=1_000)
    again.close()
    with pf.open_edge(files.directory) as beside:
        ann = beside.profile("Email", "ann@x")
        assert ann is not None
        assert ann.stale
        assert ann.segments["in"].status == "exited"
        assert ann.segments["in"].last_qualification_time == 1_000


class Caller:
    """The way to an edge's actor, which answers what it is given."""

    def __init__(self, *bodies: bytes | None) -> None:
        sizes = [-1 if one is None else len(one) for one in bodies]
        self.answer = dumps((900, sizes, b"".join(one or b"" for one in bodies)))
        self.renewed: list[str] = []
        self.line: ReadLine | None = None
        self.calls: list[str] = []
        self.timeout_s, self.session = 5.0, contextlib.nullcontext()

    def begin(self, method: str) -> Any:
        assert method == "line"
        return self.line and self.line.address()

    def finish(self, answer: Any, _: object) -> Any:
        return answer

    def call(self, method: str, *args: Any) -> Any:
        self.calls.append(method)
        if method == "renew":
            self.renewed += args
            return None
        assert method == "read"
        return self.answer


def edge_of(caller: Caller) -> Edge:
    keys = lambda pairs: np.zeros((len(pairs), 2), np.uint64)  # noqa: E731
    return Edge("e", cast(Any, caller), keys, list, ReadLines([cast(Any, caller)]))


def test_answers_come_in_the_order_asked_and_are_decoded_when_they_are_read() -> None:
    caller = Caller(None, body("ann@x", 1.0), None, b"\xc1", body("bob@x", 2.0))
    nobody, ann, _, damaged, bob = edge_of(caller).profiles([("Email", "x")] * 5)
    assert nobody is None
    assert [one and one.computed for one in (ann, bob)] == [{"spent": 1.0}, {"spent": 2.0}]
    assert caller.renewed == []
    assert damaged is not None
    with pytest.raises(pf.StoreUnavailable, match="made anew"):
        _ = damaged.stale
    assert len(caller.renewed) == 1


def test_an_edge_of_this_machine_is_asked_by_a_direct_line_while_there_is_one() -> None:
    caller, asked = Caller(body("ann@x", 1.0)), []

    def read(keys: bytes) -> bytes:
        asked.append(keys)
        return caller.answer

    caller.line = ReadLine(read, most=4, at_once=2)
    edge = edge_of(caller)
    for _ in range(2):
        (ann,) = edge.profiles([("Email", "ann@x")])
        assert ann is not None
        assert ann.computed == {"spent": 1.0}
    assert (asked, caller.calls) == ([bytes(16)] * 2, [])
    caller.line.close()
    assert edge.profile("Email", "ann@x") == ann
    assert (len(asked), caller.calls) == (2, ["read"])
