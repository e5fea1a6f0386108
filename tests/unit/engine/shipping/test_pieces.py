"""What is to be copied of a log, for every state of a receiver that comes of copying it."""

from __future__ import annotations

import random

from profile_actors.engine.shipping.pieces import Listed, Piece, Stored, needs


def listed(bounds: list[int], head: int, names: dict[int, str]) -> list[Listed]:
    """Segments that begin at the bounds; the last is written still."""
    ends = [*bounds[1:], head]
    return [
        Listed(names.get(first, f"s{first}"), first, end, end is not head)
        for first, end in zip(bounds, ends, strict=True)
    ]


def test_what_is_held_and_what_is_wanted_are_all_positions_once() -> None:
    """A log that grows, is sealed, is rewritten now and then; a receiver that asks at any end."""
    rng = random.Random(3)
    forms = set()
    for _ in range(200):
        bounds, head, held = [0], 0, list[Piece]()
        names: dict[int, str] = {}
        for _ in range(12):
            head += rng.randrange(4)
            if rng.random() < 0.4 and head > bounds[-1]:
                bounds.append(head)
            if rng.random() < 0.1:
                first = rng.choice(bounds)
                names[first] = names.get(first, f"s{first}") + "-1"
            end = rng.randint(max(0, head - 2), head)
            now = listed(bounds, head, names)
            found = needs(now, end, held)
            fresh = [Piece(*wanted, Stored("x", 1)) for wanted in found.wanted]
            assert all(piece in held for piece in found.kept)
            every = sorted([*found.kept, *fresh], key=lambda piece: piece.first)
            positions = [p for piece in every for p in range(piece.first, piece.end)]
            assert positions == list(range(end))
            by_name = {one.name: one for one in now}
            for piece in every:
                one = by_name[piece.segment]
                assert one.first <= piece.first < piece.end <= one.end
                if piece.form == "file":
                    assert (piece.first, piece.end, True) == (one.first, one.end, one.is_sealed)
            assert needs(now, end, every).wanted == [], "nothing is wanted twice"
            forms |= {piece.form for piece in fresh}
            held = every
    assert forms == {"file", "entries"}


def test_a_segment_of_which_entries_were_copied_goes_on_as_entries() -> None:
    first = needs([Listed("s0", 0, 5, False)], 5, [])
    assert [tuple(one) for one in first.wanted] == [("entries", "s0", 0, 5)]
    held = [Piece(*one, Stored("x", 1)) for one in first.wanted]
    now = [Listed("s0", 0, 9, True), Listed("s9", 9, 20, True), Listed("s20", 20, 20, False)]
    assert [tuple(one) for one in needs(now, 20, held).wanted] == [
        ("entries", "s0", 5, 9),
        ("file", "s9", 9, 20),
    ]
    assert [tuple(one) for one in needs(now, 12, held).wanted][1] == ("entries", "s9", 9, 12)
    again = [Listed("s0-1", 0, 9, True), *now[1:]]
    assert needs(again, 9, held).kept == [], "rewritten: another content"
