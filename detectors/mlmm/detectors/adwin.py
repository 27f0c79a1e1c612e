"""ADWIN: a window that shrinks when the mean within it has changed."""

from typing import Self

import numpy as np
import numpy.typing as npt

from . import _envelope
from .adwin_bank import ADWINBank
from .values import LARGEST

__all__ = ["ADWIN"]

_PENDING = 256


class ADWIN:
    """Adaptive windowing.

    Keeps a window of recent values in exponentially growing buckets and compares the mean of every older part with
    that of the newer part; where they differ by more than chance allows, the older part is dropped and an alarm raised.
    Needs no knowledge of the level or spread of the values. Slow to see small changes: where the spread is known or can
    be learned, `PageHinkley` on standardised values is faster. Autocorrelated values raise false alarms.

    Equal to ``river.drift.ADWIN`` 0.26.1 in alarms, width and estimation, to the last bit, for values that are not
    missing. The window starts empty after an alarm, as river's does.

    Parameters
    ----------
    delta : float
        Significance of one test, in (0, 1). Smaller means fewer false alarms and later true ones.
    clock : int
        The window is tested at every `clock`-th value.
    max_buckets : int
        Buckets of each size before two are merged, 1 to 254. More means finer cuts, more memory and time.
    min_window_length : int
        Parts shorter than this many values are not compared, at least 1.
    grace_period : int
        No test until the window is longer than this many values.

    Raises
    ------
    ValueError
        For a parameter out of its range.

    Examples
    --------
    >>> import numpy as np
    >>> rng = np.random.default_rng(42)
    >>> detector = ADWIN(delta=0.002)
    >>> detector.update_many(np.concatenate([rng.normal(0, 1, 1000), rng.normal(1, 1, 1000)]))
    array([1055])
    >>> again = ADWIN.from_bytes(detector.to_bytes())
    >>> again.update(1.0)
    False

    References
    ----------
    Bifet and Gavaldà, "Learning from time-changing data with adaptive windowing", SDM 2007.
    """

    _KIND = "adwin"
    _LAYOUT = 1

    def __init__(
        self,
        delta: float = 0.002,
        clock: int = 32,
        max_buckets: int = 5,
        min_window_length: int = 5,
        grace_period: int = 10,
    ) -> None:
        self._adopt(
            ADWINBank(
                1,
                delta=delta,
                clock=clock,
                max_buckets=max_buckets,
                min_window_length=min_window_length,
                grace_period=grace_period,
            )
        )

    def _adopt(self, bank: ADWINBank) -> None:
        self._bank = bank
        self.delta = bank.delta
        self.clock = bank.clock
        self.max_buckets = bank.max_buckets
        self.min_window_length = bank.min_window_length
        self.grace_period = bank.grace_period
        self._pending: list[float] = []
        self._values = np.empty((_PENDING, 1))
        self._found = np.empty((_PENDING, 2), np.int64)
        self._room = self._until_flush()

    def _until_flush(self) -> int:
        """How many values may wait: none can raise an alarm before the clock's next tick."""
        return min(self.clock - int(self._bank.arrays.ticks[0]), _PENDING)

    def _flush(self) -> ADWINBank:
        count = len(self._pending)
        if count:
            self._values[:count, 0] = self._pending
            self._pending.clear()
            # What `update_many` does, without making new arrays.
            self._bank._push(self._values[:count], self._found)  # noqa: SLF001 - two faces of one detector
        self._room = self._until_flush()
        return self._bank

    @property
    def drift_detected(self) -> bool:
        """Whether the last value raised an alarm."""
        return not self._pending and bool(self._bank.arrays.drifted[0])

    @property
    def warning_detected(self) -> bool:
        """False: ADWIN has no warning zone."""
        return False

    @property
    def estimation(self) -> float:
        """Mean of the window; 0.0 while it is empty."""
        return float(self._flush().estimation[0])

    @property
    def width(self) -> int:
        """Values in the window; after an alarm an estimate of how many values ago the change was."""
        return int(self._flush().width[0])

    @property
    def total(self) -> float:
        """Sum of the window."""
        return float(self._flush().total[0])

    @property
    def variance(self) -> float:
        """Sum of squared deviations in the window (what river calls variance)."""
        return float(self._flush().variance[0])

    @property
    def missing(self) -> int:
        """Values left out: NaN, infinite or beyond 1e100 in magnitude."""
        return int(self._flush().missing[0])

    def update(self, value: float) -> bool:
        """Add one value; return whether it raised an alarm (river's returns nothing)."""
        number = float(value)
        self._pending.append(number)
        self._room -= 1
        if self._room > 0 and -LARGEST <= number <= LARGEST:
            return False
        return bool(self._flush().arrays.drifted[0])

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
        found = self._flush().update_many(column[:, None])[:, 0]
        self._room = self._until_flush()
        return found.copy()

    def to_bytes(self) -> bytes:
        """Parameters and state; equal for equal histories."""
        return _envelope.wrap(self._KIND, self._LAYOUT, self._flush().to_bytes())

    @classmethod
    def from_bytes(cls, data: bytes) -> Self:
        """Make the detector again from `to_bytes`; it goes on exactly where it was.

        Raises
        ------
        ValueError
            If the bytes are damaged, of another kind or of an unknown layout.
        """
        bank = ADWINBank.from_bytes(bytes(_envelope.unwrap(data, cls._KIND, cls._LAYOUT)))
        if bank.series != 1:
            raise _envelope.damaged(cls._KIND, f"it holds {bank.series} series")
        detector = cls.__new__(cls)
        detector._adopt(bank)  # noqa: SLF001 - its own class
        return detector
