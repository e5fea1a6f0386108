"""Exact sums of doubles as fixed-point integers, so that order, batches and windows cannot show.

Theory: RULES.md asks for the correctly rounded exact sum (``math.fsum``). A double is an integer
times a power of two, hence a sum of doubles is an integer in a fine enough unit; integers add and
subtract without error in any order. Nearly all business amounts fit a unit of 2**-62: two int64
limbs hold

    value = high * 2**-17 + low * 2**-62,     0 <= low < 2**45

Both limbs convert to doubles exactly while |high| < 2**53, and one IEEE addition of two exact
doubles rounds correctly: that addition is the whole read-out. What does not fit (a magnitude too
large or too small) is *wide*: kept as a Python integer in units of 2**-1074, the smallest double,
exact as well, only slower. A window subtracts what it added and is back to the same integers;
nothing drifts.

Rejected: (high, low) double pairs with TwoSum. They are nearly always right, but depend on the
order at ties, and drift under subtraction.  Source of the idea: Kulisch's long accumulator, cut to
the part that is used.
"""

from __future__ import annotations

import numpy as np

HIGH_SCALE = 2.0**17


LOW_BITS = 45


LOW_SCALE = 2.0**62


_LOW_MASK = np.int64((1 << LOW_BITS) - 1)


_WIDE_SHIFT = 1074


EXACT_HIGH = 1 << 53


SPILL_HIGH = 1 << 60


def split(values: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Cut doubles into limbs. float64[n], finite -> (high int64[n], low int64[n], wide bool[n]).

    Where ``wide`` is set, both limbs are 0 and the value must go through ``to_wide``. The bound on
    magnitude shrinks with n so that n limbs can be added in int64.
    """
    bound = min(2.0**52, 2.0**61 / max(1, len(values))) / HIGH_SCALE
    wide = np.abs(values) >= bound
    # Towards zero, so that the subtraction below is exact for tiny negatives as well.
    scaled = np.where(wide, 0.0, values) * HIGH_SCALE
    high = np.trunc(scaled)
    rest = (scaled - high) * (LOW_SCALE / HIGH_SCALE)
    low = np.trunc(rest)
    small = rest != low
    if small.any():
        wide |= small
        high, low = np.where(small, 0.0, high), np.where(small, 0.0, low)
    return high.astype(np.int64), low.astype(np.int64), wide


def to_wide(value: float) -> int:
    """A finite double as an integer number of 2**-1074."""
    numerator, denominator = value.as_integer_ratio()
    return numerator * ((1 << _WIDE_SHIFT) // denominator)


def limbs_to_wide(high: int, low: int) -> int:
    """Two limbs as an integer number of 2**-1074."""
    return ((int(high) << LOW_BITS) + int(low)) << (_WIDE_SHIFT - 62)


def from_wide(total: int) -> float:
    """The correctly rounded double of an integer number of 2**-1074; inf when beyond doubles."""
    try:
        return total / (1 << _WIDE_SHIFT)
    except OverflowError:
        return float("inf") if total > 0 else float("-inf")


def carry(high: np.ndarray, low: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Normalise so that 0 <= low < 2**45. The value is unchanged."""
    return high + (low >> np.int64(LOW_BITS)), low & _LOW_MASK


def read_out(high: np.ndarray, low: np.ndarray) -> np.ndarray:
    """The correctly rounded doubles of normalised limbs. float64[n]."""
    out = high.astype(np.float64) / HIGH_SCALE + low.astype(np.float64) / LOW_SCALE
    for i in (np.abs(high) >= EXACT_HIGH).nonzero()[0]:
        out[i] = from_wide(limbs_to_wide(int(high[i]), int(low[i])))
    return out
