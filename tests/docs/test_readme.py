"""README.md does what it says: its Python blocks run and print what stands below them."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
# A python block, and the text block right after it: what the program prints.
BLOCK = re.compile(r"```python\n(.*?)```\n+```text\n(.*?)```", re.DOTALL)
README = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCKS = [match.groups() for match in BLOCK.finditer(README)]


def test_every_python_block_says_what_it_prints() -> None:
    assert len(BLOCKS) >= 2
    assert README.count("```python") == len(BLOCKS)


def test_paths_named_in_the_readme_exist() -> None:
    for path in re.findall(r"`((?:docs|bench|examples|tests|src)/[\w./-]*)`", README):
        assert (ROOT / path).exists(), path


def test_make_targets_named_in_the_readme_exist() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for target in re.findall(r"`?make ([a-z]+)\b", README):
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), target


@pytest.mark.ray
@pytest.mark.parametrize(("program", "printed"), BLOCKS, ids=range(len(BLOCKS)))
def test_python_blocks_run_as_printed(program: str, printed: str, tmp_path: Path) -> None:
    shutil.copytree(ROOT / "examples", tmp_path / "examples")
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, timeout=240
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == printed, done.stderr
