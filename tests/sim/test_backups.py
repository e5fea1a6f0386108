"""A store is backed up while it works, and what is restored comes to the same rest."""

from __future__ import annotations

import os
import random
import shutil
from contextlib import closing, suppress
from pathlib import Path

import pytest
from msgspec import structs

from profile_actors.driver.shipping.places_of_backups import backups, pruned, verified
from profile_actors.driver.shipping.restored_stores import restore
from profile_actors.engine.erasure.eraser import Eraser
from profile_actors.engine.erasure.rejected_rows import naming
from profile_actors.engine.identity.messages import LEDGER
from profile_actors.errors import (
    CallerError,
    ConfigError,
    CorruptLog,
    LostLog,
    Pending,
    StoreUnavailable,
)
from profile_actors.ingest.rejects import QuarantineRecord
from profile_actors.storage.catalogue_store import CatalogueStore
from profile_actors.storage.erasure.erasure_record import Erasing, ErasureRecord, save_record
from profile_actors.storage.erasure.rewriting import rewrite
from profile_actors.storage.files.layout import LEDGER as LEDGER_LOG
from profile_actors.storage.shipping.backups import left_of, load_backup, save_backup
from profile_actors.storage.shipping.depot import Depot
from profile_actors.storage.shipping.known_backups import ErasedMarks
from tests.sim.disk_world import SMALL, DiskWorld
from tests.sim.test_erasure import long_names, marks_of, without
from tests.sim.world import Scenario, check, drawn, expected, named

SMALL_SEED = 6


class Killed(BaseException):
    """The process is no more."""


class Kill:
    """Ends everything at the n-th point; from then on nobody writes."""

    def __init__(self, at: int) -> None:
        self.left = at
        self.points: list[str] = []

    def __call__(self, name: str) -> None:
        self.points.append(name)
        self.left -= 1
        if self.left <= 0:
            raise Killed(name)


def world_at(path: Path, seed: int, partitions: int = 3) -> DiskWorld:
    scenario = drawn(seed)
    scenario = Scenario(long_names(scenario.steps), scenario.catalogue, scenario.horizon)
    return DiskWorld(path, scenario, partitions, random.Random(seed))


def settle(world: DiskWorld) -> None:
    world.run()
    now = world.settle_clocks()
    check(world.answers(), expected(world, now))


def faults(world: DiskWorld) -> list[str]:
    return [*world.ledger.verify(), *(f for one in world.partitions for f in one.verify())]


@pytest.mark.parametrize("seed", [30, 11])
def test_a_store_restored_from_a_busy_one_comes_to_the_same_rest(tmp_path: Path, seed: int) -> None:
    place, heads = tmp_path / "backups", list[int]()
    with closing(world_at(tmp_path / "data", seed)) as world:

        def between() -> None:
            """What goes on before each step of a backup."""
            world.run_steps(8)
            for index in range(world.count):
                world.checkpoint(index)
            heads.append(sum(node.log.head() for node in world.nodes.values()))

        world.run_steps(6)
        made = world.backup(place, between)
        # What a checkpoint knows to have been taken must be below the end of who took it.
        steps = [*dict.fromkeys(world.asked)]
        assert steps == ["checkpoint", "head", "mails", "ship"]
        assert world.asked == sorted(world.asked, key=steps.index)
        assert heads[0] < sum(made.positions.values()) < heads[-1], "copied while it worked"
        again = world.backup(place, between)
        assert again.new_bytes < again.bytes
        settle(world)
    assert [one.id for one in backups(place)] == [made.id, again.id]
    told = restore(place, tmp_path / "again", made.id)
    assert told.positions == made.positions
    with closing(world_at(tmp_path / "again", seed)) as other:
        for name, node in other.nodes.items():
            for source in other.nodes:
                # Nobody has a message that was never sent, or lacks one that is known to be there.
                sender, cursor = other.node(source).mailbox, node.mailbox.cursor(source)
                assert sender.acknowledged(name) <= cursor <= sender.newest(name), (name, source)
        settle(other)
        assert faults(other) == []
        assert other.coordinator.notes() == []


