"""What no folder can be called is a sentence, not the system's error."""

from __future__ import annotations

import sys

import pytest

from profile_actors.cli import application


@pytest.mark.parametrize("verb", [("status",), ("ingest", "orders", "x.csv"), ("members", "s")])
def test_a_name_that_no_folder_can_have_is_no_store(
    verb: tuple[str, ...], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["profile-actors", *verb, "--data", "x" * 10_000])
    with pytest.raises(SystemExit) as end:
        application.main()
    assert end.value.code == 1
    assert "ConfigError: expected a store" in capsys.readouterr().err
