"""CSV blocks: every row numbered, whatever the block size; broken rows are rejects."""

from __future__ import annotations

import csv
import gzip
import io
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from profile_actors.errors import SchemaError
from profile_actors.ingest.files.byte_sources import plain_bytes
from profile_actors.ingest.files.csv_blocks import (
    MAX_HEADER_BYTES,
    _last_line_end_slowly,
    csv_blocks,
    last_line_end,
    read_csv_blocks,
)
from profile_actors.ingest.row_blocks import RowBlock

Row = tuple[int, dict[str, str | None]]


def rows_of(blocks: list[RowBlock]) -> list[Row]:
    rows: list[Row] = []
    for block in blocks:
        places = np.arange(block.count) if block.numbers is None else block.numbers
        numbers = [block.first_row + int(place) for place in places]
        rows += zip(numbers, block.rows.to_pylist(), strict=True)
    return rows


def written(folder: Path, data: bytes | str) -> Path:
    path = folder / "rows.csv"
    path.write_bytes(data.encode() if isinstance(data, str) else data)
    return path


def test_cells_are_text_and_only_the_empty_unquoted_one_is_null(tmp_path: Path) -> None:
    path = written(tmp_path, '\ufeffa,b\n00004,""\nNA,\n" x","1,5"\nnan,5" screen\n')
    assert rows_of(list(read_csv_blocks(path, 1000))) == [
        (0, {"a": "00004", "b": ""}),
        (1, {"a": "NA", "b": None}),
        (2, {"a": " x", "b": "1,5"}),
        (3, {"a": "nan", "b": '5" screen'}),
    ]


@pytest.mark.parametrize("use_threads", [False, True])
def test_broken_rows_are_rejected_and_keep_their_numbers(tmp_path: Path, use_threads: bool) -> None:
    data = b'a,b\n1,2\n\n3\n4,5\n6,7,8\n9,"x\ny"\n\xff,5\n\xff\n1,\xfe\n7,\xc3\xa9\n'
    (block,) = read_csv_blocks(written(tmp_path, data), 1000, use_threads=use_threads)
    assert len(block) == 9
    assert rows_of([block]) == [
        (0, {"a": "1", "b": "2"}),
        (2, {"a": "4", "b": "5"}),
        (4, {"a": "9", "b": "x\ny"}),
        (8, {"a": "7", "b": "é"}),
    ]
    assert [(r.row, r.path, r.reason, r.raw) for r in block.rejects] == [
        (1, "", "expected 2 cells, got 1", "3"),
        (3, "", "expected 2 cells, got 3", "6,7,8"),
        (5, "a", "expected UTF-8 text, got byte 0xff", "\\xff,5"),
        (6, "", "expected 2 cells, got 1", "\\xff"),
        (7, "b", "expected UTF-8 text, got byte 0xfe", "1,\\xfe"),
    ]


cells = st.none() | st.text(st.sampled_from('a,"\n\ré '), max_size=5)


@given(st.lists(st.lists(cells, min_size=2, max_size=3), max_size=12), st.integers(1, 80))
def test_any_block_size_gives_the_same_rows(
    tmp_path_factory: pytest.TempPathFactory, table: list[list[str | None]], block_bytes: int
) -> None:
    """Rows of two cells are rows, rows of three are rejects; numbers do not depend on the cut."""
    out = io.StringIO()
    out.write("x,y\n")
    for row in table:
        quoted = ("" if c is None else '"' + c.replace('"', '""') + '"' for c in row)
        out.write(",".join(quoted) + "\n")
    path = tmp_path_factory.mktemp("csv") / "rows.csv"
    path.write_bytes(out.getvalue().encode())
    blocks = list(read_csv_blocks(path, block_bytes + 20))
    assert rows_of(blocks) == [
        (i, dict(zip("xy", row, strict=True))) for i, row in enumerate(table) if len(row) == 2
    ]
    assert [r.row for b in blocks for r in b.rejects] == [
        i for i, row in enumerate(table) if len(row) == 3
    ]
    assert [b.first_row for b in blocks] == [
        sum(len(c) for c in blocks[:i]) for i in range(len(blocks))
    ]
    assert sum(block.size_bytes for block in blocks) == (path.stat().st_size if blocks else 0)


@given(st.text(st.sampled_from('a,"\n\r'), max_size=40))
def test_both_ways_to_cut_a_block_agree(text: str) -> None:
    """The vectorised one knows when quotes do not pair up."""
    data = text.encode()
    assert last_line_end(data) == _last_line_end_slowly(data)


