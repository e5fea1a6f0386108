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


# Of the files that start Ray, the longest: whoever begins one of them last is waited for.
LONGEST_FIRST = (
    "cluster/test_attach.py", "crash/test_actor_crash.py", "cluster/test_replicas.py",
    "cluster/test_contract.py", "cluster/test_keepers.py", "cluster/test_store.py",
    "cluster/test_edges.py", "cluster/test_two_drivers.py", "cluster/test_closing.py",
    "cluster/test_repairs.py", "cluster/test_cli.py", "docs/test_readme.py",
)  # fmt: skip
RANK = {name: number for number, name in enumerate(LONGEST_FIRST)}


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Whole files change places, tests within one do not."""
    items.sort(key=lambda item: RANK.get("/".join(item.path.parts[-2:]), len(RANK)))


@pytest.fixture(autouse=True)
def own_sizes() -> Iterator[None]:
    """Differential worlds make arenas, pieces and merges tiny: each test begins with their own."""
    yield
    restore()
