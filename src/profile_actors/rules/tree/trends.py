"""Which way a condition over kept events can turn while time passes and nothing arrives.

Theory: without arrivals, and with no kept event still to enter, the events in a window only ever
go. A condition that more events can only make true (``exists``, CHAIN, a count of at least so many)
then turns from true to false once, if at all, and the instant can be found by bisection instead of
by asking at each departure. Its negation turns the other way, once.

The analysis is conservative: what it does not know has no trend.
"""

from __future__ import annotations

from profile_actors.rules.tree.clock_reads import varies
from profile_actors.rules.tree.nodes import Call, Each, Literal, Node
from profile_actors.rules.tree.plan import AggregateLeaf, Kept, Sequence
from profile_actors.rules.tree.walks import parts

STILL, FALLS, RISES = "still", "falls", "rises"


_OPPOSITE = {STILL: STILL, FALLS: RISES, RISES: FALLS}


_TURNS = {
    ("count", ">"): FALLS, ("count", ">="): FALLS, ("count", "<"): RISES, ("count", "<="): RISES,
    # Of nothing the extremes are null, and a comparison with null is false: only this way.
    ("max", ">"): FALLS, ("max", ">="): FALLS, ("min", "<"): FALLS, ("min", "<="): FALLS,
}  # fmt: skip


def trend(node: Node) -> str | None:
    """How a condition can turn as kept events go: 'still', 'falls' (true to false), 'rises'; None:
    unknown, or anyhow."""
    if not _varies(node):
        return STILL
    if isinstance(node, Sequence):
        claims = [stage.condition for stage in node.stages if stage.condition is not None]
        if any(map(_varies, claims)):
            return None
        return _joint([_of_list(stage.source) for stage in node.stages])
    if not isinstance(node, Call):
        return None
    if node.function in ("and", "or"):
        return _joint([trend(arg) for arg in node.args])
    if node.function == "not":
        found = trend(node.args[0])
        return None if found is None else _OPPOSITE[found]
    return _of_comparison(node)


def _of_comparison(node: Call) -> str | None:
    """A fold of a list against what stays."""
    if len(node.args) != 2 or _varies(node.args[1]):
        return None
    folded = node.args[0]
    if not isinstance(folded, Call) or len(folded.args) != 1:
        return None
    of_list = _of_list(folded.args[0])
    if of_list == STILL:
        return STILL
    turn = _TURNS.get((folded.function, node.function))
    return turn if of_list == FALLS else None


def _of_list(node: Node) -> str | None:
    """'still' if its elements stay, 'falls' if they can only go."""
    if isinstance(node, Kept):
        return FALLS if node.filter.window else STILL
    if isinstance(node, Each) and node.function in ("filter", "map"):
        source = _of_list(node.source)
        body = trend(node.body) if node.function == "filter" else _still(node.body)
        found = _joint([source, body])
        return found if found != RISES else None
    if isinstance(node, Call) and node.function == "distinct":
        return _of_list(node.args[0])
    return None


def _still(node: Node) -> str | None:
    return None if _varies(node) else STILL


def _varies(node: Node) -> bool:
    return varies(node) or _has_aggregate(node)


def _has_aggregate(node: Node) -> bool:
    return isinstance(node, AggregateLeaf) or any(map(_has_aggregate, parts(node)))


def _joint(found: list[str | None]) -> str | None:
    """Of parts that must all turn the same way, or stay."""
    ways = set(found) - {STILL}
    if not ways:
        return STILL
    return ways.pop() if len(ways) == 1 else None


def is_kept_alone(node: Node) -> bool:
    """Whether kept events are all that makes the node move with the clock."""
    if isinstance(node, Kept | Literal):
        return True
    inner = list(parts(node))
    return all(map(is_kept_alone, inner)) if inner else not varies(node)
