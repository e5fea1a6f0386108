"""Numbers without gaps, each taken once, each found until it is acknowledged."""

from __future__ import annotations

import pytest

from profile_actors.engine.identity.mailbox import Mailbox
from profile_actors.errors import Halt


def test_only_the_next_message_is_taken() -> None:
    box = Mailbox()
    assert [box.take("1", n) for n in (2, 1, 1, 3, 2)] == ["gap", "next", "repeat", "gap", "next"]
    assert box.take("L", 1) == "next"
    assert (box.cursor("1"), box.cursor("L"), box.cursor("7")) == (2, 1, 0)


def test_what_is_sent_is_found_until_it_is_acknowledged() -> None:
    box = Mailbox()
    assert [box.sent("L", at) for at in (4, 6, 9)] == [1, 2, 3]
    assert box.sent("1", 6) == 1
    assert box.heads() == {"L": 3, "1": 1}
    assert [box.position_of("L", n) for n in (1, 2, 3)] == [4, 6, 9]
    assert (box.number_at("L", 5), box.number_at("L", 6), box.number_at("L", 3)) == (1, 2, 0)
    box.acknowledge("L", 2)
    box.acknowledge("L", 1)  # an answer that came late
    assert (box.acknowledged("L"), box.unacknowledged("L")) == (2, 1)
    assert box.position_of("L", 3) == 9
    assert box.oldest_position() == 6
    for number in (2, 4):
        with pytest.raises(KeyError):
            box.position_of("L", number)
    assert (box.number_at("L", 1), box.number_at("L", 9)) == (2, 3)
    assert not box.is_quiet()
    box.acknowledge("L", 3)
    box.acknowledge("1", 1)
    assert box.is_quiet()
    assert box.oldest_position() is None
    with pytest.raises(Halt, match="up to 3"):
        box.acknowledge("L", 4)


def test_its_form_for_a_checkpoint_says_all() -> None:
    box = Mailbox()
    box.take("0", 1)
    for at in (1, 2, 5):
        box.sent("L", at)
    box.acknowledge("L", 1)
    again = Mailbox.of_plain(box.to_plain())
    assert again.to_plain() == box.to_plain()
    assert (again.position_of("L", 3), again.take("0", 2), again.sent("L", 8)) == (5, "next", 4)
    assert box.heads() == {"L": 3}  # they share nothing
