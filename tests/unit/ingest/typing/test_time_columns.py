"""How a timestamp column is read: units, formats, and numbers that look like another unit."""

from __future__ import annotations

import datetime as dt
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from profile_actors.config import Config
from profile_actors.definitions.catalogue_changes import extended
from profile_actors.definitions.declared import Catalogue, Dataset, Namespace, Schema
from profile_actors.definitions.time_formats import compile_time_format
from profile_actors.errors import DefinitionError
from profile_actors.ingest.door import Door
from profile_actors.ingest.files.csv_blocks import read_csv_blocks
from profile_actors.ingest.typing.time_readings import odd_units

WALL_MS = 1_800_000_000_000


def ms(*when: int) -> int:
    return int(dt.datetime(*when, tzinfo=dt.UTC).timestamp() * 1000)  # type: ignore[misc, arg-type]


def shop(fields: dict[str, Any] | None = None, **options: Any) -> Catalogue:
    return extended(
        Catalogue(),
        [
            Namespace("U", kind="cookie"),
            Schema("e", "event", fields or {"s": "string"}),
            Dataset("e", "e", {"u": "U"}, **({"timestamp": "t"} | options)),
        ],
    )


def times(catalogue: Catalogue, *cells: Any) -> list[Any]:
    """The times that the cells are read as; a refused one is its reason."""
    prepared = Door(catalogue, "e", 1, Config()).prepare(
        [{"u": "a", "t": cell} for cell in cells], 0, WALL_MS
    )
    found: dict[int, Any] = dict(
        zip(
            prepared.table["@row"].to_pylist(),
            prepared.table["@timestamp"].to_pylist(),
            strict=True,
        )
    )
    return (
        [found[i] for i in range(len(cells))]
        if not prepared.rejects
        else [
            found.get(i, next((r.reason for r in prepared.rejects if r.row == i), None))
            for i in range(len(cells))
        ]
    )


@pytest.mark.parametrize(
    ("unit", "cell", "when"),
    [
        (None, 964_982_703_123, ms(2000, 7, 30, 18, 45, 3) + 123),
        ("ms", 964_982_703_123, ms(2000, 7, 30, 18, 45, 3) + 123),
        ("s", 964_982_703, ms(2000, 7, 30, 18, 45, 3)),
        ("s", 964_982_703.123, ms(2000, 7, 30, 18, 45, 3) + 123),
        ("s", -0.0001, -1),
        ("us", 964_982_703_123_999, ms(2000, 7, 30, 18, 45, 3) + 123),
        ("ns", 964_982_703_123_999_999, ms(2000, 7, 30, 18, 45, 3) + 123),
        ("ns", -1, -1),
        ("excel_days", 41_640, ms(2014, 1, 1)),
        ("excel_days", 61, ms(1900, 3, 1)),
        ("excel_days", 45_352.3333333333, ms(2024, 3, 1, 8)),
        ("excel_days", 45_352.541666666664, ms(2024, 3, 1, 13)),
        ("excel_days", "2024-03-01T13:00", ms(2024, 3, 1, 13)),
        ("s", dt.date(2024, 3, 1), ms(2024, 3, 1)),
    ],
)
def test_a_number_is_read_in_the_unit_that_is_declared(
    unit: str | None, cell: Any, when: int
) -> None:
    assert times(shop(timestamp_unit=unit), cell) == [when]


