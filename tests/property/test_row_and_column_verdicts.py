"""Row path == column path: whatever way a value comes, its verdict is the one of ``judge``."""

from __future__ import annotations

import csv
import datetime as dt
import io
import json
import re
from collections import Counter
from dataclasses import replace
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from profile_actors.columnar.time_units import DAY_MS
from profile_actors.config import Config
from profile_actors.definitions.catalogue_changes import extended
from profile_actors.definitions.declared import Catalogue, Dataset, Field, Namespace, Schema
from profile_actors.definitions.schema_paths import columns_of, fields_of
from profile_actors.definitions.time_formats import compile_time_format
from profile_actors.ingest.door import Door, Prepared
from profile_actors.ingest.files.csv_blocks import read_csv_blocks
from profile_actors.ingest.typing.arrow_types import arrow_type
from profile_actors.ingest.typing.field_checks import Check, compile_check
from profile_actors.ingest.typing.time_readings import TimeReading
from profile_actors.ingest.typing.typed_columns import convert
from profile_actors.ingest.typing.verdicts import Refused, judge

WALL_MS = 1_800_000_000_000
TYPES = (
    *("string", "integer", "double", "decimal(2)", "boolean", "timestamp", "date"),
    *("string[]", "map<integer>", "double[]"),
)

NASTY_TEXTS = (
    *("", " ", "0", "-0", "+5", " 1", "1 ", "1.0", "1.", ".5", "-.5", ".", "-", "+", "1e5", "1E+5"),
    *("1e400", "-1e400", "1e-400", "nan", "NaN", "inf", "-Infinity", "NA", "null", "0x10", "1_000"),
    *("9223372036854775807", "9223372036854775808", "-9223372036854775808", "-9223372036854775809"),
    *("00004", "0" * 30 + "7", "1" * 25, "1" * 5000, "0.1", "1.005", "1.000", "29.33", "1,5", "١٢"),
    *("1234567890123456.78", "12345678901234567.8", "9999999999999999.995", "1-2", "1/2", "--1"),
    *("true", "True", "TRUE", "tRue", "false", "1", "yes", "t"),
    *("2020-01-01", "2020-02-30", "20200101", "2020-1-1", "0000-01-01", "0001-01-01", "9999-12-31"),
    *("2020-01-01T10", "2020-01-01T10Z", "2020-01-01T10:11", "2020-01-01T10:11Z"),
    *("2020-01-01 10:11:12", "2020-01-01T10:11:12.5", "2020-01-01T10:11:12.123", "1969-12-31"),
    *("2020-01-01T10:11:12.123456", "2020-01-01T10:11:12.1234567", "2020-01-01T10:11:60"),
    *("1969-12-31T23:59:59.999999", "1969-12-31T23:59:59.9999", "2020-01-01T24:00:00"),
    *("2020-01-01T10:11:12Z", "2020-01-01T10:11:12z", "2020-01-01T10:11:12+01:30"),
    *("2020-01-01T10:11:12+0130", "2020-01-01T10:11:12-01", "2020-01-01T10:11:12+25:00"),
    *("2020-01-01t10:11:12", "2020-01-01T10:11:12 Z", "2020-01-01T101112", "9999-12-31T23:59:59Z"),
    *("9999-12-31T23:59:59-23:59", "0001-01-01T00:00:00+01:00", "253402300799999"),
    *(
        "253402300800000",
        "-62135596800000",
        "-62135596800001",
        "é",
        "e\u0301",
        "\x00",
        "a\nb",
        'q"q',
    ),
    *(
        '["a", "b"]',
        "[1, null, 2.5]",
        '{"a": 1, "b": null}',
        "[",
        '{"a": 1e400}',
        "[NaN]",
        "{}",
        "[]",
    ),
)
number_texts = st.from_regex(r"[+-]?[0-9]{0,20}\.?[0-9]{0,4}([eE][+-]?[0-9]{1,3})?", fullmatch=True)
time_texts = st.from_regex(
    r"[0-9]{4}-[01][0-9]-[0-3][0-9]([T ][0-2][0-9]:[0-6][0-9](:[0-6][0-9](\.[0-9]{1,9})?)?"
    r"(Z|[+-][0-2][0-9](:?[0-5][0-9])?)?)?",
    fullmatch=True,
)
plain_text = st.text(st.characters(codec="utf-8"), max_size=8)
texts = st.one_of(st.sampled_from(NASTY_TEXTS), number_texts, time_texts, plain_text)

