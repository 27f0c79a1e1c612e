"""Rows that wait: a first-in-first-out ring a model, in chunks of 64 rows from one pool."""

# ruff: noqa: PLR0917 - kernels take no keywords

import numpy as np

from mlmm.detectors import kernel

from ._arrays import Pending
from ._fields import (
    C_EVICTED,
    C_EXPIRED,
    C_ORPHANS,
    CHUNK_MODEL,
    CHUNK_NEXT,
    CHUNK_NUMBER,
    CHUNK_ROWS,
    CHUNK_SHIFT,
    HAS_LABEL,
    HAS_PREDICTION,
    M_HEAD,
    M_JOINED_HELD,
    M_NEXT_ROW,
    M_PREDICTIONS_HELD,
    M_ROWS,
    M_TAIL,
    ROW_COLUMNS,
    ROW_FLAGS,
    ROW_HASH,
    ROW_HASH2,
    ROW_LOG,
    Config,
)
from ._table import delete, insert, tag_of

__all__ = ["evict", "expire", "insert_rows", "push"]


@kernel
def push(cfg: Config, pending: Pending, models: np.ndarray, model: int, h1: int, h2: int, now: int) -> int:
    """Append a row to a model's ring and return where it lies; a full ring loses its oldest row first."""
    if models[model, M_ROWS] >= cfg.max_pending:
        evict(pending, models, model)
    ordinal = models[model, M_NEXT_ROW]
    within = ordinal & (CHUNK_ROWS - 1)
    if within == 0 or models[model, M_ROWS] == 0:
        pending.counts[0] -= 1
        chunk = pending.free[pending.counts[0]]
        pending.chunks[chunk, CHUNK_MODEL] = model
        pending.chunks[chunk, CHUNK_NUMBER] = ordinal >> CHUNK_SHIFT
        if models[model, M_ROWS] > 0:
            pending.chunks[models[model, M_TAIL] >> CHUNK_SHIFT, CHUNK_NEXT] = chunk
    else:
        chunk = models[model, M_TAIL] >> CHUNK_SHIFT
    row = (chunk << CHUNK_SHIFT) + within
    if models[model, M_ROWS] == 0:
        models[model, M_HEAD] = row
    models[model, M_TAIL] = row
    models[model, M_NEXT_ROW] = ordinal + 1
    models[model, M_ROWS] += 1
    for column in range(ROW_COLUMNS):
        pending.rows[row, column] = 0
    pending.rows[row, ROW_HASH] = h1
    pending.rows[row, ROW_HASH2] = h2
    pending.rows[row, ROW_LOG] = now
    pending.touched[chunk] = 1
    insert(pending.table, tag_of(model, h1), row)
    pending.counts[1] += 1
    return row  # type: ignore[no-any-return]


@kernel
def insert_rows(pending: Pending, model: int, first: int, count: int) -> None:
    """Put rows of a chunk that was loaded into the table."""
    for row in range(first, first + count):
        insert(pending.table, tag_of(model, pending.rows[row, ROW_HASH]), row)
    pending.counts[1] += count


@kernel
def _pop(pending: Pending, models: np.ndarray, model: int) -> int:
    """Remove a model's oldest row; return its flags."""
    row = models[model, M_HEAD]
    chunk = row >> CHUNK_SHIFT
    flags = pending.rows[row, ROW_FLAGS]
    delete(pending.table, tag_of(model, pending.rows[row, ROW_HASH]), row)
    pending.counts[1] -= 1
    models[model, M_ROWS] -= 1
    if flags & HAS_PREDICTION:
        models[model, M_PREDICTIONS_HELD] -= 1
        if flags & HAS_LABEL:
            models[model, M_JOINED_HELD] -= 1
    last = models[model, M_ROWS] == 0
    if last:
        models[model, M_HEAD] = -1
        models[model, M_TAIL] = -1
    elif row & (CHUNK_ROWS - 1) == CHUNK_ROWS - 1:
        models[model, M_HEAD] = pending.chunks[chunk, CHUNK_NEXT] << CHUNK_SHIFT
        last = True
    else:
        models[model, M_HEAD] = row + 1
    if last:
        # Remembered by name, since the chunk may serve another model before the poll is over.
        pending.free[pending.counts[0]] = chunk
        pending.counts[0] += 1
        pending.gone[pending.counts[2], 0] = model
        pending.gone[pending.counts[2], 1] = pending.chunks[chunk, CHUNK_NUMBER]
        pending.counts[2] += 1
        pending.touched[chunk] = 0
    else:
        pending.touched[chunk] = 1
    return flags  # type: ignore[no-any-return]


@kernel
def evict(pending: Pending, models: np.ndarray, model: int) -> None:
    """Let a model's oldest row leave early, to make room."""
    _pop(pending, models, model)
    models[model, C_EVICTED] += 1


@kernel
def expire(pending: Pending, models: np.ndarray, model: int) -> None:
    """Let a model's oldest row leave at its deadline."""
    flags = _pop(pending, models, model)
    if flags & HAS_PREDICTION == 0:
        models[model, C_ORPHANS] += 1
    elif flags & HAS_LABEL == 0:
        models[model, C_EXPIRED] += 1
