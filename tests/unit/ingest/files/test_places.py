"""What paths, patterns, folders and URIs name, and what a folder's files are passed over for."""

from __future__ import annotations

import errno
import gzip
import os
from pathlib import Path
from typing import Any

import pyarrow.fs
import pytest

from profile_actors.errors import CallerError
from profile_actors.ingest.files.byte_sources import Stream, packed_with, plain_bytes
from profile_actors.ingest.files.file_contents import Digests
from profile_actors.ingest.files.places import RemoteFile, form_of, listed, matching, size_of


@pytest.mark.parametrize("name", ["x" * 10_000, "a/" + "x" * 300, "a\0b", "\udce9", "["])
def test_a_name_that_no_file_can_have_is_no_file(name: str) -> None:
    with pytest.raises(CallerError, match="expected a file, got none that matches"):
        matching([name])


@pytest.mark.parametrize("root", ["/", "//", "/tmp/..", "file:///"])
def test_the_whole_machine_is_no_folder_of_files(root: str) -> None:
    with pytest.raises(CallerError, match="all of the machine"):
        matching([root])


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("b/2.csv", "a.csv", "b/1.ndjson.gz", "B.PARQUET", "_tmp/x.csv", "b/.x/y.csv"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"a\n1\n")
    for name in ("_SUCCESS", "c.csv.tmp", "d.csv~", "e.txt", "f.csv.part"):
        (tmp_path / name).write_bytes(b"")
    return tmp_path


def names(files: list[object], top: object) -> list[str]:
    return [str(file).removeprefix(f"{top}/") for file in files]


def test_a_folder_is_read_with_its_folders(folder: Path) -> None:
    expected = ["B.PARQUET", "a.csv", "b/1.ndjson.gz", "b/2.csv"]
    found = matching([folder])
    assert names([*found.files], folder) == expected
    assert {name.removeprefix(f"{folder}/"): why[:6] for name, why in found.skipped.items()} == {
        "_SUCCESS": "hidden", "_tmp": "hidden", "b/.x": "hidden", "c.csv.tmp": "half-w",
        "d.csv~": "half-w", "e.txt": "none o", "f.csv.part": "half-w",
    }  # fmt: skip
    uri = f"file://{folder}"
    assert matching([uri]).files == found.files
    # The same through the other way of listing, which object stores take.
    files, skipped = listed(pyarrow.fs.LocalFileSystem(), str(folder), uri, None)
    assert sorted(names([*files], uri)) == expected
    assert len(skipped) == len(found.skipped)


def test_patterns_name_files_and_each_file_once(folder: Path) -> None:
    both = matching([folder / "*.csv", str(folder / "**" / "*.csv"), folder / "a.csv"])
    assert names([*both.files], folder) == ["_tmp/x.csv", "a.csv", "b/2.csv"]
    uri = f"x://{folder}"
    for pattern, expected in (("*.csv", ["a.csv"]), ("**/[12].*", ["b/1.ndjson.gz", "b/2.csv"])):
        local = pyarrow.fs.LocalFileSystem()
        found, _ = listed(local, str(folder), uri, f"{uri}/{pattern}")
        assert sorted(names([*found], uri)) == expected
    with pytest.raises(CallerError, match="convert it first"):
        matching([folder / "e.txt"])
    with pytest.raises(CallerError, match="expected a URI"):
        matching(["nowhere://a/b.csv"])
    (folder / "empty").mkdir()
    with pytest.raises(CallerError, match="none that matches"):
        matching([folder / "empty"])
    (folder / "empty" / "_SUCCESS").write_bytes(b"")
    with pytest.raises(CallerError, match="1 in the folder are passed over"):
        matching([folder / "empty"])


def test_the_form_is_in_the_name_and_the_packing_in_the_bytes(tmp_path: Path) -> None:
    assert [form_of(n) for n in ("a.CSV.gz", "a.jsonl", "a.parquet", "a.gz", "csv")] == [
        "csv", "ndjson", "parquet", None, None,
    ]  # fmt: skip
    path = tmp_path / "a.csv"
    path.write_bytes(gzip.compress(b"a\n1\n"))
    assert packed_with(path) == "gzip"
    path.write_bytes(b"BZh,a\n1,2\n")
    assert packed_with(path) is None


def test_a_file_elsewhere_is_read_as_one_that_is_here(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_bytes(gzip.compress(b"a\n" + b"1\n" * 100_000))
    remote = RemoteFile(f"x://{path}", str(path), pyarrow.fs.LocalFileSystem())
    assert (remote.name, size_of(remote)) == ("a.csv", path.stat().st_size)
    here, there = (Digests("d", file, size_of(file), ()) for file in (path, remote))
    assert (here.at, here.producer) == (there.at, there.producer)
    with plain_bytes(remote, packed_with(remote)) as stream:
        assert isinstance(stream, Stream)
        assert stream.read(2) == b"a\n"
        assert stream.read(5) == b"1\n1\n1"
        assert (stream.seek(-1, 1), stream.tell()) == (6, 6)
        assert stream.read(1 << 20) == b"1\n" + b"1\n" * (100_000 - 3)
        assert stream.read(1) == b""
        assert stream.packed_place() == size_of(remote)
    with pytest.raises(FileNotFoundError):
        size_of(RemoteFile("x://no", str(tmp_path / "no"), pyarrow.fs.LocalFileSystem()))


def test_a_folder_that_cannot_be_read_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is in it is wanted: it is not passed over in silence."""
    (tmp_path / "locked").mkdir()
    (tmp_path / "a.csv").write_bytes(b"a\n")
    scandir = os.scandir

    def locked(path: str) -> Any:
        if path.endswith("locked"):
            raise PermissionError(errno.EACCES, "Permission denied", path)
        return scandir(path)

    monkeypatch.setattr(os, "scandir", locked)
    found = matching([tmp_path])
    assert names([*found.files], tmp_path) == ["a.csv"]
    assert found.skipped == {str(tmp_path / "locked"): "unreadable: Permission denied"}
