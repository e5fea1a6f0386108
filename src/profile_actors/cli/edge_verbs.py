"""The verb that looks at an edge."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.console import Console

from profile_actors.cli import show
from profile_actors.cli.application import DATA, Data, Json, console, verb
from profile_actors.cli.follower_lines import edge_lines
from profile_actors.cli.verbs import open_store
from profile_actors.errors import CallerError


@verb()
def edge(
    name: str,
    namespace: Annotated[str | None, typer.Argument(help="Of an identity to look up.")] = None,
    value: Annotated[str | None, typer.Argument(help="Of that identity.")] = None,
    data: Data = DATA,
    json: Json = False,
) -> None:
    """Show how an edge is, or one profile as the edge knows it."""
    if namespace is not None and value is None:
        raise CallerError(f"expected a namespace and a value, got {namespace!r} alone - at edge")
    with open_store(data) as store:
        one = store.edge(name)
        if namespace is None or value is None:
            found = store.status().edges.get(name)
            if found is None:
                raise CallerError(
                    f"expected an edge destination, got {name!r}, deleted a moment ago - at edge"
                )
            if json:
                show.as_json(found)
            else:
                for line in edge_lines(name, found):
                    console.print(line, highlight=False, soft_wrap=True)
            return
        profile = one.profile(namespace, value)
        moments = show.moments_of(store.definitions())
    if json:
        show.as_json(profile)
        return
    if profile is None:
        who = f"{show.safe(namespace)} {show.safe(value)}"
        console.print(f"the edge has no profile of {who}", highlight=False)
        return
    show.profile(console, profile, moments)
    _stale(console, profile.stale)


def _stale(out: Console, is_stale: bool) -> None:
    if is_stale:
        out.print("[yellow]stale[/]: the hub has not said yet what came after", highlight=False)
