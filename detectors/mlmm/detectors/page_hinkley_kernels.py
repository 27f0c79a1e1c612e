"""Page-Hinkley for many series as a structure of arrays, for use inside other kernels.

Row `i` is one series; its state is a function of its values in order alone. The arithmetic keeps the order of
operations of river 0.26.1, so that alarms and sums are equal to the last bit.

Source: Page, "Continuous inspection schemes", Biometrika 41, 1954.
"""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from .compiled import kernel
from .packing import get_f64, put_f64
from .values import usable

__all__ = [
    "BOTH",
    "DOWN",
    "UP",
    "PageHinkleyArrays",
    "page_hinkley_arrays",
    "page_hinkley_direction",
    "page_hinkley_grow",
    "page_hinkley_pack",
    "page_hinkley_packed_size",
    "page_hinkley_push",
    "page_hinkley_reset",
    "page_hinkley_run",
    "page_hinkley_since",
    "page_hinkley_take",
    "page_hinkley_unpack",
]

UP = 1
DOWN = 2
BOTH = 3
"""Modes, as bits: alarm at an increase, at a decrease, at either."""

# Columns of PageHinkleyArrays.values.
_N, _MEAN, _INCREASE, _DECREASE, _LOWEST, _HIGHEST, _LOWEST_AT, _HIGHEST_AT = range(8)
_COLUMNS = 8


class PageHinkleyArrays(NamedTuple):
    """The state of many Page-Hinkley tests."""

    values: npt.NDArray[np.float64]
    """float64 [capacity, 8], one cache line a series: n, mean, sum of increases, sum of decreases, lowest sum of
    increases, highest sum of decreases, and the n at which these two were reached."""
    direction: npt.NDArray[np.uint8]
    """uint8 [capacity]: 0, or after an alarm `UP`, `DOWN` or `BOTH`; then the next value starts afresh."""


def page_hinkley_arrays(capacity: int) -> PageHinkleyArrays:
    """Make `capacity` empty series."""
    values = np.zeros((capacity, _COLUMNS))
    values[:, _LOWEST] = np.inf
    values[:, _HIGHEST] = -1.0
    return PageHinkleyArrays(values=values, direction=np.zeros(capacity, np.uint8))


def page_hinkley_grow(arrays: PageHinkleyArrays, capacity: int) -> PageHinkleyArrays:
    """Copy into arrays of a larger capacity; what is added is empty."""
    grown = page_hinkley_arrays(capacity)
    grown.values[: len(arrays.values)] = arrays.values
    grown.direction[: len(arrays.values)] = arrays.direction
    return grown


def page_hinkley_take(arrays: PageHinkleyArrays, series: npt.NDArray[np.int64]) -> PageHinkleyArrays:
    """Copy the named series, in that order."""
    return PageHinkleyArrays(values=arrays.values[series], direction=arrays.direction[series])


@kernel
def page_hinkley_reset(arrays: PageHinkleyArrays, i: int) -> None:
    """Make series `i` empty."""
    for column in range(_COLUMNS):
        arrays.values[i, column] = 0.0
    arrays.values[i, _LOWEST] = np.inf
    arrays.values[i, _HIGHEST] = -1.0
    arrays.direction[i] = 0


@kernel(inline=True)
def page_hinkley_push(  # noqa: PLR0917 - kernels are called by position
    arrays: PageHinkleyArrays,
    i: int,
    x: float,
    delta: float,
    threshold: float,
    alpha: float,
    min_instances: int,
    mode: int,
) -> bool:
    """Add a value to series `i`; say whether the mean has changed.

    Parameters
    ----------
    arrays : PageHinkleyArrays
    i : int
        The series.
    x : float
        Must be `usable`.
    delta : float
        What a deviation from the mean must exceed to count, in the unit of the values.
    threshold : float
        Alarm when the excess summed since the extremum is above this.
    alpha : float
        Forgetting, in (0, 1]; 1.0 forgets nothing.
    min_instances : int
        No alarm before this many values.
    mode : int
        `UP`, `DOWN` or `BOTH`.
    """
    if arrays.direction[i] != 0:
        page_hinkley_reset(arrays, i)
    state = arrays.values[i]
    n = state[_N] + 1.0
    mean = state[_MEAN] + (1.0 / n) * (x - state[_MEAN])
    deviation = x - mean
    increase = alpha * state[_INCREASE] + deviation - delta
    decrease = alpha * state[_DECREASE] + deviation + delta
    state[_N] = n
    state[_MEAN] = mean
    state[_INCREASE] = increase
    state[_DECREASE] = decrease
    if increase < state[_LOWEST]:
        state[_LOWEST] = increase
        state[_LOWEST_AT] = n
    if decrease > state[_HIGHEST]:
        state[_HIGHEST] = decrease
        state[_HIGHEST_AT] = n
    up = (mode & UP) != 0 and increase - state[_LOWEST] > threshold
    down = (mode & DOWN) != 0 and state[_HIGHEST] - decrease > threshold
    if n < min_instances or not (up or down):
        return False
    arrays.direction[i] = np.uint8(up * UP + down * DOWN)
    return True


