"""A command line with words that nobody types, run in this process as ``main`` runs it."""

from __future__ import annotations

import io
import random
import sys
from collections.abc import Sequence
from contextlib import redirect_stderr, redirect_stdout
from functools import cache
from typing import Any
from unittest.mock import patch

from profile_actors.cli import application
from tests.fuzz.hostile import text

ABIDE = frozenset({"start", "stop", "demo", "bench"})
"""Verbs that start or end processes, run by tests of their own; here only their options are."""


def words_of(chance: random.Random, names: Sequence[str]) -> list[str]:
    """A verb with its arguments and options: hostile words, or names that mean something."""
    commands = _commands()
    verb = chance.choice(sorted(commands))
    words = [chance.choice((verb,) * 20 + (text(chance),))]
    for parameter in commands[verb].params:
        if parameter.name == "help":
            continue
        is_option = parameter.param_type_name == "option"
        if chance.random() < (0.75 if is_option else 0.05):
            continue
        given = [parameter.opts[-1]] if is_option else []
        if not (is_option and parameter.is_flag):
            given.append(chance.choice(list(names)) if chance.random() < 0.5 else text(chance))
        words[1:1] = given if is_option else []
        words += [] if is_option else given
    if verb in ABIDE or words[0] in ABIDE:
        words.append("--nonsense")  # refused, when all else was read
    return [word.replace("\0", "") for word in words]  # of which the system lets no word have any


@cache
def _commands() -> dict[str, Any]:
    return dict(application.command_of([]).commands)


def says(words: Sequence[str]) -> tuple[object, str, str]:
    """The exit code of ``profile-actors WORDS``, what it printed, and what of errors.

    The streams are those of a process: UTF-8, whose errors are strict on the first one alone.
    """
    out = io.TextIOWrapper(io.BytesIO(), "utf-8", "strict", write_through=True)
    err = io.TextIOWrapper(io.BytesIO(), "utf-8", "backslashreplace", write_through=True)
    code: object = 0
    named = patch.object(sys, "argv", ["profile-actors", *words])
    with named, redirect_stdout(out), redirect_stderr(err):
        try:
            application.main()
        except SystemExit as end:
            code = end.code
    return code or 0, _of(out), _of(err)


def _of(stream: io.TextIOWrapper) -> str:
    written: Any = stream.buffer
    return str(written.getvalue(), "utf-8")
