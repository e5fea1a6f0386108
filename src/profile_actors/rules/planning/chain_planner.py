"""Planning of CHAIN: steps over kept events become the stages of one sequence.

Theory: what a step asks of its own event alone goes into the filter of the events it looks through,
as in any list; what reads an earlier step's event stays a condition of the stage, evaluated as the
sequence is found. Refused (NotIncremental): such a condition that moves with the clock, since no
event arrives when it turns.
"""

from __future__ import annotations

from profile_actors.rules.planning.planned_lists import Bindings, Lists
from profile_actors.rules.tree.clock_reads import varies
from profile_actors.rules.tree.constants import BOOLEAN
from profile_actors.rules.tree.faults import NotIncremental
from profile_actors.rules.tree.free_names import reads
from profile_actors.rules.tree.nodes import Call, Chain
from profile_actors.rules.tree.plan import Sequence, Stage
from profile_actors.rules.tree.walks import conjuncts


def sequence(node: Chain, scope: Bindings, lists: Lists) -> Sequence:
    """The sequence that a CHAIN asks for. Raises NotIncremental."""
    base = lists.array(node.source, scope)
    if base.of is None:
        raise NotIncremental(node, "a sequence of something other than events")
    stages: list[Stage] = []
    within, earlier = scope, set[str]()
    for step in node.steps:
        parts = [p for c in (step.what, step.when) if c is not None for p in conjuncts(c)]
        own = [part for part in parts if not reads(part) & earlier]
        found = lists.filtered(base, own, (), scope)
        # The step's own event is a level to its conditions, and a name to later ones.
        inner = within.bind(None, found.of)
        rest = [part for part in parts if reads(part) & earlier]
        claims = tuple(lists.condition(part, inner) for part in rest)
        for part, claim_of_part in zip(rest, claims, strict=True):
            if varies(claim_of_part):
                raise NotIncremental(
                    part,
                    "a CHAIN condition that reads an earlier step and moves with the clock",
                )
        claim = None if not claims else Call("and", claims, at=step.at, type=BOOLEAN)
        stages.append(Stage(inner.last, found.node, claim, step.count, at=step.at))
        within = within.bind(step.name, found.of)
        earlier.add(step.name)
    return Sequence(tuple(stages), at=node.at, type=BOOLEAN)
