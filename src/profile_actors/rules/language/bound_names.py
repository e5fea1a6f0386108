"""What names and levels mean around one place of a parse tree, and how its tokens are read.

Theory: a rule is resolved by one walk that carries ``Around``: how many elements are open between
here and the profile, and what each bound name stands for. It is immutable, so that a branch never
sees what a sibling binds.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from lark import Token, Tree

from profile_actors.rules.language.functions import spelling
from profile_actors.rules.language.lexer import RESERVED
from profile_actors.rules.tree.faults import Fault
from profile_actors.rules.tree.nodes import Node, Variable


@dataclass(frozen=True, slots=True)
class Around:
    """levels: elements between here and the profile. names: variable -> what it stands for."""

    levels: int = 0
    names: Mapping[str, Node] = field(default_factory=dict)

    def bind(self, name: str, node: Node) -> Around:
        return replace(self, names={**self.names, name: node})

    def bind_each(self, names: tuple[str, ...]) -> Around:
        """With variables of these names, each standing for itself."""
        return replace(self, names={**self.names, **{name: Variable(name) for name in names}})

    def deeper(self) -> Around:
        return replace(self, levels=self.levels + 1)


def offset(tree: Tree[Any]) -> int:
    """Where the tree begins in the rule's text."""
    return int(getattr(tree.meta, "start_pos", 0))


def pieces(tree: Tree[Any]) -> list[Any]:
    """The tree's children, of whatever kind the grammar says."""
    return list(tree.children)


def whole_number(token: Token, most: int, least: int = 0) -> int:
    """The number that digits write. Raises Fault unless it is between ``least`` and ``most``."""
    # Digits are counted first: converting a very long number is quadratic, or refused.
    digits = str(token).lstrip("0") or "0"
    if len(digits) > 19 or not least <= int(digits) <= most:
        raise Fault(
            f"expected a whole number from {least} to {most}, got {str(token)[:40]}",
            int(token.start_pos or 0),
        )
    return int(digits)


def bindable(token: str, at: int) -> str:
    """A name that may be bound. Raises Fault for a reserved word."""
    if token.lower() in RESERVED or token == "xEvent":
        raise Fault(f"expected a name to bind, got the reserved word `{token}`", at)
    return token


def parameters(tree: Tree[Any]) -> tuple[str, ...]:
    """The names that a lambda binds. Raises Fault for two equal ones."""
    names = [bindable(str(token), int(token.start_pos or 0)) for token in pieces(tree)]
    if len(set(names)) < len(names):
        raise Fault("expected two different names in (K, G) =>", offset(tree))
    return tuple(names)


def demand_arity(name: str, count: int, bounds: tuple[int, int], at: int) -> None:
    """Raise Fault unless a function is given as many arguments as it takes."""
    least, most = bounds
    if not least <= count <= most:
        wanted = str(least) if least == most else f"{least} to {most}"
        raise Fault(f"expected {wanted} argument(s) for {spelling(name)}, got {count}", at)
