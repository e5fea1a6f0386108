"""Values that stand where an identity should: they name nobody, and link nobody.

Theory: "null", zeros or test@test.com is in every real feed. Taken for an identity it joins
thousands of strangers. What counts as one is a list that a definition can replace
(``LinkingRules``); an entry is compared without blanks around it and without regard to case:

    text        that very text; the empty text is the empty value
    0           zeros, however many and however grouped (``0000-0000``)
    @domain     every e-mail address of the domain
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable

PLACEHOLDERS = (
    *(
        "",
        "null",
        "none",
        "nil",
        "nan",
        "n/a",
        "undefined",
        "unknown",
        "anonymous",
        "[object object]",
    ),
    *("0", "test", "test@test.com", "@example.com", "@example.org", "@example.net"),
)
"""What links nobody unless a definition says otherwise. example.*: reserved by RFC 2606."""


OTHERS_TOLD = "…"
"""Under what a receipt counts placeholders that it does not count one by one."""


_ZEROS = re.compile(r"[\s.:_-]*0[0\s.:_-]*\Z")


def listed(placeholders: Iterable[str]) -> frozenset[str]:
    """The entries of a list as they are compared."""
    return frozenset(text.strip().lower() for text in placeholders)


def is_placeholder(value: str, known: Collection[str] = PLACEHOLDERS) -> bool:
    """Whether a value names nobody. known: entries as ``listed`` gives them."""
    text = value.strip().lower()
    if text in known or ("0" in text and "0" in known and _ZEROS.match(text)):
        return True
    return "@" in text and text[text.rindex("@") :] in known
