"""FileCheckpoints: round trip, two kept, damage anywhere is found, runs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from profile_actors.errors import CorruptLog
from profile_actors.storage.checkpoint_files import FileCheckpoints
from profile_actors.storage.files.array_files import read_arrays, write_arrays
from profile_actors.storage.files.atomic_files import aside_of

ARRAYS: dict[str, np.ndarray] = {
    "int8": np.arange(-3, 4, dtype=np.int8),
    "uint64": np.arange(12, dtype=np.uint64).reshape(3, 4) << np.uint64(60),
    "bool": np.array([[True], [False], [True]]),
    "float64": np.array([0.1, -0.0, np.nan, np.inf]),
    "none": np.zeros(0, np.int64),
    "none by three": np.zeros((0, 3), np.uint16),
    "one": np.array(7, dtype=np.int32),
    "every second": np.arange(20, dtype=np.int64)[::2],
    "columns first": np.asfortranarray(np.arange(6, dtype=np.uint8).reshape(2, 3)),
}


def assert_same(found: dict[str, np.ndarray], wanted: dict[str, np.ndarray]) -> None:
    assert list(found) == list(wanted)
    for name, array in wanted.items():
        assert found[name].dtype == array.dtype
        assert found[name].shape == array.shape
        assert found[name].tobytes() == array.tobytes()


def newest(directory: Path) -> Path:
    return max((directory / "checkpoints").glob("*.arrow"))


def test_load_gives_owned_writable_arrays(tmp_path: Path) -> None:
    checkpoints = FileCheckpoints(tmp_path)
    assert checkpoints.load() is None
    checkpoints.save(12, b"\x00meta\xff", ARRAYS)
    found = FileCheckpoints(tmp_path).load()
    assert found is not None
    position, meta, arrays = found
    assert (position, meta) == (12, b"\x00meta\xff")
    assert_same(arrays, ARRAYS)
    assert all(array.flags.writeable and array.flags.owndata for array in arrays.values())
    arrays["int8"][0] = 100
    again = checkpoints.load()
    assert again is not None
    assert_same(again[2], ARRAYS)


@given(
    arrays=st.dictionaries(
        st.text(max_size=5).filter(lambda name: name != "@meta"),
        hnp.arrays(
            st.sampled_from(["?", "u1", "i1", "u2", "i2", "u4", "i4", "u8", "i8", "f4", "f8"]),
            hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=5),
        ),
        max_size=4,
    ),
    position=st.integers(0, 2**63),
)
def test_any_arrays_come_back(
    tmp_path_factory: pytest.TempPathFactory, arrays: dict[str, np.ndarray], position: int
) -> None:
    path = tmp_path_factory.getbasetemp() / "arrays.arrow"
    write_arrays(path, position, arrays, lambda: None)
    found_position, found = read_arrays(aside_of(path))
    assert found_position == position
    assert_same(found, arrays)


def test_two_are_kept(tmp_path: Path) -> None:
    checkpoints = FileCheckpoints(tmp_path)
    for position in (9, 10, 200, 1_000):
        checkpoints.save(position, b"", {"a": np.array([position])})
    names = sorted(path.name for path in (tmp_path / "checkpoints").iterdir())
    assert [int(name[11:31]) for name in names] == [200, 1_000]


def test_damage_at_any_place_makes_the_older_one_used(tmp_path: Path) -> None:
    checkpoints = FileCheckpoints(tmp_path)
    checkpoints.save(1, b"old", {"a": np.arange(5)})
    arrays = {"a": np.arange(300), "b": np.ones(70, bool)}
    checkpoints.save(2, b"new", arrays)
    path = newest(tmp_path)
    whole = path.read_bytes()
    used_old = 0
    for offset in range(0, len(whole), 3):
        path.write_bytes(whole[:offset] + bytes([whole[offset] ^ 0x24]) + whole[offset + 1 :])
        found = checkpoints.load()
        assert found is not None
        # Padding and Arrow's second copy of the schema are not read: all that is, is right then.
        if found[0] == 1:
            used_old += 1
            assert str(path) in checkpoints.damaged[0]
            assert found[1] == b"old"
        else:
            assert found[:2] == (2, b"new")
            assert_same(found[2], arrays)
    assert used_old >= (arrays["a"].nbytes + arrays["b"].nbytes) // 3


def test_file_cut_short_makes_the_older_one_used(tmp_path: Path) -> None:
    checkpoints = FileCheckpoints(tmp_path)
    checkpoints.save(1, b"old", {"a": np.arange(5)})
    checkpoints.save(2, b"new", {"a": np.arange(3_000)})
    path = newest(tmp_path)
    whole = path.read_bytes()
    for size in (0, 1, 8, 100, 5_000, len(whole) - 1):
        path.write_bytes(whole[:size])
        found = checkpoints.load()
        assert found is not None
        assert found[:2] == (1, b"old")


def test_both_damaged_is_none(tmp_path: Path) -> None:
    checkpoints = FileCheckpoints(tmp_path)
    for position in (1, 2):
        checkpoints.save(position, b"", {"a": np.arange(5)})
    for path in (tmp_path / "checkpoints").iterdir():
        path.write_bytes(b"rubbish")
    assert checkpoints.load() is None
    assert len(checkpoints.damaged) == 2
    checkpoints.save(3, b"fresh", {})
    found = checkpoints.load()
    assert found is not None
    assert found[:2] == (3, b"fresh")


def test_runs_are_mapped_read_only_and_outlive_their_file(tmp_path: Path) -> None:
    checkpoints = FileCheckpoints(tmp_path)
    for name in ("run-1", "run-2", "run-3"):
        checkpoints.save_run(name, ARRAYS)
    run = checkpoints.load_run("run-1")
    assert_same(run, ARRAYS)
    assert not any(array.flags.writeable for array in run.values())
    checkpoints.drop_runs({"run-2"})
    assert [path.name for path in (tmp_path / "runs").iterdir()] == ["run-2.arrow"]
    assert_same(run, ARRAYS)
    for name in ("run-1", "run-4"):
        with pytest.raises(CorruptLog, match=name):
            checkpoints.load_run(name)


def test_damaged_run_is_named(tmp_path: Path) -> None:
    FileCheckpoints(tmp_path).save_run("r", {"a": np.full(1_000, 77, np.uint8)})
    path = tmp_path / "runs" / "r.arrow"
    stored = bytearray(path.read_bytes())
    stored[stored.find(bytes([77]) * 1_000) + 500] ^= 1
    path.write_bytes(stored)
    with pytest.raises(CorruptLog, match=f"'a'.*{path}"):
        FileCheckpoints(tmp_path).load_run("r")


def test_any_arrow_tool_reads_a_checkpoint(tmp_path: Path) -> None:
    FileCheckpoints(tmp_path).save(1, b"m", {"numbers": np.array([3, 1, 2])})
    table = pa.ipc.open_file(newest(tmp_path)).read_all()
    assert table["numbers"].to_pylist() == [[3, 1, 2]]


def test_what_is_not_numbers_is_refused(tmp_path: Path) -> None:
    with pytest.raises(TypeError, match="'texts'"):
        FileCheckpoints(tmp_path).save(1, b"", {"texts": np.array(["a"])})