python_values = st.one_of(
    st.none(),
    texts,
    st.booleans(),
    st.integers(-5, 5),
    st.integers(-(2**70), 2**70),
    st.floats(),
    st.decimals(allow_nan=True, allow_infinity=True),
    st.decimals(-100, 100, places=2),
    st.datetimes(),
    st.datetimes(timezones=st.just(dt.timezone(dt.timedelta(hours=2)))),
    st.dates(),
    st.lists(st.one_of(st.none(), st.integers(-5, 5), plain_text, st.floats(0, 1)), max_size=3),
    st.dictionaries(plain_text, st.one_of(st.none(), st.integers(-5, 5)), max_size=3),
    st.builds(lambda: "\ud800"),
    st.builds(lambda: b"bytes"),
    st.builds(lambda: np.int64(3)),
    st.builds(lambda: np.float64(2.5)),
)


@st.composite
def fields(draw: st.DrawFn) -> Field:
    """A field of any type with constraints that its type allows."""
    kind = draw(st.sampled_from(TYPES))
    limits: dict[str, Any] = {"required": draw(st.booleans())}
    bare = kind.removesuffix("[]").removeprefix("map<").removesuffix(">")
    if draw(st.booleans()):
        if bare == "string":
            limits["max_length"] = draw(st.none() | st.integers(1, 12))
            limits["pattern"] = draw(st.sampled_from((None, "0", "^[0-9]+$", "[a-z]", "^.{1,3}$")))
            limits["enum"] = draw(st.sampled_from((None, ("0", "a", "é", "00004"))))
        elif bare in ("integer", "double", "decimal(2)"):
            whole = bare == "integer"
            low = draw(st.none() | (st.integers(-5, 5) if whole else st.floats(-5, 5)))
            limits["minimum"] = low
            limits["maximum"] = draw(st.sampled_from((None, 7, 2**62)))
        if bare in ("integer", "double"):
            limits["enum"] = draw(st.sampled_from((None, (0, 1, 5, -3))))
    return Field(kind, **limits)


FORMATS = (
    *("%d/%m/%Y", "%m/%d/%Y", "%Y%m%d", "%d.%m.%y", "%Y-%m-%d %H:%M:%S", "%Y%m%d%H%M%S%f"),
    *("%m/%d/%Y %I:%M %p", "%d %b %Y", "%A, %B %d %Y", "%Y-%j", "%Y%j", "%d-%b-%y %H.%M.%S.%f"),
    *(
        "%Y-%m-%dT%H:%M:%S.%f%z",
        "%a %b %d %H:%M:%S %Z %Y",
        "%d/%b/%Y:%H:%M:%S %z",
        "%%%Y年%m月%d日",
    ),
)

COMPILED = {text: compile_time_format(text) for text in FORMATS}


@st.composite
def readings(draw: st.DrawFn) -> TimeReading | None:
    """How a timestamp column may be declared to be read."""
    unit = draw(st.sampled_from((None, "ms", "s", "us", "ns", "excel_days")))
    formats = draw(st.lists(st.sampled_from(FORMATS), max_size=3))
    if unit is None and not formats:
        return None
    return TimeReading(unit, tuple(COMPILED[text] for text in formats))


def checked(field: Field, reading: TimeReading | None = None) -> Check:
    schema = Schema("s", behavior="record", fields={"f": field})
    extended(Catalogue(), [schema])
    check = compile_check("f", columns_of(schema)["f"], fields_of(schema))
    return replace(check, reading=reading) if field.type in ("timestamp", "date") else check


def assert_same(check: Check, cells: Any, judged: list[Any], is_text: bool) -> None:
    """convert(cells) equals judge(cell) for each, in value, path and reason."""
    converted = convert(check, cells, is_text)
    values, refused = [], {}
    for row, cell in enumerate(judged):
        try:
            values.append(judge(check, cell, is_text))
        except Refused as refusal:
            values.append(None)
            refused[row] = (refusal.path, refusal.reason)
    assert converted.values.type == arrow_type(check)
    assert converted.values.equals(pa.array(values, arrow_type(check)))
    assert converted.refused == refused


