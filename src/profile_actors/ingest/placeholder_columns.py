"""Placeholders in columns of identities: found at the door, passed over like null, and counted.

Theory: ``definitions.placeholders`` says what one is; here whole columns are asked. A column of
ASCII is asked by kernels, with the same answer, any other text by text.

Which datasets are asked: those that can name two identities in a row, since a placeholder harms by
linking; and all once the store has linking rules of its own, since its user has said then what
names nobody. Until then the rows of a dataset with one identity column stay as they are: an id "0"
may be right there, it links nobody, and a row would be lost. Rows of lookup datasets, and
identities of namespaces that name no people, are never asked.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from profile_actors.definitions.declared import NOT_PEOPLE, Catalogue, Dataset, Namespace
from profile_actors.definitions.placeholders import OTHERS_TOLD, is_placeholder, listed
from profile_actors.ingest.typing.cells import is_ascii, text_ends

MOST_TOLD = 100
"""Different placeholders that a receipt counts one by one."""


_BLANKS = "\t\n\v\f\r\x1c\x1d\x1e\x1f "  # what Python's strip takes off ASCII


_ROUND_ZEROS = _BLANKS + ".:_-"


_MOST_SUFFIXES = 8  # beyond, the domain is cut out of each text instead


@dataclass(frozen=True, slots=True)
class PassedOver:
    """Placeholders in rows. rows: int64[k], ascending, numbered as the door's caller says; values:
    string[k], as their namespace keeps them."""

    rows: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int64))
    # Not ``pa.array``, which looks for pandas: 0.4 s where that is installed.
    values: pa.Array = field(default_factory=lambda: pa.nulls(0, pa.string()))

    def counts(self, low: int | None = None, high: int | None = None) -> dict[str, int]:
        """Value to how often it stood in rows low:high, as receipts tell it."""
        places = (None if end is None else np.searchsorted(self.rows, end) for end in (low, high))
        found = self.values[slice(*places)].value_counts()
        texts, counts = found.field(0).to_pylist(), found.field(1).to_pylist()
        return bounded(dict(zip(texts, counts, strict=True)))


NONE_PASSED = PassedOver()


def joined(parts: Sequence[PassedOver]) -> PassedOver:
    """Those of several columns together."""
    some = [part for part in parts if len(part.rows)]
    if len(some) < 2:
        return some[0] if some else NONE_PASSED
    rows = np.concatenate([part.rows for part in some])
    order = np.argsort(rows, kind="stable")
    values = pa.concat_arrays([part.values for part in some])
    return PassedOver(rows[order], values.take(pa.array(order)))


def bounded(counts: dict[str, int]) -> dict[str, int]:
    """The most frequent first; beyond MOST_TOLD all others together."""
    own = sorted(
        ((text, n) for text, n in counts.items() if text != OTHERS_TOLD),
        key=lambda pair: (-pair[1], pair[0]),
    )
    rest = counts.get(OTHERS_TOLD, 0) + sum(n for _, n in own[MOST_TOLD:])
    return dict(own[:MOST_TOLD]) | ({OTHERS_TOLD: rest} if rest else {})


def added(all_counts: Iterable[dict[str, int]]) -> dict[str, int]:
    """Several receipts' counts together."""
    total: Counter[str] = Counter()
    for counts in all_counts:
        total.update(counts)
    return bounded(total) if total else {}


def _table_of(characters: str) -> np.ndarray:
    """bool[128]: which characters of ASCII these are, in either case."""
    table = np.zeros(128, bool)
    table[[ord(c) for c in characters.lower() + characters.upper() if c.isascii()]] = True
    return table


_BLANK = _table_of(_BLANKS)


class PlaceholderTest:
    """Which texts name nobody. placeholders: as ``LinkingRules`` has them."""

    def __init__(self, placeholders: Collection[str]) -> None:
        self._known = listed(placeholders)
        self._texts = pa.array(sorted(self._known), pa.string())
        self._zeros = "0" in self._known
        domains = sorted(t for t in self._known if t.rfind("@") == 0)
        self._domains = pa.array(domains, pa.string())
        zeros = "0" + _ROUND_ZEROS if self._zeros else ""
        self._firsts = _table_of(_BLANKS + zeros + "".join(text[:1] for text in self._known))
        self._domain_sizes = sorted({len(text) for text in domains if text.isascii()})

    def is_one(self, text: str) -> bool:
        """Of one text."""
        return is_placeholder(text, self._known)

    def rows_of(self, values: pa.Array) -> np.ndarray:
        """int64[k]: the rows of a string column with one, ascending; null is none.

        Cost: 20 ns a row of ASCII, 80 ns one that begins like a placeholder; 1 us otherwise.
        """
        if not is_ascii(values):
            coded = values.dictionary_encode()
            nobody = np.array([self.is_one(text) for text in coded.dictionary.to_pylist()], bool)
            codes = coded.indices.fill_null(len(nobody)).to_numpy(zero_copy_only=False)
            return np.flatnonzero(np.append(nobody, False)[codes])
        suspects = np.flatnonzero(self._may_be(values))
        rows: np.ndarray = suspects[self._are(values.take(pa.array(suspects)))]
        return rows

    def _may_be(self, values: pa.Array) -> np.ndarray:
        """bool[n]: whether a text of ASCII begins as one might, or has its '@' where one has."""
        ends = text_ends(values)
        if ends[0] == ends[-1]:
            return np.ones(len(values), bool)
        data = np.frombuffer(values.buffers()[2], np.uint8)
        starts, stops = ends[:-1], ends[1:]
        found: np.ndarray = self._firsts[data[np.minimum(starts, ends[-1] - 1)]]
        found |= starts == stops
        for size in self._domain_sizes:
            found |= data[np.maximum(stops - size, 0)] == ord("@")
        if self._domain_sizes:
            found |= _BLANK[data[np.maximum(stops - 1, 0)]]
        return found

    def _are(self, values: pa.Array) -> np.ndarray:
        """bool[n], of texts of ASCII."""
        texts = pc.ascii_lower(pc.ascii_trim(values, _BLANKS))
        found = pc.is_in(texts, value_set=self._texts)
        if self._zeros:
            bare = pc.equal(pc.binary_length(pc.ascii_trim(texts, "0" + _ROUND_ZEROS)), 0)
            if pc.any(bare).as_py():  # a dash is none
                found = pc.or_(found, pc.and_(bare, pc.match_substring(texts, "0")))
        if len(self._domains):
            found = pc.or_(found, self._in_domains(texts))
        return np.asarray(found.fill_null(False).to_numpy(zero_copy_only=False))

    def _in_domains(self, texts: pa.Array) -> pa.Array:
        if len(self._domains) > _MOST_SUFFIXES:
            ends = pc.replace_substring_regex(texts, "(?s)^.*@", "@")
            return pc.is_in(ends, value_set=self._domains)
        first, *others = (pc.ends_with(texts, end) for end in self._domains.to_pylist())
        for other in others:
            first = pc.or_(first, other)
        return first


def placeholders_of(catalogue: Catalogue, dataset: Dataset) -> PlaceholderTest | None:
    """How to find placeholders in a dataset's rows; None where they are taken as they are."""
    if catalogue.schemas[dataset.schema].behavior == "lookup":
        return None
    is_linking = len(dataset.identities) > 1 or dataset.identity_map is not None
    known = catalogue.linking.placeholders
    return PlaceholderTest(known) if known and (is_linking or catalogue.linking_rules) else None


def may_name_nobody(namespace: Namespace) -> bool:
    """Whether placeholders are looked for among a namespace's identities."""
    return namespace.kind not in NOT_PEOPLE
