"""L2, L3, L4, L6: pure state is a function of the rows, the definitions and now.

However the same rows are cut into sub-batches and entries, whichever datasets share an entry, in
whatever order they arrive and however many partitions share them: memberships, computed values (to
the last bit), valid_until and events are the same; and they are what a second fold and the
reference evaluator say.
"""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.model.hub import BASE, DAY, HOUR, Hub, Rows

PEOPLE = ("a", "b", "c", "d", "e")
# Sums of these show any order of addition, any rounding on the way, and any drift.
AWKWARD = (0.1, 0.2, -0.3, 1e16, 1.0, -1e16, 2.0**-60, 1e-300, -1e-300, 4503599627370497.5, 1e308)
END = BASE + 15 * DAY

Parcel = tuple[str, dict[str, Any]]  # dataset, row


def _event(who: str, at: int, name: int, kind: str, n: int | None, x: float | None) -> Parcel:
    # An ``_id`` names its row's content, so that it does not matter which twin comes first.
    return "hits", {
        "who": who,
        "at": at,
        "_id": f"{name}{kind}{n}{x}",
        "kind": kind,
        "n": n,
        "x": x,
    }


def _call(who: str, at: int, place: str, x: float) -> Parcel:
    return "calls", {"who": who, "at": at, "place": place, "x": x}


def _record(dataset: str, who: str, at: int, tier: str | None, score: int | None) -> Parcel:
    return dataset, {"who": who, "at": at, "tier": tier, "score": score}


who = st.sampled_from(PEOPLE)
at = st.integers(-20, 60).map(lambda n: BASE + n * 6 * HOUR)
doubles = st.sampled_from(AWKWARD)
parcel = st.one_of(
    st.builds(
        _event, who, at, st.integers(0, 1), st.sampled_from(("buy", "view")),
        st.none() | st.integers(-2, 3), st.none() | doubles,
    ),
    st.builds(_call, who, at, st.sampled_from(("oslo", "rome", "")), doubles),
    st.builds(
        _record, st.sampled_from(("crm", "web")), who, st.sampled_from((BASE, BASE + HOUR)),
        st.none() | st.sampled_from(("gold", "silver")), st.none() | st.integers(0, 3),
    ),
)  # fmt: skip
parcels = st.lists(parcel, min_size=1, max_size=40)


def groups_of(rows: list[Parcel], drops_due: list[int]) -> list[tuple[str, str, Rows]]:
    """One entry: the rows as sub-batches per dataset, cut again; each dataset its own producer."""
    out: list[tuple[str, str, Rows]] = []
    for dataset in sorted({dataset for dataset, _ in rows}):
        mine = [row for name, row in rows if name == dataset]
        bounds = [0, *sorted({c for c in drops_due if 0 < c < len(mine)}), len(mine)]
        for begin, end in pairwise(bounds):
            out.append((dataset, f"of {dataset}", mine[begin:end]))
    return out


def told(hub: Hub, rows: list[Parcel], entries: list[int], drops_due: list[int]) -> dict[str, Any]:
    """Pure state after the rows came in entries that end at these indexes; and a day on."""
    bounds = [0, *sorted({e for e in entries if 0 < e < len(rows)}), len(rows)]
    for begin, end in pairwise(bounds):
        part = rows[begin:end]
        hub.submit(groups_of(part, drops_due), max(row["at"] for _, row in part))
    for partition in hub.partitions:
        partition.advance(END)
    return {"now": hub.pure(PEOPLE), "later": hub.pure(PEOPLE, END + DAY)}


@settings(max_examples=25)
@given(parcels, st.lists(st.integers(1, 40)), st.lists(st.integers(1, 20), max_size=4))
def test_any_cut_comes_to_the_same_state(
    rows: list[Parcel], entries: list[int], drops_due: list[int]
) -> None:
    hub = Hub()
    one = told(hub, rows, [], [])
    assert hub.partitions[0].verify(len(PEOPLE)) == []
    assert told(Hub(), rows, list(range(len(rows))), []) == one
    assert told(Hub(), rows, entries, drops_due) == one


