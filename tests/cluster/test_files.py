"""Files of every form on real Ray: each counts once, a broken one does not keep the others out."""

from __future__ import annotations

import bz2
import contextlib
import gzip
import io
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import rich
from rich.console import Console
from rich.progress import Progress

import profile_actors as pf
from profile_actors.driver.files import file_ingest
from tests.cluster.shop import START, order, shop

pytestmark = pytest.mark.ray


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory, ray_runtime: None) -> Iterator[pf.Store]:
    config = pf.Config(ingest_block_bytes=2_000)
    folder = tmp_path_factory.mktemp("files") / "s"
    with pf.start(folder, partitions=2, clock="event", config=config) as opened:
        opened.apply(*shop())
        yield opened


def orders(first: int, count: int) -> list[dict[str, Any]]:
    return [order(n, n % 20, START + n) for n in range(first, first + count)]


def lines(rows: list[dict[str, Any]]) -> bytes:
    return "".join(json.dumps(row) + "\n" for row in rows).encode()


def counts(report: Any) -> tuple[int, int, int, int]:
    return report.rows, report.accepted, report.duplicate, report.rejected_count


def test_a_file_of_any_form_counts_once(store: pf.Store, tmp_path: Path) -> None:
    """Read again, moved, or grown: only what is new in it is new."""
    plain, packed, columns = (tmp_path / f"a.{end}" for end in ("ndjson", "json.gz", "parquet"))
    plain.write_bytes(lines(orders(0, 50)))
    packed.write_bytes(gzip.compress(lines(orders(100, 50))))
    pq.write_table(pa.Table.from_pylist(orders(200, 50)), columns, row_group_size=20)
    before = store.status().events
    report = store.ingest("orders", [plain, packed, columns])
    assert counts(report) == (150, 150, 0, 0)
    assert {Path(n).name: (f.form, f.packing) for n, f in report.by_file.items()} == {
        "a.ndjson": ("ndjson", None),
        "a.json.gz": ("ndjson", "gzip"),
        "a.parquet": ("parquet", None),
    }
    assert report.bytes == sum(p.stat().st_size for p in (plain, packed, columns))
    assert counts(store.ingest("orders", [plain, packed, columns])) == (150, 0, 150, 0)
    with plain.open("ab") as file:
        file.write(lines(orders(50, 5)))
    with packed.open("ab") as file:
        file.write(gzip.compress(lines(orders(150, 5))))
    assert counts(store.ingest("orders", [plain, packed])) == (110, 10, 100, 0)
    pq.write_table(pa.Table.from_pylist(orders(300, 4)), columns)
    assert counts(store.ingest("orders", columns)) == (4, 4, 0, 0)
    assert store.status().events - before == 164


