"""What strangers sent, on a terminal: written out, a row each; in JSON the exact value."""

from __future__ import annotations

import json
import sys
import unicodedata
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from profile_actors.actors.actor_status import ActorStatus
from profile_actors.cli import application, show, show_files
from profile_actors.cli.follower_lines import linking_line
from profile_actors.definitions.catalogue_changes import extended
from profile_actors.definitions.declared import Catalogue, Dataset, LinkingRules, Namespace, Schema
from profile_actors.driver.files.exports import ExportReport
from profile_actors.driver.receipts import FileReport, IngestReport, Receipt, store_status
from profile_actors.driver.terminal import json_text, lines, one_line
from profile_actors.engine.identity.identity import Identity
from profile_actors.engine.reading.answers import Change, EventPage, Membership, Preview, Profile
from profile_actors.errors import DefinitionError, ProfileActorsError, RuleError, SchemaError
from profile_actors.ingest.rejects import QuarantineRecord

NASTY = [
    "\x1b[31mred\x1b]0;title\x07", "a\nb", "a\r\nb", "\x9b31m", "\u202egnp.exe", "\u2066x\u2069",
    "\u200bzero", "tab\there", "\x7f", "\u2028line", "\ud800", "[red]markup[/]", "[/]", "\u00a0",
    "\\", "back\\[bold]slash", "Ãœber 李 🙂", "e\u0301",
]  # fmt: skip
HIDDEN = {"Cc", "Cf", "Cs", "Zl", "Zp"}


def shown(console_call: Callable[[Console], None]) -> str:
    """What reaches a terminal of 200 columns, without colours of ours."""
    console = Console(width=200, color_system=None, force_terminal=True)
    with console.capture() as captured:
        console_call(console)
    return captured.get()


def doors(text: str) -> dict[str, Callable[[Console], None]]:
    """Every table and line that can hold a text of strangers, with it in each of its places."""
    who = Identity("U", text)
    found = Profile(
        identities=[who, Identity(text, "x")], attributes={"f": text, text: {text: [text]}},
        segments={text: Membership("realized", 1, None)}, computed={text: text, "n": [text]},
        computed_valid_until={text: None, "n": 5}, last_modified=1, now=2,
    )  # fmt: skip
    change = Change(0, 1, 2, "computed", text, who, text, text, "event")
    page = EventPage([{"timestamp": 1, "_id": text, "m": {text: text}}], text)
    sample = Preview("computed", 1, [who], [text], 1, [1], 1)
    kept = QuarantineRecord(text, 1, text, text, text)
    status = store_status(
        text, "wall", 1, {text: (3, 2, 1)}, [ActorStatus(None, text, 0, text, 1, text)]
    )  # fmt: skip
    counts = {text: 2}
    report = IngestReport(
        refused=[text], broken={text: text}, skipped={text: text}, warnings=[text],
        by_file={text: FileReport(rejected_count=1)}, placeholders=counts,
    )  # fmt: skip
    receipt = Receipt(rejected=[(1, text, text)], rejected_count=1, placeholders=counts)
    export = ExportReport(text, "csv", text, [text], 1, 1, 1.0, {0: (1, 1)})
    rules = extended(Catalogue(), [LinkingRules(placeholders=("x", "y"))])
    if text != "\ud800":
        rules = extended(Catalogue(), [LinkingRules(placeholders=("x", text))])
    return {
        "profile": lambda c: show.profile(c, found, frozenset()),
        "change": lambda c: show.change(c, change),
        "events": lambda c: show.events(c, page, text or "t"),
        "preview": lambda c: show.preview(c, sample),
        "quarantine": lambda c: show.quarantine(c, [kept], text or "t"),
        "status": lambda c: show.status(c, status),
        "report": lambda c: show_files.report(c, report),
        "receipt": lambda c: show_files.receipt(c, receipt, False),
        "followed": lambda c: show_files.followed(c, report),
        "exported": lambda c: show_files.exported(c, export),
        "definitions": lambda c: c.print(linking_line(rules)),
        "members": lambda c: c.print(show.table("", ("namespace", "value"), [("U", text)])),
    }


