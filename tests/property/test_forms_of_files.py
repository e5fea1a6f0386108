"""One set of documents gives the same rows, rejects and paths in every form of a file."""

from __future__ import annotations

import bz2
import csv
import datetime as dt
import gzip
import io
import json
import math
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from profile_actors.config import Config
from profile_actors.definitions.catalogue_changes import extended
from profile_actors.definitions.declared import Catalogue, Dataset, Field, Namespace, Schema
from profile_actors.errors import SchemaError
from profile_actors.ingest.door import Door, Prepared
from profile_actors.ingest.files.byte_sources import packed_with
from profile_actors.ingest.files.forms import read_blocks, text_blocks
from profile_actors.ingest.files.json_tables import JsonTables
from profile_actors.ingest.files.places import form_of
from profile_actors.ingest.rejects import Reject
from profile_actors.ingest.row_blocks import RowBlock

WALL_MS = 1_800_000_000_000
FIELDS = {
    "s": "string", "n": "integer", "d": "double", "b": "boolean", "m": "decimal(2)",
    "when": "timestamp", "day": "date", "tags": "string[]", "qty": "map<integer>",
    "addr.city": "string", "addr.zip": "integer", "addr.geo.lat": "double",
    "items[].sku": "string", "items[].price": "double",
}  # fmt: skip


def catalogue(**options: Any) -> Catalogue:
    declared: dict[str, str | Field] = {path: Field(kind) for path, kind in FIELDS.items()}
    declared["n"] = Field("integer", minimum=-3, maximum=2**62)
    roles: dict[str, Any] = {"identities": {"who": "Email"}, "timestamp": "at", "id": "_id"}
    roles |= {"event_type_field": "what", "identity_map": "ids", "ignore": ("junk", "addr.junk")}
    return extended(
        Catalogue(),
        [
            Namespace("Email", kind="email", normalize=("trim", "lower")),
            Namespace("Phone", kind="phone", priority=2),
            Schema("visit", behavior="event", fields=declared),
            Dataset("visits", "visit", **roles | options),
        ],
    )


PLAIN = catalogue()


def door(known: Catalogue = PLAIN) -> Door:
    return Door(known, "visits", 7, Config())


def read(path: Path, block_bytes: int = 10_000_000, known: Catalogue = PLAIN) -> list[RowBlock]:
    packing, form = packed_with(path), form_of(path.name)
    assert form is not None
    size = path.stat().st_size
    tables = JsonTables(known, "visits")
    blocks = list(read_blocks(path, form, packing, block_bytes, tables, size))
    assert [b.first_row for b in blocks] == [sum(map(len, blocks[:i])) for i in range(len(blocks))]
    return blocks


Outcome = tuple[list[dict[str, Any]], list[tuple[int, str, str]]]


def outcome(parts: list[Prepared]) -> Outcome:
    rejects = [(r.row, r.path, r.reason) for part in parts for r in part.rejects]
    return [row for part in parts for row in part.table.to_pylist()], rejects


def of_file(path: Path, block_bytes: int = 10_000_000, known: Catalogue = PLAIN) -> Outcome:
    one = door(known)
    return outcome([one.prepare(b, b.first_row, WALL_MS) for b in read(path, block_bytes, known)])


def of_dicts(rows: list[Any], known: Catalogue = PLAIN) -> Outcome:
    return outcome([door(known).prepare(rows, 0, WALL_MS)])


def places(found: Outcome) -> tuple[list[dict[str, Any]], list[tuple[int, str]]]:
    """Without the words: Arrow shows a struct with the fields that the row did not have."""
    return found[0], [(row, path) for row, path, _ in found[1]]


PACKERS: dict[str, Any] = {
    "": lambda data: data,
    ".gz": gzip.compress,
    ".bz2": bz2.compress,
    ".zst": lambda data: pa.compress(data, "zstd", asbytes=True),
    ".lz4": lambda data: _streamed(data, "lz4"),
    # Two packed files, one behind the other, are one.
    "twice": lambda data: gzip.compress(data[:7]) + gzip.compress(data[7:]),
}


