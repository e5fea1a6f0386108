"""Config refuses what is no limit, and says what each limit is."""

from __future__ import annotations

import ast
import inspect
import re
from itertools import pairwise

import msgspec
import pytest

from profile_actors import config
from profile_actors.config import Config
from profile_actors.errors import ConfigError

NAMES = Config.__struct_fields__
# The unit, or what is counted, stands last in the name.
UNITS = re.compile(
    r"_(ms|s|days|bytes|mb|rows|entries|batches|chars|profiles|people|rejects|receipts|producers|consumers"
    r"|evaluations|flight|lines|edges)$"
)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("value", [0, -1])
def test_a_limit_is_positive(name: str, value: int) -> None:
    with pytest.raises(ConfigError, match=rf"got {value} - at Config.{name}"):
        Config(**{name: value})


def test_an_unknown_limit_is_refused() -> None:
    with pytest.raises(msgspec.ValidationError, match="max_batch_row"):
        msgspec.convert({"max_batch_row": 5}, Config)


def test_config_is_frozen() -> None:
    with pytest.raises(AttributeError):
        Config().max_batch_rows = 1  # type: ignore[misc]


@pytest.mark.parametrize("name", NAMES)
def test_a_limit_has_its_unit_in_its_name(name: str) -> None:
    assert UNITS.search(name), name


def test_every_limit_is_documented() -> None:
    (body,) = (
        node.body
        for node in ast.parse(inspect.getsource(config)).body
        if isinstance(node, ast.ClassDef)
    )
    for field, text in pairwise(body):
        if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name):
            told = isinstance(text, ast.Expr) and isinstance(text.value, ast.Constant)
            assert told, f"{field.target.id} has no line below it that says what it is"
