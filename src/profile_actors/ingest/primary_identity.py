"""Which of a row's identities is its primary one: the one that decides where the row is kept.

Theory (DESIGN section 7.3): the dataset's ``primary`` column if it has a value; else for events the
smallest by (namespace priority, key) among those present, since a login must not travel with a
shared tablet (an identity map's mark does not count for them: web SDKs mark the device); for
records the one that an identity map marks primary, else the first declared, the columns before the
map. A key decides only between events' identities of one priority.
The others are kept beside it: they are evidence that all of them are one subject.
All of it is a pure function of the row and the definitions. Absent (null) identities are passed
over, and so are placeholders where they are looked for (``placeholder_columns``); an empty or
over-long one refuses the row: the source is wrong about who this is.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from profile_actors.definitions.declared import Catalogue, Dataset, Namespace
from profile_actors.errors import UNDECODED
from profile_actors.ingest.further_identities import Named, lists_of, named_lists
from profile_actors.ingest.identity_keys import KeyMaker, key_of, normalised
from profile_actors.ingest.placeholder_columns import (
    NONE_PASSED,
    PassedOver,
    joined,
    may_name_nobody,
    placeholders_of,
)
from profile_actors.ingest.rejects import full_json
from profile_actors.ingest.typing.cells import byte_sizes, python_cells
from profile_actors.ingest.typing.verdicts import shown

_UNNUMBERED = 1 << 31  # the rank of a namespace without a priority: after all numbered ones


# Added to ranks: what is behind the declared primary column, and what is behind marked ones too.
_MARKED, _PLAIN = 1 << 32, 2 << 32


Refusals = dict[int, tuple[str, str]]


@dataclass(frozen=True, slots=True)
class Chosen:
    """Primary identities of n rows. k0, k1: uint64[n]; values: string; codes: dictionary<int16>.

    Rows without an identity have nulls and zeros, and are among the refused ones. others: each
    row's further identities, each once (type OTHERS), null where it has none; None if no row has.
    passed: the placeholders among them.
    """

    k0: np.ndarray
    k1: np.ndarray
    values: pa.Array
    codes: pa.DictionaryArray
    others: pa.Array | None
    passed: PassedOver


@dataclass(frozen=True, slots=True)
class _Candidate:
    """One source of identities for n rows; rank and code per row or for all. more: of a map, all
    that each row names. passed: placeholders that stood there, which are not present."""

    k0: np.ndarray
    k1: np.ndarray
    values: pa.Array
    present: np.ndarray
    rank: np.ndarray | int
    code: np.ndarray | int
    more: Sequence[Sequence[Named]] | None = None
    passed: PassedOver = NONE_PASSED


class Identities:
    """A dataset's identity columns, compiled. max_chars: of a normalised value."""

    def __init__(self, catalogue: Catalogue, dataset: Dataset, seed: int, max_chars: int) -> None:
        self._is_event = catalogue.schemas[dataset.schema].behavior == "event"
        self._dataset = dataset
        self._seed = seed
        self._max_chars = max_chars
        self._namespaces = catalogue.namespaces
        self._placeholders = placeholders_of(catalogue, dataset)
        mapped = list(catalogue.namespaces) if dataset.identity_map else []
        self._codes = list(dict.fromkeys([*dataset.identities.values(), *mapped]))
        self._names = pa.array(self._codes, pa.string())
        self._makers = {
            path: KeyMaker(catalogue.namespaces[code], seed)
            for path, code in dataset.identities.items()
        }

    def choose(self, columns: Mapping[str, pa.Array], refused: Refusals) -> Chosen:
        """Pick each row's primary identity. columns: identity column to strings; the identity map's
        to JSON texts. What is wrong goes to refused.

        Cost: 90 ns a row and identity column; about 5 us a row for an identity map.
        """
        candidates = [
            self._candidate(position, path, columns[path], refused)
            for position, path in enumerate(self._dataset.identities)
        ]
        if self._dataset.identity_map is not None:
            path = self._dataset.identity_map
            candidates.append(self._of_map(path, columns[path], refused))
        best = candidates[0] if len(candidates) == 1 else _smallest(candidates)
        if not best.present.all():
            self._refuse(np.flatnonzero(~best.present), candidates, refused)
        code = np.empty(len(best.k0), np.int16)
        code[:] = best.code
        codes = pa.DictionaryArray.from_arrays(pa.array(code), self._names)
        others = None
        if len(candidates) > 1 or self._dataset.identity_map is not None:
            others = self._others(candidates, best)
        passed = joined([candidate.passed for candidate in candidates])
        return Chosen(best.k0, best.k1, best.values, codes, others, passed)

    def _refuse(
        self, rows: np.ndarray, candidates: Sequence[_Candidate], refused: Refusals
    ) -> None:
        """Rows without an identity."""
        paths = [*self._dataset.identities, *filter(None, [self._dataset.identity_map])]
        stood: dict[int, tuple[str, str]] = {}
        for path, candidate in zip(paths, candidates, strict=True):
            passed = candidate.passed
            mine = np.flatnonzero(np.isin(passed.rows, rows))
            texts = passed.values.take(pa.array(mine)).to_pylist()
            for row, text in zip(passed.rows[mine].tolist(), texts, strict=True):
                stood.setdefault(row, (path, text))
        for row in rows.tolist():
            if row in stood:
                path, text = stood[row]
                reason = (
                    f"expected an identity, got {shown(text)}, which names nobody (a placeholder of"
                    " the linking rules)"
                )
                refused.setdefault(row, (path, reason))
            else:
                refused.setdefault(row, (paths[0], "expected an identity, got none"))

    def _others(self, candidates: Sequence[_Candidate], best: _Candidate) -> pa.Array | None:
        """What each row names besides its primary identity, in declared order, each once.

        Cost: a few kernels per pair of columns; a Python loop over the rows of an identity map.
        """
        columns = [c for c in candidates if c.more is None]
        further = np.zeros((len(best.k0), len(columns)), bool)
        for i, one in enumerate(columns):
            known = _same(one, best)
            for before in columns[:i]:
                known |= before.present & _same(one, before)
            further[:, i] = one.present & ~known
        rows, which = np.nonzero(further)
        names = [self._codes[int(c.code)] for c in columns]
        if len(columns) == len(candidates):
            keys = [(c.k0, c.k1) for c in columns]
            return lists_of(rows, which, names, [c.values for c in columns], keys)
        texts = [c.values.to_pylist() for c in columns]
        found: list[list[Named]] = []
        primary = zip(
            np.broadcast_to(best.code, len(best.k0)), best.values.to_pylist(), strict=True
        )
        for row, (code, value) in enumerate(primary):
            named = [
                (names[i], texts[i][row], int(columns[i].k0[row]), int(columns[i].k1[row]))
                for i in np.flatnonzero(further[row])
            ]
            named += (candidates[-1].more or ())[row]
            own = (self._codes[int(code)], value)
            found.append(list(dict.fromkeys(one for one in named if one[:2] != own)))
        return named_lists(found)

    def _candidate(
        self, position: int, path: str, cells: pa.Array, refused: Refusals
    ) -> _Candidate:
        maker = self._makers[path]
        values = maker.normalise(cells)
        passed = NONE_PASSED
        if self._placeholders is not None and may_name_nobody(maker.namespace):
            rows = self._placeholders.rows_of(values)
            if len(rows):
                passed = PassedOver(rows, values.take(pa.array(rows)))
                is_left = np.ones(len(values), bool)
                is_left[rows] = False
                values = pc.if_else(pa.array(is_left), values, pa.scalar(None, pa.string()))
        sizes = byte_sizes(values)  # as many as characters, or more
        if len(sizes) and (sizes.min() < 1 or sizes.max() > self._max_chars):
            for row, size in enumerate(pc.utf8_length(values).to_pylist()):
                if size is not None and not 1 <= size <= self._max_chars:
                    refused.setdefault(row, (path, self._size_problem(maker.namespace, size)))
        rank = self._rank(maker.namespace) if self._is_event else position
        if path != self._dataset.primary:
            rank += _PLAIN
        k0, k1 = maker.keys(values)
        present = (
            pc.is_valid(values).to_numpy(zero_copy_only=False)
            if values.null_count
            else np.ones(len(values), bool)
        )
        code = self._codes.index(maker.namespace.code)
        return _Candidate(k0, k1, values, present, rank, code, passed=passed)

    def _rank(self, namespace: Namespace) -> int:
        return _UNNUMBERED if namespace.priority is None else namespace.priority

    def _size_problem(self, namespace: Namespace, size: int) -> str:
        return (
            f"expected an identity of 1 to {self._max_chars} characters in namespace"
            f" {namespace.code!r}, got {size}"
        )

    def _of_map(self, path: str, cells: pa.Array, refused: Refusals) -> _Candidate:
        """The best identity of each row's map: {namespace: [{"id": value, "primary": bool}, …]}."""
        n = len(cells)
        keys = np.zeros((n, 2), np.uint64)
        present, codes = np.zeros(n, bool), np.zeros(n, np.int16)
        ranks = np.zeros(n, np.int64)
        values: list[str | None] = [None] * n
        more: list[Sequence[Named]] = [()] * n
        nobody: list[tuple[int, str]] = []
        for row, cell in enumerate(cells.to_pylist()):
            try:
                found, texts = ([], []) if cell is None else self._all_of(msgspec.json.decode(cell))
            except (ValueError, *UNDECODED) as error:
                refused.setdefault(row, (path, str(error)))
                continue
            nobody += [(row, text) for text in texts]
            if found:
                ranks[row], keys[row], values[row], codes[row] = min(found)
                present[row] = True
                more[row] = [(self._codes[code], text, *key) for _, key, text, code in found]
        k0, k1 = np.ascontiguousarray(keys[:, 0]), np.ascontiguousarray(keys[:, 1])
        passed = PassedOver(
            np.array([row for row, _ in nobody], np.int64),
            pa.array([text for _, text in nobody], pa.string()),
        )
        texts = pa.array(values, pa.string())
        return _Candidate(k0, k1, texts, present, ranks, codes, more, passed)

    def _all_of(
        self, identity_map: Any
    ) -> tuple[list[tuple[int, tuple[int, int], str, int]], list[str]]:
        """(rank, key, value, code) of every identity, the smallest is the map's best; and the
        placeholders. Raises ValueError with the reason."""
        form = 'expected {namespace: [{"id": text, "primary": boolean}]}'
        if not isinstance(identity_map, dict):
            raise ValueError(f"{form}, got {shown(identity_map)}")
        found: list[tuple[int, tuple[int, int], str, int]] = []
        passed: list[str] = []
        for code, items in identity_map.items():
            if items is None:
                continue
            if code not in self._namespaces:
                raise ValueError(f"expected a defined namespace, got {shown(code)}")
            for item in items if isinstance(items, list) else [items]:
                value = item.get("id") if isinstance(item, dict) else None
                if not isinstance(value, str):
                    raise ValueError(f"{form}, got {shown(item)}")
                text = normalised(self._namespaces[code], value)
                if self._is_placeholder(code, text):
                    passed.append(text)
                    continue
                if not 1 <= len(text) <= self._max_chars:
                    raise ValueError(self._size_problem(self._namespaces[code], len(text)))
                place = len(self._dataset.identities) + len(found)
                rank = self._rank(self._namespaces[code]) if self._is_event else place
                is_marked = item.get("primary") is True and not self._is_event
                rank += _MARKED if is_marked else _PLAIN
                key = key_of(self._namespaces[code], value, self._seed)
                found.append((rank, key, text, self._codes.index(code)))
        return found, passed

    def _is_placeholder(self, code: str, text: str) -> bool:
        known = self._placeholders
        return known is not None and may_name_nobody(self._namespaces[code]) and known.is_one(text)


