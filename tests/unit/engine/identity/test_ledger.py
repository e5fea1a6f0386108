"""By hand: what the ledger answers and tells, step by step."""

from __future__ import annotations

import random
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import msgspec
import numpy as np
import pytest

from profile_actors.definitions.declared import LINKING, Catalogue, LinkingRules, Namespace
from profile_actors.engine.identity.ledger import Ledger
from profile_actors.engine.identity.messages import (
    CUT,
    HOME,
    LINK,
    PUBLISHED,
    SETTLED,
    Message,
    Named,
    Op,
)
from profile_actors.engine.log.in_memory import MemoryCheckpoints, MemoryLog
from profile_actors.engine.trials import linking_trials
from profile_actors.engine.trials.linking_trials import try_linking
from profile_actors.errors import CorruptLog, Halt, StorageFull

ANN = Named(0, 1, "CRMID", "ann")  # partition 0
BOB = Named(1 << 52, 2, "CRMID", "bob")  # partition 1
TABLET = Named(1 << 52, 3, "ECID", "tablet")  # partition 1
NULL = Named(0, 4, "ECID", "null")


def definitions(version: int = 1) -> Catalogue:
    spaces = (Namespace("CRMID", "cross_device", True, 1), Namespace("ECID", "cookie", False, 2))
    return Catalogue(version, {space.code: space for space in spaces})


def opened(log: MemoryLog | None = None) -> Ledger:
    assignment = np.arange(4096, dtype=np.int32) % 2
    return Ledger(log or MemoryLog(), assignment)


def message(number: int, *ops: Op, source: str = "1", catalogue: int = 1) -> Message:
    return Message(source, number, 1_000 * number, catalogue, ops)


def test_a_tablet_that_changes_hands_and_is_cut_off() -> None:
    ledger = opened()
    ledger.commit([], 5, definitions())
    ledger.commit([message(1, Op(LINK, ANN, TABLET, version=10))])
    told = Op(HOME, ANN, ANN, 1, 1), Op(HOME, TABLET, ANN, 1, 1)
    assert ledger.outgoing("0", 0, 9) == [Message("L", 1, 1_000, 0, told)]
    assert [m.ops for m in ledger.outgoing("1", 0, 9)] == [told[1:]]  # it owns the tablet alone
    # It is Bob's now: Ann begins a book of one, since a book only grows.
    ledger.commit([message(2, Op(LINK, BOB, TABLET, version=20))])
    assert [m.ops for m in ledger.outgoing("0", 1, 9)] == [(Op(HOME, ANN, ANN, 2, 2),)]
    bobs = Op(HOME, BOB, BOB, 2, 2), Op(HOME, TABLET, BOB, 2, 2)
    assert [m.ops for m in ledger.outgoing("1", 1, 9)] == [bobs]
    shown = [Op(PUBLISHED, op.one, op.other, op.number, op.version) for op in bobs]
    # A publication of the book of before settles nothing.
    ledger.commit([message(3, Op(PUBLISHED, TABLET, ANN, 1, 1), *shown)])
    assert [m.ops for m in ledger.outgoing("1", 2, 9)] == [(Op(SETTLED, number=2),)]
    assert ledger.status().pending == 1  # the first link names Ann, who is not shown yet
    ledger.commit([message(4, Op(CUT, TABLET, version=20))])
    members, links = ledger.identity_graph(TABLET)
    assert members == [TABLET]
    verdicts = [(one, judged.time, judged.verdict) for one, _, judged in links]
    assert verdicts == [(BOB, 20, "withdrawn"), (ANN, 10, "withdrawn")]
    assert opened(ledger.log).identity_graph(TABLET) == (members, links)  # type: ignore[arg-type]


def test_who_was_alone_comes_into_a_book_and_two_who_were_one_begin_another() -> None:
    ledger = opened()
    phone, laptop = Named(0, 5, "ECID", "phone"), Named(0, 6, "ECID", "laptop")
    ledger.commit([], 5, definitions())
    ledger.commit([message(1, Op(LINK, ANN, TABLET, version=10))])
    assert [op.number for op in ledger.outgoing("0", 0, 9)[-1].ops] == [1, 1]
    # The phone was nobody's: Ann's book goes on, and only the phone is told of.
    ledger.commit([message(2, Op(LINK, ANN, phone, version=20))])
    assert ledger.outgoing("0", 1, 9)[-1].ops == (Op(HOME, phone, ANN, 1, 2),)
    # Two devices that were one person come together, or the first would show without the other.
    one, other = Named(0, 7, "ECID", "one"), Named(0, 8, "ECID", "other")
    ledger.commit([message(3, Op(LINK, one, other, version=30))])
    ledger.commit([message(4, Op(LINK, ANN, one, version=40))])
    told = ledger.outgoing("0", 3, 9)[-1].ops
    assert {op.one for op in told} == {ANN, TABLET, phone, one, other}
    assert {(op.other, op.number, op.version) for op in told} == {(ANN, 4, 4)}
    # Two who were alone come at once, each by itself.
    ledger.commit([
        message(5, Op(LINK, ANN, laptop, version=50), Op(LINK, ANN, NULL, version=50)),
    ])  # fmt: skip
    assert ledger.outgoing("0", 4, 9)[-1].ops == (Op(HOME, laptop, ANN, 4, 5),)


