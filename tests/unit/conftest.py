"""Unit tests see no Ray: the engine must run without it."""

from __future__ import annotations

from typing import Any, NoReturn

import pytest


@pytest.fixture(autouse=True)
def _forbid_ray(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make ``ray.init`` raise, however a test reaches it."""
    import ray

    def refuse(*args: Any, **kwargs: Any) -> NoReturn:
        raise AssertionError("a unit test started Ray; move it to tests/cluster and mark it ray")

    monkeypatch.setattr(ray, "init", refuse)