def test_a_bar_shows_how_much_of_the_files_is_read(
    store: pf.Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In bytes as they lie on the disk, so that it ends at the end for packed files too."""
    plain, packed = tmp_path / "bar.ndjson", tmp_path / "bar.json.gz"
    plain.write_bytes(lines(orders(5000, 60)))
    packed.write_bytes(gzip.compress(lines(orders(5100, 60))))
    shown: list[Progress] = []
    real = file_ingest._bar

    def kept() -> Progress:
        shown.append(real())
        return shown[-1]

    monkeypatch.setattr(file_ingest, "_bar", kept)
    monkeypatch.setattr(rich, "_console", Console(file=io.StringIO(), width=150))
    for limit in (None, 50):  # with a limit each file is read twice
        store.ingest("orders", [plain, packed], max_bad_percent=limit, progress=True)
        (task,) = shown.pop().tasks
        size = sum(p.stat().st_size for p in (plain, packed)) * (1 if limit is None else 2)
        assert (task.completed, task.total) == (size, size)
        assert task.fields["rows"] == 120
        assert task.description == plain.name
    store.ingest("orders", plain, progress=False)
    assert not shown


def test_a_folder_with_broken_files(store: pf.Store, tmp_path: Path) -> None:
    """What is hidden or half-written is passed over; what is broken is said, the rest loads."""

    def file(name: str, content: bytes) -> str:
        path = tmp_path / "in" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        return str(path)

    good = [
        file("b/1.ndjson.bz2", bz2.compress(lines(orders(1000, 20)))),
        file(
            "a.csv.zst",
            pa.compress(b"_id,customer,at,price\no1100,c0001,5,1\n", "zstd", True),
        ),
    ]
    whole = gzip.compress(lines(orders(1200, 200)), mtime=0)
    truncated = file("c.ndjson.gz", whole[: len(whole) // 2])
    footer = file("d.parquet", b"PAR1" + b"x" * 50 + b"PAR1")
    array = file("e.json", b'[{"_id": "1"}]\n')
    skipped = [file("_SUCCESS", b""), file("b/x.csv.tmp", b"_id\n"), file(".h.csv", b"_id\n")]
    skipped += [file("notes.txt", b"no")]
    report = store.ingest("orders", tmp_path / "in")
    assert sorted(report.broken) == sorted([truncated, footer, array])
    assert "packed with gzip" in report.broken[truncated]
    assert "one JSON object per line" in report.broken[array]
    assert sorted(report.skipped) == sorted(skipped)
    assert set(report.by_file) == {*good, truncated, footer, array}
    taken = report.by_file[truncated].accepted
    assert 0 < taken < 200
    assert counts(report) == (21 + taken, 21 + taken, 0, 0)
    # Whole at last, it goes on where it broke off.
    file("c.ndjson.gz", whole)
    assert counts(store.ingest("orders", truncated)) == (200, 200 - taken, taken, 0)


def test_a_file_is_refused_whole(store: pf.Store, tmp_path: Path) -> None:
    """With a limit on bad rows: nothing accepted, nothing quarantined, until it is mended."""
    rows = orders(2000, 40)
    rows[25]["at"] = "soon"
    path = tmp_path / "bad.ndjson"
    path.write_bytes(lines(rows))
    before, kept = store.status().events, len(store.quarantine("orders", 10_000))
    for _ in range(2):
        with pytest.raises(
            pf.SchemaError, match=r"at most 2 percent.*1 of 40.*row 25, at.*nothing"
        ):
            store.ingest("orders", path, max_bad_percent=2)
    assert (store.status().events, len(store.quarantine("orders", 10_000))) == (before, kept)
    report = store.ingest("orders", path, max_bad_percent=2.5)
    assert counts(report) == (40, 39, 0, 1)


def test_an_export_is_what_a_scan_gives(store: pf.Store, tmp_path: Path) -> None:
    fields = ["identities", "computed.spent", "segments.big"]
    store.submit("orders", [order(n, n % 5, START, 60.0) for n in range(5_000, 5_010)])
    rows = store.scan(fields).read_all().to_pylist()
    for name in ("p.parquet", "p.ndjson", "p.csv"):
        report = store.export(
            None, tmp_path / name, ["identities", "computed.spent", "segments.big"]
        )
        assert (report.rows, report.bytes) == (len(rows), (tmp_path / name).stat().st_size)
        assert report.positions.keys() == {0, 1}
        assert all(first == last > 0 for first, last in report.positions.values())
    assert pq.read_table(tmp_path / "p.parquet").to_pylist() == rows
    read = [json.loads(line) for line in (tmp_path / "p.ndjson").read_text().splitlines()]
    assert [row["id"] for row in read] == [row["id"] for row in rows]
    assert [row.get("computed.spent") for row in read] == [row["computed.spent"] for row in rows]
    assert store.export(None, tmp_path / "p.parquet").rows == len(rows)  # everything
    members = store.export("big", tmp_path / "big.csv.zst", ["identities"])
    assert members.rows == store.members("big").count() > 0
    with pytest.raises(pf.CallerError, match="expected a file of"):
        store.export("big", tmp_path / "big.txt")
    with pytest.raises(pf.DefinitionError, match="nobody"):
        store.export("nobody", tmp_path / "nobody.csv")
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        *("big.csv.zst", "p.csv", "p.ndjson", "p.parquet")
    ]


def test_rows_of_a_producer_whose_numbers_have_holes(store: pf.Store) -> None:
    """As a topic's offsets: each counts once, the cursor passes what never comes."""
    rows = [order(n, 1) for n in range(6_000, 6_004)]
    rows[2]["at"] = "soon"
    offsets = [100, 102, 10**12, 10**12 + 5]
    done = store.submit("orders", rows, "topic", 0, offsets=offsets, through=10**12 + 9)
    assert (done.accepted, [row for row, _, _ in done.rejected]) == (3, [2])
    assert store.cursor("topic") == 10**12 + 9
    assert store.quarantine("orders", 100_000)[-1].row == 10**12
    rows[2]["at"] = START
    again = store.submit("orders", rows[1:], producer="topic", offsets=offsets[1:])
    assert (again.accepted, again.duplicate, again.rejected_count) == (1, 2, 0)  # repaired
    store.submit("orders", [], "topic", 10**12 + 9, offsets=[], through=10**12 + 20)
    assert store.cursor("topic") == 10**12 + 20
    with pytest.raises(pf.OffsetGap):
        store.submit("orders", rows[:1], producer="topic", offsets=[10**12 + 30])
    for wrong in ([1], [2, 1, 3, 4], [1, 2, 3, -4], [1, 2, 3, 2**63], ["a"] * 4, 5):
        with pytest.raises(pf.CallerError, match=r"offsets|ascending|an offset"):
            store.submit("orders", rows, producer="topic", offsets=wrong)  # type: ignore[arg-type]
    with pytest.raises(pf.CallerError, match="producer"):
        store.submit("orders", rows, offsets=[1, 2, 3, 4])
    with pytest.raises(pf.CallerError, match="within"):
        store.submit("orders", rows, "topic", 2, offsets=[1, 2, 3, 4], through=9)


def test_rejected_rows_are_mended_once(store: pf.Store, tmp_path: Path) -> None:
    """By their first source and number, of a file and of a producer; again is a duplicate."""
    rows = orders(9_000, 12)
    for place in (3, 7):
        rows[place]["at"] = "soon"
    path = tmp_path / "mend.ndjson"
    path.write_bytes(lines(rows))
    assert counts(store.ingest("orders", path)) == (12, 10, 0, 2)
    store.submit("orders", [{"customer": "c1"}], producer="mend", offset=0)
    before = store.status()
    kept = [r for r in store.quarantine("orders", 100_000) if r.source.startswith("mend")]
    assert [(r.source.partition("#")[0], r.row) for r in kept] == [
        ("mend.ndjson", 3), ("mend.ndjson", 7), ("mend", 0),
    ]  # fmt: skip
    records: list[dict[str, Any]] = [{"source": r.source, "row": r.row} for r in kept]
    records[0]["mended"] = order(9_003, 3)
    records[1]["mended"] = order(9_007, 7) | {"price": -1}
    records[2]["mended"] = order(9_100, 1)
    done = store.resubmit("orders", reversed(records))
    assert (done.accepted, done.duplicate, done.rejected_count) == (2, 0, 1)
    assert [(row, where) for row, where, _ in done.rejected] == [(2, "price")]
    after = store.status()
    assert after.repaired["orders"] - before.repaired["orders"] == 2
    assert before.quarantined["orders"] - after.quarantined["orders"] == 2
    records[1]["mended"]["price"] = 1
    again = store.resubmit("orders", records)
    assert (again.accepted, again.duplicate) == (1, 2)
    assert store.status().events - before.events == 3
    assert counts(store.ingest("orders", path)) == (12, 0, 12, 0)
    assert store.resubmit("orders", [{"source": "x", "row": 1}]).accepted == 0
    for wrong in ({"source": "", "row": 1}, {"source": "a", "row": -1}, {"source": "~a", "row": 1}):
        with pytest.raises(pf.CallerError):
            store.resubmit("orders", [wrong | {"mended": {}}])


DOCUMENT = (Path(__file__).resolve().parents[2] / "docs" / "INGEST.md").read_text(encoding="utf-8")


def test_the_programs_of_the_document_run_as_printed(store: pf.Store, tmp_path: Path) -> None:
    programs = re.findall(r"```python\n(.*?)```\n(?:\n```text\n(.*?)```)?", DOCUMENT, re.DOTALL)
    assert len(programs) == DOCUMENT.count("```python")
    names: dict[str, object] = {"store": store, "folder": tmp_path, "pf": pf}
    for program, printed in programs:
        out = io.StringIO()
        with contextlib.redirect_stdout(out):
            exec(program, names)
        assert out.getvalue() == printed, program


def test_the_recipe_for_kafka_runs_as_printed(store: pf.Store, tmp_path: Path) -> None:
    """With librdkafka, on its own mock broker."""
    ((program, printed),) = re.findall(r"```py\n(.*?)```\n\n```text\n(.*?)```", DOCUMENT, re.DOTALL)
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        exec(program, {"store": store, "folder": tmp_path})
    assert out.getvalue() == printed


def test_a_folder_is_followed_across_restarts(store: pf.Store, tmp_path: Path) -> None:
    """Each row once; what grew goes on, what shrank is new and reported."""
    path = tmp_path / "in" / "f.ndjson"
    path.parent.mkdir()
    path.write_bytes(lines(orders(7_000, 10)))
    with pytest.raises(pf.CallerError, match="folder"):
        store.follow("orders", path)
    coming = store.follow("orders", path.parent, every_s=0.05)
    assert counts(next(coming)) == (10, 10, 0, 0)
    path.write_bytes(lines(orders(7_000, 15)))
    assert counts(next(coming)) == (15, 5, 10, 0)
    again = store.follow("orders", path.parent, every_s=0.05)  # as after a restart
    assert counts(next(again)) == (15, 0, 15, 0)
    path.write_bytes(lines(orders(7_100, 3)))
    shrunk = next(again)
    assert counts(shrunk) == (3, 3, 0, 0)
    assert "shrank" in shrunk.warnings[0]


class Pipe:
    """Standard input that gives a few bytes at a time."""

    def __init__(self, data: bytes) -> None:
        self.buffer = self
        self._data = io.BytesIO(data)

    def read(self, size: int) -> bytes:
        return self._data.read(min(size, 70))


def test_standard_input(store: pf.Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a producer it counts once; what packed it and its form are seen."""
    rows = orders(8_000, 60)
    for data, expected in (
        (lines(rows), (60, 60, 0, 0)),
        (gzip.compress(lines(rows)), (60, 0, 60, 0)),
        (bz2.compress(lines(orders(8_000, 64))), (64, 4, 60, 0)),
    ):
        monkeypatch.setattr("sys.stdin", Pipe(data))
        report = store.ingest("orders", "-", producer="pipe")
        assert counts(report) == expected
        assert (report.bytes, report.by_file["-"].form) == (len(data), "ndjson")
    monkeypatch.setattr("sys.stdin", Pipe(b"_id,customer,at\np1,c0001,5\np2,c0001,soon\n"))
    assert counts(store.ingest("orders", "-")) == (2, 1, 0, 1)
    with pytest.raises(pf.CallerError, match="cannot be read twice"):
        store.ingest("orders", "-", max_bad_percent=1)
    monkeypatch.setattr("sys.stdin", Pipe(b"PAR1" + b"\0" * 99))
    with pytest.raises(pf.SchemaError, match="got Parquet"):
        store.ingest("orders", "-")


def test_a_dataset_of_ray_data_is_taken_as_the_table_it_holds(
    store: pf.Store, tmp_path: Path
) -> None:
    """Blocks in the order of their sources, though the first is worked out last: so its rows have
    their numbers, and count once."""
    import ray.data

    first = "2024-05-05T10:00:00Z"
    rows = [
        {"_id": f"d{n}", "customer": f"c{n % 7:04}", "at": first, "price": price, "sku": "x"}
        for n, price in enumerate([5.0, -1.0, float("nan"), None, *[2.0] * 36])
    ]
    rows[33]["at"] = "soon"
    table = pa.Table.from_pylist(rows)
    expected = store.submit("orders", table, "a table", 0)
    done = str(tmp_path / "done")

    def worked_out(block: pa.Table) -> pa.Table:
        import os
        import time

        end = time.monotonic() + 60
        if block["_id"][0].as_py() != "d0":
            with open(done, "w"):
                return block
        while not os.path.exists(done) and time.monotonic() < end:
            time.sleep(0.01)
        time.sleep(0.5)  # Ray hands out the other one meanwhile, unless it is asked for order
        return block

    found = ray.data.from_arrow([table.slice(0, 20), table.slice(20)]).map_batches(
        worked_out, batch_size=None, batch_format="pyarrow"
    )
    report = store.ingest("orders", found, producer="a dataset")
    # All but the rejected ones are known by their ids, of the table.
    assert counts(report) == (40, 0, 40 - expected.rejected_count, expected.rejected_count)
    kept = [(r.source, r.row, r.path, r.reason) for r in store.quarantine("orders", 100_000)]
    mine, others = (
        {row[1:] for row in kept if row[0] == name} for name in ("a dataset", "a table")
    )
    assert mine == others
    assert {(row, path) for row, path, _ in mine} == {(1, "price"), (2, "price"), (33, "at")}
    assert counts(store.ingest("orders", found, producer="a dataset")) == (40, 0, 37, 3)
    assert not found.context.execution_options.preserve_order
    assert counts(store.ingest("orders", found)) == (40, 0, 37, 3)
    with pytest.raises(pf.CallerError, match=r"files with max_bad_percent, got a Dataset"):
        store.ingest("orders", found, max_bad_percent=1)


def test_profiles_are_a_dataset_of_ray_data(
    store: pf.Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a scan gives, made by tasks: the driver is sent no profile."""
    from profile_actors.driver.files import ray_datasets

    store.submit("orders", [order(n, n % 30, START, 60.0) for n in range(9_000, 9_060)])
    for segment, fields in ((None, None), ("big", ["identities", "segments.big"])):
        table = store.scan(fields, segment).read_all()
        # Of people of whom no record says anything, a struct of nothing.
        expected = table.drop_columns(["attributes"] if fields is None else []).to_pylist()
        with monkeypatch.context() as patched:
            patched.setattr(ray_datasets, "GROUP_ROWS", 7)
            patched.setattr(type(store._connection), "read", None)
            found = store.ray_dataset(segment, fields)
        assert found.num_blocks() >= len(expected) / 7
        key = str
        assert sorted(found.take_all(), key=key) == sorted(expected, key=key)
        assert expected
    with pytest.raises(pf.DefinitionError, match="nobody"):
        store.ray_dataset("nobody")


def test_ray_data_that_is_not_installed_is_one_sentence(
    store: pf.Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    import sys

    monkeypatch.delitem(sys.modules, "ray.data", raising=False)
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(pf.ConfigError, match=r"expected Ray Data.*profile-actors\[data\]"):
        store.ray_dataset()
