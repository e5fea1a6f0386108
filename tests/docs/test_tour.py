"""docs/TOUR.md runs as printed, one block after the other."""

from __future__ import annotations

import contextlib
import io
import re
from pathlib import Path

TEXT = (Path(__file__).resolve().parents[2] / "docs" / "TOUR.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```python\n(.*?)```\n(?:\n```text\n(.*?)```)?", TEXT, re.DOTALL)


def test_the_tour_runs_as_printed() -> None:
    assert len(BLOCKS) == TEXT.count("\n### ") == TEXT.count("```text") == 10
    names: dict[str, object] = {}
    for program, printed in BLOCKS:
        out = io.StringIO()
        with contextlib.redirect_stdout(out):
            exec(program, names)
        assert out.getvalue() == printed, program


def test_the_tour_names_what_there_is() -> None:
    package = Path(__file__).resolve().parents[2] / "src" / "profile_actors"
    for place in re.findall(r"`((?:rules|engine|ingest|actors)(?:/[\w/.]+)?)`", TEXT):
        assert (package / place).exists(), place