@given(fields(), readings(), st.lists(st.none() | texts, max_size=12))
@settings(max_examples=200, deadline=None)
def test_a_text_column_gets_the_verdicts_of_its_cells(
    field: Field, reading: TimeReading | None, cells: list[str | None]
) -> None:
    assert_same(checked(field, reading), pa.array(cells, pa.string()), cells, is_text=True)


EDGE_TIMES = [
    *(dt.datetime(2024, 2, 29), dt.datetime(2023, 12, 31, 23, 59, 59, 999_000)),
    *(dt.datetime(1969, 1, 1, 12), dt.datetime(2024, 3, 1, 12, 30), dt.datetime(2068, 11, 9, 0, 5)),
    *(dt.datetime(1000, 10, 10, 10, 10, 10, 120_000), dt.datetime(9999, 12, 31, 9)),
    *(dt.datetime(1970, 1, 1), dt.datetime(1900, 3, 1, 1, 1, 1, 999), dt.datetime(2021, 5, 7, 8)),
]
ZONES = ("+0000", "Z", "z", "-0130", "+05:30", "+23:59", "+24:00", "-12:60", "-23", "+1", "")
NEAR_MISSES = (
    *(("0", ""), ("0", "٠"), ("1", "3"), ("2", "9"), ("29", "30"), ("12", "00"), ("12", "13")),
    *((" ", "  "), (" ", ""), (" ", "\t"), ("/", "-"), (":", "."), ("59", "60"), ("366", "367")),
    *(("AM", "am"), ("PM", "p"), ("M", ""), ("Ma", "mA"), ("r", ""), ("y", "ı"), ("UTC", "CET")),
)


def edge_texts(form: str) -> list[str]:
    """Edge times in a format, with every zone; each also with one thing wrong or unusual."""
    found = []
    for when in EDGE_TIMES:
        text = when.replace(tzinfo=dt.UTC).strftime(form)
        variants = [text.replace("+0000", zone) for zone in ZONES] if "%z" in form else [text]
        for variant in variants:
            found += [variant, variant.upper(), f" {variant}", f"{variant}\n", f"{variant}0"]
            found += [variant.replace(old, new, 1) for old, new in NEAR_MISSES]
            found += [re.sub(r"\b0", "", variant), variant[:-1], variant[1:]]
    return list(dict.fromkeys(found))


@pytest.mark.parametrize("unit", [None, "s"])
@pytest.mark.parametrize("form", FORMATS)
def test_every_format_takes_and_refuses_the_same_texts_by_column(
    form: str, unit: str | None
) -> None:
    """With a second format after it, which reads some of what the first refuses."""
    cells = edge_texts(form)
    assert any(compile_time_format(form).read(cell) is not None for cell in cells)
    for kind, second in (("timestamp", ()), ("timestamp", ("%m/%d/%Y",)), ("date", ())):
        reading = TimeReading(unit, tuple(map(compile_time_format, (form, *second))))
        check = checked(Field(kind), reading)
        assert_same(check, pa.array(cells, pa.string()), cells, is_text=unit is not None)


PER_UNIT: dict[str, int | Fraction] = {
    "ms": 1,
    "s": 1000,
    "us": Fraction(1, 1000),
    "ns": Fraction(1, 10**6),
}


def edge_numbers(unit: str) -> list[int | float]:
    """Times as numbers of a unit, at and beside the instants where their milliseconds round."""
    numbers: list[int | float] = [20240301, 60, 61, 2958465, 2958466, 10**10, 10**18, -0.5, 1e300]
    for when in (0, -1, 964_982_703_123, 1_700_000_000_000, 1_709_251_200_000, -86_400_001, DAY_MS):
        for aside in (0, 1, -1, 500, 499, 501, 123):
            exact = when + Fraction(aside, 1000)
            number = exact / PER_UNIT.get(unit, DAY_MS) + (25_569 if unit == "excel_days" else 0)
            numbers += [int(number), float(number)]
    return numbers