def test_a_ledger_is_in_the_backup_if_there_is_one(tmp_path: Path) -> None:
    """One that was begun after the ends were read is begun anew: nobody has a message of it."""
    place = tmp_path / "backups"
    with closing(world_at(tmp_path / "data", SMALL_SEED)) as world:
        with pytest.raises(StoreUnavailable, match="ledger"):
            world.backup(place, apart=LEDGER)
        made = load_backup(Depot(str(place)), world.backup(place).id)
    without_it = tuple(log for log in made.logs if log.name != LEDGER)
    save_backup(Depot(str(place)), structs.replace(made, id="0", logs=without_it))
    restore(place, tmp_path / "again", "0")
    known = CatalogueStore(tmp_path / "again")
    assert known.log(LEDGER_LOG) is None
    assert known.log(0) is not None
    known.close()


def test_what_is_restored_at_rest_answers_the_same_and_is_backed_up_in_turn(tmp_path: Path) -> None:
    place = tmp_path / "backups"
    with closing(world_at(tmp_path / "data", SMALL_SEED)) as world:
        settle(world)
        for index in range(3):
            world.checkpoint(index)
        rejected = QuarantineRecord("file", 1, "$.x", "expected a number", "{}")
        world.coordinator.reject("hits", [rejected])
        made = world.backup(place)
        before = world.answers()
        assert made.positions == {name: node.log.head() for name, node in world.nodes.items()}
        again = world.backup(place)
        assert again.new_bytes < 70_000, "the catalogue alone, which knows of the backup"
        for partition in world.partitions:
            partition.advance(world.settle_clocks() + 5)
        world.backup(place)
    told = restore(place, tmp_path / "again", made.id)
    assert told.store != made.store
    with closing(world_at(tmp_path / "again", SMALL_SEED)) as other:
        assert other.answers() == before
        assert faults(other) == []
        assert other.coordinator.quarantine("hits", 9) == [rejected]
        assert other.coordinator.notes() == []
        assert [p.feed.first_kept() for p in other.partitions] == [made.positions[n] for n in "012"]
        with pytest.raises(CallerError, match=f"of store {told.store}, got one of store"):
            other.backup(place)
    (tmp_path / "standby").mkdir()
    (tmp_path / "standby" / "disk.json").write_text("{}")
    for name in ("again", "data", "standby"):
        with pytest.raises(ConfigError, match="without a store"):
            restore(place, tmp_path / name)
    with pytest.raises(ConfigError, match="apart from the backups"):
        restore(place, place / "again")

    same = restore(place, tmp_path / "same", made.id, same=True)
    with closing(world_at(tmp_path / "same", SMALL_SEED)) as other:
        assert same.store == made.store
        # The same positions as of the backup that it knows nothing of, with another content.
        for partition in other.partitions:
            partition.advance(other.settle_clocks() + 7)
        third = other.backup(place)
        after = other.answers(), [partition.now for partition in other.partitions]
    restore(place, tmp_path / "third", third.id)
    with closing(world_at(tmp_path / "third", SMALL_SEED)) as other:
        assert (other.answers(), [partition.now for partition in other.partitions]) == after
        assert faults(other) == []


def test_ended_at_any_write_the_last_backup_is_whole(tmp_path: Path) -> None:
    place, saved = tmp_path / "backups", tmp_path / "saved"
    with closing(world_at(tmp_path / "data", SMALL_SEED, 2)) as world:
        world.run_steps(10)
        first = world.backup(place)
        shutil.copytree(place, saved)
        world.run_steps(100)
        world.checkpoint(0)
        at, second = 0, None
        while second is None:
            at += 1
            shutil.rmtree(place)
            shutil.copytree(saved, place)
            kill = Kill(at)
            try:
                second = world.backup(place, hook=kill)
            except Killed:
                whole = verified(place)
                assert first.id in whole
                assert not any(whole.values()), (kill.points[-1], whole)
        assert at > 12
        left = sum(path.stat().st_size for path in (place / "files").iterdir())
        assert left == sum(sizes(place).values()), "nothing that nobody needs"
        assert [one.id for one in backups(place)] == [first.id, second.id]
        known = world.coordinator.backup("known")
        assert [(one.id, one.state) for one in known] == [(b.id, "whole") for b in (first, second)]


def sizes(place: Path) -> dict[str, int]:
    """The files that the backups of a place name, and their bytes."""
    depot = Depot(str(place))
    made = [load_backup(depot, one.id) for one in backups(place)]
    return {stored.name: stored.bytes for one in made for stored in one.files()}


