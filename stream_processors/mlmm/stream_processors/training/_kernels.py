"""The compiled folds: one pass over the values of a poll, in log order, event by event.

Sequential on purpose: every level, streak and block mean is a function of the values in their order, so it comes out
the same however the log was cut into polls.
"""

import numpy as np
from numpy.typing import NDArray

from mlmm.detectors.compiled import kernel
from mlmm.stream_processors.training._layout import (
    ACC,
    ACC_N,
    ALPHA,
    BEST,
    COUNT,
    DROP,
    EVENTS,
    FALLING,
    FALLING_STRICT,
    FIRED,
    HIST_N,
    HIST_SIZE,
    HISTORY,
    HISTORY_AT,
    KIND,
    LAST,
    LEVEL,
    NOT_FINITE,
    PATIENCE,
    SEEN,
    SERIES_HEAD,
    SIGN,
    STEP,
    STREAK,
    UNUSUAL,
    WATCH,
    WATCHES,
)

__all__ = ["fold", "take"]

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


@kernel
def take(f: Floats, i: Ints, at: int, x: float, fired: Ints, count: int) -> int:  # noqa: PLR0917 - kernels take no keywords
    """Fold one value into the series at word ``at``; append the watches that fire to ``fired`` and return their count.

    ``f`` and ``i`` are the same words seen as float64 and int64.
    """
    i[at + COUNT] += 1
    finite = x - x == 0.0
    if finite:
        f[at + LAST] = x
        # The mean of a block as it fills; in this form it cannot overflow.
        k = i[at + ACC_N] + 1
        f[at + ACC] = f[at + ACC] * ((k - 1) / k) + x / k
        i[at + ACC_N] = k
        if k == i[at + HIST_SIZE]:
            f[at + HISTORY_AT + i[at + HIST_N]] = f[at + ACC]
            i[at + HIST_N] += 1
            i[at + ACC_N] = 0
            f[at + ACC] = 0.0
            if i[at + HIST_N] == HISTORY:
                half = HISTORY // 2
                for j in range(half):
                    a = f[at + HISTORY_AT + 2 * j]
                    b = f[at + HISTORY_AT + 2 * j + 1]
                    f[at + HISTORY_AT + j] = 0.5 * a + 0.5 * b
                for j in range(half, HISTORY):
                    f[at + HISTORY_AT + j] = 0.0
                i[at + HIST_N] = half
                i[at + HIST_SIZE] *= 2
    else:
        # One bit pattern for every NaN: the state must not depend on which one the trainer's library made.
        f[at + LAST] = np.nan if x != x else x  # noqa: PLR0124
        i[at + UNUSUAL] += 1
    p = at + SERIES_HEAD
    for _ in range(i[at + WATCHES]):
        if i[p + FIRED] == 0:
            hit = False
            kind = i[p + KIND]
            if kind == NOT_FINITE:
                hit = not finite
            elif finite:
                v = x * f[p + SIGN]
                if kind == FALLING_STRICT:
                    if i[p + SEEN] == 1 and v < f[p + LEVEL]:
                        i[p + STREAK] += 1
                    else:
                        i[p + STREAK] = 0
                    f[p + LEVEL] = v
                elif kind == FALLING:
                    if i[p + SEEN] == 0:
                        f[p + LEVEL] = v
                        f[p + BEST] = v
                    else:
                        a = f[p + ALPHA]
                        f[p + LEVEL] = (1.0 - a) * f[p + LEVEL] + a * v
                        f[p + BEST] = max(f[p + BEST], f[p + LEVEL])
                    if f[p + BEST] - f[p + LEVEL] >= f[p + DROP]:
                        i[p + STREAK] += 1
                    else:
                        i[p + STREAK] = 0
                elif i[p + SEEN] == 0 or (v > f[p + BEST] and v - f[p + BEST] >= f[p + DROP]):
                    f[p + BEST] = v
                    i[p + STREAK] = 0
                else:
                    i[p + STREAK] += 1
                i[p + SEEN] = 1
                hit = i[p + STREAK] >= i[p + PATIENCE]
            if hit:
                i[p + FIRED] = 1
                fired[count, 0] = at
                fired[count, 1] = p
                count += 1
        p += WATCH
    return count


@kernel
def fold(  # noqa: PLR0917 - kernels take no keywords
    f: Floats,
    i: Ints,
    blocks: Ints,
    series: Ints,
    steps: Ints,
    values: Floats,
    first_block: int,
    first_row: int,
    fired: Ints,
) -> tuple[int, int, int]:
    """Fold blocks of metrics from ``(first_block, first_row)`` on; stop after the first event at which a watch fires.

    Parameters
    ----------
    f, i : float64[words], int64[words]
        The words of all runs, seen both ways.
    blocks : int64[blocks, 6]
        Base word of the run's segment, events, metrics an event, first step, first value, first entry in ``series``.
    series : int64[...]
        For each block and metric the series' first word relative to the segment; -1 for a metric that is not kept.
    steps : int64[events]
    values : float64[events * metrics]
    fired : int64[capacity, 2]
        Receives (series, watch) as absolute words.

    Returns
    -------
    (block, row, count)
        Where it stopped, and how many watches fired in that event; ``(len(blocks), 0, 0)`` at the end.
    """
    for b in range(first_block, blocks.shape[0]):
        base = blocks[b, 0]
        events = blocks[b, 1]
        metrics = blocks[b, 2]
        step = blocks[b, 3]
        value = blocks[b, 4]
        entry = blocks[b, 5]
        row = first_row if b == first_block else 0
        while row < events:
            i[base + STEP] = steps[step + row]
            i[base + EVENTS] += 1
            count = 0
            for m in range(metrics):
                at = series[entry + m]
                if at >= 0:
                    count = take(f, i, base + at, values[value + row * metrics + m], fired, count)
            if count > 0:
                return b, row, count
            row += 1
    return blocks.shape[0], 0, 0
