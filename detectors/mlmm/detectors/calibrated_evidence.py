"""Scores to evidence of a change, and evidence to an alarm, for the calibrated detector.

Sources: Shiryaev, 1963, and Roberts, 1966 (the statistic); Pollak, "Average run lengths of an optimal method of
detecting a change in distribution", Annals of Statistics 15, 1987 (its mean time to a false alarm).
"""

import math

import numpy as np
import numpy.typing as npt

from .calibrated_layout import (
    BEGAN,
    BLOCK_GROWTH,
    BLOCKS,
    BOUNDS,
    CHARTS,
    CUMULANT,
    FACTOR,
    FIRST_BLOCK,
    HEAD,
    INFLATION,
    LAST,
    LEVELS,
    NEXT,
    NORMAL,
    P_CHARTS,
    P_DOWN,
    P_EFFECT,
    P_KIND,
    P_SLOTS,
    P_TIME,
    P_UP,
    P_WEIGHTS,
    PART,
    PART_SQUARES,
    PARTS,
    POWER,
    PRODUCTS,
    SCORED,
    SHARE,
    SINCE,
    SKEW,
    SPREAD,
    STEP,
    THRESHOLD,
    UNSEEN,
)
from .calibrated_scores import BINS, bin_scores
from .compiled import kernel

__all__ = ["follow", "judge", "refresh"]

_ENOUGH = 64
"""Blocks from which a level of batch means is heard."""
_OVERSHOOT = 0.5825971579390106
"""Mean overshoot of a standard normal walk over a far boundary: -zeta(1/2) / sqrt(2 pi) (Siegmund, 1985)."""


@kernel(inline=True)
def follow(row: npt.NDArray[np.float64], z: float) -> None:
    """Add a score to what tells how far scores depend on one another."""
    row[POWER] += z * z
    row[PRODUCTS] += z * row[LAST]
    row[LAST] = z
    row[HEAD + PART] += z
    row[HEAD + PARTS] += 1.0
    if row[HEAD + PARTS] == FIRST_BLOCK:
        _end_block(row)


@kernel
def _end_block(row: npt.NDArray[np.float64]) -> None:
    for level in range(LEVELS):
        at = HEAD + 4 * level
        part = row[at + PART]
        row[at + PART] = 0.0
        row[at + PARTS] = 0.0
        row[at + PART_SQUARES] += part * part
        row[at + BLOCKS] += 1.0
        if level + 1 == LEVELS:
            return
        row[at + 4 + PART] += part
        row[at + 4 + PARTS] += 1.0
        if row[at + 4 + PARTS] < BLOCK_GROWTH:
            return


@kernel
def _inflation(row: npt.NDArray[np.float64]) -> float:
    """Variance of a long sum of scores over that of independent ones, at least 1.

    By the neighbours' correlation, as for an autoregression of order 1, with its bias removed (Kendall, 1954), or,
    where that says less, by the lower confidence limit of batch means.
    """
    n = row[SCORED]
    if row[POWER] <= 0.0:
        return 1.0
    phi = row[PRODUCTS] / row[POWER]
    inflation = 1.0
    if phi * math.sqrt(n) > 1.5:
        phi = min(phi + (1.0 + 3.0 * phi) / n, 0.99)
        inflation = (1.0 + phi) / (1.0 - phi)
    size = FIRST_BLOCK * row[POWER] / n
    for level in range(LEVELS):
        at = HEAD + 4 * level
        blocks = row[at + BLOCKS]
        if blocks >= _ENOUGH:
            batch = row[at + PART_SQUARES] / (blocks * size)
            inflation = max(inflation, batch / (1.0 + 2.0 * math.sqrt(2.0 / blocks)))
        size *= BLOCK_GROWTH
    return inflation


@kernel
def refresh(row: npt.NDArray[np.float64], plan: npt.NDArray[np.float64]) -> None:
    """Make scores, inflation and threshold anew from all values so far; set when to do so next."""
    charts = int(plan[P_CHARTS])
    row[NEXT] = row[SCORED] + max(1.0, np.floor(row[SCORED] / 32.0))
    row[INFLATION] = _inflation(row)
    if plan[P_KIND] == NORMAL:
        row[SPREAD] = 1.0
        effect = plan[P_EFFECT]
        for j in range(charts):
            row[CHARTS + 2 * charts * CUMULANT + j] = 0.5 * effect * effect
            row[CHARTS + 2 * charts * CUMULANT + charts + j] = 0.5 * effect * effect
            effect += effect
        for chart in range(2 * charts):
            row[CHARTS + 2 * charts * STEP + chart] = np.inf
    else:
        _rescore(row, plan)
    row[THRESHOLD] = plan[P_TIME] * _overshoot(row, plan)
    if row[SHARE] == 0.0:
        row[SHARE] = 1.0
    _set_factors(row, plan)


@kernel
def _overshoot(row: npt.NDArray[np.float64], plan: npt.NDArray[np.float64]) -> float:
    """Mean of threshold over evidence at an alarm of a change: without a change, threshold over mean time to an alarm.

    By Siegmund's approximation with the third moment: steps that are small and many overshoot less than few large ones.
    """
    charts = int(plan[P_CHARTS])
    scale = math.sqrt(row[SPREAD] / row[INFLATION])
    skew = row[SKEW] / (6.0 * math.sqrt(row[SPREAD])) if row[SPREAD] > 0.0 else 0.0
    up = max(_OVERSHOOT + skew, 0.0) * scale
    down = max(_OVERSHOOT - skew, 0.0) * scale
    mean = 0.0
    effect = plan[P_EFFECT]
    for j in range(charts):
        step = CHARTS + 2 * charts * STEP + j
        rise = max(math.exp(-effect * up), _evenly(row[step] / row[INFLATION]))
        fall = max(math.exp(-effect * down), _evenly(row[step + charts] / row[INFLATION]))
        mean += plan[P_WEIGHTS + j] * (plan[P_UP] * rise + plan[P_DOWN] * fall)
        effect += effect
    return mean


