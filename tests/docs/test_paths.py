"""Modules that prose names are there: a reader follows the path and finds it."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "src" / "profile_actors"
DOCUMENTS = [ROOT / "README.md", ROOT / "bench" / "README.md", *sorted(ROOT.glob("docs/**/*.md"))]
SOURCES = sorted([*ROOT.glob("src/**/*.py"), *ROOT.glob("bench/*.py"), *ROOT.glob("tests/**/*.py")])
FILE = re.compile(r"(?<![\w/.<>*-])([\w-]+(?:/[\w-]+)+\.py)\b")
QUOTED = re.compile(r"``([a-z_]+(?:/[a-z_]+)+)(?:\.py)?``")


def _exists(name: str) -> bool:
    places = [top / name for top in (ROOT, PACKAGE, ROOT / "bench")]
    return any(place.exists() or place.with_suffix(".py").exists() for place in places)


@pytest.mark.parametrize("path", DOCUMENTS, ids=[str(p.relative_to(ROOT)) for p in DOCUMENTS])
def test_documents_name_modules_that_exist(path: Path) -> None:
    named = FILE.findall(path.read_text(encoding="utf-8"))
    assert [name for name in named if not _exists(name)] == []


def test_docstrings_name_modules_that_exist() -> None:
    lost = []
    for path in SOURCES:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef):
                text = ast.get_docstring(node) or ""
                named = {*FILE.findall(text), *QUOTED.findall(text)}
                lost += [(str(path), name) for name in sorted(named) if not _exists(name)]
    assert lost == []
