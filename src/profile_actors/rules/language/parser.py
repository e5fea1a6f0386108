"""Rule text to tree: parsing with Lark, bounds on a rule's size, errors that say what was expected.

Theory: LALR(1) parsing is iterative and linear, so no text can exhaust the stack or the clock; the
walk that resolves names (``resolver``) is recursive and refuses what nests deeper than MAX_DEPTH.

Limits: MAX_RULE_CHARS per rule, MAX_ITEMS per list, MAX_DEPTH levels of nesting (each operator of a
chain such as ``a + b + c`` is one; ``and`` and ``or`` chains are one altogether).
"""

from __future__ import annotations

import functools
import re

from lark import UnexpectedInput, UnexpectedToken

from profile_actors.errors import RuleError
from profile_actors.rules.language import grammar
from profile_actors.rules.language.lexer import RESERVED
from profile_actors.rules.language.resolver import resolve
from profile_actors.rules.tree.faults import Fault, located
from profile_actors.rules.tree.nodes import Node

MAX_RULE_CHARS = 20_000


_LAST_NAME = re.compile(r"([^\W\d]\w*) \Z")


_WORDS = {
    "_LAMBDA": "a lambda",
    "PARAM": "a lambda's name",
    "_ARROW": "`=>`",
    "_OR": "`or`",
    "_AND": "`and`",
    "_NOT": "`not`",
    "_LET": "`let`",
    "_IN": "`in`",
    "QUANTIFIER": "`exists` or `forall`",
    "_SELECT": "`select`",
    "AGGREGATE": "`count`, `sum`, `average`, `min` or `max` … `over`",
    "_OVER": "`over`",
    "_FROM": "`from`",
    "_WHERE": "`where`",
    "_COLON": "`:`",
    "_RANGE_COMMA": "`, NAME from`",
    "EQUAL": "`=`",
    "COMPARE": "a comparison",
    "MEMBER_TEST": "`notIn` or `like`",
    "_OCCURS": "`occurs`",
    "INTEGER": "a whole number",
    "UNIT": "a unit",
    "BEFORE": "`before`",
    "AFTER": "`after`",
    "_ON": "`on`",
    "_BETWEEN": "`between`",
    "CALENDAR": "`this`, `last` or `next` UNIT",
    "METHOD": "a function",
    "FUNCTION": "a function",
    "_CHAIN": "`CHAIN`",
    "_WHAT": "`WHAT(`",
    "_WHEN": "`WHEN(`",
    "_COUNT": "`COUNT(`",
    "NAME": "a name",
    "QUOTED": "a name",
    "PLUS": "`+`",
    "MINUS": "`-`",
    "STAR": "`*`",
    "SLASH": "`/`",
    "PERCENT": "`%`",
    "_DOT": "`.`",
    "_LPAR": "`(`",
    "_RPAR": "`)`",
    "_LSQB": "`[`",
    "_RSQB": "`]`",
    "_COMMA": "`,`",
    "$END": "the end of the rule",
}


_OPERATORS = {
    *("_OR", "_AND", "EQUAL", "COMPARE", "MEMBER_TEST", "_IN", "_OCCURS", "PLUS", "MINUS"),
    *("STAR", "SLASH", "PERCENT", "_DOT", "_LSQB"),
}


_parser = functools.cache(grammar.parser)


def parse(text: str) -> Node:
    """Parse one rule; names are resolved to variables, fields and levels, types are left open.

    Cost: linear in the text, about 10 µs per character. Raises RuleError with line, column, the
    marked source and what was expected; never anything else for any string.
    """
    if not isinstance(text, str):
        raise RuleError(f"expected a rule as text, got {type(text).__name__}")
    if len(text) > MAX_RULE_CHARS:
        raise RuleError(
            f"expected a rule of at most {MAX_RULE_CHARS} characters, got {len(text)};"
            " split it with computed attributes",
            1,
            1,
        )
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise RuleError(
            f"expected text, got half of a surrogate pair at offset {error.start}"
        ) from None
    try:
        return resolve(_parser().parse(text))
    except Fault as fault:
        raise located(text, fault.at, fault.message) from None
    except UnexpectedToken as error:
        raise _unexpected(text, error) from None
    except UnexpectedInput as error:
        raise located(text, error.pos_in_stream or 0, "this is no rule") from None


def _unexpected(text: str, error: UnexpectedToken) -> RuleError:
    token = error.token
    ended = token.type == "$END"
    at = len(text.rstrip()) if ended else int(token.start_pos or 0)
    if ended and not text.strip():
        return located(text or " ", 0, "expected a rule, got nothing")
    accepted = set(error.accepts or error.expected)
    names: list[str] = []
    if {"_LPAR", "STRING"} <= accepted:
        names.append("a value")
        accepted &= {"_RSQB", "_RPAR", "_BETWEEN"}
    elif len(accepted & _OPERATORS) > 4:
        names.append("an operator")
        accepted -= _OPERATORS
    names += sorted({_WORDS.get(name, name) for name in accepted})
    got = "the end of the rule" if ended else f"`{token[:60]}`"
    if token.type == "_RANGE_COMMA":
        got = "a second range (`, NAME from`)"
    hint = ""
    if str(token).lower() in RESERVED and "a name" in names:
        hint = "; this word is reserved, a field of that name is written in back-ticks"
    elif token.type == "EQUAL" and text[max(at - 1, 0)] == "=":
        hint = "; equality is a single `=`"
    elif token == ">" and text[max(at - 1, 0)] == "<":
        hint = "; write `!=` for not equal"
    elif str(token).lower() == "is":
        hint = "; write isNull(x) or isNotNull(x)"
    elif "an operator" in names and token.type == "NAME":
        hint = _blank_name(text[:at], str(token))
    return located(text, at, f"expected {_either(names)}, got {got}{hint}")


def _blank_name(before: str, name: str) -> str:
    """What to write if a name goes on behind a blank. A name's case tells: words in a row that are
    no names (``a equals b``) are small."""
    found = _LAST_NAME.search(before)
    if found is None or name.lower() == name:
        return ""
    return f"; a field's name with a blank is written in back-ticks: `{found.group(1)} {name}`"


def _either(names: list[str]) -> str:
    shown = names[:8]
    return shown[0] if len(shown) == 1 else f"{', '.join(shown[:-1])} or {shown[-1]}"