@pytest.mark.parametrize("formats", [(), ("%Y%m%d",)])
@pytest.mark.parametrize("unit", [None, *PER_UNIT, "excel_days"])
def test_numbers_in_every_unit_get_the_verdicts_of_their_cells(
    unit: str | None, formats: tuple[str, ...]
) -> None:
    reading = TimeReading(unit, tuple(map(compile_time_format, formats)))
    numbers = edge_numbers(unit or "ms")
    texts = [
        text
        for n in numbers
        for text in (
            *(repr(n), f"{n:.3f}", f"{n:.6f}", f"{n:.12f}", f"{n:+}", f"0{n}"),
            *(f"{n:.3f}4999", f"{n:.2f}2999999999", f".{abs(int(n))}", f"{int(n)}."),
        )
    ]
    whole = [n for n in numbers if isinstance(n, int)]
    floats = [float(n) for n in numbers]
    for kind in ("timestamp", "date"):
        check = checked(Field(kind), reading)
        for few in (texts, ["2024-03-01T08:00:00Z", *texts], [repr(n) for n in whole]):
            assert_same(check, pa.array(few, pa.string()), few, is_text=True)
        assert_same(check, numbers, numbers, is_text=False)
        assert_same(check, pa.array(floats, pa.float64()), floats, is_text=False)
        assert_same(check, pa.array(whole, pa.int64()), whole, is_text=False)
        assert_same(check, whole, whole, is_text=False)


@given(
    st.sampled_from(FORMATS),
    st.datetimes(dt.datetime(1000, 1, 1), dt.datetime(9999, 12, 30)),
    st.booleans(),
)
@settings(max_examples=150, deadline=None)
def test_a_format_reads_what_the_standard_library_writes(
    form: str, when: dt.datetime, padded: bool
) -> None:
    """``strftime`` and back; what a format leaves out of the time is lost."""
    year = min(max(when.year, 1969), 2068) if "%y" in form else when.year
    day = min(when.day, 28) if year != when.year else when.day  # no other year need have its 29th
    aware = when.replace(tzinfo=dt.UTC, year=year, day=day)
    text = aware.strftime(form)
    if not padded:  # as spreadsheets write it
        text = re.sub(r"(?<![0-9:.])0(?=[0-9]/)", "", text)
    expected = dt.datetime.strptime(text, form).replace(tzinfo=dt.UTC)
    expected_ms = (expected - dt.datetime(1970, 1, 1, tzinfo=dt.UTC)) // dt.timedelta(
        milliseconds=1
    )
    assert compile_time_format(form).read(text) == expected_ms


@pytest.mark.parametrize("kind", TYPES)
def test_every_odd_text_alone_in_its_column(kind: str) -> None:
    """Alone, so that no other cell keeps the column from the kernels that parse it in one go."""
    check = checked(Field(kind))
    for text in NASTY_TEXTS:
        for cells in ([text], [text, None, text]):
            assert_same(check, pa.array(cells, pa.string()), cells, is_text=True)
            assert_same(check, pa.array(cells, pa.string()), cells, is_text=False)
            assert_same(check, cells, cells, is_text=False)


@given(fields(), st.data())
@settings(max_examples=150, deadline=None)
def test_a_clean_text_column_too(field: Field, data: st.DataObject) -> None:
    """All cells of one form, so that the kernels that parse a whole column are reached."""
    form = data.draw(
        st.sampled_from(
            (
                st.integers(-(2**63), 2**63 - 1).map(str),
                st.integers(0, 2**45).map(str),
                st.floats(allow_nan=False, allow_infinity=False).map(repr),
                st.decimals(-1000, 1000, places=2).map(str),
                st.sampled_from(("true", "False")),
                st.dates().map(str),
                st.datetimes().map(lambda t: t.isoformat(" ", "seconds")),
                st.datetimes().map(lambda t: t.isoformat(timespec="milliseconds") + "Z"),
                st.datetimes().map(lambda t: t.isoformat(timespec="microseconds")),
            )
        )
    )
    cells = data.draw(st.lists(st.none() | form, max_size=8))
    assert_same(checked(field), pa.array(cells, pa.string()), cells, is_text=True)


@given(fields(), readings(), st.lists(python_values, max_size=8))
@settings(max_examples=200, deadline=None)
def test_python_cells_get_the_verdicts_of_each(
    field: Field, reading: TimeReading | None, cells: list[Any]
) -> None:
    assert_same(checked(field, reading), cells, cells, is_text=False)


