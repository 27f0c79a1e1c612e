"""ADWIN for many series as a structure of arrays, for use inside other kernels.

Row `i` of every array is one series; its state is a function of its values in order alone. The arithmetic keeps the order of
operations of river 0.26.1, so that alarms, width and sums are equal to the last bit.

Source: Bifet and Gavaldà, "Learning from time-changing data with adaptive windowing", SDM 2007; variances merged as in Babcock
et al., "Maintaining variance and k-medians over data stream windows", PODS 2003.
"""

import math
from typing import NamedTuple

import numpy as np

from .compiled import kernel
from .packing import get_f64, get_u32, put_f64, put_u32

__all__ = [
    "ADWIN_LEVELS",
    "LARGEST",
    "AdwinArrays",
    "adwin_arrays",
    "adwin_estimation",
    "adwin_grow",
    "adwin_pack",
    "adwin_packed_size",
    "adwin_push",
    "adwin_reset",
    "adwin_unpack",
    "usable",
]

ADWIN_LEVELS = 40
"""Bucket sizes 2**0 to 2**39: a window of some 5e12 values. Beyond it the oldest bucket goes."""
LARGEST = 1e100
"""A value beyond this is missing to us: its square, or the sum of many, could overflow and leave a detector deaf."""

_FIXED = 8 + 8 + 4 + 1 + 1
# The quick test of a cut compares rounded figures with rounded figures. 8 ulp of the summands bounds what the subtraction of
# two means may have lost; 1e-9 is far more than all other roundings together.
_ULPS = 8.0 * 2.0**-52
_SURE = 1.0 - 1e-9


class AdwinArrays(NamedTuple):
    """The state of many ADWINs.

    Buckets of 2**level values lie oldest first. Levels are the outermost axis, so that memory of levels that no series has
    reached is never touched.
    """

    totals: np.ndarray
    """float64 [levels, capacity, max_buckets + 1]: sum of each bucket."""
    variances: np.ndarray
    """float64, the same shape: sum of squared deviations from the mean of each bucket; level 0 holds zeros."""
    counts: np.ndarray
    """uint8 [capacity, levels]: buckets in use."""
    levels: np.ndarray
    """int64 [capacity]: levels in use, at least 1."""
    width: np.ndarray
    """float64 [capacity]: values in the window."""
    total: np.ndarray
    """float64 [capacity]: their sum."""
    variance: np.ndarray
    """float64 [capacity]: their sum of squared deviations (as river's `variance`)."""
    ticks: np.ndarray
    """int64 [capacity]: values since the window was last tested."""
    drifted: np.ndarray
    """bool [capacity]: the last value raised an alarm; the next one starts afresh."""


def adwin_arrays(capacity: int, max_buckets: int = 5) -> AdwinArrays:
    """Make `capacity` empty series with room for `max_buckets` (1 to 254) buckets of each size."""
    shape = (ADWIN_LEVELS, capacity, max_buckets + 1)
    return AdwinArrays(
        totals=np.zeros(shape),
        variances=np.zeros(shape),
        counts=np.zeros((capacity, ADWIN_LEVELS), np.uint8),
        levels=np.ones(capacity, np.int64),
        width=np.zeros(capacity),
        total=np.zeros(capacity),
        variance=np.zeros(capacity),
        ticks=np.zeros(capacity, np.int64),
        drifted=np.zeros(capacity, np.bool_),
    )


def adwin_grow(arrays: AdwinArrays, capacity: int) -> AdwinArrays:
    """Copy into arrays of a larger capacity; what is added is empty."""
    old = len(arrays.levels)
    grown = adwin_arrays(capacity, arrays.totals.shape[2] - 1)
    used = int(arrays.levels.max(initial=1))
    grown.totals[:used, :old] = arrays.totals[:used]
    grown.variances[:used, :old] = arrays.variances[:used]
    for new, before in zip(grown[2:], arrays[2:], strict=True):
        new[:old] = before
    return grown


@kernel
def usable(x: float) -> bool:
    """Whether a detector may see a value: not NaN, not infinite, not beyond `LARGEST`."""
    return abs(x) <= LARGEST


@kernel
def adwin_reset(arrays: AdwinArrays, i: int) -> None:
    """Make series `i` empty."""
    for level in range(arrays.levels[i]):
        arrays.counts[i, level] = 0
    arrays.levels[i] = 1
    arrays.width[i] = 0.0
    arrays.total[i] = 0.0
    arrays.variance[i] = 0.0
    arrays.ticks[i] = 0
    arrays.drifted[i] = False