def test_evidence_under_definitions_that_are_not_here_yet_waits() -> None:
    ledger = opened()
    early = message(1, Op(LINK, ANN, TABLET, version=1), catalogue=2)
    ledger.commit([early, message(2, Op(LINK, BOB, TABLET, version=2))], 5, definitions())
    assert (ledger.mailbox.cursor("1"), ledger.version, ledger.position) == (0, 1, 1)
    ledger.commit([early], 5, definitions(2))
    assert (ledger.mailbox.cursor("1"), ledger.version) == (1, 2)


def test_a_placeholder_and_a_rule_are_counted_and_link_nobody() -> None:
    ledger = opened()
    ops = [Op(LINK, ANN, NULL, version=1), Op(LINK, BOB, NULL, version=2)]
    ops += [Op(LINK, ANN, TABLET, version=3), Op(LINK, BOB, TABLET, version=4)]
    ledger.commit([message(1, *ops)], None, definitions())
    status = ledger.status()
    assert (status.links, status.identities, status.people) == (4, 4, 1)
    assert status.skipped == {"CRMID": 1}
    assert (status.unpublished, status.pending, status.now) == (1, 1, 1_000)
    assert ledger.identity_graph(NULL)[0] == [NULL]
    assert ledger.identity_graph(Named(0, 9, "ECID", "nobody")) == (
        [Named(0, 9, "ECID", "nobody")],
        [],
    )


def test_changed_rules_are_judged_over_all_evidence_and_told() -> None:
    ledger = opened()
    ops = [Op(LINK, ANN, TABLET, version=1), Op(LINK, BOB, TABLET, version=2)]
    ledger.commit([message(1, *ops)], None, definitions())
    assert ledger.identity_graph(ANN)[0] == [ANN]
    one = msgspec.structs.replace(
        definitions(2), linking_rules={"linking": LinkingRules(placeholders=("bob",))}
    )
    ledger.commit([], None, one)  # Bob's value names nobody now: the tablet is Ann's
    assert ledger.identity_graph(ANN)[0] == [ANN, TABLET]
    assert ledger.status().skipped == {}
    ledger.commit([], None, definitions(3))
    again = opened(ledger.log)  # type: ignore[arg-type]
    for each in (ledger, again):
        assert each.identity_graph(BOB)[0] == [BOB, TABLET]
        assert each.status().skipped == {"CRMID": 1}
    position = ledger.position
    ledger.commit([], None, definitions(4))
    assert (ledger.position, ledger.version) == (position, 4)


def test_verify_finds_a_graph_or_books_that_are_not_the_logs() -> None:
    ledger = opened()
    ledger.commit([message(1, Op(LINK, ANN, TABLET, version=10))], None, definitions())
    ledger.commit([message(2, Op(LINK, BOB, TABLET, version=20))])
    assert ledger.verify() == []
    ledger.people.book_of[TABLET] = ledger.people.book_of[ANN]
    assert len(ledger.verify()) == 1
    ledger = opened(ledger.log)  # type: ignore[arg-type]
    ledger.people.graph._groups.clear()
    assert len(ledger.verify()) == 2


def test_a_ledger_that_failed_to_write_must_be_opened_again() -> None:
    class Full(MemoryLog):
        def append_at(self, *_: object) -> None:
            raise Halt("no room")

    ledger = opened(Full())
    for _ in range(2):
        with pytest.raises(Halt, match=r"no room|open it again"):
            ledger.commit([], 5, definitions())
    assert ledger.position == 0


