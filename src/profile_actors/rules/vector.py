"""The vectorised evaluator's door: columns in, one value per row out, and when it next changes.

``columns`` has the data, ``evaluation`` the evaluator, ``boundary`` its instants of change; the
engine imports them from here.
"""

from __future__ import annotations

from profile_actors.rules.boundary import next_boundary
from profile_actors.rules.columns import FOREVER, Vector, column, truth
from profile_actors.rules.evaluation import Leaf, evaluate, path

__all__ = ["FOREVER", "Leaf", "Vector", "column", "evaluate", "next_boundary", "path", "truth"]