def test_a_block_can_be_cut(tmp_path: Path) -> None:
    path = written(tmp_path, "a\n0\n1\n2,2\n3\n4\n")
    (block,) = read_csv_blocks(path, 1000)
    parts = [block[0:2], block[2:4], block[4:9]]
    assert [len(part) for part in parts] == [2, 2, 1]
    assert rows_of(parts) == rows_of([block])
    assert [len(part.rejects) for part in parts] == [0, 1, 0]


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "expected a header line"),
        (b"\n1,2\n", "expected a header line"),
        (b"a,b,a\n", "each column named once, got 'a' twice"),
        (b"a,,b\n", "column 2 has no name .* ignore="),
        (b",,\n", "column 1 has no name"),
        (b"\xff,b\n", "expected a header in UTF-8"),
        (b"who;at\na;2024-03-01\n", "it looks as if semicolons separated them"),
        (b"who\tat\na\t2024-03-01\n", "it looks as if tabs separated them"),
        (b'a,b\n1,"' + b"x\n" * 2000, "a quote that is not closed"),
    ],
)
def test_a_bad_file_is_an_error_with_the_place(tmp_path: Path, data: bytes, words: str) -> None:
    with pytest.raises(SchemaError, match=words) as caught:
        list(read_csv_blocks(written(tmp_path, data), 100))
    assert "rows.csv" in str(caught.value)


@pytest.mark.parametrize("block_bytes", [15, 1000])
@pytest.mark.parametrize("cell", ['"x', '"x""', '"x"" y,'])
def test_an_unclosed_quote_swallows_no_row_in_silence(
    tmp_path: Path, cell: str, block_bytes: int
) -> None:
    text = f"a,b\n1,2\n3,{cell}\n4,5\n6,7\n"
    blocks = list(read_csv_blocks(written(tmp_path, text), block_bytes))
    assert rows_of(blocks) == [(0, {"a": "1", "b": "2"})]
    rejects = [reject for block in blocks for reject in block.rejects]
    assert [(r.row, r.reason) for r in rejects] == [
        (1, "expected a closing quote, got the end of the file")
    ]
    assert rejects[0].raw == text[8:]
    assert sum(block.size_bytes for block in blocks) == len(text)


def test_columns_without_a_name_are_left_out_if_asked(tmp_path: Path) -> None:
    data = ',u,t,""\n0,a,x,1\n1,b\n2,c,y,3\n3,\xff,y,3\n'.encode("latin-1")
    path = written(tmp_path, data)
    (block,) = read_csv_blocks(path, 1000, skip_unnamed=True)
    assert block.rows.to_pylist() == [{"u": "a", "t": "x"}, {"u": "c", "t": "y"}]
    assert [(r.row, r.reason) for r in block.rejects] == [
        (1, "expected 4 cells, got 2"),
        (3, "expected UTF-8 text, got byte 0xff"),
    ]
    with pytest.raises(SchemaError, match="column 1 has no name"):
        next(read_csv_blocks(path, 1000))
    (open_quote,) = read_csv_blocks(written(tmp_path, ',u\n"0'), 1000, skip_unnamed=True)
    assert open_quote.rows.column_names == ["u"]


@pytest.mark.parametrize("data", [b"x" * (3 << 20), b'a,"b' + b"\n" * (3 << 20)])
def test_a_header_has_a_limit(tmp_path: Path, data: bytes) -> None:
    """Of a packed file that is no CSV, and of one with a quote too many, at once."""
    path = tmp_path / "h.csv.gz"
    path.write_bytes(gzip.compress(data, 1))
    began = time.thread_time()
    words = f"end of the header within {MAX_HEADER_BYTES} bytes"
    with plain_bytes(path, "gzip") as source, pytest.raises(SchemaError, match=words):
        next(csv_blocks(source, str(path), 1000))
    assert time.thread_time() - began < 5


def test_a_wide_header_is_within_the_limit(tmp_path: Path) -> None:
    wide = ",".join(f"column_{n}_{'x' * 80}" for n in range(9_000))
    path = written(tmp_path, f"{wide}\r\n{',' * 8_999}\n")
    (block,) = read_csv_blocks(path, 10_000_000)
    assert (block.rows.num_columns, block.count) == (9_000, 1)


def test_a_quoted_header_and_no_rows(tmp_path: Path) -> None:
    assert list(read_csv_blocks(written(tmp_path, 'a,"b,\nc"'), 100)) == []
    (block,) = read_csv_blocks(written(tmp_path, 'a,"b,\nc"\r\n1,2\r\n'), 100)
    assert rows_of([block]) == [(0, {"a": "1", "b,\nc": "2"})]


def test_agrees_with_the_standard_library(tmp_path: Path) -> None:
    table = [["a", "b"], ['say "hi"', "x\r\ny"], ["", "é,"], ["1", "2"]]
    out = io.StringIO()
    csv.writer(out).writerows(table)
    (block,) = read_csv_blocks(written(tmp_path, out.getvalue()), 1000)
    found = [[cell or "" for cell in row.values()] for row in block.rows.to_pylist()]
    assert found == table[1:]
