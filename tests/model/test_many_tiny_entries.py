"""Entries of a row or two: a checkpoint is due by their number, so an opening replays few."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from profile_actors.engine.log.entry import Entry
from profile_actors.engine.partition.partition import Partition
from profile_actors.engine.partition.recovery import Replay
from tests.model.hub import CATALOGUE
from tests.unit.engine.partition.test_recovery import CONFIG, opened, submit, told


def fill(partition: Partition, first: int, last: int) -> list[int]:
    """One-row entries, with checkpoints as they fall due; the positions of those."""
    saved = []
    for number in range(first, last):
        submit(partition, number, rows=1)
        job = partition.checkpoint_job()
        if job is not None:
            job()
            saved.append(partition.owed.checkpointed)
    return saved


@pytest.mark.parametrize(
    ("entries", "every"), [(60, 10), pytest.param(4000, 500, marks=pytest.mark.slow)]
)
def test_an_opening_replays_no_more_than_a_checkpoint_lets_stand(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, entries: int, every: int
) -> None:
    """They are far from ``checkpoint_rows``; killed right before the next checkpoint is due."""
    config = msgspec.structs.replace(CONFIG, checkpoint_entries=every)
    partition = opened(tmp_path / "0", config)
    partition.define(CATALOGUE, None)
    saved = fill(partition, 0, entries + every - 2)
    assert saved == list(range(every, entries + 1, every))
    answers = told(partition)
    partition.close()
    replayed: list[int] = []
    replay = Replay._entry

    def counted(self: Replay, entry: Entry) -> None:
        replayed.append(self._state.position)
        replay(self, entry)

    monkeypatch.setattr(Replay, "_entry", counted)
    partition = opened(tmp_path / "0", config)
    assert told(partition) == answers
    assert replayed == list(range(entries, entries + every - 1))
    # What was replayed counts: the checkpoint is due with the next entry, not ``every`` later.
    assert fill(partition, entries + every - 2, entries + every) == [entries + every]
    partition.close()
