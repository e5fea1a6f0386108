"""Which files of a watched folder are ripe: those that look the same twice, once as they look."""

from __future__ import annotations

from pathlib import Path

from profile_actors.driver.files.following import Ripeness
from profile_actors.ingest.files.places import File, Sign, files_in, sign_of

A, B = Path("a.csv"), Path("b.csv")


def looked(known: Ripeness, *, loads: bool = True, **signs: Sign) -> list[File]:
    files: dict[File, Sign] = {Path(f"{name}.csv"): sign for name, sign in signs.items()}
    ripe = known.ripe(files)
    for file in ripe if loads else ():
        known.loaded(file)
    return ripe


def test_a_file_is_ripe_once_for_each_state_in_which_it_rests() -> None:
    known = Ripeness()
    assert looked(known, a=(1, 1)) == []
    assert looked(known, a=(2, 2)) == []  # it grows
    assert looked(known, a=(2, 2), b=(5, 1)) == [A]
    assert looked(known, a=(2, 2), b=(5, 1)) == [B]
    assert looked(known, a=(2, 2), b=(5, 1)) == []
    assert looked(known, a=(3, 9), b=(5, 2)) == []
    assert looked(known, a=(3, 9), b=(5, 3)) == [A]
    assert looked(known, a=(1, 10), b=(5, 3)) == [B]  # altered at its old size
    assert looked(known, a=(1, 10), b=(5, 3)) == [A]  # shrunk
    assert looked(known, b=(5, 3)) == []
    assert looked(known, a=(1, 10), b=(5, 3)) == []  # gone and come again
    assert looked(known, a=(1, 10), b=(5, 3)) == [A]


def test_what_was_not_loaded_stays_ripe() -> None:
    known = Ripeness()
    looked(known, a=(1, 1))
    assert looked(known, loads=False, a=(1, 1)) == [A]
    assert looked(known, a=(1, 1)) == [A]
    assert looked(known, a=(1, 1)) == []


def test_a_renamed_file_is_seen_and_a_hidden_one_is_not(tmp_path: Path) -> None:
    (tmp_path / "x.csv.tmp").write_bytes(b"a\n")
    assert files_in(tmp_path).files == []
    (tmp_path / "x.csv.tmp").rename(tmp_path / "x.csv")
    (found,) = files_in(str(tmp_path)).files
    assert sign_of(found)[0] == 2
    assert files_in(f"file://{tmp_path}").files == [found]
