"""Contents of files that were read: the same bytes are known again, whatever came between."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from msgspec.structs import replace

from profile_actors.ingest.files.file_contents import Digests, recognised
from profile_actors.ingest.files.mended_files import mended_from, rest_of
from profile_actors.ingest.offsets import ranges_of
from profile_actors.storage.catalogue_store import CatalogueStore
from profile_actors.storage.files.known_files import KnownFiles

FIRST = "a,x\nb,2\nc,y\n"
MENDED = "a,1\nb,2\nc,y\n"
MENDED_AGAIN = "a,1\nb,2\nc,3\n"


def read(files: KnownFiles, path: Path, body: str) -> str:
    """Read a file as a load does; a row whose number is x or y is rejected. Whose rows they are."""
    path.write_text("u,t\n" + body)
    size = path.stat().st_size
    same_name = files.of_name("d", path.name)
    digests = Digests("d", path, size, [c.bytes for c in same_name])
    same_bytes = files.of_bytes("d", digests.at[size])
    mended = mended_from(path, str(path), "csv", size, same_name)
    found = recognised(path, digests, same_name, same_bytes, mended).content
    files.keep("d", found)
    bad = [n for n, row in enumerate(body.splitlines()) if row[-1] in "xy"]
    rest = rest_of(path, "csv", size, body.count("\n"), ranges_of(np.array(bad))) if bad else None
    files.keep("d", replace(found, rows=body.count("\n"), rest=rest))
    return found.producer


@pytest.mark.parametrize(
    "bodies",
    [
        [FIRST, MENDED, MENDED_AGAIN],
        [FIRST, MENDED, MENDED_AGAIN, MENDED_AGAIN + "d,4\n"],
        [FIRST, FIRST + "d,z\ne,x\n", MENDED + "d,z\ne,x\n", MENDED_AGAIN + "d,z\ne,5\n"],
    ],
)
def test_every_state_of_a_file_mended_in_place_is_known_again(
    tmp_path: Path, bodies: list[str]
) -> None:
    """A state that comes back, from a backup or under another name, counts once."""
    store = CatalogueStore(tmp_path / "s")
    path = tmp_path / "f.csv"
    producers = {read(store.files, path, body) for body in bodies}
    assert len(producers) == 1
    for body in bodies:
        assert {read(store.files, path, body)} == producers
        assert {read(store.files, tmp_path / "copy.csv", body)} == producers
    store.close()


def test_a_file_that_grows_leaves_its_first_and_its_newest_state(tmp_path: Path) -> None:
    store = CatalogueStore(tmp_path / "s")
    path = tmp_path / "f.csv"
    body = ""
    producers = set()
    for n in range(9):
        body += f"a,{n}\n"
        producers.add(read(store.files, path, body))
    assert len(producers) == 1
    assert len(store.files.of_name("d", "f.csv")) == 1
    assert {read(store.files, tmp_path / "copy.csv", "a,0\n")} == producers
    assert {read(store.files, tmp_path / "copy.csv", body)} == producers
    assert not {read(store.files, tmp_path / "copy.csv", body[:12])} & producers
    store.close()
