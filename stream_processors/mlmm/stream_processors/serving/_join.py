"""The join of predictions and labels, row by row: what one event does to its model."""

import numpy as np

from mlmm.detectors import AdwinArrays, PageHinkleyArrays, kernel

from ._fields import (
    A_BINARY_OUTPUTS,
    A_NUMBERS,
    A_POSITIVE_OUTPUTS,
    BINARY,
    C_CORRECTIONS,
    C_DUPLICATES,
    C_LABELS,
    C_PREDICTIONS,
    C_REPEATED,
    C_UNUSABLE,
    CHUNK_SHIFT,
    DRIFT_ERROR,
    F_OUTPUT_SUM,
    HAS_LABEL,
    HAS_PREDICTION,
    IS_PAIR,
    M_ERROR_SERIES,
    M_JOINED_HELD,
    M_PREDICTIONS_HELD,
    P_CORRECTIONS,
    P_DUPLICATES,
    PAIR_SHIFT,
    PERFORMANCE,
    REGRESSION,
    ROW_FLAGS,
    ROW_LABEL,
    ROW_LABEL_TIME,
    ROW_OUTPUT,
    ROW_POSITIVE,
    ROW_TIME,
    SERVICE,
    TASK_SHIFT,
    Config,
)
from ._pairs import NAN_CODE, add_lag, add_last, contribute, correct_last, is_usable, number_of
from ._rows import push
from ._series import push_value, tell
from ._store import Emitted, Lasts, Pending, Series, Windows
from ._table import find
from ._windows import add_latency, advance, opened, window_at

__all__ = ["failure", "label", "prediction"]


@kernel
def failure(
    cfg: Config, windows: Windows, models: np.ndarray, emitted: Emitted, model: int, time: int, latency: float, now: int, place: int
) -> None:
    """Count a request that got no answer."""
    advance(cfg, windows, models, emitted, model, SERVICE, time, now, place)
    for size in range(len(windows.sizes)):
        at = opened(windows, models, model, SERVICE, size, time)
        if at >= 0:
            add_latency(windows, at, True, latency)


@kernel
def prediction(
    cfg: Config,
    pending: Pending,
    windows: Windows,
    lasts: Lasts,
    models: np.ndarray,
    series: Series,
    adwin: AdwinArrays,
    page_hinkley: PageHinkleyArrays,
    emitted: Emitted,
    model: int,
    h1: int,
    h2: int,
    time: int,
    output: int,
    latency: float,
    task: int,
    positive: int,
    now: int,
    place: int,
) -> bool:
    """Take a prediction; return False for a duplicate, which is counted and otherwise ignored."""
    models[model, C_PREDICTIONS] += 1
    row = find(pending.table, pending.rows, pending.chunks, model, h1, h2)
    if row >= 0 and pending.rows[row, ROW_FLAGS] & HAS_PREDICTION:
        models[model, C_DUPLICATES] += 1
        for size in range(len(windows.sizes)):
            windows.waiting[model, size, P_DUPLICATES] += 1
        return False
    advance(cfg, windows, models, emitted, model, SERVICE, time, now, place)
    for size in range(len(windows.sizes)):
        at = opened(windows, models, model, SERVICE, size, time)
        if at < 0:
            continue
        add_latency(windows, at, False, latency)
        if task == BINARY:
            windows.ints[at, A_BINARY_OUTPUTS] += 1
            if output == positive:
                windows.ints[at, A_POSITIVE_OUTPUTS] += 1
        elif task == REGRESSION and is_usable(task, output):
            windows.ints[at, A_NUMBERS] += 1
            windows.floats[at, F_OUTPUT_SUM] += number_of(output)
    if row < 0:
        row = push(cfg, pending, models, model, h1, h2, now)
    pending.touched[row >> CHUNK_SHIFT] = 1
    models[model, M_PREDICTIONS_HELD] += 1
    fields = pending.rows[row]
    fields[ROW_TIME] = time
    fields[ROW_OUTPUT] = output
    fields[ROW_POSITIVE] = positive
    fields[ROW_FLAGS] |= HAS_PREDICTION | (task << TASK_SHIFT)
    if fields[ROW_FLAGS] & HAS_LABEL:
        _pair(cfg, pending, windows, lasts, models, series, adwin, page_hinkley, emitted, model, row, now, place)
    return True


