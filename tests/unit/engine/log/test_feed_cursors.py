"""Cursors of the change feed: what they say, and of which log."""

from __future__ import annotations

import pytest

from profile_actors.engine.log.feed_cursors import FeedPlace, cursor_places, cursor_text


def test_a_cursor_says_of_each_partition_where_and_of_which_log() -> None:
    places = [FeedPlace(11, 3, 0), FeedPlace(39, 0, 7), FeedPlace()]
    text = cursor_text(places, "")
    assert text == "12.3-40.0.7-0.0"
    assert cursor_places(text, 3) == (places, "")
    assert cursor_places(cursor_text(places, "r1"), 3) == (places, "r1")


def test_who_has_read_nothing_of_a_partition_may_read_any_log_of_it() -> None:
    assert cursor_text([FeedPlace(-1, 0, 7)], "") == "0.0.7"
    assert cursor_places("0.0.7", 1)[0] == [FeedPlace(-1, 0, None)]
    assert cursor_places("0.2", 1)[0] == [FeedPlace(-1, 2, 0)]


def test_cursors_of_earlier_releases_are_of_logs_that_no_erasure_had_changed() -> None:
    assert cursor_places("1.0-3.1", 2)[0] == [FeedPlace(0, 0, 0), FeedPlace(2, 1, 0)]


@pytest.mark.parametrize(
    "text", ["", "1", "1.0-2.0", "a.b", "1.-1", "1.0.0.0", f"{1 << 64}.0", "@"]
)
def test_other_texts_are_none(text: str) -> None:
    with pytest.raises((TypeError, ValueError)):
        cursor_places(text, 1)