@kernel(inline=True)
def page_hinkley_run(  # noqa: PLR0917 - kernels are called by position
    arrays: PageHinkleyArrays,
    i: int,
    values: npt.NDArray[np.float64],
    start: int,
    delta: float,
    threshold: float,
    alpha: float,
    min_instances: int,
    mode: int,
) -> int:
    """Add values to series `i` from position `start` on, up to the first alarm.

    What `page_hinkley_push` does value by value, in less than half the time. Values that are not `usable` are left out;
    one right after an alarm makes the series empty.

    Parameters
    ----------
    values : float64 [n]
        Need not be contiguous.
    start : int
        Where to begin; after an alarm go on at the position after it.
    arrays, i, delta, threshold, alpha, min_instances, mode
        As in `page_hinkley_push`.

    Returns
    -------
    int
        The position that raised an alarm, or `n`.
    """
    if start < len(values) and arrays.direction[i] != 0:
        page_hinkley_reset(arrays, i)
    state = arrays.values[i]
    # In variables, since the compiler has to take every store to one array for a change of the others.
    n, mean, increase, decrease = state[_N], state[_MEAN], state[_INCREASE], state[_DECREASE]
    lowest, highest, lowest_at, highest_at = state[_LOWEST], state[_HIGHEST], state[_LOWEST_AT], state[_HIGHEST_AT]
    rising = threshold if mode & UP else np.inf
    falling = threshold if mode & DOWN else np.inf
    alarm = len(values)
    for k in range(start, len(values)):
        x = values[k]
        if not usable(x):
            continue
        n += 1.0
        mean += (1.0 / n) * (x - mean)
        deviation = x - mean
        increase = alpha * increase + deviation - delta
        decrease = alpha * decrease + deviation + delta
        if increase < lowest:
            lowest = increase
            lowest_at = n
        if decrease > highest:
            highest = decrease
            highest_at = n
        up = increase - lowest > rising
        down = highest - decrease > falling
        if (up or down) and n >= min_instances:
            arrays.direction[i] = np.uint8(up * UP + down * DOWN)
            alarm = k
            break
    state[_N], state[_MEAN], state[_INCREASE], state[_DECREASE] = n, mean, increase, decrease
    state[_LOWEST], state[_HIGHEST], state[_LOWEST_AT], state[_HIGHEST_AT] = lowest, highest, lowest_at, highest_at
    return alarm


@kernel
def page_hinkley_direction(arrays: PageHinkleyArrays, i: int) -> int:
    """After an alarm of series `i`: 1 for an increase, -1 for a decrease; else 0."""
    direction = np.int64(arrays.direction[i])
    if direction & UP:
        return 1
    return -1 if direction & DOWN else 0


@kernel
def page_hinkley_since(arrays: PageHinkleyArrays, i: int) -> int:
    """After an alarm of series `i`: how many values ago the mean changed, by the extremum of the sum; else 0.

    The change lies before the last so many values: 1 means that the last value alone came after it.
    """
    direction = np.int64(arrays.direction[i])
    if direction == 0:
        return 0
    at = arrays.values[i, _LOWEST_AT] if direction & UP else arrays.values[i, _HIGHEST_AT]
    return np.int64(arrays.values[i, _N] - at)  # type: ignore[return-value]


@kernel
def page_hinkley_packed_size(arrays: PageHinkleyArrays, i: int) -> int:  # noqa: ARG001 - the same door as ADWIN's
    """Bytes that `page_hinkley_pack` writes for series `i`."""
    return 8 * _COLUMNS + 1


@kernel
def page_hinkley_pack(arrays: PageHinkleyArrays, i: int, buffer: npt.NDArray[np.uint8], position: int) -> int:
    """Write series `i` into uint8 `buffer` (which has room) and return the position after it.

    Little-endian: the eight float64 of `PageHinkleyArrays.values`, then uint8 direction. A version belongs to the
    caller.
    """
    for column in range(_COLUMNS):
        position = put_f64(buffer, position, arrays.values[i, column])
    buffer[position] = arrays.direction[i]
    return position + 1


@kernel
def page_hinkley_unpack(arrays: PageHinkleyArrays, i: int, buffer: npt.NDArray[np.uint8], position: int) -> int:
    """Read series `i` from what `page_hinkley_pack` wrote; return the position after it, or -1 for damaged bytes."""
    page_hinkley_reset(arrays, i)
    if position < 0 or position + 8 * _COLUMNS + 1 > len(buffer):
        return -1
    n = get_f64(buffer, position)
    lowest_at = get_f64(buffer, position + 8 * _LOWEST_AT)
    highest_at = get_f64(buffer, position + 8 * _HIGHEST_AT)
    direction = np.int64(buffer[position + 8 * _COLUMNS])
    if not (0.0 <= lowest_at <= n and 0.0 <= highest_at <= n < 2.0**53) or direction > BOTH:
        return -1
    if np.floor(n) != n or np.floor(lowest_at) != lowest_at or np.floor(highest_at) != highest_at:
        return -1
    for column in range(_COLUMNS):
        value = get_f64(buffer, position + 8 * column)
        if not (abs(value) < np.inf or (column == _LOWEST and n == 0.0 and value == np.inf)):
            page_hinkley_reset(arrays, i)
            return -1
        arrays.values[i, column] = value
    arrays.direction[i] = np.uint8(direction)
    return position + 8 * _COLUMNS + 1
