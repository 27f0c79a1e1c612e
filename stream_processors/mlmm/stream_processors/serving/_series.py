"""Series of numbers: a baseline, then standardised values to two detectors; an alarm starts the series anew."""

# ruff: noqa: PLR0917 - kernels take no keywords

import math

import numpy as np

from mlmm.detectors import (
    BOTH,
    AdwinArrays,
    PageHinkleyArrays,
    adwin_estimation,
    adwin_push,
    adwin_reset,
    kernel,
    page_hinkley_push,
    page_hinkley_reset,
)

from ._arrays import Emitted, Series
from ._fields import (
    ADWIN_ALARM,
    C_DRIFTS,
    D_AFTER,
    D_BEFORE,
    D_BEGAN,
    D_BLOCK_SIZE,
    D_BLOCKS,
    D_DETECTOR,
    D_HISTORY,
    D_OBSERVED,
    DRIFT_ERROR,
    E_END,
    E_EVER,
    E_KIND,
    E_LOG,
    E_MODEL,
    E_PLACE,
    E_SIZE,
    E_TIMER,
    HISTORY,
    HISTORY_BLOCK,
    PAGE_HINKLEY_ALARM,
    S_BERNOULLI,
    S_BLOCK_COUNT,
    S_BLOCK_SIZE,
    S_BLOCK_SUM,
    S_BLOCKS,
    S_COUNT,
    S_EVER,
    S_MEAN,
    S_SCALE,
    S_SQUARES,
    Config,
)

__all__ = ["ADWIN_PARAMS", "PAGE_HINKLEY_MIN", "push_value", "start_anew", "tell"]

_CLOCK, _MIN_WINDOW, _GRACE, _MAX_BUCKETS = 32, 5, 10, 5  # river's defaults
PAGE_HINKLEY_MIN = 30
ADWIN_PARAMS = {"clock": float(_CLOCK), "min_window_length": float(_MIN_WINDOW), "grace_period": float(_GRACE)}
# Columns of PageHinkleyArrays.values.
_PH_N, _PH_MEAN, _PH_INCREASE, _PH_DECREASE, _PH_LOWEST, _PH_HIGHEST, _PH_LOWEST_AT, _PH_HIGHEST_AT = range(8)
_CLEAR = 10.0
"""Excess, in standard deviations, that chance does not gather: above it with probability exp(-2 * delta * 10)."""


@kernel(inline=True)
def push_value(
    cfg: Config, series: Series, adwin: AdwinArrays, page_hinkley: PageHinkleyArrays, s: int, x: float, bernoulli: bool
) -> int:
    """Add a usable value to series ``s``; return 0, `ADWIN_ALARM` or `PAGE_HINKLEY_ALARM`.

    ``bernoulli``: the values are 0 and 1, whose spread is known from their mean even where none differs. Otherwise
    standardised values are clipped, so that one outlier is no drift.
    """
    state = series.values[s]
    count = state[S_COUNT] + 1.0
    state[S_COUNT] = count
    state[S_EVER] += 1.0
    state[S_BLOCK_SUM] += x
    state[S_BLOCK_COUNT] += 1.0
    if state[S_BLOCK_COUNT] == state[S_BLOCK_SIZE]:
        _end_block(series, s)
    if count <= cfg.baseline:
        if count == 1.0:
            state[S_BERNOULLI] = 1.0 if bernoulli else 0.0
        deviation = x - state[S_MEAN]
        state[S_MEAN] += deviation / count
        state[S_SQUARES] += deviation * (x - state[S_MEAN])
        if count == cfg.baseline:
            _learn(state)
        return 0
    z = (x - state[S_MEAN]) / state[S_SCALE]
    if state[S_BERNOULLI] == 0.0:
        z = min(max(z, -cfg.clip), cfg.clip)
    alarm = 0
    # Where it is switched off it still estimates when a change set in.
    threshold = cfg.page_hinkley_threshold if cfg.page_hinkley else np.inf
    if page_hinkley_push(page_hinkley, s, z, cfg.page_hinkley_delta, threshold, 1.0, PAGE_HINKLEY_MIN, BOTH):
        alarm = PAGE_HINKLEY_ALARM
    if cfg.adwin and adwin_push(adwin, s, z, cfg.adwin_delta, _CLOCK, _MIN_WINDOW, _GRACE, _MAX_BUCKETS):
        alarm = ADWIN_ALARM
    return alarm


@kernel
def _learn(state: np.ndarray) -> None:
    """Fix the scale of a series at the end of its baseline."""
    count = state[S_COUNT]
    mean = state[S_MEAN]
    scale = math.sqrt(max(state[S_SQUARES], 0.0) / (count - 1.0))
    if state[S_BERNOULLI] == 1.0:
        share = (mean * count + 1.0) / (count + 2.0)
        scale = max(scale, math.sqrt(share * (1.0 - share)))
    # A constant series: whatever differs from it is as far away as can be.
    state[S_SCALE] = max(scale, 1e-9 * abs(mean), 1e-150)