@kernel
def adwin_estimation(arrays: AdwinArrays, i: int) -> float:
    """Mean of the window of series `i`; 0.0 while it is empty."""
    if arrays.width[i] == 0.0:
        return 0.0
    return arrays.total[i] / arrays.width[i]  # type: ignore[no-any-return]


@kernel(inline=True)
def adwin_push(
    arrays: AdwinArrays, i: int, x: float, delta: float, clock: int, min_window: int, grace: int, max_buckets: int
) -> bool:
    """Add a value to series `i`; say whether the window was cut: the mean has changed.

    After an alarm `width` is the length of the newer part, which is an estimate of how many values ago the change was. It stays
    readable until the next value, which starts an empty window, as in river.

    Parameters
    ----------
    arrays : AdwinArrays
    i : int
        The series.
    x : float
        Must be `usable`.
    delta : float
        Significance, in (0, 1).
    clock : int
        The window is tested at every `clock`-th value, at least 1.
    min_window : int
        Shortest part that is tested, at least 1.
    grace : int
        No test until the window is longer than this.
    max_buckets : int
        Buckets of each size, 1 to 254, at most what `arrays` has room for.
    """
    if arrays.drifted[i]:
        adwin_reset(arrays, i)
    _insert(arrays, i, x, max_buckets)
    tick = arrays.ticks[i] + 1
    if tick < clock:
        arrays.ticks[i] = tick
        return False
    arrays.ticks[i] = 0
    if arrays.width[i] <= grace:
        return False
    changed = False
    while _cut_found(arrays, i, delta, min_window):
        _forget_oldest(arrays, i)
        changed = True
    arrays.drifted[i] = changed
    return changed


@kernel(inline=True)
def _insert(arrays: AdwinArrays, i: int, x: float, max_buckets: int) -> None:
    before = arrays.width[i]
    width = before + 1.0
    arrays.width[i] = width
    if before > 0.0:
        deviation = x - arrays.total[i] / before
        arrays.variance[i] += before * deviation * deviation / width
    arrays.total[i] += x
    count = np.int64(arrays.counts[i, 0])
    arrays.totals[0, i, count] = x
    arrays.counts[i, 0] = np.uint8(count + 1)
    if count == max_buckets:
        _compress(arrays, i, max_buckets)


@kernel(inline=True)
def _compress(arrays: AdwinArrays, i: int, max_buckets: int) -> None:
    """Merge the two oldest buckets of each level that is over-full into one of the next level."""
    level = 0
    size = 1.0
    while True:
        if level + 1 == ADWIN_LEVELS:
            _forget_oldest(arrays, i)
            return
        first = arrays.totals[level, i, 0]
        second = arrays.totals[level, i, 1]
        # The size is a power of two: its reciprocal is exact, and the product is what the division gives.
        gap = first * (1.0 / size) - second * (1.0 / size)
        merged = arrays.variances[level, i, 0] + arrays.variances[level, i, 1] + size * 0.5 * gap * gap
        for k in range(max_buckets - 1):
            arrays.totals[level, i, k] = arrays.totals[level, i, k + 2]
        if level > 0:
            for k in range(max_buckets - 1):
                arrays.variances[level, i, k] = arrays.variances[level, i, k + 2]
        arrays.counts[i, level] = np.uint8(max_buckets - 1)
        level += 1
        size *= 2.0
        if level == arrays.levels[i]:
            arrays.levels[i] = level + 1
        count = np.int64(arrays.counts[i, level])
        arrays.totals[level, i, count] = first + second
        arrays.variances[level, i, count] = merged
        arrays.counts[i, level] = np.uint8(count + 1)
        if count < max_buckets:
            return


@kernel
def _forget_oldest(arrays: AdwinArrays, i: int) -> None:
    level = arrays.levels[i] - 1
    size = 2.0**level
    total = arrays.totals[level, i, 0]
    arrays.width[i] -= size
    arrays.total[i] -= total
    width = arrays.width[i]
    gap = total / size - arrays.total[i] / width
    arrays.variance[i] -= arrays.variances[level, i, 0] + size * width * gap * gap / (size + width)
    count = np.int64(arrays.counts[i, level]) - 1
    for k in range(count):
        arrays.totals[level, i, k] = arrays.totals[level, i, k + 1]
        arrays.variances[level, i, k] = arrays.variances[level, i, k + 1]
    arrays.counts[i, level] = np.uint8(count)
    while level > 0 and arrays.counts[i, level] == 0:
        level -= 1
    arrays.levels[i] = level + 1


