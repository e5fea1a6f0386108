"""``bench/rules.py --small``: each question is asked, and its answer is checked before a line is
printed; a wrong one ends the run without a line."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "bench" / "rules.py"


@pytest.mark.parametrize(
    "letter",
    [
        pytest.param("a", marks=pytest.mark.slow),
        pytest.param("b", marks=[pytest.mark.ray, pytest.mark.slow]),
        pytest.param("c", marks=pytest.mark.slow),
        pytest.param("d", marks=[pytest.mark.ray, pytest.mark.slow]),
        "e",
    ],
)
def test_small(tmp_path: Path, letter: str) -> None:
    done = subprocess.run(
        [sys.executable, str(SCRIPT), "--small", "--only", letter, "--out", str(tmp_path)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2_000:]
    (line,) = done.stdout.splitlines()
    said = json.loads(line)
    assert said["bench"] == f"rules_{letter}"
    assert said["checked"]
    assert set(said) >= {"asked", "command", "bar", "ok", "commit", "machine"}