@pytest.mark.parametrize(
    ("form", "cell", "when"),
    [
        ("%d/%m/%Y", "2/11/2013", ms(2013, 11, 2)),
        ("%m/%d/%Y", "2/11/2013", ms(2013, 2, 11)),
        (("%d/%m/%Y", "%Y-%m-%d"), "2013-11-02", ms(2013, 11, 2)),
        (("%d/%m/%Y", "%m/%d/%Y"), "2/11/2013", ms(2013, 11, 2)),
        ("%Y%m%d", 20_240_301, ms(2024, 3, 1)),
        ("%d-%b-%y", "01-MAR-24", ms(2024, 3, 1)),
        ("%d/%b/%Y:%H:%M:%S %z", "10/Oct/2000:13:55:36 -0700", ms(2000, 10, 10, 20, 55, 36)),
        ("%m/%d/%Y %I:%M:%S %p", "3/1/2024 12:05:00 AM", ms(2024, 3, 1, 0, 5)),
        ("%Y-%j", "2024-366", ms(2024, 12, 31)),
    ],
)
def test_a_text_is_read_in_the_form_that_is_declared(form: Any, cell: Any, when: int) -> None:
    assert times(shop(timestamp_format=form), cell) == [when]


def test_nothing_is_guessed() -> None:
    (reason,) = times(shop(), "2/11/2013")
    assert reason == "expected timestamp, got string '2/11/2013'"
    wrong = times(shop(timestamp_format="%d/%m/%Y"), "2/13/2013", "2013-11-02", 20_240_301, 2.5)
    assert [text.split(", got")[0] for text in wrong] == ["expected timestamp as '%d/%m/%Y'"] * 4
    (reason,) = times(shop(timestamp_unit="excel_days"), 60)
    assert reason == "expected timestamp as ISO-8601 or in Excel day numbers, got integer 60"
    (reason,) = times(shop(timestamp_unit="us"), 2.5)
    assert reason.endswith("got number 2.5")


def test_a_unit_beside_formats_reads_what_no_format_fits() -> None:
    """As spreadsheets export a column of which some cells are dates and some are texts."""
    mixed = shop(timestamp_unit="excel_days", timestamp_format="%d/%m/%Y")
    assert times(mixed, 41_640, "01/01/2014") == [ms(2014, 1, 1)] * 2


def test_a_schema_field_as_time_is_read_so_too() -> None:
    kept = shop({"t": "integer"}, timestamp_unit="s")
    row = {"u": "a", "t": 964_982_703}
    table = Door(kept, "e", 1, Config()).prepare([row], 0, WALL_MS).table
    assert (table["t"].to_pylist(), table["@timestamp"].to_pylist()) == (
        [964_982_703],
        [ms(2000, 7, 30, 18, 45, 3)],
    )
    stamped = shop({"t": "timestamp"}, timestamp_format="%d/%m/%Y")
    assert times(stamped, "2/11/2013") == [ms(2013, 11, 2)]
    day = shop({"t": "date"}, timestamp_format="%d/%m/%Y")
    assert times(day, "2/11/2013") == [ms(2013, 11, 2)]
    assert times(shop({"t": "date"}, timestamp_unit="excel_days"), 41_640, 41_640.5) == [
        ms(2014, 1, 1),
        "expected date, a whole day, got number 41640.5",
    ]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"timestamp_format": "%Y-%m"}, "a year .* a month .* and a day .*'%Y-%m'"),
        ({"timestamp_format": "%d/%m/%Y %d"}, "each part once"),
        ({"timestamp_format": "%c"}, "directives among %Y .* got '%c'"),
        ({"timestamp_format": "%Y-%m-%d %I:%M"}, "%p beside %I"),
        ({"timestamp_format": "%Y-%m-%d %S"}, "%M beside %S"),
        ({"timestamp_format": "100%"}, "got '%'"),
        ({"timestamp_format": []}, "1 to 20 formats"),
        ({"timestamp_unit": "minutes"}, "timestamp_unit"),
    ],
)
def test_a_declaration_that_reads_nothing_is_refused(options: dict[str, Any], words: str) -> None:
    with pytest.raises(DefinitionError, match=words):
        shop(**options)


def test_a_unit_needs_a_column() -> None:
    with pytest.raises(DefinitionError, match="expected a timestamp column with timestamp_unit"):
        extended(
            Catalogue(),
            [
                Namespace("U", kind="cookie"),
                Schema("p", "record", {"s": "string"}),
                Dataset("p", "p", {"u": "U"}, timestamp_unit="s"),
            ],
        )


