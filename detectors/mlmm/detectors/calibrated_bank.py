"""The calibrated detector for many series in one compiled call."""

import struct
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from ._bank import Bank
from ._parameters import number, one_of, whole
from .calibrated_kernels import calibrated_push, calibrated_reset, calibrated_since
from .calibrated_layout import (
    BERNOULLI,
    MEAN,
    NORMAL,
    P_SLOTS,
    UNKNOWN,
    CalibratedArrays,
    N,
    calibrated_arrays,
    calibrated_grow,
    calibrated_plan,
    calibrated_take,
)
from .calibrated_packing import calibrated_pack, calibrated_packed_size, calibrated_unpack
from .compiled import kernel
from .values import usable

__all__ = ["CalibratedBank"]

_DISTRIBUTIONS = {"unknown": UNKNOWN, "normal": NORMAL, "bernoulli": BERNOULLI}
_MODES = ("both", "up", "down")
_MOST_SLOTS = 168
"""Slots of a season: as many as a week has hours."""


class CalibratedBank(Bank):
    """The calibrated detector for many series with equal parameters.

    One compiled call takes a matrix of events and series. For one series alone there is `Calibrated`, which explains
    the method.

    Parameters
    ----------
    series : int
        Number of series; more come with `add`.
    mean_time_between_false_alarms, distribution, min_effect, mode, baseline, period, clip
        As in `Calibrated`; the false alarms are those of one series, the period is in rows.

    Attributes
    ----------
    arrays : CalibratedArrays
        The state, a row each series; for use in kernels of your own.
    plan : ndarray of float64
        The parameters as kernels take them.

    Raises
    ------
    ValueError
        For a parameter out of its range.

    Examples
    --------
    >>> import numpy as np
    >>> rng = np.random.default_rng(7)
    >>> values = rng.normal(size=(2100, 3))
    >>> values[2000:, 1] += 1.0
    >>> CalibratedBank(series=3).update_many(values)
    array([[2009,    1]])
    """

    _KIND = "calibrated_bank"
    _PARAMETERS = struct.Struct("<dBdBqqd")
    _ROWS = struct.Struct("<q")

    def __init__(
        self,
        series: int = 1,
        *,
        mean_time_between_false_alarms: float = 100_000.0,
        distribution: str = "unknown",
        min_effect: float = 0.3,
        mode: str = "both",
        baseline: int = 128,
        period: int = 0,
        clip: float = 4.0,
    ) -> None:
        super().__init__(series)
        self.mean_time_between_false_alarms = number(
            "mean_time_between_false_alarms", mean_time_between_false_alarms, least=100.0, most=1e12
        )
        self.distribution = one_of("distribution", distribution, tuple(_DISTRIBUTIONS))
        self.min_effect = number("min_effect", min_effect, least=0.01, most=2.0)
        self.mode = one_of("mode", mode, _MODES)
        self.baseline = whole("baseline", baseline, least=2, most=2**31 - 1)
        self.period = whole("period", period, least=0, most=2**31 - 1)
        self.clip = number("clip", clip, least=1.0, most=8.0)
        if self.period and distribution == "bernoulli":
            raise ValueError(
                "period must be 0 where distribution is 'bernoulli'; for rates that have one use 'unknown'"
            )
        self.plan = calibrated_plan(
            distribution=_DISTRIBUTIONS[distribution],
            mean_time_between_false_alarms=self.mean_time_between_false_alarms,
            baseline=self.baseline,
            min_effect=self.min_effect,
            clip=self.clip,
            slots=min(self.period, _MOST_SLOTS),
            up=mode != "down",
            down=mode != "up",
        )
        self.arrays = calibrated_arrays(self._capacity, self.plan)
        self._rows = 0
        self._phases: npt.NDArray[np.int64] | None = None

    @property
    def drift_detected(self) -> npt.NDArray[np.bool_]:
        """Whether the last value of each series raised an alarm, bool [series]."""
        return self.arrays.direction[: self._series].astype(np.bool_)

    @property
    def direction(self) -> npt.NDArray[np.int64]:
        """After an alarm 1 for an increase or -1 for a decrease, else 0; int64 [series]."""
        return self.arrays.direction[: self._series].astype(np.int64)

    @property
    def since(self) -> npt.NDArray[np.int64]:
        """After an alarm how many values ago the level changed, by the evidence, else 0; int64 [series]."""
        return np.array([calibrated_since(self.arrays, i) for i in range(self._series)], np.int64)

    @property
    def width(self) -> npt.NDArray[np.int64]:
        """Values since the last alarm, int64 [series]."""
        return self.arrays.values[: self._series, N].astype(np.int64)

    @property
    def estimation(self) -> npt.NDArray[np.float64]:
        """Mean since the last alarm, float64 [series]; 0.0 before the first value."""
        return self.arrays.values[: self._series, MEAN].copy()

    def update_many(self, matrix: npt.ArrayLike, *, phase: npt.ArrayLike | None = None) -> npt.NDArray[np.int64]:
        """Add rows of values.

        Parameters
        ----------
        matrix : array_like of float, [events, series]
            NaN where an event has no value for a series.
        phase : array_like of int, [events], optional
            Place of each event in the period, from 0 up to and without `period`: the hour of the week, say. Without it
            rows are counted, those without a value too.

        Returns
        -------
        ndarray of int64, [alarms, 2]
            Pairs of event and series, in that order: the position in `matrix` of each value that raised an alarm.

        Raises
        ------
        ValueError
            If the matrix does not have one column for each series, or `phase` is wrong or without a `period`.
        """
        values = np.ascontiguousarray(matrix, np.float64)
        if phase is not None:
            self._phases = self._check_phase(phase, len(values))
        try:
            return super().update_many(values)
        finally:
            self._phases = None

    def _check_phase(self, phase: npt.ArrayLike, rows: int) -> npt.NDArray[np.int64]:
        phases = np.asarray(phase)
        if not self.period:
            raise ValueError("phase must be left out, or period set: without a period there are no phases")
        if phases.shape != (rows,) or (rows and not np.issubdtype(phases.dtype, np.integer)):
            raise ValueError(f"phase must be {rows} integers, not of the shape {list(phases.shape)} and {phases.dtype}")
        if rows and not (int(phases.min()) >= 0 and int(phases.max()) < self.period):
            raise ValueError(f"phase must be between 0 and {self.period - 1}")
        return phases.astype(np.int64)

    def _push(self, matrix: npt.NDArray[np.float64], found: npt.NDArray[np.int64]) -> int:
        slots = self._slots(len(matrix))
        return _push_matrix(*self.arrays, matrix, slots, self.plan, self._missing, found)

    def _slots(self, rows: int) -> npt.NDArray[np.int64]:
        """Slots of the next rows; empty without a period."""
        if not self.period:
            return np.empty(0, np.int64)
        if self._phases is None:
            phases = (self._rows + np.arange(rows)) % self.period
        else:
            phases, self._phases = self._phases[:rows], self._phases[rows:]
        self._rows = (self._rows + rows) % self.period
        return phases * int(self.plan[P_SLOTS]) // self.period

    def _grow(self, capacity: int) -> None:
        self.arrays = calibrated_grow(self.arrays, capacity)

    def _take(self, keep: npt.NDArray[np.int64]) -> None:
        self.arrays = calibrated_take(self.arrays, keep)

    def _parameters(self) -> tuple[object, ...]:
        return (
            self.mean_time_between_false_alarms,
            _DISTRIBUTIONS[self.distribution],
            self.min_effect,
            _MODES.index(self.mode),
            self.baseline,
            self.period,
            self.clip,
        )

    @classmethod
    def _from_parameters(cls, series: int, parameters: tuple[Any, ...]) -> Self:
        time, distribution, min_effect, mode, baseline, period, clip = parameters
        return cls(
            series,
            mean_time_between_false_alarms=time,
            distribution=dict(enumerate(_DISTRIBUTIONS)).get(distribution, f"code {distribution}"),
            min_effect=min_effect,
            mode=dict(enumerate(_MODES)).get(mode, f"code {mode}"),
            baseline=baseline,
            period=period,
            clip=clip,
        )

    def _pack(self) -> npt.NDArray[np.uint8]:
        size = _size_all(self.arrays, self._series, self.plan)
        state = np.empty(self._ROWS.size + size, np.uint8)
        state[: self._ROWS.size] = np.frombuffer(self._ROWS.pack(self._rows), np.uint8)
        _pack_all(self.arrays, self._series, self.plan, state, self._ROWS.size)
        return state

    def _unpack(self, state: npt.NDArray[np.uint8]) -> int:
        if len(state) < self._ROWS.size:
            return -1
        (self._rows,) = self._ROWS.unpack(state[: self._ROWS.size].tobytes())
        if not 0 <= self._rows < max(self.period, 1):
            return -1
        return _unpack_all(self.arrays, self._series, self.plan, state, self._ROWS.size)