def test_a_dry_run_is_as_of_its_beginning_while_the_ledger_goes_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(linking_trials, "FACTS_PER_STEP", 1)
    ledger = opened()
    ledger.commit([], 5, definitions())
    devices = [Named(0, 10 + n, "ECID", f"d{n}") for n in range(6)]
    ledger.commit([message(1, *(Op(LINK, ANN, one, version=10) for one in devices))])
    tried = msgspec.structs.replace(
        definitions(2), linking_rules={LINKING: LinkingRules(max_size=3)}
    )
    seen: list[tuple[int, int] | None] = []

    def go_on() -> None:
        """Links that come in another thread, as they do: nothing is held."""
        seen.append(ledger.status().tried)
        if len(seen) == 2:
            op = Op(LINK, BOB, TABLET, version=20)
            with ThreadPoolExecutor(1) as other:
                other.submit(ledger.commit, [message(2, op)]).result(60)

    found = try_linking(ledger, tried, 100, go_on)
    assert seen == [(n + 1, 6) for n in range(6)]
    assert (found.split, found.joined) == (1, 0)
    assert found.before == [[ANN, *devices]]
    assert sorted(map(len, found.after)) == [1, 1, 1, 1, 3]
    assert ledger.status().tried is None
    assert ledger.status().people == 2  # Bob's link was taken meanwhile
    assert try_linking(ledger, tried, 100, go_on).split == 1
    few = try_linking(ledger, definitions(2), 100, go_on)
    assert (few.split, few.before, few.after) == (0, [], [])


def test_a_dry_run_counts_all_and_names_whole_regions_up_to_a_limit() -> None:
    ledger = opened()
    ledger.commit([], 5, definitions())
    pairs = [(Named(0, 10 + n, "CRMID", f"c{n}"), Named(0, 90 + n, "ECID", "x")) for n in range(5)]
    ledger.commit([message(1, *(Op(LINK, *pair, version=10) for pair in pairs))])
    nobody = LinkingRules(placeholders=("x",))
    tried = msgspec.structs.replace(definitions(2), linking_rules={LINKING: nobody})
    found = try_linking(ledger, tried, 7, lambda: None)
    assert (found.split, len(found.before), len(found.after)) == (5, 2, 4)
    assert sorted(one for person in found.before for one in person) == sorted(
        one for person in found.after for one in person
    )


def state_of(ledger: Ledger) -> list[Any]:
    """All that it knows, in one order."""
    people, graph = ledger.people, ledger.people.graph
    counts = {beside: n for beside, n in graph._people.items() if n}
    return [
        ledger.position, ledger.now, ledger.version, ledger.mailbox.to_plain(),
        people.catalogue, people._member_of, people._void, people._parted, people.unpublished,
        {one: (b.low, b.number, b.members) for one, b in people.book_of.items()},
        {name: (told.ones, told.parted) for name, told in people.told.items()},
        graph.people, graph._newest, graph._cuts, graph._skipped, graph._void,
        {one: pairs for one, pairs in graph._pairs.items() if pairs},
        {one: of for one, of in counts.items() if of},
        {one: (set(graph.of(one)), graph.canonical(one)) for one in people._named_of},
        {one: group.taken for one, group in graph._groups.items() if len(group) > 1},
    ]  # fmt: skip


@pytest.mark.parametrize("seed", range(8))
def test_a_ledger_from_a_checkpoint_is_the_one_from_the_whole_log(seed: int) -> None:
    """After links, cuts, placeholders, changed rules and publications, in any order; and it goes on
    alike."""
    rng, log, kept = random.Random(seed), MemoryLog(), MemoryCheckpoints()
    assignment = np.arange(4096, dtype=np.int32) % 2
    ones = [Named(rng.getrandbits(64), n, "CRMID", f"c{n}") for n in range(3)]
    ones += [Named(rng.getrandbits(64), n, "ECID", f"d{n}") for n in range(3, 8)]
    ones += [Named(rng.getrandbits(64), n, "Card", f"k{n}") for n in range(9, 12)]
    ones.append(Named(rng.getrandbits(64), 12, "ECID", "null"))
    card = Namespace("Card", "cross_device", True, 3)

    def defined(version: int) -> Catalogue:
        known = definitions(version)
        return msgspec.structs.replace(known, namespaces={**known.namespaces, "Card": card})

    ledger = Ledger(log, assignment, checkpoints=kept)
    rules, version = [LinkingRules(max_people=1), LinkingRules(max_size=3), LinkingRules()], 1
    ledger.commit([], 5, defined(1))
    for number in range(1, 40):
        pairs = [sorted(rng.sample(ones, 2)) for _ in range(2)]
        ops = [Op(LINK, one, other, version=rng.randrange(50)) for one, other in pairs]
        if rng.random() < 0.2:
            target = rng.choice([None, *ones[1:]])
            ops.append(Op(CUT, ones[0], target, version=30))
        for one in sorted(ledger.people.unpublished):
            if rng.random() < 0.4:
                book = ledger.people.book_of[one]
                ops.append(Op(PUBLISHED, one, book.low, book.number, book.members[one]))
        catalogue = None
        if rng.random() < 0.1:
            version += 1
            linking = {LINKING: rules[version % 3]}
            catalogue = msgspec.structs.replace(defined(version), linking_rules=linking)
        ledger.commit([message(number, *ops)], None, catalogue)
        if rng.random() < 0.2:
            ledger.checkpoint()
        if rng.random() < 0.3:  # opened again, and what its first entry tells
            replayed = Ledger(log, assignment)
            ledger = Ledger(log, assignment, checkpoints=kept)
            assert state_of(ledger) == state_of(replayed)
    ledger.checkpoint()
    position, _, _ = kept.saved[-1]
    assert position == ledger.position
    last = Ledger(log, assignment, checkpoints=kept)
    assert state_of(last) == state_of(Ledger(log, assignment))
    assert last.verify() == []


