"""The two kernels of a poll: `fold` walks all events in log order, `watch` the feature columns, model by model."""

from typing import NamedTuple

import numpy as np

from mlmm.detectors import AdwinArrays, PageHinkleyArrays, kernel, usable

from ._fields import (
    ALWAYS,
    B_CLASSES,
    B_FEATURES,
    B_IDS,
    B_KIND,
    B_LATENCY,
    B_LOG,
    B_MODEL,
    B_PLACE,
    B_POSITIVE,
    B_ROWS,
    B_SERIES,
    B_TASK,
    B_TIMES,
    B_VALUES,
    B_WIDTH,
    C_FAILURES,
    C_LEFT_OUT,
    C_MISSING,
    DRIFT_FEATURE,
    FAILURES,
    M_DUE,
    M_HEAD,
    M_ROWS,
    PERFORMANCE,
    PREDICTIONS,
    ROW_LOG,
    S_MISSING,
    SERVICE,
    TICK,
    Config,
)
from ._ids import murmur3_128
from ._join import failure, label, prediction
from ._pairs import NAN_CODE
from ._rows import expire
from ._series import push_value, tell
from ._store import Emitted, Lasts, Pending, Series, Windows
from ._windows import close_first, first_deadline

__all__ = ["Batch", "due", "fold", "watch"]


class Batch(NamedTuple):
    """The events of one poll, in columns."""

    blocks: np.ndarray
    """int64 [blocks, BLOCK_COLUMNS]."""
    times: np.ndarray
    """int64: of predictions, labels and failures."""
    values: np.ndarray
    """float64: outputs and label values."""
    id_lengths: np.ndarray
    """uint32: as ``values``."""
    ids: np.ndarray
    """uint8."""
    latencies: np.ndarray
    """float64."""
    features: np.ndarray
    """float64."""
    classes: np.ndarray
    """int64: codes of classes."""
    series: np.ndarray
    """int64: series of each feature of a head, -1 where it is left out."""
    counted: np.ndarray
    """uint8 [rows of the poll]: set by `fold` for predictions that are no duplicates."""


@kernel
def due(cfg: Config, pending: Pending, models: np.ndarray, model: int) -> int:
    """When a model's next timer fires, or ALWAYS."""
    first = min(first_deadline(cfg, models, model, SERVICE), first_deadline(cfg, models, model, PERFORMANCE))
    if models[model, M_ROWS] > 0:
        first = min(first, pending.rows[models[model, M_HEAD], ROW_LOG] + cfg.horizon)
    return first


@kernel
def _fire(
    cfg: Config, pending: Pending, windows: Windows, models: np.ndarray, emitted: Emitted, model: int, now: int, place: int
) -> None:
    """Fire a model's timers that are due, in the order of their deadlines; expiry first, then service, then performance."""
    while True:
        deadline = ALWAYS
        family = -1
        if models[model, M_ROWS] > 0:
            deadline = pending.rows[models[model, M_HEAD], ROW_LOG] + cfg.horizon
        for each in (SERVICE, PERFORMANCE):
            closes = first_deadline(cfg, models, model, each)
            if closes < deadline:
                deadline = closes
                family = each
        if deadline > now:
            models[model, M_DUE] = deadline
            return
        if family < 0:
            expire(pending, models, model)
        else:
            close_first(windows, models, emitted, model, family, deadline, place, 1)


@kernel
def _code(batch: Batch, classes: int, at: int) -> int:
    """Identity of an output or label value."""
    value = batch.values[at]
    if classes >= 0:
        return batch.classes[classes + np.int64(value)]  # type: ignore[no-any-return]
    if value != value:  # noqa: PLR0124 - NaN of any payload
        return NAN_CODE
    return np.float64(value + 0.0).view(np.int64)  # type: ignore[no-any-return]  # -0.0 + 0.0 is 0.0


@kernel
def fold(
    cfg: Config,
    batch: Batch,
    pending: Pending,
    windows: Windows,
    lasts: Lasts,
    models: np.ndarray,
    touched: np.ndarray,
    series: Series,
    adwin: AdwinArrays,
    page_hinkley: PageHinkleyArrays,
    emitted: Emitted,
    cursor: np.ndarray,
    count: int,
) -> bool:
    """Walk the events from where ``cursor`` (int64 [3]: block, row, byte of ids) stands.

    Returns False where there is no room for what the next event may emit or open: make room and call again.
    """
    sizes = len(windows.sizes)
    # What one event, or the timers of one model, can emit at most.
    most = 2 * sizes * windows.open.shape[3] + 4
    for b in range(cursor[0], len(batch.blocks)):
        block = batch.blocks[b]
        now = block[B_LOG]
        place = block[B_PLACE]
        kind = block[B_KIND]
        if kind == TICK:
            for model in range(cursor[1], count):
                if models[model, M_DUE] <= now:
                    if len(emitted.ints) - emitted.counts[0] < most:
                        cursor[0] = b
                        cursor[1] = model
                        return False
                    touched[model] = 1
                    _fire(cfg, pending, windows, models, emitted, model, now, place)
            cursor[1] = 0
            continue
        model = block[B_MODEL]
        touched[model] = 1
        first = cursor[1]
        byte = cursor[2] if first > 0 else block[B_IDS]
        task = block[B_TASK]
        positive = block[B_POSITIVE]
        for i in range(first, block[B_ROWS]):
            if len(emitted.ints) - emitted.counts[0] < most or windows.counts[0] < 2 * sizes:
                cursor[0] = b
                cursor[1] = i
                cursor[2] = byte
                return False
            if i == 0 and models[model, M_DUE] <= now:
                _fire(cfg, pending, windows, models, emitted, model, now, place)
                if len(emitted.ints) - emitted.counts[0] < most:
                    cursor[0] = b
                    cursor[1] = 0
                    return False
            time = batch.times[block[B_TIMES] + i]
            latency = np.nan
            if block[B_LATENCY] >= 0:
                latency = batch.latencies[block[B_LATENCY] + i]
            if kind == FAILURES:
                models[model, C_FAILURES] += 1
                failure(cfg, windows, models, emitted, model, time, latency, now, place + i)
                continue
            at = block[B_VALUES] + i
            length = np.int64(batch.id_lengths[at])
            h1, h2 = murmur3_128(batch.ids, byte, length)
            byte += length
            code = _code(batch, block[B_CLASSES], at)
            if kind == PREDICTIONS:
                if prediction(
                    cfg, pending, windows, lasts, models, series, adwin, page_hinkley, emitted,
                    model, h1, h2, time, code, latency, task, positive, now, place + i,
                ):  # fmt: skip
                    batch.counted[place + i] = 1
            else:
                label(
                    cfg, pending, windows, lasts, models, series, adwin, page_hinkley, emitted,
                    model, h1, h2, time, code, now, place + i,
                )  # fmt: skip
        models[model, M_DUE] = due(cfg, pending, models, model)
        cursor[1] = 0
    return True


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
    """Give feature values to their series: blocks in ``order`` (by model, then as they came), columns outside, rows inside.

    A run of blocks with one head is walked column by column, so that a series stays in the processor's cache. ``cursor`` (int64
    [4]: first block of the run, column, block, row) tells where to go on after a return of False: no room for an emission.
    """
    run = cursor[0]
    while run < len(order):
        head = batch.blocks[order[run]]
        model = head[B_MODEL]
        width = head[B_WIDTH]
        end = run + 1
        while end < len(order) and batch.blocks[order[end], B_MODEL] == model and batch.blocks[order[end], B_SERIES] == head[B_SERIES]:
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
