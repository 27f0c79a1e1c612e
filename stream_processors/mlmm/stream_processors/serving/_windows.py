"""Tumbling windows on event time: a watermark per family, which moves on when its key is silent; opening, closing."""

# ruff: noqa: PLR0917 - kernels take no keywords

import numpy as np

from mlmm.detectors import kernel

from ._arrays import Emitted, Windows
from ._fields import (
    A_FAILURES,
    A_HIGHEST,
    A_LATENCIES,
    A_LOWEST,
    A_PREDICTIONS,
    A_START,
    ACCUMULATED,
    ACCUMULATED_FLOATS,
    ALWAYS,
    C_LATE,
    E_DUPLICATES,
    E_END,
    E_FIGURES,
    E_HELD,
    E_JOINED,
    E_KIND,
    E_LATE,
    E_LOG,
    E_MODEL,
    E_PLACE,
    E_SIZE,
    E_TIMER,
    F_LATENCY_MAX,
    F_LATENCY_MIN,
    F_LATENCY_SUM,
    G_P50,
    G_P95,
    G_P99,
    M_FIRST_END,
    M_JOINED_HELD,
    M_LAST_LOG,
    M_PREDICTIONS_HELD,
    M_WATERMARK,
    NEVER,
    P_DUPLICATES,
    P_LATE,
    REPORT_SERVICE,
    SERVICE,
    Config,
)
from ._sketch import BUCKETS, bucket_of, quantile

__all__ = ["add_latency", "advance", "close_first", "first_deadline", "opened", "window_at"]


