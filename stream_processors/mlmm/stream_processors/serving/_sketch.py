"""Quantiles of latencies from counts in fixed buckets, exact in their counts and the same on every machine.

A bucket is a 64th of an octave, read off a float64's own bits: no logarithm, no rounding that could differ. A quantile
is off by at most 0.79 % of its value. Like DDSketch (Masson et al., VLDB 2019) with its log-linear mapping, with fixed
bounds.
"""

# ruff: noqa: PLR0917 - kernels take no keywords

from typing import Any

import numpy as np

from mlmm.detectors import kernel

__all__ = ["BUCKETS", "bucket_of", "quantile"]

_SUB_BITS = 6
_OCTAVES = 30
BUCKETS = _OCTAVES << _SUB_BITS
"""From 2**-20 s (about a microsecond) to 2**10 s; what lies outside counts in the outermost bucket."""
_FIRST = (1023 - 20) << _SUB_BITS


@kernel
def bucket_of(seconds: float) -> int:
    """Bucket of a duration that is not negative."""
    at: Any = (np.float64(seconds).view(np.int64) >> (52 - _SUB_BITS)) - _FIRST
    return min(max(at, 0), BUCKETS - 1)  # type: ignore[no-any-return]


@kernel
def _middle(bucket: int) -> float:
    octave = 2.0 ** ((bucket >> _SUB_BITS) - 20)
    return octave * (1.0 + ((bucket & ((1 << _SUB_BITS) - 1)) + 0.5) / (1 << _SUB_BITS))


@kernel
def quantile(
    sketches: np.ndarray, at: int, low: int, high: int, count: int, q: float, least: float, most: float
) -> float:
    """Value at rank ``floor(q * (count - 1))`` of one sketch whose counts lie in buckets ``low..high``.

    ``least`` and ``most``, the smallest and largest value seen, bound the answer.
    """
    rank = np.int64(q * (count - 1))
    seen = np.int64(0)
    for bucket in range(low, high + 1):
        seen += sketches[at, bucket]
        if seen > rank:
            return min(max(_middle(bucket), least), most)
    return most
