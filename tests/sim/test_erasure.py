"""A person is taken out of a simulated store: it is as if her rows had never come, to the byte."""

from __future__ import annotations

import os
import random
from typing import Any

import pytest
import xxhash

from profile_actors.engine.erasure.eraser import Eraser
from profile_actors.engine.identity.messages import Named
from profile_actors.engine.log.in_memory import MemoryCheckpoints, MemoryFeed
from tests.model.copies import MemoryRows
from tests.sim.faulty_log import FaultyDisk
from tests.sim.world import (
    WHO,
    Identity,
    Scenario,
    World,
    check,
    drawn,
    expected,
    identities_of,
    named,
)

FIRST = int(os.environ.get("SIM_SEED", "0"))
COUNT = int(os.environ.get("SIM_N", "3"))


def without(steps: list[tuple[str, Any]], gone: frozenset[Identity]) -> list[tuple[str, Any]]:
    """What happened, as if those identities had never been named; no row that was hers."""
    left: list[tuple[str, Any]] = []
    for kind, what in steps:
        if kind == "cut":
            if not gone & {what[0], what[1]}:
                left.append((kind, what))
            continue
        dataset, row = what
        # Columns are declared in the order of their priorities: the first is the primary.
        if identities_of(row)[0] not in gone:
            kept = {c: v for c, v in row.items() if c not in WHO or (WHO[c], v) not in gone}
            left.append((kind, (dataset, kept)))
    return left


def in_full(one: Identity) -> Identity:
    """A value that no bytes are by chance."""
    return one[0], f"value-of-{one[1]}"


def long_names(steps: list[tuple[str, Any]]) -> list[tuple[str, Any]]:
    out: list[tuple[str, Any]] = []
    for kind, what in steps:
        if kind == "cut":
            one, other, at = what
            out.append((kind, (in_full(one), other and in_full(other), at)))
        else:
            dataset, row = what
            named_in = {c: in_full((WHO[c], v))[1] for c, v in row.items() if c in WHO}
            out.append((kind, (dataset, {**row, **named_in})))
    return out


def take_out(disk: FaultyDisk, ones: list[Named]) -> tuple[int, bool]:
    """Rows that were taken out, and whether the log is another one now."""
    eraser, is_new = Eraser(ones), False
    for position, (_, value) in enumerate(disk.entries):
        parts = eraser.erased(bytes(value), f"position {position}")
        if parts is not None:
            fresh = bytearray(b"".join(bytes(part) for part in parts))
            disk.entries[position] = (xxhash.xxh3_64_intdigest(bytes(fresh)), fresh)
            is_new = True
    return eraser.rows, is_new


def erase(world: World, gone: frozenset[Identity]) -> int:
    """All logs without a person, and everything else made anew from them. Who reads the changes of
    a log that is another one begins anew; of the others goes on, as cursors do."""
    ones = [named(one) for one in gone]
    taken = [take_out(disk, ones) for disk in [*world.disks, world.ledger_disk]]
    world.derived = [(MemoryFeed(), MemoryCheckpoints()) for _ in range(world.count)]
    world.ledger_kept = MemoryCheckpoints()
    world.net, world.edge, world.shown = [], MemoryRows(), {}
    for index, (_, is_new) in enumerate(taken[:-1]):
        if is_new:
            world.told[index].clear()
            world.fed[index] = -1
    world.partitions = [world.opened(index) for index in range(world.count)]
    world.ledger = world.opened_ledger()
    world.ledger.commit([], None)  # as its actor does at each opening: who is together without her
    world.scenario.steps[:] = without(world.scenario.steps, gone)
    return sum(rows for rows, _ in taken)


def marks_of(gone: frozenset[Identity]) -> list[bytes]:
    keys = [half for one in gone for half in named(one).key]
    forms = [key.to_bytes(8, order) for key in keys for order in ("little", "big")]
    return [value.encode() for _, value in gone] + forms


def found(world: World, gone: frozenset[Identity]) -> list[bytes]:
    values = [bytes(v) for disk in [*world.disks, world.ledger_disk] for _, v in disk.entries]
    return [mark for mark in marks_of(gone) if any(mark in value for value in values)]


@pytest.mark.parametrize("seed", range(FIRST, FIRST + COUNT))
def test_an_erased_person_leaves_no_byte_and_the_others_as_they_are(seed: int) -> None:
    rng = random.Random(seed * 31 + 7)
    scenario = drawn(seed)
    scenario = Scenario(long_names(scenario.steps), scenario.catalogue, scenario.horizon)
    world = World(scenario, seed % 5 + 1, random.Random(seed), rng.choice((0.0, 1.0)))
    # At rest, or with messages on their way.
    world.run(until=rng.choice((world.is_quiet, world.is_sent)))
    for _ in range(2):
        world.faults = 0
        truth = world.truth()
        if not truth:
            return
        gone = truth[rng.choice(sorted(truth))]
        assert found(world, gone), "the marks are those of what was stored"
        erase(world, gone)
        assert found(world, gone) == []
        if not world.scenario.rows:
            return
        world.run()
        now = world.settle_clocks()
        answers = world.answers()
        check(answers, expected(world, now))
        world.check_previews()
        for partition in world.partitions:
            assert partition.verify() == []
        assert world.ledger.verify() == []
        assert all(world.profile(one)[0] is None for one in gone)


# 18: others who had a book before hers, and rows since; 46: one of whom nothing else is told.
@pytest.mark.parametrize("seed", [18, 46, *range(FIRST, FIRST + COUNT)])
def test_a_part_of_a_person_is_erased_and_the_rest_is_who_the_links_left_say(
    seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As in what is restored from a backup that is older than a link's withdrawal, or where rows
    come while an erasure begins."""
    rng = random.Random(seed * 31 + 7)
    scenario = drawn(seed)
    scenario = Scenario(long_names(scenario.steps), scenario.catalogue, scenario.horizon)
    world = World(scenario, seed % 5 + 1, random.Random(seed), 0.0)
    world.run(until=rng.choice((world.is_quiet, world.is_sent)))
    truth = world.truth()
    many = [one for one in sorted(truth) if len(truth[one]) > 1]
    if not many:
        return
    block = sorted(truth[rng.choice(many)])
    gone = frozenset(rng.sample(block, rng.randint(1, len(block) - 1)))
    monkeypatch.setattr(world, "look", lambda row: None)  # whoever parts was shown together
    erase(world, gone)
    assert found(world, gone) == []
    if not world.scenario.rows:
        return
    world.run()
    now = world.settle_clocks()
    check(world.answers(), expected(world, now))
    world.check_previews()
    for partition in world.partitions:
        assert partition.verify() == []
    assert world.ledger.verify() == []


def test_rows_on_the_way_to_a_book_of_hers_stay_where_they_are() -> None:
    """Who is not known to be hers, as after leaving her, may have rows on the way to a book that
    nobody has any more: they follow into the next one."""
    scenario = drawn(13)
    scenario = Scenario(long_names(scenario.steps), scenario.catalogue, scenario.horizon)
    world = World(scenario, 3, random.Random(13), 0.0)
    world.run(until=world.is_sent)
    her = ("CRMID", "value-of-c0")
    gone = frozenset([her])
    assert len(world.truth()[her]) > 1
    erase(world, gone)
    assert found(world, gone) == []
    world.run()
    now = world.settle_clocks()
    check(world.answers(), expected(world, now))
