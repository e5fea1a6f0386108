"""Files out: whole or not there, and read back by the store's own door as what was written."""

from __future__ import annotations

import datetime as dt
import gzip
import json
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.fs
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from profile_actors.config import Config
from profile_actors.definitions.catalogue_changes import extended
from profile_actors.definitions.declared import Catalogue, Dataset, Namespace, Schema
from profile_actors.driver.files.exports import written
from profile_actors.driver.files.mended_rows import written_out
from profile_actors.driver.files.whole_files import check_place, whole_object
from profile_actors.engine.reading.scans import INSTANT, MEMBERSHIP
from profile_actors.errors import CallerError
from profile_actors.ingest.door import Door
from profile_actors.ingest.files.byte_sources import packed_with
from profile_actors.ingest.files.forms import read_blocks
from profile_actors.ingest.files.json_tables import JsonTables
from profile_actors.ingest.files.places import form_of
from profile_actors.ingest.rejects import QuarantineRecord

PERSON = pa.struct([
    ("name", pa.string()), ("age", pa.int64()), ("fee", pa.decimal128(18, 2)), ("born", INSTANT),
    ("tags", pa.list_(pa.string())), ("prefs", pa.map_(pa.string(), pa.int64())),
    ("home", pa.struct([("city", pa.string()), ("lat", pa.float64())])),
])  # fmt: skip
SCHEMA = pa.schema([
    ("id", pa.string()), ("attributes", PERSON), ("worth.spent", pa.float64()),
    ("groups.vip", MEMBERSHIP),
])  # fmt: skip
FIELDS: dict[str, Any] = {
    "attributes.name": "string", "attributes.age": "integer", "attributes.fee": "decimal(2)",
    "attributes.born": "timestamp", "attributes.tags": "string[]",
    "attributes.prefs": "map<integer>",
    "attributes.home.city": "string", "attributes.home.lat": "double", "worth.spent": "double",
    "groups.vip.status": "string", "groups.vip.last_qualification_time": "timestamp",
    "groups.vip.valid_until": "timestamp",
}  # fmt: skip
CATALOGUE = extended(
    Catalogue(),
    [
        Namespace("CRM", kind="cross_device"),
        Schema("person", behavior="record", fields=FIELDS),
        Dataset("people", "person", identities={"id": "CRM"}),
    ],
)

