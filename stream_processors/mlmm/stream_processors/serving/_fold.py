"""The first kernel of a poll: all events in log order, and the timers that are due before them."""

# ruff: noqa: PLR0917 - kernels take no keywords

from typing import Any

import numpy as np

from mlmm.detectors import AdwinArrays, PageHinkleyArrays, kernel

from ._arrays import Batch, Emitted, Lasts, Pending, Series, Windows
from ._fields import (
    ALWAYS,
    B_CLASSES,
    B_IDS,
    B_KIND,
    B_LATENCY,
    B_LOG,
    B_MODEL,
    B_PLACE,
    B_POSITIVE,
    B_ROWS,
    B_TASK,
    B_TIMES,
    B_VALUES,
    C_DUPLICATES,
    C_FAILURES,
    C_LABELS,
    C_PREDICTIONS,
    FAILURES,
    HAS_PREDICTION,
    LABELS,
    M_DUE,
    M_HEAD,
    M_ROWS,
    P_DUPLICATES,
    PERFORMANCE,
    PREDICTIONS,
    ROW_FLAGS,
    ROW_LOG,
    SERVICE,
    TICK,
    Config,
)
from ._ids import murmur3_128
from ._join import keep_label, keep_prediction, pair, serve
from ._pairs import NAN_CODE
from ._rows import expire
from ._table import find
from ._windows import close_first, first_deadline

__all__ = ["due", "fold"]


@kernel
def due(cfg: Config, pending: Pending, models: np.ndarray, model: int) -> int:
    """When a model's next timer fires, or ALWAYS."""
    first = min(first_deadline(cfg, models, model, SERVICE), first_deadline(cfg, models, model, PERFORMANCE))
    if models[model, M_ROWS] > 0:
        first = min(first, pending.rows[models[model, M_HEAD], ROW_LOG] + cfg.horizon)
    return first


@kernel
def _fire(
    cfg: Config,
    pending: Pending,
    windows: Windows,
    models: np.ndarray,
    emitted: Emitted,
    model: int,
    now: int,
    place: int,
) -> None:
    """Fire a model's timers that are due, by deadline; of equal ones expiry, service windows, performance windows."""
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
def _code(batch: Batch, classes: int, at: int) -> Any:
    """Identity of an output or label value."""
    value = batch.values[at]
    if classes >= 0:
        return batch.classes[classes + np.int64(value)]
    if value != value:  # noqa: PLR0124 - NaN of any payload
        return NAN_CODE
    return np.float64(value + 0.0).view(np.int64)  # -0.0 + 0.0 is 0.0


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
            code = NAN_CODE
            row: Any = np.int64(-1)
            h1: Any = np.int64(0)
            h2: Any = np.int64(0)
            if kind == FAILURES:
                models[model, C_FAILURES] += 1
            else:
                at = block[B_VALUES] + i
                length: Any = np.int64(batch.id_lengths[at])
                h1, h2 = murmur3_128(batch.ids, byte, length)
                byte += length
                code = _code(batch, block[B_CLASSES], at)
                row = find(pending.table, pending.rows, pending.chunks, model, h1, h2)
            if kind == LABELS:
                models[model, C_LABELS] += 1
                joined = keep_label(cfg, pending, windows, lasts, models, model, row, h1, h2, time, code, now)
            else:
                if kind == PREDICTIONS:
                    models[model, C_PREDICTIONS] += 1
                    if row >= 0 and pending.rows[row, ROW_FLAGS] & HAS_PREDICTION:
                        models[model, C_DUPLICATES] += 1
                        for size in range(sizes):
                            windows.waiting[model, size, P_DUPLICATES] += 1
                        continue
                serve(
                    cfg, windows, models, emitted, model, kind == FAILURES, time, code, task, positive, latency, now,
                    place + i,
                )  # fmt: skip
                if kind == FAILURES:
                    continue
                batch.counted[place + i] = 1
                joined = keep_prediction(cfg, pending, models, model, row, h1, h2, time, code, task, positive, now)
            if joined >= 0:
                pair(
                    cfg, pending, windows, lasts, models, series, adwin, page_hinkley, emitted, model, joined, now,
                    place + i,
                )  # fmt: skip
        models[model, M_DUE] = due(cfg, pending, models, model)
        cursor[1] = 0
    return True
