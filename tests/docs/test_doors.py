"""Every door that users are told about exists and says what it does."""

from __future__ import annotations

import inspect
import re
from pathlib import Path
from typing import Any

import pytest
import typer

import profile_actors as pf
from profile_actors.cli.application import app

ROOT = Path(__file__).resolve().parents[2]
# Any: typer carries a click of its own, whose classes are not the installed one's.
COMMAND: Any = typer.main.get_command(app)
VERBS: dict[str, Any] = COMMAND.commands
PROMISED_VERBS = (
    "demo apply ingest profile events members changes explain preview eval quarantine definitions"
    " delete advance status verify bench export"
).split()
PROMISED_METHODS = (
    "apply apply_file submit submit_async cursor ingest export quarantine profile profiles events"
    " members changes explain preview advance_to status verify definitions delete"
).split()
README = (ROOT / "README.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("verb", PROMISED_VERBS)
def test_promised_verbs_exist(verb: str) -> None:
    assert verb in VERBS


@pytest.mark.parametrize("verb", sorted(VERBS))
def test_verbs_have_help_and_json(verb: str) -> None:
    command = VERBS[verb]
    assert command.help, f"{verb} says nothing in --help"
    options = {name for param in command.params for name in param.opts}
    assert verb == "bench" or "--json" in options, f"{verb} has no --json"


def test_command_lines_in_the_readme_are_accepted() -> None:
    lines = re.findall(r"^    profile-actors (\S+)(.*)$", README, re.MULTILINE)
    assert len(lines) >= 5
    for verb, rest in lines:
        known = {name for param in VERBS[verb].params for name in param.opts}
        used = re.findall(r"(?<= )--[a-z-]+", rest)
        assert set(used) <= known, f"profile-actors {verb}{rest}: {sorted(set(used) - known)}"


@pytest.mark.parametrize("name", PROMISED_METHODS)
def test_promised_methods_exist_with_docstrings(name: str) -> None:
    assert inspect.getdoc(getattr(pf.Store, name))


def test_every_public_name_has_a_docstring() -> None:
    assert {"start", "evaluate", "Config", "Namespace", "Schema", "Dataset"} <= set(pf.__all__)
    for name in pf.__all__:
        thing = getattr(pf, name)
        if inspect.isclass(thing) or inspect.isfunction(thing):
            assert inspect.getdoc(thing), name
