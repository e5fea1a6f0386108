"""Answers that a call waits behind, and others that it hands on."""

from __future__ import annotations

import pytest
from ray.exceptions import RayTaskError

from profile_actors.actors.calls import LeaseEnded, Lost, Patience, Remote, Session
from profile_actors.errors import StoreUnavailable


def answer_of(error: Exception) -> Exception:
    """Ray's form of what an actor raised."""
    return RayTaskError("read", "", error)  # type: ignore[no-untyped-call]


def test_a_read_whose_lease_ran_out_is_asked_again() -> None:
    remote, patience = Remote(None, "partition-0", 1.0, Session("data")), Patience(1.0)
    with pytest.raises(Lost):
        remote.finish(answer_of(LeaseEnded("its standby may be in force")), patience)
    assert patience.reason == "its standby may be in force"
    with pytest.raises(StoreUnavailable, match="of another kind"):
        remote.finish(answer_of(StoreUnavailable("of another kind")), patience)
