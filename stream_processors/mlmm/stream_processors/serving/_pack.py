"""State into bytes: the layouts of the cells, written by kernels, little-endian.

Layout 1. All integers are int64 and all numbers float64 unless said otherwise.

model     u8 layout; the kept columns of the model; u32 sizes, and of each: its microseconds, its waiting counts, and
          for the service and then the performance family: u32 open windows, and of each, by start: accumulators,
          sums, and of a service window u32 buckets with u32 bucket and u32 count each; u32 blocks of the last pairs,
          and of each, by number: accumulators, sums; the error series.
series    u8 layout; u32 series, and of each: columns, history blocks, ADWIN, Page-Hinkley (see `mlmm.detectors`).
rows      u8 layout; u8 place of the first row within the chunk; u8 rows; five zero bytes; the rows.
"""

# ruff: noqa: PLR0917 - kernels take no keywords

from typing import Any

import numpy as np

from mlmm.detectors import (
    AdwinArrays,
    PageHinkleyArrays,
    adwin_pack,
    adwin_packed_size,
    adwin_unpack,
    kernel,
    page_hinkley_pack,
    page_hinkley_packed_size,
    page_hinkley_unpack,
    put_f64,
    put_u32,
)
from mlmm.detectors import get_f64 as _get_f64

from ._arrays import Lasts, Pending, Series, Windows
from ._fields import (
    A_HIGHEST,
    A_LOWEST,
    ACCUMULATED,
    ACCUMULATED_FLOATS,
    ALWAYS,
    BLOCKS,
    CHUNK_MODEL,
    CHUNK_NUMBER,
    CHUNK_ROWS,
    CHUNK_SHIFT,
    GROUP,
    HISTORY,
    M_ERROR_SERIES,
    M_KEPT,
    M_NEXT_ROW,
    M_PAIRS,
    M_ROWS,
    PENDING_COLUMNS,
    PERFORMANCE,
    ROW_COLUMNS,
    S_BLOCK_SIZE,
    S_BLOCKS,
    SERIES_COLUMNS,
    SERVICE,
    Config,
)
from ._layout import LAYOUT

__all__ = [
    "CHUNK_WORDS",
    "LAYOUT",
    "groups_room",
    "models_room",
    "pack_chunks",
    "pack_groups",
    "pack_models",
    "unpack_series",
]

CHUNK_WORDS = 1 + ROW_COLUMNS * CHUNK_ROWS
_ACCUMULATORS = 8 * (ACCUMULATED + ACCUMULATED_FLOATS)


@kernel(inline=True)
def _put_i64(buffer: np.ndarray, position: int, value: int) -> int:
    return put_f64(buffer, position, np.int64(value).view(np.float64))


@kernel(inline=True)
def _series_size(series: Series, adwin: AdwinArrays, page_hinkley: PageHinkleyArrays, s: int) -> int:
    floats: Any = SERIES_COLUMNS + np.int64(series.values[s, S_BLOCKS])
    return 8 * floats + adwin_packed_size(adwin, s) + page_hinkley_packed_size(page_hinkley, s)  # type: ignore[no-any-return]


@kernel(inline=True)
def _put_series(
    series: Series, adwin: AdwinArrays, page_hinkley: PageHinkleyArrays, s: int, buffer: np.ndarray, position: int
) -> int:
    for column in range(SERIES_COLUMNS):
        position = put_f64(buffer, position, series.values[s, column])
    for k in range(np.int64(series.values[s, S_BLOCKS])):
        position = put_f64(buffer, position, series.history[s, k])
    position = adwin_pack(adwin, s, buffer, position)
    return page_hinkley_pack(page_hinkley, s, buffer, position)


@kernel
def unpack_series(
    series: Series, adwin: AdwinArrays, page_hinkley: PageHinkleyArrays, s: int, buffer: np.ndarray, position: int
) -> int:
    """Read what was written of one series; return the position after it, or -1 where the bytes are damaged."""
    if position + 8 * SERIES_COLUMNS > len(buffer):
        return -1
    for column in range(SERIES_COLUMNS):
        series.values[s, column] = _get_f64(buffer, position)
        position += 8
    blocks = series.values[s, S_BLOCKS]
    if not (0.0 <= blocks < HISTORY and series.values[s, S_BLOCK_SIZE] >= 1.0):
        return -1
    if position + 8 * np.int64(blocks) > len(buffer):
        return -1
    for k in range(np.int64(blocks)):
        series.history[s, k] = _get_f64(buffer, position)
        position += 8
    position = adwin_unpack(adwin, s, buffer, position)
    if position < 0:
        return -1
    return page_hinkley_unpack(page_hinkley, s, buffer, position)


@kernel
def groups_room(series: Series, adwin: AdwinArrays, page_hinkley: PageHinkleyArrays, groups: np.ndarray) -> int:
    """Bytes that `pack_groups` writes."""
    total = 0
    for g in groups:
        total += 5
        for k in range(GROUP):
            if series.members[g, k] >= 0:
                total += _series_size(series, adwin, page_hinkley, series.members[g, k])
    return total


@kernel
def pack_groups(
    series: Series,
    adwin: AdwinArrays,
    page_hinkley: PageHinkleyArrays,
    groups: np.ndarray,
    buffer: np.ndarray,
    offsets: np.ndarray,
) -> None:
    """Write groups of series; cell ``k`` comes to lie at ``offsets[k]:offsets[k + 1]`` of the buffer (uint8)."""
    position = 0
    for at in range(len(groups)):
        members = series.members[groups[at]]
        offsets[at] = position
        buffer[position] = LAYOUT
        start = position + 1
        position += 5
        count = 0
        while count < GROUP and members[count] >= 0:
            position = _put_series(series, adwin, page_hinkley, members[count], buffer, position)
            count += 1
        put_u32(buffer, start, count)
    offsets[len(groups)] = position


