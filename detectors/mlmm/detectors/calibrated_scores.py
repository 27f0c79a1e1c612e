"""Values to scores: what makes streams of any distribution alike for the calibrated detector.

A score is the normal score of a value's rank among all before it, itself included: its distribution is known whatever
that of the values. Ranks are kept as counts in bins, whose bounds come from the first values.
"""

import math

import numpy as np
import numpy.typing as npt

from .compiled import kernel

__all__ = ["BINS", "LEARN", "bin_of", "bin_scores", "learn_bounds", "normal_quantile", "student_score"]

LEARN = 128
"""Values that the bounds of the bins are taken from."""
# Evenly spaced as normal quantiles, so that tails are told apart as finely as the middle; and the extremes.
_RANKS = np.unique(
    [0, LEARN - 1, *(round(0.5 * math.erfc((2.4 - 0.16 * k) / math.sqrt(2.0)) * (LEARN - 1)) for k in range(31))]
)
_CUTS = len(_RANKS)
_CUT_OF_RANK = np.full(LEARN, -1, np.int64)
_CUT_OF_RANK[_RANKS] = np.arange(_CUTS)
BINS = _CUTS + 2
"""Bins at most: below each bound, and above the last."""


@kernel
def normal_quantile(p: float) -> float:
    """Quantile of the standard normal distribution for p in (0, 1); relative error below 1e-15 but for the far tails.

    A rational start (Odeh and Evans, 1974), then two steps of Halley on the complementary error function.
    """
    tail = p if p < 0.5 else 1.0 - p
    y = math.sqrt(-2.0 * math.log(tail))
    above = 0.322232431088 + y * (1.0 + y * (0.342242088547 + y * (0.0204231210245 + y * 0.0000453642210148)))
    below = 0.0993484626060 + y * (0.588581570495 + y * (0.531103462366 + y * (0.103537752850 + y * 0.0038560700634)))
    x = above / below - y
    for _ in range(2):
        error = 0.5 * math.erfc(-x / math.sqrt(2.0)) - tail
        step = error * math.sqrt(2.0 * math.pi) * math.exp(0.5 * x * x)
        x -= step / (1.0 + 0.5 * x * step)
    return x if p < 0.5 else -x


@kernel
def student_score(t: float, freedom: float) -> float:
    """Normal score of a Student t value (Wallace, 1959)."""
    score = (8.0 * freedom + 1.0) / (8.0 * freedom + 3.0) * math.sqrt(freedom * math.log1p(t * t / freedom))
    return score if t > 0.0 else -score


@kernel
def learn_bounds(values: npt.NDArray[np.float64], bounds: npt.NDArray[np.float64]) -> tuple[int, bool]:
    """Choose the bounds of the bins from `LEARN` values; return how many, and whether the values repeat themselves.

    A bin holds the values from its lower bound up to, and without, its upper bound. A value that is met at more than
    one cut has a bin for itself, and whatever lies outside of the values has two.
    """
    for k in range(LEARN):
        rank = 0
        for m in range(LEARN):
            rank += values[m] < values[k] or (m < k and values[m] == values[k])
        if _CUT_OF_RANK[rank] >= 0:
            bounds[_CUT_OF_RANK[rank]] = values[k]
    last = bounds[_CUTS - 1]
    count = 1
    same = 0
    # At most one bound a cut, so that what is written was read before.
    for k in range(1, _CUTS):
        x = bounds[k]
        if x > bounds[count - 1]:
            bounds[count] = x
            count += 1
        elif x == bounds[count - 1]:
            same += 1
            bounds[count] = np.nextafter(x, np.inf)
            count += 1
        else:
            same += 1
    if bounds[count - 1] == last:
        bounds[count] = np.nextafter(last, np.inf)
        count += 1
    return count, 2 * same > _CUTS


@kernel(inline=True)
def bin_of(bounds: npt.NDArray[np.float64], count: int, x: float) -> int:
    """Number of bounds that are not above x."""
    low = 0
    high = count
    while low < high:
        middle = (low + high) >> 1
        if bounds[middle] <= x:
            low = middle + 1
        else:
            high = middle
    return low


@kernel
def _density(p: float) -> float:
    if p <= 0.0 or p >= 1.0:
        return 0.0
    x = normal_quantile(p)
    return math.exp(-0.5 * x * x) / math.sqrt(2.0 * math.pi)


@kernel
def bin_scores(counts: npt.NDArray[np.float64], scores: npt.NDArray[np.float64], bins: int) -> None:
    """Score of a value that falls into each bin: the mean normal score of the ranks it may have, itself counted."""
    total = 1.0
    for b in range(bins):
        total += counts[b]
    below = 0.0
    for b in range(bins):
        above = below + counts[b] + 1.0
        scores[b] = (_density(below / total) - _density(above / total)) * total / (counts[b] + 1.0)
        below += counts[b]
