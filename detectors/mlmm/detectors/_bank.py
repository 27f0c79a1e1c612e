"""What all banks share: one detector kind for many series, fed with matrices."""

import struct
from abc import ABC, abstractmethod
from collections.abc import Iterable
from typing import Any, ClassVar, Self

import numpy as np
import numpy.typing as npt

from . import _envelope
from ._parameters import whole

__all__ = ["Bank"]

_MOST_SERIES = 2**31 - 1
# Values in one call of the kernel. It bounds the buffer of alarms, whose pages are touched only as far as it is filled.
_SLAB = 1 << 20
_HEAD = struct.Struct("<I")


class Bank(ABC):
    """Detectors of one kind and equal parameters for many series.

    Each series is on its own: its state is a function of its own values in order, whatever matrices they came in and
    whatever other series there are.
    """

    _KIND: ClassVar[str]
    _LAYOUT: ClassVar[int] = 1
    _PARAMETERS: ClassVar[struct.Struct]

    def __init__(self, series: int) -> None:
        self._series = whole("series", series, least=0, most=_MOST_SERIES)
        self._capacity = max(self._series, 1)
        self._missing = np.zeros(self._capacity, np.int64)

    def __len__(self) -> int:
        return self._series

    @property
    def series(self) -> int:
        """How many series there are."""
        return self._series

    @property
    def missing(self) -> npt.NDArray[np.int64]:
        """Values left out, int64 [series]: NaN, infinite or beyond 1e100 in magnitude."""
        return self._missing[: self._series].copy()

    @property
    @abstractmethod
    def drift_detected(self) -> npt.NDArray[np.bool_]:
        """Whether the last value of each series raised an alarm, bool [series]."""

    @property
    @abstractmethod
    def estimation(self) -> npt.NDArray[np.float64]:
        """Mean of what each series' detector takes for the present regime, float64 [series]; 0.0 where it is empty."""

    def update_many(self, matrix: npt.ArrayLike) -> npt.NDArray[np.int64]:
        """Add rows of values.

        Parameters
        ----------
        matrix : array_like of float, [events, series]
            NaN where an event has no value for a series.

        Returns
        -------
        ndarray of int64, [alarms, 2]
            Pairs of event and series, in that order: the position in `matrix` of each value that raised an alarm.

        Raises
        ------
        ValueError
            If the matrix does not have one column for each series.
        """
        values = np.ascontiguousarray(matrix, np.float64)
        if values.ndim != 2 or values.shape[1] != self._series:
            raise ValueError(f"matrix must have the shape [events, {self._series}], not {list(values.shape)}")
        rows = max(1, _SLAB // max(self._series, 1))
        parts = []
        for start in range(0, len(values), rows):
            slab = values[start : start + rows]
            buffer = np.empty((slab.size, 2), np.int64)
            found = buffer[: self._push(slab, buffer)].copy()
            found[:, 0] += start
            parts.append(found[np.lexsort((found[:, 1], found[:, 0]))] if len(found) > 1 else found)
        return np.concatenate(parts) if parts else np.empty((0, 2), np.int64)

    def add(self, count: int = 1) -> int:
        """Add empty series after the last one; return the index of the first that was added."""
        first = self._series
        needed = first + whole("count", count, least=0, most=_MOST_SERIES - first)
        if needed > self._capacity:
            self._capacity = max(needed, 2 * self._capacity)
            self._grow(self._capacity)
            self._missing = np.concatenate((self._missing, np.zeros(self._capacity - len(self._missing), np.int64)))
        self._series = needed
        return first

    def evict(self, series: int | Iterable[int]) -> None:
        """Remove one or several series; those after them move down and are otherwise unchanged, as in a list.

        Raises
        ------
        IndexError
            If there is no such series; then nothing is removed.
        """
        gone = {series} if isinstance(series, int | np.integer) else set(series)
        for index in gone:
            if not 0 <= index < self._series:
                raise IndexError(f"there is no series {index}: the bank has {self._series}")
        keep = np.array([i for i in range(self._series) if i not in gone], np.int64)
        self._series = len(keep)
        self._capacity = max(self._series, 1)
        self._missing = np.concatenate((self._missing[keep], np.zeros(self._capacity - self._series, np.int64)))
        self._take(keep)
        if not self._series:
            self._grow(1)

    def to_bytes(self) -> bytes:
        """Parameters and state of all series; equal for equal histories."""
        head = self._PARAMETERS.pack(*self._parameters()) + _HEAD.pack(self._series)
        counts = self._missing[: self._series].astype("<i8").tobytes()
        return _envelope.wrap(self._KIND, self._LAYOUT, head + counts + self._pack().tobytes())

    @classmethod
    def from_bytes(cls, data: bytes) -> Self:
        """Make the bank again from `to_bytes`.

        Raises
        ------
        ValueError
            If the bytes are damaged, of another kind or of an unknown layout.
        """
        body = _envelope.unwrap(data, cls._KIND, cls._LAYOUT)
        start = cls._PARAMETERS.size + _HEAD.size
        if len(body) < start:
            raise _envelope.damaged(cls._KIND, "it ends within the parameters")
        (series,) = _HEAD.unpack_from(body, cls._PARAMETERS.size)
        if len(body) < start + 8 * series:
            raise _envelope.damaged(cls._KIND, f"it is too short for {series} series")
        try:
            bank = cls._from_parameters(series, cls._PARAMETERS.unpack_from(body))
        except ValueError as error:
            raise _envelope.damaged(cls._KIND, str(error)) from error
        counts = np.frombuffer(body, "<i8", series, start)
        if series and counts.min() < 0:
            raise _envelope.damaged(cls._KIND, "a count of missing values is negative")
        bank._missing[:series] = counts  # noqa: SLF001 - its own class
        state = np.frombuffer(body, np.uint8, offset=start + 8 * series)
        if bank._unpack(state) != len(state):  # noqa: SLF001 - its own class
            raise _envelope.damaged(cls._KIND, "the state of a series makes no sense")
        return bank

    @abstractmethod
    def _push(self, matrix: npt.NDArray[np.float64], found: npt.NDArray[np.int64]) -> int:
        """Feed a contiguous matrix, write the alarms in any order into `found`, return their number."""

    @abstractmethod
    def _grow(self, capacity: int) -> None:
        """Make room."""

    @abstractmethod
    def _take(self, keep: npt.NDArray[np.int64]) -> None:
        """Keep the named series only."""

    @abstractmethod
    def _parameters(self) -> tuple[object, ...]:
        """What `_PARAMETERS` packs."""

    @classmethod
    @abstractmethod
    def _from_parameters(cls, series: int, parameters: tuple[Any, ...]) -> Self:
        """Make an empty bank from what `_PARAMETERS` unpacked."""

    @abstractmethod
    def _pack(self) -> npt.NDArray[np.uint8]:
        """Pack the state of all series."""

    @abstractmethod
    def _unpack(self, state: npt.NDArray[np.uint8]) -> int:
        """Read the state of all series; return the position after it, or -1."""
