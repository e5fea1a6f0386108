"""What a partition still has to do: one record that its writer, clock and reader share."""

from __future__ import annotations

from dataclasses import dataclass, field

from profile_actors.columnar.state_columns import UNSET
from profile_actors.engine.refold.backfill import Backfill
from profile_actors.engine.refold.rescans import Rescans


@dataclass(slots=True)
class Owed:
    """Set by the writer's thread (filling: by that of the back-fill), looked at by readers.

    rescans: log entries whose rules are still to be evaluated again.
    behind: the instant (ms) that the clock was to reach, while it takes several steps; else UNSET.
    filling: the back-fill that runs beside the writer.
    checkpointed: entries that the newest checkpoint covers; a replay folds the rest.
    unsaved_rows: rows that were folded since.
    """

    rescans: Rescans = field(default_factory=Rescans)
    behind: int = UNSET
    filling: Backfill | None = None
    checkpointed: int = 0
    unsaved_rows: int = 0
