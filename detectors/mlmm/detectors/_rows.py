"""Detectors whose state is one row of float64: the kernels that run any of them, their bank, and one alone.

A kind is a number that the compiled code branches on once a matrix; its step lies in ``_chart_steps`` or
``_error_steps``, its class, with the explanation, in a file of its own.
"""

import struct
from abc import abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar, NamedTuple, Self

import numpy as np
import numpy.typing as npt

from . import _envelope
from ._bank import Bank
from ._chart_steps import cusum_step, ewma_step, shewhart_step
from ._error_steps import ddm_step, eddm_step, fhddm_step, hddm_a_step, hddm_w_step, stepd_step
from ._parameters import number, one_of, whole
from ._row import DOWN, DRIFT, FLAGS, MEAN, UP, WARNING, N
from .compiled import kernel
from .values import usable

__all__ = [
    "CUSUM", "DDM", "EDDM", "EWMA", "FHDDM", "HDDM_A", "HDDM_W", "SHEWHART", "STEPD",
    "Choice", "Flag", "Number", "RowBank", "RowDetector", "Whole",
]  # fmt: skip

CUSUM, EWMA, SHEWHART, DDM, EDDM, HDDM_A, HDDM_W, FHDDM, STEPD = range(9)
FIRST_OF_ERRORS = DDM
"""Kinds from here on judge errors: a value outside 0..1 is missing to them."""

_Row = npt.NDArray[np.float64]
_MOST_VALUES = 2.0**53


@kernel(inline=True)
def _step(kind: int, row: _Row, x: float, p: _Row) -> int:
    """Add a value to a row; return its flags."""
    flags = int(row[FLAGS])
    if flags & DRIFT:
        row[:] = 0.0
        flags = 0
    n = row[N] + 1.0
    row[N] = n
    row[MEAN] += (1.0 / n) * (x - row[MEAN])
    if kind == CUSUM:
        return cusum_step(row, x, p)
    if kind == EWMA:
        return ewma_step(row, x, p)
    if kind == SHEWHART:
        return shewhart_step(row, x, p)
    if kind == DDM:
        return ddm_step(row, x, p)
    if kind == EDDM:
        return eddm_step(row, x, p, flags)
    if kind == HDDM_A:
        return hddm_a_step(row, x, p)
    if kind == HDDM_W:
        return hddm_w_step(row, x, p)
    return fhddm_step(row, x, p) if kind == FHDDM else stepd_step(row, x, p)


@kernel
def _push_matrix(  # noqa: PLR0917 - kernels are called by position
    kind: int, rows: _Row, matrix: _Row, missing: npt.NDArray[np.int64], found: npt.NDArray[np.int64], p: _Row
) -> int:
    count = 0
    for i in range(matrix.shape[1]):
        row = rows[i]
        for k in range(len(matrix)):
            x = matrix[k, i]
            if not usable(x) or (kind >= FIRST_OF_ERRORS and not 0.0 <= x <= 1.0):
                missing[i] += 1
                if int(row[FLAGS]) & DRIFT:
                    row[:] = 0.0
                continue
            flags = _step(kind, row, x, p)
            row[FLAGS] = flags
            if flags & DRIFT:
                found[count, 0] = k
                found[count, 1] = i
                count += 1
    return count


class Number(NamedTuple):
    """A real parameter; the bounds are those of `number`."""

    bounds: Mapping[str, float]

    def check(self, name: str, value: Any) -> float:
        """Check a value."""
        return number(name, value, **self.bounds)

    def code(self, value: Any) -> float:
        """Make a float of it."""
        return float(value)

    def value(self, code: float) -> Any:
        """Make it of a float again."""
        return code


class Whole(NamedTuple):
    """An integer parameter."""

    least: int
    most: int = 2**31 - 1

    def check(self, name: str, value: Any) -> int:
        """Check a value."""
        return whole(name, value, least=self.least, most=self.most)

    def code(self, value: Any) -> float:
        """Make a float of it."""
        return float(value)

    def value(self, code: float) -> Any:
        """Make it of a float again; what is none is refused by `check`."""
        return int(code) if code.is_integer() else code


