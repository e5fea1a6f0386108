"""An identity as users see it: a namespace and a value."""

from __future__ import annotations

import msgspec


class Identity(msgspec.Struct, frozen=True, order=True, gc=False):
    """A namespace code and a normalised value."""

    namespace: str
    value: str
