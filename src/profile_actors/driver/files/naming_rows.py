"""Which rejected rows name a person: a row that was not accepted has no columns, but a text.

Theory: who a row is of is said by the columns that its dataset takes identities from; a row that
names others there, and none of hers, is theirs, whatever else is in it. In a row that names nobody
there each value counts: that the name of a column is wrong is why rows are rejected. Values are
compared whole, as the identity's namespace keeps them: nobody is named by a part of her value, nor
by a longer one that contains it. A line of a CSV file is its cells; of a JSON text that was cut,
what is not inside a longer word, number or address.

Limits: the quarantine keeps the first ``MAX_RAW_CHARS`` characters of a row, and of a CSV line not
which column is which: a cell of somebody else's line that equals her value counts for hers.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import msgspec

from profile_actors.definitions.declared import Dataset, Namespace
from profile_actors.engine.identity.identity import Identity
from profile_actors.errors import UNDECODED
from profile_actors.ingest.identity_keys import normalised
from profile_actors.ingest.rejects import QuarantineRecord

_INSIDE = r"[\w@.+\-]"
"""What a word, a number or an address goes on with."""


_DELIMITERS = ",;\t|"


def names_one_of(
    identities: Iterable[Identity], dataset: Dataset, namespaces: dict[str, Namespace]
) -> Callable[[QuarantineRecord], bool]:
    """Whether a rejected row of a dataset names one of these identities, as a function of its
    record. Cost: some 10 us a row."""
    return _Names(identities, dataset, namespaces).names


class _Names:
    """The identities that are looked for."""

    def __init__(
        self, identities: Iterable[Identity], dataset: Dataset, namespaces: dict[str, Namespace]
    ) -> None:
        self._dataset = dataset
        self._spaces = namespaces
        self._known: dict[str, set[str]] = {}
        for one in identities:
            if one.namespace in namespaces:
                self._known.setdefault(one.namespace, set()).add(one.value)
        self._alone = [
            _alone(value, "lower" in namespaces[code].steps)
            for code, values in self._known.items()
            for value in values
        ]

    def names(self, record: QuarantineRecord) -> bool:
        """Whether the row names one of them."""
        raw = record.raw
        try:
            row = msgspec.json.decode(raw)
        except UNDECODED:
            if raw.lstrip()[:1] in ("{", "["):
                return any(one.search(raw) for one in self._alone)
            return any(self._is_hers(text) for text in _cells(raw))
        said = list(self._said(row)) if isinstance(row, dict) else []
        if said:
            return any(self._is(code, text) for code, text in said)
        return any(self._is_hers(text) for text in _texts(row))

    def _said(self, row: dict[str, Any]) -> Iterator[tuple[str, str]]:
        """Namespace and value of whom the row names where its dataset says that it does."""
        for path, code in self._dataset.identities.items():
            yield from ((code, text) for text in _texts(_at(row, path)) if text)
        if self._dataset.identity_map is not None:
            named = _at(row, self._dataset.identity_map)
            for code, items in named.items() if isinstance(named, dict) else ():
                for item in items if isinstance(items, list) else [items]:
                    value = item.get("id") if isinstance(item, dict) else item
                    yield from ((code, text) for text in _texts(value) if text)

    def _is(self, code: str, text: str) -> bool:
        values = self._known.get(code)
        return values is not None and normalised(self._spaces[code], text) in values

    def _is_hers(self, text: str) -> bool:
        return any(self._is(code, text) for code in self._known)


def _alone(value: str, is_lower: bool) -> re.Pattern[str]:
    escaped = msgspec.json.encode(value).decode()[1:-1]  # as it stands in a JSON text that was cut
    either = "|".join(map(re.escape, dict.fromkeys((value, escaped))))
    flags = re.IGNORECASE if is_lower else re.NOFLAG
    return re.compile(rf"(?<!{_INSIDE})(?:{either})(?!{_INSIDE})", flags)


def _cells(line: str) -> Iterator[str]:
    """The cells of a line, by each delimiter that it has."""
    for delimiter in _DELIMITERS:
        if delimiter in line:
            try:
                yield from (cell for row in csv.reader([line], delimiter=delimiter) for cell in row)
            except csv.Error:  # a line that is broken, too
                yield from line.split(delimiter)
    yield line.strip()


def _at(row: dict[str, Any], path: str) -> Any:
    """What a row has under a path, written out or nested; None if nothing."""
    if path in row:
        return row[path]
    found: Any = row
    for name in path.split("."):
        found = found.get(name) if isinstance(found, dict) else None
    return found


def _texts(value: Any) -> Iterator[str]:
    """All values of a JSON document as texts, keys of maps too."""
    pending = [value]
    while pending:
        one = pending.pop()
        if isinstance(one, dict):
            pending += [*one, *one.values()]
        elif isinstance(one, list):
            pending += one
        elif one is not None:
            yield one if isinstance(one, str) else str(one)
