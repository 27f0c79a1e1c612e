"""Kernels that put the state of one ADWIN into bytes and read it back; only buckets in use are written."""

import numpy as np
import numpy.typing as npt

from .adwin_kernels import ADWIN_LEVELS, AdwinArrays, adwin_reset
from .compiled import kernel
from .packing import get_f64, get_u32, put_f64, put_u32

__all__ = ["adwin_pack", "adwin_packed_size", "adwin_unpack"]

_FIXED = 8 + 8 + 4 + 1 + 1


@kernel
def adwin_packed_size(arrays: AdwinArrays, i: int) -> int:
    """Bytes that `adwin_pack` writes for series `i`."""
    size = _FIXED + arrays.levels[i] + 8 * np.int64(arrays.counts[i, 0])
    for level in range(1, arrays.levels[i]):
        size += 16 * np.int64(arrays.counts[i, level])
    return size  # type: ignore[no-any-return]


@kernel
def adwin_pack(arrays: AdwinArrays, i: int, buffer: npt.NDArray[np.uint8], position: int) -> int:
    """Write series `i` into uint8 `buffer` (which has room) and return the position after it.

    Little-endian: float64 total and variance, uint32 ticks, uint8 drifted, uint8 levels, uint8 count of each level,
    then of each level the float64 totals and, above level 0, the float64 variances. A version belongs to the caller.
    """
    position = put_f64(buffer, position, arrays.total[i])
    position = put_f64(buffer, position, arrays.variance[i])
    position = put_u32(buffer, position, arrays.ticks[i])
    buffer[position] = np.uint8(arrays.drifted[i])
    buffer[position + 1] = np.uint8(arrays.levels[i])
    position += 2
    for level in range(arrays.levels[i]):
        buffer[position] = arrays.counts[i, level]
        position += 1
    for level in range(arrays.levels[i]):
        count = int(arrays.counts[i, level])
        for k in range(count):
            position = put_f64(buffer, position, arrays.totals[level, i, k])
        if level > 0:
            for k in range(count):
                position = put_f64(buffer, position, arrays.variances[level, i, k])
    return position


@kernel
def adwin_unpack(arrays: AdwinArrays, i: int, buffer: npt.NDArray[np.uint8], position: int) -> int:
    """Read series `i` from what `adwin_pack` wrote; return the position after it, or -1 where the bytes are damaged."""
    adwin_reset(arrays, i)
    end = len(buffer)
    if position < 0 or position + _FIXED > end:
        return -1
    total = get_f64(buffer, position)
    variance = get_f64(buffer, position + 8)
    ticks = get_u32(buffer, position + 16)
    drifted = int(buffer[position + 20])
    levels = int(buffer[position + 21])
    position += _FIXED
    if not (abs(total) < np.inf and abs(variance) < np.inf and drifted <= 1 and 1 <= levels <= ADWIN_LEVELS):
        return -1
    floats = 0
    most = arrays.totals.shape[2] - 1
    if position + levels > end:
        return -1
    for level in range(levels):
        count = int(buffer[position + level])
        if count > most or (count == 0 and level > 0 and level == levels - 1):
            return -1
        floats += count * (1 if level == 0 else 2)
    if position + levels + 8 * floats > end:
        return -1
    start = position
    position += levels
    width = 0.0
    for level in range(levels):
        count = int(buffer[start + level])
        for k in range(count):
            arrays.totals[level, i, k] = get_f64(buffer, position)
            if not abs(arrays.totals[level, i, k]) < np.inf:
                return -1
            position += 8
        if level > 0:
            for k in range(count):
                arrays.variances[level, i, k] = get_f64(buffer, position)
                if not abs(arrays.variances[level, i, k]) < np.inf:
                    return -1
                position += 8
        width += count * 2.0**level
    for level in range(levels):
        arrays.counts[i, level] = buffer[start + level]
    arrays.levels[i] = levels
    arrays.width[i] = width
    arrays.total[i] = total
    arrays.variance[i] = variance
    arrays.ticks[i] = ticks
    arrays.drifted[i] = drifted == 1
    return position
