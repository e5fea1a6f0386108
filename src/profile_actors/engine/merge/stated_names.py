"""What record rows state, as numbers: leaves of datasets, keys of maps, what is appended."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import msgspec
import numpy as np

from profile_actors.columnar.vectors import Array

Code = tuple[int, str, str | None]
"""(dataset, path, key of the map; None: appended to the array)."""


_NAMES = msgspec.json.Decoder(tuple[list[str], list[list[str]], list[Code], list[tuple[int, ...]]])


@dataclass(slots=True)
class Names:
    """What numbers stand for. leaves: per dataset, by path, the place of its bit. extras: tuples of
    codes; the first one is of rows without any."""

    datasets: dict[str, int] = field(default_factory=dict)
    leaves: list[dict[str, int]] = field(default_factory=list)
    codes: dict[Code, int] = field(default_factory=dict)
    extras: dict[tuple[int, ...], int] = field(default_factory=lambda: {(): 0})

    def dataset(self, name: str) -> int:
        number = self.datasets.setdefault(name, len(self.datasets))
        if number == len(self.leaves):
            self.leaves.append({})
        return number

    def bit(self, dataset: int, path: str) -> int:
        leaves = self.leaves[dataset]
        return leaves.setdefault(path, len(leaves))

    def extra(self, codes: Sequence[Code]) -> int:
        found = tuple(sorted({self.codes.setdefault(code, len(self.codes)) for code in codes}))
        return self.extras.setdefault(found, len(self.extras))

    def restricted(self, used: set[int]) -> tuple[Names, Array]:
        """The same with those tuples alone, and their numbers by the old ones. int32"""
        out, table = Names(self.datasets, self.leaves), np.zeros(len(self.extras), np.int32)
        codes = list(self.codes)
        for number, members in enumerate(list(self.extras)):
            if number in used:
                table[number] = out.extra([codes[code] for code in members])
        return out, table

    def encoded(self) -> bytes:
        return msgspec.json.encode(
            (list(self.datasets), [list(of) for of in self.leaves], list(self.codes),
             list(self.extras))
        )  # fmt: skip

    @classmethod
    def decoded(cls, data: bytes) -> Names:
        datasets, leaves, codes, extras = _NAMES.decode(data)
        return cls(
            {name: number for number, name in enumerate(datasets)},
            [{path: bit for bit, path in enumerate(of)} for of in leaves],
            {code: number for number, code in enumerate(codes)},
            {one: number for number, one in enumerate(extras)},
        )
