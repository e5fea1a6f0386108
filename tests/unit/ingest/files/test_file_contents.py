"""Files are known by what they hold: repeated, renamed, grown, shrunk and altered ones."""

from __future__ import annotations

import gzip
import itertools
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from profile_actors.definitions.catalogue_changes import extended
from profile_actors.definitions.declared import Catalogue, Dataset, Namespace, Schema
from profile_actors.ingest.files.byte_sources import packed_with
from profile_actors.ingest.files.csv_blocks import read_csv_blocks
from profile_actors.ingest.files.file_contents import (
    Digests,
    FileContent,
    Recognised,
    complete_bytes,
    recognised,
)
from profile_actors.ingest.files.forms import read_blocks
from profile_actors.ingest.files.json_tables import JsonTables
from profile_actors.storage.catalogue_store import CatalogueStore

TABLES = JsonTables(
    extended(
        Catalogue(),
        [
            Namespace("N", kind="cross_device"),
            Schema("s", behavior="record", fields={"s": "string"}),
            Dataset("d", "s", identities={"n": "N"}),
        ],
    ),
    "d",
)


class Loader:
    """A driver and a store that count rows by producer and number, as the real ones do."""

    def __init__(self, store: CatalogueStore, folder: Path, dataset: str = "d") -> None:
        self.store = store
        self.folder = folder
        self.dataset = dataset
        self.rows: dict[tuple[str, int], str] = {}
        self.cursors: dict[str, int] = {}

    def load(
        self,
        name: str,
        text: str,
        dataset: str | None = None,
        *,
        closed: bool = True,
        crash_after: int | None = None,
    ) -> tuple[int, Recognised]:
        """How many rows were new, and what the file was taken for."""
        dataset = dataset or self.dataset
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(text.encode())
        size = path.stat().st_size if closed else complete_bytes(path, path.stat().st_size)
        same_name = self.store.files.of_name(dataset, path.name)
        digests = Digests(dataset, path, size, (c.bytes for c in same_name))
        same_bytes = self.store.files.of_bytes(dataset, digests.at[digests.size]) if size else None
        found = recognised(path, digests, same_name, same_bytes)
        if size:
            self.store.files.keep(dataset, found.content)
        producer, new, count = found.content.producer, 0, 0
        for block in read_csv_blocks(path, 64, size=size, closed=closed) if size else ():
            for row in block.rows.to_pylist():
                if crash_after is not None and new >= crash_after:
                    return new, found
                if count >= self.cursors.get(producer, 0):
                    self.rows[producer, count] = ",".join(map(str, row.values()))
                    self.cursors[producer] = count + 1
                    new += 1
                count += 1
        if size:
            self.store.files.keep(dataset, replace(found.content, rows=count))
        return new, found


@pytest.fixture
def loader(tmp_path: Path) -> Iterator[Loader]:
    store = CatalogueStore(tmp_path / "store")
    yield Loader(store, tmp_path)
    store.close()


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Loader]:
    folder = tmp_path_factory.mktemp("shared")
    store = CatalogueStore(folder / "store")
    yield Loader(store, folder)
    store.close()


WORLDS = itertools.count()


HEAD = "u,t\n"


def test_repeated_renamed_grown(loader: Loader) -> None:
    two = HEAD + "a,1\nb,2\n"
    assert loader.load("g.csv", two)[0] == 2
    assert loader.load("g.csv", two)[0] == 0
    assert loader.load("elsewhere/g.csv", two)[0] == 0
    new, found = loader.load("copy.csv", two)
    assert new == 0
    assert "holds the same bytes as 'g.csv'" in found.warnings[0]
    new, found = loader.load("g.csv", two + "c,3\n")
    assert (new, found.warnings) == (1, ())
    assert loader.load("copy.csv", two + "c,3\n")[0] == 0
    assert loader.load("g.csv", two)[0] == 0  # an older copy of it
    assert loader.load("g.csv", two + "c,3\nd,4\n")[0] == 1
    assert loader.load("g.csv", two, "another")[0] == 2


@pytest.mark.parametrize(
    ("text", "word"), [(HEAD + "a,1\n", "shrank"), (HEAD + "a,1\nb,9\nc,3\n", "changed")]
)
def test_what_shrank_or_changed_is_new_and_said(loader: Loader, text: str, word: str) -> None:
    loader.load("g.csv", HEAD + "a,1\nb,2\n")
    new, found = loader.load("g.csv", text)
    assert new == text.count("\n") - 1
    assert word in found.warnings[0]
    # Another file of that name was never this one: nothing to say.
    assert loader.load("elsewhere/g.csv", HEAD + "z,1\n")[1].warnings == ()


def test_a_last_line_without_an_end(loader: Loader) -> None:
    assert loader.load("g.csv", HEAD + "a,1\nb,2", closed=False)[0] == 1
    assert loader.load("g.csv", HEAD + "a,1\nb,22\nc", closed=False)[0] == 1
    assert sorted(loader.rows.values()) == ["a,1", "b,22"]
    assert loader.load("g.csv", HEAD + 'a,1\nb,22\n"c\n', closed=False)[0] == 0
    assert loader.load("g.csv", HEAD + 'a,1\nb,22\n"c\nd",4', closed=True)[0] == 1
    new, found = loader.load("g.csv", HEAD + 'a,1\nb,22\n"c\nd",4\r\n')
    assert (new, found.warnings) == (0, ())
    assert loader.load("u.csv", "u,", closed=False)[0] == 0
    assert loader.load("u.csv", "u,t", closed=False)[0] == 0


