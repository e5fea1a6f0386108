"""L2, L3, L5: incremental state, look-ups and feed against the reference evaluator, in random worlds."""

from __future__ import annotations

import pytest

from tests.differential.harness import run


@pytest.mark.parametrize("seed", range(25))
def test_a_random_world_agrees_with_the_oracles(seed: int) -> None:
    assert run(seed) > 0