def _streamed(data: bytes, codec: str) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.CompressedOutputStream(sink, codec) as stream:
        stream.write(data)
    return bytes(sink.getvalue())


packers = st.sampled_from(sorted(PACKERS))
words = st.text(st.characters(codec="utf-8"), max_size=5)
iso = st.sampled_from(("2020-01-01", "2020-01-01T10:11:12Z", "1999-12-31 23:59:59.5", "soon", "1"))
numbers = st.integers(-5, 5) | st.integers(-(2**63), 2**63 - 1)
finite = st.floats(allow_nan=False, allow_infinity=False)

# For each column ways in which all of its values come; most fit what is declared.
COLUMNS: dict[str, tuple[st.SearchStrategy[Any], ...]] = {
    "s": (words, words, numbers),
    "n": (numbers, numbers, finite, words),
    "d": (finite, numbers, words, st.booleans()),
    "b": (st.booleans(), st.booleans(), st.sampled_from(("true", "x"))),
    "m": (st.integers(-9, 9), st.sampled_from((0.5, 1.25, 1.005)), st.sampled_from(("1.5", "x"))),
    "when": (st.integers(0, 2**41), iso, finite),
    "day": (st.sampled_from(("2020-01-01", "2020-02-30")), st.integers(0, 9)),
    "tags": (st.lists(st.none() | words, max_size=3), st.lists(numbers, max_size=2), words),
    "qty": (st.dictionaries(st.sampled_from("ab"), st.none() | st.integers(0, 9), max_size=2),),
    "addr": (
        st.fixed_dictionaries(
            {},
            optional={
                "city": words,
                "zip": numbers,
                "geo": st.fixed_dictionaries({}, optional={"lat": finite | numbers}),
                "junk": words,
                "more": st.none() | st.just("x"),
            },
        ),
        st.fixed_dictionaries({}, optional={"city": words, "zip": words}),
        words,
    ),
    "items": (
        st.lists(
            st.fixed_dictionaries(
                {}, optional={"sku": words, "price": finite, "more": st.just(1)}
            ),
            max_size=2,
        ),
        st.lists(st.fixed_dictionaries({"sku": numbers}), max_size=2),
    ),
    "who": (st.sampled_from(("A@x", " b@x\t", "é@x", "")), st.integers(1, 3)),
    "ids": (
        st.fixed_dictionaries(
            {},
            optional={
                "Email": st.lists(
                    st.fixed_dictionaries({"id": st.sampled_from(("m@x", "N@x"))}), max_size=2
                ),
                "Phone": st.lists(
                    st.fixed_dictionaries(
                        {"id": st.sampled_from(("1", "2"))}, optional={"primary": st.booleans()}
                    ),
                    max_size=2,
                ),
            },
        ),
    ),
    "at": (st.integers(0, 2**41), iso, st.just(WALL_MS * 2)),
    "_id": (st.sampled_from(("1", "2")), st.integers(1, 3)),
    "what": (st.sampled_from(("buy", "see")), st.just(3)),
    "junk": (words,),
    "stray": (st.none(), st.none(), st.none(), st.just("x")),
}  # fmt: skip
FLAT = ("s", "n", "d", "b", "when", "day", "who", "at", "_id", "what", "junk", "stray")


@st.composite
def documents(draw: st.DrawFn, names: tuple[str, ...] = tuple(COLUMNS)) -> list[dict[str, Any]]:
    """Rows whose columns have one type each; a value may be null or missing."""
    chosen = draw(st.lists(st.sampled_from(names), unique=True, min_size=1))
    chosen = [name for name in COLUMNS if name in chosen or name in ("who", "at", "_id")]
    count = draw(st.integers(1, 6))
    columns = {
        name: draw(
            st.lists(
                st.none() | draw(st.sampled_from(COLUMNS[name])), min_size=count, max_size=count
            )
        )
        for name in chosen
    }
    missing = draw(st.booleans())
    return [
        {name: cells[i] for name, cells in columns.items() if not (missing and cells[i] is None)}
        for i in range(count)
    ]


