"""Page-Hinkley for many series in one compiled call."""

import struct
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from ._bank import Bank
from ._parameters import number, one_of, whole
from .compiled import kernel
from .page_hinkley_kernels import (
    BOTH,
    DOWN,
    UP,
    PageHinkleyArrays,
    page_hinkley_arrays,
    page_hinkley_direction,
    page_hinkley_grow,
    page_hinkley_pack,
    page_hinkley_packed_size,
    page_hinkley_run,
    page_hinkley_since,
    page_hinkley_take,
    page_hinkley_unpack,
)
from .values import LARGEST, usable

__all__ = ["PageHinkleyBank"]

_MODES = {"up": UP, "down": DOWN, "both": BOTH}


class PageHinkleyBank(Bank):
    """Page-Hinkley for many series with equal parameters.

    One compiled call takes a matrix of events and series. For one series alone there is `PageHinkley`, which explains
    the method.

    Parameters
    ----------
    series : int
        Number of series; more come with `add`.
    min_instances, delta, threshold, alpha, mode
        As in `PageHinkley`.

    Attributes
    ----------
    arrays : PageHinkleyArrays
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
    >>> bank = PageHinkleyBank(series=3, delta=0.5, threshold=20.0, alpha=1.0)
    >>> bank.update_many(values[:1020])
    array([[1014,    1]])
    """

    _KIND = "page_hinkley_bank"
    _PARAMETERS = struct.Struct("<IdddB")

    def __init__(
        self,
        series: int = 1,
        *,
        min_instances: int = 30,
        delta: float = 0.005,
        threshold: float = 50.0,
        alpha: float = 1 - 0.0001,
        mode: str = "both",
    ) -> None:
        super().__init__(series)
        self.min_instances = whole("min_instances", min_instances, least=1, most=2**31 - 1)
        self.delta = number("delta", delta, least=0.0, most=LARGEST)
        self.threshold = number("threshold", threshold, above=0.0, most=LARGEST)
        self.alpha = number("alpha", alpha, above=0.0, most=1.0)
        self.mode = one_of("mode", mode, tuple(_MODES))
        self.arrays = page_hinkley_arrays(self._capacity)

    @property
    def drift_detected(self) -> npt.NDArray[np.bool_]:
        """Whether the last value of each series raised an alarm, bool [series]."""
        return self.arrays.direction[: self._series].astype(np.bool_)

    @property
    def direction(self) -> npt.NDArray[np.int64]:
        """After an alarm 1 for an increase or -1 for a decrease, else 0; int64 [series]."""
        return np.array([page_hinkley_direction(self.arrays, i) for i in range(self._series)], np.int64)

    @property
    def since(self) -> npt.NDArray[np.int64]:
        """After an alarm how many values ago the mean changed, by the extremum of the sum, else 0; int64 [series]."""
        return np.array([page_hinkley_since(self.arrays, i) for i in range(self._series)], np.int64)

    @property
    def width(self) -> npt.NDArray[np.int64]:
        """Values since the last alarm, int64 [series]."""
        return self.arrays.values[: self._series, 0].astype(np.int64)

    @property
    def estimation(self) -> npt.NDArray[np.float64]:
        """Mean since the last alarm, float64 [series]; 0.0 before the first value."""
        return self.arrays.values[: self._series, 1].copy()

    def _push(self, matrix: npt.NDArray[np.float64], found: npt.NDArray[np.int64]) -> int:
        return _push_matrix(
            *self.arrays,
            matrix,
            self._missing,
            found,
            self.delta,
            self.threshold,
            self.alpha,
            self.min_instances,
            _MODES[self.mode],
        )

    def _grow(self, capacity: int) -> None:
        self.arrays = page_hinkley_grow(self.arrays, capacity)

    def _take(self, keep: npt.NDArray[np.int64]) -> None:
        self.arrays = page_hinkley_take(self.arrays, keep)

    def _parameters(self) -> tuple[object, ...]:
        return self.min_instances, self.delta, self.threshold, self.alpha, _MODES[self.mode]

    @classmethod
    def _from_parameters(cls, series: int, parameters: tuple[Any, ...]) -> Self:
        min_instances, delta, threshold, alpha, code = parameters
        mode = {number: name for name, number in _MODES.items()}.get(code, f"code {code}")
        return cls(series, min_instances=min_instances, delta=delta, threshold=threshold, alpha=alpha, mode=mode)

    def _pack(self) -> npt.NDArray[np.uint8]:
        state = np.empty(self._series * page_hinkley_packed_size(self.arrays, 0), np.uint8)
        _pack_all(self.arrays, self._series, state)
        return state

    def _unpack(self, state: npt.NDArray[np.uint8]) -> int:
        return _unpack_all(self.arrays, self._series, state)


@kernel
def _push_matrix(  # noqa: PLR0917 - kernels are called by position
    values: npt.NDArray[np.float64],
    direction: npt.NDArray[np.uint8],
    matrix: npt.NDArray[np.float64],
    missing: npt.NDArray[np.int64],
    found: npt.NDArray[np.int64],
    delta: float,
    threshold: float,
    alpha: float,
    min_instances: int,
    mode: int,
) -> int:
    # One by one, since numba takes 1 us longer to tell the type of a tuple of arrays.
    arrays = PageHinkleyArrays(values, direction)
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
                k = page_hinkley_run(arrays, i, column, k, delta, threshold, alpha, min_instances, mode)
                if k < len(column):
                    found[alarms, 0] = start + k
                    found[alarms, 1] = i
                    alarms += 1
                    k += 1
    return alarms


@kernel
def _pack_all(arrays: PageHinkleyArrays, series: int, state: npt.NDArray[np.uint8]) -> int:
    position = 0
    for i in range(series):
        position = page_hinkley_pack(arrays, i, state, position)
    return position


@kernel
def _unpack_all(arrays: PageHinkleyArrays, series: int, state: npt.NDArray[np.uint8]) -> int:
    position = 0
    for i in range(series):
        position = page_hinkley_unpack(arrays, i, state, position)
        if position < 0:
            return -1
    return position
