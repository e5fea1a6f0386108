"""Files that nobody wrote on purpose: damaged at random, they are read, rejected or refused.

Each damaged file is read to its end and judged by the door. Nothing is raised but the errors that a
caller is told of; every row is accepted or rejected, whatever the size of the blocks; what is read
does not take for ever. By hand: ``python -m pytest -m slow tests/property/test_file_fuzz.py``.
"""

from __future__ import annotations

import random
import time
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from profile_actors.errors import SchemaError
from profile_actors.ingest.files.byte_sources import packed_with
from profile_actors.ingest.files.forms import read_blocks
from profile_actors.ingest.files.json_tables import JsonTables
from tests.property.test_forms_of_files import ODD_LINES, PACKERS, PLAIN, WALL_MS, door, ndjson

ROWS = [
    {
        "who": f"p{n}@x", "at": 1_600_000_000_000 + n, "_id": str(n), "s": "größe" * (n % 3),
        "n": n, "d": n / 7, "b": n % 2 == 0, "tags": ["a", "b"][: n % 3],
        "addr": {"city": "x", "zip": n}, "items": [{"sku": "k", "price": 1.5}] * (n % 2),
    }
    for n in range(40)
]  # fmt: skip
PIECES = [b'"', b"\n", b"\r\n", b"\\u0000", b"\xff", b"{", b"}", b",", b"PAR1", b"\0" * 9, b"1e999"]


def seeds(folder: Path) -> dict[str, bytes]:
    """Whole files of every form and packing."""
    flat = [{k: v for k, v in row.items() if not isinstance(v, list | dict)} for row in ROWS]
    head = ",".join(flat[0])
    text = [head, *(",".join(f'"{v}"' for v in row.values()) for row in flat)]
    found = {
        "v.csv": "\n".join(text).encode(),
        "v.ndjson": ndjson(ROWS) + b"\n".join(ODD_LINES[:-2]),
    }
    packed = {
        f"{name}.{packer.strip('.')}": PACKERS[packer](data)
        for name, data in found.items()
        for packer in (".gz", ".bz2", ".zst", ".lz4")
    }
    for name, version in (("v.parquet", "NONE"), ("w.parquet", "snappy")):
        pq.write_table(pa.Table.from_pylist(ROWS), folder / name, 11, compression=version)
        found[name] = (folder / name).read_bytes()
    return found | packed


def damaged(data: bytes, chance: random.Random) -> bytes:
    """A file with a few bytes changed, gone, doubled or put in; or with its end missing."""
    out = bytearray(data)
    for _ in range(chance.choice((1, 1, 2, 5))):
        at = chance.randrange(len(out) + 1)
        size = chance.choice((1, 1, 4, 60))
        match chance.randrange(6):
            case 0:
                out[at : at + 1] = bytes([chance.randrange(256)])
            case 1:
                del out[at : at + size]
            case 2:
                out[at:at] = chance.choice(PIECES)
            case 3:
                out[at:at] = out[max(0, at - size) : at]
            case 4:
                del out[at:]
            case 5:
                out += data[at : at + 200]
    return bytes(out)


def read(path: Path, form: str, block_bytes: int) -> tuple[list[int], list[int], str]:
    """Accepted and rejected row numbers, and what the file was refused with."""
    accepted: list[int] = []
    rejected: list[int] = []
    one, tables, count = door(), JsonTables(PLAIN, "visits"), 0
    try:
        size, packing = path.stat().st_size, packed_with(path)
        for block in read_blocks(path, form, packing, block_bytes, tables, size):
            assert block.first_row == count
            count += len(block)
            prepared = one.prepare(block, block.first_row, WALL_MS)
            accepted += prepared.table["@row"].to_pylist()
            rejected += [reject.row for reject in prepared.rejects]
    except (SchemaError, OSError) as error:
        return accepted, rejected, str(error) or type(error).__name__
    assert sorted([*accepted, *rejected]) == list(range(count))
    return accepted, rejected, ""


def files(folder: Path, seed: int, count: int) -> Iterator[tuple[Path, str]]:
    chance = random.Random(seed)
    whole = seeds(folder)
    names = sorted(whole)
    for number in range(count):
        name = names[number % len(names)]
        path = folder / name
        path.write_bytes(damaged(whole[name], chance))
        # Sometimes it is not what its name says.
        form = {"c": "csv", "n": "ndjson", "p": "parquet"}[name.split(".")[1][0]]
        yield path, chance.choice((form,) * 9 + ("csv", "ndjson", "parquet"))


def fuzz(folder: Path, seed: int, count: int) -> None:
    refused = 0
    for path, form in files(folder, seed, count):
        began = time.process_time()
        found = read(path, form, 1 << 20)
        if not found[2]:
            other = read(path, form, 700)
            assert other[:2] == found[:2] or "expected the end of a row" in other[2]
        refused += bool(found[2])
        assert time.process_time() - began < 5, path.read_bytes()
    assert 0 < refused < count


def test_damaged_files_are_read_rejected_or_refused(tmp_path: Path) -> None:
    fuzz(tmp_path, 40, 240)  # always the same: the slow form below has others


@pytest.mark.slow
def test_many_damaged_files(tmp_path: Path) -> None:
    for seed in range(40):
        fuzz(tmp_path, seed, 240)
