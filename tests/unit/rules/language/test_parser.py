"""The grammar's shape: precedence, scopes, contextual words, and errors that say where and what."""

from __future__ import annotations

import contextlib
import time

import pytest

from profile_actors.errors import RuleError
from profile_actors.rules.language.functions import MAX_DEPTH, MAX_ITEMS
from profile_actors.rules.language.parser import MAX_RULE_CHARS, parse
from profile_actors.rules.tree.nodes import (
    Calendar,
    Call,
    Computed,
    Each,
    Element,
    Events,
    Field,
    Literal,
    Node,
    Now,
    Occurs,
    Quantified,
    Root,
    Variable,
)
from profile_actors.rules.tree.walks import descendants

INNER = Field(Element(0), "a")
A, B, C = (Field(Root(), name) for name in "abc")


def integer(value: int) -> Literal:
    return Literal(value, "integer")


@pytest.mark.parametrize(
    ("text", "tree"),
    [
        ("a or b and not c", Call("or", (A, Call("and", (B, Call("not", (C,))))))),
        ("(a or b) or c", Call("or", (A, B, C))),
        ("a or (b or c)", Call("or", (A, B, C))),
        ("not a = b", Call("not", (Call("=", (A, B)),))),
        ("!a = b", Call("not", (Call("=", (A, B)),))),
        ("a - b - c", Call("-", (Call("-", (A, B)), C))),
        ("a + b * c", Call("+", (A, Call("*", (B, C))))),
        ("-a * b", Call("*", (Call("neg", (A,)), B))),
        ("a -3", Call("-", (A, integer(3)))),
        ("a NOTIN [1]", Call("notin", (A, parse("[1]")))),
        ("a.b.c", Field(Field(A, "b"), "c")),
        ("a.in", Field(A, "in")),
        ("a.`x y`", Field(A, "x y")),
        ("$1.a", A),
        ("(P) => P.a", A),
        ("P => P.a", A),
        ("computed.x", Computed("x")),
        ("xEvent[^.a].a", Field(Each("filter", Events(), A), "a")),
        ("xEvent[a]", Each("filter", Events(), Field(Element(0), "a"))),
        ("xEvent[a[^.b]]", Each("filter", Events(), Each("filter", INNER, Field(Element(1), "b")))),
        ("a.map(X => X.b)", Each("map", A, Field(Variable("X"), "b"), ("X",))),
        ("a.topN(b, 3)", Each("topn", A, Field(Element(0), "b"), (), (integer(3),))),
        ("a.sum()", Call("sum", (A,))),
        ("a.MAX(b)", Each("max", A, Field(Element(0), "b"))),
    ],
)  # fmt: skip
def test_trees(text: str, tree: Node) -> None:
    assert parse(text) == tree


def test_contextual_words_are_names_elsewhere() -> None:
    for word in ("count", "sum", "date", "on", "this", "last", "before", "CHAIN", "what", "day"):
        assert parse(word) == Field(Root(), word)
        assert parse(f"{word} = 1") == Call("=", (Field(Root(), word), integer(1)))
    assert parse("t occurs on") == Occurs(Field(Root(), "t"), "on", Field(Root(), "on"))
    assert parse("t occurs before.x") == parse("t occurs on before.x")
    assert parse("t occurs on on") == parse("t occurs on")
    assert parse("t occurs this month") == Occurs(Field(Root(), "t"), "on", Calendar("month", 0))
    assert parse("t occurs this") == parse("t occurs on this")


def test_times() -> None:
    t = Field(Root(), "t")
    assert parse("t occurs <= 3 Days from now") == Occurs(
        t, "distance", Now("now"), comparison="<=", amount=3, unit="day", direction="after"
    )
    for word in ("before", "after", "on"):  # a list; without a blank, a field's filter
        first = Occurs(t, word, parse("[a].head()"))
        assert parse(f"t occurs {word} [a].head()") == first
        assert parse(f"t occurs {word}[a]") == parse(f"t occurs on `{word}`[a]")
    assert parse("t occurs between [a].head() and b") == Occurs(
        t, "between", parse("[a].head()"), B
    )
    assert parse("t occurs between a and b and c") == Call("and", (Occurs(t, "between", A, B), C))