@kernel
def label(
    cfg: Config,
    pending: Pending,
    windows: Windows,
    lasts: Lasts,
    models: np.ndarray,
    series: Series,
    adwin: AdwinArrays,
    page_hinkley: PageHinkleyArrays,
    emitted: Emitted,
    model: int,
    h1: int,
    h2: int,
    time: int,
    value: int,
    now: int,
    place: int,
) -> None:
    """Take a label: the truth of a prediction that is here or will be, or a correction of it."""
    models[model, C_LABELS] += 1
    if value == NAN_CODE:
        models[model, C_UNUSABLE] += 1
        return
    row = find(pending.table, pending.rows, pending.chunks, model, h1, h2)
    if row < 0:
        row = push(cfg, pending, models, model, h1, h2, now)
    fields = pending.rows[row]
    flags = fields[ROW_FLAGS]
    if flags & HAS_LABEL:
        _correct(cfg, pending, windows, lasts, models, model, row, value)
        return
    pending.touched[row >> CHUNK_SHIFT] = 1
    fields[ROW_LABEL] = value
    fields[ROW_LABEL_TIME] = time
    fields[ROW_FLAGS] = flags | HAS_LABEL
    if flags & HAS_PREDICTION:
        _pair(cfg, pending, windows, lasts, models, series, adwin, page_hinkley, emitted, model, row, now, place)


@kernel
def _correct(
    cfg: Config, pending: Pending, windows: Windows, lasts: Lasts, models: np.ndarray, model: int, row: int, value: int
) -> None:
    """A later label of the same id: it counts where its pair is still in a window, and never in a detector."""
    fields = pending.rows[row]
    old = fields[ROW_LABEL]
    if old == value:
        models[model, C_REPEATED] += 1
        return
    flags = fields[ROW_FLAGS]
    task = (flags >> TASK_SHIFT) & 3
    if flags & HAS_PREDICTION and not is_usable(task, value):
        models[model, C_UNUSABLE] += 1
        return
    models[model, C_CORRECTIONS] += 1
    pending.touched[row >> CHUNK_SHIFT] = 1
    fields[ROW_LABEL] = value
    if not flags & IS_PAIR:
        return
    time = fields[ROW_LABEL_TIME]
    output = fields[ROW_OUTPUT]
    positive = fields[ROW_POSITIVE]
    for size in range(len(windows.sizes)):
        windows.waiting[model, size, P_CORRECTIONS] += 1
        at = window_at(windows, model, PERFORMANCE, size, time - time % windows.sizes[size])
        if at >= 0:
            contribute(windows.ints[at], windows.floats[at], -1, task, output, old, positive)
            contribute(windows.ints[at], windows.floats[at], 1, task, output, value, positive)
    correct_last(cfg, lasts, models, model, flags >> PAIR_SHIFT, task, output, old, value, positive)


@kernel
def _pair(
    cfg: Config,
    pending: Pending,
    windows: Windows,
    lasts: Lasts,
    models: np.ndarray,
    series: Series,
    adwin: AdwinArrays,
    page_hinkley: PageHinkleyArrays,
    emitted: Emitted,
    model: int,
    row: int,
    now: int,
    place: int,
) -> None:
    """Count a prediction that has its label: in the windows of the label's time, among the last pairs, in the error series."""
    models[model, M_JOINED_HELD] += 1
    fields = pending.rows[row]
    task = (fields[ROW_FLAGS] >> TASK_SHIFT) & 3
    output = fields[ROW_OUTPUT]
    truth = fields[ROW_LABEL]
    positive = fields[ROW_POSITIVE]
    time = fields[ROW_LABEL_TIME]
    lag = time - fields[ROW_TIME]
    if not (is_usable(task, output) and is_usable(task, truth)):
        models[model, C_UNUSABLE] += 1
        return
    advance(cfg, windows, models, emitted, model, PERFORMANCE, time, now, place)
    for size in range(len(windows.sizes)):
        at = opened(windows, models, model, PERFORMANCE, size, time)
        if at >= 0:
            contribute(windows.ints[at], windows.floats[at], 1, task, output, truth, positive)
            add_lag(windows.floats[at], lag)
    ordinal = add_last(cfg, lasts, models, emitted, model, task, output, truth, positive, time, lag, now, place)
    fields[ROW_FLAGS] |= IS_PAIR | (ordinal << PAIR_SHIFT)
    if not cfg.watch_error:
        return
    error = 1.0 if output != truth else 0.0
    if task == REGRESSION:
        error = abs(number_of(output) - number_of(truth))
    s = models[model, M_ERROR_SERIES]
    if not error <= 1e100:  # the difference of two huge numbers: no detector may see it
        return
    alarm = push_value(cfg, series, adwin, page_hinkley, s, error, task != REGRESSION)
    if alarm:
        tell(cfg, series, adwin, page_hinkley, models, emitted, model, s, alarm, DRIFT_ERROR, time, now, place)
