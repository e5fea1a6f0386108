"""What the rows of an entry say about who belongs together, and by which rules it is judged.

Theory: a row that names several identities is a star: its smallest one belongs with each other
(``linking``). Of an entry each pair is told once, with its newest time; what repeats costs nothing
further. Namespaces of things and of partners name no people: their identities are left out. Rows of
look-up datasets are of things, and say nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from profile_actors.columnar.hash_table import KeyTable
from profile_actors.columnar.vectors import Array, one_array
from profile_actors.definitions.declared import NOT_PEOPLE, Catalogue
from profile_actors.definitions.placeholders import listed
from profile_actors.engine.identity.directory import Directory
from profile_actors.engine.identity.linking import UNNUMBERED, Limits
from profile_actors.engine.identity.messages import LINK, Named, Op
from profile_actors.engine.log.entry import Block
from profile_actors.ingest.further_identities import keyed
from profile_actors.ingest.hidden_columns import OTHERS


def can_link(catalogue: Catalogue) -> bool:
    """Whether rows may name several identities, by these definitions."""
    return any(
        dataset.identity_map is not None or len(dataset.identities) > 1
        for dataset in catalogue.datasets.values()
    )


def limits_of(catalogue: Catalogue) -> Limits:
    """When links may not be followed, by these definitions."""
    rules = catalogue.linking
    unique = frozenset(code for code, space in catalogue.namespaces.items() if space.unique)
    return Limits(unique, rules.max_size, rules.max_people)


def listed_of(catalogue: Catalogue) -> frozenset[str]:
    """The placeholders in force, as ``is_placeholder`` compares."""
    return listed(catalogue.linking.placeholders)


def priority_of(catalogue: Catalogue, code: str) -> int:
    """Of a namespace's identities, as links order them."""
    space = catalogue.namespaces.get(code)
    return UNNUMBERED if space is None or space.priority is None else space.priority


def evidence_of(
    blocks: Sequence[Block], directory: Directory, catalogue: Catalogue, seed: int
) -> list[Op]:
    """The LINK operations of an entry's own rows: each pair once, with its newest time.

    blocks: with idents of ``directory``. seed: the store's, for rows that were logged before
    further identities had keys. Cost: nothing without @others; array passes over the rows that have
    some, and some 2 us a different pair.
    """
    found: list[_Items] = []
    first = 0
    for block in blocks:
        if OTHERS in block.table.column_names and _is_of_people(block.dataset, catalogue):
            found.append(_items_of(block, first, directory, catalogue, seed))
        first += block.rows
    if not found:
        return []
    k0, k1, times = (
        np.concatenate([getattr(one, name) for one in found]) for name in ("k0", "k1", "times")
    )
    hub, other = _stars(found, k0, k1)
    # Each pair once, where its time is the newest.
    numbers = KeyTable().number(k0, k1)[0].astype(np.int64)
    pairs = numbers[hub] * len(numbers) + numbers[other]
    by_time = np.lexsort((times[other], pairs))
    newest = by_time[np.diff(pairs[by_time], append=-1) != 0]
    hub, other = hub[newest], other[newest]
    codes = [code for one in found for code in one.codes]
    values = [value for one in found for value in one.values]
    ends = np.concatenate((hub, other))
    named = [
        Named(high, low, codes[at], values[at])
        for at, high, low in zip(ends.tolist(), k0[ends].tolist(), k1[ends].tolist(), strict=True)
    ]
    return [
        Op(LINK, one, second, version=at)
        for one, second, at in zip(
            named[: len(hub)], named[len(hub) :], times[other].tolist(), strict=True
        )
        if one != second
    ]


@dataclass(frozen=True, slots=True)
class _Items:
    """The identities of those rows of a block that name several. rows: int64[n], the number of
    their row in the entry; k0, k1: uint64[n]; times: int64[n] ms; ranks: int64[n], priorities."""

    rows: Array
    k0: Array
    k1: Array
    times: Array
    ranks: Array
    codes: list[str]
    values: list[str]


def _stars(found: Sequence[_Items], k0: Array, k1: Array) -> tuple[Array, Array]:
    """Of each row its smallest identity with each other one, as places among all items."""
    rows = np.concatenate([one.rows for one in found])
    ranks = np.concatenate([one.ranks for one in found])
    order = np.lexsort((k1, k0, ranks, rows))
    is_hub = np.diff(rows[order], prepend=-1) != 0
    hubs = order[np.maximum.accumulate(np.where(is_hub, np.arange(len(order)), 0))]
    return hubs[~is_hub], order[~is_hub]


def _is_of_people(dataset: str, catalogue: Catalogue) -> bool:
    return catalogue.schemas[catalogue.datasets[dataset].schema].behavior != "lookup"


def _items_of(
    block: Block, first: int, directory: Directory, catalogue: Catalogue, seed: int
) -> _Items:
    """first: the number of the block's first row in the entry."""
    lists = keyed(one_array(block.table.column(OTHERS)), catalogue.namespaces, seed)
    sizes = lists.value_lengths().fill_null(0).to_numpy()
    further = lists.flatten()
    several = np.flatnonzero(sizes)
    idents = block.idents[several]
    own = directory.keys_of(idents)
    codes, values = directory.identities(idents)
    codes += further.field("namespace").to_pylist()
    values += further.field("value").to_pylist()
    rank = {code: priority_of(catalogue, code) for code in set(codes)}
    nobody = {code for code in rank if _names_nobody(catalogue, code)}
    kept = np.array([code not in nobody for code in codes], bool)
    if nobody:
        values = [value for value, is_kept in zip(values, kept, strict=True) if is_kept]
        codes = [code for code in codes if code not in nobody]
    rows = np.concatenate((several, np.repeat(np.arange(len(sizes)), sizes)))[kept]
    return _Items(
        first + rows,
        np.concatenate((own[:, 0], further.field("k0").to_numpy()))[kept],
        np.concatenate((own[:, 1], further.field("k1").to_numpy()))[kept],
        block.timestamps[rows],
        np.array([rank[code] for code in codes], np.int64),
        codes,
        values,
    )


def _names_nobody(catalogue: Catalogue, code: str) -> bool:
    space = catalogue.namespaces.get(code)
    return space is not None and space.kind in NOT_PEOPLE
