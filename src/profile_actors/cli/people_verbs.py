"""The verbs that say who is one person and what is held on her, part what was joined by mistake,
and try definitions."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from msgspec import structs
from rich.text import Text

from profile_actors.cli import show
from profile_actors.cli.application import DATA, Data, Json, console, verb
from profile_actors.cli.verbs import open_store
from profile_actors.driver.terminal import instant_text, one_line
from profile_actors.errors import CallerError

if TYPE_CHECKING:
    from profile_actors.engine.identity.identity import Identity


@verb("identity-graph")
def identity_graph(
    namespace: str,
    value: str,
    data: Data = DATA,
    json: Json = False,
    as_of: Annotated[str | None, typer.Option(help="By what was known at this instant.")] = None,
) -> None:
    """Show who is one person with an identity, and by which links."""
    with open_store(data) as store:
        found = store.identity_graph(namespace, value, as_of=as_of)
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
        if not found.is_shown:  # the store may stop with this call: it is waited for
            found = structs.replace(found, is_shown=store.comes_to_rest())
    if json:
        show.as_json(found)
        return
    shown = "look-ups say so" if found.is_shown else "look-ups will say so, once messages arrive"
    console.print(Text(f"withdrawn: evidence up to {instant_text(found.at)}; {shown}"))


@verb()
def access(
    namespace: str,
    value: str,
    path: Annotated[str, typer.Argument(help="A directory that is new or empty.")],
    data: Data = DATA,
    json: Json = False,
) -> None:
    """Write all that is held on the person with an identity into a directory."""
    with open_store(data) as store:
        done = store.access(namespace, value, path)
    if json:
        show.as_json(done)
        return
    who = f"{len(done.identities):,} identities, {done.bytes:,} bytes in {done.seconds:.1f} s"
    console.print(Text(one_line(f"{who}: {done.path}")), soft_wrap=True)
    console.print(show.table("", ("file", "objects"), list(done.files.items()), (1,)))
    for note in done.notes:
        console.print(Text(one_line(note)), soft_wrap=True)


@verb("dry-run")
def dry_run(file: Path, data: Data = DATA, json: Json = False) -> None:
    """Say what each definition of a FILE would change if it were applied; nothing is saved."""
    from profile_actors.definitions.declared import label_of
    from profile_actors.ingest.definition_files import definitions_of

    items = definitions_of(file)
    with open_store(data) as store:
        found = [(label_of(item), store.dry_run(item)) for item in items]
    if json:
        show.as_json({label: one for label, one in found})
        return
    for label, one in found:
        names = sorted({*one.entered, *one.left})
        rows: list[tuple[Any, ...]] = [
            (name, one.entered.get(name, 0), one.left.get(name, 0)) for name in names
        ]
        people = f"; people: {one.split:,} split, {one.joined:,} joined"
        console.print(Text(one_line(f"{label}: {one.profiles:,} profiles looked at{people}")))
        if rows:
            console.print(show.table("", ("segment", "enter", "leave"), rows))
        for name, count in sorted(one.values.items()):
            console.print(Text(one_line(f"computed attribute {name}: {count:,} other values")))


@verb("delete-profile")
def delete_profile(
    namespace: str,
    value: str,
    data: Data = DATA,
    json: Json = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask whether it is meant.")] = False,
) -> None:
    """Erase everything that is held on a person, in every file of the store."""
    with open_store(data) as store:
        if not yes:
            people = ", ".join(_text(one) for one in store.identity_graph(namespace, value).members)
            asked = f"erase everything of {people}? There is no way back"
            typer.confirm(one_line(asked), abort=True, err=True)
        found = store.delete_profile(namespace, value)
    if json:
        show.as_json(found)
        return
    people = ", ".join(map(_text, found.identities))
    console.print(
        Text(one_line(f"erased: {people}; {found.rows} log rows, {found.rejected} rejected"))
    )
    for file in found.files:
        console.print(Text(f"written anew: {file}"))
    for copy in found.edges:
        console.print(Text(f"still to be deleted by its edge: {copy}"))
    for one in found.backups:
        text = (
            f"still in backup {one.id} of {one.uri}: delete it with `profile-actors backup prune`"
        )
        console.print(Text(one_line(text)), soft_wrap=True)


def _text(one: Identity) -> str:
    return f"{one.namespace} {one.value}"


def _verdict(verdict: str, by: str) -> str:
    return f"{verdict} ({by})" if by else verdict
