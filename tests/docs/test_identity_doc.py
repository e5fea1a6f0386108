"""docs/IDENTITY.md: its examples run as printed, in their order."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

TEXT = Path(__file__).resolve().parents[2].joinpath("docs", "IDENTITY.md").read_text("utf-8")


def test_the_examples_hold() -> None:
    blocks = re.findall(r"^```python\n(.*?)^```$", TEXT, re.DOTALL | re.MULTILINE)
    blocks = [block for block in blocks if "pf.start" not in block]  # tests/cluster/test_people.py
    assert len(blocks) >= 8
    names: dict[str, Any] = {}
    for block in blocks:
        exec(compile(block, "docs/IDENTITY.md", "exec"), names)
    assert sum(block.count("assert ") for block in blocks) >= 11
