"""Settings shared by all suites: Hypothesis runs the same examples every time."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, settings

from tests.differential.sizes import restore

# No deadline: two cores shared with Ray make single examples slow without being wrong.
_QUIET = [HealthCheck.too_slow, HealthCheck.data_too_large]
settings.register_profile(
    "same", deadline=None, derandomize=True, database=None, suppress_health_check=_QUIET
)
# New ones every time, and those that failed last: for whoever looks for faults.
settings.register_profile("dev", deadline=None, suppress_health_check=_QUIET)
settings.register_profile(
    "deep", deadline=None, max_examples=2_000, suppress_health_check=_QUIET, print_blob=True
)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "same"))


@pytest.fixture(autouse=True)
def own_sizes() -> Iterator[None]:
    """Differential worlds make arenas, pieces and merges tiny: each test begins with their own."""
    yield
    restore()
