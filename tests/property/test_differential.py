"""L2, L3, L5: state, look-ups and feed against the reference evaluator, in random worlds."""

from __future__ import annotations

from typing import Any

import pytest

from tests.differential.generate import BASE, HOUR
from tests.differential.harness import DECIMALS_FROM, Kind
from tests.differential.shrink import replay
from tests.differential.worlds import CROWDED_FROM, run

# 62: a contribution left and the rounded sum stayed; a mark and a valid_until said it changed.
# 309: a lifetime extreme met a row ahead of its clock and forgot what it had.
FOUND = (62, 309)


def slow(*seeds: int) -> list[Any]:
    """Worlds of the long form; ``make differential`` draws them by the hundred."""
    return [pytest.param(seed, marks=pytest.mark.slow) for seed in seeds]


@pytest.mark.parametrize(
    "seed",
    [*range(6), *FOUND, *range(1000, 1003), *slow(*range(6, 12), *range(1003, 1006))],
)
def test_a_random_world_agrees_with_the_oracles(seed: int) -> None:
    assert run(seed) > 0


@pytest.mark.parametrize("seed", range(CROWDED_FROM, CROWDED_FROM + 4))
def test_a_world_of_many_rules_over_few_aggregates_agrees(seed: int) -> None:
    assert run(seed) > 0


@pytest.mark.parametrize(("seed", "kind"), [(0, "narrow"), (1, "wide"), (2, "narrow")])
def test_a_world_of_decimals_of_two_scales_agrees(seed: int, kind: Kind) -> None:
    assert run(DECIMALS_FROM + seed, kind=kind) > 0


# 15: after a restart a rescan's changes joined a block that held them already.
@pytest.mark.parametrize("seed", [0, 1, 3, 4, 6, 15])
def test_a_world_with_rules_from_the_whole_language_agrees(seed: int) -> None:
    assert run(seed, kind="wide") > 0


@pytest.mark.parametrize("seed", range(4))
def test_a_world_with_operands_of_any_kind_agrees(seed: int) -> None:
    assert run(seed, kind="odd") > 0


# Below 1,000 over one store, from there on over drawn ones.
@pytest.mark.parametrize("seed", [*range(3), *range(1000, 1003), *slow(*range(1003, 1008))])
def test_a_world_with_rules_over_several_events_agrees(seed: int) -> None:
    assert run(seed, kind="history") > 0


# Failing worlds, made small by ``--shrink``: each is a defect that was found by a random one.
def test_the_least_integer_is_the_lowest_for_top_n() -> None:
    least = {"who": "p1", "at": BASE, "n": -(1 << 63), "x": 0.5, "_id": "e1", "kind": "view"}
    others = [least | {"n": n, "x": 3.0, "_id": f"e{n}", "at": BASE + n} for n in (2, 3)]
    rule = 'xEvent[eventType = "view"].topN(n, 2).x.sum() > 5'
    steps = [("define", {"s0": rule}, {}), ("submit", "hits", [least, *others], 1)]
    assert replay(0, "history", [*steps, ("check", [BASE])]) > 0


@pytest.mark.parametrize(
    "rule",
    [
        "1 in xEvent.cost.net",
        "xEvent.cost.net.intersects([1, 7])",
        "xEvent.cost.net.subsetOf([1])",
        "xEvent.groupBy(n).map((K, G) => mapEntry(K, G.sum(cost.net))).values().includes(1)",
    ],
)
def test_lists_of_decimals_hold_whole_numbers(rule: str) -> None:
    row = {"who": "p1", "at": BASE, "_id": "e1", "kind": "view", "n": 1}
    row["cost"] = {"net": 1}
    steps = [("define", {"s0": rule}, {}), ("submit", "hits", [row], 1), ("check", [BASE])]
    assert replay(0, "narrow", steps) > 0


def test_what_came_and_went_beside_other_rows_is_not_told_by_the_next_entry() -> None:
    ahead = {"who": "p1", "at": BASE + 2 * HOUR, "_id": "e1", "kind": "view"}
    rule = "xEvent[timestamp occurs <= 1 hour before now].count()"
    steps = [
        ("define", {"s0": f"{rule} > 0"}, {"c0": rule}),
        ("submit_early", [ahead], 0),
        # By now the event has come and gone; the profile's own row is no event of the stream.
        ("submit", "crm", [{"who": "p1", "at": BASE + 5 * HOUR}], 1),
        ("work", 1 << 20),
        ("advance", BASE + 6 * HOUR),
        ("check", [BASE + 6 * HOUR]),
    ]
    assert replay(0, "narrow", steps) > 0


def test_a_minimum_and_a_maximum_of_one_value_each_pass_over_what_is_missing() -> None:
    rows = [{"who": "p1", "at": BASE + n, "_id": f"e{n}", "kind": "view"} for n in range(3)]
    rows[0]["n"] = 2
    computed = {"c0": "xEvent.min(n)", "c1": "xEvent.max(n)", "c2": "xEvent.n.distinct().count()"}
    steps = [
        ("define", {"s0": "computed.c0 > 0", "s1": "computed.c1 > 5"}, computed),
        ("submit", "hits", rows, 1),
        ("check", [BASE + 3]),
    ]
    assert replay(0, "narrow", steps) > 0


def test_a_replay_tells_what_was_told_by_streams_that_a_checkpoint_put_together() -> None:
    kinds = ("view", "buy", "call")
    counts = {kind: f'xEvent[eventType = "{kind}"].count()' for kind in kinds}
    rules = {kind: f"{count} >= 1" for kind, count in counts.items()}

    def rows(who: str, hour: int) -> list[dict[str, object]]:
        at = BASE + hour * HOUR
        return [{"who": who, "at": at, "_id": who + kind, "kind": kind} for kind in kinds]

    steps = [
        ("define", {kind: rules[kind] for kind in kinds[:2]}, {}),
        ("define", rules, counts),  # the third stream came later than its like
        ("submit", "hits", rows("p1", 1), 1),
        ("reopen", True, True),  # now all three lie together
        ("submit", "hits", rows("p2", 2), 1),
        ("check", [BASE + 2 * HOUR]),
        ("reopen", False, False),
        ("check", [BASE + 2 * HOUR]),
    ]
    assert replay(0, "narrow", steps) > 0
