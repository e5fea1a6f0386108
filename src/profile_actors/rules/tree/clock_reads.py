"""Which parts of a rule read the clock, and at which units they move."""

from __future__ import annotations

from profile_actors.rules.tree.comparisons import COMPARISONS
from profile_actors.rules.tree.nodes import Calendar, Call, Node, Now, Occurs
from profile_actors.rules.tree.plan import Kept
from profile_actors.rules.tree.walks import parts

_PART_UNITS = {
    "currentyear": "year",
    "currentmonth": "month",
    "currentdayofmonth": "day",
    "getyear": "year",
    "getmonth": "month",
    "getdayofmonth": "day",
}


def varies(node: Node) -> bool:
    """Whether the value may depend on now other than through the node's leaves.

    Kept events do: one may be later than now, or leave its filter's window.
    """
    if isinstance(node, Now | Calendar | Kept):
        return True
    if isinstance(node, Call) and node.function.startswith("current"):
        return True
    return any(varies(part) for part in parts(node))


def ticks(node: Node) -> bool:
    """Whether some part changes every millisecond: ``now`` as a plain value, or on both sides of a
    comparison. Such a rule has no useful next boundary."""
    if isinstance(node, Now):
        return node.kind == "now"
    children = list(parts(node))
    if isinstance(node, Occurs) or (isinstance(node, Call) and node.function in COMPARISONS):
        bare = [child for child in children if child == Now("now")]
        if isinstance(node, Call) or Now("now") != node.subject:
            return any(ticks(child) for child in children if child not in bare) or (
                isinstance(node, Call) and len(bare) > 1
            )
        return any(ticks(child) for child in children[1:])
    if isinstance(node, Call) and node.function in _PART_UNITS and children == [Now("now")]:
        return False
    return any(ticks(child) for child in children)


def _stepping(node: Node) -> list[Node]:
    """The parts that may step. A word of the clock compared with another thing does not: it flips
    once, and a boundary says when."""
    children = list(parts(node))
    if isinstance(node, Call) and node.function in COMPARISONS:
        words = [child for child in children if isinstance(child, Now)]
        return children if len(words) != 1 else [c for c in children if c is not words[0]]
    return children


def unit_steps(node: Node) -> str:
    """The unit ('day', 'month', or '') at whose starts the tree may change whatever its leaves.

    Sub-day units are not told: they step too often to be listed.
    """
    found = ""
    pending = [node]
    while pending:
        current = pending.pop()
        pending.extend(_stepping(current))
        if isinstance(current, Call) and current.function in ("currentmonth", "currentyear"):
            found = found or "month"
        elif (
            isinstance(current, Calendar)
            or (isinstance(current, Now) and current.kind != "now")
            or (isinstance(current, Call) and current.function == "currentdayofmonth")
        ):
            found = "day"
    return found