def map_texts(cells: pa.Array | Sequence[Any] | None, n: int) -> pa.Array:
    """Identity maps as JSON texts, null where absent. A namespace whose value is null is not there:
    a column of structs has every namespace in every row."""
    if cells is None:
        return pa.nulls(n, pa.string())
    found = python_cells(cells) if isinstance(cells, pa.Array) else cells
    is_map = isinstance(cells, pa.Array) and pa.types.is_map(cells.type)
    texts = [c if c is None or isinstance(c, str) else _map_text(c, is_map) for c in found]
    return pa.array(texts, pa.string())


def _map_text(cell: Any, is_pairs: bool) -> str:
    """An identity map as JSON; of what has no JSON, a text that is no map."""
    try:
        return full_json(dict(cell) if is_pairs else cell)
    except (TypeError, ValueError, OverflowError, RecursionError):
        return full_json(shown(cell))


def _same(one: _Candidate, other: _Candidate) -> np.ndarray:
    """Rows in which two candidates name the same identity."""
    return np.asarray((one.k0 == other.k0) & (one.k1 == other.k1) & (one.code == other.code))


def _smallest(candidates: Sequence[_Candidate]) -> _Candidate:
    """Row by row the candidate that is present and has the smallest (rank, key)."""
    n = len(candidates[0].k0)
    k0, k1, rank = (np.zeros(n, kind) for kind in (np.uint64, np.uint64, np.int64))
    code, present, which = np.zeros(n, np.int16), np.zeros(n, bool), np.zeros(n, np.int64)
    for place, other in enumerate(candidates):
        other_rank = np.broadcast_to(np.asarray(other.rank, np.int64), n)
        other_code = np.broadcast_to(np.asarray(other.code, np.int16), n)
        key_less = (other.k0 < k0) | ((other.k0 == k0) & (other.k1 < k1))
        better = (other_rank < rank) | ((other_rank == rank) & key_less) | ~present
        better &= other.present
        for target, source in ((k0, other.k0), (k1, other.k1), (rank, other_rank)):
            target[better] = source[better]
        code[better], which[better] = other_code[better], place
        present |= better
    values = pc.choose(pa.array(which), *(candidate.values for candidate in candidates))
    return _Candidate(k0, k1, values, present, rank, code)
