"""Where the calibrated detector keeps what: columns of the plan that series share, and of a series' row of state."""

import math
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from .calibrated_scores import BINS, LEARN

__all__ = [
    "BERNOULLI",
    "NORMAL",
    "UNKNOWN",
    "CalibratedArrays",
    "calibrated_arrays",
    "calibrated_grow",
    "calibrated_plan",
    "calibrated_take",
]

UNKNOWN, NORMAL, BERNOULLI = 0, 1, 2
"""Distributions."""

# Columns of the plan; from the last on, the weights of the charts.
P_KIND, P_CHARTS, P_SLOTS, P_BASELINE, P_UP, P_DOWN, P_EFFECT, P_CLIP, P_TIME, P_WEIGHTS = range(10)

# Columns of a row. After the head come the levels of batch means, the charts, the bins and the season.
(
    N,  # values since the last alarm
    MEAN,  # their mean
    UNIT,  # of the columns that follow, so that no square of theirs vanishes: the first deviation that is not zero
    CENTRE,  # mean that normal scores are made by
    SQUARES,  # sum of squared deviations from it
    SCORED,  # values that had a score, or wait for one
    LAST,  # the last score
    PRODUCTS,  # sum of products of neighbouring scores
    POWER,  # sum of squared scores
    INFLATION,  # variance of a sum of scores over that of independent ones
    THRESHOLD,  # of the evidence
    NEXT,  # number of scored values at which scores and threshold are made again
    SHARE,  # share of the scored values that are older than the supposed change
    SPREAD,  # variance of a score
    BEGAN,  # number of scored values before the supposed change
    SKEW,  # third moment of a score over that variance
    BOUNDS,  # bounds of bins
    UNSEEN,  # weight of an empty bin, in values
) = range(18)
HEAD = 18

LEVELS = 4
# Columns of a level: incomplete sum, scores or parts in it, sum of squares of complete ones, their number.
PART, PARTS, PART_SQUARES, BLOCKS = range(4)
FIRST_BLOCK, BLOCK_GROWTH = 8, 4
"""The levels have blocks of 8, 32, 128 and 512 scores."""

CHARTS = HEAD + 4 * LEVELS
# Of each chart, upward ones before downward ones: evidence, evidence times the number of values before the supposed
# change, what the evidence is multiplied with at a score of 0, the logarithm of the mean of exp(effect * score), and
# the typical step of the logarithm of the evidence towards an alarm.
EVIDENCE, SINCE, FACTOR, CUMULANT, STEP = range(5)


class CalibratedArrays(NamedTuple):
    """The state of many calibrated detectors."""

    values: npt.NDArray[np.float64]
    """float64 [capacity, width]."""
    direction: npt.NDArray[np.int8]
    """int8 [capacity]: 0, or after an alarm 1 or -1; then the next value starts afresh."""


def calibrated_plan(
    *,
    distribution: int,
    mean_time_between_false_alarms: float,
    baseline: int,
    min_effect: float,
    clip: float,
    slots: int,
    up: bool,
    down: bool,
) -> npt.NDArray[np.float64]:
    """Make the parameters that kernels take: float64 [9 + charts].

    There are charts for changes of `min_effect` and its doubles up to the first of at least 2, in standard deviations
    of a score. Each has two fifths of the weight of the one before, since small changes have least evidence to spare.
    """
    charts = 1 + max(0, math.ceil(math.log2(2.0 / min_effect)))
    weights = 0.4 ** np.arange(charts)
    sides = up + down
    head = [distribution, charts, slots, baseline, up / sides, down / sides, min_effect, clip]
    return np.array([*head, mean_time_between_false_alarms, *(weights / weights.sum())])


def calibrated_arrays(capacity: int, plan: npt.NDArray[np.float64]) -> CalibratedArrays:
    """Make `capacity` empty series."""
    bins = 0 if plan[P_KIND] == NORMAL else 3 * BINS + LEARN
    width = CHARTS + 10 * int(plan[P_CHARTS]) + bins + 2 * int(plan[P_SLOTS])
    return CalibratedArrays(values=np.zeros((capacity, width)), direction=np.zeros(capacity, np.int8))


def calibrated_grow(arrays: CalibratedArrays, capacity: int) -> CalibratedArrays:
    """Copy into arrays of a larger capacity; what is added is empty."""
    width = arrays.values.shape[1]
    grown = CalibratedArrays(values=np.zeros((capacity, width)), direction=np.zeros(capacity, np.int8))
    grown.values[: len(arrays.values)] = arrays.values
    grown.direction[: len(arrays.values)] = arrays.direction
    return grown


def calibrated_take(arrays: CalibratedArrays, series: npt.NDArray[np.int64]) -> CalibratedArrays:
    """Copy the named series, in that order."""
    return CalibratedArrays(values=arrays.values[series], direction=arrays.direction[series])