@kernel
def pack_chunks(
    pending: Pending, models: np.ndarray, chunks: np.ndarray, words: np.ndarray, offsets: np.ndarray
) -> None:
    """Write chunks of rows that are in use, as `pack_groups` does; the buffer (int64) holds `CHUNK_WORDS` a chunk."""
    at = 0
    for k in range(len(chunks)):
        chunk = chunks[k]
        model = pending.chunks[chunk, CHUNK_MODEL]
        start = pending.chunks[chunk, CHUNK_NUMBER] << CHUNK_SHIFT
        end = min(models[model, M_NEXT_ROW], start + CHUNK_ROWS)
        first = max(models[model, M_NEXT_ROW] - models[model, M_ROWS], start)
        offsets[k] = 8 * at
        words[at] = LAYOUT | ((first - start) << 8) | ((end - first) << 16)
        at += 1
        for ordinal in range(first, end):
            row = (chunk << CHUNK_SHIFT) + ordinal - start
            for column in range(ROW_COLUMNS):
                words[at + column] = pending.rows[row, column]
            at += ROW_COLUMNS
    offsets[len(chunks)] = 8 * at


@kernel(inline=True)
def _put_accumulators(ints: np.ndarray, floats: np.ndarray, buffer: np.ndarray, position: int) -> int:
    for column in range(ACCUMULATED):
        position = _put_i64(buffer, position, ints[column])
    for column in range(ACCUMULATED_FLOATS):
        position = put_f64(buffer, position, floats[column])
    return position


@kernel
def _put_windows(windows: Windows, model: int, family: int, size: int, buffer: np.ndarray, position: int) -> int:
    counted = position
    position += 4
    first = windows.first[model, family, size]
    ring = windows.open.shape[3]
    count = 0
    if first != ALWAYS:
        k = first // windows.sizes[size]
        for ahead in range(ring):
            at = windows.open[model, family, size, (k + ahead) % ring]
            if at < 0:
                continue
            count += 1
            position = _put_accumulators(windows.ints[at], windows.floats[at], buffer, position)
            if family == SERVICE:
                buckets = position
                position += 4
                filled = 0
                for bucket in range(windows.ints[at, A_LOWEST], windows.ints[at, A_HIGHEST] + 1):
                    if windows.sketches[at, bucket] > 0:
                        position = put_u32(buffer, position, bucket)
                        position = put_u32(buffer, position, windows.sketches[at, bucket])
                        filled += 1
                put_u32(buffer, buckets, filled)
    put_u32(buffer, counted, count)
    return position


@kernel
def _model_room(
    windows: Windows, series: Series, adwin: AdwinArrays, page_hinkley: PageHinkleyArrays, model: int, s: int
) -> int:
    """Bytes that a model's cell takes at most."""
    room = 1 + 8 * M_KEPT + 8 + BLOCKS * _ACCUMULATORS + _series_size(series, adwin, page_hinkley, s)
    for size in range(len(windows.sizes)):
        room += 8 * (1 + PENDING_COLUMNS) + 8
        for k in range(windows.open.shape[3]):
            if windows.open[model, PERFORMANCE, size, k] >= 0:
                room += _ACCUMULATORS
            at = windows.open[model, SERVICE, size, k]
            if at >= 0:
                room += _ACCUMULATORS + 4 + 8 * max(0, windows.ints[at, A_HIGHEST] + 1 - windows.ints[at, A_LOWEST])
    return room


@kernel
def models_room(
    windows: Windows,
    series: Series,
    adwin: AdwinArrays,
    page_hinkley: PageHinkleyArrays,
    models: np.ndarray,
    slots: np.ndarray,
) -> int:
    """Bytes that `pack_models` writes at most."""
    total = 0
    for model in slots:
        total += _model_room(windows, series, adwin, page_hinkley, model, models[model, M_ERROR_SERIES])
    return total


@kernel
def pack_models(
    cfg: Config,
    windows: Windows,
    lasts: Lasts,
    series: Series,
    adwin: AdwinArrays,
    page_hinkley: PageHinkleyArrays,
    models: np.ndarray,
    slots: np.ndarray,
    buffer: np.ndarray,
    offsets: np.ndarray,
) -> None:
    """Write models, as `pack_groups` does."""
    position = 0
    for at in range(len(slots)):
        model = slots[at]
        offsets[at] = position
        buffer[position] = LAYOUT
        position += 1
        for column in range(M_KEPT):
            position = _put_i64(buffer, position, models[model, column])
        position = put_u32(buffer, position, len(windows.sizes))
        for size in range(len(windows.sizes)):
            position = _put_i64(buffer, position, windows.sizes[size])
            for column in range(PENDING_COLUMNS):
                position = _put_i64(buffer, position, windows.waiting[model, size, column])
            for family in (SERVICE, PERFORMANCE):
                position = _put_windows(windows, model, family, size, buffer, position)
        pairs = models[model, M_PAIRS]
        last = (pairs - 1) // cfg.block
        first = max(0, last - BLOCKS + 1)
        blocks = last - first + 1 if pairs > 0 else 0
        position = put_u32(buffer, position, blocks)
        for number in range(first, first + blocks):
            slot = number % BLOCKS
            position = _put_accumulators(lasts.ints[model, slot], lasts.floats[model, slot], buffer, position)
        position = _put_series(series, adwin, page_hinkley, models[model, M_ERROR_SERIES], buffer, position)
    offsets[len(slots)] = position
