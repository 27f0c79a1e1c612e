"""ADWIN for many series in one compiled call."""

import struct
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from ._bank import Bank
from ._parameters import number, whole
from .adwin_kernels import (
    AdwinArrays,
    adwin_arrays,
    adwin_grow,
    adwin_run,
    adwin_take,
)
from .adwin_packing import adwin_pack, adwin_packed_size, adwin_unpack
from .compiled import kernel
from .values import usable

__all__ = ["ADWINBank"]

_MOST = 2**31 - 1


class ADWINBank(Bank):
    """ADWIN for many series with equal parameters.

    Use it where a model has many features or segments: one compiled call takes a matrix of events and series. For one
    series alone there is `ADWIN`, which explains the method.

    Parameters
    ----------
    series : int
        Number of series; more come with `add`.
    delta, clock, max_buckets, min_window_length, grace_period
        As in `ADWIN`.

    Attributes
    ----------
    arrays : AdwinArrays
        The state, a row each series; for use in kernels of your own.

    Raises
    ------
    ValueError
        For a parameter out of its range.

    Examples
    --------
    >>> import numpy as np
    >>> rng = np.random.default_rng(7)
    >>> values = rng.normal(size=(2000, 3))
    >>> values[1000:, 1] += 2.0
    >>> ADWINBank(series=3).update_many(values)
    array([[1023,    1]])
    """

    _KIND = "adwin_bank"
    _PARAMETERS = struct.Struct("<dIIII")

    def __init__(
        self,
        series: int = 1,
        *,
        delta: float = 0.002,
        clock: int = 32,
        max_buckets: int = 5,
        min_window_length: int = 5,
        grace_period: int = 10,
    ) -> None:
        super().__init__(series)
        self.delta = number("delta", delta, above=0.0, below=1.0)
        self.clock = whole("clock", clock, least=1, most=_MOST)
        self.max_buckets = whole("max_buckets", max_buckets, least=1, most=254)
        self.min_window_length = whole("min_window_length", min_window_length, least=1, most=_MOST)
        self.grace_period = whole("grace_period", grace_period, least=0, most=_MOST)
        self.arrays = adwin_arrays(self._capacity, self.max_buckets)

    @property
    def drift_detected(self) -> npt.NDArray[np.bool_]:
        """Whether the last value of each series raised an alarm, bool [series]."""
        return self.arrays.drifted[: self._series].copy()

    @property
    def width(self) -> npt.NDArray[np.int64]:
        """Values in each window, int64 [series]; after an alarm an estimate of how many values ago the change was."""
        return self.arrays.width[: self._series].astype(np.int64)

    @property
    def total(self) -> npt.NDArray[np.float64]:
        """Sum of each window, float64 [series]."""
        return self.arrays.total[: self._series].copy()

    @property
    def variance(self) -> npt.NDArray[np.float64]:
        """Sum of squared deviations in each window, float64 [series] (what river calls variance)."""
        return self.arrays.variance[: self._series].copy()

    @property
    def estimation(self) -> npt.NDArray[np.float64]:
        """Mean of each window, float64 [series]; 0.0 where it is empty."""
        width = self.arrays.width[: self._series]
        return np.divide(self.arrays.total[: self._series], width, out=np.zeros(self._series), where=width > 0)

    def _push(self, matrix: npt.NDArray[np.float64], found: npt.NDArray[np.int64]) -> int:
        return _push_matrix(
            *self.arrays,
            matrix,
            self._missing,
            found,
            self.delta,
            self.clock,
            self.min_window_length,
            self.grace_period,
            self.max_buckets,
        )

    def _grow(self, capacity: int) -> None:
        self.arrays = adwin_grow(self.arrays, capacity)

    def _take(self, keep: npt.NDArray[np.int64]) -> None:
        self.arrays = adwin_take(self.arrays, keep)

    def _parameters(self) -> tuple[object, ...]:
        return self.delta, self.clock, self.max_buckets, self.min_window_length, self.grace_period

    @classmethod
    def _from_parameters(cls, series: int, parameters: tuple[Any, ...]) -> Self:
        delta, clock, max_buckets, min_window_length, grace_period = parameters
        return cls(
            series,
            delta=delta,
            clock=clock,
            max_buckets=max_buckets,
            min_window_length=min_window_length,
            grace_period=grace_period,
        )

    def _pack(self) -> npt.NDArray[np.uint8]:
        state = np.empty(_packed_sizes(self.arrays, self._series), np.uint8)
        _pack_all(self.arrays, self._series, state)
        return state

    def _unpack(self, state: npt.NDArray[np.uint8]) -> int:
        return _unpack_all(self.arrays, self._series, state)


@kernel
def _push_matrix(  # noqa: PLR0917 - kernels are called by position
    totals: npt.NDArray[np.float64],
    variances: npt.NDArray[np.float64],
    counts: npt.NDArray[np.uint8],
    levels: npt.NDArray[np.int64],
    width: npt.NDArray[np.float64],
    total: npt.NDArray[np.float64],
    variance: npt.NDArray[np.float64],
    ticks: npt.NDArray[np.int64],
    drifted: npt.NDArray[np.bool_],
    matrix: npt.NDArray[np.float64],
    missing: npt.NDArray[np.int64],
    found: npt.NDArray[np.int64],
    delta: float,
    clock: int,
    min_window: int,
    grace: int,
    max_buckets: int,
) -> int:
    # One by one, since numba takes 1 us longer to tell the type of a tuple of arrays.
    arrays = AdwinArrays(totals, variances, counts, levels, width, total, variance, ticks, drifted)
    rows, columns = matrix.shape
    alarms = 0
    # Series outside, so that one series' state stays near; rows in blocks, so that the block of the matrix does too.
    for start in range(0, rows, 64):
        for i in range(columns):
            column = matrix[start : start + 64, i]
            absent = 0
            for k in range(len(column)):
                absent += not usable(column[k])
            missing[i] += absent
            k = 0
            while k < len(column):
                k = adwin_run(arrays, i, column, k, delta, clock, min_window, grace, max_buckets)
                if k < len(column):
                    found[alarms, 0] = start + k
                    found[alarms, 1] = i
                    alarms += 1
                    k += 1
    return alarms


@kernel
def _packed_sizes(arrays: AdwinArrays, series: int) -> int:
    size = 0
    for i in range(series):
        size += adwin_packed_size(arrays, i)
    return size


@kernel
def _pack_all(arrays: AdwinArrays, series: int, state: npt.NDArray[np.uint8]) -> int:
    position = 0
    for i in range(series):
        position = adwin_pack(arrays, i, state, position)
    return position


@kernel
def _unpack_all(arrays: AdwinArrays, series: int, state: npt.NDArray[np.uint8]) -> int:
    position = 0
    for i in range(series):
        position = adwin_unpack(arrays, i, state, position)
        if position < 0:
            return -1
    return position
