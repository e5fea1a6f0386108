"""The demo's second part: one person, many identities, a tablet that changes hands; and an edge.

Theory: the shop has a web site and accounts by now. Somebody browses without a name; a login says
who it was; a tablet is used by two people; a link is taken back. After each step the store is asked
who the tablet's visits belong to: nothing is computed here. At last a page is viewed while an edge
has copies of profiles and somebody follows the changes: how soon both know of it is measured.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

from rich.console import Console

from profile_actors.cli import show
from profile_actors.client import Store
from profile_actors.definitions.declared import (
    ComputedAttribute,
    Dataset,
    Definition,
    EdgeDestination,
    Namespace,
    ProjectionConfiguration,
    Schema,
    SegmentDefinition,
)
from profile_actors.engine.edges.edge_rows import EdgeProfile
from profile_actors.engine.reading.answers import Change, Profile
from profile_actors.errors import ProfileActorsError, StoreUnavailable

END = "1998-06-30"
"""Where the clock stands after the first part."""


EDGE = "shop-window"


PATIENCE_S = 60.0


TABLET, ANN, BEN = ("Cookie", "tablet-7"), ("Account", "ann"), ("Account", "ben")


def definitions() -> list[Definition]:
    """Two data sets: visits of the web site, and what accounts say."""
    return [
        Namespace("Account", "cross_device", unique=True, priority=1),
        Namespace("Cookie", "cookie", priority=2),
        Schema("visit", "event", {"page": "string"}),
        Schema("account", "record", {"name": "string"}),
        Dataset(
            "web", "visit", {"account": "Account", "cookie": "Cookie"}, timestamp="at",
            event_type_field="kind",
        ),
        Dataset("accounts", "account", {"account": "Account"}, timestamp="since"),
        SegmentDefinition("browsers", 'xEvent[eventType = "view"].count() >= 3'),
        ComputedAttribute("views", 'xEvent[eventType = "view"].count()'),
    ]  # fmt: skip


def scenes(store: Store) -> Iterator[dict[str, Any]]:
    """Each step: what happened, and who the tablet's visits belong to then."""
    store.apply(*definitions())
    views = [
        {"cookie": TABLET[1], "at": f"1998-06-21 10:0{n}", "kind": "view", "page": page}
        for n, page in enumerate(("jazz", "jazz/coltrane", "basket"))
    ]
    store.submit("web", views)
    yield _scene(store, "21 June", "three pages are viewed on a tablet, by nobody known")
    store.submit("accounts", [{"account": ANN[1], "since": "1998-06-22", "name": "Ann"}])
    store.submit("web", [_login(ANN, "1998-06-22 18:00")])
    yield _scene(store, "22 June", "Ann logs in on it: it was her all along")
    store.submit("accounts", [{"account": BEN[1], "since": "1998-06-25", "name": "Ben"}])
    store.submit("web", [_login(BEN, "1998-06-25 09:00")])
    yield _scene(store, "25 June", "Ben logs in on it: the newest evidence counts")
    store.unlink(BEN, TABLET, "1998-06-25 09:00")
    yield _scene(store, "25 June", "unlink: that was a mistake, as if it had never been")


def live(store: Store, cursor: str) -> dict[str, Any]:
    """Ben views his third page; how many ms later the change is read by who follows, and the edge
    says so too. cursor: of the changes so far, or earlier."""
    store.apply(
        EdgeDestination(EDGE),
        ProjectionConfiguration("page", EDGE, segments=("browsers",), computed=("views",)),
    )
    edge = store.edge(EDGE)
    store.submit("web", [_view(BEN, f"1998-06-26 10:0{n}") for n in range(2)])
    edge.wait()
    past = store.changes(cursor)
    for _ in past:
        pass
    seen: queue.Queue[tuple[float, Change]] = queue.Queue()

    def follow() -> None:
        with suppress(ProfileActorsError):  # the store is closed
            for change in store.changes(past.cursor, follow=True):
                seen.put((time.perf_counter(), change))

    threading.Thread(target=follow, daemon=True).start()
    began = time.perf_counter()
    store.submit("web", [_view(BEN, "1998-06-26 10:02")])
    copied = _at_edge(store, began + PATIENCE_S)
    edge_s = time.perf_counter() - began
    while True:
        try:
            at, change = seen.get(timeout=PATIENCE_S)
        except queue.Empty:
            raise StoreUnavailable(
                "expected a change, got none - at changes(follow=True)"
            ) from None
        if change.name == "browsers":
            return {
                "change": change, "change_ms": round(1e3 * (at - began)),
                "edge": copied, "edge_ms": round(1e3 * edge_s),
            }  # fmt: skip


def _at_edge(store: Store, end_s: float) -> EdgeProfile:
    """Ben as the edge has him, once he browses there. Raises StoreUnavailable."""
    edge = store.edge(EDGE)
    while True:
        found = edge.profile(*BEN)
        if found is not None and _status(found) == "realized":
            return found
        if time.perf_counter() > end_s:
            raise StoreUnavailable(f"expected Ben to browse, got {found} - at edge {EDGE!r}")


def _view(who: tuple[str, str], at: str) -> dict[str, Any]:
    return {"account": who[1], "at": at, "kind": "view", "page": "jazz"}


def _login(who: tuple[str, str], at: str) -> dict[str, Any]:
    return {"account": who[1], "cookie": TABLET[1], "at": at, "kind": "login"}


def _scene(store: Store, day: str, what: str) -> dict[str, Any]:
    if store.clock == "event":
        store.advance_to(END)  # a barrier: what is on its way between partitions has arrived
    tablet, ann, ben = store.profiles([TABLET, ANN, BEN])
    return {"day": day, "what": what, "tablet": tablet, "ann": ann, "ben": ben}


def tell(store: Store, found: list[dict[str, Any]], console: Console) -> None:
    """Show the steps, and why the tablet belongs to whom at last."""
    columns = (
        "",
        "what happens",
        "the tablet's person",
        "views",
        "browsers",
        "Ann's views",
        "Ben's",
    )
    rows = [
        (
            scene["day"], scene["what"], _who(scene["tablet"]), _views(scene["tablet"]),
            _status(scene["tablet"]), _views(scene["ann"]), _views(scene["ben"]),
        )
        for scene in found
    ]  # fmt: skip
    console.print(show.table("one person, many identities", columns, rows, (3, 5, 6)))
    links = [
        (f"{link.one.value} - {link.other.value}", link.verdict)
        for link in store.identity_graph(*TABLET).links
    ]
    console.print(show.table("why: the tablet's links", ("link", "verdict"), links))
    console.print()


def tell_live(found: dict[str, Any], console: Console) -> None:
    """Show what was known when of the last page."""
    change, copied = found["change"], found["edge"]
    rows = [
        ("changes, followed", f"{change.identity.value}: {change.name} {change.new}"),
        (f"edge {EDGE}", f"{_who(copied)}: browsers {_status(copied)}, views {_views(copied)}"),
    ]
    cells = [
        (*row, ms) for row, ms in zip(rows, (found["change_ms"], found["edge_ms"]), strict=True)
    ]
    title = "live: Ben views his third page"
    console.print(show.table(title, ("where", "what is known", "ms later"), cells, (2,)))
    console.print()


def _who(profile: Profile | None) -> str:
    return "nobody" if profile is None else " + ".join(one.value for one in profile.identities)


def _views(profile: Profile | None) -> str:
    return "" if profile is None else str(profile.computed["views"])


def _status(profile: Profile | None) -> str:
    membership = None if profile is None else profile.segments.get("browsers")
    return "" if membership is None else membership.status