@pytest.mark.parametrize("text", NASTY)
def test_no_table_or_line_lets_a_control_through(text: str) -> None:
    for name, door in doors(text).items():
        plain, with_text = shown(doors("plain")[name]), shown(door)
        assert not {unicodedata.category(c) for c in with_text if c != "\n"} & HIDDEN, name
        assert with_text.count("\n") == plain.count("\n"), name  # one row each
        if text.strip() and text.isprintable():
            assert text in with_text, name  # markup is none, and nothing else is changed
    with_text = shown(doors(text)["members"])
    assert one_line(text).rstrip() in with_text


def test_rows_begin_at_the_edge_with_their_namespace() -> None:
    rows = [("U", "\x1b[31mred\x1b]0;title\x07"), ("U", "a\nb")]
    text = shown(lambda c: c.print(show.table("", ("namespace", "value"), rows)))
    found = [line.split() for line in text.splitlines() if line.startswith("U ")]
    assert found == [["U", "\\x1b[31mred\\x1b]0;title\\x07"], ["U", "a\\nb"]]


def test_a_change_is_one_line_however_long() -> None:
    long = Change(0, 1, 2, "membership", "s", Identity("U", "x" * 500), None, "realized", "event")
    assert shown(lambda c: show.change(c, long)).count("\n") == 1


@given(st.text(alphabet=st.characters()))
def test_text_is_written_out_and_json_says_the_same(text: str) -> None:
    assert one_line(text).isprintable()
    assert not text.isprintable() or one_line(text) == text
    assert all(line.isprintable() for line in lines(text).split("\n"))
    if not any("\ud800" <= c <= "\udfff" for c in text):
        encoded = json.dumps({"v": text}, ensure_ascii=False).encode()
        assert json_text(encoded).decode().isprintable()
        assert json.loads(json_text(encoded)) == {"v": text}


@pytest.mark.parametrize("text", [t for t in NASTY if t != "\ud800"])
def test_json_keeps_the_exact_value(text: str, capsysbinary: pytest.CaptureFixture[bytes]) -> None:
    show.as_json({"v": Identity("U", text)})
    out = capsysbinary.readouterr().out
    assert json.loads(out) == {"v": {"namespace": "U", "value": text}}
    assert out[:-1].decode().isprintable()
    assert out.count(b"\n") == 1


@pytest.mark.parametrize(("kind", "rows"), [(SchemaError, 1), (RuleError, 2), (DefinitionError, 2)])
def test_errors_are_printed_written_out(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    kind: type[ProfileActorsError],
    rows: int,
) -> None:
    def fail() -> Any:
        raise kind("got \x1b[31mred\u202e\nsecond line")

    monkeypatch.setattr(application, "command_of", lambda _words: fail)
    monkeypatch.setattr(sys, "argv", ["profile-actors"])
    with pytest.raises(SystemExit):
        application.main()
    text = capsys.readouterr().err
    assert "\\x1b[31mred\\u202e" in text
    assert text.count("\n") == rows
    assert not {unicodedata.category(c) for c in text if c != "\n"} & HIDDEN


def test_definitions_with_strange_names_are_one_row_each() -> None:
    catalogue = extended(
        Catalogue(),
        [
            Namespace("U", kind="cross_device"),
            Schema("s", "event", {"a\u2066": "string"}),
            Dataset("d", "s", {"id\u202e": "U"}, timestamp="t"),
        ],
    )
    text = shown(lambda c: show.definitions(c, catalogue))
    assert "a\\u2066" in text
    assert "id\\u202e" in text
    assert not {unicodedata.category(c) for c in text if c != "\n"} & HIDDEN