def ndjson(rows: list[Any], end: str = "\n") -> bytes:
    lines = (json.dumps(row, ensure_ascii=False) + end for row in rows)
    return "".join(lines).encode()


def as_table(rows: list[dict[str, Any]], names: list[str] | None = None) -> pa.Table | None:
    """One column per name with the type that Arrow finds, maps as maps; None if it finds none."""
    arrays = {}
    for name in names or list(dict.fromkeys(name for row in rows for name in row)):
        cells = [row.get(name) for row in rows]
        try:
            if name == "qty":
                pairs = [None if cell is None else list(cell.items()) for cell in cells]
                arrays[name] = pa.array(pairs, pa.map_(pa.string(), pa.int64()))
            else:
                arrays[name] = pa.array(cells)
        except (pa.ArrowException, OverflowError):
            return None
    return pa.table(arrays)


@given(documents(), packers, st.integers(900, 2_000), st.booleans())
@settings(max_examples=40, deadline=None)
def test_json_lines_get_the_verdicts_of_dicts(
    tmp_path_factory: pytest.TempPathFactory,
    rows: list[dict[str, Any]],
    packer: str,
    block_bytes: int,
    sparse: bool,
) -> None:
    """In one block, where Arrow reads it, and in blocks of a few lines, packed or not."""
    expected = of_dicts(rows)
    folder = tmp_path_factory.mktemp("forms")
    plain, packed = folder / "v.ndjson", folder / f"v.jsonl{packer.replace('twice', '.gz')}"
    data = ndjson(rows, "\r\n\n" if sparse else "\n")
    plain.write_bytes(data)
    packed.write_bytes(PACKERS[packer](data))
    for found in (of_file(plain), of_file(packed, block_bytes), of_file(plain, block_bytes)):
        assert found[0] == expected[0]
        assert found[1] == expected[1]


@given(documents(), st.sampled_from((1, 2, 100)), st.data())
@settings(max_examples=40, deadline=None)
def test_parquet_columns_get_the_verdicts_of_dicts(
    tmp_path_factory: pytest.TempPathFactory,
    rows: list[dict[str, Any]],
    group_rows: int,
    data: st.DataObject,
) -> None:
    """Of any size of row groups; texts as dictionaries or large ones too."""
    table = as_table(rows)
    if table is None:
        return
    expected = places(of_dicts(rows))
    as_text = data.draw(
        st.sampled_from((pa.string(), pa.large_string(), pa.dictionary(pa.int32(), pa.string())))
    )
    for place, column in enumerate(table.columns):
        if pa.types.is_string(column.type):
            table = table.set_column(place, table.column_names[place], column.cast(as_text))
    path = tmp_path_factory.mktemp("forms") / "v.parquet"
    try:
        pq.write_table(table, path, row_group_size=group_rows)
    except pa.ArrowException:  # a struct without a field, say
        return
    assert places(of_file(path)) == expected
    assert places(of_file(path, 20)) == expected