ARROW_COLUMNS: tuple[tuple[pa.DataType, st.SearchStrategy[Any]], ...] = (
    (pa.int8(), st.integers(-128, 127)),
    (pa.uint32(), st.integers(0, 2**32 - 1)),
    (pa.int64(), st.integers(-(2**63), 2**63 - 1)),
    (pa.int64(), st.integers(-(2**46), 2**46)),
    (pa.uint64(), st.integers(0, 2**64 - 1)),
    (pa.float32(), st.floats(width=32)),
    (pa.float64(), st.floats()),
    (pa.bool_(), st.booleans()),
    (pa.string(), texts),
    (pa.large_string(), texts),
    (pa.dictionary(pa.int32(), pa.string()), texts),
    (pa.timestamp("s"), st.datetimes()),
    (pa.timestamp("ms", "UTC"), st.datetimes()),
    (pa.timestamp("us"), st.datetimes()),
    (
        pa.timestamp("us", "Europe/Berlin"),
        st.datetimes(dt.datetime(2, 1, 1), dt.datetime(9000, 1, 1)),
    ),
    (pa.date32(), st.dates()),
    (pa.date64(), st.dates()),
    (pa.decimal128(20, 1), st.decimals(-1000, 1000, places=1)),
    (pa.decimal128(20, 3), st.decimals(-1000, 1000, places=3)),
    (pa.list_(pa.string()), st.lists(st.none() | plain_text, max_size=3)),
    (pa.list_(pa.float64()), st.lists(st.none() | st.floats(), max_size=3)),
    (
        pa.map_(pa.string(), pa.int64()),
        st.dictionaries(plain_text, st.integers(0, 9)).map(lambda d: [*d.items()]),
    ),
    (pa.binary(), st.binary(max_size=3)),
    (pa.null(), st.none()),
)


@given(fields(), readings(), st.sampled_from(ARROW_COLUMNS), st.data())
@settings(max_examples=250, deadline=None)
def test_typed_arrow_columns_get_the_verdicts_of_their_cells(
    field: Field,
    reading: TimeReading | None,
    column: tuple[pa.DataType, st.SearchStrategy[Any]],
    data: st.DataObject,
) -> None:
    kind, cells = column
    try:
        array = pa.array(data.draw(st.lists(st.none() | cells, max_size=8)), kind)
    except (pa.ArrowInvalid, UnicodeEncodeError):
        return  # what Arrow itself does not hold
    start = data.draw(st.integers(0, len(array)))
    array = array.slice(start)  # offsets are where views go wrong
    assert_same(checked(field, reading), array, array.to_pylist(), is_text=False)


# ---- the door ----------------------------------------------------------------------------------


def a_door(declared: dict[str, Field], **options: Any) -> Door:
    catalogue = extended(
        Catalogue(),
        [
            Namespace("Email", kind="email", normalize="lower"),
            Schema("visit", behavior="event", fields=dict(declared)),
            Dataset(
                *("visits", "visit"),
                identities={"who": "Email"},
                timestamp="at",
                id="_id",
                event_type_field="what",
                **options,
            ),
        ],
    )
    return Door(catalogue, "visits", 7, Config())


def outcome(prepared: Prepared) -> tuple[list[dict[str, Any]], list[tuple[int, str, str]]]:
    return prepared.table.to_pylist(), [(r.row, r.path, r.reason) for r in prepared.rejects]


def joined(parts: list[Prepared]) -> tuple[list[dict[str, Any]], list[tuple[int, str, str]]]:
    outcomes = [outcome(part) for part in parts]
    return [r for rows, _ in outcomes for r in rows], [r for _, rows in outcomes for r in rows]


ROLES = {
    "who": st.sampled_from(("A@x", "b@x", "", "x" * 1025, "É@x", "e\u0301@x", None, 7, 2.5, True)),
    "at": st.sampled_from(
        (0, 5, "2020-01-01", "1999-12-31T10:00:00Z", None, "x", WALL_MS * 2, True)
    ),
    "_id": st.sampled_from(("1", "2", 3, None, "")),
    "what": st.sampled_from(("buy", "see", None, 3)),
    "stray": st.sampled_from((None, None, None, 1)),
}


