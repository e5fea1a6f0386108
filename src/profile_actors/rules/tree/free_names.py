"""What an expression reads of the scopes around it, and what a condition claims."""

from __future__ import annotations

from profile_actors.rules.tree.nodes import Chain, Each, Element, Let, Node, Quantified, Variable
from profile_actors.rules.tree.plan import Sequence
from profile_actors.rules.tree.walks import children

Reads = frozenset[int | str]


NOTHING: Reads = frozenset()


_KNOWN_LIMIT = 1 << 16


_known: dict[int, tuple[Node, Reads]] = {}


def reads(node: Node) -> Reads:
    """The levels (as numbers, 0 = innermost) and names that are bound outside the node, planned or
    not.

    Kept by identity: the planner makes equal nodes one object, and plans live long.
    """
    found = _known.get(id(node))
    if found is None or found[0] is not node:
        if len(_known) >= _KNOWN_LIMIT:
            _known.clear()
        found = (node, _reads(node))
        _known[id(node)] = found
    return found[1]


def _reads(node: Node) -> Reads:
    match node:
        case Element(up=up):
            return frozenset([up])
        case Variable(name=name):
            return frozenset([name])
        case Each():
            return _of_each(node)
        case Let():
            return reads(node.value) | (reads(node.body) - {node.name})
        case Quantified():
            return _of_ranges(node)
        case Chain(source=source, steps=steps):
            parts = [(s.name, [s.what] if s.when is None else [s.what, s.when]) for s in steps]
            return reads(source) | _of_stages(parts)
        case Sequence(stages=stages):
            names = {stage.name for stage in stages}
            sources = NOTHING.union(*(reads(stage.source) for stage in stages))
            conditions = (s.condition for s in stages if s.condition is not None)
            return sources | (NOTHING.union(*map(reads, conditions)) - names)
    return NOTHING.union(*map(reads, children(node)))


def _of_each(node: Each) -> Reads:
    within, outside = reads(node.body), reads(node.source)
    for extra in node.extra:
        if node.function == "mapentries":
            within |= reads(extra)
        else:
            outside |= reads(extra)
    return outside | (within - set(node.variables) if node.variables else _outwards(within))


def _of_ranges(node: Quantified) -> Reads:
    out: Reads = NOTHING
    names: set[int | str] = set()
    for item in node.ranges:
        out |= reads(item.source) - names
        names.add(item.name)
        if item.condition is not None:
            out |= reads(item.condition) - names
    return out if node.result is None else out | (reads(node.result) - names)


def _of_stages(stages: list[tuple[str, list[Node]]]) -> Reads:
    out: Reads = NOTHING
    names: set[int | str] = set()
    for name, parts in stages:
        for part in parts:
            out |= _outwards(reads(part)) - names
        names.add(name)
    return out


def _outwards(within: Reads) -> Reads:
    """Without what the innermost level is read for; the others counted from outside it."""
    return frozenset(r if isinstance(r, str) else r - 1 for r in within if r != 0)