@given(documents(FLAT), packers, st.integers(60, 400))
@settings(max_examples=30, deadline=None)
def test_flat_texts_get_the_verdicts_of_dicts(
    tmp_path_factory: pytest.TempPathFactory,
    rows: list[dict[str, Any]],
    packer: str,
    block_bytes: int,
) -> None:
    """CSV has texts alone: only rows whose columns are declared as they come are the same there."""
    names = list(dict.fromkeys(name for row in rows for name in row))
    if len(names) < 2:
        return  # a CSV file has a column; of one alone, a row without it is an empty line: no row
    fitting = {"s": str, "n": int, "d": float, "b": bool, "who": str, "what": str, "day": str}
    for name, kind in fitting.items():
        if any(not isinstance(row.get(name), kind | None) for row in rows):
            rows = [{n: v for n, v in row.items() if n != name} for row in rows]
    if any(isinstance(row.get("when"), float) for row in rows):
        rows = [{n: v for n, v in row.items() if n != "when"} for row in rows]
    # As texts, digits are milliseconds.
    rows = [
        {n: "2020-01-01" if v == "1" and n in ("at", "when") else v for n, v in row.items()}
        for row in rows
    ]
    expected = places(of_dicts(rows))
    out = io.StringIO()
    csv.writer(out, lineterminator="\n").writerow(names)
    for row in rows:
        cells = (row.get(name) for name in names)
        texts = (
            None if c is None else str(c).lower() if isinstance(c, bool) else str(c) for c in cells
        )
        out.write(
            ",".join("" if t is None else '"' + t.replace('"', '""') + '"' for t in texts) + "\n"
        )
    path = tmp_path_factory.mktemp("forms") / f"v.csv{packer.replace('twice', '.gz')}"
    path.write_bytes(PACKERS[packer](out.getvalue().encode()))
    for found in (of_file(path), of_file(path, block_bytes)):
        kept = [{n: v for n, v in row.items()} for row in found[0]]
        assert (kept, [(row, where) for row, where, _ in found[1]]) == expected


# ---- lines of any kind -------------------------------------------------------------------------

GOOD = '{"who": "a@x", "at": 5, "_id": "1"'
ODD_LINES = [
    *(b'{"who": "a@x", "who": "b@x", "at": 5, "_id": "1"}', b'{"who": "a@x"}{"who": "b@x"}'),
    *(b"[1]", b"3", b"null", b'"text"', b"{", b"}", b"{}", b"   ", b"\t", b'{"at": 01}', b"{,}"),
    *(f"{GOOD}, {rest}".encode() for rest in (
        '"d": NaN}', '"d": Infinity}', '"d": -Inf}', '"d": 1e400}', '"d": 1E5}', '"d": -0.0}',
        '"n": 9223372036854775807}', '"n": 9223372036854775808}', '"n": 1.0}', '"n": 1e2}',
        '"n": 123456789012345678901234567890}', '"d": 9007199254740993}', '"d": 1}', '"n": -0}',
        '"d": 0.1e-400}', '"junk": NaN}', '"junk": {"a": 1, "a": 2}}',
        '"junk": [{"a": 1, "a": 2}]}',
        '"junk": "2020-01-01"}', '"junk": [1, "a"]}', '"junk": {"deep": [[[1]]]}}',
        '"s": "\\ud800"}',
        '"s": "\\ud83d\\ude00"}', '"s": "\\u0000"}', '"s": "a\\nb"}', '"s": "Information: NaN"}',
        '"addr.city": "x"}', '"addr": {"city": "x"}, "addr.city": "y"}',
        '"addr": {"geo.lat": 1.5}}',
        '"addr": 3}', '"addr": {"city": "x", "city": "x"}}', '"": 1}',
        '"stray": 1}', '"stray": null}',
        '"ids": {"Email": null}}', '"ids": {"Email": [{"id": "m@x"}], "Email": []}}', '"s": "x",}',
        '"wh\\u006f": "c@x"}', '"when": 5}', '"when": "2020-01-01"}', '"when": 5.5}', '"m": 1.25}',
        '"m": "1.25"}', '"day": "2020-01-01"}', '"day": 3}', '"tags": ["a", null]}', '"d": true}',
        '"s": "x"} x', '"s": "x"} ', '"s": "}\\u007b"}', '"what": "buy"}',
        '"m": 12345678901234567}',
    )),
    *(b'{"who": "a@x", "at": 6, "_id": 7}', b'{"who": 7, "at": "2020-01-01", "_id": "1"}'),
    *(b' {"who": "a@x", "at": 5, "_id": "1"}', b'{"who": "a\xff@x", "at": 5, "_id": "1"}'),
    *(b'{"who": "a@x", "\xff": 5, "_id": "1"}', b'{"who": "a@x",\r"at": 5, "_id": "1"}'),
    b'{"junk": ' + b"[" * 3000 + b"]" * 3000 + b"}",
    b'{"junk": ' + b'{"a":' * 70 + b"1" + b"}" * 70 + b', "who": "a@x", "at": 5, "_id": "1"}',
]  # fmt: skip