@given(
    st.dictionaries(st.sampled_from(("a", "b.c", "b.d.e")), fields(), max_size=3),
    st.data(),
)
@settings(max_examples=150, deadline=None)
def test_the_batch_does_not_matter_to_a_row(
    declared: dict[str, Field], data: st.DataObject
) -> None:
    door = a_door(declared, **data.draw(options))
    columns = {path: python_values for path in declared} | ROLES
    row = st.fixed_dictionaries({}, optional=columns)
    rows = data.draw(st.lists(row | st.just(3), max_size=6))
    together = door.prepare(rows, 100, WALL_MS)
    apart = [door.prepare([row], 100 + i, WALL_MS) for i, row in enumerate(rows)]
    assert outcome(together) == joined(apart)
    assert together.table.num_rows + len(together.rejects) == together.rows == len(rows)
    found = together.table["@row"].to_pylist() + [reject.row for reject in together.rejects]
    assert sorted(found) == list(range(100, 100 + len(rows)))


@given(
    st.dictionaries(st.sampled_from(("a", "b.c")), fields(), max_size=2),
    st.integers(1, 60),
    st.data(),
)
@settings(max_examples=150, deadline=None)
def test_csv_rows_get_the_verdicts_of_their_texts(
    tmp_path_factory: pytest.TempPathFactory,
    declared: dict[str, Field],
    block_bytes: int,
    data: st.DataObject,
) -> None:
    """Any block size; the expected verdict is spelled out with ``judge`` alone, row by row."""
    door = a_door(declared)
    names = [*declared, "who", "at", "_id", "what"]
    cell = st.none() | texts.filter(lambda text: len(text) < 500)
    role = {
        "who": st.sampled_from((None, "a@x", "B@x", "é", "")),
        "at": st.sampled_from((None, "5", "2020-01-01 10:00", "9" * 15, "soon")),
        "_id": st.sampled_from((None, "1", "00004")),
        "what": st.sampled_from((None, "buy")),
    }
    row = st.fixed_dictionaries({name: role.get(name, cell) for name in names})
    rows = data.draw(st.lists(row, max_size=6))
    path = tmp_path_factory.mktemp("csv") / "visits.csv"
    path.write_text(csv_text(names, rows), encoding="utf-8", newline="")
    blocks = list(read_csv_blocks(path, block_bytes * 100))
    prepared = [door.prepare(block, block.first_row, WALL_MS) for block in blocks]
    assert sum(len(block) for block in blocks) == len(rows)
    accepted, rejected = joined(prepared)
    expected = {i: refusal for i, row in enumerate(rows) if (refusal := refusal_of(declared, row))}
    assert {row: (path, reason) for row, path, reason in rejected} == expected
    assert [row["@row"] for row in accepted] == [i for i in range(len(rows)) if i not in expected]


options = st.fixed_dictionaries(
    {},
    optional={
        "timestamp_unit": st.sampled_from(("ms", "s", "us", "ns", "excel_days")),
        "timestamp_format": st.sampled_from(
            ("%d/%m/%Y", ("%Y%m%d", "%Y-%m-%d"), ("%m/%d/%Y %H:%M",))
        ),
        "ignore": st.sampled_from(("*", ("stray",), ("other", "b.c.x"), ("items[].junk",))),
    },
)
plain_rows = st.fixed_dictionaries(
    {
        "who": st.sampled_from(("a@x", " B@x\t", "é", "", None)),
        "at": st.one_of(
            st.sampled_from((20240301, 41_640, 964_982_703, 964_982_703_000, 10**15, 10**18, 5)),
            st.sampled_from(("1/2/2024", "2024-03-01", "13/1/2024", "1/2/2024 10:00", "x", None)),
        ),
        "_id": st.sampled_from(("1", "2", None)),
        "what": st.just("see"),
        "items": st.sampled_from((None, [{"sku": 1}], [{"sku": 1, "junk": 2}], [{"junk": None}])),
        "stray": st.sampled_from((None, "x")),
    }
)


