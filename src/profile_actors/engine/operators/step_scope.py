"""Whose step it is: an entry's, the clock's, a slice's or a look-ahead's."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from profile_actors.columnar.state_columns import UNSET
from profile_actors.columnar.vectors import FOREVER, Array


@dataclass(frozen=True, slots=True)
class StepScope:
    """From which instant to which a step goes, of which profiles, and who has rows in it.

    now, started: ms. An entry has rows, and all profiles; a slice and a look-ahead have neither.
    """

    now: int
    started: int = UNSET
    has_rows: Array | None = None
    """Who has rows in the entry: bool per slot. None: nobody."""
    slots: Array | None = None
    """The step is of these slots alone, ascending. None: of all."""
    span: tuple[int, int] | None = None
    """``slots`` are those of this range (low, high), but for some."""
    enough: int = FOREVER
    """A look-ahead asks for no more than each slot's first change after this instant."""
    is_held: bool = False
    """The clock stands while its work is sliced: rows alone, nothing due is looked at."""

    def have_rows(self, slots: Array) -> Array:
        """Which of these slots have rows in the entry. bool[n]"""
        return np.zeros(len(slots), np.bool_) if self.has_rows is None else self.has_rows[slots]

    @property
    def is_ahead(self) -> bool:
        """Whether this is a look-ahead, never to be published."""
        return self.enough < FOREVER