@kernel
def _end_block(series: Series, s: int) -> None:
    state = series.values[s]
    blocks = np.int64(state[S_BLOCKS])
    series.history[s, blocks] = state[S_BLOCK_SUM] / state[S_BLOCK_SIZE]
    state[S_BLOCK_SUM] = 0.0
    state[S_BLOCK_COUNT] = 0.0
    if blocks + 1 < HISTORY:
        state[S_BLOCKS] = blocks + 1
        return
    for k in range(HISTORY // 2):
        series.history[s, k] = 0.5 * series.history[s, 2 * k] + 0.5 * series.history[s, 2 * k + 1]
    for k in range(HISTORY // 2, HISTORY):
        series.history[s, k] = 0.0
    state[S_BLOCKS] = HISTORY // 2
    state[S_BLOCK_SIZE] *= 2.0


@kernel
def _estimate(
    cfg: Config, state: np.ndarray, adwin: AdwinArrays, page_hinkley: PageHinkleyArrays, floats: np.ndarray, s: int
) -> None:
    """Estimate how many values ago the change set in, and the mean since.

    The extremum of Page-Hinkley's sum is the better estimate: what is left of ADWIN's window reaches back beyond the
    change. Only of a change smaller than its tolerance that sum says nothing.
    """
    test = page_hinkley.values[s]
    rise = test[_PH_INCREASE] - test[_PH_LOWEST]
    fall = test[_PH_HIGHEST] - test[_PH_DECREASE]
    if max(rise, fall) > _CLEAR:
        n = test[_PH_N]
        since = n - (test[_PH_LOWEST_AT] if rise > fall else test[_PH_HIGHEST_AT])
        # Mean excess over the running mean, which went from that before the change to the one of now.
        excess = rise / since + cfg.page_hinkley_delta if rise > fall else -fall / since - cfg.page_hinkley_delta
        mean = test[_PH_MEAN]
        earlier = n - since
        after = (0.5 * (n / earlier + 1.0) * mean + excess) / (1.0 + 0.5 * since / earlier)
    else:
        since = adwin.width[s]
        after = adwin_estimation(adwin, s)
    floats[D_BEGAN] = since
    floats[D_AFTER] = state[S_MEAN] + state[S_SCALE] * after


@kernel
def tell(
    cfg: Config,
    series: Series,
    adwin: AdwinArrays,
    page_hinkley: PageHinkleyArrays,
    models: np.ndarray,
    emitted: Emitted,
    model: int,
    s: int,
    alarm: int,
    kind: int,
    event_time: int,
    now: int,
    place: int,
) -> None:
    """Emit the drift that series ``s`` just alarmed of, then start the series anew."""
    state = series.values[s]
    e = emitted.counts[0]
    emitted.counts[0] = e + 1
    ints = emitted.ints[e]
    floats = emitted.floats[e]
    ints[E_KIND] = kind
    ints[E_PLACE] = place
    ints[E_TIMER] = 0 if kind == DRIFT_ERROR else -1
    ints[E_MODEL] = model
    ints[E_SIZE] = s
    ints[E_LOG] = now
    ints[E_END] = event_time
    ints[E_EVER] = np.int64(state[S_EVER])
    _estimate(cfg, state, adwin, page_hinkley, floats, s)
    floats[D_DETECTOR] = alarm
    floats[D_BEFORE] = state[S_MEAN]
    floats[D_OBSERVED] = state[S_COUNT]
    floats[D_BLOCK_SIZE] = state[S_BLOCK_SIZE]
    floats[D_BLOCKS] = state[S_BLOCKS]
    for k in range(HISTORY):
        floats[D_HISTORY + k] = series.history[s, k]
    models[model, C_DRIFTS] += 1
    start_anew(series, adwin, page_hinkley, s)


@kernel
def start_anew(series: Series, adwin: AdwinArrays, page_hinkley: PageHinkleyArrays, s: int) -> None:
    """Forget all of a series but how many values it ever had."""
    state = series.values[s]
    for column in (S_COUNT, S_MEAN, S_SQUARES, S_SCALE, S_BLOCK_SUM, S_BLOCK_COUNT, S_BLOCKS, S_BERNOULLI):
        state[column] = 0.0
    state[S_BLOCK_SIZE] = HISTORY_BLOCK
    for k in range(HISTORY):
        series.history[s, k] = 0.0
    adwin_reset(adwin, s)
    page_hinkley_reset(page_hinkley, s)