@given(options, st.lists(plain_rows, min_size=1, max_size=6), st.booleans())
@settings(max_examples=100, deadline=None)
def test_dicts_tables_and_files_get_the_same_verdicts(
    tmp_path_factory: pytest.TempPathFactory, mapping: dict[str, Any], rows: list[Any], whole: bool
) -> None:
    """Whatever a dataset declares: units and forms of times, columns to leave out, blanks."""
    door = a_door({"items[].sku": Field("integer")}, **mapping)
    rows = [row for row in rows if isinstance(row["at"], int) == whole]
    given = door.prepare(rows, 0, WALL_MS)
    accepted, rejected = outcome(given)
    if rows:
        table = pa.Table.from_pylist(rows)
        assert outcome(door.prepare(table, 0, WALL_MS))[0] == accepted
        for batch in table.to_batches():
            assert outcome(door.prepare(batch, 0, WALL_MS))[0] == accepted
    cells = [
        {name: json.dumps(v) if isinstance(v, list) else v and str(v) for name, v in row.items()}
        for row in rows
    ]
    path = tmp_path_factory.mktemp("csv") / "visits.csv"
    names = ["who", "at", "_id", "what", "items", "stray"]
    path.write_text(csv_text(names, cells), encoding="utf-8", newline="")
    parts = [door.prepare(b, b.first_row, WALL_MS) for b in read_csv_blocks(path, 10_000)]
    from_file = joined(parts)
    assert from_file[0] == accepted
    assert [(row, where) for row, where, _ in from_file[1]] == [(r, w) for r, w, _ in rejected]
    counted = Counter[str]()
    for part in parts:
        counted.update(part.odd_times)
    assert counted == given.odd_times


def csv_text(names: list[str], rows: list[dict[str, str | None]]) -> str:
    """RFC 4180 with null as the empty unquoted cell and every text quoted."""
    out = io.StringIO()
    csv.writer(out, lineterminator="\n").writerow(names)
    for row in rows:
        cells = (row[name] for name in names)
        out.write(",".join("" if c is None else '"' + c.replace('"', '""') + '"' for c in cells))
        out.write("\n")
    return out.getvalue()


def refusal_of(declared: dict[str, Field], row: dict[str, str | None]) -> tuple[str, str] | None:
    """The first refusal of a CSV row of ``a_door``, in the door's order."""
    schema = Schema("s", behavior="event", fields=dict(declared))
    checks = [compile_check(p, k, fields_of(schema)) for p, k in columns_of(schema).items()]
    when = Check("at", "timestamp")
    try:
        for check in checks:
            judge(check, row[check.path], True)
        at = judge(when, row["at"], True)
    except Refused as refusal:
        return refusal.path, refusal.reason
    limit = WALL_MS + Config().max_ahead_ms
    if at is None:
        return "at", "expected a timestamp, got none"
    if at > limit:
        early = f"expected a time from the year 1 to {Config().max_ahead_ms} ms ahead of the wall"
        return "at", f"{early} clock ({WALL_MS}), got {at}"
    if row["_id"] is None:
        return "_id", "expected an id, got none"
    if not row["who"]:
        got = "none" if row["who"] is None else "0"
        room = "of 1 to 1024 characters in namespace 'Email'"
        return "who", "expected an identity, got none" if got == "none" else (
            f"expected an identity {room}, got 0"
        )
    return None


def test_decimal_bounds_are_exact() -> None:
    """A decimal's bound is compared as the digits that were written, not as a double."""
    check = checked(Field("decimal(2)", maximum=0.1))
    assert judge(check, Decimal("0.10")) == Decimal("0.10")
    assert convert(check, pa.array(["0.10", "0.11"]), True).refused.keys() == {1}


def test_the_quarantined_text_is_the_row(tmp_path: Path) -> None:
    path = tmp_path / "v.csv"
    path.write_bytes(b"who,at,_id,what\na@x,soon,1,buy\na@x,5\n\xff,5,2,buy\n")
    (block,) = read_csv_blocks(path, 1000)
    prepared = a_door({}).prepare(block, 0, WALL_MS)
    assert [(r.row, r.path) for r in prepared.rejects] == [(0, "at"), (1, ""), (2, "who")]
    assert '"soon"' in prepared.rejects[0].raw
    assert prepared.rejects[1].raw == "a@x,5"
    assert prepared.rejects[2].raw.startswith("\\xff")