@kernel(inline=True)
def _evenly(step: float) -> float:
    """Mean of exp(-overshoot) where the overshoot lies evenly between 0 and a step: all steps towards it are alike."""
    return (1.0 - math.exp(-step)) / step if step > 1e-9 else 1.0


@kernel
def _rescore(row: npt.NDArray[np.float64], plan: npt.NDArray[np.float64]) -> None:
    """Scores of the bins, their variance, and the cumulants of the charts."""
    charts = int(plan[P_CHARTS])
    at = CHARTS + 10 * charts
    bins = int(row[BOUNDS]) + 1
    counts = row[at + BINS : at + 2 * BINS]
    scores = row[at + 2 * BINS : at + 3 * BINS]
    bin_scores(counts, scores, bins)
    total = 0.0
    spread = 0.0
    skew = 0.0
    for b in range(bins):
        chance = _chance(row, counts[b], bins)
        total += chance
        spread += chance * scores[b] * scores[b]
        skew += chance * scores[b] * scores[b] * scores[b]
    row[SPREAD] = spread / total
    row[SKEW] = skew / spread if spread > 0.0 else 0.0
    for chart in range(2 * charts):
        effect = plan[P_EFFECT] * 2.0 ** (chart % charts)
        _cumulate(row, chart, effect if chart < charts else -effect, plan)


@kernel
def _cumulate(row: npt.NDArray[np.float64], chart: int, effect: float, plan: npt.NDArray[np.float64]) -> None:
    """Cumulant and typical step of a chart: the mean of its steps by their size, after the change that it is for."""
    charts = int(plan[P_CHARTS])
    at = CHARTS + 10 * charts
    bins = int(row[BOUNDS]) + 1
    total = 0.0
    tilted = 0.0
    for b in range(bins):
        chance = _chance(row, row[at + BINS + b], bins)
        total += chance
        tilted += chance * math.exp(effect * row[at + 2 * BINS + b])
    cumulant = math.log(tilted / total)
    size = 0.0
    squares = 0.0
    for b in range(bins):
        step = effect * row[at + 2 * BINS + b] - cumulant
        if step > 0.0:
            chance = _chance(row, row[at + BINS + b], bins) * math.exp(step)
            size += chance * step
            squares += chance * step * step
    row[CHARTS + 2 * charts * CUMULANT + chart] = cumulant
    row[CHARTS + 2 * charts * STEP + chart] = squares / size if size > 0.0 else np.inf


@kernel(inline=True)
def _chance(row: npt.NDArray[np.float64], count: float, bins: int) -> float:
    """Weight of a bin: two values' worth is spread over all that have been seen."""
    return count + 2.0 / bins if count > 0.0 else row[UNSEEN]


@kernel
def _set_factors(row: npt.NDArray[np.float64], plan: npt.NDArray[np.float64]) -> None:
    """What the evidence is multiplied with at a score of 0.

    A change moves scores less and less, since it becomes part of what they are compared with: by the share of values
    that are older. Between no and full effect the cumulant is taken for a cubic.
    """
    charts = int(plan[P_CHARTS])
    share = row[SHARE]
    effect = plan[P_EFFECT]
    for j in range(charts):
        half = 0.5 * effect * effect * row[SPREAD]
        for chart in (j, charts + j):
            cumulant = share * row[CHARTS + 2 * charts * CUMULANT + chart] + (1.0 - share) * half
            row[CHARTS + 2 * charts * FACTOR + chart] = math.exp(-share * share * cumulant / row[INFLATION])
        effect += effect


@kernel(inline=True)
def judge(row: npt.NDArray[np.float64], z: float, plan: npt.NDArray[np.float64]) -> int:
    """Weigh a score; return 1 for an alarm of an increase, -1 of a decrease, else 0."""
    charts = int(plan[P_CHARTS])
    before = row[SCORED] - 1.0
    rise = math.exp(plan[P_EFFECT] * row[SHARE] * z / row[INFLATION])
    fall = 1.0 / rise
    increase = 0.0
    decrease = 0.0
    since = 0.0
    for j in range(charts):
        up = CHARTS + j
        down = up + charts
        factor = rise * row[up + 2 * charts * FACTOR]
        row[up] = (row[up] + 1.0) * factor
        row[up + 2 * charts * SINCE] = (row[up + 2 * charts * SINCE] + before) * factor
        increase += plan[P_WEIGHTS + j] * row[up]
        since += plan[P_WEIGHTS + j] * plan[P_UP] * row[up + 2 * charts * SINCE]
        factor = fall * row[down + 2 * charts * FACTOR]
        row[down] = (row[down] + 1.0) * factor
        row[down + 2 * charts * SINCE] = (row[down + 2 * charts * SINCE] + before) * factor
        decrease += plan[P_WEIGHTS + j] * row[down]
        since += plan[P_WEIGHTS + j] * plan[P_DOWN] * row[down + 2 * charts * SINCE]
        rise *= rise
        fall *= fall
    increase *= plan[P_UP]
    decrease *= plan[P_DOWN]
    evidence = increase + decrease
    row[BEGAN] = since / evidence
    if evidence >= row[THRESHOLD]:
        return 1 if increase >= decrease else -1
    share = row[BEGAN] / row[SCORED]
    if plan[P_SLOTS] != 0.0:
        share *= share
    # In steps, so that factors need not be made anew at each value.
    share = np.floor(64.0 * share + 0.5) / 64.0
    if share != row[SHARE]:
        row[SHARE] = share
        _set_factors(row, plan)
    return 0