@settings(max_examples=20)
@given(parcels, st.randoms(use_true_random=False), st.lists(st.integers(1, 40)))
def test_arrival_order_and_partition_count_do_not_matter(
    rows: list[Parcel], random: Any, entries: list[int]
) -> None:
    one = told(Hub(), rows, [], [])
    shuffled = list(rows)
    random.shuffle(shuffled)
    assert told(Hub(), shuffled, entries, [3]) == one
    assert told(Hub(3), rows, entries, []) == one
    assert told(Hub(3), shuffled, [], [1, 2]) == one


@settings(max_examples=20)
@given(parcels, st.lists(st.integers(1, 40)), st.integers(0, 40), st.booleans())
def test_state_is_the_fold_of_the_log_at_every_position(
    rows: list[Parcel], entries: list[int], stop: int, with_checkpoint: bool
) -> None:
    """L2 with a restart: what is reopened in the middle goes on as if it had never stopped."""
    hub, other = Hub(), Hub()
    stop = min(stop, len(rows))
    for begin, end in ((0, stop), (stop, len(rows))):
        if begin < end:
            clock = max(row["at"] for _, row in rows[begin:end])
            other.submit(groups_of(rows[begin:end], entries), clock)
    if stop:
        hub.submit(groups_of(rows[:stop], entries), max(row["at"] for _, row in rows[:stop]))
    job = hub.partitions[0].checkpoint_job(force=True) if with_checkpoint else None
    if job is not None:
        job()
    hub.reopen()
    if stop < len(rows):
        hub.submit(groups_of(rows[stop:], entries), max(row["at"] for _, row in rows[stop:]))
    assert hub.pure(PEOPLE) == other.pure(PEOPLE)
    assert hub.stores[0][0].entries == other.stores[0][0].entries
    assert hub.stores[0][1].blocks == other.stores[0][1].blocks


few = st.sampled_from(PEOPLE[:2])
on_boundaries = st.builds(
    _call, few, st.integers(-3, 3).map(lambda n: BASE + n * DAY), st.just("oslo"), doubles
)


@settings(max_examples=20)
@given(st.lists(on_boundaries, min_size=1, max_size=8))
def test_members_are_who_their_own_look_up_says(rows: list[Parcel]) -> None:
    """L3 at the instants where windows end: stored levels against a look-up, after each entry."""
    hub = Hub()
    for dataset, row in rows:
        hub.submit([(dataset, "p", [row])], row["at"])
        hub.check_members(PEOPLE[:2])


records = st.builds(
    _record, st.sampled_from(("crm", "web")), few, st.sampled_from((BASE, BASE + HOUR)),
    st.sampled_from(("gold", "silver")), st.integers(0, 3),
)  # fmt: skip


@settings(max_examples=20)
@given(st.lists(records, min_size=2, max_size=8), st.randoms(use_true_random=False))
def test_records_of_equal_times_agree_in_any_order(rows: list[Parcel], random: Any) -> None:
    shuffled = list(rows)
    random.shuffle(shuffled)
    one = told(Hub(), rows, list(range(len(rows))), [])
    assert told(Hub(), rows[::-1], [2], []) == one
    assert told(Hub(3), shuffled, [], []) == one


def test_sums_are_exact_in_any_order_and_after_any_expiry() -> None:
    values = [x for x in AWKWARD if x < 1e300] * 3
    for order in (values, values[::-1], sorted(values), sorted(values, key=abs)):
        hub = Hub()
        for begin in range(0, len(order), 7):
            rows = [{"who": "a", "at": BASE, "x": x} for x in order[begin : begin + 7]]
            hub.submit([("calls", "c", rows)], BASE)
        old = [{"who": "a", "at": BASE - 3 * DAY, "x": x} for x in (1e16, 0.1, 1e-300)]
        hub.submit([("calls", "c", old)], BASE)
        (computed,) = [hub.pure(["a"])["a"][1]]
        assert computed["sum"][0] == repr(math.fsum([*values, 1e16, 0.1, 1e-300]))
        hub.partitions[0].advance(BASE + 5 * DAY)  # what was old leaves the week's window
        assert hub.pure(["a"])["a"][1]["week"][0] == repr(math.fsum(values))
