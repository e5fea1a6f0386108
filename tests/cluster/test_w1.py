"""Workload W1, small, through the public client on real Ray: every answer equals one recomputation.

The same checker as the bench uses, plus what a bench leaves out: the change feed folds to the
memberships, and the same file again changes nothing.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import pytest

import profile_actors as pf
from answer import differences, recompute
from w1 import wrong_computed
from workload import DATASET, make_input, save_definitions, segments

pytestmark = pytest.mark.ray


@pytest.mark.parametrize(
    ("seed", "zipf"), [(7, False), pytest.param(11, True, marks=pytest.mark.slow)]
)
def test_w1_small(tmp_path: Path, seed: int, zipf: bool) -> None:
    args = argparse.Namespace(events=20_000, profiles=1_000, zipf=zipf)
    data = make_input(tmp_path, args, seed)
    declared = save_definitions(tmp_path / "w1.json")
    answer = recompute(data.path)
    # Small blocks: time must pass between entries for anything to end by the clock alone.
    config = pf.Config(ingest_block_bytes=100_000, max_entry_batches=1)
    with pf.start(tmp_path / "store", partitions=2, clock="event", config=config) as store:
        store.apply_file(declared)
        report = store.ingest(DATASET, str(data.path), progress=False)
        assert (report.rows, report.accepted, report.duplicate) == (20_000, 20_000, 0)

        again = store.ingest(DATASET, str(data.path), progress=False)
        assert (again.rows, again.accepted, again.duplicate) == (20_000, 0, 20_000)

        status = store.status()
        assert status.now == answer.now
        assert status.profiles == len(answer.users)
        assert differences(answer, lambda name: (m.value for m in store.members(name))) == []
        assert wrong_computed(store, answer) == []

        names = {s.name for s in segments()}
        members: dict[str, set[str]] = {name: set() for name in names}
        by_clock = 0
        for change in store.changes():
            if change.name not in names:
                continue
            entered = change.new == "realized"
            assert entered == (change.identity.value not in members[change.name]), change
            (members[change.name].add if entered else members[change.name].discard)(
                change.identity.value
            )
            by_clock += change.cause == "clock"
        assert differences(answer, members.__getitem__) == []
        assert by_clock > 0

    with pf.start(tmp_path / "store") as store:
        assert differences(answer, lambda name: (m.value for m in store.members(name))) == []
        assert store.verify(sample=2) == []
