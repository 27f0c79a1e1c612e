"""The calibrated detector for many series as a structure of arrays, for use inside other kernels.

Row `i` of the state is one series; it is a function of its values in order alone. A value becomes a score, whose law
without a change is known (`calibrated_scores`), and scores become evidence (`calibrated_evidence`).

Sources: Hawkins, "Self-starting CUSUM charts for location and scale", The Statistician 36, 1987 (each value is compared
with those before it, so that the error of the baseline is part of the score's law).
"""

import math

import numpy as np
import numpy.typing as npt

from .calibrated_evidence import follow, judge, refresh
from .calibrated_layout import (
    BEGAN,
    BERNOULLI,
    BOUNDS,
    CENTRE,
    CHARTS,
    MEAN,
    NEXT,
    NORMAL,
    P_BASELINE,
    P_CHARTS,
    P_CLIP,
    P_KIND,
    P_SLOTS,
    SCORED,
    SQUARES,
    UNIT,
    UNSEEN,
    CalibratedArrays,
    N,
)
from .calibrated_scores import BINS, LEARN, bin_of, learn_bounds, student_score
from .compiled import kernel

__all__ = ["calibrated_push", "calibrated_reset", "calibrated_since"]

_FAR = 1e100
_SETTLED = 30
"""Values from which the spread is good enough to tell what lies far out."""
_RARE = 0.02


@kernel
def calibrated_reset(arrays: CalibratedArrays, i: int) -> None:
    """Make series `i` empty."""
    for column in range(arrays.values.shape[1]):
        arrays.values[i, column] = 0.0
    arrays.direction[i] = 0


@kernel
def calibrated_since(arrays: CalibratedArrays, i: int) -> int:
    """After an alarm of series `i`: how many values ago the level changed, by the evidence; else 0."""
    if arrays.direction[i] == 0:
        return 0
    return int(np.floor(arrays.values[i, SCORED] - arrays.values[i, BEGAN] + 0.5))


@kernel(inline=True)
def calibrated_push(arrays: CalibratedArrays, i: int, x: float, slot: int, plan: npt.NDArray[np.float64]) -> bool:
    """Add a value to series `i`; say whether the level has changed.

    Parameters
    ----------
    arrays : CalibratedArrays
    i : int
        The series.
    x : float
        Must be `usable`.
    slot : int
        Slot of the season that it belongs to; 0 without a season.
    plan : float64 array
        From `calibrated_plan`.
    """
    if arrays.direction[i] != 0:
        calibrated_reset(arrays, i)
    row = arrays.values[i]
    row[N] += 1.0
    row[MEAN] += (x - row[MEAN]) / row[N]
    if plan[P_SLOTS] != 0.0:
        x = _off_season(row, x, slot, plan)
        if x != x:  # noqa: PLR0124 - NaN
            return False
    if plan[P_KIND] == NORMAL:
        z = _normal_score(row, x, plan)
    elif plan[P_KIND] == BERNOULLI:
        z = _share_score(row, x, plan)
    elif row[BOUNDS] == 0.0:
        _wait(row, x, plan)
        return False
    else:
        z = _rank_score(row, x, plan)
    follow(row, z)
    if row[SCORED] <= plan[P_BASELINE]:
        return False
    arrays.direction[i] = judge(row, z, plan)
    return bool(arrays.direction[i] != 0)


@kernel(inline=True)
def _off_season(row: npt.NDArray[np.float64], x: float, slot: int, plan: npt.NDArray[np.float64]) -> float:
    """Deviation from the mean of earlier values in the slot, with a value's variance; NaN for a slot's first two."""
    at = len(row) - 2 * int(plan[P_SLOTS]) + 2 * slot
    count = row[at]
    deviation = x - row[at + 1]
    row[at] = count + 1.0
    row[at + 1] += deviation / (count + 1.0)
    return deviation * math.sqrt(count / (count + 1.0)) if count >= 2.0 else np.nan


