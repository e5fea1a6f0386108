"""What other linking rules would make of the people there are, beside the ledger that has them.

Theory: the ledger's evidence is copied at one instant, and judged by the other rules in steps; the
ledger goes on between them, and meanwhile. Who differs can be everybody: all are counted, and so
many are named as shall be looked at, whole regions of people who exchange identities.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence

import msgspec

from profile_actors.definitions.declared import Catalogue
from profile_actors.engine.identity.ledger import Ledger
from profile_actors.engine.identity.linking import Member
from profile_actors.engine.identity.messages import Named
from profile_actors.engine.identity.people import Trial

FACTS_PER_STEP = 5_000
"""Some 50 ms."""


Person = Sequence[Named]
"""The identities of a profile, the canonical one first."""


Region = tuple[list[Person], list[Person]]
"""People of now, and those that the same identities would be."""


class LinkingTrial(msgspec.Struct, frozen=True):
    """split: people of several identities who would come apart; joined: people who would be made of
    several of now's. before, after: of those who differ so many as were asked for, as they are and
    as they would be."""

    split: int
    joined: int
    before: list[Person]
    after: list[Person]


def try_linking(
    ledger: Ledger, tried: Catalogue, limit: int, between: Callable[[], object]
) -> LinkingTrial:
    """Judge a ledger's evidence by tried definitions. limit: people who are named. between: called
    after each step."""
    with ledger.trying(tried) as trial:
        for _ in trial.steps(FACTS_PER_STEP):
            between()
        before, after = people_of(trial)
    owners = owner_of(before), owner_of(after)
    split = sum(len({owners[1][one] for one in person}) > 1 for person in before)
    joined = sum(len({owners[0][one] for one in person}) > 1 for person in after)
    were: list[Person] = []
    will_be: list[Person] = []
    for some, others in regions(before, after):
        count = len(were) + len(will_be)
        if count and count + len(some) + len(others) > limit:
            break
        were += some
        will_be += others
    return LinkingTrial(split, joined, were, will_be)


def people_of(trial: Trial) -> tuple[list[Person], list[Person]]:
    """The people whom the tried definitions change, as they were when the trial began, and who they
    would be, the same identities put together otherwise; of each the smallest first."""
    found = list(trial.lows())
    both = Counter((now[1], then[1]) for _, now, then in found)
    sizes = Counter(now[1] for _, now, _ in found), Counter(then[1] for _, _, then in found)
    sides: tuple[defaultdict[Member, list[tuple[Member, Named]]], ...]
    sides = defaultdict(list), defaultdict(list)
    for named, now, then in found:
        if not both[now[1], then[1]] == sizes[0][now[1]] == sizes[1][then[1]]:
            for side, (member, low) in zip(sides, (now, then), strict=True):
                side[low].append((member, named))
    before, after = map(_in_order, sides)
    return before, after


def _in_order(side: Mapping[Member, list[tuple[Member, Named]]]) -> list[Person]:
    return [[one for _, one in sorted(some)] for some in side.values()]


def regions(before: Sequence[Person], after: Sequence[Person]) -> Iterator[Region]:
    """The people who exchange identities with each other, apart from all others."""
    owners = owner_of(before), owner_of(after)
    sides = before, after
    done: set[tuple[int, int]] = set()
    for start in range(len(before)):
        pending, found = [(0, start)], ([], [])  # type: tuple[list[tuple[int, int]], Region]
        while pending:
            side, number = pending.pop()
            if (side, number) in done:
                continue
            done.add((side, number))
            person = sides[side][number]
            found[side].append(person)
            pending += [(1 - side, owners[1 - side][one]) for one in person]
        if found[0]:
            yield found


def owner_of(people: Sequence[Person]) -> dict[Named, int]:
    """The number of each identity's person."""
    return {one: number for number, person in enumerate(people) for one in person}
