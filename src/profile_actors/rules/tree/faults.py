"""Rule errors that show where, and the way out: the marked source line, the nearest name, the form.

Theory: every stage knows an offset into the rule text; one function turns it into what a person
reads. Long lines are cut around the mark, so that a message stays a few lines whatever the rule.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Collection, Iterable

from profile_actors.errors import RuleError
from profile_actors.rules.tree.nodes import Node

_NULL_WORDS = {"null", "none", "nil", "undefined"}


_PLAIN_NAME = re.compile(r"[^\W\d]\w*\Z")


_HYPHENATED = re.compile(r"(?:\$1\.|\^+\.)?(?:[^\W\d]\w*\.)*[^\W\d]\w*-[^\W\d]\w*(?:-\w+)*")


_SHOWN = 96  # characters of a source line that fit a terminal beside the indent


class Fault(Exception):
    """A rule is wrong at an offset (None: not known here); whoever holds the text makes a
    RuleError of it."""

    def __init__(self, message: str, at: int | None = None) -> None:
        super().__init__(message, at)
        self.message = message
        self.at = at


class NotIncremental(Exception):
    """A sub-expression that no operator keeps up to date. node: it; reason: why, in words.

    rule: the (kind, name) of the rule whose text the node's position belongs to, once known.
    """

    def __init__(self, node: Node, reason: str) -> None:
        super().__init__(node, reason)
        self.node = node
        self.reason = reason
        self.rule: tuple[str, str] | None = None


def located(text: str, at: int | None, message: str) -> RuleError:
    """The RuleError for ``message`` at offset ``at`` of ``text``; without text, no position."""
    if not text:
        return RuleError(message)
    at = min(max(at or 0, 0), len(text))
    start = text.rfind("\n", 0, at) + 1
    end = text.find("\n", at)
    line_text = text[start : end if end >= 0 else len(text)]
    line, column = text.count("\n", 0, at) + 1, at - start + 1
    skipped = max(0, column - 1 - _SHOWN * 2 // 3)
    shown = line_text[skipped : skipped + _SHOWN]
    # Tabs stay as they are before the mark, so that it stands below its character.
    pad = "".join(c if c == "\t" else " " for c in line_text[skipped : column - 1])
    return RuleError(
        f"{message}\n  at line {line}, column {column}:\n    {shown}\n    {pad}^", line, column
    )


def nearest(name: str, known: Iterable[str]) -> str:
    """``"; did you mean 'x'?"`` for the known name closest to ``name``, or nothing."""
    names = sorted(set(known))
    lowered = {other.lower(): other for other in reversed(names)}
    if name.lower() in lowered:
        return f"; did you mean {lowered[name.lower()]!r}?"
    found = difflib.get_close_matches(name[:80], names[:2000], n=1, cutoff=0.6)
    return f"; did you mean {found[0]!r}?" if found else ""


def split_name(text: str, at: int | None) -> str:
    """What to write if the name at this offset was to go on behind a hyphen, as ``"; …"``, or
    nothing: ``Sub-Category`` is Sub minus Category, whether or not a schema has such a field."""
    for found in _HYPHENATED.finditer(text):
        if at is not None and found.start() <= at < found.end():
            path, _, name = found.group().rpartition(".")
            whole = f"{path}.`{name}`" if path else f"`{name}`"
            return (
                f"; {name} is a subtraction: a field of that name is written in back-ticks, {whole}"
            )
    return ""


def way_out(name: str, known: Collection[str], functions: Collection[str]) -> str:
    """What to write instead of a name that is no field, as ``"; …"``, or nothing.

    known: the fields there are. functions: the methods, as people spell them. A word of other
    languages for null, a function without its parentheses, and a piece of a field that takes
    back-ticks are no misspellings: the nearest name would lead astray.
    """
    if name.lower() in _NULL_WORDS:
        return "; there is no null to compare with: write isNull(x) or isNotNull(x)"
    odd = [field for field in known if not _PLAIN_NAME.match(field) and field != name]
    for field in sorted(odd):
        if name in re.split(r"\W+", field):
            return f"; a field of such a name is written in back-ticks: `{field}`"
    called = {function.lower(): function for function in functions}.get(name.lower())
    return f"; a function is called with parentheses: {called}()" if called else ""
