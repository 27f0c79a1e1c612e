"""The calibrated detector's rows to bytes and back.

Little-endian float64: head, levels and charts as `calibrated_layout` names them; bounds, counts and scores of the bins
that there are; the values that wait for bounds; mean and number of each slot. Then int8 direction.
"""

import numpy as np
import numpy.typing as npt

from .calibrated_kernels import calibrated_reset
from .calibrated_layout import (
    BOUNDS,
    CHARTS,
    HEAD,
    INFLATION,
    LEVELS,
    NORMAL,
    P_CHARTS,
    P_KIND,
    P_SLOTS,
    SCORED,
    SHARE,
    SPREAD,
    STEP,
    UNKNOWN,
    CalibratedArrays,
    N,
)
from .calibrated_scores import BINS, LEARN
from .compiled import kernel
from .packing import get_f64, put_f64

__all__ = ["calibrated_pack", "calibrated_packed_size", "calibrated_unpack"]


@kernel
def _used(row: npt.NDArray[np.float64], plan: npt.NDArray[np.float64], part: int) -> tuple[int, int]:
    """First column and number of columns of a part of a row.

    The parts: head to charts, bounds, counts, scores, values that wait, season.
    """
    at = CHARTS + 10 * int(plan[P_CHARTS])
    bounds = int(row[BOUNDS])
    if part == 0:
        return 0, at
    if part == 1:
        return at, bounds
    if part < 4:
        return at + (part - 1) * BINS, bounds + 1 if bounds > 0 else 0
    if part == 4:
        return at + 3 * BINS, int(row[SCORED]) if plan[P_KIND] == UNKNOWN and bounds == 0 else 0
    season = 2 * int(plan[P_SLOTS])
    return len(row) - season, season


@kernel
def calibrated_packed_size(arrays: CalibratedArrays, i: int, plan: npt.NDArray[np.float64]) -> int:
    """Bytes that `calibrated_pack` writes for series `i`."""
    size = 1
    for part in range(6):
        size += 8 * _used(arrays.values[i], plan, part)[1]
    return size


@kernel
def calibrated_pack(
    arrays: CalibratedArrays, i: int, plan: npt.NDArray[np.float64], buffer: npt.NDArray[np.uint8], position: int
) -> int:
    """Write series `i` into uint8 `buffer` (which has room) and return the position after it."""
    row = arrays.values[i]
    for part in range(6):
        first, count = _used(row, plan, part)
        for column in range(first, first + count):
            position = put_f64(buffer, position, row[column])
    buffer[position] = np.uint8(int(arrays.direction[i]) & 0xFF)
    return position + 1


@kernel
def calibrated_unpack(
    arrays: CalibratedArrays, i: int, plan: npt.NDArray[np.float64], buffer: npt.NDArray[np.uint8], position: int
) -> int:
    """Read series `i` from what `calibrated_pack` wrote; return the position after it, or -1 for damaged bytes."""
    calibrated_reset(arrays, i)
    row = arrays.values[i]
    if position < 0:
        return -1
    for part in range(6):
        if part == 1 and not _sensible(row, plan):
            calibrated_reset(arrays, i)
            return -1
        first, count = _used(row, plan, part)
        if position + 8 * count + 1 > len(buffer):
            calibrated_reset(arrays, i)
            return -1
        for column in range(first, first + count):
            row[column] = get_f64(buffer, position)
            position += 8
    direction = int(buffer[position])
    if not _consistent(row, plan) or (direction > 1 and direction != 255):
        calibrated_reset(arrays, i)
        return -1
    arrays.direction[i] = np.int8(direction if direction < 2 else -1)
    return position + 1


@kernel
def _whole(x: float, most: float) -> bool:
    return 0.0 <= x <= most and np.floor(x) == x


@kernel
def _sensible(row: npt.NDArray[np.float64], plan: npt.NDArray[np.float64]) -> bool:
    """Whether head, levels and charts are what a history could have left."""
    charts = int(plan[P_CHARTS])
    # The steps of normal scores are infinite.
    endless = CHARTS + 2 * charts * STEP
    for column in range(CHARTS + 10 * charts):
        if not (abs(row[column]) < np.inf or (column >= endless and row[column] == np.inf)):
            return False
        if column >= CHARTS and column < endless and row[column] < 0.0 and column < CHARTS + 4 * charts:
            return False
    if not (_whole(row[N], 2.0**53) and _whole(row[SCORED], row[N]) and _whole(row[BOUNDS], BINS - 1.0)):
        return False
    for level in range(LEVELS):
        if not (_whole(row[HEAD + 4 * level + 1], 8.0) and _whole(row[HEAD + 4 * level + 3], row[SCORED])):
            return False
    if plan[P_KIND] == NORMAL and row[BOUNDS] > 0.0:
        return False
    if plan[P_KIND] == UNKNOWN and row[BOUNDS] == 0.0 and row[SCORED] >= LEARN:
        return False
    # Before its first refresh a row has no inflation and no share.
    fresh = row[INFLATION] == 0.0 and row[SHARE] == 0.0
    return bool(fresh or (row[INFLATION] >= 1.0 and 0.0 <= row[SHARE] <= 1.0 and row[SPREAD] >= 0.0))


@kernel
def _consistent(row: npt.NDArray[np.float64], plan: npt.NDArray[np.float64]) -> bool:
    """Whether bins, waiting values and season are what a history could have left."""
    for part in range(1, 6):
        first, count = _used(row, plan, part)
        for column in range(first, first + count):
            if not abs(row[column]) < np.inf:
                return False
            if part == 1 and column > first and not row[column] > row[column - 1]:
                return False
            counted = part == 2 or (part == 5 and (column - first) % 2 == 0)
            if counted and not _whole(row[column], row[N]):
                return False
    return True
