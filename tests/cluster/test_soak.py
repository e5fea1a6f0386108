"""``bench/soak.py`` for a minute and a half: what it measures is flat, and it says so."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "bench" / "soak.py"
# A minute is too short to tell a leak of a few MB from what a process settles to.
SHORT = (
    *("--events", "200000", "--profiles", "20000", "--seconds", "90", "--sample-s", "3"),
    *("--singles-per-s", "100", "--batch", "500", "--slack-mb", "24"),
    *("--compact-entries", "1000", "--checkpoint-entries", "400"),
)


@pytest.mark.ray
@pytest.mark.slow
def test_what_goes_on_stays_as_it_is(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, str(SCRIPT), *SHORT, "--out", str(tmp_path)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3_000:]
    (line,) = done.stdout.splitlines()
    said = json.loads(line)
    assert said["bench"] == "soak"
    assert said["not_flat"] == []
    assert said["rows"] > 1_000
    assert said["compacted_entries"] > 0
    assert {"PartitionActor0", "StandbyActor1", "driver"} <= set(said["memory_ratio"])
