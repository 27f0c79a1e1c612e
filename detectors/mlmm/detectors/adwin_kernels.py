"""ADWIN for many series as a structure of arrays, for use inside other kernels.

Row `i` of every array is one series; its state is a function of its values in order alone. The arithmetic keeps the
order of operations of river 0.26.1, so that alarms, width and sums are equal to the last bit.

Source: Bifet and Gavaldà, "Learning from time-changing data with adaptive windowing", SDM 2007; variances merged as in
Babcock et al., "Maintaining variance and k-medians over data stream windows", PODS 2003.
"""

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from .adwin_cuts import cut_found
from .compiled import kernel
from .values import usable

__all__ = [
    "ADWIN_LEVELS",
    "AdwinArrays",
    "adwin_arrays",
    "adwin_estimation",
    "adwin_grow",
    "adwin_push",
    "adwin_reset",
    "adwin_run",
    "adwin_take",
]

ADWIN_LEVELS = 40
"""Bucket sizes 2**0 to 2**39. A window reaches the last after some 1e12 values; then its oldest bucket goes."""


class AdwinArrays(NamedTuple):
    """The state of many ADWINs.

    Buckets of 2**level values lie oldest first. Levels are the outermost axis, so that memory of levels that no series
    has reached is never touched.
    """

    totals: npt.NDArray[np.float64]
    """float64 [levels, capacity, max_buckets + 1]: sum of each bucket."""
    variances: npt.NDArray[np.float64]
    """float64, the same shape: sum of squared deviations from the mean of each bucket; level 0 holds zeros."""
    counts: npt.NDArray[np.uint8]
    """uint8 [capacity, levels]: buckets in use."""
    levels: npt.NDArray[np.int64]
    """int64 [capacity]: levels in use, at least 1."""
    width: npt.NDArray[np.float64]
    """float64 [capacity]: values in the window."""
    total: npt.NDArray[np.float64]
    """float64 [capacity]: their sum."""
    variance: npt.NDArray[np.float64]
    """float64 [capacity]: their sum of squared deviations (as river's `variance`)."""
    ticks: npt.NDArray[np.int64]
    """int64 [capacity]: values since the window was last tested."""
    drifted: npt.NDArray[np.bool_]
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


def _per_series(new: AdwinArrays, old: AdwinArrays) -> Iterator[tuple[npt.NDArray[Any], npt.NDArray[Any]]]:
    """Pairs of the arrays whose first axis is the series."""
    return zip(new[2:], old[2:], strict=True)


def adwin_grow(arrays: AdwinArrays, capacity: int) -> AdwinArrays:
    """Copy into arrays of a larger capacity; what is added is empty."""
    old = len(arrays.levels)
    grown = adwin_arrays(capacity, arrays.totals.shape[2] - 1)
    used = int(arrays.levels.max(initial=1))
    grown.totals[:used, :old] = arrays.totals[:used]
    grown.variances[:used, :old] = arrays.variances[:used]
    for new, before in _per_series(grown, arrays):
        new[:old] = before
    return grown


