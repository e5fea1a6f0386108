"""Who a person's profile lists, as members are shown a few at a time."""

from __future__ import annotations

import random

import pytest

from profile_actors.engine.identity.books import Book, in_order
from profile_actors.engine.identity.messages import Named


@pytest.mark.parametrize("seed", range(20))
def test_identities_stay_in_order_as_some_come_again_and_again(seed: int) -> None:
    chance = random.Random(seed)
    spaces = ("CRMID", "Email", "ECID")
    ones = [Named(n, n, chance.choice(spaces), f"v{chance.randrange(9)}-{n}") for n in range(30)]
    book = Book(ones[0], 7)
    waiting: list[Named] = []
    for one in ones[: chance.randint(1, 30)]:
        book.place(one, 7 if one == ones[0] else chance.choice((7, 8)))
        waiting.append(one)
    while waiting:
        come = [waiting.pop(chance.randrange(len(waiting))) for _ in range(chance.randint(1, 4))
                if waiting]  # fmt: skip
        if chance.random() < 0.2:
            come.append(chance.choice(come))  # told twice, or shown already
        for one in come:
            book.untold.discard(one.key)
        book.identities = in_order(book, come)
        shown = {one for one in ones if one.key in book.members and one.key not in book.untold}
        further = sorted(shown - {ones[0]}, key=lambda one: (one.namespace, one.value))
        assert list(book.identities) == [ones[0], *further]
