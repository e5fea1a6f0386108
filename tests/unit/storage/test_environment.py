"""Making environments: whatever inodes their files are given."""

from __future__ import annotations

import os
from pathlib import Path

import lmdb
import pytest

from profile_actors.storage import environment
from profile_actors.storage.environment import DATA, create_environment
from profile_actors.storage.files.atomic_files import make_file

MAP_BYTES = 1 << 20


def test_new_files_with_the_inodes_of_an_environment_that_is_being_forgotten_are_made_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """py-lmdb takes them for still open. A second name stands for an inode that was given back."""
    other = create_environment(tmp_path / "other", MAP_BYTES, 1, sync=False)
    inodes = iter([tmp_path / "other" / DATA])

    def made(path: Path) -> None:
        for taken in inodes:
            os.link(taken, path)
            return
        make_file(path)

    monkeypatch.setattr(environment, "make_file", made)
    new = create_environment(tmp_path / "new", MAP_BYTES, 1, sync=False)
    with new.begin(write=True) as transaction:
        transaction.put(b"k", b"new")
    with other.begin() as transaction:
        assert transaction.get(b"k") is None
    assert sorted(path.name for path in (tmp_path / "new").iterdir()) == ["data.mdb", "lock.mdb"]
    monkeypatch.undo()
    with pytest.raises(lmdb.Error, match="already open"):
        environment.open_raw(tmp_path / "other", MAP_BYTES, 1, sync=False)
    new.close()
    other.close()
