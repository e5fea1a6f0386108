"""docs/RECORDS.md runs as printed on a real store, one block after the other."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

TEXT = (Path(__file__).resolve().parents[2] / "docs" / "RECORDS.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```python\n(.*?)^```$", TEXT, re.DOTALL | re.MULTILINE)


@pytest.mark.ray
@pytest.mark.usefixtures("ray_runtime")
def test_the_document_runs_as_printed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert len(BLOCKS) == TEXT.count("```python") == 12
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    try:
        for block in BLOCKS:
            exec(compile(block, "docs/RECORDS.md", "exec"), names)
    finally:
        if "store" in names:
            names["store"].close()