@kernel
def window_at(windows: Windows, model: int, family: int, size: int, start: int) -> int:
    """Where the open window that starts at ``start`` lies, or -1 where none is."""
    ring = windows.open.shape[3]
    at = windows.open[model, family, size, (start // windows.sizes[size]) % ring]
    return at if at >= 0 and windows.ints[at, A_START] == start else -1


@kernel(inline=True)
def opened(windows: Windows, models: np.ndarray, model: int, family: int, size: int, time: int) -> int:
    """Window of a time, opened where need be; -1 where it is closed already: the event is late, and counted so."""
    length = windows.sizes[size]
    start = time - time % length
    end = start + length
    if end <= models[model, M_WATERMARK + family]:
        windows.waiting[model, size, P_LATE + family] += 1
        return -1
    k = (start // length) % windows.open.shape[3]
    at = windows.open[model, family, size, k]
    if at >= 0:
        return at  # type: ignore[no-any-return]
    windows.counts[0] -= 1
    at = windows.free[windows.counts[0]]
    for column in range(ACCUMULATED):
        windows.ints[at, column] = 0
    for column in range(ACCUMULATED_FLOATS):
        windows.floats[at, column] = 0.0
    windows.ints[at, A_START] = start
    if family == SERVICE:
        windows.ints[at, A_LOWEST] = BUCKETS
        windows.ints[at, A_HIGHEST] = -1
        windows.floats[at, F_LATENCY_MIN] = np.inf
    windows.open[model, family, size, k] = at
    windows.first[model, family, size] = min(windows.first[model, family, size], start)
    models[model, M_FIRST_END + family] = min(models[model, M_FIRST_END + family], end)
    return at  # type: ignore[no-any-return]


@kernel
def advance(
    cfg: Config,
    windows: Windows,
    models: np.ndarray,
    emitted: Emitted,
    model: int,
    family: int,
    time: int,
    now: int,
    place: int,
) -> None:
    """Move a family's watermark on to an event (``time``) that the log took at ``now``; close what it passes."""
    watermark = models[model, M_WATERMARK + family]
    silent = now - models[model, M_LAST_LOG + family]
    if models[model, M_LAST_LOG + family] != NEVER and silent >= cfg.idle:
        watermark += silent
    watermark = max(watermark, time - cfg.lateness)
    models[model, M_WATERMARK + family] = watermark
    models[model, M_LAST_LOG + family] = now
    while models[model, M_FIRST_END + family] <= watermark:
        close_first(windows, models, emitted, model, family, now, place, 0)
    # Sizes ascend: an event that is late for a size is late for all smaller ones too.
    if time - time % windows.sizes[0] + windows.sizes[0] <= watermark:
        models[model, C_LATE] += 1


@kernel
def first_deadline(cfg: Config, models: np.ndarray, model: int, family: int) -> int:
    """When the earliest open window of a family closes if its key stays silent."""
    end = models[model, M_FIRST_END + family]
    if end == ALWAYS:
        return ALWAYS
    return models[model, M_LAST_LOG + family] + max(cfg.idle, end - models[model, M_WATERMARK + family])  # type: ignore[no-any-return]


@kernel
def close_first(
    windows: Windows, models: np.ndarray, emitted: Emitted, model: int, family: int, log: int, place: int, timer: int
) -> None:
    """Close the open window of a family that ends first (of equal ends the smallest) and emit its report."""
    size = 0
    end = ALWAYS
    for k in range(len(windows.sizes)):
        ends = windows.first[model, family, k] + windows.sizes[k]
        if ends < end:
            end = ends
            size = k
    length = windows.sizes[size]
    start = windows.first[model, family, size]
    ring = windows.open.shape[3]
    k = (start // length) % ring
    at = windows.open[model, family, size, k]
    _emit(windows, models, emitted, model, family, size, at, log, place, timer)
    windows.open[model, family, size, k] = -1
    windows.free[windows.counts[0]] = at
    windows.counts[0] += 1
    following = ALWAYS
    for ahead in range(1, ring):
        if windows.open[model, family, size, (k + ahead) % ring] >= 0:
            following = start + ahead * length
            break
    windows.first[model, family, size] = following
    end = ALWAYS
    for k in range(len(windows.sizes)):
        if windows.first[model, family, k] != ALWAYS:
            end = min(end, windows.first[model, family, k] + windows.sizes[k])
    models[model, M_FIRST_END + family] = end


@kernel
def _emit(
    windows: Windows,
    models: np.ndarray,
    emitted: Emitted,
    model: int,
    family: int,
    size: int,
    at: int,
    log: int,
    place: int,
    timer: int,
) -> None:
    e = emitted.counts[0]
    emitted.counts[0] = e + 1
    ints = emitted.ints
    floats = emitted.floats
    ints[e, E_KIND] = REPORT_SERVICE + family
    ints[e, E_PLACE] = place
    ints[e, E_TIMER] = timer
    ints[e, E_MODEL] = model
    ints[e, E_SIZE] = size
    ints[e, E_LOG] = log
    ints[e, E_END] = windows.ints[at, A_START] + windows.sizes[size]
    # Late events for performance, then corrections, lie beside those for service.
    ints[e, E_LATE] = windows.waiting[model, size, P_LATE + family]
    ints[e, E_DUPLICATES] = windows.waiting[model, size, P_DUPLICATES + family]
    windows.waiting[model, size, P_LATE + family] = 0
    windows.waiting[model, size, P_DUPLICATES + family] = 0
    ints[e, E_HELD] = models[model, M_PREDICTIONS_HELD]
    ints[e, E_JOINED] = models[model, M_JOINED_HELD]
    for column in range(ACCUMULATED):
        ints[e, E_FIGURES + column] = windows.ints[at, column]
    for column in range(ACCUMULATED_FLOATS):
        floats[e, column] = windows.floats[at, column]
    if family != SERVICE:
        return
    low = windows.ints[at, A_LOWEST]
    high = windows.ints[at, A_HIGHEST]
    count = windows.ints[at, A_LATENCIES]
    if count > 0:
        least = windows.floats[at, F_LATENCY_MIN]
        most = windows.floats[at, F_LATENCY_MAX]
        floats[e, G_P50] = quantile(windows.sketches, at, low, high, count, 0.5, least, most)
        floats[e, G_P95] = quantile(windows.sketches, at, low, high, count, 0.95, least, most)
        floats[e, G_P99] = quantile(windows.sketches, at, low, high, count, 0.99, least, most)
    for bucket in range(low, high + 1):
        windows.sketches[at, bucket] = 0


@kernel(inline=True)
def add_latency(windows: Windows, at: int, failed: bool, latency: float) -> None:
    """Count one request in a service window, with its latency where it is a number that is not negative."""
    windows.ints[at, A_FAILURES if failed else A_PREDICTIONS] += 1
    if not (latency >= 0.0 and latency < np.inf):
        return
    windows.ints[at, A_LATENCIES] += 1
    windows.floats[at, F_LATENCY_SUM] += latency
    windows.floats[at, F_LATENCY_MIN] = min(windows.floats[at, F_LATENCY_MIN], latency)
    windows.floats[at, F_LATENCY_MAX] = max(windows.floats[at, F_LATENCY_MAX], latency)
    bucket = bucket_of(latency)
    windows.sketches[at, bucket] += np.uint32(1)
    windows.ints[at, A_LOWEST] = min(windows.ints[at, A_LOWEST], bucket)
    windows.ints[at, A_HIGHEST] = max(windows.ints[at, A_HIGHEST], bucket)