@kernel(inline=True)
def _normal_score(row: npt.NDArray[np.float64], x: float, plan: npt.NDArray[np.float64]) -> float:
    """Score by mean and spread of the values before; what lies further out than a score can tell moves them no more."""
    if row[SCORED] >= row[NEXT]:
        refresh(row, plan)
    before = row[SCORED]
    row[SCORED] += 1.0
    if before == 0.0 and plan[P_SLOTS] == 0.0:
        row[CENTRE] = x
        return 0.0
    deviation = x - row[CENTRE]
    if deviation == 0.0:
        return 0.0
    if row[UNIT] == 0.0:
        row[UNIT] = abs(deviation)
    clip = plan[P_CLIP]
    freedom = before
    shrink = 1.0
    if plan[P_SLOTS] == 0.0:
        freedom -= 1.0
        shrink = math.sqrt(before / row[SCORED])
    scaled = shrink * min(max(deviation / row[UNIT], -_FAR), _FAR)
    score = clip if scaled > 0.0 else -clip
    if row[SQUARES] > 0.0 and freedom >= 1.0:
        spread = math.sqrt(row[SQUARES] / freedom)
        score = min(max(student_score(scaled / spread, freedom), -clip), clip)
        if before >= _SETTLED:
            scaled = min(max(scaled, -clip * spread), clip * spread)
    row[SQUARES] += scaled * scaled
    if plan[P_SLOTS] == 0.0:
        row[CENTRE] += scaled / shrink * row[UNIT] / row[SCORED]
    return score if freedom >= 1.0 else 0.0


@kernel(inline=True)
def _share_score(row: npt.NDArray[np.float64], x: float, plan: npt.NDArray[np.float64]) -> float:
    """Score of a 0 or a 1 by the share of ones before: two bins on either side of 0.5."""
    if row[BOUNDS] == 0.0:
        row[BOUNDS] = 1.0
        row[UNSEEN] = 1.0
        row[CHARTS + 10 * int(plan[P_CHARTS])] = 0.5
    return _rank_score(row, x, plan)


@kernel(inline=True)
def _rank_score(row: npt.NDArray[np.float64], x: float, plan: npt.NDArray[np.float64]) -> float:
    """Score by the rank among the values before."""
    if row[SCORED] >= row[NEXT]:
        refresh(row, plan)
    at = CHARTS + 10 * int(plan[P_CHARTS])
    b = bin_of(row[at : at + BINS], int(row[BOUNDS]), x)
    row[SCORED] += 1.0
    row[at + BINS + b] += 1.0
    # A rare value's chance changes most while there are few of it: scores are made anew at each doubling.
    count = int(row[at + BINS + b])
    if count <= 8 and count & (count - 1) == 0:
        row[NEXT] = 0.0
    return float(row[at + 2 * BINS + b])


@kernel
def _wait(row: npt.NDArray[np.float64], x: float, plan: npt.NDArray[np.float64]) -> None:
    """Keep a value until there are enough for bounds; then count them all as if they had had their scores."""
    at = CHARTS + 10 * int(plan[P_CHARTS])
    values = row[at + 3 * BINS : at + 3 * BINS + LEARN]
    values[int(row[SCORED])] = x
    row[SCORED] += 1.0
    if row[SCORED] < LEARN:
        return
    bounds = row[at : at + BINS]
    count, repeating = learn_bounds(values, bounds)
    row[BOUNDS] = count
    # Where values repeat themselves, one that was never seen is rare; otherwise every value is new.
    row[UNSEEN] = _RARE if repeating else 1.0
    for k in range(LEARN):
        row[at + BINS + bin_of(bounds, count, values[k])] += 1.0
    refresh(row, plan)
    for k in range(LEARN):
        follow(row, row[at + 2 * BINS + bin_of(bounds, count, values[k])])
        values[k] = 0.0
    row[NEXT] = 0.0