class Choice(NamedTuple):
    """One of several words, coded by its place + 1."""

    words: tuple[str, ...]

    def check(self, name: str, value: Any) -> str:
        """Check a value."""
        return one_of(name, value, self.words)

    def code(self, value: Any) -> float:
        """Make a float of it."""
        return float(self.words.index(value) + 1)

    def value(self, code: float) -> Any:
        """Make it of a float again; what is none is refused by `check`."""
        return self.words[int(code) - 1] if code in range(1, len(self.words) + 1) else f"code {code}"


class Flag(NamedTuple):
    """True or False."""

    def check(self, name: str, value: Any) -> bool:
        """Check a value."""
        if isinstance(value, bool | np.bool_):
            return bool(value)
        raise ValueError(f"{name} must be True or False, not {value!r}")

    def code(self, value: Any) -> float:
        """Make a float of it."""
        return float(value)

    def value(self, code: float) -> Any:
        """Make it of a float again; what is none is refused by `check`."""
        return bool(code) if code in {0.0, 1.0} else code


class RowBank(Bank):
    """Detectors of one kind and equal parameters for many series, a row of float64 each.

    A subclass names its ``KIND``, its parameters in ``FIELDS`` (in the order of its constructor) and says what its step
    wants of them in `_wanted`.
    """

    KIND: ClassVar[int]
    FIELDS: ClassVar[Mapping[str, Number | Whole | Choice | Flag]]

    def __init__(self, series: int, **parameters: Any) -> None:
        super().__init__(series)
        for name, field in self.FIELDS.items():
            setattr(self, name, field.check(name, parameters[name]))
        step, width = self._wanted()
        self._step = np.array(step, np.float64)
        self._width = width
        self.rows = np.zeros((self._capacity, width))

    def __init_subclass__(cls) -> None:
        cls._PARAMETERS = struct.Struct(f"<{len(cls.FIELDS)}d")

    @abstractmethod
    def _wanted(self) -> tuple[list[float], int]:
        """Parameters of the step, and columns of a row."""

    @property
    def drift_detected(self) -> npt.NDArray[np.bool_]:
        """Whether the last value of each series raised an alarm, bool [series]."""
        return self._flagged(DRIFT)

    @property
    def warning_detected(self) -> npt.NDArray[np.bool_]:
        """Whether the last value of each series raised a warning, bool [series]."""
        return self._flagged(WARNING)

    @property
    def direction(self) -> npt.NDArray[np.int64]:
        """After an alarm 1 for a rise or -1 for a fall, else 0; int64 [series]."""
        return np.where(self._flagged(UP), 1, np.where(self._flagged(DOWN), -1, 0))

    @property
    def width(self) -> npt.NDArray[np.int64]:
        """Values since the last alarm, int64 [series]."""
        return self.rows[: self._series, N].astype(np.int64)

    @property
    def estimation(self) -> npt.NDArray[np.float64]:
        """Mean since the last alarm, float64 [series]; 0.0 before the first value."""
        return self.rows[: self._series, MEAN].copy()

    def _flagged(self, flag: int) -> npt.NDArray[np.bool_]:
        raised: npt.NDArray[np.bool_] = (self.rows[: self._series, FLAGS].astype(np.int64) & flag) != 0
        return raised

    def _push(self, matrix: npt.NDArray[np.float64], found: npt.NDArray[np.int64]) -> int:
        return _push_matrix(self.KIND, self.rows, matrix, self._missing, found, self._step)

    def _grow(self, capacity: int) -> None:
        rows = np.zeros((capacity, self._width))
        rows[: len(self.rows)] = self.rows
        self.rows = rows

    def _take(self, keep: npt.NDArray[np.int64]) -> None:
        self.rows = self.rows[keep]

    def _parameters(self) -> tuple[object, ...]:
        return tuple(field.code(getattr(self, name)) for name, field in self.FIELDS.items())

    @classmethod
    def _from_parameters(cls, series: int, parameters: tuple[Any, ...]) -> Self:
        given = zip(cls.FIELDS.items(), parameters, strict=True)
        return cls(series, **{name: field.value(code) for (name, field), code in given})

    def _pack(self) -> npt.NDArray[np.uint8]:
        return self.rows[: self._series].astype("<f8").reshape(-1).view(np.uint8)

    def _unpack(self, state: npt.NDArray[np.uint8]) -> int:
        size = 8 * self._width * self._series
        if len(state) != size:
            return -1
        rows = state.view("<f8").reshape(self._series, self._width)
        flags, n = rows[:, FLAGS], rows[:, N]
        sound = np.isfinite(rows).all() and np.isin(flags, range(16)).all()
        if not sound or not ((n >= 0) & (n < _MOST_VALUES) & (n == np.floor(n))).all():
            return -1
        self.rows[: self._series] = rows
        return size


