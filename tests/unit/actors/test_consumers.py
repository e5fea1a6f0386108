"""Who reads the change feed, and how far behind he is."""

from __future__ import annotations

from profile_actors.actors.consumers import Consumer, Consumers, of_all


def test_a_consumer_is_as_far_as_what_it_was_given_last() -> None:
    known = Consumers(8)
    known.note("mailer", 4, 100)
    known.note("loader", 9, 200)
    known.note("mailer", 6, 300)
    assert known.all(10) == {"mailer": Consumer(3, 300), "loader": Consumer(0, 200)}
    known.note("mailer", 2, 400)  # it began again at an older cursor
    assert known.all(10)["mailer"] == Consumer(7, 400)


def test_readers_without_a_name_are_not_known() -> None:
    known = Consumers(8)
    known.note("", 4, 100)
    assert known.all(10) == {}


def test_who_has_not_asked_for_longest_is_forgotten_first() -> None:
    known = Consumers(3)
    for number, name in enumerate(["a", "b", "c", "a", "d", "e"]):
        known.note(name, number, number)
    assert list(known.all(6)) == ["e", "d", "a"]


def test_over_all_partitions_the_farthest_behind_comes_first() -> None:
    parts = [
        {"a": Consumer(1, 10), "b": Consumer(0, 30)},
        {"b": Consumer(5, 20), "a": Consumer(2, 40), "c": Consumer(3, 0)},
    ]
    found = of_all(parts)
    assert found == {"b": Consumer(5, 30), "a": Consumer(3, 40), "c": Consumer(3, 0)}
    assert list(found) == ["b", "a", "c"]