def test_a_restore_that_is_ended_is_no_store_and_is_begun_anew(tmp_path: Path) -> None:
    place, path = tmp_path / "backups", tmp_path / "again"
    with closing(world_at(tmp_path / "data", SMALL_SEED, 2)) as world:
        settle(world)
        before = world.answers()
        world.backup(place)
    at, is_store = 0, False
    while not is_store:
        at += 1
        with suppress(Killed):
            restore(place, path, crash_point=Kill(at))
        is_store = (path / "catalogue").exists()
        if not is_store and (path / "restoring").exists():
            with pytest.raises(LostLog, match="restor"):
                CatalogueStore(path).close()
    assert at > 10
    with closing(world_at(path, SMALL_SEED, 2)) as other:
        assert other.answers() == before
    with pytest.raises(ConfigError, match="without a store"):
        restore(place, path)


def test_a_flipped_byte_in_any_file_is_named_and_refuses_the_restore(tmp_path: Path) -> None:
    place = tmp_path / "backups"
    with closing(world_at(tmp_path / "data", SMALL_SEED, 2)) as world:
        world.run_steps(150)
        for index in range(2):
            world.checkpoint(index)
        made = world.backup(place)
    rng = random.Random(5)
    files = [path for path in place.rglob("*") if path.is_file() and path.name != "backup.json"]
    assert len(files) > 6
    for path in files:
        data = path.read_bytes()
        at = rng.randrange(len(data))
        path.write_bytes(data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :])
        (faults,) = verified(place, made.id).values()
        assert len(faults) == 1
        assert str(path) in faults[0]
        with pytest.raises(CorruptLog, match=path.name):
            restore(place, tmp_path / "again")
        path.unlink()
        if path.parent.name == "files":
            assert str(path) in verified(place)[made.id][0], "missing"
        path.write_bytes(data)
    assert verified(place) == {made.id: []}
    assert not (tmp_path / "again").exists()


def test_prune_deletes_what_no_kept_backup_needs(tmp_path: Path) -> None:
    place = tmp_path / "backups"
    with closing(world_at(tmp_path / "data", SMALL_SEED, 2)) as world:
        made = []
        for _ in range(4):
            world.run_steps(40)
            made.append(world.backup(place))
        assert pruned(place, before=made[1].at).backups == (made[0].id,)
        assert pruned(place, keep=2).backups == (made[1].id,)
        assert {path.name for path in (place / "files").iterdir()} == sizes(place).keys()
        assert not any(verified(place).values())
        world.run_steps(40)
        world.backup(place)
        known = world.coordinator.backup("known")
        assert known[0].id == made[2].id, "what is gone is forgotten by the next backup"
        there = [one.id for one in backups(place)]
        assert [one.id for one in left_of(known)] == there
        gone = structs.replace(known[0], id="19990101T000000.000Z")
        away = structs.replace(gone, uri="nowhere://bucket")
        begun = structs.replace(gone, state="begun")
        assert left_of([gone, away, begun]) == [away, begun]
        assert len(pruned(place, before=made[3].at + 10**10).kept) == 1, "the newest stays"
        for wrong in ({}, {"keep": 1, "before": 5}, {"keep": 0}):
            with pytest.raises(CallerError):
                pruned(place, **wrong)
    for name in ("other", "backups/files"):
        with pytest.raises(CallerError, match="expected a backup, got none"):
            verified(tmp_path / name)


@pytest.mark.parametrize("is_left", [True, False], ids=["original", "later backup"])
def test_who_was_erased_after_a_backup_is_erased_in_what_is_restored(
    tmp_path: Path, is_left: bool
) -> None:
    place, data = tmp_path / "backups", tmp_path / "data"
    with closing(world_at(data, SMALL_SEED)) as world:
        settle(world)
        made = world.backup(place)
        gone = max(world.truth().values(), key=lambda block: (len(block), sorted(block)))
        ones = sorted(named(one) for one in gone)
        raw = f'{{"crm": "{ones[0].value}"}}'
        world.coordinator.reject("hits", [QuarantineRecord("file", 1, "$.x", "no", raw)])
        save_record(data, ErasureRecord(1, Erasing(1, tuple(ones))))
        with pytest.raises(Pending, match="erasure"):
            world.backup(place)
        save_record(data, ErasureRecord(1))
        world.coordinator._backups.note_erasure(1, ones)
        assert found(data / "catalogue", gone) == [], "marks name nobody"
    if not is_left:
        for name in ("0", "1", "2", LEDGER):
            rewrite(world.directory(name), SMALL.log_map_bytes, Eraser(ones).erased)
        with closing(world_at(data, SMALL_SEED)) as world:
            mine = world.coordinator._backups
            assert mine.forget_rejected(naming(ones, world.scenario.catalogue)) == 1
            later = world.backup(place)
        told = restore(place, tmp_path / "later", later.id)
        assert told.erasures == 0
        assert found(tmp_path / "later" / "partitions", gone) == []
        pruned(place, keep=1)
        assert found(place, gone) == [], "prune takes her out of the place"
        return
    assert found(place, gone), "the marks are those of what was stored"
    told = restore(place, tmp_path / "again", made.id, original=data)
    assert (told.erasures, told.identities) == (1, len(gone))
    assert found(tmp_path / "again", gone) == []
    with closing(world_at(tmp_path / "again", SMALL_SEED)) as again:
        again.scenario.steps[:] = without(again.scenario.steps, gone)
        again.ledger.commit([], None)  # as its actor does at each opening
        settle(again)
        assert faults(again) == []
        assert all(again.profile(one)[0] is None for one in gone)


