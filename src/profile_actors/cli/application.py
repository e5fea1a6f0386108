"""The command line itself: its options, how a verb reads its words, how an error ends it."""

from __future__ import annotations

import itertools
import os
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Any, NoReturn, cast

import typer
from rich.console import Console
from typer.core import TyperCommand
from typer.main import get_command, get_command_name
from typer.models import CommandInfo

from profile_actors.driver.terminal import lines, one_line
from profile_actors.errors import DefinitionError, ProfileActorsError, RuleError

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)


console = Console()


class Verb(TyperCommand):
    """A verb whose arguments may begin with a dash: ids such as -100123, rules such as -x > 1.

    All options here have two dashes, so a word with one is a value. A word with two that is no
    option is a mistake all the same: then nothing is excused, and the error says which is meant.
    """

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        known = {name for param in self.get_params(ctx) for name in param.opts}
        words = list(itertools.takewhile(lambda word: word != "--", args))
        odd = [w for w in words if w.startswith("--") and w.partition("=")[0] not in known]
        ctx.ignore_unknown_options = not odd
        return super().parse_args(ctx, args)


def verb(name: str | None = None) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Make a function a verb of the command line, by its own name unless told otherwise."""
    return app.command(name, cls=Verb)


@app.callback()
def application() -> None:
    """A self-hosted real-time customer profile engine."""


Data = Annotated[Path, typer.Option("--data", help="The store's directory.")]


Json = Annotated[bool, typer.Option("--json", help="JSON for machines instead of tables.")]


DATA = Path("data")


INTERRUPTED = 130
"""The exit code after Ctrl-C."""


def main() -> None:
    """Run the command line; errors that were raised on purpose end as one sentence."""
    try:
        command_of(sys.argv[1:])()
    except ProfileActorsError as error:
        Console(stderr=True).print(f"[red]{type(error).__name__}[/]", end=": ")
        # Errors of rules and definitions have lines of their own, with the source marked.
        show_text = lines if isinstance(error, RuleError | DefinitionError) else one_line
        print(show_text(str(error)), file=sys.stderr)
        raise SystemExit(1) from None
    except OSError as error:  # a disk, a folder, an object store: nothing that a trace explains
        print(one_line(f"{type(error).__name__}: {error}"), file=sys.stderr)
        raise SystemExit(1) from None
    except KeyboardInterrupt:
        _end_interrupted()
    except SystemExit as end:
        if end.code == INTERRUPTED:
            _end_interrupted()
        raise


def command_of(words: list[str]) -> Any:
    """The command line with that verb alone that is asked for, if the first word is one: Typer
    reads the signature of every verb before it runs any, 50 ms of CPU time for what is not used."""
    every = app.registered_commands
    asked = [one for one in every if words[:1] == [_name(one)]]
    try:
        app.registered_commands = asked or every
        return get_command(app)
    finally:
        app.registered_commands = every


def _name(command: CommandInfo) -> str:
    return command.name or get_command_name(cast(Any, command.callback).__name__)


def _end_interrupted() -> NoReturn:
    """End at once, when stores are closed already: Ray that was interrupted while it started
    crashes a process that ends by and by."""
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError):
            stream.flush()
    os._exit(INTERRUPTED)
