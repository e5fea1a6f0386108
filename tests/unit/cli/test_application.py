"""The words of a command line: what begins with a dash and is a value all the same."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import typer.main
from typer.testing import CliRunner

from profile_actors.cli import application
from profile_actors.errors import CallerError, ConfigError

VALUES = ["-100123", "-1", "-KabcDEF_0", "-", "-d", "-jd", "-é", "-1 < xEvent.count()", "-.5"]
PLACES: list[tuple[str, str, list[str]]] = [
    ("profile", "value", ["U", "{}"]),
    ("profile", "value", ["U", "{}", "--json", "--data", "d"]),
    ("profile", "value", ["--data", "d", "U", "{}"]),
    ("profile", "namespace", ["{}", "x"]),
    ("events", "value", ["U", "{}", "--limit", "3"]),
    ("events", "cursor", ["U", "x", "--cursor", "{}"]),
    ("members", "segment", ["{}"]),
    ("explain", "rule", ["{}"]),
    ("preview", "rule", ["{}", "--sample", "2"]),
    ("eval", "rule", ["{}", "--json"]),
    ("delete", "name", ["{}"]),
    ("quarantine", "dataset", ["{}"]),
    ("advance", "to", ["{}"]),
    ("ingest", "dataset", ["{}", "x.csv"]),
]


def parsed(verb: str, words: list[str]) -> dict[str, Any]:
    commands: Any = typer.main.get_command(application.app)
    context = commands.commands[verb].make_context(verb, list(words))
    return dict(context.params)


@pytest.mark.parametrize("value", VALUES)
@pytest.mark.parametrize(("verb", "name", "words"), PLACES)
def test_a_word_with_one_dash_is_a_value(
    verb: str, name: str, words: list[str], value: str
) -> None:
    found = parsed(verb, [value if word == "{}" else word for word in words])
    assert found[name] == value
    if "--data" in words:
        assert str(found["data"]) == "d"
    assert found.get("json", False) is ("--json" in words)


def test_behind_two_dashes_anything_is_a_value() -> None:
    assert parsed("profile", ["U", "--", "--data"])["value"] == "--data"
    assert parsed("profile", ["--json", "--", "U", "--nonsense"])["value"] == "--nonsense"


def test_files_may_begin_with_a_dash() -> None:
    assert parsed("ingest", ["d", "-a.csv", "b.csv"])["files"] == ["-a.csv", "b.csv"]
    assert parsed("ingest", ["d", "f", "--max-bad-percent", "0.5"])["max_bad_percent"] == 0.5


@pytest.mark.parametrize(
    "words",
    [
        ["profile", "U", "x", "--dta", "d"], ["profile", "U", "--dta=d", "x"],
        ["members", "s", "--limt", "1"], ["profile", "U", "-100", "x"], ["profile", "-100"],
        ["members", "s", "--limit", "-1"],
    ],
)  # fmt: skip
def test_a_mistake_is_still_one(words: list[str]) -> None:
    result = CliRunner().invoke(application.app, words)
    assert result.exit_code == 2
    assert "Usage" in result.output


def test_a_rule_that_begins_with_a_minus_is_evaluated() -> None:
    result = CliRunner().invoke(application.app, ["eval", "-1 < 0", "--json"])
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["value"] is True


def test_a_uri_stays_one() -> None:
    assert parsed("members", ["s", "--out", "s3://b/x.csv"])["out"] == "s3://b/x.csv"
    assert parsed("quarantine", ["d", "--out", "s3://b/x.ndjson"])["out"] == "s3://b/x.ndjson"


@pytest.mark.parametrize("data", [b'{"row": "\xff"}', b"[" * 100_000, b'{"a"'])
def test_a_file_of_no_json_is_a_sentence(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "m.ndjson"
    path.write_bytes(data)
    found = CliRunner().invoke(application.app, ["quarantine", "d", "--resubmit", str(path)])
    assert isinstance(found.exception, CallerError), found.exception
    assert "expected JSON objects" in str(found.exception)


@pytest.mark.parametrize("option", [["--format", "csv"], ["--producer", "p"]])
def test_what_is_for_standard_input_is_not_for_a_folder(option: list[str]) -> None:
    found = CliRunner().invoke(application.app, ["ingest", "d", "in", "--follow", *option])
    assert "with '-' alone" in str(found.exception)


@pytest.mark.parametrize(
    ("words", "kept"),
    [
        (["eval", "1"], ["eval"]), (["dry-run", "x"], ["dry-run"]), (["status"], ["status"]),
        (["--help"], []), ([], []), (["stats"], []), (["x", "eval"], []),
    ],
)  # fmt: skip
def test_of_the_verbs_that_one_alone_is_read_that_runs(words: list[str], kept: list[str]) -> None:
    every = sorted(map(application._name, application.app.registered_commands))
    assert sorted(application.command_of(words).commands) == (kept or every)
    assert sorted(application.command_of([]).commands) == every


@pytest.mark.parametrize(
    "words",
    ["list --keep 1", "list --at x", "verify --keep 1", "verify --before 2020-01-01",
     "prune --keep 1 --at x", "list --data elsewhere"],
)  # fmt: skip
def test_an_option_that_a_place_has_no_use_for_is_refused(words: str, tmp_path: Path) -> None:
    action, *options = words.split()
    with pytest.raises(CallerError, match=f"options of `backup {action}`"):
        CliRunner().invoke(
            application.app, ["backup", action, str(tmp_path), *options], catch_exceptions=False
        )


def test_a_disk_is_named_once(tmp_path: Path) -> None:
    """An init container says it at each start; another disk at that place is refused."""
    runner = CliRunner()
    for _ in range(2):
        said = runner.invoke(application.app, ["disk-id", str(tmp_path / "d"), "--as", "disk-1"])
        assert said.stdout == "disk-1\n"
    for name, error in (("disk-2", ConfigError), ("../disk-1", CallerError), ("-", CallerError)):
        refused = runner.invoke(application.app, ["disk-id", str(tmp_path / "d"), "--as", name])
        assert isinstance(refused.exception, error)
