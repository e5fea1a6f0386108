"""One entry without a person: no text of hers in any part of it, whatever its columns are."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from profile_actors.engine.erasure.eraser import Eraser
from profile_actors.engine.identity.messages import HOME, Named, Op, book_key, encode_ops
from profile_actors.engine.log.entry import NO_MAIL, Block, Mail, NewIdentities, decode, encode

ANN, BEN = Named(11, 12, "ECID", "ann-the-one"), Named(21, 22, "ECID", "ben-the-other")
OTHERS = pa.list_(
    pa.struct(
        [("namespace", pa.string()), ("value", pa.string()), ("k0", pa.uint64()),
         ("k1", pa.uint64())]
    )
)  # fmt: skip


def entry(columns: dict[str, Any], idents: list[int]) -> bytes:
    """Rows of Ann (ident 0) and Ben (1)."""
    names = NewIdentities(
        0,
        pa.table({
            "@k0": pa.array([ANN.k0, BEN.k0], pa.uint64()),
            "@k1": pa.array([ANN.k1, BEN.k1], pa.uint64()),
            "@namespace": ["ECID", "ECID"],
            "@value": [ANN.value, BEN.value],
        }),
    )  # fmt: skip
    times = np.arange(len(idents))
    table = pa.table({"@timestamp": pa.array(times, pa.int64()), **columns})
    block = Block("hits", table, np.array(idents), times, times)
    return b"".join(bytes(part) for part in encode("rows", 1, 5, 1, (), names, [block]))


def erased(data: bytes) -> tuple[bytes, pa.Table]:
    parts = Eraser([ANN]).erased(data, "here")
    assert parts is not None
    out = b"".join(bytes(part) for part in parts)
    return out, decode(memoryview(out), "there").blocks[0].table


@pytest.mark.parametrize("idents", [[0, 1], [1, 1]])
def test_words_that_only_she_said_leave_the_dictionaries(idents: list[int]) -> None:
    """With the second idents her row went to another partition, and its word came along."""
    words = pa.array(["her-own-type", "buy", None]).dictionary_encode()
    column = words if idents[0] == 0 else words.take(pa.array([1, 2]))
    idents = [*idents, 1] if idents[0] == 0 else idents
    out, table = erased(entry({"@type": column}, idents))
    assert b"her-own-type" not in out
    assert table.column("@type").to_pylist() == ["buy", None]
    assert Eraser([Named(5, 6, "ECID", "unknown")]).erased(out, "there") is None


FAR = 10**15  # ms: beyond the year 9999


@pytest.mark.parametrize(
    ("kind", "his", "left"),
    [
        (pa.timestamp("ms"), FAR, FAR),
        (pa.timestamp("ms", "UTC"), -FAR, -FAR),
        (pa.date32(), 10**8, 10**8),
        (
            pa.list_(pa.struct([("at", pa.timestamp("ms")), ("who", pa.string())])),
            [{"at": FAR, "who": ANN.value}],
            [{"at": FAR, "who": None}],
        ),
        (
            pa.map_(pa.string(), pa.timestamp("ms")),
            [(ANN.value, 1), ("b", FAR)],
            [("b", FAR)],
        ),
        (pa.string(), " Ann-The-One", None),
        (pa.string(), "ann", "ann"),
    ],
)
def test_a_row_of_another_loses_her_texts_and_nothing_else(
    kind: pa.DataType, his: Any, left: Any
) -> None:
    named = [{"namespace": "ECID", "value": ANN.value, "k0": ANN.k0, "k1": ANN.k1}]
    data = entry(
        {"what": pa.array([None, his], kind), "@others": pa.array([None, named], OTHERS)}, [0, 1]
    )
    out, table = erased(data)
    assert ANN.value.encode() not in out.lower()
    assert table.column("what").combine_chunks().equals(pa.array([left], kind))
    assert table.column("@others").to_pylist() == [None]


def test_books_that_changed_places_do_so_in_all_later_entries() -> None:
    """The first of two books came with rows of hers: without them it is filled after the other one.
    Nobody is missing then, but the numbers are not those of before."""
    books = [book_key(*BEN.key, number) for number in (3, 4)]
    homes = [Op(HOME, BEN, BEN, number, number) for number in (3, 4)]
    told = Mail((("L", 1, 0),), (), encode_ops([("L", tuple(homes))]), b"")
    entries = [
        moved(0, ANN, books, told), moved(1, BEN), moved(0, BEN), moved(1, BEN), moved(0, BEN)
    ]  # fmt: skip
    eraser = Eraser([ANN])
    left = [eraser.erased(data, "here") for data in entries]
    whole = [
        data if parts is None else b"".join(bytes(part) for part in parts)
        for data, parts in zip(entries, left, strict=True)
    ]
    blocks = [decode(memoryview(data), "there").blocks for data in whole]
    idents = [[block.idents.tolist() for block in of] for of in blocks]
    assert idents == [[], [[0]], [[1]], [[0]], [[1]]]


def moved(
    ident: int, one: Named, given: Sequence[tuple[int, int]] = (), mail: Mail = NO_MAIL
) -> bytes:
    """An entry with a row of somebody in a book, and the books' idents."""
    names = pa.table({
        "@k0": pa.array([k0 for k0, _ in given], pa.uint64()),
        "@k1": pa.array([k1 for _, k1 in given], pa.uint64()),
        "@namespace": ["ECID"] * len(given),
        "@value": [BEN.value] * len(given),
    })  # fmt: skip
    row = {"@k0": pa.array([one.k0], pa.uint64()), "@k1": pa.array([one.k1], pa.uint64())}
    at = np.arange(1)
    table = pa.table({"@timestamp": pa.array([1], pa.int64()), **row})
    block = Block("hits", table, np.array([ident]), at, at)
    new = NewIdentities(0, names) if given else None
    parts = encode("rows", 1, 5, 1, (), new, [block], mail=mail)
    return b"".join(bytes(part) for part in parts)