@kernel
def _push_matrix(  # noqa: PLR0917 - kernels are called by position
    values: npt.NDArray[np.float64],
    direction: npt.NDArray[np.int8],
    matrix: npt.NDArray[np.float64],
    slots: npt.NDArray[np.int64],
    plan: npt.NDArray[np.float64],
    missing: npt.NDArray[np.int64],
    found: npt.NDArray[np.int64],
) -> int:
    # One by one, since numba takes 1 us longer to tell the type of a tuple of arrays.
    arrays = CalibratedArrays(values, direction)
    rows, columns = matrix.shape
    alarms = 0
    # Series outside, so that one series' state stays near; rows in blocks, so that the block of the matrix does too.
    for start in range(0, rows, 64):
        for i in range(columns):
            for k in range(start, min(start + 64, rows)):
                if direction[i] != 0:
                    calibrated_reset(arrays, i)
                x = matrix[k, i]
                if not usable(x):
                    missing[i] += 1
                    continue
                if calibrated_push(arrays, i, x, slots[k] if len(slots) > 0 else 0, plan):
                    found[alarms, 0] = k
                    found[alarms, 1] = i
                    alarms += 1
    return alarms


@kernel
def _size_all(arrays: CalibratedArrays, series: int, plan: npt.NDArray[np.float64]) -> int:
    size = 0
    for i in range(series):
        size += calibrated_packed_size(arrays, i, plan)
    return size


@kernel
def _pack_all(
    arrays: CalibratedArrays, series: int, plan: npt.NDArray[np.float64], state: npt.NDArray[np.uint8], position: int
) -> int:
    for i in range(series):
        position = calibrated_pack(arrays, i, plan, state, position)
    return position


@kernel
def _unpack_all(
    arrays: CalibratedArrays, series: int, plan: npt.NDArray[np.float64], state: npt.NDArray[np.uint8], position: int
) -> int:
    for i in range(series):
        position = calibrated_unpack(arrays, i, plan, state, position)
        if position < 0:
            return -1
    return position
