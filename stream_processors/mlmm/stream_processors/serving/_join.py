"""The join of predictions and labels, row by row: what one event does to its model."""

# ruff: noqa: PLR0917 - kernels take no keywords

import numpy as np

from mlmm.detectors import AdwinArrays, PageHinkleyArrays, kernel

from ._arrays import Emitted, Lasts, Pending, Series, Windows
from ._fields import (
    A_BINARY_OUTPUTS,
    A_NUMBERS,
    A_POSITIVE_OUTPUTS,
    BINARY,
    C_CORRECTIONS,
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
from ._windows import add_latency, advance, opened, window_at

__all__ = ["keep_label", "keep_prediction", "pair", "serve"]


@kernel(inline=True)
def serve(
    cfg: Config,
    windows: Windows,
    models: np.ndarray,
    emitted: Emitted,
    model: int,
    failed: bool,
    time: int,
    output: int,
    task: int,
    positive: int,
    latency: float,
    now: int,
    place: int,
) -> None:
    """Count a request that was answered or failed: in the service windows of its time."""
    advance(cfg, windows, models, emitted, model, SERVICE, time, now, place)
    for size in range(len(windows.sizes)):
        at = opened(windows, models, model, SERVICE, size, time)
        if at < 0:
            continue
        add_latency(windows, at, failed, latency)
        if failed:
            continue
        if task == BINARY:
            windows.ints[at, A_BINARY_OUTPUTS] += 1
            if output == positive:
                windows.ints[at, A_POSITIVE_OUTPUTS] += 1
        elif task == REGRESSION and is_usable(task, output):
            windows.ints[at, A_NUMBERS] += 1
            windows.floats[at, F_OUTPUT_SUM] += number_of(output)


@kernel(inline=True)
def keep_prediction(
    cfg: Config,
    pending: Pending,
    models: np.ndarray,
    model: int,
    row: int,
    h1: int,
    h2: int,
    time: int,
    output: int,
    task: int,
    positive: int,
    now: int,
) -> int:
    """Let a prediction wait, in ``row`` where its label already does (or -1); return the row if joined, else -1."""
    if row < 0:
        row = push(cfg, pending, models, model, h1, h2, now)
    pending.touched[row >> CHUNK_SHIFT] = 1
    models[model, M_PREDICTIONS_HELD] += 1
    fields = pending.rows[row]
    fields[ROW_TIME] = time
    fields[ROW_OUTPUT] = output
    fields[ROW_POSITIVE] = positive
    fields[ROW_FLAGS] |= HAS_PREDICTION | (task << TASK_SHIFT)
    return row if fields[ROW_FLAGS] & HAS_LABEL else -1


@kernel(inline=True)
def keep_label(
    cfg: Config,
    pending: Pending,
    windows: Windows,
    lasts: Lasts,
    models: np.ndarray,
    model: int,
    row: int,
    h1: int,
    h2: int,
    time: int,
    value: int,
    now: int,
) -> int:
    """Take the truth of what is in ``row`` or will come (-1), or a correction; return as `keep_prediction`."""
    if value == NAN_CODE:
        models[model, C_UNUSABLE] += 1
        return -1
    if row < 0:
        row = push(cfg, pending, models, model, h1, h2, now)
    fields = pending.rows[row]
    flags = fields[ROW_FLAGS]
    if flags & HAS_LABEL:
        task = (flags >> TASK_SHIFT) & 3
        unjudged = flags & HAS_PREDICTION != 0 and flags & IS_PAIR == 0
        if not (unjudged and is_usable(task, fields[ROW_OUTPUT]) and is_usable(task, value)):
            _correct(cfg, pending, windows, lasts, models, model, row, value)
            return -1
        # The label before it could not be judged: this one makes the pair.
        models[model, C_CORRECTIONS] += 1
        models[model, M_JOINED_HELD] -= 1
    pending.touched[row >> CHUNK_SHIFT] = 1
    fields[ROW_LABEL] = value
    fields[ROW_LABEL_TIME] = time
    fields[ROW_FLAGS] = flags | HAS_LABEL
    return row if flags & HAS_PREDICTION else -1


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


@kernel(inline=True)
def pair(
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
    """Count a prediction that has its label: in windows of the label's time, among the last pairs, as an error."""
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
