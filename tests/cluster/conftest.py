"""Makes the shared Ray known to this folder."""

from __future__ import annotations

from tests.cluster.shop import ray_runtime

__all__ = ["ray_runtime"]
