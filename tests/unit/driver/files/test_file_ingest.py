"""The files that a call names: what no file can be called is a sentence, not the system's error."""

from __future__ import annotations

import sys

import pytest

from profile_actors.cli import application
from profile_actors.errors import CallerError
from profile_actors.ingest.files.places import matching


@pytest.mark.parametrize("name", ["x" * 10_000, "a/" + "x" * 300, "a\0b", "\udce9", "["])
def test_a_name_that_no_file_can_have_is_no_file(name: str) -> None:
    with pytest.raises(CallerError, match="expected a file, got none that matches"):
        matching([name])


@pytest.mark.parametrize("verb", [("status",), ("ingest", "orders", "x.csv"), ("members", "s")])
def test_nor_is_it_a_store(
    verb: tuple[str, ...], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["profile-actors", *verb, "--data", "x" * 10_000])
    with pytest.raises(SystemExit) as end:
        application.main()
    assert end.value.code == 1
    assert "ConfigError: expected a store" in capsys.readouterr().err
