"""The lines that docs/INGEST.md lists get the verdicts that it states."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from profile_actors.config import Config
from profile_actors.definitions.catalogue_changes import extended
from profile_actors.definitions.declared import Catalogue
from profile_actors.ingest.door import Door
from profile_actors.ingest.files.forms import read_blocks
from profile_actors.ingest.files.json_tables import JsonTables
from tests.cluster.shop import shop

DOCUMENT = (Path(__file__).resolve().parents[2] / "docs" / "INGEST.md").read_text(encoding="utf-8")
LINES = re.findall(r"^\| `(.*)` \| (accepted|rejected)(?: at (\S+))? \|$", DOCUMENT, re.MULTILINE)


@pytest.mark.parametrize(("line", "verdict", "path"), LINES)
def test_a_line_gets_the_verdict_that_is_stated(
    tmp_path: Path, line: str, verdict: str, path: str
) -> None:
    assert len(LINES) == 17
    catalogue = extended(Catalogue(), shop())
    file = tmp_path / "x.ndjson"
    file.write_text(line)
    size, tables = file.stat().st_size, JsonTables(catalogue, "orders")
    (block,) = read_blocks(file, "ndjson", None, 1000, tables, size)
    found = Door(catalogue, "orders", 1, Config()).prepare(block, 0, 1_800_000_000_000)
    assert (found.table.num_rows, [reject.path for reject in found.rejects]) == (
        (1, []) if verdict == "accepted" else (0, [path])
    )