def test_unit_form_and_ignored_columns_may_change_but_nothing_rows_are_known_by() -> None:
    first = shop()
    again = Dataset("e", "e", {"u": "U"}, timestamp="t", timestamp_unit="s", ignore=["x"])  # type: ignore[arg-type]
    changed = extended(first, [again])
    assert changed.datasets["e"].timestamp_unit == "s"
    assert changed.datasets["e"].ignore == ("x",)
    assert extended(changed, [again]) is changed
    for other in (
        Dataset("e", "e", {"u": "U"}, timestamp="when"),
        Dataset("e", "e", {"v": "U"}, timestamp="t"),
        Dataset("e", "e", {"u": "U"}, timestamp="t", id="i"),
    ):
        with pytest.raises(DefinitionError, match="to stay"):
            extended(first, [other])


ODD = [
    (964_982_703, "s"),
    (41_640, "excel_days"),
    (20_240_301, "yyyymmdd"),
    (20_240_301_101_112, "yyyymmddhhmmss"),
    (964_982_703_123_456, "us"),
    (964_982_703_123_456_789, "ns"),
]


@pytest.mark.parametrize(("number", "unit"), ODD)
def test_a_time_in_another_unit_is_warned_of(number: int, unit: str, tmp_path: Path) -> None:
    door = Door(shop(), "e", 1, Config())
    path = tmp_path / "f.csv"
    path.write_text(f"u,t,s\na,{number},x\nb,2024-03-01,x\nc,{number},x\n")
    (block,) = read_csv_blocks(path, 10_000)
    for rows in (block, [{"u": "a", "t": number}] * 2):
        ((text, count),) = door.prepare(rows, 0, WALL_MS).odd_times.items()
        assert count == 2
        cure = {"yyyymmdd": "'%Y%m%d'", "yyyymmddhhmmss": "'%Y%m%d%H%M%S'"}.get(unit, f"={unit!r}")
        assert cure in text
        assert "'t'" in text
        assert "'e'" in text
    if not unit.startswith("yyyy"):
        told = Door(shop(timestamp_unit=unit), "e", 1, Config())
        assert told.prepare([{"u": "a", "t": number}], 0, WALL_MS).odd_times == {}
        wrong = told.prepare([{"u": "a", "t": 1_709_251_200_000}], 0, WALL_MS).odd_times
        assert ["'ms'" in text for text in wrong] == [True]


def test_sound_and_merely_old_times_are_not_warned_of() -> None:
    door = Door(shop(), "e", 1, Config())
    for cell in (1_709_251_200_000, 0, 5, -1, 1000, "1970-01-05", dt.date(1969, 1, 1), None, True):
        assert door.prepare([{"u": "a", "t": cell}], 0, WALL_MS).odd_times == {}


def test_the_ranges_of_units_never_meet() -> None:
    """A number from a unit's range is in no other's, at both of its ends."""
    ends = {"ms": 1, "s": 1e-3, "us": 1e3, "ns": 1e6}
    for when in (ms(1980, 1, 1), WALL_MS):
        numbers = {unit: when * by for unit, by in ends.items()}
        numbers["excel_days"] = when / 86_400_000 + 25_569
        numbers["yyyymmdd"] = int(f"{dt.datetime.fromtimestamp(when / 1000, dt.UTC):%Y%m%d}")
        for unit, number in numbers.items():
            assert odd_units(np.array([number], np.float64), WALL_MS) == {unit: 1}


def test_names_and_digits_do_not_depend_on_the_locale() -> None:
    assert compile_time_format("%d %b %Y").read("1 mär 2024") is None
    assert compile_time_format("%d/%m/%Y").read("١/2/2024") is None
    assert compile_time_format("%Y%m%d").read("2024031") is None
