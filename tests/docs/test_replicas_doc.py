"""docs/REPLICAS.md names doors and limits that there are; its program runs in tests/cluster."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import typer

import profile_actors as pf
from profile_actors.cli.application import app

TEXT = Path(__file__).resolve().parents[2].joinpath("docs", "REPLICAS.md").read_text("utf-8")
COMMAND: Any = typer.main.get_command(app)


@pytest.mark.parametrize("line", re.findall(r"^    profile-actors (.*)$", TEXT, re.MULTILINE))
def test_verbs_take_their_words(line: str) -> None:
    verb, *words = line.split()
    COMMAND.commands[verb].make_context(verb, words)


def test_names_are_there() -> None:
    assert len(set(re.findall(r"store\.(\w+)\(", TEXT))) == 4
    for name in re.findall(r"store\.(\w+)\(", TEXT):
        assert callable(getattr(pf.Store, name))
    for name in re.findall(r"`Config\.(\w+)`", TEXT):
        assert name in pf.Config.__struct_fields__