def test_a_checkpoint_that_this_release_does_not_know_is_passed_over() -> None:
    log, kept = MemoryLog(), MemoryCheckpoints()
    assignment = np.arange(4096, dtype=np.int32) % 2
    ledger = Ledger(log, assignment, checkpoints=kept)
    ledger.commit([], 5, definitions())
    ledger.commit([message(1, Op(LINK, ANN, TABLET, version=10))])
    ledger.checkpoint()
    saved = kept.saved
    ledger.checkpoint()
    assert kept.saved is saved  # nothing came since
    for meta in (b"x", msgspec.msgpack.encode([9, 1])):
        kept.saved = [(2, meta, {})]
        assert state_of(Ledger(log, assignment, checkpoints=kept)) == state_of(opened(log))


def test_a_checkpoint_beyond_the_log_is_no_state_of_a_log_that_is_as_long_again() -> None:
    """Passed over it would stay, and cover other entries some time later."""
    kept = MemoryCheckpoints()
    assignment = np.arange(4096, dtype=np.int32) % 2
    ledger = Ledger(MemoryLog(), assignment, checkpoints=kept)
    ledger.commit([], 5, definitions())
    ledger.commit([message(1, Op(LINK, ANN, TABLET, version=10))])
    ledger.checkpoint()
    lost = MemoryLog()
    opened(lost).commit([], 5, definitions())
    with pytest.raises(CorruptLog, match=r"at least 2 entries.* got 1"):
        Ledger(lost, assignment, checkpoints=kept)


def test_a_checkpoint_that_could_not_be_saved_is_made_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """At the end at the latest; not by each entry of a full disk."""
    log, kept, assignment = MemoryLog(), MemoryCheckpoints(), np.zeros(4096, np.uint16)
    ledger = Ledger(log, assignment, checkpoints=kept)
    ledger.commit([], 5, definitions())

    def full(*_: object) -> None:
        raise StorageFull("no room")

    with monkeypatch.context() as patch:
        patch.setattr(kept, "save", full)
        patch.setattr("profile_actors.engine.identity.ledger.LEAST_ENTRIES", 1)
        due = [ledger.is_checkpoint_due]
        with pytest.raises(StorageFull):
            ledger.checkpoint()
        assert [*due, ledger.is_checkpoint_due] == [True, False]
    ledger.checkpoint()
    found = kept.load()
    assert found is not None
    assert found[0] == ledger.position


def test_what_could_not_be_written_is_in_no_checkpoint(monkeypatch: pytest.MonkeyPatch) -> None:
    """One is saved beside the commits, so it may be due when one of them has just failed."""
    log, kept = MemoryLog(), MemoryCheckpoints()
    assignment = np.arange(4096, dtype=np.int32) % 2
    ledger = Ledger(log, assignment, checkpoints=kept)
    ledger.commit([], 5, definitions())
    with monkeypatch.context() as full:
        full.setattr(log, "append_at", raising)
        with pytest.raises(StorageFull):
            ledger.commit([message(1, Op(LINK, ANN, TABLET, version=10))])
    ledger.checkpoint()
    again = Ledger(log, assignment, checkpoints=kept)
    assert state_of(again) == state_of(opened(log))
    again.commit([message(1, Op(LINK, ANN, TABLET, version=10))])
    assert len(again.outgoing("0", 0, 9)) == 1


def raising(*_: Any) -> None:
    raise StorageFull("expected room, got none")
