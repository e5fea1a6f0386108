"""The verbs that say who is one person, and part what was joined by mistake."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer
from rich.text import Text

from profile_actors.cli import show
from profile_actors.cli.application import DATA, Data, Json, console, verb
from profile_actors.cli.verbs import open_store
from profile_actors.driver.terminal import instant_text, one_line
from profile_actors.errors import CallerError

if TYPE_CHECKING:
    from profile_actors.engine.identity.identity import Identity


@verb("identity-graph")
def identity_graph(namespace: str, value: str, data: Data = DATA, json: Json = False) -> None:
    """Show who is one person with an identity, and by which links."""
    with open_store(data) as store:
        found = store.identity_graph(namespace, value)
    if json:
        show.as_json(found)
        return
    for number, one in enumerate(found.members):
        console.print(Text(one_line(f"{'identity ' if number else 'canonical'} {_text(one)}")))
    rows = [
        (_text(one.one), _text(one.other), instant_text(one.at), _verdict(one.verdict, one.by))
        for one in found.links
    ]
    console.print(show.table("links", ("identity", "and", "newest evidence", "verdict"), rows))


@verb()
def unlink(
    namespace: str,
    value: str,
    other_namespace: Annotated[str | None, typer.Argument(help="Of the other identity.")] = None,
    other_value: Annotated[str | None, typer.Argument(help="Of the other; none: of any.")] = None,
    data: Data = DATA,
    json: Json = False,
    at: Annotated[str | None, typer.Option(help="Evidence up to when; now if not given.")] = None,
) -> None:
    """Withdraw the evidence that two identities are one person, or one and any other."""
    other = None
    if other_namespace is not None:
        if other_value is None:
            raise CallerError(
                f"expected a namespace and a value, got {other_namespace!r} alone - at unlink"
            )
        other = (other_namespace, other_value)
    with open_store(data) as store:
        found = store.unlink((namespace, value), other, at)
    if json:
        show.as_json(found)
        return
    shown = "look-ups say so" if found.is_shown else "look-ups will say so shortly"
    console.print(Text(f"withdrawn: evidence up to {instant_text(found.at)}; {shown}"))


def _text(one: Identity) -> str:
    return f"{one.namespace} {one.value}"


def _verdict(verdict: str, by: str) -> str:
    return f"{verdict} ({by})" if by else verdict
