"""Where a node of a JSON tree stands, and the demands on what is found there.

Theory: a path such as ``$.params[1].object`` goes along with the walk, and with it the open levels
and the bound names, so that every refusal names the node. Everything here either gives back what
was asked for or raises RuleError with that path.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, NoReturn

from profile_actors.errors import RuleError
from profile_actors.rules.language.functions import spelling
from profile_actors.rules.semantics.values import INT64_MAX
from profile_actors.rules.tree.faults import nearest


@dataclass(frozen=True, slots=True)
class Place:
    """Where a node stands: its path, the open levels and the bound names."""

    path: str = "$"
    levels: int = 0
    names: frozenset[str] = frozenset()

    def at(self, step: str) -> Place:
        return replace(self, path=f"{self.path}{step}")

    def deeper(self) -> Place:
        return replace(self, levels=self.levels + 1)

    def bind(self, *names: str) -> Place:
        return replace(self, names=self.names | frozenset(names))


def refuse(place: Place, expected: str, got: object) -> NoReturn:
    """Raise the RuleError that says what was expected at a place."""
    raise RuleError(f"expected {expected}, got {str(got)[:60]} - at {place.path}")


def shown(value: object) -> str:
    """A value as an error shows it: itself if it is short, else what it is."""
    return repr(value)[:60] if isinstance(value, str | int | float) else type(value).__name__


def demand_keys(tree: Mapping[Any, Any], place: Place, needed: set[str], allowed: set[str]) -> None:
    """Refuse an object that lacks a needed key, or has one that nobody reads."""
    for key in sorted(needed - tree.keys()):
        refuse(place, f"the key {key!r}", f"only {sorted(map(str, tree))}")
    for key in tree.keys() - needed - allowed - {"nodeType"}:
        hint = nearest(str(key), needed | allowed)
        refuse(place, f"keys of {sorted(needed | allowed)}", f"{key!r}{hint}")


def name_of(value: object, place: Place, words: str = "a name as text") -> str:
    """The value as a name that a rule's text can spell."""
    if not isinstance(value, str) or not value:
        refuse(place, words, shown(value))
    if "`" in value or "\n" in value:
        refuse(place, f"{words}, without back-ticks and line ends", shown(value))
    return value


def whole_number(value: object, place: Place, least: int, most: int) -> int:
    """The value as a whole number between ``least`` and ``most``."""
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
        refuse(place, f"a whole number from {least} to {most}", shown(value))
    return value


def demand_arity(name: str, count: int, place: Place, least: int, most: int) -> None:
    """Refuse a function that is given fewer or more parameters than it takes."""
    if not least <= count <= most:
        words = str(least) if least == most else f"at least {least}"
        words = words if most in (least, INT64_MAX) else f"{least} to {most}"
        refuse(place.at(".params"), f"{words} parameter(s) for {spelling(name)}", count)