texts = st.text(st.characters(codec="utf-8"), max_size=6) | st.sampled_from(("", '"', "a,b\n", " "))
some = st.none()
instants = st.datetimes(dt.datetime(1, 1, 2), dt.datetime(9999, 1, 1)).map(
    lambda t: t.replace(microsecond=t.microsecond // 1000 * 1000, tzinfo=dt.UTC)
)


def pairs(of: dict[str, int]) -> list[tuple[str, int]]:
    """A map as Arrow takes it."""
    return sorted(of.items())


people = st.fixed_dictionaries(
    {
        "id": st.text("abc", min_size=1, max_size=5),
        "attributes": st.fixed_dictionaries(
            {
                "name": some | texts,
                "age": some | st.integers(-(2**63), 2**63 - 1),
                "fee": some | st.decimals(-(10**9), 10**9, places=2),
                "born": some | instants,
                "tags": some | st.lists(texts, max_size=3),
                "prefs": some
                | st.dictionaries(texts, st.integers(0, 9)).map(lambda d: sorted(d.items())),
                "home": st.fixed_dictionaries(
                    {
                        "city": some | texts,
                        "lat": some | st.floats(allow_nan=False, allow_infinity=False),
                    }
                ),
            }
        ),
        "worth.spent": some | st.floats(allow_nan=False, allow_infinity=False),
        "groups.vip": some
        | st.fixed_dictionaries(
            {
                "status": st.sampled_from(("realized", "exited")),
                "last_qualification_time": some | instants,
                "valid_until": some | instants,
            }
        ),
    }
)


def memberships(cells: list[dict[str, Any] | None]) -> pa.Array:
    """As a scan makes them: with all words, whether they are used or not."""
    words = ["exited", "realized", "pending"]
    codes = [0 if cell is None else words.index(cell["status"]) for cell in cells]
    status = pa.DictionaryArray.from_arrays(pa.array(codes, pa.int8()), pa.array(words))
    names = ("last_qualification_time", "valid_until")
    times = [pa.array([cell and cell[name] for cell in cells], INSTANT) for name in names]
    mask = pa.array([cell is None for cell in cells], pa.bool_())
    return pa.StructArray.from_arrays([status, *times], fields=list(MEMBERSHIP), mask=mask)


def batches(rows: list[dict[str, Any]]) -> list[pa.RecordBatch]:
    """As two partitions would give them."""
    parts = []
    for partition in (0, 1):
        about = {"partition": str(partition), "position": str(7 + partition), "now": "5"}
        some = rows[partition::2]
        batch = pa.RecordBatch.from_pylist(some, SCHEMA)
        batch = batch.set_column(
            3, SCHEMA.field(3), memberships([r.get("groups.vip") for r in some])
        )
        parts.append(batch.replace_schema_metadata(about))
    return parts


def through_the_door(source: Any) -> tuple[Any, list[Any]]:
    prepared = Door(CATALOGUE, "people", 1, Config()).prepare(source, 0, 10**13)
    table = prepared.table.drop_columns(["@row", "@timestamp"])
    return table.to_pylist(), [(reject.row, reject.path) for reject in prepared.rejects]


@given(st.lists(people, min_size=1, max_size=6), st.sampled_from((
    "p.csv", "p.csv.gz", "p.ndjson", "p.jsonl.zst", "p.parquet",
)))  # fmt: skip
@settings(max_examples=60, deadline=None)
def test_what_is_written_is_read_back_as_it_was(
    tmp_path_factory: pytest.TempPathFactory, rows: list[dict[str, Any]], name: str
) -> None:
    """Null, the empty text, lists, maps, decimals and instants included, in every form."""
    path = tmp_path_factory.mktemp("out") / name
    form = form_of(name) or ""
    report = written(str(path), form, None, SCHEMA, {0: 5, 1: 6}, batches(rows))
    assert (report.rows, report.positions) == (len(rows), {0: (5, 7), 1: (6, 8)})
    assert report.bytes == path.stat().st_size
    plain = [pa.Table.from_batches([b.replace_schema_metadata(None)]) for b in batches(rows)]
    # The door knows dotted columns; words with few values come as such.
    status = pa.struct([("status", pa.string()), *[(f.name, f.type) for f in list(MEMBERSHIP)[1:]]])
    table = pa.concat_tables(plain)
    columns = [table["id"], table["attributes"], table["worth.spent"]]
    nested = pa.table(
        {
            "id": columns[0],
            "attributes": columns[1],
            "worth": pa.array([{"spent": v} for v in columns[2].to_pylist()],
                                 pa.struct([("spent", pa.float64())])),
            "groups": pa.array([{"vip": v} for v in table["groups.vip"].to_pylist()],
                                 pa.struct([("vip", status)])),
        }
    )  # fmt: skip
    expected = through_the_door(nested)
    assert expected[1] == []
    tables = JsonTables(CATALOGUE, "people")
    blocks = list(read_blocks(path, form, packed_with(path), 10**6, tables, path.stat().st_size))
    found = [through_the_door(block) for block in blocks]
    assert [row for rows, _ in found for row in rows] == expected[0]
    assert [reject for _, rejects in found for reject in rejects] == []


def test_the_metadata_of_parquet_name_the_positions(tmp_path: Path) -> None:
    path = tmp_path / "p.parquet"
    written(str(path), "parquet", "vip", SCHEMA, {0: 5, 1: 6}, [])
    about = json.loads(pq.read_metadata(path).metadata[b"profile_actors"])
    assert about == {"segment": "vip", "rows": 0, "positions": {"0": [5, 5], "1": [6, 6]}}


@pytest.mark.parametrize("name", ["p.csv", "p.ndjson.gz", "p.parquet"])
def test_a_file_is_whole_or_not_there(tmp_path: Path, name: str) -> None:
    """What fails half-way leaves the file of before, and nothing else."""
    path = tmp_path / name
    path.write_bytes(b"before")

    def failing() -> Iterator[pa.RecordBatch]:
        yield from batches([{"id": "a", "attributes": {"fee": Decimal("1.50")}}])
        raise OSError("gone")

    with pytest.raises(OSError, match="gone"):
        written(str(path), form_of(name) or "", None, SCHEMA, {0: 0, 1: 0}, failing())
    assert path.read_bytes() == b"before"
    assert [one.name for one in tmp_path.iterdir()] == [name]


def fail_after(parts: list[pa.RecordBatch], system: Any, place: str) -> None:
    """Write Parquet, and fail before it is closed."""
    with whole_object(system, place, None) as out, pq.ParquetWriter(out, parts[0].schema) as writer:
        writer.write_batch(parts[0])
        raise OSError("gone")


def test_an_object_appears_when_it_is_whole(tmp_path: Path) -> None:
    """Where closing a stream keeps what was written: the place has the object of before."""
    place, system = tmp_path / "p.parquet", pyarrow.fs.LocalFileSystem()
    place.write_bytes(b"before")
    failing = batches([{"id": "a", "attributes": {}}])[:1]
    with pytest.raises(OSError, match="gone"):
        fail_after(failing, system, str(place))
    assert [(one.name, one.read_bytes()) for one in tmp_path.iterdir()] == [(place.name, b"before")]
    with whole_object(system, str(place), "gzip") as out:
        out.write(b"whole")
        assert place.read_bytes() == b"before"
    assert gzip.decompress(place.read_bytes()) == b"whole"
    assert [one.name for one in tmp_path.iterdir()] == [place.name]


def test_nothing_is_written_among_the_stores_own_files(tmp_path: Path) -> None:
    data = tmp_path / "data"
    (data / "partitions").mkdir(parents=True)
    (tmp_path / "link").symlink_to(data)
    (data / "store.json").write_text("mine")
    for place in (
        data / "store.json", tmp_path / "link/x.csv", data, f"file://{data}/x.csv",
        f"{tmp_path}/b/../data/partitions/x.csv",
    ):  # fmt: skip
        with pytest.raises(CallerError, match="outside of the store's directory"):
            check_place(str(place), tmp_path / "link", "export")
        with pytest.raises(CallerError, match="outside of the store's directory"):
            written_out([], str(place), data, "quarantine --out")
    for place in ("data.csv", "datax/store.json", "s3://data/x"):
        check_place(place if "://" in place else str(tmp_path / place), data, "export")
    assert (data / "store.json").read_text() == "mine"


def test_rejects_are_written_to_a_new_file_only(tmp_path: Path) -> None:
    """One that is there holds the rows that somebody has mended."""
    data, path = tmp_path / "data", tmp_path / "r.ndjson"
    records = [QuarantineRecord("s", n, "n", "expected an integer", "x") for n in range(2)]
    written_out(records, str(path), data, "quarantine --out")
    assert [json.loads(line)["row"] for line in path.read_text().splitlines()] == [0, 1]
    with pytest.raises(CallerError, match="not there yet"):
        written_out([], str(path), data, "quarantine --out")
    assert len(path.read_text().splitlines()) == 2
    assert [one.name for one in tmp_path.iterdir()] == ["r.ndjson"]