class Broken(Exception):
    """A line that is no row."""


def meant(line: bytes) -> Any:
    """What a line says, by the standard library alone. Raises Broken."""

    def named_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        if len({name for name, _ in pairs}) != len(pairs):
            raise Broken("twice")
        return dict(pairs)

    def number(text: str) -> float:
        if math.isinf(float(text)):
            raise Broken("infinite")
        return float(text)

    def constant(text: str) -> Any:
        raise Broken(text)

    try:
        value = json.loads(
            line.decode(),
            object_pairs_hook=named_once, parse_float=number, parse_constant=constant,
        )  # fmt: skip
        json.dumps(value, ensure_ascii=False).encode()
    except (ValueError, RecursionError) as error:
        raise Broken(str(error)) from None
    return value


def expected_of(lines: list[bytes]) -> tuple[list[dict[str, Any]], list[tuple[int, str]]]:
    """The verdicts of the lines, one by one, as dicts."""
    rows: list[dict[str, Any]] = []
    rejects: list[tuple[int, str]] = []
    number = 0
    for line in lines:
        if not line.strip(b" \t\r"):
            continue
        try:
            prepared = door().prepare([meant(line)], number, WALL_MS)
        except Broken:
            rejects.append((number, ""))
        else:
            rows += prepared.table.to_pylist()
            rejects += [(reject.row, reject.path) for reject in prepared.rejects]
        number += 1
    return rows, rejects


@pytest.mark.parametrize("line", ODD_LINES, ids=range(len(ODD_LINES)))
def test_an_odd_line_is_what_it_says_wherever_it_stands(tmp_path: Path, line: bytes) -> None:
    """Alone, so that only it keeps the block from the fast way; and among plain lines."""
    plain = GOOD.encode() + b"}"
    first = [] if line.startswith(b"[") else [line]  # such a file is refused whole
    for lines in (first, [plain, line], [*first, plain, b'{"who": "z@x", "at": 5, "_id": 1}']):
        path = tmp_path / "v.ndjson"
        path.write_bytes(b"\n".join(lines))
        assert places(of_file(path)) == expected_of(lines)


@given(
    st.lists(
        st.sampled_from(ODD_LINES[:-2]) | documents().map(lambda d: ndjson(d[:1])[:-1]), max_size=8
    ),
    st.integers(900, 2_000),
    packers,
)
@settings(max_examples=30, deadline=None)
def test_lines_of_any_kind_are_what_they_say_in_any_block(
    tmp_path_factory: pytest.TempPathFactory, lines: list[bytes], block_bytes: int, packer: str
) -> None:
    path = tmp_path_factory.mktemp("forms") / f"v.ndjson{packer.replace('twice', '.gz')}"
    path.write_bytes(PACKERS[packer](b"\n".join(lines)))
    if lines and lines[0] in (b"[1]",):
        return  # the whole file is refused
    assert places(of_file(path, block_bytes)) == expected_of(lines)


def test_the_fast_ways_are_taken_where_they_may_be(tmp_path: Path) -> None:
    """Plain columns stay columns, keys and times as numbers too; a nested one makes objects."""
    lines = [b'{"who": 1, "at": 5, "_id": 1, "d": 1, "addr": {"city": "x"}, "junk": [1]}'] * 3
    for extra, kind in ((b"", pa.Table), (b'{"who": 2, "tags": ["x"]}', list)):
        path = tmp_path / "v.ndjson"
        path.write_bytes(b"\n".join([*lines, extra]))
        assert [type(block.rows) for block in read(path)] == [kind]
        assert places(of_file(path)) == expected_of([*lines, extra])


