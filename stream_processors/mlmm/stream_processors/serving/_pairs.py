"""Performance of joined pairs: what one adds to a window or a block of the last pairs, or takes away when corrected."""

# ruff: noqa: PLR0917 - kernels take no keywords

import numpy as np

from mlmm.detectors import kernel

from ._arrays import Emitted, Lasts
from ._fields import (
    A_BINARY,
    A_CLASSES,
    A_CORRECT,
    A_FALSE_NEGATIVE,
    A_FALSE_POSITIVE,
    A_FIRST,
    A_LAST,
    A_NUMERIC,
    A_START,
    A_TRUE_POSITIVE,
    ACCUMULATED,
    ACCUMULATED_FLOATS,
    ALWAYS,
    BINARY,
    BLOCKS,
    C_PAIRS,
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
    F_ABSOLUTE,
    F_LAG,
    F_SIGNED,
    F_SQUARED,
    M_JOINED_HELD,
    M_LAST_CORRECTIONS,
    M_PAIRS,
    M_PREDICTIONS_HELD,
    REGRESSION,
    REPORT_LAST,
    Config,
)

__all__ = ["NAN_CODE", "add_lag", "add_last", "contribute", "correct_last", "is_usable", "number_of"]

NAN_CODE = 0x7FF8 << 48
_STRINGS = -(0x8 << 48)
"""Codes of strings, as int64, are at or above ``0xFFF8 << 48``, which is the highest of the negative numbers."""


@kernel
def number_of(code: int) -> float:
    """Value of a number's code."""
    return np.int64(code).view(np.float64)


@kernel
def is_usable(task: int, code: int) -> bool:
    """Whether an output or label can be judged: of a regression a finite number, else anything but NaN."""
    if task != REGRESSION:
        return code != NAN_CODE
    return not (_STRINGS <= code < 0) and abs(number_of(code)) < np.inf


@kernel
def contribute(
    ints: np.ndarray, floats: np.ndarray, sign: int, task: int, output: int, label: int, positive: int
) -> None:
    """Add (``sign`` 1) a pair to the accumulators of one row, or take it away (-1)."""
    if task == REGRESSION:
        error = number_of(output) - number_of(label)
        ints[A_NUMERIC] += sign
        floats[F_ABSOLUTE] += sign * abs(error)
        floats[F_SQUARED] += sign * (error * error)
        floats[F_SIGNED] += sign * error
        return
    ints[A_CLASSES] += sign
    if output == label:
        ints[A_CORRECT] += sign
    if task == BINARY:
        ints[A_BINARY] += sign
        if output == positive:
            ints[A_TRUE_POSITIVE if label == positive else A_FALSE_POSITIVE] += sign
        elif label == positive:
            ints[A_FALSE_NEGATIVE] += sign


@kernel
def add_lag(floats: np.ndarray, lag: int) -> None:
    """Add how long a label took, in microseconds, to the accumulators of one row."""
    floats[F_LAG] += lag * 1e-6


@kernel
def add_last(
    cfg: Config,
    lasts: Lasts,
    models: np.ndarray,
    emitted: Emitted,
    model: int,
    task: int,
    output: int,
    label: int,
    positive: int,
    label_time: int,
    lag: int,
    now: int,
    place: int,
) -> int:
    """Give a pair its ordinal, returned, and add it to the block being filled; emit a report when that is whole."""
    ordinal = models[model, M_PAIRS]
    models[model, M_PAIRS] = ordinal + 1
    models[model, C_PAIRS] += 1
    number = ordinal // cfg.block
    slot = number % BLOCKS
    ints = lasts.ints[model, slot]
    floats = lasts.floats[model, slot]
    if ordinal == number * cfg.block:
        for column in range(ACCUMULATED):
            ints[column] = 0
        for column in range(ACCUMULATED_FLOATS):
            floats[column] = 0.0
        ints[A_START] = number
        ints[A_FIRST] = ALWAYS
    ints[A_FIRST] = min(ints[A_FIRST], label_time)
    ints[A_LAST] = max(ints[A_LAST], label_time)
    contribute(ints, floats, 1, task, output, label, positive)
    add_lag(floats, lag)
    if ordinal + 1 == (number + 1) * cfg.block:
        _emit(lasts, models, emitted, model, number, now, place)
    return ordinal  # type: ignore[no-any-return]


@kernel
def _emit(lasts: Lasts, models: np.ndarray, emitted: Emitted, model: int, number: int, now: int, place: int) -> None:
    e = emitted.counts[0]
    emitted.counts[0] = e + 1
    ints = emitted.ints[e]
    floats = emitted.floats[e]
    ints[E_KIND] = REPORT_LAST
    ints[E_PLACE] = place
    ints[E_TIMER] = 0
    ints[E_MODEL] = model
    ints[E_SIZE] = number
    ints[E_LOG] = now
    ints[E_LATE] = 0
    ints[E_DUPLICATES] = models[model, M_LAST_CORRECTIONS]
    models[model, M_LAST_CORRECTIONS] = 0
    ints[E_HELD] = models[model, M_PREDICTIONS_HELD]
    ints[E_JOINED] = models[model, M_JOINED_HELD]
    for column in range(ACCUMULATED):
        ints[E_FIGURES + column] = 0
    for column in range(ACCUMULATED_FLOATS):
        floats[column] = 0.0
    start = ALWAYS
    end = 0
    for k in range(max(0, number - BLOCKS + 2), number + 1):
        block = lasts.ints[model, k % BLOCKS]
        start = min(start, block[A_FIRST])
        end = max(end, block[A_LAST])
        for column in range(1, ACCUMULATED):
            ints[E_FIGURES + column] += block[column]
        for column in range(ACCUMULATED_FLOATS):
            floats[column] += lasts.floats[model, k % BLOCKS, column]
    ints[E_FIGURES + A_START] = start
    ints[E_END] = end


@kernel
def correct_last(
    cfg: Config,
    lasts: Lasts,
    models: np.ndarray,
    model: int,
    ordinal: int,
    task: int,
    output: int,
    old: int,
    new: int,
    positive: int,
) -> None:
    """Put a corrected label in the place of the old one, where the pair is still among the last ones."""
    number = ordinal // cfg.block
    slot = number % BLOCKS
    # The newest block that has pairs has overwritten the one of eleven before.
    if number <= (models[model, M_PAIRS] - 1) // cfg.block - BLOCKS:
        return
    models[model, M_LAST_CORRECTIONS] += 1
    contribute(lasts.ints[model, slot], lasts.floats[model, slot], -1, task, output, old, positive)
    contribute(lasts.ints[model, slot], lasts.floats[model, slot], 1, task, output, new, positive)
