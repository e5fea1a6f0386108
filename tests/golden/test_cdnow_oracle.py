"""The brute-force oracle itself gets the table that the demo must print."""

from __future__ import annotations

import pytest

from tests.golden.cdnow_oracle import SEGMENTS, TABLE, at, oracle, purchases


def test_the_file_is_whole() -> None:
    rows = purchases()
    assert len(rows) == 6919
    assert len({customer for customer, *_ in rows}) == 2357
    assert rows[0] == ("00004", at("1997-01-01"), 2, 29.33)


@pytest.mark.parametrize("day", TABLE)
def test_segment_sizes(day: str) -> None:
    answer = oracle(at(day))
    sizes = tuple(len(answer.members[name]) for name in SEGMENTS)
    assert (answer.profiles, *sizes) == TABLE[day]


def test_one_customer_by_hand() -> None:
    """00004 bought on 1997-01-01, 01-18, 08-02 and 12-12."""
    answer = oracle(at("1998-01-01"))
    assert answer.computed["00004"] == {
        "lifetimeSpend": 100.5,
        "orders": 4,
        "lastPurchase": at("1997-12-12"),
        "spend30d": 26.48,
    }
    holds = {name for name in SEGMENTS if "00004" in answer.members[name]}
    assert holds == {"week-since"}
