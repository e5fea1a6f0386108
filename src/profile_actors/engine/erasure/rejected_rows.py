"""Which rejected rows name a person.

Theory: what was rejected was not understood, so it is text. A row names a person where one of its
values is one of hers, whatever the case of its letters and the blanks around it; or where such a
value stands in its text as a word by itself, or in the name of its producer or file. Values of a
few characters are words of many texts: those count in the columns of identities alone.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import msgspec

from profile_actors.definitions.declared import Catalogue
from profile_actors.engine.identity.messages import Named
from profile_actors.errors import UNDECODED
from profile_actors.ingest.rejects import QuarantineRecord

SHORT_CHARS = 6
"""Values below are no proof wherever they stand."""


def naming(ones: Sequence[Named], catalogue: Catalogue) -> Callable[[str, QuarantineRecord], bool]:
    """Whether a rejected row of a dataset names one of these identities. Cost of a row: its text is
    searched once, and read once if it has a short value."""
    values = sorted({one.value.strip() for one in ones})
    short = {value.casefold() for value in values if len(value) < SHORT_CHARS}
    plain = [value for value in values if len(value) >= SHORT_CHARS]
    written = [msgspec.json.encode(value).decode()[1:-1] for value in plain]
    either = "|".join(re.escape(value) for value in sorted({*plain, *written}))
    words = re.compile(rf"(?<!\w)(?:{either})(?!\w)", re.IGNORECASE) if either else None

    def names(dataset: str, row: QuarantineRecord) -> bool:
        text = f"{row.source}\n{row.path}\n{row.raw}\n{row.reason}"
        if words is not None and words.search(text):
            return True
        return bool(short) and any(
            value in short for value in _identities_in(row.raw, dataset, catalogue)
        )

    return names


def _identities_in(raw: str, dataset: str, catalogue: Catalogue) -> Iterator[str]:
    """The values in the columns of identities, as they are compared; all of them where the text is
    no whole row."""
    declared = catalogue.datasets.get(dataset)
    try:
        row = msgspec.json.decode(raw)
    except UNDECODED:
        yield from (word.casefold() for word in re.findall(r"\w+", raw))
        return
    columns = set() if declared is None else {*declared.identities, declared.identity_map}
    if isinstance(row, dict):
        row = [value for column, value in row.items() if column in columns]
    yield from _leaves(row)


def _leaves(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, list):
        for item in value:
            yield from _leaves(item)
    elif value is not None:
        yield str(value).strip().casefold()
