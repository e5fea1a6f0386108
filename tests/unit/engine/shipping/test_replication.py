"""The catalogue's record of copies, where an erasure meets it."""

from __future__ import annotations

import pytest

from profile_actors.engine.shipping import replication
from profile_actors.engine.shipping.replication import Copies, Refused

ALONE = Copies(primary="a", epoch=1)


def test_a_standby_that_comes_after_an_erasure_begins_with_nothing() -> None:
    erased = replication.renewed(ALONE, "")
    again = replication.placed(erased, "b", "b1")
    assert again.is_anew, "what the disk has of before still has who was erased"
    assert not replication.begun(again, "b1").is_anew


def test_a_standby_that_has_what_was_erased_is_not_promoted() -> None:
    erased = replication.renewed(replication.placed(ALONE, "b", "b0"), "b1")
    with pytest.raises(Refused, match="has not begun"):
        replication.promised(erased, 2, accept_loss=True)
