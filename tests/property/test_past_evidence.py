"""Who was one person at an earlier position is told as the ledger told it when it stood there."""

from __future__ import annotations

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import structs

from profile_actors.definitions.declared import LINKING, Catalogue, LinkingRules
from profile_actors.engine.identity.messages import Named
from profile_actors.engine.trials.past_evidence import PastEvidence
from tests.property.test_ledger import World


class ChangingWorld(World):
    """The ledger's world, with linking rules that become others as well."""

    def definitions(self, version: int) -> Catalogue:
        chance = self.chance
        rules = LinkingRules(
            max_size=chance.choice((50_000, 50_000, 2, 3)),
            max_people=chance.choice((100, 100, 1, 2)),
            placeholders=tuple(f"v{chance.randrange(99)}" for _ in range(chance.choice((0, 0, 9)))),
        )
        found = super().definitions(version)
        return structs.replace(found, linking_rules={LINKING: rules})


@settings(max_examples=60)
@given(st.integers(min_value=0, max_value=1 << 40))
def test_the_past_is_told_as_it_was(seed: int) -> None:
    world = ChangingWorld(seed)
    told: list[tuple[tuple[int, int], dict[Named, Any]]] = []
    past = PastEvidence(world.ledger.log)
    for _ in range(60):
        world.commit(world.some_mail())
        ledger = world.ledger
        known = {
            op.one: 0 for box in world.outboxes.values() for m in box for op in m.ops if op.one
        }
        told.append(
            ((ledger.position, ledger.version), {one: ledger.identity_graph(one) for one in known})
        )
        past._log = ledger.log  # opened again, maybe
        if world.chance.random() < 0.3:
            world.publish(1)
        if world.chance.random() < 0.1:
            world.unique = world.unique ^ {world.chance.choice(("CRMID", "Email"))}
            world.catalogue = world.definitions(world.catalogue.version + 1)
        if world.chance.random() < 0.2:
            compare(past, *world.chance.choice(told))
        if all(world.taken[s] == len(world.outboxes[s]) for s in "01"):
            break
    for stood, answers in told:
        compare(past, stood, answers)


def compare(past: PastEvidence, stood: tuple[int, int], answers: dict[Named, Any]) -> None:
    for one, answer in answers.items():
        assert past.person(one, *stood) == answer, (stood, one)
