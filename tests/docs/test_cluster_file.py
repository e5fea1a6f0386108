"""``cluster.yaml`` as Ray itself reads it, and mistakes in it that are found."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from ray.autoscaler._private.util import prepare_config, validate_config

ROOT = Path(__file__).resolve().parents[2]
TEXT = (ROOT / "cluster.yaml").read_text("utf-8")
LABEL = "--labels=profile-actors/disk=$(profile-actors disk-id "


def checked(config: dict[str, Any]) -> None:
    """What Ray checks, and that what keeps a store whole is there."""
    validate_config(prepare_config(copy.deepcopy(config)))
    assert "auth_token" in str(config["file_mounts"])
    for name in ("head_start_ray_commands", "worker_start_ray_commands"):
        start = config[name][-1]
        assert LABEL in start, name
        assert "RAY_AUTH_MODE=token" in start, name
    head = config["head_start_ray_commands"][-1]
    assert "--include-dashboard=false" in head
    for what, value in (
        ("initial_delay_ms", 1000), ("period_ms", 1000), ("timeout_ms", 2000),
        ("failure_threshold", 3),
    ):  # fmt: skip
        assert f"RAY_health_check_{what}={value}" in head


def test_ray_takes_the_file() -> None:
    checked(yaml.safe_load(TEXT))


@pytest.mark.parametrize(
    ("mistake", "error"),
    [
        (lambda c: c.update(head_start_ray_comands=[]), "ValidationError"),
        (lambda c: c.update(file_mounts=["auth_token"]), "AttributeError"),
        (lambda c: c["worker_start_ray_commands"].pop(), "AssertionError"),
        (lambda c: c.pop("file_mounts"), "KeyError"),
    ],
    ids=["key", "type", "no label", "no token"],
)
def test_planted_mistakes_are_found(
    mistake: Callable[[dict[str, Any]], object], error: str
) -> None:
    config = yaml.safe_load(TEXT)
    mistake(config)
    with pytest.raises(Exception) as found:
        checked(config)
    assert type(found.value).__name__ == error