def adwin_take(arrays: AdwinArrays, series: npt.NDArray[np.int64]) -> AdwinArrays:
    """Copy the named series, in that order."""
    taken = adwin_arrays(len(series), arrays.totals.shape[2] - 1)
    used = int(arrays.levels.max(initial=1))
    taken.totals[:used] = arrays.totals[:used, series]
    taken.variances[:used] = arrays.variances[:used, series]
    for new, before in _per_series(taken, arrays):
        new[:] = before[series]
    return taken


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
def adwin_push(  # noqa: PLR0917 - kernels are called by position
    arrays: AdwinArrays, i: int, x: float, delta: float, clock: int, min_window: int, grace: int, max_buckets: int
) -> bool:
    """Add a value to series `i`; say whether the window was cut: the mean has changed.

    After an alarm `width` is the length of the newer part, an estimate of how many values ago the change was. It stays
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
    before = arrays.width[i]
    arrays.variance[i] = _spread(arrays.variance[i], arrays.total[i], before, x)
    arrays.total[i] += x
    arrays.width[i] = before + 1.0
    count = np.int64(arrays.counts[i, 0])
    arrays.totals[0, i, count] = x
    arrays.counts[i, 0] = np.uint8(count + 1)
    if count == max_buckets:
        _compress(arrays, i, max_buckets)
    tick = arrays.ticks[i] + 1
    if tick < clock:
        arrays.ticks[i] = tick
        return False
    return _shrink(arrays, i, delta, min_window, grace, max_buckets)


@kernel(inline=True)
def adwin_run(  # noqa: PLR0917 - kernels are called by position
    arrays: AdwinArrays,
    i: int,
    values: npt.NDArray[np.float64],
    start: int,
    delta: float,
    clock: int,
    min_window: int,
    grace: int,
    max_buckets: int,
) -> int:
    """Add values to series `i` from position `start` on, up to the first alarm.

    What `adwin_push` does value by value, in less time. Values that are not `usable` are left out; one right after an
    alarm makes the series empty.

    Parameters
    ----------
    values : float64 [n]
        Need not be contiguous.
    start : int
        Where to begin; after an alarm go on at the position after it.
    arrays, i, delta, clock, min_window, grace, max_buckets
        As in `adwin_push`.

    Returns
    -------
    int
        The position that raised an alarm, or `n`.
    """
    if start < len(values) and arrays.drifted[i]:
        adwin_reset(arrays, i)
    # In variables, since the compiler has to take every store to one array for a change of the others.
    width = arrays.width[i]
    total = arrays.total[i]
    variance = arrays.variance[i]
    tick = int(arrays.ticks[i])
    count = int(arrays.counts[i, 0])
    alarm = len(values)
    for k in range(start, len(values)):
        x = values[k]
        if not usable(x):
            continue
        variance = _spread(variance, total, width, x)
        total += x
        width += 1.0
        arrays.totals[0, i, count] = x
        count += 1
        if count > max_buckets:
            _compress(arrays, i, max_buckets)
            count = max_buckets - 1
        tick += 1
        if tick < clock:
            continue
        arrays.width[i] = width
        arrays.total[i] = total
        arrays.variance[i] = variance
        arrays.counts[i, 0] = np.uint8(count)
        if _shrink(arrays, i, delta, min_window, grace, max_buckets):
            alarm = k
        width = arrays.width[i]
        total = arrays.total[i]
        variance = arrays.variance[i]
        count = int(arrays.counts[i, 0])
        tick = int(arrays.ticks[i])
        if alarm == k:
            break
    arrays.width[i] = width
    arrays.total[i] = total
    arrays.variance[i] = variance
    arrays.ticks[i] = tick
    arrays.counts[i, 0] = np.uint8(count)
    return alarm


@kernel(inline=True)
def _spread(variance: float, total: float, width: float, x: float) -> float:
    """Sum of squared deviations after a value more."""
    if width == 0.0:
        return variance
    deviation = x - total / width
    return variance + width * deviation * deviation / (width + 1.0)


@kernel(inline=True)
def _shrink(  # noqa: PLR0917 - kernels are called by position
    arrays: AdwinArrays, i: int, delta: float, min_window: int, grace: int, max_buckets: int
) -> bool:
    """Test the window and drop what is older than a change; say whether there was one."""
    arrays.ticks[i] = 0
    while arrays.levels[i] == ADWIN_LEVELS:
        _forget_oldest(arrays, i)
    if arrays.width[i] <= grace:
        return False
    changed = False
    while cut_found(
        arrays.totals[:, i],
        arrays.counts[i],
        arrays.levels[i],
        arrays.width[i],
        arrays.total[i],
        arrays.variance[i],
        delta,
        min_window,
        max_buckets,
    ):
        _forget_oldest(arrays, i)
        changed = True
    arrays.drifted[i] = changed
    return changed


@kernel(inline=True)
def _compress(arrays: AdwinArrays, i: int, max_buckets: int) -> None:
    """Merge the two oldest buckets of each level that is over-full into one of the next level."""
    level = 0
    size = 1.0
    inverse = 1.0
    while True:
        first = arrays.totals[level, i, 0]
        second = arrays.totals[level, i, 1]
        # The size is a power of two: its inverse is exact, and the product is what the division gives.
        gap = first * inverse - second * inverse
        merged = arrays.variances[level, i, 0] + arrays.variances[level, i, 1] + size * 0.5 * gap * gap
        if max_buckets == 5:  # the default: a loop of known length is laid out flat
            for k in range(4):
                arrays.totals[level, i, k] = arrays.totals[level, i, k + 2]
                arrays.variances[level, i, k] = arrays.variances[level, i, k + 2]
        else:
            for k in range(max_buckets - 1):
                arrays.totals[level, i, k] = arrays.totals[level, i, k + 2]
                arrays.variances[level, i, k] = arrays.variances[level, i, k + 2]
        arrays.counts[i, level] = np.uint8(max_buckets - 1)
        level += 1
        size *= 2.0
        inverse *= 0.5
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