def found(path: Path, gone: frozenset[tuple[str, str]]) -> list[tuple[str, bytes]]:
    files = {file.name: file.read_bytes() for file in path.rglob("*") if file.is_file()}
    return [(name, m) for name, data in files.items() for m in marks_of(gone) if m in data]


def test_a_damaged_manifest_does_not_stop_later_backups(tmp_path: Path) -> None:
    place = tmp_path / "backups"
    with closing(world_at(tmp_path / "data", SMALL_SEED, 2)) as world:
        first = world.backup(place)
        with pytest.raises(Killed):
            world.backup(place, hook=Kill(3))
        path = place / "manifests" / f"{first.id}.json"
        whole = path.read_bytes()
        path.write_bytes(whole[:-9])
        second = world.backup(place)
        assert [one.state for one in world.coordinator.backup("known")].count("begun") == 1
        path.write_bytes(whole)
        world.backup(place)
        known = world.coordinator.backup("known")
        assert {one.state for one in known} == {"whole"}
        assert {path.name for path in (place / "files").iterdir()} == sizes(place).keys()
        assert second.id in [one.id for one in known]


def test_a_backup_is_newer_than_all_of_its_place_whatever_the_clock_says(tmp_path: Path) -> None:
    """A store that was put back does not remember what was made after what it was put back from."""
    place = tmp_path / "backups"
    with closing(world_at(tmp_path / "data", SMALL_SEED, 2)) as world:
        made = world.backup(place)
    depot = Depot(str(place))
    later = structs.replace(load_backup(depot, made.id), id="29990101T000000.000Z")
    save_backup(depot, later)
    restore(place, tmp_path / "again", made.id, same=True)
    with closing(world_at(tmp_path / "again", SMALL_SEED, 2)) as other:
        assert other.backup(place).id == "29990101T000000.001Z"


def test_a_place_of_another_store_is_not_remembered(tmp_path: Path) -> None:
    place = tmp_path / "backups"
    with closing(world_at(tmp_path / "data", SMALL_SEED, 2)) as world:
        world.backup(place)
    with closing(world_at(tmp_path / "other", SMALL_SEED, 2)) as other:
        with pytest.raises(CallerError, match="got one of store"):
            other.backup(place)
        assert other.coordinator.backup("known") == []
    with pytest.raises(CallerError, match="name the original's"):
        restore(place, tmp_path / "again", original=tmp_path / "other")


def test_a_manifest_with_a_gap_or_a_way_out_is_damaged(tmp_path: Path) -> None:
    place = tmp_path / "backups"
    with closing(world_at(tmp_path / "data", SMALL_SEED, 2)) as world:
        world.run_steps(150)
        world.checkpoint(0)
        made = world.backup(place)
    depot = Depot(str(place))
    manifest = load_backup(depot, made.id)
    log, *rest = manifest.logs
    assert log.checkpoint is not None
    (name, stored), *_ = log.checkpoint.files.items()
    away = [
        structs.replace(log, checkpoint=structs.replace(log.checkpoint, files={one: stored}))
        for one in (f"../../{name}", f"/{name}", "..", "checkpoints/../../x")
    ]
    for bad in (structs.replace(log, pieces=log.pieces[1:]), *away):
        save_backup(depot, structs.replace(manifest, logs=(bad, *rest)))
        assert any("gap" in one or "below" in one for one in verified(place)[made.id])
        with pytest.raises(CorruptLog):
            restore(place, tmp_path / "again")
    assert not (tmp_path / "again").exists()


