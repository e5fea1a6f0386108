"""Why something cannot be kept up to date by operators."""

from __future__ import annotations

from profile_actors.rules.tree.nodes import Node


class NotIncremental(Exception):
    """A sub-expression that no operator keeps up to date. node: it; reason: why, in words.

    rule: the (kind, name) of the rule whose text the node's position belongs to, once known.
    """

    def __init__(self, node: Node, reason: str) -> None:
        super().__init__(node, reason)
        self.node = node
        self.reason = reason
        self.rule: tuple[str, str] | None = None