class RowDetector:
    """One detector of a kind: a bank of one series."""

    _BANK: ClassVar[type[RowBank]]
    _LAYOUT: ClassVar[int] = 1
    errors_only: ClassVar[bool]
    """Whether it takes values of 0..1 alone, and others are missing to it."""

    def __init_subclass__(cls) -> None:
        cls.errors_only = cls._BANK.KIND >= FIRST_OF_ERRORS

    def __init__(self, **parameters: Any) -> None:
        self._adopt(self._BANK(1, **parameters))

    def _adopt(self, bank: RowBank) -> None:
        self._bank = bank
        self._one = np.empty((1, 1))
        self._found = np.empty((1, 2), np.int64)
        for name in bank.FIELDS:
            setattr(self, name, getattr(bank, name))

    @property
    def drift_detected(self) -> bool:
        """Whether the last value raised an alarm."""
        return bool(self._bank.drift_detected[0])

    @property
    def warning_detected(self) -> bool:
        """Whether the last value raised a warning."""
        return bool(self._bank.warning_detected[0])

    @property
    def direction(self) -> int:
        """After an alarm 1 for a rise or -1 for a fall, else 0."""
        return int(self._bank.direction[0])

    @property
    def width(self) -> int:
        """Values since the last alarm."""
        return int(self._bank.width[0])

    @property
    def estimation(self) -> float:
        """Mean since the last alarm; 0.0 before the first value."""
        return float(self._bank.estimation[0])

    @property
    def missing(self) -> int:
        """Values left out."""
        return int(self._bank.missing[0])

    def update(self, value: float) -> bool:
        """Add one value; return whether it raised an alarm (river's returns nothing)."""
        self._one[0, 0] = value
        return bool(self._bank._push(self._one, self._found))  # noqa: SLF001 - two halves of one thing

    def update_many(self, values: npt.ArrayLike) -> npt.NDArray[np.int64]:
        """Add a 1-D array of values; return the positions in it at which an alarm was raised, ascending.

        Raises
        ------
        ValueError
            If `values` is not one-dimensional.
        """
        column = np.asarray(values, np.float64)
        if column.ndim != 1:
            raise ValueError(f"values must be one-dimensional, not of the shape {list(column.shape)}")
        return self._bank.update_many(column[:, None])[:, 0].copy()

    def to_bytes(self) -> bytes:
        """Parameters and state; equal for equal histories."""
        return _envelope.wrap(self._kind(), self._LAYOUT, self._bank.to_bytes())

    @classmethod
    def from_bytes(cls, data: bytes) -> Self:
        """Make the detector again from `to_bytes`; it goes on exactly where it was.

        Raises
        ------
        ValueError
            If the bytes are damaged, of another kind or of an unknown layout.
        """
        bank = cls._BANK.from_bytes(bytes(_envelope.unwrap(data, cls._kind(), cls._LAYOUT)))
        if bank.series != 1:
            raise _envelope.damaged(cls._kind(), f"it holds {bank.series} series")
        detector = cls.__new__(cls)
        detector._adopt(bank)  # noqa: SLF001 - its own class
        return detector

    @classmethod
    def _kind(cls) -> str:
        return cls._BANK._KIND.removesuffix("_bank")  # noqa: SLF001 - two halves of one thing
