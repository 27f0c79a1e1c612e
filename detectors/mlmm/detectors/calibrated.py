"""The calibrated detector: the false alarms are what the user states."""

from typing import Self

import numpy as np
import numpy.typing as npt

from . import _envelope
from .calibrated_bank import CalibratedBank

__all__ = ["Calibrated"]


class Calibrated:
    """Change of the level, at a stated mean time between false alarms.

    No threshold, level or spread has to be known: each value is compared with those before it, in a way whose law
    without a change is known, and the threshold follows from `mean_time_between_false_alarms`. Holds for independent
    and for autocorrelated values, for heavy tails, and with `period` for values that have a season. There is no
    forgetting: a slow drift becomes part of what values are compared with. After an alarm it begins anew, with a new
    baseline.

    Parameters
    ----------
    mean_time_between_false_alarms : float
        Mean number of values between two false alarms, 1e2 to 1e12. For a duration see `samples_in`.
    distribution : {"unknown", "normal", "bernoulli"}
        "unknown" looks at ranks among the earlier values: for any distribution, and no outlier matters much. "normal"
        looks at deviations in standard deviations, which is little better even for normal values, but needs less
        memory and no first values. "bernoulli" is for zeros and ones: a value of at least 0.5 counts as a one.
    min_effect : float
        The smallest change that matters, in standard deviations (of the normal scores of the values), 0.01 to 2. It is
        tuned to changes of this size and of its doubles. One of less than half of it gathers no evidence, however long
        it lasts; false alarms are more frequent while it does.
    mode : {"both", "up", "down"}
        Which changes raise an alarm.
    baseline : int
        No alarm before this many values, at least 2; where the distribution is "unknown" at least 128 are taken.
    period : int
        Length of a season in values, those that are missing included; 0 for none. The reference is then the mean of
        each of at most 168 slots, and the first two values of a slot are not judged.
    clip : float
        Standard deviations, 1 to 8, beyond which a value of the "normal" distribution counts as so far away.

    Raises
    ------
    ValueError
        For a parameter out of its range.

    Examples
    --------
    >>> import numpy as np
    >>> rng = np.random.default_rng(42)
    >>> detector = Calibrated(mean_time_between_false_alarms=1e5)
    >>> detector.update_many(np.concatenate([rng.normal(0, 1, 2000), rng.normal(1, 1, 16)]))
    array([2015])
    >>> detector.direction, detector.since
    (1, 19)

    References
    ----------
    Roberts, "A comparison of some control chart procedures", Technometrics 8, 1966. Hawkins, "Self-starting CUSUM
    charts for location and scale", The Statistician 36, 1987. Pollak, "Average run lengths of an optimal method of
    detecting a change in distribution", Annals of Statistics 15, 1987.
    """

    _KIND = "calibrated"
    _LAYOUT = 1

    def __init__(  # noqa: PLR0917 - as in `ADWIN`, all may be given by position
        self,
        mean_time_between_false_alarms: float = 100_000.0,
        distribution: str = "unknown",
        min_effect: float = 0.3,
        mode: str = "both",
        baseline: int = 128,
        period: int = 0,
        clip: float = 4.0,
    ) -> None:
        self._adopt(
            CalibratedBank(
                1,
                mean_time_between_false_alarms=mean_time_between_false_alarms,
                distribution=distribution,
                min_effect=min_effect,
                mode=mode,
                baseline=baseline,
                period=period,
                clip=clip,
            )
        )

    def _adopt(self, bank: CalibratedBank) -> None:
        self._bank = bank
        self.mean_time_between_false_alarms = bank.mean_time_between_false_alarms
        self.distribution = bank.distribution
        self.min_effect = bank.min_effect
        self.mode = bank.mode
        self.baseline = bank.baseline
        self.period = bank.period
        self.clip = bank.clip
        self._value = np.empty((1, 1))
        self._found = np.empty((1, 2), np.int64)

    @property
    def drift_detected(self) -> bool:
        """Whether the last value raised an alarm."""
        return bool(self._bank.arrays.direction[0])

    @property
    def warning_detected(self) -> bool:
        """False: there is no warning zone."""
        return False

    @property
    def direction(self) -> int:
        """After an alarm 1 for an increase or -1 for a decrease, else 0."""
        return int(self._bank.direction[0])

    @property
    def since(self) -> int:
        """After an alarm how many values ago the level changed, by the evidence; else 0."""
        return int(self._bank.since[0])

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
        """Values left out: NaN, infinite or beyond 1e100 in magnitude."""
        return int(self._bank.missing[0])

    def update(self, value: float) -> bool:
        """Add one value; return whether it raised an alarm (river's returns nothing)."""
        self._value[0, 0] = value
        # What `update_many` does, without making new arrays.
        return bool(self._bank._push(self._value, self._found))  # noqa: SLF001 - two faces of one detector

    def update_many(self, values: npt.ArrayLike, *, phase: npt.ArrayLike | None = None) -> npt.NDArray[np.int64]:
        """Add a 1-D array of values; return the positions in it at which an alarm was raised, ascending.

        Parameters
        ----------
        values : array_like of float, [values]
        phase : array_like of int, [values], optional
            Place of each value in the period, from 0 up to and without `period`: the hour of the week, say. Without it
            values are counted.

        Raises
        ------
        ValueError
            If `values` is not one-dimensional, or `phase` is wrong or without a `period`.
        """
        column = np.asarray(values, np.float64)
        if column.ndim != 1:
            raise ValueError(f"values must be one-dimensional, not of the shape {list(column.shape)}")
        return self._bank.update_many(column[:, None], phase=phase)[:, 0].copy()

    def to_bytes(self) -> bytes:
        """Parameters and state; equal for equal histories."""
        return _envelope.wrap(self._KIND, self._LAYOUT, self._bank.to_bytes())

    @classmethod
    def from_bytes(cls, data: bytes) -> Self:
        """Make the detector again from `to_bytes`; it goes on exactly where it was.

        Raises
        ------
        ValueError
            If the bytes are damaged, of another kind or of an unknown layout.
        """
        bank = CalibratedBank.from_bytes(bytes(_envelope.unwrap(data, cls._KIND, cls._LAYOUT)))
        if bank.series != 1:
            raise _envelope.damaged(cls._KIND, f"it holds {bank.series} series")
        detector = cls.__new__(cls)
        detector._adopt(bank)  # noqa: SLF001 - its own class
        return detector
