"""The parser's kept tables: current, used, and giving the trees that the grammar gives."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest
from lark import Lark, UnexpectedToken

from profile_actors.rules.language import grammar

RULES = [
    "a.b > 3 and not xEvent[timestamp occurs <= 7 days before now].count() >= 1",
    "exists A from xEvent, B from xEvent where B.price > A.price + 3 * -2 % 5",
    "CHAIN(xEvent, timestamp, [A: WHAT(x = 1), B: WHAT(y = 2) WHEN(<= 3 days after A)])",
    'let s = xEvent.sum(price) in s > 3 or `a` notIn ["x", null]',
    'select E from xEvent where E.a like "x%"',
    "isNull(m.k) or a.reduce(0, (x, y) => x + y) = 3",
]  # fmt: skip


def outcome(parser: Lark, text: str) -> object:
    try:
        return parser.parse(text)
    except UnexpectedToken as error:
        return error.token, error.accepts


def test_the_tables_are_those_of_the_grammar_and_the_lark_that_are_here() -> None:
    kept, made = msgspec.json.decode(grammar.TABLES.read_bytes()), grammar.tables()
    assert kept["made_of"] == msgspec.json.decode(made)["made_of"], "run `make grammar`"
    assert kept["data"]["rules"] == msgspec.json.decode(made)["data"]["rules"], "run `make grammar`"


def test_loaded_and_built_give_the_same_trees_and_ask_for_the_same_words() -> None:
    loaded, built = grammar.parser(), grammar.built(grammar.GRAMMAR.read_bytes())
    whole = 0
    for rule in RULES:
        words = rule.split(" ")
        for end in range(len(words) + 1):
            text = " ".join(words[:end])
            assert outcome(loaded, text) == outcome(built, text)
            whole += not isinstance(outcome(loaded, text), tuple)
    assert whole > 15


@pytest.mark.parametrize("kept", [None, b"", b'{"made_of": ["0", "0"]}'])
def test_tables_that_are_missing_or_of_another_grammar_are_built(
    kept: bytes | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(grammar, "TABLES", tmp_path / "grammar.json")
    if kept is not None:
        (tmp_path / "grammar.json").write_bytes(kept)
    built = grammar.built(grammar.GRAMMAR.read_bytes())
    assert outcome(grammar.parser(), RULES[0]) == outcome(built, RULES[0])
