"""Forgetting: texts and values that nothing holds any more, given back a constant time each.

Theory: operators, attribute columns and histories name distinct texts and values by dense numbers.
One that has left its window, or was overwritten, is still in the dictionary; so now and then the
numbers in use are marked and what is left gets new ones, in its old order, everywhere at once. That
costs a pass over what is held, and is done when as many numbers have been given since as that pass
can be charged to: the dictionaries hold at most about twice what is alive.

Everything is computed beside the state, in new arrays: readers go on with what they gathered. Only
the returned ``Swap`` must be called under the partition's lock.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from functools import partial

import numpy as np

from profile_actors.columnar.vectors import Array, Texts
from profile_actors.engine.histories.kept_events import EventHistory
from profile_actors.engine.membership.rulebook import Rulebook
from profile_actors.engine.operators.attribute_columns import Attribute
from profile_actors.engine.operators.distinct_values import Distinct
from profile_actors.engine.operators.event_streams import Stream

Swap = Callable[[], None]


def of_book(book: Rulebook, profiles: int) -> Iterator[Swap]:
    """What the parts of a rulebook that are sound may forget now. profiles: slots given so far."""
    streams = [stream for stream in book.streams if not stream.is_silent]
    histories = [h for events, h in book.histories.items() if events not in book.broken]

    def renamed(texts: Texts) -> None:
        book.texts = texts

    yield from of_parts(streams, book.attributes.values(), histories, profiles, renamed)


def of_parts(
    streams: Iterable[Stream],
    attributes: Iterable[Attribute],
    histories: Iterable[EventHistory],
    profiles: int,
    renamed: Callable[[Texts], None] = lambda _: None,
) -> Iterator[Swap]:
    """What these may forget now; each swap to be called before the next is asked for.

    histories: of one ``Texts``; renamed: told the one that takes its place. Cost: a comparison
    each, where there is nothing to forget yet.
    """
    for stream in streams:
        for op in stream.operators:
            if isinstance(op, Distinct) and stream.filter.window and op.may_forget():
                yield op.forget((stream.enter, stream.leave))
    for attribute in attributes:
        if attribute.may_forget(profiles):
            yield attribute.forget(profiles)
    kept = [history for history in histories if history.text_lanes]
    if kept and kept[0].texts.may_forget(sum(history.text_cells for history in kept)):
        yield _of_histories(kept, renamed)


def _of_histories(histories: list[EventHistory], renamed: Callable[[Texts], None]) -> Swap:
    texts = histories[0].texts
    live = np.zeros(len(texts), np.bool_)
    for history in histories:
        for codes in history.codes_in_use():
            live[codes] = True
    fewer, table = texts.restricted(live)
    swaps = [rename(history, fewer, table) for history in histories]

    def swap() -> None:
        for one in swaps:
            one()
        renamed(fewer)

    return swap


def rename(history: EventHistory, texts: Texts, table: Array) -> Swap:
    """A history's texts under other codes. table: int32, the new code of each old one."""
    return partial(history.take_texts, texts, history.text_lanes_under(table))