@kernel
def _cut_found(arrays: AdwinArrays, i: int, delta: float, min_window: int) -> bool:
    """Whether the window can be cut in two parts whose means differ by more than epsilon."""
    width = arrays.width[i]
    if width < 2.0:
        return False
    prime = math.log(2.0 * math.log(width) / delta)
    spread = arrays.variance[i] / width
    # epsilon is at least either of these over n0 * n1, since both harmonic terms shrink with min_window.
    linear = 2.0 / 3.0 * prime * width * _SURE
    square = 2.0 * arrays.variance[i] * prime * _SURE
    if square < 1e-150:  # squares near the denormals lose digits
        square = 0.0
    n0 = 0.0
    n1 = width
    u0 = 0.0
    u1 = arrays.total[i]
    size = 2.0 ** arrays.levels[i]
    for level in range(arrays.levels[i] - 1, -1, -1):
        size *= 0.5
        for k in range(np.int64(arrays.counts[i, level])):
            n0 += size
            n1 -= size
            u0 += arrays.totals[level, i, k]
            u1 -= arrays.totals[level, i, k]
            if n1 < min_window:
                return False
            if n0 < min_window:
                continue
            cross0 = u0 * n1
            cross1 = u1 * n0
            gap = abs(cross0 - cross1) + _ULPS * (abs(cross0) + abs(cross1))
            if gap < linear or gap * gap < square * n0 * n1:
                continue
            recip = 1.0 / (n0 - min_window + 1.0) + 1.0 / (n1 - min_window + 1.0)
            radicand = 2.0 * recip * spread * prime
            # A negative variance, left by cancellation, is no cut: river's comparison with NaN.
            if radicand >= 0.0 and abs(u0 / n0 - u1 / n1) > math.sqrt(radicand) + 2.0 / 3.0 * prime * recip:
                return True
    return False


@kernel
def adwin_packed_size(arrays: AdwinArrays, i: int) -> int:
    """Bytes that `adwin_pack` writes for series `i`."""
    size = _FIXED + arrays.levels[i] + 8 * np.int64(arrays.counts[i, 0])
    for level in range(1, arrays.levels[i]):
        size += 16 * np.int64(arrays.counts[i, level])
    return size  # type: ignore[no-any-return]


@kernel
def adwin_pack(arrays: AdwinArrays, i: int, buffer: np.ndarray, position: int) -> int:
    """Write series `i` into uint8 `buffer` (which has room) and return the position after it.

    Little-endian: float64 total and variance, uint32 ticks, uint8 drifted, uint8 levels, uint8 count of each level, then of each
    level the float64 totals and, above level 0, the float64 variances. A version belongs to the caller.
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
        count = np.int64(arrays.counts[i, level])
        for k in range(count):
            position = put_f64(buffer, position, arrays.totals[level, i, k])
        if level > 0:
            for k in range(count):
                position = put_f64(buffer, position, arrays.variances[level, i, k])
    return position


@kernel
def adwin_unpack(arrays: AdwinArrays, i: int, buffer: np.ndarray, position: int) -> int:
    """Read series `i` from what `adwin_pack` wrote; return the position after it, or -1 where the bytes are damaged."""
    adwin_reset(arrays, i)
    end = len(buffer)
    if position < 0 or position + _FIXED > end:
        return -1
    total = get_f64(buffer, position)
    variance = get_f64(buffer, position + 8)
    ticks = get_u32(buffer, position + 16)
    drifted = np.int64(buffer[position + 20])
    levels = np.int64(buffer[position + 21])
    position += _FIXED
    if not (abs(total) < np.inf and abs(variance) < np.inf and drifted <= 1 and 1 <= levels <= ADWIN_LEVELS):
        return -1
    floats = 0
    most = arrays.totals.shape[2] - 1
    if position + levels > end:
        return -1
    for level in range(levels):
        count = np.int64(buffer[position + level])
        if count > most or (count == 0 and level > 0 and level == levels - 1):
            return -1
        floats += count if level == 0 else 2 * count
    if position + levels + 8 * floats > end:
        return -1
    start = position
    position += levels
    width = 0.0
    for level in range(levels):
        count = np.int64(buffer[start + level])
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