def test_the_quarantine_keeps_the_line_as_it_stands(tmp_path: Path) -> None:
    path = tmp_path / "v.ndjson"
    lines = [GOOD + ', "n": 4}', GOOD + ', "n": -9}', '{"who" : 1', GOOD + ', "tags": [1]}', "[]"]
    path.write_text("\n".join(lines))
    for block_bytes in (50, 10_000):
        found: list[Reject] = []
        for block in read(path, block_bytes):
            found += door().prepare(block, block.first_row, WALL_MS).rejects
        assert [(reject.row, reject.raw) for reject in found] == [
            (number, line) for number, line in enumerate(lines) if number
        ]


# ---- times, decimals and other columns of Parquet ----------------------------------------------

INSTANT = dt.datetime(2020, 2, 29, 12, 30, 15, 250_000, dt.UTC)


@pytest.mark.parametrize("zone", [None, "UTC", "Europe/Berlin", "+05:30"])
@pytest.mark.parametrize("unit", ["s", "ms", "us", "ns"])
def test_times_of_every_unit_and_zone(tmp_path: Path, unit: str, zone: str | None) -> None:
    """An instant is an instant; a time without a zone is UTC; digits below the millisecond go."""
    plain = INSTANT if unit != "s" else INSTANT.replace(microsecond=0)
    cell = plain if zone else plain.replace(tzinfo=None)
    column = pa.array([cell, None], pa.timestamp(unit, zone))
    table = pa.table({"who": ["a@x", "b@x"], "_id": ["1", "2"], "at": [1, 2], "when": column})
    path = tmp_path / "v.parquet"
    pq.write_table(table, path, version="2.6")
    rows, rejects = of_file(path)
    assert (rejects, [row["when"] for row in rows]) == ([], [plain, None])


ODD_MAP = pa.map_(pa.struct([("a", pa.int64())]), pa.int64())  # whose keys are objects
ARROW_VERDICTS: tuple[tuple[str, pa.Array, bool], ...] = (
    ("m", pa.array([Decimal("1.25")], pa.decimal128(9, 2)), True),
    ("m", pa.array([Decimal("1.2")], pa.decimal256(50, 1)), True),
    ("m", pa.array([Decimal("1.255")], pa.decimal128(9, 3)), False),
    ("n", pa.array([Decimal(1)], pa.decimal128(9, 0)), False),
    ("d", pa.array([Decimal("1.5")], pa.decimal128(9, 2)), False),
    ("n", pa.array([2**63], pa.uint64()), False),
    ("n", pa.array([2**60], pa.uint64()), True),
    ("n", pa.array([1.0]), False),
    ("d", pa.array([1.5], pa.float32()), True),
    ("d", pa.array([float("nan")]), False),
    ("d", pa.array([7], pa.int8()), True),
    ("s", pa.array([b"bytes"], pa.binary()), False),
    ("s", pa.array(["x"], pa.large_string()), True),
    ("s", pa.array(["x"]).dictionary_encode(), True),
    ("day", pa.array([dt.date(2020, 1, 1)]), True),
    ("day", pa.array([INSTANT]), False),
    ("when", pa.array([dt.date(2020, 1, 1)]), True),
    ("when", pa.array([dt.time(1)], pa.time32("s")), False),
    ("tags", pa.array([["a", None]], pa.large_list(pa.string())), True),
    ("tags", pa.array([["a"]], pa.list_(pa.string(), 1)), True),
    ("qty", pa.array([[("a", 1), ("b", None)]], pa.map_(pa.string(), pa.int64())), True),
    ("ids", pa.array([[("Email", [{"id": "m@x"}])]],
                     pa.map_(pa.string(), pa.list_(pa.struct([("id", pa.string())])))), True),
    ("addr", pa.array([[("city", "x")]], pa.map_(pa.string(), pa.string())), False),
    ("addr", pa.array(["x"]), False),
    ("stray", pa.array([1]), False),
    ("junk", pa.array([dt.timedelta(1)]), True),
    # What Python has no value for: finer than its microseconds, or beyond its years.
    ("s", pa.array([1], pa.timestamp("ns")), False),
    ("day", pa.array([1], pa.timestamp("ns", "UTC")), False),
    ("when", pa.array([1], pa.timestamp("ns")), True),
    ("when", pa.array([2**62], pa.timestamp("us")), False),
    ("day", pa.array([2**31 - 1], pa.date32()), False),
    ("tags", pa.array([[1]], pa.list_(pa.timestamp("ns"))), False),
    ("addr", pa.array([1], pa.timestamp("ns")), False),
    ("ids", pa.array([1], pa.timestamp("ns")), False),
    ("stray", pa.array([1], pa.timestamp("ns")), False),
    ("qty", pa.array([[({"a": 1}, 2)]], ODD_MAP), False),
    ("ids", pa.array([[({"a": 1}, 2)]], ODD_MAP), False),
)  # fmt: skip


