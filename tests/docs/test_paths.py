"""Modules that prose names are there: a reader follows the path and finds it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "src" / "profile_actors"
DOCUMENTS = [ROOT / "README.md", ROOT / "bench" / "README.md", *sorted(ROOT.glob("docs/**/*.md"))]
FILE = re.compile(r"(?<![\w/.<>*-])([\w-]+(?:/[\w-]+)+\.py)\b")


def _exists(name: str) -> bool:
    places = [top / name for top in (ROOT, PACKAGE, ROOT / "bench")]
    return any(place.exists() or place.with_suffix(".py").exists() for place in places)


@pytest.mark.parametrize("path", DOCUMENTS, ids=[str(p.relative_to(ROOT)) for p in DOCUMENTS])
def test_documents_name_modules_that_exist(path: Path) -> None:
    named = FILE.findall(path.read_text(encoding="utf-8"))
    assert [name for name in named if not _exists(name)] == []
