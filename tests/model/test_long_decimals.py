"""Decimals beyond 64 bits of their units are exact (RULES section 3): sums, products, extremes."""

from __future__ import annotations

import random
from decimal import Decimal

import msgspec
import pytest

from profile_actors.definitions.catalogue_changes import extended
from profile_actors.definitions.declared import ComputedAttribute, Field, Schema, SegmentDefinition
from profile_actors.rules.language.checker import check
from profile_actors.rules.language.parser import parse
from profile_actors.rules.language.types import union_scope
from profile_actors.rules.tree.kinds import greatest_units
from profile_actors.rules.tree.nodes import Each
from profile_actors.rules.tree.plan import AggregateLeaf
from profile_actors.rules.tree.walks import walk
from tests.model.hub import BASE, CATALOGUE, DAY, Hub

DAY_RULE = "xEvent[timestamp occurs <= 1 day before now]"
VALUES = {
    "product": "xEvent.sum(amount * rate)",
    "fine": "xEvent.sum(fine)",
    "day": f"{DAY_RULE}.sum(fine)",
    "most": "xEvent.max(amount * rate)",
    "least": f"{DAY_RULE}.min(fine - amount)",
    "mean": "xEvent.average(fine)",
    "price": "xEvent.sum(amount * n)",
    "price of a day": f"{DAY_RULE}.sum(amount * n)",
    "mean price": f"{DAY_RULE}.average(amount * n)",
    "chosen": "xEvent.sum(if(amount > 1, amount * rate, -amount))",
    "rest": "xEvent.sum(amount * 3 % rate)",
    "cube": "xEvent.sum(amount * rate * fine)",
    "short": f"{DAY_RULE}.max(if(amount < 0, -amount, amount + amount))",
    "lowest": "xEvent.min(amount * 2 - amount)",
    "list": "xEvent.map(amount * rate)",
    "twice": "xEvent.sum(fine) + xEvent.sum(fine)",
    "different": "xEvent.map(amount + rate).distinct().count()",
    "highest": "xEvent.topN(amount * rate, 2).map(amount * rate)",
    "lowest of a day": f"{DAY_RULE}.bottomN(amount + fine, 1).map(fine - amount).head()",
    "both": "xEvent.map(amount * rate).intersection(xEvent.map(rate * amount)).count()",
    "known": "xEvent[(amount * fine) in [1.5, amount * fine]].count()",
    "is most": "xEvent.max(amount + fine) in xEvent.map(amount + fine)",
}


def store(scales: tuple[int, int, int] = (2, 9, 15)) -> Hub:
    """Fields of 18 digits, with so many of them behind the point."""
    amount, rate, fine = scales
    fields: dict[str, str | Field] = {
        "amount": f"decimal({amount})",
        "rate": f"decimal({rate})",
        "fine": f"decimal({fine})",
        "n": "integer",
    }
    catalogue = msgspec.structs.replace(
        CATALOGUE,
        schemas={**CATALOGUE.schemas, "hit": Schema("hit", "event", fields)},
        segments={},
        computed={},
    )
    rules = [ComputedAttribute(name, rule) for name, rule in VALUES.items()]
    return Hub(
        1, extended(catalogue, [*rules, SegmentDefinition("rich", "xEvent.sum(fine) > 9500")])
    )


def test_a_sum_beyond_64_bits_of_its_units() -> None:
    hub = store()
    rows = [
        {
            "who": "a", "at": BASE, "_id": str(i), "amount": "100000000.00",
            "rate": "1.000000001", "fine": "999.5",
        }
        for i in range(12)
    ]  # fmt: skip
    hub.submit([("hits", "p", rows)], BASE)
    inside, computed, _, _ = hub.pure(["a"])["a"]
    assert "rich" in inside
    assert computed["product"][0] == repr(Decimal("1200000001.20000000000"))
    assert computed["fine"][0] == repr(Decimal("11994.000000000000000"))
    assert hub.partitions[0].verify() == []


@pytest.mark.parametrize("seed", range(6))
def test_what_the_store_says_of_long_decimals_is_what_the_reference_says(seed: int) -> None:
    rng = random.Random(seed)
    drawn = rng.randrange(16), rng.randrange(16), rng.randrange(16)
    scales = drawn if seed >= 2 else (2, 9, 15)
    hub = store(scales)
    for number in range(5):
        at = BASE + number * DAY // 3
        rows = [
            {
                "who": rng.choice("ab"), "at": at, "_id": f"{number}-{i}",
                "amount": _long(rng, scales[0]), "rate": _long(rng, scales[1]),
                "fine": _long(rng, scales[2]),
                "n": rng.choice((None, 0, 1, -3, 2**63 - 1, -(2**63))),
            }
            for i in range(4)
        ]  # fmt: skip
        hub.submit([("hits", "p", rows)], at)
        while hub.partitions[0].work(1000):
            pass
        assert hub.partitions[0].verify() == []
        if number == 2:
            job = hub.partitions[0].checkpoint_job(force=True)
            assert job is not None
            job()
            hub.reopen()
    hub.partitions[0].advance(BASE + 9 * DAY)
    assert hub.partitions[0].verify() == []


def test_what_is_computed_of_decimals_is_folded_where_its_digits_are_bounded() -> None:
    plan = store().partitions[0].state.book.plan
    folded = {
        rule.name
        for rule in plan.rules
        if any(isinstance(node, AggregateLeaf) for node in walk(rule.root))
    }
    # Kept: one may be of more bits than a sum's; an extreme is one word, a list is none at all.
    kept = {"different", "highest", "lowest of a day", "both", "is most"}
    assert VALUES.keys() - folded == {"cube", "most", "least", "list", *kept}
    assert not plan.rescans


@pytest.mark.parametrize(
    ("rule", "units"),
    [
        ("amount * n", (10**18 - 1) << 63),
        ("amount + 1", 10**18 - 1 + 100),
        ("amount - rate", (10**18 - 1) * (10**7 + 1)),
        ("-(amount * 1.25)", (10**18 - 1) * 125),
        ("if(n > 1, amount, rate)", (10**18 - 1) * 10**7),
        ("amount % rate", (10**18 - 1) * 10**7),
        ("amount * rate * fine", (10**18 - 1) ** 3),
    ],
)
def test_the_bound_of_an_expression_is_what_its_fields_can_make_of_it(
    rule: str, units: int
) -> None:
    fields: dict[str, str | Field] = {"amount": "decimal(2)", "rate": "decimal(9)"}
    fields |= {"fine": "decimal(15)", "n": "integer"}
    scope = union_scope([Schema("hit", "event", fields)])
    tree = check(parse(f"xEvent.sum({rule})"), scope)
    assert isinstance(tree, Each)
    assert greatest_units(tree.body) == units


def _long(rng: random.Random, scale: int) -> str:
    digits = rng.choice((1, 9, 18, 18))
    units = rng.choice((1, -1)) * rng.randint(10 ** (digits - 1), 10**digits - 1)
    return format(Decimal(units).scaleb(-scale), "f")
