"""Rule text to tokens; words that mean something only in their place are recognised here.

Theory: the language reserves few words (RULES §1). All others are keywords only where the grammar
asks for them, which two or three neighbouring tokens decide. Deciding it here keeps the grammar
LALR(1), hence linear: a first pass splits the text, a second names each word by its neighbours.

Rules for editors: a new contextual word needs a neighbour that makes it unambiguous; write it
beside its rule in ``_name_word``.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

from lark import Token
from lark.lexer import Lexer

from profile_actors.rules.semantics.calendar import unit_of
from profile_actors.rules.tree.faults import Fault

RESERVED = {
    "and": "_AND",
    "or": "_OR",
    "not": "_NOT",
    "in": "_IN",
    "notin": "MEMBER_TEST",
    "like": "MEMBER_TEST",
    "occurs": "_OCCURS",
    "let": "_LET",
    "exists": "QUANTIFIER",
    "forall": "QUANTIFIER",
    "select": "_SELECT",
    "from": "_FROM",
    "where": "_WHERE",
    "over": "_OVER",
    "true": "BOOLEAN",
    "false": "BOOLEAN",
    "now": "DAY_WORD",
    "today": "DAY_WORD",
    "yesterday": "DAY_WORD",
    "tomorrow": "DAY_WORD",
}


AGGREGATES = ("count", "sum", "average", "min", "max")


_INFIX = ("and", "or", "in", "notin", "like", "occurs", "from", "where", "over")


_PIECE = re.compile(
    r"""(?P<SPACE>\s+|//[^\n]*|/\*.*?\*/)
      | (?P<OPEN_COMMENT>/\*)
      | (?P<DOUBLE>\d+\.\d+)
      | (?P<INTEGER>\d+)
      | (?P<WORD>[^\W\d]\w*)
      | (?P<PROFILE>\$1(?!\w))
      | (?P<QUOTED>`[^`\n]+`)
      | (?P<STRING>"(?:[^"\\]|\\.)*")
      | (?P<CARETS>\^+)
      | (?P<_ARROW>=>)
      | (?P<COMPARE>!=|<=|>=|<|>)
      | (?P<EQUAL>=)
      | (?P<_NOT>!)
      | (?P<PLUS>\+) | (?P<MINUS>-) | (?P<STAR>\*) | (?P<SLASH>/) | (?P<PERCENT>%)
      | (?P<_LPAR>\() | (?P<_RPAR>\)) | (?P<_LSQB>\[) | (?P<_RSQB>\])
      | (?P<_COMMA>,) | (?P<_DOT>\.) | (?P<_COLON>:)""",
    re.VERBOSE | re.DOTALL | re.ASCII,
)


_LETTER = re.compile(r"[^\W\d]\w*")


_ESCAPES = {'"': '"', "\\": "\\", "n": "\n", "t": "\t"}


_ESCAPE = re.compile(r"\\(u[0-9A-Fa-f]{4}|.)", re.DOTALL)


def is_word(name: str) -> bool:
    """Whether a name can be written without back-ticks (as far as its characters go)."""
    return _LETTER.fullmatch(name) is not None


class Piece(NamedTuple):
    """One token of the first pass. kind: a group of ``_PIECE``; lower: the word in lower case."""

    kind: str
    text: str
    at: int
    lower: str = ""


_END = Piece("", "", -1)


def pieces(text: str) -> list[Piece]:
    """Split ``text``; raises Fault at what is no token."""
    found: list[Piece] = []
    at = 0
    while at < len(text):
        match = _PIECE.match(text, at)
        kind = "" if match is None else str(match.lastgroup)
        if match is None or kind == "OPEN_COMMENT":
            word = _LETTER.match(text, at)
            if word is None:
                raise Fault(_stray(text, at), at)
            kind, match = "WORD", word
        if kind == "WORD":
            match = _LETTER.match(text, at) or match  # letters of any alphabet
        end = match.end()
        if kind in ("INTEGER", "DOUBLE") and _LETTER.match(text, end):
            raise Fault("expected a space or an operator after the number", end)
        if kind != "SPACE":
            word_text = text[at:end]
            lower = word_text.lower() if kind == "WORD" and word_text.isascii() else ""
            found.append(Piece(kind, word_text, at, lower))
        at = end
    return found


def _stray(text: str, at: int) -> str:
    """What to say about a character that starts no token."""
    match text[at]:
        case '"':
            return 'expected a closing " for this text'
        case "'":
            return "expected text in double quotes, got a single quote"
        case "`":
            return "expected a name between two back-ticks on one line"
        case "$":
            return "expected $1 (the profile)"
        case "/":
            return "expected */ to close this comment"
        case "&" | "|":
            return f"unexpected {text[at]!r}; write `and` or `or`"
    return f"unexpected character {text[at]!r}"


def unescape(raw: str, at: int) -> str:
    """The text of a string literal given with its quotes. Raises Fault at a wrong escape."""

    def one(match: re.Match[str]) -> str:
        code = match.group(1)
        if len(code) == 5:
            return chr(int(code[1:], 16))
        if code not in _ESCAPES:
            raise Fault(
                f'unknown escape \\{code}; expected one of \\" \\\\ \\n \\t \\uXXXX',
                at + match.start() + 1,
            )
        return _ESCAPES[code]

    value = _ESCAPE.sub(one, raw[1:-1])
    try:
        # Two \u escapes may be the halves of one character; a half alone is no text.
        return value.encode("utf-16", "surrogatepass").decode("utf-16")
    except UnicodeDecodeError:
        raise Fault("a \\u escape is half of a surrogate pair", at) from None


class _Namer:
    """The second pass: pieces to Lark tokens."""

    def __init__(self, found: list[Piece]) -> None:
        self.pieces = found
        self.types: list[str] = []
        self.parameters: set[int] = set()

    def tokens(self) -> Iterator[Token]:
        for index, piece in enumerate(self.pieces):
            kind = piece.kind
            if kind == "_LPAR" and self._opens_lambda(index):
                kind = "_LAMBDA"
            elif index in self.parameters:
                kind = "PARAM" if piece.kind in ("WORD", "QUOTED") else "SKIP"
            elif kind == "WORD":
                if self._at(index + 1).kind == "_ARROW":
                    yield _token("_LAMBDA", piece)
                kind = self._name_word(index, piece)
            elif kind == "QUOTED" and self._at(index + 1).kind == "_ARROW":
                yield _token("_LAMBDA", piece)
                kind = "PARAM"
            elif kind == "_COMMA" and self._is_name(index + 1) and self._lower(index + 2) == "from":
                kind = "_RANGE_COMMA"
            self.types.append(kind)
            if kind != "SKIP":
                yield _token(kind, piece)

    def _at(self, index: int) -> Piece:
        return self.pieces[index] if 0 <= index < len(self.pieces) else _END

    def _lower(self, index: int) -> str:
        return self._at(index).lower

    def _type(self, index: int) -> str:
        return self.types[index] if index >= 0 else ""

    def _is_name(self, index: int) -> bool:
        piece = self._at(index)
        if piece.kind == "QUOTED":
            return True
        return piece.kind == "WORD" and piece.lower not in RESERVED and piece.text != "xEvent"

    def _opens_lambda(self, index: int) -> bool:
        """``(`` of ``(P) =>`` or ``(K, G) =>``; notes the pieces up to ``)`` as parameters."""
        kinds = [self._at(index + n).kind.replace("QUOTED", "WORD") for n in range(1, 6)]
        if kinds[:3] == ["WORD", "_RPAR", "_ARROW"]:
            self.parameters.update((index + 1, index + 2))
            return True
        if kinds == ["WORD", "_COMMA", "WORD", "_RPAR", "_ARROW"]:
            self.parameters.update(range(index + 1, index + 5))
            return True
        return False

    def _name_word(self, index: int, piece: Piece) -> str:
        lower, following = piece.lower, self._at(index + 1)
        called = following.kind == "_LPAR"
        if self._type(index - 1) == "_DOT":
            return "METHOD" if called else "NAME"
        if following.kind == "_ARROW":
            return "PARAM"
        if lower in RESERVED:
            return RESERVED[lower]
        if piece.text == "xEvent":
            return "EVENTS"
        in_time = self._time_word(index, piece)
        if in_time:
            return in_time
        if called:
            return self._called(index, lower)
        if lower in AGGREGATES and (self._is_name(index + 1) or following.kind == "PROFILE"):
            return "AGGREGATE"
        return "NAME"

    def _called(self, index: int, lower: str) -> str:
        before = self._type(index - 1)
        if lower == "chain":
            return "_CHAIN"
        if lower == "what" and before == "_COLON":
            return "_WHAT"
        if lower in ("when", "count") and before == "_RPAR":
            return "_WHEN" if lower == "when" else "_COUNT"
        return "FUNCTION"

    def _starts_moment(self, index: int) -> bool:
        """Whether what follows piece ``index`` is the right side of ``occurs``."""
        if self._type(index) == "_OCCURS":
            return True
        return self._type(index) == "_LPAR" and self._type(index - 1) == "_WHEN"

    def _time_word(self, index: int, piece: Piece) -> str:
        """The token type of a word that means something only in a time, else ''."""
        lower, before = piece.lower, self._type(index - 1)
        if self._starts_moment(index - 1) and (
            self._starts_operand(index + 1) or self._starts_list(index + 1)
        ):
            keyword = {"before": "BEFORE", "after": "AFTER", "on": "_ON", "between": "_BETWEEN"}
            if lower in keyword:
                return keyword[lower]
        if (
            before == "INTEGER"
            and self._type(index - 2) in ("EQUAL", "COMPARE")
            and self._starts_moment(index - 3)
        ):
            return self._unit(piece)
        if before == "UNIT" and lower in ("before", "after"):
            return lower.upper()
        if before == "CALENDAR":
            return self._unit(piece)
        if lower in ("this", "last", "next") and self._starts_time(index):
            following = self._at(index + 1)
            if following.kind == "WORD" and unit_of(following.text) is not None:
                return "CALENDAR"
        return ""

    def _starts_time(self, index: int) -> bool:
        before = self._type(index - 1)
        words = ("BEFORE", "AFTER", "_ON", "_BETWEEN", "_FROM", "_AND")
        return before in words or self._starts_moment(index - 1)

    def _starts_operand(self, index: int) -> bool:
        piece = self._at(index)
        if piece.kind == "WORD":
            return piece.lower not in _INFIX
        return piece.kind in (
            "QUOTED",
            "PROFILE",
            "CARETS",
            "_LPAR",
            "INTEGER",
            "DOUBLE",
            "STRING",
        )

    def _starts_list(self, index: int) -> bool:
        """Whether ``[`` begins a list. Right behind a word it filters a field of that name."""
        piece, word = self._at(index), self._at(index - 1)
        return piece.kind == "_LSQB" and piece.at > word.at + len(word.text)

    @staticmethod
    def _unit(piece: Piece) -> str:
        if unit_of(piece.text) is None:
            raise Fault(
                "expected a unit (millisecond, second, minute, hour, day, week, month, quarter,"
                f" year, decade, century, millennium), got {piece.text[:60]!r}",
                piece.at,
            )
        return "UNIT"


def _token(kind: str, piece: Piece) -> Token:
    value = piece.text
    if kind == "STRING":
        value = unescape(value, piece.at)
    elif piece.kind == "QUOTED":
        value = value[1:-1]
    return Token(kind, value, start_pos=piece.at, line=1, column=1, end_pos=piece.at)


class RuleLexer(Lexer):
    """What Lark calls: the two passes, lazily for the second."""

    def __init__(self, lexer_conf: object) -> None:
        del lexer_conf

    def lex(self, data: str) -> Iterator[Token]:  # type: ignore[override]
        return _Namer(pieces(data)).tokens()