def test_what_a_finished_restore_has_left_begins_no_store_anew(tmp_path: Path) -> None:
    place, path = tmp_path / "backups", tmp_path / "again"
    with closing(world_at(tmp_path / "data", SMALL_SEED, 2)) as world:
        world.backup(place)

    def kill(name: str) -> None:
        if name == "restore.after_catalogue":
            raise Killed(name)

    with pytest.raises(Killed):
        restore(place, path, crash_point=kill)
    with closing(world_at(path, SMALL_SEED, 2)) as other:
        other.run_steps(30)
    shutil.rmtree(path / "catalogue")
    with pytest.raises(ConfigError, match="without a store"):
        restore(place, path)


def test_a_directory_that_cannot_be_made_is_named_and_not_the_place(tmp_path: Path) -> None:
    place = tmp_path / "backups"
    with closing(world_at(tmp_path / "data", SMALL_SEED, 2)) as world:
        world.backup(place)
    (tmp_path / "file").write_text("")
    for path in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(ConfigError, match=f"at {path}; name another"):
            restore(place, path)
    with pytest.raises(CallerError, match="expected the id of a backup"):
        restore(place, tmp_path / "again", "../backup")


def test_a_backup_that_lacks_a_file_when_its_manifest_is_there_is_none(tmp_path: Path) -> None:
    """Somebody prunes the place who had not seen the manifest."""
    place = tmp_path / "backups"

    def prunes(name: str) -> None:
        if name.startswith("after manifests/"):
            for path in (place / "files").iterdir():
                path.unlink()

    with closing(world_at(tmp_path / "data", SMALL_SEED, 2)) as world:
        with pytest.raises(StoreUnavailable, match="prunes this place"):
            world.backup(place, hook=prunes)
        assert list((place / "manifests").iterdir()) == []
        assert [one.state for one in world.coordinator.backup("known")] == ["begun"]
        made = world.backup(place)
    assert verified(place) == {made.id: []}


def test_a_checkpoint_of_entries_that_a_backup_has_not_is_left_out(tmp_path: Path) -> None:
    """The log's end was lowered below it: what was restored would refuse to open."""
    place = tmp_path / "backups"
    with closing(world_at(tmp_path / "data", SMALL_SEED, 2)) as world:
        world.run_steps(100)
        first = load_backup(Depot(str(place)), world.backup(place).id)
        settle(world)
        world.checkpoint(0)
        later = load_backup(Depot(str(place)), world.backup(place).id)
    log, checkpoint = first.logs[0], later.logs[0].checkpoint
    assert checkpoint is not None
    assert checkpoint.position > log.end
    assert log.with_checkpoint(checkpoint).checkpoint is None
    old = structs.replace(log, checkpoint=checkpoint)  # as it was kept by older releases
    save_backup(Depot(str(place)), structs.replace(first, logs=(old, *first.logs[1:])))
    restore(place, tmp_path / "again", first.id)
    with closing(world_at(tmp_path / "again", SMALL_SEED, 2)) as other:
        settle(other)
        assert faults(other) == []


def test_two_people_of_one_number_are_both_remembered(tmp_path: Path) -> None:
    """A store whose catalogue was put back gives the number of an erasure again."""
    with closing(world_at(tmp_path / "data", SMALL_SEED, 2)) as world:
        known = world.coordinator._backups.known
        ann, ben = ErasedMarks(1, 5, ("ann",)), ErasedMarks(1, 6, ("ben",))
        for one in (ann, ben, structs.replace(ann, at=7)):
            known.note_erased(one)
        assert sorted(known.erased(), key=lambda one: one.at) == [ann, ben]


def test_the_original_may_be_where_nothing_can_be_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place, data = tmp_path / "backups", tmp_path / "data"
    with closing(world_at(data, SMALL_SEED, 2)) as world:
        made = world.backup(place)
        world.coordinator._backups.known.note_erased(ErasedMarks(1, 5, ("ann",)))
    (data / "catalogue" / "lock.mdb").unlink()
    # Who runs the suite may write anywhere: what is asked is whether one may.
    monkeypatch.setattr(os, "access", lambda *_: False)
    before = sizes_of(data)
    assert restore(place, tmp_path / "again", made.id, original=data).erasures == 1
    assert sizes_of(data) == before


def sizes_of(path: Path) -> dict[Path, int]:
    return {one: one.stat().st_size for one in path.rglob("*") if one.is_file()}
