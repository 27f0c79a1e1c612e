"""The second kernel of a poll: feature values to their series, model by model and column by column."""

# ruff: noqa: PLR0917 - kernels take no keywords

import numpy as np

from mlmm.detectors import AdwinArrays, PageHinkleyArrays, kernel, usable

from ._arrays import Batch, Emitted, Series
from ._fields import (
    B_FEATURES,
    B_LOG,
    B_MODEL,
    B_PLACE,
    B_ROWS,
    B_SERIES,
    B_TIMES,
    B_WIDTH,
    C_LEFT_OUT,
    C_MISSING,
    DRIFT_FEATURE,
    S_MISSING,
    Config,
)
from ._series import push_value, tell

__all__ = ["watch"]


@kernel
def watch(
    cfg: Config,
    batch: Batch,
    order: np.ndarray,
    models: np.ndarray,
    series: Series,
    adwin: AdwinArrays,
    page_hinkley: PageHinkleyArrays,
    emitted: Emitted,
    cursor: np.ndarray,
) -> bool:
    """Give feature values to their series, blocks in ``order``: by model, then as they came.

    A run of blocks with one head is walked column by column, so that a series stays in the processor's cache.
    ``cursor`` (int64 [4]: first block of the run, column, block, row) tells where to go on after a return of False:
    there was no room for an emission.
    """
    run = cursor[0]
    while run < len(order):
        head = batch.blocks[order[run]]
        model = head[B_MODEL]
        width = head[B_WIDTH]
        end = run + 1
        while (
            end < len(order)
            and batch.blocks[order[end], B_MODEL] == model
            and batch.blocks[order[end], B_SERIES] == head[B_SERIES]
        ):
            end += 1
        for column in range(cursor[1], width):
            s = batch.series[head[B_SERIES] + column]
            if s >= 0:
                series.touched[series.group[s]] = 1
            for k in range(max(cursor[2], run), end):
                block = batch.blocks[order[k]]
                place = block[B_PLACE]
                at = block[B_FEATURES] + column
                for i in range(cursor[3], block[B_ROWS]):
                    if batch.counted[place + i] == 0:
                        continue
                    x = batch.features[at + i * width]
                    if s < 0:
                        models[model, C_LEFT_OUT] += 1
                        continue
                    if not usable(x):
                        models[model, C_MISSING] += 1
                        series.values[s, S_MISSING] += 1.0
                        continue
                    if emitted.counts[0] == len(emitted.ints):
                        cursor[0] = run
                        cursor[1] = column
                        cursor[2] = k
                        cursor[3] = i
                        return False
                    alarm = push_value(cfg, series, adwin, page_hinkley, s, x, False)
                    if alarm:
                        time = batch.times[block[B_TIMES] + i]
                        tell(
                            cfg, series, adwin, page_hinkley, models, emitted,
                            model, s, alarm, DRIFT_FEATURE, time, block[B_LOG], place + i,
                        )  # fmt: skip
                cursor[3] = 0
            cursor[2] = 0
        cursor[1] = 0
        run = end
    cursor[0] = run
    return True
