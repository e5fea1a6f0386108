"""Which rejected rows name a person, and that they leave the quarantine's files to the byte."""

from __future__ import annotations

from pathlib import Path

import pytest

from profile_actors.config import Config
from profile_actors.definitions.declared import Catalogue, Dataset
from profile_actors.engine.erasure.rejected_rows import naming
from profile_actors.engine.identity.messages import Named
from profile_actors.ingest.rejects import QuarantineRecord
from profile_actors.storage.rejects.quarantine import Quarantine

CATALOGUE = Catalogue(datasets={"hits": Dataset("hits", "hit", {"customer": "CRMID", "n": "ECID"})})
MAIL, SHORT = Named(1, 2, "Email", "ann@home.org"), Named(3, 4, "CRMID", "17")


def rejected(raw: str, reason: str = "", row: int = 0) -> QuarantineRecord:
    return QuarantineRecord("file", row, "", reason, raw)


@pytest.mark.parametrize(
    ("raw", "is_hers"),
    [
        ('{"mail": " Ann@Home.org "}', True),
        ('{"note": "write to ann@home.org!"}', True),
        ('{"mail": "joann@home.org"}', False),
        ('{"customer": 17}', True),
        ('{"customer": "17 "}', True),
        ('{"amount": 17}', False),
        ('{"customer": 171}', False),
        ('{"customer": 17, "cut of', True),
        ("[1, 2", False),
    ],
)
def test_a_row_names_her_by_a_value_and_not_by_a_part_of_one(raw: str, is_hers: bool) -> None:
    assert naming([MAIL, SHORT], CATALOGUE)("hits", rejected(raw)) == is_hers


@pytest.mark.parametrize("row", [("ann@home.org.jsonl", ""), ("file", "scores.ann@home.org")])
def test_a_row_names_her_by_where_it_came_from_and_by_its_path(row: tuple[str, str]) -> None:
    record = QuarantineRecord(row[0], 1, row[1], "", "")
    assert naming([MAIL, SHORT], CATALOGUE)("hits", record)


def test_what_the_reason_says_counts() -> None:
    row = rejected("{}", "expected a time, got 'ann@home.org'")
    assert naming([MAIL], CATALOGUE)("hits", row)
    assert not naming([SHORT], CATALOGUE)("hits", row)


def test_rows_leave_the_files_of_the_quarantine(tmp_path: Path) -> None:
    quarantine = Quarantine(tmp_path, Config(), QuarantineRecord)
    rows = [rejected(f'{{"mail": "{who}@home.org"}}', row=n) for n, who in enumerate(("ann", "b"))]
    quarantine.add("hits", rows)
    quarantine.add("old", [rejected('{"mail": "ann@home.org"}')])
    quarantine.close_rows("old", "file", [0])  # it left, and its bytes are in the file
    assert quarantine.without(naming([MAIL], CATALOGUE)) == 1
    assert quarantine.read("hits", 9) == rows[1:]
    assert quarantine.kept("hits", "file", [0, 1]) == [False, True]
    assert quarantine.count("hits") == (2, 1)
    assert quarantine.repaired("old") == 1
    assert b"ann@home" not in b"".join(p.read_bytes() for p in tmp_path.rglob("*") if p.is_file())
    quarantine.add("hits", [rejected("{}", row=2)])
    quarantine.close()
    assert Quarantine(tmp_path, Config(), QuarantineRecord).count("hits") == (3, 2)