@pytest.mark.parametrize("case", ARROW_VERDICTS, ids=lambda c: f"{c[0]}-{c[1].type}"[:40])
def test_columns_of_parquet_by_rule(tmp_path: Path, case: tuple[str, pa.Array, bool]) -> None:
    name, column, is_taken = case
    table = pa.table({"who": ["a@x"], "_id": ["1"], "at": [1], name: column})
    path = tmp_path / "v.parquet"
    pq.write_table(table, path, version="2.6")
    rows, rejects = of_file(path)
    assert (len(rows), [(row, where) for row, where, _ in rejects]) == (
        (1, []) if is_taken else (0, [(0, name)])
    )


def test_texts_of_parquet_that_are_no_utf8_refuse_their_rows(tmp_path: Path) -> None:
    broken = pa.array([b"ok", b"\xff", b"more"], pa.binary()).view(pa.string())
    ids = pa.array(["1", "2", "3"])
    for texts in (broken, broken.dictionary_encode()):
        table = pa.table({"who": ["a@x"] * 3, "_id": ids, "at": [1] * 3, "s": texts})
        pq.write_table(table, tmp_path / "v.parquet")
        rows, rejects = of_file(tmp_path / "v.parquet")
        assert [row["@row"] for row in rows] == [0, 2]
        assert [(row, "UTF-8" in reason) for row, _, reason in rejects] == [(1, True)]


def test_a_block_is_bounded_by_what_its_rows_take_in_memory(tmp_path: Path) -> None:
    """A long text in every row is stored once: all of them at a time would take gigabytes."""
    path, count, text = tmp_path / "v.parquet", 20_000, "x" * 10_000
    words = pa.DictionaryArray.from_arrays(pa.array([0] * count, pa.int32()), pa.array([text]))
    table = pa.table({"who": ["a@x"] * count, "s": words})
    pq.write_table(table, path, store_schema=False)
    assert path.stat().st_size < 100_000
    before, rows = pa.total_allocated_bytes(), 0
    for block in read_blocks(path, "parquet", None, 10_000_000, JsonTables(PLAIN, "visits"), 1):
        assert pa.total_allocated_bytes() - before < 150_000_000
        assert block.first_row == rows
        rows += len(block)
    assert rows == count


@pytest.mark.parametrize("error", [pa.ArrowInvalid("odd"), ValueError("odd")])
def test_what_a_reader_trips_over_is_said_as_the_files_fault(error: Exception) -> None:
    class Faulty(io.BytesIO):
        def read(self, size: int | None = -1, /) -> bytes:
            raise error

    with pytest.raises(SchemaError, match="a file of csv, got odd - at f"):
        list(text_blocks(Faulty(), "csv", "f.csv", 100, JsonTables(PLAIN, "visits")))
