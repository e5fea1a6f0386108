"""Files by content, on a disk and where files appear when they are whole."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pyarrow.fs
import pytest

from profile_actors.engine.shipping.pieces import Stored
from profile_actors.errors import CallerError, CorruptLog
from profile_actors.storage.shipping.backups import backup_id, made_at, own
from profile_actors.storage.shipping.depot import FILES, Depot, absolute, stored_bytes

DATA = b"of one content" * 1000


def depots(path: Path) -> list[Depot]:
    elsewhere: Any = pyarrow.fs.LocalFileSystem()
    return [Depot(str(path / "here")), Depot(str(path / "there"), system=elsewhere)]


def test_a_content_is_there_whole_or_is_said_not_to_be(tmp_path: Path) -> None:
    stored = stored_bytes(DATA)
    for depot in depots(tmp_path):
        assert depot.whole() == set()
        assert depot.listed(FILES) == {}
        depot.put(stored, [DATA[:7], DATA[7:]])
        assert depot.whole() == {stored.name}
        assert b"".join(depot.content(stored)) == DATA
        path = Path(depot.uri) / FILES / stored.name
        path.write_bytes(DATA[:-1])
        assert depot.whole() == set(), "cut short"
        with pytest.raises(CorruptLog, match=stored.name):
            b"".join(depot.content(stored))
        depot.delete(f"{FILES}/{stored.name}")
        depot.delete(f"{FILES}/{stored.name}")
        assert "got none" in str(depot.fault(stored))


def test_what_is_on_a_disk_is_for_its_owner_alone(tmp_path: Path) -> None:
    depot = Depot(str(tmp_path / "new" / "place"))
    depot.put(stored_bytes(DATA), [DATA])
    (path,) = (tmp_path / "new" / "place" / FILES).iterdir()
    assert (path.stat().st_mode & 0o777, path.parent.stat().st_mode & 0o777) == (0o600, 0o700)
    (path.parent / "half.aside").write_bytes(b"half")
    assert depot.drop_asides() == 1


def test_a_place_is_one_stores(tmp_path: Path) -> None:
    for depot in depots(tmp_path):
        own(depot, "a")
        own(depot, "a")
        with pytest.raises(CallerError, match="of store b, got one of store a"):
            own(depot, "b")
        depot.write("backup.json", [b"{"])
        with pytest.raises(CorruptLog, match=r"backup\.json"):
            own(depot, "a")


def test_places_are_absolute_whoever_names_them(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.chdir(tmp_path)
    assert absolute("b/") == absolute(Path("b")) == str(tmp_path / "b")
    assert absolute(f"file://{tmp_path}/b") == str(tmp_path / "b")
    assert absolute("s3://bucket/folder/") == "s3://bucket/folder"
    for wrong in ("", None):
        with pytest.raises(CallerError):
            absolute(wrong)  # type: ignore[arg-type]
    with pytest.raises(CallerError, match="s3://"):
        Depot("nowhere://bucket")
    assert Stored("ab", 3).name == "ab-3"


def test_two_may_write_one_content_at_a_time(tmp_path: Path) -> None:
    """Partitions that have had the same definitions alone have logs of one content."""
    stored, depot = stored_bytes(DATA), Depot(str(tmp_path))
    with ThreadPoolExecutor(4) as pool:
        for _ in range(8):
            list(pool.map(lambda _: depot.put(stored, [DATA]), range(4)))
    assert depot.fault(stored) is None
    assert len(list((tmp_path / FILES).iterdir())) == 1


def test_a_place_with_a_secret_in_its_name_is_refused_without_saying_it() -> None:
    with pytest.raises(CallerError, match="environment") as error:
        absolute("s3://key:hush@bucket/folder")
    assert "hush" not in str(error.value)
    assert absolute("abfs://folder@account.dfs.core.windows.net/x/").endswith("/x")


def test_an_id_says_when_its_backup_began() -> None:
    for at in (0, 1, 999, 1_700_000_000_123, 1_700_000_000_000):
        assert made_at(backup_id(at)) == at
    assert made_at("0") == made_at("") == 0
