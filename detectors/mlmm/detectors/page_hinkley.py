"""Page-Hinkley: cumulated deviations from the running mean."""

from typing import Self

import numpy as np
import numpy.typing as npt

from . import _envelope
from .page_hinkley_bank import PageHinkleyBank
from .page_hinkley_kernels import DOWN, UP
from .values import LARGEST

__all__ = ["PageHinkley"]


class PageHinkley:
    """Page-Hinkley test for a change of the mean.

    Sums the deviations from the running mean, less a tolerance, and alarms where the sum has moved away from its
    extremum by more than a threshold. Both are in the unit of the values: feed standardised values, with
    ``alpha=1.0``. Then ``delta=0.5`` and a threshold made for the wanted false-alarm rate find a shift of one standard
    deviation in some 20 values. The default ``alpha`` is river's and alarms falsely on long stationary streams. Where
    nothing is known about the scale, prefer `ADWIN`.

    Equal to ``river.drift.PageHinkley`` 0.26.1 in alarms and sums, to the last bit, for values that are not missing.

    Parameters
    ----------
    min_instances : int
        No alarm before this many values, at least 1.
    delta : float
        Tolerated deviation of each value from the mean, in the unit of the values, at least 0.
    threshold : float
        Alarm when the excess summed since the extremum is above this (lambda), in the unit of the values, above 0.
    alpha : float
        Forgetting of the sums, in (0, 1]; 1.0 forgets nothing.
    mode : {"both", "up", "down"}
        Which changes of the mean raise an alarm.

    Raises
    ------
    ValueError
        For a parameter out of its range.

    Examples
    --------
    >>> import numpy as np
    >>> rng = np.random.default_rng(42)
    >>> detector = PageHinkley(delta=0.5, threshold=20.0, alpha=1.0)
    >>> values = np.concatenate([rng.normal(0, 1, 1000), rng.normal(2, 1, 20)])
    >>> detector.update_many(values)
    array([1011])

    References
    ----------
    Page, "Continuous inspection schemes", Biometrika 41, 1954.
    """

    _KIND = "page_hinkley"
    _LAYOUT = 1

    def __init__(
        self,
        min_instances: int = 30,
        delta: float = 0.005,
        threshold: float = 50.0,
        alpha: float = 1 - 0.0001,
        mode: str = "both",
    ) -> None:
        self._adopt(
            PageHinkleyBank(1, min_instances=min_instances, delta=delta, threshold=threshold, alpha=alpha, mode=mode)
        )

    def _adopt(self, bank: PageHinkleyBank) -> None:
        self._bank = bank
        self.min_instances = bank.min_instances
        self.delta = bank.delta
        self.threshold = bank.threshold
        self.alpha = bank.alpha
        self.mode = bank.mode
        self._upward = self.mode != "down"
        self._downward = self.mode != "up"
        # The row of the arrays as plain floats while values come one by one: a compiled call costs more than the sums.
        self._row: list[float] | None = None

    def _settle(self) -> PageHinkleyBank:
        if self._row is not None:
            self._bank.arrays.values[0] = self._row
            self._row = None
        return self._bank

    @property
    def drift_detected(self) -> bool:
        """Whether the last value raised an alarm."""
        return self._row is None and bool(self._bank.arrays.direction[0])

    @property
    def warning_detected(self) -> bool:
        """False: Page-Hinkley has no warning zone."""
        return False

    @property
    def direction(self) -> int:
        """After an alarm 1 for an increase or -1 for a decrease, else 0."""
        return int(self._settle().direction[0])

    @property
    def since(self) -> int:
        """After an alarm how many values ago the mean changed, by the extremum of the sum; else 0."""
        return int(self._settle().since[0])

    @property
    def width(self) -> int:
        """Values since the last alarm."""
        return int(self._settle().width[0])

    @property
    def estimation(self) -> float:
        """Mean since the last alarm; 0.0 before the first value."""
        return float(self._settle().estimation[0])

    @property
    def missing(self) -> int:
        """Values left out: NaN, infinite or beyond 1e100 in magnitude."""
        return int(self._settle().missing[0])

    def update(self, value: float) -> bool:
        """Add one value; return whether it raised an alarm (river's returns nothing)."""
        x = float(value)
        if not -LARGEST <= x <= LARGEST or (self._row is None and self._bank.arrays.direction[0]):
            return bool(len(self._settle().update_many([[x]])))
        if self._row is None:
            self._row = self._bank.arrays.values[0].tolist()
        # The same operations in the same order as in `page_hinkley_push`.
        n, mean, increase, decrease, lowest, highest, lowest_at, highest_at = self._row
        n += 1.0
        mean += (1.0 / n) * (x - mean)
        deviation = x - mean
        increase = self.alpha * increase + deviation - self.delta
        decrease = self.alpha * decrease + deviation + self.delta
        if increase < lowest:
            lowest, lowest_at = increase, n
        if decrease > highest:
            highest, highest_at = decrease, n
        self._row = [n, mean, increase, decrease, lowest, highest, lowest_at, highest_at]
        if n < self.min_instances:
            return False
        up = self._upward and increase - lowest > self.threshold
        down = self._downward and highest - decrease > self.threshold
        if not (up or down):
            return False
        self._settle().arrays.direction[0] = (UP if up else 0) | (DOWN if down else 0)
        return True

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
        return self._settle().update_many(column[:, None])[:, 0].copy()

    def to_bytes(self) -> bytes:
        """Parameters and state; equal for equal histories."""
        return _envelope.wrap(self._KIND, self._LAYOUT, self._settle().to_bytes())

    @classmethod
    def from_bytes(cls, data: bytes) -> Self:
        """Make the detector again from `to_bytes`; it goes on exactly where it was.

        Raises
        ------
        ValueError
            If the bytes are damaged, of another kind or of an unknown layout.
        """
        bank = PageHinkleyBank.from_bytes(bytes(_envelope.unwrap(data, cls._KIND, cls._LAYOUT)))
        if bank.series != 1:
            raise _envelope.damaged(cls._KIND, f"it holds {bank.series} series")
        detector = cls.__new__(cls)
        detector._adopt(bank)  # noqa: SLF001 - its own class
        return detector
