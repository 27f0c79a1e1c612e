"""FHDDM: a sliding window against its own best."""

import math
from types import MappingProxyType

from . import _rows
from ._row import OWN
from ._rows import Number, RowBank, RowDetector, Whole

__all__ = ["FHDDM", "FHDDMBank"]


class FHDDMBank(RowBank):
    """FHDDM for many series with equal parameters; `FHDDM` explains the method.

    Parameters
    ----------
    series : int
        Number of series; more come with `add`.
    sliding_window_size, confidence_level, short_window_size
        As in `FHDDM`.

    Raises
    ------
    ValueError
        For a parameter out of its range.
    """

    _KIND = "fhddm_bank"
    KIND = _rows.FHDDM
    FIELDS = MappingProxyType(
        {
            "sliding_window_size": Whole(1, 100_000),
            "confidence_level": Number({"above": 0.0, "below": 1.0}),
            "short_window_size": Whole(0, 100_000),
        }
    )

    sliding_window_size: int
    confidence_level: float
    short_window_size: int

    def __init__(
        self,
        series: int = 1,
        *,
        sliding_window_size: int = 100,
        confidence_level: float = 0.000001,
        short_window_size: int = 0,
    ) -> None:
        super().__init__(
            series,
            sliding_window_size=sliding_window_size,
            confidence_level=confidence_level,
            short_window_size=short_window_size,
        )

    def _wanted(self) -> tuple[list[float], int]:
        if self.short_window_size > self.sliding_window_size:
            raise ValueError(f"short_window_size must be at most sliding_window_size, not {self.short_window_size}")
        long, short = self.sliding_window_size, self.short_window_size
        log = math.log(1.0 / self.confidence_level)
        bounds = [math.sqrt(log / (2 * size)) if size else 0.0 for size in (long, short)]
        return [long, bounds[0], short, bounds[1]], OWN + 3 + long


class FHDDM(RowDetector):
    """FHDDM: the mean of a sliding window against the highest that it ever was, by Hoeffding's bound.

    Takes 0 and 1 and alarms where the share of ones falls: feed 1 where a prediction was right. (river's page says
    that 1 is an error; its test looks for a fall all the same, and so does this one.) A value outside 0..1 is missing
    to it. With a second, short window it sees abrupt changes sooner. It begins anew after an alarm.

    Equal to ``river.drift.binary.FHDDM`` 0.26.1 in alarms, for a short window of 0 where river has None.

    Parameters
    ----------
    sliding_window_size : int
        Values in the window; no alarm before it is full.
    confidence_level : float
        Chance of a false alarm that the bound allows in one comparison, in (0, 1).
    short_window_size : int
        Values in a second window, the newest of the first; 0 for none.

    Raises
    ------
    ValueError
        For a parameter out of its range.

    Examples
    --------
    >>> import numpy as np
    >>> rng = np.random.default_rng(42)
    >>> FHDDM().update_many(np.concatenate([rng.binomial(1, 0.8, 500), rng.binomial(1, 0.3, 100)]))
    array([550])

    References
    ----------
    Pesaranghader and Viktor, "Fast Hoeffding drift detection method for evolving data streams", ECML PKDD 2016.
    """

    _BANK = FHDDMBank
    sliding_window_size: int
    confidence_level: float
    short_window_size: int

    def __init__(
        self,
        sliding_window_size: int = 100,
        confidence_level: float = 0.000001,
        short_window_size: int = 0,
    ) -> None:
        super().__init__(
            sliding_window_size=sliding_window_size,
            confidence_level=confidence_level,
            short_window_size=short_window_size,
        )