def test_open_expressions_reach_right() -> None:
    tree = parse("a and exists V from b where V or c")
    assert isinstance(tree, Call)
    inner = tree.args[1]
    assert isinstance(inner, Quantified)
    assert inner.ranges[0].condition == Call("or", (Variable("V"), C))
    nested = parse("exists V from a where exists W from b where W, X from c")
    assert isinstance(nested, Quantified)
    assert len(nested.ranges) == 1  # the innermost quantifier takes the second range


def test_positions_are_first_characters() -> None:
    text = 'a = 1 and  xEvent[ b = "x" ].count() > 2'
    for node in descendants(parse(text)):
        if isinstance(node, Field):
            assert text[node.at :].startswith(node.name)
        if isinstance(node, Events):
            assert text[node.at :].startswith("xEvent")


@pytest.mark.parametrize(
    ("text", "line", "column", "words"),
    [
        ("", 1, 1, "expected a rule"),
        ("a and", 1, 6, "expected a value, got the end"),
        ("a =\n  = b", 2, 3, "expected a value, got `=`"),
        ("a == b", 1, 4, "single `=`"),
        ("a <> b", 1, 4, "write `!=`"),
        ("a is null", 1, 3, "write isNull(x) or isNotNull(x)"),
        ("a b", 1, 3, "expected an operator"),
        ("a && b", 1, 3, "write `and`"),
        ("'a'", 1, 1, "double quotes"),
        ('"abc', 1, 1, 'closing "'),
        ("/* a", 1, 1, "*/"),
        ("a.cuont()", 1, 3, "did you mean 'count'?"),
        ("xEvent.topn(a)", 1, 8, "expected 2 argument"),
        ("a occurs <= 3 dayz before now", 1, 15, "expected a unit"),
        ('a.matches("(?=x)")', 1, 11, "RE2"),
        ("date(2021, 2, 29)", 1, 1, "exist"),
        ("xEvent[^^.a]", 1, 8, "above the profile"),
        ("exists now from a", 1, 8, "reserved"),
        ("a.map((K, G) => K)", 1, 7, "mapEntry"),
        ("1e5", 1, 2, "after the number"),
        ("a.sum(X => X, 2)", 1, 3, "expected 0 to 1 argument"),
        ("isNull(X => X)", 1, 8, "takes no lambda"),
        ("`a", 1, 1, "back-ticks"),
        ("a # b", 1, 3, "unexpected character '#'"),
        ("[1, 2", 1, 6, "`,` or `]`"),
    ],
)
def test_errors_say_where_and_what(text: str, line: int, column: int, words: str) -> None:
    with pytest.raises(RuleError) as caught:
        parse(text)
    error = caught.value
    assert (error.line, error.column) == (line, column), str(error)
    assert words in str(error)
    shown, mark = str(error).splitlines()[-2:]
    assert mark.endswith("^")
    if text:
        assert shown.strip() == text.splitlines()[line - 1].strip()


def test_bounds() -> None:
    with pytest.raises(RuleError, match="at most 20000 characters"):
        parse("a" * (MAX_RULE_CHARS + 1))
    with pytest.raises(RuleError, match="levels of nesting"):
        parse("!" * MAX_DEPTH + "a")
    with pytest.raises(RuleError, match="items in a list"):
        parse("[" + ",".join("1" * (MAX_ITEMS + 1)) + "]")
    assert parse("(" * 9_000 + "a" + ")" * 9_000) == A
    assert parse(" or ".join(["a"] * 3_000)) == Call("or", (A,) * 3_000)


@pytest.mark.parametrize(
    "text",
    [
        "(" * 19_999,
        "!" * 19_999,
        "-" * 19_999 + "1",
        "[" * 19_999,
        "a" + ".b" * 9_999,
        "a" + "[b" * 9_000,
        "1+" * 9_999 + "1",
        "let a = (" * 2_000,
        "exists a from b, " * 1_100 + "c from d",
        "a.map(" * 3_000,
        "^" * 20_000,
        "9" * 20_000,
        '"' + "\\u0041" * 3_000 + '"',
        "/*" * 9_999,
        "a in [" + "1," * 9_900 + "1]",
        'a.matches("' + "(a*)*" * 3_900 + '")',
    ],
)
def test_hostile_rules_end_soon(text: str) -> None:
    started = time.process_time()  # no loaded machine makes a rule hostile
    with contextlib.suppress(RuleError):
        parse(text)
    assert time.process_time() - started < 5
