"""The parser of rules, from tables that were made of the grammar before.

Theory: Lark parses the grammar and builds its LALR(1) tables in some 150 ms of CPU time, a tenth of
what a partition's process takes to start and a third of what ``eval`` takes. The tables depend on
the grammar and on Lark alone, so they are kept beside it (``make grammar`` writes them) and loaded
in some 15 ms. They name both; where either is another one, the tables are built as ever: a file
that is out of date costs time and changes no tree (``tests/unit/rules/language`` holds it current).

They are JSON and not Lark's own cache, which is a pickle.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import lark
import msgspec
from lark import Lark
from lark.grammar import Rule
from lark.lexer import TerminalDef

from profile_actors.errors import UNDECODED
from profile_actors.rules.language.lexer import RuleLexer

GRAMMAR = Path(__file__).with_name("grammar.lark")


TABLES = Path(__file__).with_name("grammar.json")


def parser() -> Lark:
    """The parser of rules, loaded from its tables if they are of this grammar and this Lark."""
    grammar = GRAMMAR.read_bytes()
    try:
        kept = msgspec.json.decode(TABLES.read_bytes())
    except (FileNotFoundError, *UNDECODED):
        return built(grammar)
    if kept["made_of"] != _made_of(grammar):
        return built(grammar)
    data, memo = _numbered(kept["data"]), _numbered(kept["memo"])
    data["options"]["lexer"] = RuleLexer
    data["parser"]["lexer_conf"]["lexer_type"] = RuleLexer
    load: Any = Lark.load
    loaded: Lark = load({"data": data, "memo": memo})
    return loaded


def built(grammar: bytes) -> Lark:
    """The parser of rules, built from the grammar."""
    return Lark(
        grammar.decode(),
        parser="lalr",
        lexer=RuleLexer,
        propagate_positions=True,
        maybe_placeholders=True,
    )


def tables() -> bytes:
    """What belongs into ``grammar.json``: one line of JSON."""
    grammar = GRAMMAR.read_bytes()
    found: Any = built(grammar)
    data, memo = found.memo_serialize([TerminalDef, Rule])
    data["options"]["lexer"] = None  # a class; ``parser`` puts it back
    data["parser"]["lexer_conf"]["lexer_type"] = None
    kept = {"made_of": _made_of(grammar), "data": data, "memo": memo}
    return msgspec.json.encode(kept) + b"\n"


def _made_of(grammar: bytes) -> list[str]:
    return [lark.__version__, hashlib.sha256(grammar).hexdigest()]


def _numbered(kept: Any) -> Any:
    """JSON with the keys that are numbers made numbers again."""
    if isinstance(kept, dict):
        return {int(k) if k.isdigit() else k: _numbered(value) for k, value in kept.items()}
    return [_numbered(value) for value in kept] if isinstance(kept, list) else kept