def test_a_row_that_went_on_after_it_was_taken_is_said(loader: Loader) -> None:
    loader.load("g.csv", HEAD + "a,1\nb,2")
    new, found = loader.load("g.csv", HEAD + "a,1\nb,22\nc,3\n")
    assert new == 1
    assert "row 1 was read while it had no line end" in found.warnings[0]


def test_a_crash_before_the_end_then_growth(loader: Loader) -> None:
    text = HEAD + "".join(f"p{i},{i}\n" for i in range(20))
    loader.load("g.csv", text, crash_after=7)
    loader.load("g.csv", text + "z,1\n", crash_after=3)
    loader.load("g.csv", text + "z,1\nz,2\n")
    assert len(loader.rows) == 22


def test_many_contents_leave_two_records_by_digest(loader: Loader) -> None:
    text = HEAD
    for i in range(30):
        text += f"p{i},{i}\n"
        assert loader.load("g.csv", text)[0] == 1
    (kept,) = loader.store.files.of_name("d", "g.csv")
    assert (kept.rows, kept.bytes) == (30, len(text))
    with loader.store._env.begin(db=loader.store._db["files"]) as transaction:
        assert transaction.stat()["entries"] == 3


line = st.tuples(st.sampled_from("abc"), st.integers(0, 9)).map(lambda p: f"{p[0]},{p[1]}")


@settings(max_examples=40)
@given(
    st.lists(
        st.tuples(
            st.sampled_from(["g.csv", "x/g.csv", "h.csv"]),
            st.sampled_from(["same", "grow", "torn", "fresh"]),
            st.lists(line, min_size=1, max_size=3),
            st.none() | st.integers(0, 2),
        ),
        max_size=12,
    )
)
def test_every_row_counts_once_however_a_file_grows(
    shared: Loader, steps: list[tuple[str, str, list[str], int | None]]
) -> None:
    """Rows of a growing file, killed and torn at any point, are what its last state holds."""
    dataset = f"d{next(WORLDS)}"
    loader = Loader(shared.store, shared.folder / dataset, dataset)
    texts: dict[str, str] = {}
    epoch = 0
    for path, how, lines, crash in steps:
        name = path.rsplit("/", 1)[-1]
        if how == "fresh" or name not in texts:
            epoch += 1
            texts[name] = f"u{epoch},{name[0]}\n"  # a header of its own: no other's beginning
        if how != "same":
            texts[name] += "".join(f"{one}\n" for one in lines)
        shown = texts[name] + ("a,1" if how == "torn" else "")
        loader.load(path, shown, closed=False, crash_after=crash)
        loader.load(path, shown, closed=False)
        wanted = texts[name].splitlines()[1:]
        (content,) = [
            c for c in loader.store.files.of_name(dataset, name) if c.bytes == len(texts[name])
            and c.digest == Digests(dataset, loader.folder / path, c.bytes, ()).at[c.bytes]
        ]  # fmt: skip
        got = [r for (p, _), r in sorted(loader.rows.items()) if p == content.producer]
        assert got == wanted


@given(
    st.lists(st.tuples(st.integers(1, 9), st.floats(0, 1)), min_size=1, max_size=4),
    st.lists(st.tuples(st.integers(0, 60), st.integers(200, 2_000)), max_size=4),
    st.sampled_from(("r.ndjson", "r.ndjson.gz", "r.csv", "r.csv.gz")),
)
@settings(max_examples=25, deadline=None)
def test_growing_files_of_other_forms_count_once(
    tmp_path_factory: pytest.TempPathFactory,
    parts: list[tuple[int, float]],
    crashes: list[tuple[int, int]],
    name: str,
) -> None:
    """Killed after any row, read on with any other block size, packed part by part; each part is
    read when a share of it is there, which may end in the midst of a line, and when it is whole."""
    folder = tmp_path_factory.mktemp("forms")
    path, stored, content = folder / name, dict[int, str](), b""
    is_csv, number = ".csv" in name, 0
    pack = gzip.compress if name.endswith(".gz") else bytes
    known: list[FileContent] = []
    producers: set[str] = set()
    for part, share in parts:
        rows = range(number, number + part * 5)
        number = rows.stop
        lines = "".join(f"{n},a{n}\n" if is_csv else f'{{"n": "{n}", "s": "a{n}"}}\n' for n in rows)
        text = (("n,s\n" if is_csv and not rows.start else "") + lines).encode()
        cut = round(share * len(text))
        for piece, closed in ((text[:cut], False), (text[cut:], True)):
            content += pack(piece)
            path.write_bytes(content)
            size = len(content)
            if not closed and packed_with(path) is None:
                size = complete_bytes(path, size)
            for stop, block_bytes in [*crashes, (10**9, 700)] if size else ():
                digests = Digests("d", path, size, (c.bytes for c in known))
                found = recognised(path, digests, known, None)
                known = [found.content]
                producers.add(found.content.producer)
                seen = 0
                for block in read_blocks(
                    path, "csv" if is_csv else "ndjson", packed_with(path), block_bytes, TABLES,
                    size, closed,
                ):  # fmt: skip
                    values = block.rows if isinstance(block.rows, list) else block.rows.to_pylist()
                    for place, row in enumerate(values):
                        if seen >= stop:
                            break
                        at = block.first_row + place
                        assert stored.setdefault(at, row["s"]) == row["s"]
                        seen += 1
    assert len(producers) == 1
    assert stored == {n: f"a{n}" for n in range(number)}
