"""A file is recognised by its other rows when its rejected rows were put right in place."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from profile_actors.ingest.files import mended_files
from profile_actors.ingest.files.csv_blocks import read_csv_blocks
from profile_actors.ingest.files.file_contents import Digests, FileContent, Recognised, recognised
from profile_actors.ingest.files.mended_files import mended_from, rest_of
from profile_actors.ingest.offsets import ranges_of

HEAD = "u,t\n"
ROWS = ["a,1\n", "b,x\n", '"c\nd",3\n', "e,y\n"]
BAD = (1, 3)


def content(path: Path, text: str, rows: int, rejected: tuple[int, ...] = BAD) -> FileContent:
    """What is kept of a file with this text once it was read."""
    path.write_text(text, newline="")
    size = path.stat().st_size
    found = recognised(path, Digests("d", path, size, ()), (), None).content
    form = path.suffix[1:]
    rest = rest_of(path, form, size, rows, ranges_of(np.array(rejected)))
    return FileContent(**{f: getattr(found, f) for f in found.__struct_fields__} | {"rest": rest})


def taken_for(path: Path, text: str, was: FileContent) -> Recognised:
    path.write_text(text, newline="")
    size = path.stat().st_size
    mended = mended_from(path, was.path, path.suffix[1:], size, [was])
    return recognised(path, Digests("d", path, size, (was.bytes,)), [was], None, mended)


@pytest.mark.parametrize(
    "rows",
    [
        ["a,1\n", "b,2\n", '"c\nd",3\n', "e,4\n"],
        ["a,1\n", "b,2\n", '"c\nd",3\n', "e,y\n"],  # one of two
        ["a,1\n", "b,2\n", '"c\nd",3\n', "e,4\n", "f,5\n"],  # and grown
        ["a,1\r\n", '"b\n""\n",2\r\n', '"c\nd",3\r\n', "\n", "e,4"],  # by another editor
    ],
)
def test_mended_rows_leave_a_file_the_same(tmp_path: Path, rows: list[str]) -> None:
    was = content(tmp_path / "g.csv", HEAD + "".join(ROWS), 4)
    found = taken_for(tmp_path / "g.csv", HEAD + "".join(rows), was)
    assert found.known is was
    assert found.warnings == ()
    now = found.content
    assert (now.producer, now.rows, now.version, now.rest) == (was.producer, -1, 1, was.rest)


@pytest.mark.parametrize(
    "text",
    [
        HEAD + "".join(["a,9\n", "b,2\n", *ROWS[2:]]),
        HEAD + "".join(["a,1\n", '"c\nd",3\n']),  # without the rejected rows
        HEAD + "".join(["z,0\n", *ROWS]),
        HEAD + "".join(ROWS[:3]),
        "u,s\n" + "".join(ROWS),
    ],
)
def test_other_changes_make_it_new_and_are_said(tmp_path: Path, text: str) -> None:
    was = content(tmp_path / "g.csv", HEAD + "".join(ROWS), 4)
    found = taken_for(tmp_path / "g.csv", text, was)
    assert found.known is None
    assert "stay in quarantine" in found.warnings[0]


def test_of_a_file_without_a_good_row_their_number_decides(tmp_path: Path) -> None:
    was = content(tmp_path / "g.csv", "u,tt\nb,x\ne,y\n", 2, (0, 1))
    found = taken_for(tmp_path / "g.csv", HEAD + "b,1\ne,2\n", was)
    assert found.known is was
    assert "has 2 rows, as many as were all rejected" in found.warnings[0]
    assert taken_for(tmp_path / "g.csv", HEAD + "b,1\ne,2\nf,3\n", was).known is None


def test_lines_of_json(tmp_path: Path) -> None:
    lines = '{"u": "a"}\n\n{"u": 1}\n{"u": "c"}'
    was = content(tmp_path / "g.ndjson", lines, 3, (1,))
    assert taken_for(tmp_path / "g.ndjson", lines.replace("1", '"b"') + "\n", was).known is was
    assert taken_for(tmp_path / "g.ndjson", lines.replace("c", "d"), was).known is None


def test_a_file_elsewhere_is_another(tmp_path: Path) -> None:
    was = content(tmp_path / "g.csv", HEAD + "".join(ROWS), 4)
    (tmp_path / "day2").mkdir()
    mended = HEAD + "".join(ROWS).replace("x", "2")
    (tmp_path / "day2" / "g.csv").write_text(mended)
    size = len(mended)
    where = str(tmp_path / "day2" / "g.csv")
    assert mended_from(tmp_path / "day2" / "g.csv", where, "csv", size, [was]) is None


CELLS = st.sampled_from(["a", "", '"b"', '"x\ny"', '"q""\n"', 'p"q', '"r\r\n"', "ü"])


@given(
    st.lists(st.tuples(CELLS, CELLS), max_size=12),
    st.sampled_from(["\n", "\r\n", "\n\n"]),
    st.booleans(),
    st.integers(8, 40),
)
@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_rows_are_numbered_as_they_are_read(
    tmp_path: Path, rows: list[tuple[str, str]], end: str, is_whole: bool, piece: int
) -> None:
    path = tmp_path / "g.csv"
    text = end.join([HEAD[:-1], *(",".join(row) for row in rows)]) + (end if is_whole else "")
    path.write_bytes(text.encode())
    count = sum(block.count for block in read_csv_blocks(path, piece))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(mended_files, "_PIECE_BYTES", piece)
        size = path.stat().st_size
        assert rest_of(path, "csv", size, count, np.array([[0, 1]])) is not None
