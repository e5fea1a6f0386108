"""Files of an edge on real LMDB: whose they are, when they begin anew, and what readers see."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from msgspec import structs

from profile_actors.definitions.declared import Namespace
from profile_actors.errors import FencedOut
from profile_actors.storage import edge_files
from profile_actors.storage.edge_files import KEPT_S, LOOK_S, EdgeFiles, EdgeIndex, EdgeReader
from profile_actors.storage.files.atomic_files import remove_tree

ABOUT = EdgeIndex(0, "a store", "a boot", "event", 7, 2)


def opened(path: Path, about: EdgeIndex = ABOUT) -> EdgeFiles:
    return EdgeFiles(path, about, 1 << 24)


def put(files: EdgeFiles, value: bytes) -> None:
    with files.current.writing() as rows:
        rows.put("profiles", b"key", value)


def told(reader: EdgeReader) -> bytes | None:
    with reader.current().reading() as rows:
        return rows.get("profiles", b"key")


@pytest.mark.parametrize(("before", "after"), [(None, 60), (60, None), (60, 90)])
def test_another_ttl_begins_anew_and_the_same_goes_on(
    tmp_path: Path, before: int | None, after: int | None
) -> None:
    """Else nobody there would ever leave, or whoever had left would never come again."""
    for ttl_s, kept in ((before, 0), (before, 1), (after, 0), (after, 1)):
        files = opened(tmp_path, structs.replace(ABOUT, ttl_s=ttl_s))
        assert files.current.count("profiles") == kept
        put(files, b"value")
        files.close()


def test_files_with_profiles_of_another_form_are_made_anew(tmp_path: Path) -> None:
    """As those of an earlier release are, whose bytes are no profiles here."""
    for form, kept in ((0, 0), (1, 0), (1, 1)):
        files = opened(tmp_path, structs.replace(ABOUT, form=form))
        assert files.current.count("profiles") == kept
        put(files, b"value")
        files.close()


def test_a_reader_follows_a_directory_that_was_made_again(tmp_path: Path) -> None:
    path = tmp_path / "edge"
    files = opened(path)
    put(files, b"old")
    files.close()
    reader = EdgeReader(path)
    assert told(reader) == b"old"
    remove_tree(path)
    files = opened(path)  # its first generation again, of the same number
    put(files, b"new")
    files.close()
    assert told(reader) == b"new"
    reader.close()


def test_a_reader_looks_for_another_generation_so_often(tmp_path: Path) -> None:
    files = opened(tmp_path)
    files.close()
    reader = EdgeReader(tmp_path)
    first = reader.current(100.0)
    files = opened(tmp_path)
    files.begin()
    files.swap()
    files.close()
    assert reader.current(100.0 + 0.9 * LOOK_S) is first
    assert reader.current(100.0 + 1.1 * LOOK_S).number == first.number + 1
    reader.close()


def test_one_process_writes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(edge_files, "LOCK_WAIT_S", 0.01)
    files = opened(tmp_path)
    put(files, b"value")
    with pytest.raises(FencedOut):
        opened(tmp_path)
    files.close()
    files = opened(tmp_path)
    assert files.current.count("profiles") == 1
    files.close()


def test_namespaces_outlive_a_restart(tmp_path: Path) -> None:
    files = opened(tmp_path)
    files.tell({"C": Namespace("C", "cross_device")})
    files.close()
    opened(tmp_path).close()
    reader = EdgeReader(tmp_path)
    assert list(reader.index.namespaces) == ["C"]
    reader.close()


def test_old_generations_are_closed_after_a_while(tmp_path: Path) -> None:
    files = opened(tmp_path)
    files.begin()
    files.swap()
    for second in (1.0, 2.0):
        files.let_go(second)
        assert len(deleted_files(tmp_path)) > 0
    files.let_go(1.0 + KEPT_S)
    assert deleted_files(tmp_path) == []
    files.close()


def deleted_files(path: Path) -> list[str]:
    """Those below a path that this process still has open."""
    found = []
    for number in os.listdir("/proc/self/fd"):
        try:
            target = os.readlink(f"/proc/self/fd/{number}")
        except OSError:
            continue
        if target.startswith(f"{path}/") and target.endswith(" (deleted)"):
            found.append(target)
    return found
